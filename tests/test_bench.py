"""Tables of a benchmark: published beside real, generated alone, each in the unit of the publication."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from orca.bench import FAMILIES, Column, Family, Measured, tables, to_csv, to_markdown
from orca.metrics import METRICS
from orca.tasks import TASKS
from tests.records import recording
from tests.sweeping import in_turn
from tests.test_run import settings
from tests.tiny import save_tiny_body

NB360 = FAMILIES.get("nb360")
RUN = Measured(
    "satellite", "full, align otdd", 0, {"error": 0.25, "macro_f1": 0.7},
    {"majority": 0.9, "linear": 0.3, "nearest": 0.4}, "error", False, synthetic=False,
)  # fmt: skip


@pytest.mark.parametrize("family", list(FAMILIES), ids=lambda family: family.name)
def test_rows_have_a_number_for_each_column_and_columns_a_metric(family) -> None:
    assert all(len(row) == sum(not column.further for column in family.columns) for row in family.rows.values())
    for column in family.columns:
        # What is published is an error: a metric that is better when higher is turned round.
        assert METRICS.get(column.metric).higher_is_better is column.complement


def test_published_numbers_stand_beside_runs_on_published_files_alone() -> None:
    real, made = tables(NB360, [RUN, dataclasses.replace(RUN, synthetic=True, values={"error": 0.5})])
    assert [name for name, whose, _ in real.rows if whose == "published"] == list(NB360.rows)
    assert {name: cells for name, _, cells in real.rows}["full, align otdd"] == ((25.0, None),)
    assert {whose for _, whose, _ in made.rows} == {"ours"}
    assert made.rows[-1] == ("full, align otdd", "ours", ((50.0, None),))
    assert "do not compare with published ones" in made.notes[0]


def test_a_row_is_mean_and_deviation_over_seeds_beside_baselines() -> None:
    runs = [dataclasses.replace(RUN, seed=seed, values={"error": value}) for seed, value in enumerate((0.1, 0.2, 0.3))]
    (table,) = tables(NB360, runs)
    rows = {name: cells[0] for name, _, cells in table.rows}
    assert rows["trivial baseline"] == (90.0, None)
    assert rows["best other baseline"] == (30.0, None)
    assert rows["full, align otdd"] == pytest.approx((20.0, 10.0))
    assert rows["ORCA"] == (11.59, None)
    assert "| full, align otdd | 20 ± 10 |" in to_markdown(table)


def test_scores_become_the_errors_that_are_published() -> None:
    audio = dataclasses.replace(
        RUN, task="fsd50k", metric="map", higher_is_better=True, values={"map": 0.3, "macro_auroc": 0.9},
        baselines={"majority": 0.02, "ridge": 0.1, "nearest": 0.2},
    )  # fmt: skip
    (table,) = tables(NB360, [audio])
    rows = {name: cells[0] for name, _, cells in table.rows}
    assert rows["full, align otdd"] == pytest.approx((0.7, None))
    assert rows["trivial baseline"] == pytest.approx((0.98, None))
    assert rows["best other baseline"] == pytest.approx((0.8, None))


def test_a_cell_without_a_number_is_left_empty() -> None:
    other = dataclasses.replace(RUN, task="ninapro", method="layernorm, align none")
    (table,) = tables(NB360, [RUN, other])
    assert [column.task for column in table.columns] == ["ninapro", "satellite"]
    rows = {name: cells for name, _, cells in table.rows}
    assert rows["full, align otdd"] == (None, (25.0, None))
    assert "| full, align otdd | - | 25 |" in to_markdown(table)
    lines = list(csv.DictReader(to_csv([table]).splitlines()))
    assert {(line["row"], line["task"]) for line in lines if line["whose"] == "ours"} >= {
        ("full, align otdd", "satellite")
    }
    assert not [line for line in lines if (line["row"], line["task"]) == ("full, align otdd", "ninapro")]


def test_frames_without_published_numbers_have_a_table_of_their_own() -> None:
    own = dataclasses.replace(RUN, task="ecg", metric="macro_f1", higher_is_better=True)
    main, further = tables(NB360, [RUN, own])
    assert [column.task for column in main.columns] == ["satellite"]
    assert [column.task for column in further.columns] == ["ecg"]
    assert further.title.endswith("no published numbers")
    assert {whose for _, whose, _ in further.rows} == {"ours"}
    (alone,) = tables(FAMILIES.get("pdebench"), [dataclasses.replace(RUN, task="shallow-water-hard", synthetic=True)])
    assert alone.rows[-1][0] == "full, align otdd"
    assert "do not compare with published ones" in alone.notes[0]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.rows], ids=lambda family: family.name)
def test_a_column_is_measured_by_what_its_task_chooses_by(family) -> None:
    """Else its baselines, which know that metric alone, have no number."""
    for column in family.columns:
        assert TASKS.get(column.task).metric == column.metric, column.task


def test_a_task_of_another_family_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "nb360", "--tasks", "advection", "--store", str(tmp_path)])
    assert result.exit_code == 2
    assert "nb360 has no task advection; it has: cifar100, spherical" in result.stderr


def test_the_command_writes_its_tables_and_does_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(settings(tmp_path, save_tiny_body(tmp_path / "body"))))
    family = Family("small", "small", (Column("tiny", "Tiny", "error", 100),), {"ORCA": (1.0,)})
    monkeypatch.setitem(FAMILIES._specs, "small", family)
    monkeypatch.setattr("orca.sweeps.cells.find_config", lambda name: config)
    asked = ["bench", "small", "--methods", "head,full", "--seeds", "0,1", "--json", "--store"]
    # A server of the command's own would leave Prefect's workers behind for the tests after this.
    with recording(), in_turn():
        first = CliRunner().invoke(app, [*asked, str(tmp_path / "there")])
        (tmp_path / "there").rename(tmp_path / "store")
        monkeypatch.setattr("orca.runtime.commit", lambda: "of the second")  # the runs are of the first
        second = CliRunner().invoke(app, [*asked, str(tmp_path / "store")])
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    found = json.loads(first.stdout)
    assert all({"commit", "machine", "versions"} <= set(run) for run in found["runs"])
    assert len(found["runs"]) == 4
    assert {line["metric"] for line in found["runs"]} == {"error"}
    assert json.loads(second.stdout)["runs"] == found["runs"]
    assert "0 to do" in second.stderr
    folder = tmp_path / "store" / "benches" / "small"
    assert sorted(path.name for path in folder.iterdir()) == ["small.csv", "small.json", "small.md"]
    text = (folder / "small.md").read_text()
    assert "| head, align otdd |" in text
    assert text.count("\nCommit ") == 1
    assert "of the second" not in text
    assert "| ORCA | 1 |" in text
