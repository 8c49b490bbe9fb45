"""Runs that differ in nothing but the seed as one row, and how the rows of a task differ."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orca.runs import built_seconds, read_part
from orca.runtime import atomic_write, canonical, finite, number, write_json

Row = dict[str, Any]
Table = tuple[list[str], list[list[str]]]  # header and lines
AXES = ["task", "body", "align", "method", "seed"]  # of tables that name none, because they are older
LEVEL = 0.95  # of intervals


def places_of(document: Mapping[str, Any]) -> list[str]:
    """Task, body, align and method, and the settings that the grid names: the axes of a table but for the seed."""
    return [axis for axis in document.get("axes", AXES) if axis != "seed"]


def compared(document: Mapping[str, Any]) -> list[Row]:
    """The rows of a sweep's table over its seeds.

    Args:
        document: the table, as ``sweep.json`` holds it. The folders of completed runs are read.

    Returns:
        A row for each place of the grid, seeds apart: its place on each axis; ``metric`` and ``higher_is_better``;
        ``seeds`` that are completed ``of`` how many; ``by``, the metric that rows are compared by: validation where no
        test set was opened; ``test``, ``validation`` and ``seconds`` as ``mean`` and ``spread``, the sample standard
        deviation, None of one run; ``shift``, and the ``drop`` from the test metric to it, by name; ``kept``, how many
        of the aligned runs went on with an aligned embedder, and by how much the kept one is better by the probe, None
        where none was aligned; ``trained`` parameters; ``peak_memory_mb`` and
        ``peak_gpu_memory_mb``, the most of all seeds, None without a GPU; the ``difference`` to the task's first row,
        as in :func:`paired`, None where the metric is another; ``rank``, the mean over tasks of its place among rows,
        1 the best, None where there is one task, or one lacks this row.
    """
    groups: dict[str, tuple[Row, list[Mapping[str, Any]]]] = {}
    places = places_of(document)
    for run in document["runs"]:
        place = {axis: run[axis] for axis in places}
        groups.setdefault(canonical(place), (place, []))[1].append(run)
    by = document.get("by", "test")
    rows, values = [], []
    for place, members in groups.values():
        done = [run for run in members if run["state"] == "completed"]
        values.append({run["seed"]: run[by] for run in done if run[by] is not None})
        metric = {name: (done or members)[0].get(name) for name in ("metric", "higher_is_better")}
        spreads = {name: spread([run[name] for run in done]) for name in ("test", "validation")}
        rows.append(
            {**place, **metric, "seeds": len(done), "of": len(members), "by": by, **spreads, **_of_records(done, by)}
        )
    first: dict[str, int] = {}
    for at, row in enumerate(rows):
        reference = first.setdefault(row["task"], at)
        alike = row["metric"] == rows[reference]["metric"]
        row["difference"] = paired(values[at], values[reference]) if alike and at != reference else None
    _rank(rows, places)
    return [finite(row) for row in rows]


def write_comparison(folder: Path, document: Mapping[str, Any]) -> list[Row]:
    """Writes the rows as ``comparison.md``, ``.csv`` and ``.json``, and ``comparison.svg`` where a run is completed.

    Returns:
        The rows, as :func:`compared` gives them.
    """
    rows, places = compared(document), places_of(document)
    atomic_write(folder / "comparison.md", to_markdown(rows, places))
    atomic_write(folder / "comparison.csv", to_csv(rows, places))
    write_json(folder / "comparison.json", rows)
    if any(row["seeds"] for row in rows):
        from orca.report.alone import alone
        from orca.report.tradeoff import tradeoff

        if (drawn := tradeoff(rows, places)) is not None:
            atomic_write(folder / "comparison.svg", alone(drawn))
    return rows


def _of_records(done: Sequence[Mapping[str, Any]], by: str) -> Row:
    """What the folders of a row's runs tell beyond the sweep's table; of shift sets where test sets were opened."""
    records = [read_part(Path(run["path"]), "run.json") for run in done]
    shifts = dict.fromkeys(name for record in records for name in record["shift"] if by == "test")
    pairs = {name: [(record["shift"].get(name), record["metric"]["value"]) for record in records] for name in shifts}
    known = {name: [pair for pair in found if None not in pair] for name, found in pairs.items()}
    return {
        "shift": {name: spread([shift for shift, _ in found]) for name, found in known.items()},
        "drop": {name: spread([shift - test for shift, test in found])["mean"] for name, found in known.items()},
        "kept": _kept([record.get("alignment", {}) for record in records]),  # older records do not tell
        "trained": max((record["parameters"]["trained"] for record in records), default=None),
        "seconds": spread([_seconds(record, Path(run["path"])) for record, run in zip(records, done, strict=True)]),
        "peak_memory_mb": max((record["peak_memory_mb"] for record in records), default=None),
        "peak_gpu_memory_mb": max(filter(None, (r.get("peak_gpu_memory_mb") for r in records)), default=None),
    }


def _kept(reports: Sequence[Mapping[str, Any]]) -> Row | None:
    """What came of the alignments: ``runs``, ``kept`` and ``gain``, the mean of what the probe's error fell by."""
    probed = [report for report in reports if "kept" in report]
    if not probed:
        return None
    ends = [(report["probe_unaligned"], report["probe_kept"]) for report in probed]
    gain = spread([None if None in pair else pair[0] - pair[1] for pair in ends])["mean"]  # None was not finite
    return {"runs": len(probed), "kept": sum(report["kept"] != "unaligned" for report in probed), "gain": gain}


def _seconds(record: Mapping[str, Any], folder: Path) -> float | None:
    """What a run's stages took when they were done, those included that it shares with other runs."""
    built = [built_seconds(stage, folder.parent.parent) for stage in record["stages"]]
    known = [seconds for seconds in built if seconds is not None]
    return sum(known) if len(known) == len(built) else None


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and sample standard deviation of the values that are known; None of too few."""
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    return {"mean": mean, "spread": statistics.stdev(known) if len(known) > 1 else None}


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Row | None:
    """The mean difference over the seeds that both have, with Student's interval; None where there are none.

    Returns:
        ``mean``, ``low`` and ``high`` (None of a single seed, of which nothing is known), and ``seeds``.
    """
    both = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    if not both:
        return None
    found = spread(both)
    mean, deviation = found["mean"], found["spread"]
    assert mean is not None
    low = high = None
    if deviation is not None:
        from scipy.stats import t as student

        half = float(student.ppf((1 + LEVEL) / 2, len(both) - 1)) * deviation / len(both) ** 0.5
        low, high = mean - half, mean + half
    return {"mean": mean, "low": low, "high": high, "seeds": len(both)}


def _rank(rows: Sequence[Row], places: Sequence[str]) -> None:
    """Adds the mean over tasks of each row's place among the rows of its task; equal ones share the mean of theirs.

    A row of another metric than its task's first has none.
    """
    judged: dict[str, str | None] = {}
    for row in rows:
        judged.setdefault(row["task"], row["metric"])
    names = [canonical([row[axis] for axis in places if axis != "task"]) for row in rows]
    ranks: dict[str, list[float]] = {}
    for task in judged:
        mine = [
            (-row[row["by"]]["mean"] if row["higher_is_better"] else row[row["by"]]["mean"], name)
            for row, name in zip(rows, names, strict=True)
            if row["task"] == task and row["metric"] == judged[task] and row[row["by"]]["mean"] is not None
        ]
        for value, name in mine:
            better, equal = sum(other < value for other, _ in mine), sum(other == value for other, _ in mine)
            ranks.setdefault(name, []).append(better + (equal + 1) / 2)
    for row, name in zip(rows, names, strict=True):
        found = ranks.get(name, [])
        row["rank"] = statistics.fmean(found) if len(found) == len(judged) > 1 else None


def _shifts(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["shift"]))


def to_csv(rows: Sequence[Row], places: Sequence[str]) -> str:
    """The rows with all their numbers, a column for each; ``places`` are their axes."""
    flat = [{**{key: row[key] for key in places}, **_flat(row)} for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(row: Row) -> Row:
    plain = ("metric", "higher_is_better", "seeds", "of", "trained", "peak_memory_mb", "peak_gpu_memory_mb", "rank")
    nested = {name: row[name] for name in ("test", "validation", "seconds")}
    nested |= {f"shift_{name}": values for name, values in row["shift"].items()}
    nested["alignment"] = row["kept"] or dict.fromkeys(("runs", "kept", "gain"))
    nested["difference"] = row["difference"] or dict.fromkeys(("mean", "low", "high", "seeds"))
    parts = {f"{name}_{part}": value for name, values in nested.items() for part, value in values.items()}
    return {key: row[key] for key in plain} | parts | {f"drop_{name}": drop for name, drop in row["drop"].items()}


def tables(rows: Sequence[Row], places: Sequence[str]) -> list[Table]:
    """The tables for people, each its header and lines; an axis on which all rows agree is left out, but for the task.

    Shift sets are columns of the table where all tasks have the same ones. Else they have tables of their own, one for
    the tasks that share them: a column for the sets of each family would be empty in most lines.
    """
    varied = [axis for axis in places if axis == "task" or len({canonical(row[axis]) for row in rows}) > 1]
    of_task = {row["task"]: tuple(_shifts([one for one in rows if one["task"] == row["task"]])) for row in rows}
    kinds = [kind for kind in dict.fromkeys(of_task.values()) if kind]
    if len(kinds) < 2:
        return [_main(rows, varied, _shifts(rows))]
    return [_main(rows, varied, ())] + [
        _of_shifts([row for row in rows if of_task[row["task"]] == kind], varied, kind) for kind in kinds
    ]


def _main(rows: Sequence[Row], varied: Sequence[str], shifts: Sequence[str]) -> Table:
    ranked = ["rank"] if any(row["rank"] is not None for row in rows) else []
    tested = any(row["by"] == "test" for row in rows)
    header = [*varied, "metric", *(["test"] if tested else []), *(f"{name} (drop)" for name in shifts)]
    header += ["to the first row", "validation"]
    aligned = ["alignment kept"] if any(row["kept"] for row in rows) else []
    on_gpu = ["GPU MiB"] if any(row["peak_gpu_memory_mb"] for row in rows) else []
    header += [*aligned, "trained", "seconds", "MiB", *on_gpu, "seeds", *ranked]
    lines = []
    for row in rows:
        seeds = str(row["seeds"]) if row["seeds"] == row["of"] else f"{row['seeds']} of {row['of']}"
        line = [*(_cell(row[axis]) for axis in varied), row["metric"] or "-", *([_pair(row["test"])] if tested else [])]
        line += [*_drops(row, shifts), _interval(row["difference"]), _pair(row["validation"])]
        if aligned:
            line.append(f"{row['kept']['kept']} of {row['kept']['runs']}" if row["kept"] else "-")
        line += [number(row["trained"]), _pair(row["seconds"]), number(row["peak_memory_mb"])]
        line += [*([number(row["peak_gpu_memory_mb"])] if on_gpu else []), seeds]
        lines.append([*line, *([number(row["rank"])] if ranked else [])])
    return header, lines


def _of_shifts(rows: Sequence[Row], varied: Sequence[str], shifts: Sequence[str]) -> Table:
    header = [*varied, "metric", "test", *(f"{name} (drop)" for name in shifts)]
    places = [[*(_cell(row[axis]) for axis in varied), row["metric"] or "-", _pair(row["test"])] for row in rows]
    return header, [[*place, *_drops(row, shifts)] for place, row in zip(places, rows, strict=True)]


def _drops(row: Row, shifts: Sequence[str]) -> list[str]:
    """The metric on each shift set, and in brackets the drop to it."""
    found, drop = row["shift"], row["drop"]
    return [f"{_pair(found[name])} ({number(drop[name])})" if name in found else "-" for name in shifts]


def to_markdown(rows: Sequence[Row], places: Sequence[str]) -> str:
    """The tables for people, and how to read them."""
    parts = []
    for header, lines in tables(rows, places):
        ruled = [header, ["---"] * len(header), *lines]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in ruled))
    return "\n\n".join([*parts, reading(rows)]) + "\n"


def reading(rows: Sequence[Row]) -> str:
    """How to read the tables, in a paragraph."""
    better = {row["metric"]: row["higher_is_better"] for row in rows if row["metric"]}
    told = [f"{name}: {'higher' if higher else 'lower'} is better." for name, higher in better.items()]
    if any(row["of"] > 1 for row in rows):
        told.append("Mean ± standard deviation over seeds.")
    if found := {row["by"] for row in rows if row["difference"]}:
        told.append(
            f"To the first row: the mean difference of the {' or '.join(found)} metric, paired over seeds, with "
            f"Student's {LEVEL:.0%} interval where there are several; one that holds 0 tells no difference."
        )
    if _shifts(rows):
        told.append("Drop: the metric on the shift set less that on the test set.")
    if any(row["kept"] for row in rows):
        told.append("Alignment kept: the runs that went on with an aligned embedder.")
    if any(row["rank"] is not None for row in rows):
        told.append("Rank: the mean place over tasks, 1 is the best.")
    return " ".join(told)


def _pair(values: Mapping[str, float | None]) -> str:
    return number(values["mean"]) + ("" if values["spread"] is None else f" ± {number(values['spread'])}")


def _interval(found: Mapping[str, float | None] | None) -> str:
    if found is None:
        return "-"
    ends = "" if found["low"] is None else f" [{number(found['low'])}, {number(found['high'])}]"
    return f"{number(found['mean'])}{ends}"


def _cell(value: Any) -> str:
    return number(value) if value is None or isinstance(value, float) else str(value)
