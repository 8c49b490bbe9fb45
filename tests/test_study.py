"""What a study concludes from its runs: differences, verdicts, ranks, tables and the figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import differences, study

TASKS, VARIANTS = ["a", "b"], ["none", "otdd"]
VALUES = {  # a: an error, b: a score; by variant and seed
    "a": {"none": [0.20, 0.22, 0.18], "otdd": [0.10, 0.11, 0.12]},
    "b": {"none": [0.80, 0.81, 0.82], "otdd": [0.805, 0.801, 0.815]},
}


def runs_of(values: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    return [
        {
            "task": task, "variant": variant, "seed": seed, "metric": "error" if task == "a" else "score",
            "higher_is_better": task != "a", "validation": value, "test": value, "shift": {"noise": 2 * value},
            "probe": {} if variant == "none" else
            {"kept": "unaligned" if seed else "epoch 5", "probe_unaligned": 1.0, "probe_kept": 1.0 if seed else 0.8},
        }
        for task, of in values.items() for variant, found in of.items() for seed, value in enumerate(found)
    ]  # fmt: skip


RUNS = runs_of(VALUES)


def test_a_difference_is_paired_and_positive_where_it_is_better() -> None:
    less = differences.difference(RUNS, "a", "otdd", "none")
    assert less is not None
    assert (less.mean, less.share, less.seeds) == (pytest.approx(0.09), pytest.approx(0.45), 3)
    assert less.spread == pytest.approx(0.02)
    assert less.verdict == "better"
    lower = differences.difference(RUNS, "b", "otdd", "none")
    assert lower is not None
    assert lower.mean == pytest.approx(-0.003)
    assert lower.share == pytest.approx(-0.003 / 0.19)  # of what 0.81 lacks to 1
    assert lower.verdict == "within"


def test_seeds_that_only_one_variant_has_do_not_count() -> None:
    fewer = [run for run in RUNS if (run["variant"], run["seed"]) != ("otdd", 0)]
    found = differences.difference(fewer, "a", "otdd", "none")
    assert found is not None
    assert (found.seeds, found.mean) == (2, pytest.approx(0.20 - 0.115))
    single = differences.difference([r for r in RUNS if r["variant"] == "none" or not r["seed"]], "b", "otdd", "none")
    assert single is not None
    assert (single.seeds, single.spread, single.verdict) == (1, pytest.approx(0.01), "within")  # none's over its three
    assert differences.difference([run for run in RUNS if run["seed"] < 1], "a", "other", "none") is None


def test_a_first_variant_without_error_has_no_share_and_the_rest_is_told(tmp_path: Path) -> None:
    runs = runs_of({"a": {"none": [0.0, 0.0], "otdd": [0.01, 0.03]}, "b": VALUES["b"]})
    found = differences.difference(runs, "a", "otdd", "none")
    assert found is not None
    assert (found.mean, found.verdict) == (pytest.approx(-0.02), "worse")
    assert study.verdicts(runs, TASKS, VARIANTS).splitlines()[3].split(" | ")[3] == "-1.6%"  # of b alone
    study.draw(runs, TASKS, VARIANTS, tmp_path / "study.svg")


def test_test_and_every_shift_set_are_rows_of_their_own_for_the_runs_that_have_them() -> None:
    opened = study.tested(
        [{**run, "test": None} if run["variant"] == "otdd" else run for run in RUNS if run["seed"] < 2]
    )
    assert {run["variant"] for run in opened} == {"none"}
    rows = ["a, test", "a, noise", "b, test", "b, noise"]
    assert [*dict.fromkeys(run["task"] for run in opened)] == rows
    assert study.means(opened, rows, VARIANTS).splitlines()[3] == "| `a, noise` | error | 0.42 ± 0.028 | - |"
    other = [*opened, *study.tested([{**RUNS[0], "shift": {"gain": 0.3}}])]
    assert differences.by_seed(other, "a, gain", "none") == {0: 0.3}


def test_ranks_are_means_over_tasks_by_the_metric_s_own_direction() -> None:
    assert differences.ranks(RUNS, TASKS, VARIANTS) == {"none": 1.5, "otdd": 1.5}
    one = runs_of({"a": VALUES["a"]})
    assert differences.ranks(one, ["a"], VARIANTS) == {"none": 2, "otdd": 1}
    fewer = [run for run in one if (run["variant"], run["seed"]) != ("none", 0)]
    more = [{**run, "validation": 0.9} if (run["variant"], run["seed"]) == ("otdd", 0) else run for run in fewer]
    assert differences.ranks(more, ["a"], VARIANTS) == {"none": 2, "otdd": 1}  # by the seeds that both have
    even = runs_of({"a": {"none": [0.2, 0.3], "otdd": [0.2, 0.3]}})
    assert differences.ranks(even, ["a"], VARIANTS) == {"none": 1.5, "otdd": 1.5}


def test_the_tables_say_what_was_found() -> None:
    told = study.verdicts(RUNS, TASKS, VARIANTS).splitlines()
    assert told[2] == "| none | - | - | - | - | 1.50 | - | - | - |"
    assert told[3] == "| otdd | 1, 1, 0 | 1 of 2 | +21.7% | 0 of 6 | 1.50 | 2 of 6 | 6.7% | 2 of 2 |"
    assert study.means(RUNS, TASKS, VARIANTS).splitlines()[2] == "| `a` | error | 0.2 ± 0.02 | 0.11 ± 0.01 |"


def test_the_probe_is_right_where_its_sign_is_that_of_what_training_made_of_it() -> None:
    assert differences.agreement(RUNS, "otdd", "none") == (2, 2)  # the first seeds alone have an aligned embedder
    worse = [{**run, "probe": {**run["probe"], "probe_kept": 1.1}} if run["probe"] else run for run in RUNS]
    assert differences.agreement([run for run in worse if run["seed"] == 0], "otdd", "none") == (0, 2)
    same = [{**run, "validation": 0.5} for run in RUNS]
    assert differences.agreement(same, "otdd", "none") == (0, 0)
    assert differences.agreement(RUNS, "otdd", "another") == (0, 0)
    unknown = [{**run, "validation": None} if run["variant"] == "otdd" else run for run in RUNS]
    assert differences.agreement(unknown, "otdd", "none") == (0, 0)
    aligned = study.verdicts(RUNS, TASKS, ["otdd", "none"]).splitlines()
    assert [line.split(" | ")[-1] for line in aligned[2:]] == ["- |", "- |"]  # the first is no unaligned one


def test_a_seed_that_is_worse_than_the_spread_is_counted() -> None:
    worse = runs_of({"a": {"none": [0.20, 0.21, 0.22], "otdd": [0.20, 0.21, 0.24]}})
    assert study.verdicts(worse, ["a"], VARIANTS).splitlines()[3].split(" | ")[4] == "0 of 3"
    worse = runs_of({"a": {"none": [0.20, 0.20, 0.20], "otdd": [0.20, 0.20, 0.24]}})
    assert study.verdicts(worse, ["a"], VARIANTS).splitlines()[3].split(" | ")[4] == "1 of 3"


def test_the_figure_is_the_same_for_the_same_runs(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        study.draw(RUNS, TASKS, VARIANTS, tmp_path / name / "study.svg")
    first, second = ((tmp_path / name / "study.svg").read_text() for name in ("one", "two"))
    assert first == second
    assert "otdd" in first
    assert "error on validation, as a multiple of that of 'none'" in first


def test_multiples_that_lie_close_have_finer_ticks() -> None:
    assert [*study._ticks(0.65, 1.3)] == ["0.7", "0.8", "0.9", "1", "1.1", "1.25"]
    assert study._ticks(0.1, 5) == {"1/8": 0.125, "1/4": 0.25, "1/2": 0.5, "1": 1, "2": 2, "4": 4}


def test_a_variant_that_the_first_task_lacks_is_in_the_legend(tmp_path: Path) -> None:
    more = runs_of({"b": {"mmd": [0.8, 0.8, 0.8]}})
    study.draw([*RUNS, *more], TASKS, [*VARIANTS, "mmd"], tmp_path / "study.svg")
    assert "mmd" in (tmp_path / "study.svg").read_text()


def test_completed_runs_are_gathered_and_join_those_gathered_before(tmp_path: Path) -> None:
    record = {
        "alignment": {"kept": "epoch 5", "probe_unaligned": 0.4, "probe_kept": 0.3, "history": "long"},
        "shift": {"noise": 0.5}, "parameters": {"trained": 7, "total": 9}, "commit": "abc", "created": "today",
        "machine": {"cpu": "a processor", "cores": 2}, "stages": [{"name": "align", "seconds": 1.234}],
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(record))
    row = {
        "task": "a", "variant": "otdd", "seed": 0, "method": "full", "state": "completed", "metric": "error",
        "higher_is_better": False, "validation": 0.1, "test": 0.2, "path": str(tmp_path),
    }  # fmt: skip
    sweep = {"axes": ["task", "variant", "method", "seed"], "runs": [row, {**row, "seed": 1, "state": "pending"}]}
    (made,) = study.gathered(sweep)
    assert made["probe"] == {"kept": "epoch 5", "probe_unaligned": 0.4, "probe_kept": 0.3}
    assert (made["cpu"], made["commit"], made["seconds"]) == ("a processor", "abc", {"align": 1.23})
    older = [{**made, "validation": 0.9}, {**made, "seed": 1}]
    joined = study.gathered(sweep, older)
    assert [(run["seed"], run["validation"]) for run in joined] == [(0, 0.1), (1, 0.1)]
    del sweep["runs"][0]["variant"]
    assert study.gathered({**sweep, "axes": ["task", "method", "seed"]})[0]["variant"] == "full"
