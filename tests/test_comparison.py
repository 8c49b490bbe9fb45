"""Rows over seeds: means, paired differences, shifts, ranks, and the files that tell of them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from scipy import stats

from orca.report.tradeoff import tradeoff
from orca.sweeps.comparison import compared, paired, places_of, tables, to_csv, to_markdown, write_comparison

TRAINED = {"full": 1000, "layernorm": 100, "head": 10}


def store(
    root: Path,
    tests: Mapping[tuple[str, str], Sequence[float | None]],
    *,
    higher: bool = False,
    shift: float | None = 0.1,
) -> dict[str, Any]:
    """A store with the records of runs, by task and method, one for each seed, None for a failed one; its table."""
    runs = []
    for (task, method), values in tests.items():
        for seed, value in enumerate(values):
            place = {"task": task, "body": "minilm", "align": "otdd", "method": method, "seed": seed}
            if value is None:
                runs.append({"run": None, **place, "state": "failed", "reason": "it diverged"})
                continue
            folder = root / "runs" / f"{task}-{method}-{seed}"
            folder.mkdir(parents=True)
            align = root / "stages" / "align" / f"{task}-{seed}"
            align.mkdir(parents=True, exist_ok=True)
            (align / "manifest.json").write_text('{"seconds": 30.0}')
            record = {
                "metric": {"name": "error", "value": value, "higher_is_better": higher},
                "shift": {} if shift is None else {"noise": value + shift},
                "parameters": {"trained": TRAINED[method], "total": 2000}, "peak_memory_mb": 100.0 + seed,
                "stages": [
                    {"name": "align", "seconds": 0.1, "cached": True, "path": f"/moved/away/align/{task}-{seed}"},
                    {"name": "finetune", "seconds": 5.0 + seed, "cached": False, "path": "/moved/away/finetune/x"},
                ],
            }  # fmt: skip
            (folder / "run.json").write_text(json.dumps(record))
            numbers = {"metric": "error", "higher_is_better": higher, "test": value, "validation": value / 2}
            runs.append({"run": folder.name, **place, "state": "completed", **numbers, "path": str(folder)})
    return {"compare": "small", "axes": ["task", "body", "align", "method", "seed"], "runs": runs}


OURS, THEIRS = [0.11, 0.14, 0.18], [0.2, 0.21, 0.25]


def test_a_row_has_means_spreads_shifts_costs_and_the_difference_to_the_first(tmp_path: Path) -> None:
    first, second = compared(store(tmp_path, {("fsdd", "full"): THEIRS, ("fsdd", "head"): OURS}))
    assert second["test"]["mean"] == pytest.approx(np.mean(OURS))
    assert second["test"]["spread"] == pytest.approx(np.std(OURS, ddof=1))
    assert second["shift"]["noise"]["mean"] == pytest.approx(np.mean(OURS) + 0.1)
    assert second["drop"] == {"noise": pytest.approx(0.1)}
    assert second["seconds"]["mean"] == pytest.approx(30 + 6)  # of the alignment what building it took
    assert (second["trained"], second["peak_memory_mb"], second["seeds"], second["of"]) == (10, 102.0, 3, 3)
    assert (first["difference"], first["rank"], second["rank"]) == (None, None, None)
    wanted = stats.ttest_rel(OURS, THEIRS).confidence_interval(0.95)
    found = second["difference"]
    assert found["mean"] == pytest.approx(np.mean(OURS) - np.mean(THEIRS))
    assert (found["low"], found["high"]) == pytest.approx((wanted.low, wanted.high))


def test_a_row_tells_in_how_many_runs_alignment_was_kept_and_what_it_gained(tmp_path: Path) -> None:
    document = store(tmp_path, {("fsdd", "full"): OURS, ("fsdd", "head"): THEIRS})
    for run, (kept, before, after) in zip(
        document["runs"], [("epoch 10", 0.5, 0.2), ("unaligned", 0.4, 0.4), ("epoch 2", 0.3, 0.24)], strict=False
    ):
        file = Path(run["path"]) / "run.json"
        told = {"objective": "otdd", "kept": kept, "probe_unaligned": before, "probe_kept": after}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"alignment": told}))
    first, second = compared(document)
    assert first["kept"] == {"runs": 3, "kept": 2, "gain": pytest.approx(0.12)}
    assert second["kept"] is None
    page = to_markdown([first, second], places_of(document))
    assert "| 2 of 3 | 1,000 |" in page
    assert "Alignment kept: the runs that went on with an aligned embedder." in page
    (told, plain) = csv.DictReader(io.StringIO(to_csv([first, second], places_of(document))))
    assert (told["alignment_kept"], plain["alignment_kept"]) == ("2", "")


def test_where_no_test_set_was_opened_rows_are_compared_by_validation(tmp_path: Path) -> None:
    opened = store(
        tmp_path, {(task, method): v for task in ("a", "b") for method, v in (("full", THEIRS), ("head", OURS))}
    )
    rows = [{**run, "test": None} for run in opened["runs"]]
    for run in rows:
        file = Path(run["path"]) / "run.json"
        record = json.loads(file.read_text())
        file.write_text(json.dumps(record | {"metric": {**record["metric"], "value": None}, "shift": {}}))
    closed = {**opened, "by": "validation", "runs": rows}
    full, head, *_ = found = compared(closed)
    assert (full["rank"], head["rank"]) == (2, 1)
    assert head["difference"]["mean"] == pytest.approx((np.mean(OURS) - np.mean(THEIRS)) / 2)
    ((header, _),) = tables(found, places_of(closed))
    assert "test" not in header
    assert "of the validation metric" in to_markdown(found, places_of(closed))
    assert "Validation metric against trained parameters: a, full, otdd: 0.11" in str(tradeoff(found))


def test_memory_of_a_gpu_is_a_column_where_one_was_used(tmp_path: Path) -> None:
    document = store(tmp_path, {("fsdd", "full"): OURS, ("fsdd", "head"): THEIRS})
    assert "GPU MiB" not in to_markdown(compared(document), places_of(document))
    for run in document["runs"][:2]:
        file = Path(run["path"]) / "run.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"peak_gpu_memory_mb": 700.0 + run["seed"]}))
    full, head = rows = compared(document)
    assert (full["peak_gpu_memory_mb"], head["peak_gpu_memory_mb"]) == (701.0, None)
    ((header, lines),) = tables(rows, places_of(document))
    assert [line[header.index("GPU MiB")] for line in lines] == ["701", "-"]


def test_differences_are_paired_by_seed() -> None:
    assert paired({0: 1.0, 2: 3.0}, {2: 2.5, 5: 0.0}) == {"mean": 0.5, "low": None, "high": None, "seeds": 1}
    assert paired({0: 1.0}, {1: 1.0}) is None
    steady = paired({0: 1.0, 1: 2.0, 2: 7.0}, {0: 0.5, 1: 1.5, 2: 6.5})
    assert steady == {"mean": 0.5, "low": 0.5, "high": 0.5, "seeds": 3}


def test_a_failed_seed_is_counted_and_left_out(tmp_path: Path) -> None:
    found = compared(
        store(tmp_path, {("fsdd", "full"): [0.2, 0.3], ("fsdd", "head"): [None, 0.1], ("fsdd", "layernorm"): [None]})
    )
    assert [(row["seeds"], row["of"]) for row in found] == [(2, 2), (1, 2), (0, 1)]
    assert found[1]["difference"] == {"mean": pytest.approx(-0.2), "low": None, "high": None, "seeds": 1}
    assert (found[2]["test"]["mean"], found[2]["difference"], found[2]["trained"]) == (None, None, None)


@pytest.mark.parametrize("higher", [False, True])
def test_ranks_are_means_over_tasks_of_rows_that_all_tasks_have(tmp_path: Path, *, higher: bool) -> None:
    tests: dict[tuple[str, str], list[float | None]] = {
        ("fsdd", "full"): [0.1], ("fsdd", "layernorm"): [0.2], ("fsdd", "head"): [0.2],
        ("digits", "full"): [0.3], ("digits", "layernorm"): [0.4], ("digits", "head"): [None],
    }  # fmt: skip
    found = {(row["task"], row["method"]): row["rank"] for row in compared(store(tmp_path, tests, higher=higher))}
    ranks = {"full": 2.5, "layernorm": 1.25, "head": None} if higher else {"full": 1, "layernorm": 2.25, "head": None}
    assert found == {(task, method): ranks[method] for task, method in tests}


def test_the_files_hold_the_same_numbers(tmp_path: Path) -> None:
    document = store(tmp_path, {("fsdd", "full"): THEIRS, ("fsdd", "head"): OURS})
    rows = write_comparison(tmp_path / "out", document)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == rows
    (_, told) = csv.DictReader(io.StringIO((tmp_path / "out" / "comparison.csv").read_text()))
    assert float(told["test_mean"]) == rows[1]["test"]["mean"]
    assert float(told["difference_high"]) == rows[1]["difference"]["high"]
    assert (told["method"], told["shift_noise_mean"], told["trained"]) == (
        "head",
        str(rows[1]["shift"]["noise"]["mean"]),
        "10",
    )
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "| fsdd | head | error | 0.1433 ± 0.03512 | 0.2433 ± 0.03512 (0.1) | -0.07667 [" in page
    assert "error: lower is better." in page
    assert "body" not in page  # all rows agree on it
    drawn = ET.fromstring((tmp_path / "out" / "comparison.svg").read_text())  # noqa: S314 - our own drawing
    assert "fsdd, head, otdd: 0.143" in drawn.attrib["aria-label"]


def test_shift_sets_that_tasks_do_not_share_have_tables_of_their_own(tmp_path: Path) -> None:
    tests: dict[tuple[str, str], list[float | None]] = {
        ("fsdd", "full"): [0.25, 0.5], ("fsdd", "head"): [None], ("digits", "full"): [0.125], ("mitbih", "full"): [0.5],
        ("cosmic", "full"): [0.75],
    }  # fmt: skip
    document = store(tmp_path, tests)
    for task, shift in (("digits-full-0", {"a": 0.25, "b": 0.5}), ("cosmic-full-0", {})):
        path = tmp_path / "runs" / task / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"shift": shift}))
    rows, places = compared(document), places_of(document)
    main, noise, others = tables(rows, places)
    assert not any("drop" in name for name in main[0])
    assert len(main[1]) == 5
    assert noise == (
        ["task", "method", "metric", "test", "noise (drop)"],
        [["fsdd", "full", "error", "0.375 ± 0.1768", "0.475 ± 0.1768 (0.1)"], ["fsdd", "head", "-", "-", "-"],
         ["mitbih", "full", "error", "0.5", "0.6 (0.1)"]],
    )  # fmt: skip
    assert others == (
        ["task", "method", "metric", "test", "a (drop)", "b (drop)"],
        [["digits", "full", "error", "0.125", "0.25 (0.125)", "0.5 (0.375)"]],
    )
    page = to_markdown(rows, places)
    assert page.count("\n| --- |") == 3
    assert "\n\n| task | method | metric | test | a (drop) | b (drop) |\n" in page
    assert "Drop: the metric on the shift set less" in page
    shared = [row for row in rows if row["task"] in ("fsdd", "mitbih", "cosmic")]
    assert "noise (drop)" in tables(shared, places)[0][0]  # one table where all that have sets have the same
    assert len(tables(shared, places)) == 1


def test_tables_without_shifts_ranks_or_runs(tmp_path: Path) -> None:
    document = store(tmp_path, {("fsdd", "full"): [0.2], ("fsdd", "head"): [None]}, shift=None)
    rows = compared(document)
    page = to_markdown(rows, places_of(document))
    assert "Drop" not in page
    assert "rank" not in page.lower()
    assert "| fsdd | head | - | - | - | - | - | - | - | 0 of 1 |" in page
    assert to_csv(rows, places_of(document)).count("\n") == 3
    assert tradeoff(compared(store(tmp_path / "none", {("fsdd", "head"): [None]}))) is None


def test_rows_are_told_apart_by_settings_that_are_lists_or_the_metric(tmp_path: Path) -> None:
    document = store(tmp_path, {("fsdd", "full"): [0.2, None, None, None]})
    settings = [([], "error"), ([], "error"), (["noise"], "error"), ([], "accuracy")]
    for run, (augment, metric) in zip(document["runs"], settings, strict=True):
        run |= {"finetune.augment": augment, "metric": metric}
    document["axes"] += ["finetune.augment", "metric"]
    found = [(row["finetune.augment"], row["metric"], row["seeds"], row["of"]) for row in compared(document)]
    assert found == [([], "error", 1, 2), (["noise"], "error", 0, 1), ([], "accuracy", 0, 1)]


def test_every_point_of_the_figure_has_a_name_that_stands_on_no_other(tmp_path: Path) -> None:
    """Methods that cost and reach the same, settings of one method, and one in which nothing trains."""
    rows = compared(store(tmp_path, {("fsdd", method): [0.2] for method in ("full", "layernorm", "head")}))
    for row, rank in zip(rows, (2, 4, 8), strict=True):
        row |= {"trained": 0 if rank == 8 else 500, "method": "lora", "finetune.options.rank": rank}
    drawn = ET.fromstring(str(tradeoff(rows, ["task", "align", "method", "finetune.options.rank"])))
    names = {text: place for text, place in texts(drawn) if text in ("2", "4", "8")}
    assert set(names) == {"2", "4", "8"}
    (x, y), (other_x, other_y) = names["2"], names["4"]
    assert x == other_x
    assert abs(y - other_y) >= 8
    assert "0" in dict(texts(drawn))  # of the axis


def texts(drawn: ET.Element) -> list[tuple[str, tuple[float, float]]]:
    """What is written in a figure, and where."""
    found = []
    for element in drawn.iter("text"):
        place = re.search(r"translate\(([\d.]+) ([\d.]+)\)", element.get("transform", "")) or re.match(
            r"([\d.]+) ([\d.]+)", f"{element.get('x', '')} {element.get('y', '')}"
        )
        assert place is not None
        found.append(("".join(element.itertext()), (float(place[1]), float(place[2]))))
    return found


def test_rows_of_another_metric_are_neither_subtracted_nor_ranked(tmp_path: Path) -> None:
    document = store(tmp_path, {(task, "full"): [0.2, 0.8, 0.3] for task in ("fsdd", "digits")})
    for run, metric in zip(document["runs"], ["error", "accuracy", "error"] * 2, strict=True):
        run |= {"metric": metric, "higher_is_better": metric == "accuracy", "seed": 0, "augment": run["seed"]}
    document["axes"] += ["metric", "augment"]
    found = [
        (row["metric"], row["difference"] and row["difference"]["mean"], row["rank"]) for row in compared(document)
    ]
    assert found == 2 * [("error", None, 1), ("accuracy", None, None), ("error", pytest.approx(0.1), 2)]
