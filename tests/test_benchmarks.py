"""The benchmark of whole runs: its table says what the records say and goes between its markers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tasks, train
from benchmarks.table import BEGIN, END, fill, lacks_markers, made_by, markdown, number, rows_of

ROOT = Path(__file__).resolve().parents[1]
RECORD: dict[str, Any] = {
    "run": "made-up-full-s0-12345678", "path": "runs/runs/made-up-full-s0-12345678", "flow_run": None,
    "task": "made-up", "body": "minilm", "align": "otdd", "method": "full", "seed": 0,
    "metric": {"name": "error", "value": 0.03125, "higher_is_better": False, "ci95": [0.02, 0.04567], "n": 300},
    "validation": {"value": 0.03, "epoch": 7}, "shift": {}, "baselines": {"majority": 0.9, "linear": 0.125},
    "parameters": {"total": 10_900_000, "trained": 250_000},
    "stages": [
        {"name": name, "seconds": seconds, "cached": False, "path": f"elsewhere/stages/{name}/0f{i}"}
        for i, (name, seconds) in enumerate({"embed": 1.25, "align": 20.5, "finetune": 300.4, "evaluate": 2.0}.items())
    ],
    "created": "2026-01-01T00:00:00+00:00", "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "machine": {"cpu": "Abacus", "cores": 2, "gpu": None, "platform": "desk", "threads": 1},
    "commit": "0123456789abcdef0123456789abcdef01234567-dirty", "peak_memory_mb": 1234.4, "notes": [],
}  # fmt: skip


def record(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(RECORD), **changes}


def stored(store: Path, *records: dict[str, Any]) -> Path:
    for one in records:
        folder = store / "runs" / one["run"]
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(one))
    return store


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def test_a_row_says_what_its_record_says(tmp_path) -> None:
    header, _, row, _, facts = markdown(rows_of([RECORD], tmp_path)).splitlines()
    shown = dict(zip(cells(header), cells(row), strict=True))
    assert shown == {
        "task": "made-up", "method": "full", "alignment": "otdd",
        "test metric, 95 % interval": "error 0.0312 [0.02, 0.0457]", "baselines": "majority 0.9, linear 0.125",
        "seconds: embed / align / finetune / evaluate": "1.25 / 20.5 / 300 / 2",
        "peak memory": "1234 MiB", "trained parameters": "0.25 of 10.90 M",
    }  # fmt: skip
    said = ("error: lower is better", "Seed 0", "Commit 0123456789ab-dirty", "Abacus, 2 cores, no GPU", "Threads 1")
    assert [part for part in said if part.lower() not in facts.lower()] == []


def test_body_seed_and_shift_are_columns_only_where_they_tell_something(tmp_path) -> None:
    plain = cells(markdown(rows_of([RECORD], tmp_path)).splitlines()[0])
    other = record(run="b", seed=1, body="gpt2", shift={"speaker": 0.25})
    table = markdown(rows_of([RECORD, other], tmp_path)).splitlines()
    assert [title for title in cells(table[0]) if title not in plain] == ["body", "seed", "shift sets"]
    assert cells(table[2])[:6] == ["made-up", "minilm", "full", "otdd", "0", "error 0.0312 [0.02, 0.0457]"]
    assert "speaker 0.25" in cells(table[3])
    assert "Seed 0; 1." in table[-1]


def test_a_shared_stage_has_the_seconds_that_building_it_took(tmp_path) -> None:
    shared = record()
    shared["stages"][1] |= {"cached": True, "seconds": 0.003}
    (row,) = rows_of([shared], tmp_path)
    assert row["seconds"]["align"] is None  # nobody knows: its directory is not here
    manifest = tmp_path / "stages" / "align" / "0f1" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"seconds": 61.5}))
    (row,) = rows_of([shared], tmp_path)
    assert row["seconds"]["align"] == 61.5
    assert "| 1.25 / (61.5) / 300 / 2 |" in markdown([row])
    assert "Seconds in brackets" in made_by([row])


def test_records_of_other_times_and_undefined_values_make_a_table_too(tmp_path) -> None:
    old = record(commit=None, machine={"cpu": "Abacus", "cores": 2, "gpu": "H1", "platform": "desk"})
    old["metric"] |= {"value": None, "ci95": [None, None]}
    table = markdown(rows_of([old], tmp_path))
    assert "error - [-, -]" in table
    assert all(part in table for part in ("Commit unknown", "H1", "Threads not recorded"))


@pytest.mark.parametrize(
    ("value", "text"), [(0.031249, "0.0312"), (0.0, "0"), (12.345, "12.3"), (1234.5, "1234"), (None, "-")]
)
def test_numbers_have_three_digits_or_none_after_the_point(value: float | None, text: str) -> None:
    assert number(value) == text


def test_the_table_goes_between_the_markers_and_nowhere_else(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    fill(page, "| new |\n")
    fill(page, "| new |\n")
    assert page.read_text() == f"before\n{BEGIN}\n| new |\n{END}\nafter\n"
    assert lacks_markers(page) is None
    assert lacks_markers(ROOT / "docs" / "results.md") is None


@pytest.mark.parametrize("text", ["none", BEGIN, f"{END} {BEGIN}", f"{BEGIN} {END} {END}"])
def test_a_page_without_its_markers_is_refused_before_any_run(text: str, tmp_path, capsys) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(SystemExit, match="2"):
        tasks.main(["--tasks", "digits", "--write", str(page)])
    assert "once each" in capsys.readouterr().err
    with pytest.raises(ValueError, match="must hold"):
        fill(page, "")


def test_collect_takes_the_newest_run_of_each_kind_and_names_what_it_leaves_out(tmp_path, capsys) -> None:
    store = stored(
        tmp_path / "store",
        record(run="new", created="2026-01-02T00:00:00+00:00"),
        record(run="old"),
        record(run="frozen", method="layernorm"),
        record(run="other", task="another"),
    )
    (store / "runs" / "broken").mkdir()
    assert tasks.main(["--collect", str(store), "--json"]) == 0
    told = capsys.readouterr()
    assert [row["run"] for row in json.loads(told.out)["rows"]] == ["other", "new", "frozen"]
    assert "left out old: new is newer" in told.err
    assert "left out broken" in told.err
    assert tasks.main(["--collect", str(store), "--tasks", "made-up", "--methods", "layernorm"]) == 0
    assert capsys.readouterr().out.count("made-up") == 1


def test_collect_fills_the_page(tmp_path, capsys) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}{END}")
    tasks.main(["--collect", str(stored(tmp_path / "store", RECORD)), "--write", str(page)])
    assert page.read_text() == f"{BEGIN}\n{capsys.readouterr().out.rstrip()}\n{END}"


def test_a_store_without_runs_is_bad_input(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        tasks.main(["--collect", str(tmp_path / "nowhere")])
    assert "no runs" in capsys.readouterr().err


def test_the_grid_is_tasks_by_methods_by_alignments_by_seeds() -> None:
    given = tasks._parser().parse_args(["--tasks", "digits,fsdd", "--seeds", "0,1", "-s", "finetune.epochs=2"])
    made = tasks._cells(given)
    assert len(set(made)) == 2 * 2 * 2 * 2
    assert made[1] == ("digits", "full", "otdd", 1, ("finetune.epochs=2",))
    assert made[1].overrides == ("finetune.epochs=2", "finetune.method=full", "align.objective=otdd")


def test_what_keeps_a_run_from_starting_is_found_before_the_first(monkeypatch) -> None:
    monkeypatch.delenv("ORCA_DATA", raising=False)
    wrong = [tasks.Cell("digits", "ful", "otdd", 0), tasks.Cell("digt", "full", "none", 0)]
    found = tasks.find_faults(
        [tasks.Cell("digits", "full", "otdd", 0), *wrong, tasks.Cell("splice", "full", "none", 0)]
    )
    assert len(found) == 3
    assert all(part in text for part, text in zip(("'full'", "digits", "ORCA_DATA"), found, strict=True))


def test_runs_are_listed_once_and_a_run_that_fails_does_not_stop_the_others(monkeypatch, capsys) -> None:
    records = iter([RECORD, {"fault": "the loss became nan"}, RECORD])
    monkeypatch.setattr(tasks, "alone", lambda function, *given: next(records))
    found, faults = tasks.run_all([tasks.Cell("made-up", "full", align, 0) for align in "abc"], "store")
    assert found == [RECORD]
    assert faults == ["made-up full b seed 0: the loss became nan"]
    assert "[2/3] made-up full b seed 0: the loss became nan" in capsys.readouterr().err


def test_the_two_ways_of_training_a_head_reach_the_same(capsys) -> None:
    train.main(["--samples", "48", "--epochs", "3", "--plain-epochs", "2", "--json"])
    made = json.loads(capsys.readouterr().out)
    assert [len(made[way]["train_loss"]) for way in ("once", "plain")] == [3, 2]
    assert made["gap"]["train_loss"] < 1e-4
    assert made["gap"]["val_metric"] <= 1 / 48
    train.main(["--samples", "48", "--epochs", "2", "--plain-epochs", "1"])
    assert "over 1 epochs both ways: losses differ by" in capsys.readouterr().out
