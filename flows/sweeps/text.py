"""What a sweep or a comparison prints: its trials if it searches, its runs, and means over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.terminal import table
from orca.runtime import number

HONEST = "The test set was opened once per run, after validation had chosen the epoch; choose among rows by validation."
CLOSED = "Test sets were not opened: the grid ends with finetune. orca resume RUN opens that of one run, at the end."
NONE = "No run is completed."
CHOSEN = "The test set was opened for the best trial of each study alone, once per run, after validation had chosen it."


def ended_text(row: Mapping[str, Any]) -> str:
    """One line for a run, or a trial of a search, that has ended."""
    varied = [
        str(row[key]) if key == "variant" else f"{key} {row[key]}" for key in row if key == "variant" or "." in key
    ]
    name = f"{row.get('run')} ({', '.join(varied)})" if varied else row.get("run")
    closed = row.get("test") is None and row.get("validation") is not None
    said = f"validation {number(row['validation'])}" if closed else f"{row.get('metric')} {number(row.get('test'))}"
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


def means_text(document: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The rows of the table over their seeds, one line for each place in the grid, and how to read them."""
    from orca.sweeps.comparison import places_of, reading, tables

    if not rows:
        return ""
    told = [f"{table(lines, header)}\n" for header, lines in tables(rows, places_of(document))]
    opened = CHOSEN if "trials" in document else HONEST
    if not any(row["seeds"] for row in rows):
        opened = NONE
    return "\n".join([*told, reading(rows), opened if document.get("by", "test") == "test" else CLOSED])


def _axes(document: Mapping[str, Any]) -> list[str]:
    """Task, body, align, method and seed, and the settings that the grid names."""
    return document.get("axes", ["task", "body", "align", "method", "seed"])  # older tables name none


def _cell(value: Any) -> str:
    return number(value) if value is None or isinstance(value, float) else str(value)
