"""The report of dataset distances: one self-contained HTML page, and its figures as files of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from orca.errors import InputError
from orca.report.alone import alone
from orca.report.data import short, show
from orca.report.template import template
from orca.runtime import atomic_write, write_json

PAIRS = 8  # rows of the table of nearest labels
PAGE = (".html", ".htm")
READING = (
    "Read it as: how much it costs to turn the one set into the other, labels included, in this space. Values "
    "compare within one first set, one space, one sample size and one set of settings. A lower value is no promise "
    "that a model learns more from the one than from the other."
)
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A figure and its caption."""

    figure: Markup
    caption: str


def report_paths(output: Path) -> tuple[Path, bool]:
    """Where the page goes, and whether a folder was asked for: then data and figures lie beside it.

    Raises:
        InputError: ``output`` is a file that is no HTML page.
    """
    if output.suffix.lower() in PAGE:
        return output, False
    if output.is_file() or (output.suffix and not output.is_dir()):
        raise InputError(f"the report goes into a folder or a file .html; got {output}")
    return output / "otdd.html", True


def write_distances(output: Path, records: Sequence[Record]) -> Path:
    """Writes the page; into a folder ``otdd.json`` and each figure as ``.svg`` as well.

    Args:
        output: a folder, or a file whose name ends in .html.
        records: what ``orca.labelled.compare`` returned, nearest first, all from one first set.

    Returns:
        The page's path.

    Raises:
        InputError: as ``report_paths``, or the place cannot be written.
    """
    path, folder = report_paths(output)
    figures = draw(records)
    try:
        atomic_write(path, render_distances(records, figures))
        if folder:
            write_json(path.parent / "otdd.json", list(records))
            for name, drawn in figures.items():
                atomic_write(path.parent / f"{name}.svg", alone(drawn.figure))
    except (FileExistsError, NotADirectoryError) as fault:
        raise InputError(f"the report cannot be written to {path}: {fault.strerror}; name another place") from fault
    return path


def draw(records: Sequence[Record]) -> dict[str, Drawn]:
    """All figures by name: ``ranking`` for several records, ``distances-N`` and ``mass-N`` for each."""
    from orca.report import heatmaps  # matplotlib takes a second: only when a page is made

    found = {"ranking": heatmaps.ranking(records)} if len(records) > 1 else {}
    for i, record in enumerate(records, start=1):
        if record["label_distances"] is not None and np.any(record["label_distances"]):
            found[f"distances-{i}"] = heatmaps.label_distances(record, f"distances-{i}")
        if record["label_mass"] is not None:
            found[f"mass-{i}"] = heatmaps.label_mass(record, f"mass-{i}")
    return {name: Drawn(*each) for name, each in found.items()}


def nearest_labels(record: Record, most: int = PAIRS) -> list[dict[str, Any]]:
    """The nearest pairs of labels, nearest first: {"source", "target", "distance", "mass"}; empty where unknown."""
    table, mass = record["label_distances"], record["label_mass"]
    if table is None or mass is None or not np.any(table):
        return []
    values = np.array(table)
    order = np.argsort(values, axis=None, kind="stable")[:most]
    places = [np.unravel_index(i, values.shape) for i in order]
    return [
        {"source": record["source_labels"][i], "target": record["target_labels"][j],
         "distance": float(values[i, j]), "mass": mass[i][j]}
        for i, j in places
    ]  # fmt: skip


def render_distances(records: Sequence[Record], figures: Mapping[str, Drawn] | None = None) -> str:
    """The page as text, which asks nothing of the network and needs no script; the same records give the same page."""
    drawn = draw(records) if figures is None else figures
    first, settings = short(records[0]["a"]), records[0]["settings"]
    shown = show(settings["spread"] ** (settings["p"] / 2))
    pairs = [
        {**r, "distances": drawn.get(f"distances-{i}"), "mass": drawn.get(f"mass-{i}"), "nearest": nearest_labels(r),
         "short": {side: short(r[side]) for side in ("a", "b")}}
        for i, r in enumerate(records, start=1)
    ]  # fmt: skip
    return template("distances.html.j2", show=show).render(
        title=f"{first} and {short(records[0]['b']) if len(records) == 1 else f'{len(records)} others'}",
        first=first,
        settings={**settings, "spread_shown": shown},
        unit="squared features" if settings["p"] == 2 else "features",
        pairs=pairs,
        bars=drawn["ranking"].figure if "ranking" in drawn else None,
        means_caption=drawn["ranking"].caption if "ranking" in drawn else "",
        reading=READING,
        facts={
            "Settings": {k.replace("_", " "): _text(v) for k, v in settings.items() if v is not None},
            "Versions": records[0]["versions"],
        },
    )


def _text(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else show(value)
