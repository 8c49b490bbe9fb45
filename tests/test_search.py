"""Searches by Optuna: what is drawn, stopped, kept and taken up again, and for which trials the test set is opened."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.sweeps import jobs
from flows.sweeps.text import means_text, rows_text
from orca.config import check_config
from orca.errors import InputError
from orca.store import Store
from orca.sweeps.grid import Span, check_grid, load_grid
from orca.sweeps.study import plan_search
from orca.sweeps.trials import COMPLETE, FIRST_EPOCH, Trials, check_optuna, step_of
from tests.sweeping import in_children
from tests.test_run import settings
from tests.test_sweep import command, document, harness, kill_when, place, stages, write_grid  # noqa: F401 - fixtures

if importlib.util.find_spec("optuna") is None:
    pytest.skip("optuna is not installed: pip install 'orca[optuna]'", allow_module_level=True)

DRAWN: dict[str, Any] = {"finetune.lr": Span(low=1e-5, high=1e-1, log=True), "finetune.epochs": Span(low=2, high=9)}


def study(file: Path, *, higher_is_better: bool = False, seed: int = 0) -> Trials:
    return Trials(file / "study.jsonl", higher_is_better=higher_is_better, settings=DRAWN, seed=seed)


def complete(trials: Trials, value: float, *, epochs: int = 3) -> int:
    number = trials.ask().number
    for epoch in range(1, epochs + 1):
        trials.report(number, step_of(0, epoch), value)
    trials.complete(number, value)
    return number


@pytest.mark.parametrize(("higher", "worse", "better"), [(False, 0.3, 0.1), (True, 0.1, 0.3)])
def test_a_trial_lags_when_its_best_epoch_is_worse_than_the_median(
    tmp_path: Path, *, higher: bool, worse: float, better: float
) -> None:
    trials = study(tmp_path, higher_is_better=higher)
    for _ in range(COMPLETE - 1):
        complete(trials, 0.2)
    early = trials.ask().number
    trials.report(early, step_of(0, FIRST_EPOCH), worse)
    assert not trials.lags(early)  # too few to compare with
    complete(trials, 0.2)
    assert trials.lags(early)
    number = trials.ask().number
    trials.report(number, step_of(0, FIRST_EPOCH - 1), worse)
    assert not trials.lags(number)  # too soon
    trials.report(number, step_of(0, FIRST_EPOCH), better)
    assert not trials.lags(number)
    trials.report(number, step_of(0, FIRST_EPOCH + 1), worse)
    assert not trials.lags(number)  # its best epoch counts
    trials.report(number, step_of(1, 1), worse)
    assert not trials.lags(number)  # no other has a second seed


@pytest.mark.parametrize(("higher", "best"), [(False, 1), (True, 0)])
def test_the_best_is_the_first_of_the_completed_in_the_direction_of_the_metric(
    tmp_path: Path, *, higher: bool, best: int
) -> None:
    trials = study(tmp_path, higher_is_better=higher)
    assert trials.best() is None
    for value in (0.5, 0.2, 0.2, 0.5):
        complete(trials, value)
    pruned, failed = trials.ask().number, trials.ask().number
    for number, value in ((pruned, 0.0), (failed, 1.0)):
        trials.report(number, step_of(0, 1), value)
    trials.prune(pruned)
    trials.fail(failed, "its loss", settled=True)
    found = trials.best()
    assert found is not None
    assert found.number == best
    assert [trial.state for trial in trials.all()[-2:]] == ["pruned", "failed"]


def test_draws_are_the_same_whether_or_not_the_study_was_stopped_between(tmp_path: Path) -> None:
    def draws(folder: Path, *, stopped: bool, seed: int = 0) -> list[dict[str, Any]]:
        trials = study(folder, seed=seed)
        for number in range(14):  # the first ten are drawn at random, the others by what came of those
            trials = study(folder, seed=seed) if stopped else trials
            complete(trials, number / 10)
        return [trial.settings for trial in trials.all()]

    one = draws(tmp_path / "one", stopped=False)
    assert draws(tmp_path / "two", stopped=True) == one
    assert draws(tmp_path / "three", stopped=False, seed=1) != one
    assert all(1e-5 <= drawn["finetune.lr"] <= 1e-1 and drawn["finetune.epochs"] in range(2, 10) for drawn in one)
    assert len({drawn["finetune.lr"] for drawn in one}) == 14


def test_a_trial_that_was_stopped_keeps_its_number_its_settings_and_its_epochs(tmp_path: Path) -> None:
    drawn = study(tmp_path).ask()
    study(tmp_path).report(0, step_of(0, 1), 0.5)
    study(tmp_path).fail(0, "its process ended", settled=False)
    (trial,) = study(tmp_path).all()
    assert (trial.settings, trial.state, trial.value, trial.epochs) == (drawn.settings, "failed", 0.5, 1)
    trials = study(tmp_path)
    trials.begin_again(0)
    trials.report(0, step_of(0, 1), 0.7)  # told again after a stop; the first time counts
    assert (trials.one(0).state, trials.one(0).value) == ("started", 0.5)
    lines = (tmp_path / "study.jsonl").read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_a_trial_that_lags_is_stopped_in_training_and_leaves_its_checkpoint(place: Path, tmp_path: Path) -> None:  # noqa: F811
    trials = study(tmp_path / "journal")
    for _ in range(COMPLETE):
        complete(trials, -1.0)  # no error is as small
    number = trials.ask().number
    config = check_config(
        settings(place, place / "tiny-body", align={"objective": "none"}, finetune={"epochs": 40, "patience": 40})
    ).model_dump(mode="json")
    trial = {"number": number, "journal": str(tmp_path / "journal" / "study.jsonl"), "prune": True}
    given = ([config, {**config, "seed": 1}], trial, str(tmp_path / "store"), False)
    assert jobs.do_trial(*given) == {"value": None}
    assert trials.one(number).epochs == FIRST_EPOCH
    assert set(stages(tmp_path / "store")) == {"embed", "align"}
    (work,) = (tmp_path / "store" / ".work").glob("finetune-*")
    assert (work / "checkpoint" / "state.safetensors").is_file()

    found = jobs.do_trial(given[0], {**trial, "prune": False}, *given[2:])  # goes on from the checkpoint
    assert 0 <= found["value"] <= 1
    assert trials.one(number).epochs == 2 * 40
    assert stages(tmp_path / "store") == {"embed": 2, "align": 2, "finetune": 2}


GRID: dict[str, Any] = {
    "search": "optuna", "samples": 5, "aligns": ["none"], "settings": {"finetune.lr": [1e-3, 1e30, 3e-3, 1e-2]}
}  # fmt: skip


@pytest.fixture(scope="module")
def first(place: Path) -> Any:  # noqa: F811
    """A search some trials of which diverge, beside a study whose data is not there."""
    grid = write_grid(place, "search", **GRID, tasks=[str(place / "tiny.yaml"), "signdigits"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCA_DATA", str(place / "nowhere"))
        return command("sweep", grid, "--workers", 2, "--store", place / "searched", "--json")


def test_the_test_set_is_opened_for_the_best_trial_alone(first: Any, place: Path) -> None:  # noqa: F811
    found = document(first)
    trials = [row for row in found["trials"] if row["task"] == "tiny"]
    completed = [row for row in trials if row["state"] == "completed"]
    best = min(completed, key=lambda row: (row["validation"], row["trial"]))
    assert [row["trial"] for row in trials if "test" in row] == [best["trial"]]
    (run,) = found["runs"]
    assert (best["runs"], best["test"]) == ([run["run"]], run["test"])
    assert (run["finetune.lr"], run["validation"]) == (best["finetune.lr"], best["validation"])
    tuned = len({row["finetune.lr"] for row in completed})
    assert stages(place / "searched") == {"embed": 1, "align": 1, "finetune": tuned, "evaluate": 1, "baselines": 1}
    assert "opened for the best trial of each study alone" in means_text(found, found["means"])


def test_a_trial_that_fails_stops_no_other_and_is_told(first: Any, place: Path) -> None:  # noqa: F811
    found = document(first)
    assert (first.exit_code, found["state"]) == (1, "failed")
    *drawn, lost = found["trials"]
    assert {row["state"] for row in drawn} == {"completed", "failed"}
    for row in drawn:
        assert (row["state"] == "failed") == (row["finetune.lr"] == 1e30)
        assert row["state"] == "completed" or "the training loss became" in row["reason"]
    assert (lost["trial"], lost["state"]) == (None, "failed")
    assert "signdigits" in lost["reason"]
    assert first.stderr.splitlines()[0].endswith("0 trials done already, 5 to do, 1 study cannot start")
    assert "[5/5] tiny tiny-body none full, trial " in first.stderr
    shown = command("sweep", "search.yaml", "--status", "--store", place / "searched").stdout
    assert shown.startswith("search: failed; 2 studies, 5 trials")
    assert rows_text(found) in shown


def test_started_again_with_more_samples_it_keeps_what_it_has(first: Any, place: Path) -> None:  # noqa: F811
    before = {path: path.stat().st_mtime_ns for path in (place / "searched" / "stages").glob("*/*")}
    grid = write_grid(place, "search", **{**GRID, "samples": 7})
    again = command("sweep", grid, "--workers", 1, "--store", place / "searched", "--json")
    assert "5 trials done already, 2 to do" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before

    def drawn(result: Any) -> list[tuple[Any, ...]]:
        rows = [row for row in document(result)["trials"] if row["task"] == "tiny"]
        return [(row["trial"], row["finetune.lr"], row["state"], row["validation"]) for row in rows]

    assert len(drawn(again)) == 7
    assert drawn(again)[:5] == drawn(first)


def test_a_search_over_two_seeds_does_as_many_stages_as_it_said(place: Path, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "accurate.yaml"
    file.write_text(yaml.safe_dump({**settings(place, place / "tiny-body"), "metric": "accuracy"}))
    span = {"low": 1e-4, "high": 1e-2, "log": True}
    grid = write_grid(
        place, "seeds", tasks=[str(file)], aligns=["otdd", "none"], seeds="0..1", search="optuna", samples=2,
        settings={"finetune.lr": span, "finetune.head_lr": span}, prune=False,
    )  # fmt: skip
    result = command("sweep", grid, "--workers", 2, "--store", tmp_path / "store", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(
        "2 studies, 4 trials: at most 20 stages after sharing, 0 trials done already, 4 to do"
    )
    assert stages(tmp_path / "store") == {
        "embed": 2, "align": 4, "source": 1, "finetune": 8, "evaluate": 4, "baselines": 1
    }  # fmt: skip
    found = document(result)
    for align in ("otdd", "none"):
        trials = [row for row in found["trials"] if row["align"] == align]
        (best,) = [row for row in trials if "test" in row]
        assert best["validation"] == max(row["validation"] for row in trials)
        runs = [row for row in found["runs"] if row["align"] == align]
        assert [row["seed"] for row in runs] == [0, 1]
        assert best["validation"] == pytest.approx(sum(row["validation"] for row in runs) / 2)
        assert best["test"] == pytest.approx(sum(row["test"] for row in runs) / 2)


def test_a_pruned_trial_is_no_failure(place: Path, tmp_path: Path) -> None:  # noqa: F811
    grid = write_grid(place, "pruned", **{**GRID, "samples": COMPLETE + 1, "settings": {"finetune.lr": [1e-3, 2e-3]}})
    (planned,) = plan_search(load_grid(grid), Store(tmp_path), "pruned").studies
    for _ in range(COMPLETE):
        complete(planned.trials(), -1.0)  # no error is as small
    result = command("sweep", grid, "--workers", 1, "--store", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    *_, last = document(result)["trials"]
    assert (last["state"], last["epochs"], last.get("test")) == ("pruned", FIRST_EPOCH, None)
    assert f"trial {COMPLETE}: pruned after {FIRST_EPOCH} epochs, validation " in result.stderr


def test_a_killed_trial_goes_on_another_time(place: Path, tmp_path: Path) -> None:  # noqa: F811
    varied = {"finetune.epochs": [60], "finetune.patience": [60], "finetune.lr": {"low": 1e-4, "high": 1e-3}}
    grid = write_grid(place, "killed-trial", search="optuna", samples=1, aligns=["none"], settings=varied)
    killer = kill_when(lambda: any((tmp_path / ".work").glob("finetune-*/checkpoint/state*")))
    with in_children():
        stopped = command("sweep", grid, "--workers", 1, "--store", tmp_path, "--json")
    killer.join()
    (lost,) = document(stopped)["trials"]
    assert (stopped.exit_code, lost["state"], document(stopped)["runs"]) == (1, "failed", [])
    assert lost["reason"] == "JobKilled: its process ended from outside; was there enough memory?"
    again = command("sweep", grid, "--workers", 1, "--store", tmp_path, "--json")
    assert again.exit_code == 0, again.stderr
    (trial,) = document(again)["trials"]
    assert (trial["state"], trial["trial"], trial["finetune.lr"]) == ("completed", 0, lost["finetune.lr"])
    assert trial["epochs"] == 60


def test_what_is_missing_is_told_before_work(place: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    grid = write_grid(place, "missing", **GRID)
    shown = command("sweep", grid, "--dry-run", "--store", tmp_path / "store")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == "1 study, 5 trials: at most 9 stages after sharing, 0 trials done already, 5 to do\n"
    assert not (tmp_path / "store").exists()
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    lost = check_grid({**GRID, "tasks": ["signdigits"]})
    with pytest.raises(InputError, match="no study can start:\n  - .*signdigits"):
        plan_search(lost, Store(tmp_path), "lost")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "optuna" else find(name, *more)
    )
    refused = command("sweep", grid, "--store", tmp_path / "store")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "`search: optuna` needs the package optuna: pip install 'orca[optuna]'" in refused.stderr
    with pytest.raises(InputError, match="needs the package optuna"):
        check_optuna()
