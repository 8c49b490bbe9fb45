"""The tables of a family: those on the published files, beside published numbers, and those on generated data alone."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orca.bench.families import Column, Family
from orca.runtime import finite

TRIVIAL = ("majority", "mean")
FURTHER = "harder or more honest frames, no published numbers"
SYNTHETIC = "Generated data in the published format: these numbers do not compare with published ones."


@dataclass(frozen=True)
class Measured:
    """What one run found.

    Attributes:
        task: its task.
        method: what trained, and how it was aligned.
        seed: its seed.
        values: test metrics by name.
        baselines: of its own metric, by name.
        metric: name of that metric.
        higher_is_better: its direction.
        synthetic: whether the data was generated.
    """

    task: str
    method: str
    seed: int
    values: Mapping[str, float]
    baselines: Mapping[str, float]
    metric: str
    higher_is_better: bool
    synthetic: bool

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return finite(asdict(self))


@dataclass(frozen=True)
class Table:
    """Rows of numbers over the tasks of a family.

    Attributes:
        title: what it is on.
        columns: the tasks.
        rows: (name, whose, cells); a cell is (mean, standard deviation over seeds or None), or None.
        notes: below it.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, str, tuple[tuple[float, float | None] | None, ...]], ...]
    notes: tuple[str, ...] = ()


def measured(record: Mapping[str, Any], metrics: Mapping[str, Any]) -> Measured:
    """A run as its ``run.json`` and ``metrics.json`` tell of it."""
    values = {metrics["test"]["name"]: metrics["test"]["value"], **metrics["others"]}
    return Measured(
        record["task"], f"{record['method']}, align {record['align']}", record["seed"],
        {name: value for name, value in values.items() if value is not None},
        {name: value for name, value in record["baselines"].items() if value is not None},
        record["metric"]["name"], record["metric"]["higher_is_better"], record["synthetic"],
    )  # fmt: skip


def tables(family: Family, runs: Sequence[Measured]) -> list[Table]:
    """Runs on published files, beside the published numbers, and runs on generated data; each with a second table.

    That second one has the frames of which nothing is published. A table without runs is left out.
    """
    out = []
    for synthetic, data in ((False, "published files"), (True, "generated data")):
        found = [run for run in runs if run.synthetic is synthetic]
        for further in (False, True):
            if columns := _columns(family, found, further=further):
                title = f"{family.title}, {data}" + (f": {FURTHER}" if further else "")
                beside, notes = ([], [SYNTHETIC]) if synthetic else ([], []) if further else _beside(family, columns)
                out.append(Table(title, columns, (*beside, *_rows(columns, found)), tuple(notes)))
    return out


def _columns(family: Family, runs: Sequence[Measured], *, further: bool) -> tuple[Column, ...]:
    there = {run.task for run in runs}
    return tuple(column for column in family.columns if column.task in there and column.further is further)


def _beside(family: Family, columns: Sequence[Column]) -> tuple[list[Any], list[str]]:
    """The published rows, and how their numbers came to be."""
    rows = [(name, "published", _published(family, row, columns)) for name, row in family.rows.items()]
    source = [f"Published: {family.source}. {family.caution}"] if family.source else []
    return rows, [*source, *(f"{column.title}: {column.caution}" for column in columns if column.caution)]


def _published(family: Family, row: Sequence[float | None], columns: Sequence[Column]) -> tuple[Any, ...]:
    known = dict(zip([column.task for column in family.columns if not column.further], row, strict=True))
    return tuple(None if known[column.task] is None else (known[column.task], None) for column in columns)


def _rows(columns: Sequence[Column], runs: Sequence[Measured]) -> list[tuple[str, str, tuple[Any, ...]]]:
    """Trivial and best classical baseline, then a row for each method."""
    rows = [
        ("trivial baseline", "ours", tuple(_baseline(column, runs, trivial=True) for column in columns)),
        ("best other baseline", "ours", tuple(_baseline(column, runs, trivial=False) for column in columns)),
    ]
    for method in dict.fromkeys(run.method for run in runs):
        cells = []
        for column in columns:
            own = [run for run in runs if run.method == method and run.task == column.task]
            values = [column.published(run.values[column.metric]) for run in own if column.metric in run.values]
            cells.append(_spread(values))
        rows.append((method, "ours", tuple(cells)))
    return rows


def _baseline(column: Column, runs: Sequence[Measured], *, trivial: bool) -> tuple[float, None] | None:
    """The baseline of a column where it was measured by the column's metric; baselines have no seeds."""
    run = next(run for run in runs if run.task == column.task)
    known = [value for name, value in run.baselines.items() if (name in TRIVIAL) is trivial]
    if not known or run.metric != column.metric:
        return None
    return column.published(max(known) if run.higher_is_better else min(known)), None


def _spread(values: Sequence[float]) -> tuple[float, float | None] | None:
    if not values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def to_markdown(table: Table) -> str:
    """A table of GitHub's Markdown with its title and notes."""
    header = ["", *(column.title for column in table.columns)]
    unit = ["", *(_unit(column) for column in table.columns)]
    lines = [[name, *map(_cell, cells)] for name, _, cells in table.rows]
    rows = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), unit, *lines]]
    return "\n".join([f"## {table.title}", "", *rows, "", *(f"- {note}" for note in table.notes)]).rstrip() + "\n"


def _unit(column: Column) -> str:
    name = column.metric.replace("_", " ")
    return ("1 - " if column.complement else "") + name + (", %" if column.scale == 100 else "")


def _cell(value: tuple[float, float | None] | None) -> str:
    if value is None:
        return "-"
    mean, spread = value
    return f"{mean:.3g}" + ("" if spread is None else f" ± {spread:.2g}")


def to_csv(found: Iterable[Table]) -> str:
    """All tables as one CSV: data, row, whose, task, metric, value, spread."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["table", "row", "whose", "task", "metric", "value", "spread"])
    for table in found:
        for name, whose, cells in table.rows:
            for column, cell in zip(table.columns, cells, strict=True):
                if cell is not None:
                    spread = "" if cell[1] is None else cell[1]
                    writer.writerow([table.title, name, whose, column.task, _unit(column), cell[0], spread])
    return stream.getvalue()
