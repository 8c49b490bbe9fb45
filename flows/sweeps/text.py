"""What a sweep or a comparison prints: its trials if it searches, its runs, and means over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from flows.terminal import number, table
from orca.runtime import canonical

HONEST = "The test set was opened once per run, after validation had chosen the epoch; choose among rows by validation."
CHOSEN = "The test set was opened for the best trial of each study alone, once per run, after validation had chosen it."


def means(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mean and spread over the seeds of runs that differ in nothing else.

    The spread is the sample standard deviation, None of a single run. Runs that are not completed are counted in
    ``of`` alone.
    """
    groups: dict[str, tuple[dict[str, Any], list[Mapping[str, Any]]]] = {}
    for row in document["runs"]:
        place = {axis: row[axis] for axis in _axes(document) if axis != "seed"}
        groups.setdefault(canonical(place), (place, []))[1].append(row)
    found = []
    for place, members in groups.values():
        done = [row for row in members if row["state"] == "completed"]
        metric = {name: (done or members)[0].get(name) for name in ("metric", "higher_is_better")}
        values = {name: _spread([row[name] for row in done]) for name in ("test", "validation")}
        found.append({**place, **metric, "seeds": len(done), "of": len(members), **values})
    return found


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    return {"mean": mean, "spread": statistics.stdev(known) if len(known) > 1 else None}


def ended_text(row: Mapping[str, Any]) -> str:
    """One line for a run, or a trial of a search, that has ended."""
    name, said = row.get("run"), f"{row.get('metric')} {number(row.get('test'))}"
    if "trial" in row:
        name = f"{row['task']} {row['body']} {row['align']} {row['method']}, trial {row['trial']}"
        said = f"validation {number(row['validation'])}"
    if row["state"] == "pruned":
        said = f"pruned after {row['epochs']} epochs, {said}"
    if row["state"] == "failed":
        said = row["reason"].partition("\n")[0]
    return f"{name}: {said}"


def rows_text(document: Mapping[str, Any]) -> str:
    """All trials of a search, and all runs."""
    parts = [trials_text(document)] if document.get("trials") else []
    return "\n\n".join([*parts, runs_text(document)] if document["runs"] else parts)


def trials_text(document: Mapping[str, Any]) -> str:
    """The trials of a search, one a line; a test value has the best of each study alone."""
    varied = ["trial" if axis == "seed" else axis for axis in _axes(document)]
    lines = []
    for row in document["trials"]:
        numbers = [number(row.get("validation")), number(row.get("test")), str(row.get("epochs", 0))]
        reason = row.get("reason", "").partition("\n")[0]
        lines.append([*(_cell(row[key]) for key in varied), row["state"], row.get("metric", ""), *numbers, reason])
    return table(lines, [*varied, "state", "metric", "validation", "test", "epochs", "reason"])


def runs_text(document: Mapping[str, Any]) -> str:
    """All runs of a sweep, one a line."""
    varied = _axes(document)
    lines = []
    for row in document["runs"]:
        state = (
            row["state"] if row["state"] != "waiting" else f"waiting ({row['stages_done']} of {row['stages']} stages)"
        )
        numbers = [row.get("metric", ""), number(row.get("test")), number(row.get("validation"))]
        reason = row.get("reason", "").partition("\n")[0]
        lines.append([row["run"] or "-", *(_cell(row[key]) for key in varied), state, *numbers, reason])
    return table(lines, ["run", *varied, "state", "metric", "test", "validation", "reason"])


def means_text(document: Mapping[str, Any]) -> str:
    """Means over seeds, one line for each place in the grid, and how to read them."""
    rows = means(document)
    varied = [axis for axis in _axes(document) if axis != "seed"]
    lines = []
    for row in rows:
        seeds = str(row["seeds"]) if row["seeds"] == row["of"] else f"{row['seeds']} of {row['of']}"
        cells = [_cell(row[key]) for key in varied]
        lines.append([*cells, row["metric"] or "-", _pair(row["test"]), _pair(row["validation"]), seeds])
    better = {row["metric"]: row["higher_is_better"] for row in rows if row["metric"]}
    notes = [f"{name}: {'higher' if higher else 'lower'} is better" for name, higher in better.items()]
    if not rows:
        return ""
    header = [*varied, "metric", "test", "validation", "seeds"]
    spread = "Mean ± standard deviation over seeds. " if any(row["of"] > 1 for row in rows) else ""
    return "\n".join(
        [table(lines, header), "", f"{spread}{'; '.join(notes)}.", CHOSEN if "trials" in document else HONEST]
    )


def _axes(document: Mapping[str, Any]) -> list[str]:
    """Task, body, align, method and seed, and the settings that the grid names."""
    return document.get("axes", ["task", "body", "align", "method", "seed"])  # older tables name none


def _cell(value: Any) -> str:
    return number(value) if value is None or isinstance(value, float) else str(value)


def _pair(values: Mapping[str, float | None]) -> str:
    return number(values["mean"]) + ("" if values["spread"] is None else f" ± {number(values['spread'])}")
