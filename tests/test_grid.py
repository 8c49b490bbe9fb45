"""Grids: what a GRID.yaml may say, which runs it leads to, what is wrong with it, and what its runs share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from orca.errors import InputError
from orca.keys import run_name
from orca.plan import plan
from orca.run import adapt
from orca.store import Store
from orca.sweeps.cells import Cell, cells
from orca.sweeps.grid import Grid, Span, check_grid, load_grid
from orca.sweeps.sharing import share
from tests.test_run import settings
from tests.tiny import save_tiny_body

OPTUNA = {"search": "optuna", "samples": 2, "settings": {"finetune.lr": [1e-4, 1e-3]}}


def places(**grid: Any) -> list[dict[str, Any]]:
    return [cell.place for cell in cells(check_grid({"tasks": ["digits"], **grid}))]


def faults(**grid: Any) -> str:
    with pytest.raises(InputError) as caught:
        cells(check_grid({"tasks": ["digits"], **grid}))
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "seeds"),
    [("0..2", [0, 1, 2]), ({"from": 1, "to": 2}, [1, 2]), (3, [3]), ([5, "0..1"], [5, 0, 1]), ([4], [4])],
)
def test_seeds_are_listed_or_a_range(given: Any, seeds: list[int]) -> None:
    assert Grid(tasks=["digits"], seeds=given).seeds == seeds


def test_a_grid_is_the_product_of_its_axes() -> None:
    made = places(tasks=["digits", "fsdd"], aligns=["otdd", "none"], methods=["full", "head"], seeds="0..2")
    assert len(made) == len({tuple(place.items()) for place in made}) == 2 * 2 * 2 * 3
    assert made[0] == {"task": "digits", "body": "minilm", "align": "otdd", "method": "full", "seed": 0}


def test_an_axis_that_is_left_out_is_as_configured(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: digits\nseed: 7\nalign: {objective: mmd}\nfinetune: {epochs: 3}\n")
    (made,) = cells(check_grid({"tasks": [str(tmp_path / "mine.yaml")]}))
    assert made.place == {"task": "mine", "body": "minilm", "align": "mmd", "method": "full", "seed": 7}
    assert made.config.finetune.epochs == 3


def test_settings_are_more_axes_and_text_that_is_a_number_is_one() -> None:
    made = cells(check_grid(yaml.safe_load("{tasks: digits, settings: {finetune.lr: [1e-4, 0.01], embed.tokens: 9}}")))
    assert [(c.config.finetune.lr, c.config.embed.tokens) for c in made] == [(1e-4, 9), (0.01, 9)]


def test_null_is_a_value_of_a_setting(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("task: digits\nfinetune: {epoch_samples: 100}\n")
    made = cells(check_grid({"tasks": [str(tmp_path / "a.yaml")], "settings": {"finetune.epoch_samples": [None, 50]}}))
    assert [cell.config.finetune.epoch_samples for cell in made] == [None, 50]
    assert [cell.place["finetune.epoch_samples"] for cell in made] == [None, 50]


def test_variants_are_one_more_axis_that_sets_several_keys() -> None:
    text = "{tasks: [digits, fsdd], seeds: 0..1, variants: {base: , plain: {align.objective: none, finetune.lr: 1e-3}}}"
    made = cells(check_grid(yaml.safe_load(text)))
    assert [(cell.place["variant"], cell.place["align"], cell.config.align.objective) for cell in made[:4]] == [
        ("base", "otdd", "otdd"), ("base", "otdd", "otdd"), ("plain", "none", "none"), ("plain", "none", "none"),
    ]  # fmt: skip
    assert [cell.config.finetune.lr == 1e-3 for cell in made] == 2 * [False, False, True, True]
    kept = places(tasks=["digits", "fsdd"], variants={"a": {}, "b": {}}, exclude=[{"task": "fsdd", "variant": "b"}])
    assert [(place["task"], place["variant"]) for place in kept] == [("digits", "a"), ("digits", "b"), ("fsdd", "a")]


STUDIES = sorted((Path(__file__).parents[1] / "studies").glob("*.yaml"))
assert STUDIES


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_grids_of_the_studies_hold_as_many_runs_as_they_say(path: Path) -> None:
    said = int(re.findall(r"(\d+) runs", path.read_text())[0])
    made = cells(load_grid(path))
    assert len(made) == said
    fresh = path.stem == "confirmation"  # of what was found with the others
    assert {cell.place["seed"] for cell in made} == ({3, 4, 5} if fresh else {0, 1, 2})
    whole = path.stem == "winners"
    assert all((cell.config.train_size is None) == whole for cell in made)


def test_excluded_are_those_that_agree_in_all() -> None:
    made = places(tasks=["digits", "fsdd"], seeds=[0, 1], exclude=[{"task": "fsdd", "seed": 1}])
    assert [(place["task"], place["seed"]) for place in made] == [("digits", 0), ("digits", 1), ("fsdd", 0)]


def test_a_method_that_never_aligns_is_told_as_such() -> None:
    assert places(methods=["scratch"], aligns=["otdd"])[0]["align"] == "none"


def test_a_random_search_draws_the_same_again_and_keeps_its_draws_when_it_grows() -> None:
    varied = {"finetune.lr": {"low": "1e-5", "high": 1e-2, "log": True}, "finetune.epochs": {"low": 2, "high": 4}}

    def drawn(samples: int, seed: int = 0) -> list[tuple[Any, Any]]:
        made = places(search="random", samples=samples, seed=seed, settings=varied)
        return [(place["finetune.lr"], place["finetune.epochs"]) for place in made]

    few, many = drawn(3), drawn(200)
    assert many[:3] == few
    assert drawn(3, seed=1) != few
    assert all(1e-5 <= lr <= 1e-2 for lr, _ in many)
    assert 60 < sum(lr < 10**-3.5 for lr, _ in many) < 140  # even over orders of magnitude
    assert {epochs for _, epochs in many} == {2, 3, 4}


def test_a_search_by_optuna_is_checked_at_the_ends_of_its_settings() -> None:
    varied = {"finetune.lr": [1e-4, 1e-3, 1e-2], "finetune.epochs": {"low": 2, "high": 4}}
    made = places(search="optuna", samples=9, settings=varied)
    drawn = [(place["finetune.lr"], place["finetune.epochs"]) for place in made]
    assert drawn == [(1e-4, 2), (1e-3, 2), (1e-2, 2), (1e-4, 4), (1e-2, 4)]


def test_a_span_reaches_both_ends() -> None:
    whole = Span(low=1, high=3)
    assert [whole.draw(where) for where in (0.0, 0.34, 0.67, 1.0)] == [1, 2, 3, 3]
    assert [Span(low=0.01, high=1.0, log=True).draw(where) for where in (0.0, 0.5, 1.0)] == [0.01, 0.1, 1.0]


def test_faults_of_the_file_are_named_all_at_once_with_their_paths() -> None:
    said = faults(
        align=["otdd"], seeds="4..1", settings={"a.b": {"low": 3, "high": 1}, "c": {"low": 0, "high": 1, "lg": 1}}
    )
    assert said.startswith("the grid has 4 faults:")
    assert "align: there is no such key; did you mean 'aligns'?" in said
    assert "seeds: a range goes from the smaller number up to and with the larger; got '4..1'" in said
    assert "settings.a.b: low must be less than high" in said
    assert "settings.c.lg: there is no such key" in said


def test_faults_of_runs_have_the_paths_of_the_grid_and_come_once() -> None:
    said = faults(
        tasks=["digits", "fsd"], methods=["ful", "head"], seeds=[0, 1], settings={"finetune.epochs": [1, -1], "f": 1}
    )
    assert said.splitlines()[0] == "the grid has 4 faults:"
    assert "tasks: there is no configuration 'fsd'" in said
    assert "  - methods: there is no 'ful'; did you mean 'full'?" in said
    assert "  - settings.finetune.epochs: input should be greater than or equal to 1; got -1" in said
    assert "  - settings.f: there is no such key" in said


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"exclude": [{"sed": 1}]}, "exclude.0.sed: there is no such axis; there are: task, body"),
        ({"methods": ["full"], "exclude": [{"method": "head"}]}, "exclude.0.method: the grid has no 'head'; it has"),
        ({"exclude": [{"method": "head"}]}, "exclude.0.method: the grid has no 'head'; it has no methods"),
        ({"methods": []}, "methods: expected at least one; leave the key out for what is configured"),
        ({"seeds": []}, "seeds: expected at least one"),
        ({"train_size": 100}, "train_size: this is a key of runs; write it as settings: {train_size: [...]}"),
        (
            {"methods": ["lora", "head"], "settings": {"finetune.options.rank": [4]}},
            "rank: there is no such option; it has none; what one method alone takes goes into the `variants` of a gr",
        ),
        ({"exclude": [{"task": "digits"}]}, "the grid has no run: exclude leaves out every one"),
        (
            {"settings": {"embed.tokens": {"low": 1, "high": 3}}},
            "low and high need `search: random` or `optuna`",
        ),
        ({"search": "random"}, "samples: a random search needs it"),
        ({"search": "optuna", "samples": 2}, "settings: a search by Optuna needs it"),
        ({"seed": 3}, "the seeds of the runs are `seeds`"),
        ({"prune": False}, "prune: this belongs to `search: optuna`"),
        ({**OPTUNA, "settings": {"metric": ["error"]}}, "settings.metric: trials that are measured differently"),
        ({**OPTUNA, "exclude": [{"finetune.lr": 1e-4}]}, "exclude.0.finetune.lr: Optuna draws it; leave values out of"),
        ({**OPTUNA, "settings": {"finetune.epochs": {"low": -1, "high": 5}}}, "settings.finetune.epochs: input should"),
        ({"settings": {"finetune.method": ["full"]}}, "settings.finetune.method: this is the axis methods"),
        ({"bodies": ["a/best", "b/best"]}, "bodies: 'best' comes twice"),
        ({"tasks": ["digits", "digits"]}, "tasks: 'digits' comes twice"),
        ({"variants": {"a": {"finetune.lr": -1}}}, "variants.a.finetune.lr: input should be greater than 0; got -1"),
        ({"variants": {"a": {"finetune.rate": 1}}}, "variants.a.finetune.rate: there is no such key"),
        ({"variants": {"a": {"seed": 1}}, "seeds": [0]}, "variants.a.seed: seeds sets it already"),
        ({"variants": {"a": {"task": "fsdd"}}}, "variants.a.task: tasks sets it already"),
        ({"variants": {"a": {"align": {}}}, "aligns": ["mmd"]}, "variants.a.align: aligns sets it already"),
        ({"variants": {"a": {"body": "x"}}, "bodies": ["minilm"]}, "variants.a.body: bodies sets it already"),
        ({"settings": {"finetune.lr": [1]}, "variants": {"a": {"finetune": {}}}}, "variants.a.finetune: settings sets"),
        ({"variants": {"a": {"finetune": {}, "finetune.lr": 1}}}, "variants.a.finetune.lr: variants.a sets it already"),
        ({"settings": {"variant": ["a", "b"]}}, "settings.variant: this is the axis variants"),
        ({"variants": {1: {}}}, "names of variants are text; write '1' in quotes"),
        ({"variants": {"a": {"body.name": "nope"}}}, "variants.a.body: there is no 'nope'"),
        ({**OPTUNA, "variants": {"a": {}}}, "variants: Optuna tries settings alone"),
        ({"variants": {"a": 3}}, "variants.a"),
        ({"tasks": [3]}, "tasks: must be names of configurations"),
        ({"seeds": "0..99", "settings": {"embed.tokens": list(range(2000))}}, "200,000 runs, more than 100,000"),
    ],
)
def test_what_does_not_go_together_is_refused(grid: dict[str, Any], said: str) -> None:
    assert said in faults(**grid)


def test_paths_of_tasks_and_bodies_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "body").mkdir()
    (tmp_path / "mine.yaml").write_text("task: digits\n")
    own = "{name: own, data: x.npz, input: sequence, target: classes}"
    (tmp_path / "grid.yaml").write_text(f"tasks: [mine.yaml, {own}, fsdd]\nbodies: [body, minilm]\n")
    monkeypatch.chdir("/")
    made = load_grid(tmp_path / "grid.yaml")
    assert made.tasks[0] == str(tmp_path / "mine.yaml")
    assert made.tasks[1]["data"] == str(tmp_path / "x.npz")  # type: ignore[index]
    assert made.tasks[2] == "fsdd"
    assert made.bodies == [str(tmp_path / "body"), "minilm"]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"there is no grid .*nowhere\.yaml"):
        load_grid(Path("nowhere.yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings(folder, save_tiny_body(folder / "body"))))
    (folder / "lost.yaml").write_text(yaml.safe_dump({**settings(folder, folder / "body"), "task": "signdigits"}))
    return folder


def tiny_cells(folder: Path, *, tasks: tuple[str, ...] = ("tiny",), **axes: Any) -> list[Cell]:
    return cells(check_grid({"tasks": [str(folder / f"{task}.yaml") for task in tasks], **axes}))


@pytest.mark.parametrize("kept", ["unaligned", "aligned"])
def test_shared_stages_are_counted_once_and_those_in_the_store_are_found(
    kept: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter(range(99, 0, -1))
    monkeypatch.setattr("orca.align.probe", lambda *_, **__: np.full(4, float(next(falling))))
    monkeypatch.setattr("orca.align.surely_less", lambda *_: kept == "unaligned")
    made = tiny_cells(folder, aligns=["otdd", "none"], methods=["full", "head", "scratch"])
    store = Store(tmp_path / "store")
    sharing = share(made, store)
    # embed: pretrained or not; align: otdd, none, and none of scratch; then one a run; source and baselines beside.
    count = {stage: sum(job.stage == stage for job in sharing.jobs.values()) for stage in ("embed", "align", "source")}
    assert count == {"embed": 2, "align": 3, "source": 1}
    assert len(sharing.jobs) == 2 + 3 + 5 + 5 + 1 + 1
    assert sharing.summary() == (
        "5 runs, 27 stages: 17 after sharing, 0 in the store already, 17 to do, 1 left out as the same run as another"
    )
    adapt(made[0].config, store=store.root)
    after = share(made, store)
    assert after.members[0].finished
    assert {after.jobs[name].stage for name in after.there} == {*count, "finetune", "evaluate", "baselines"}
    there = 6 if kept == "aligned" else 8  # of the unaligned run training and evaluation too
    assert f"{there} in the store already, {17 - there} to do" in after.summary()
    assert len(after.graph()) == 17 - there + 4  # and the reports of four runs


def test_each_job_comes_after_what_it_needs_and_a_report_after_its_stages(folder: Path, tmp_path: Path) -> None:
    sharing = share(tiny_cells(folder), Store(tmp_path))
    (member,) = sharing.members
    stages = {name: name.partition("-")[0] for name in sharing.jobs}
    needs = {stages.get(name, "report"): {stages[need] for need in before} for name, before in sharing.graph().items()}
    assert needs["align"] == {"embed", "source"}
    assert needs["finetune"] == {"embed", "align"}
    assert needs["evaluate"] == {"align", "finetune", "baselines"}
    assert needs["report"] == set(stages.values())
    assert member.run == run_name(plan(member.cell.config))


def test_a_run_that_cannot_start_is_told_and_the_others_stay(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    sharing = share(tiny_cells(folder, tasks=("tiny", "lost")), Store(tmp_path / "store"))
    assert [member.fault is None for member in sharing.members] == [True, False]
    assert "signdigits" in str(sharing.members[1].fault)
    assert sharing.summary().endswith("1 run cannot start")
    with pytest.raises(InputError, match="no run can start:\n  - "):
        share(tiny_cells(folder, tasks=("lost",)), Store(tmp_path / "store"))
