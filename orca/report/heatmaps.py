"""Figures of dataset distances: the ranking, the distances between labels, the mass moved between labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from orca.report.data import short, show
from orca.report.style import CELL, FAINT, INK, ONE, TWO, WIDTH, figure, safe, svg

NUMBERED, NAMED = 12, 40  # labels up to which cells have numbers, and ticks all their names
Record = Mapping[str, Any]
Figure = tuple[Markup, str]


def ranking(records: Sequence[Record]) -> Figure:
    """Bars of the distances of all sets from the first, nearest on top; the part between the means is paler."""
    known = all(r["between_means"] is not None for r in records)
    end = max(max(r["value"] for r in records), 0.0) or 1.0
    with figure(0.75 + 0.34 * len(records)) as fig:
        ax = fig.subplots()
        for i, record in enumerate(records):
            value = record["value"]
            ax.barh(i, value, height=0.62, color=ONE)
            if known:
                ax.barh(i, min(max(record["between_means"], 0), value), height=0.62, color=FAINT)
            ax.text(max(value, 0) + 0.02 * end, i, show(value), va="center")
        ax.set_yticks(range(len(records)), [safe(short(r["b"])) for r in records])
        ax.invert_yaxis()
        ax.set_xlim(min([0.0, *(r["value"] for r in records)]), 1.2 * end)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel(f"distance from {safe(short(records[0]['a']))}")
        words = "; ".join(f"{r['b']} {show(r['value'])}" for r in records)
        drawn = svg(fig, "ranking", f"Bar chart of dataset distances from {records[0]['a']}: {words}")
    return drawn, "Grey: the part that lies between the means of the two sets; blue: the rest." if known else ""


def label_distances(record: Record, name: str) -> Figure:
    """Heat map of the distances between labels, strong where near; the nearest of each row has a frame."""
    values = np.array(record["label_distances"], dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    shade = 1 - (values - low) / ((high - low) or 1.0)
    words = [[_cell(v) for v in row] for row in values]
    drawn = _heat_map(record, 0.06 + 0.88 * shade, words, name=name, frames=values.argmin(1), what="Label distances")
    between = f"from {show(low)} (strongest colour) to {show(high)} (faintest)"
    return drawn, f"Distances between labels, {between}. A frame marks the nearest in each row."


def label_mass(record: Record, name: str) -> Figure:
    """Heat map of the mass moved between labels, in per cent; colour is the share of the source label's mass."""
    mass = np.array(record["label_mass"], dtype=np.float64)
    share = mass / np.maximum(mass.sum(1, keepdims=True), 1e-300)
    words = [[f"{100 * m:.1f}" for m in row] for row in mass]
    drawn = _heat_map(record, share, words, name=name, frames=None, what="Mass moved between labels")
    cell = "Numbers are per cent of all mass; colour" if max(mass.shape) <= NUMBERED else "Colour"
    return drawn, f"Mass that the plan moves between labels. {cell} is the share of the row's label."


def _heat_map(
    record: Record, shade: np.ndarray, words: list[list[str]], *, name: str, frames: np.ndarray | None, what: str
) -> Markup:
    """Cells (K, L) whose opacity is ``shade``, with their words where there are few."""
    rows, cols = shape = shade.shape
    with figure(float(np.clip(0.8 * WIDTH * rows / cols, 1.0, 1.3 * WIDTH)) + 0.8) as fig:
        ax = fig.subplots()
        cells = np.empty((rows, cols, 4))
        cells[..., :3], cells[..., 3] = CELL, shade
        ax.imshow(cells, interpolation="none", aspect="auto")
        _names(ax, record, (rows, cols))
        if max(rows, cols) <= NUMBERED:
            for i, j in np.ndindex(*shape):
                color = "white" if shade[i, j] > 0.7 else INK
                ax.text(j, i, words[i][j], ha="center", va="center", fontsize=7, color=color)
        for i, j in enumerate([] if frames is None else frames):
            xs, ys = [j - 0.5, j + 0.5, j + 0.5, j - 0.5, j - 0.5], [i - 0.5, i - 0.5, i + 0.5, i + 0.5, i - 0.5]
            ax.plot(xs, ys, color=TWO, linewidth=1.2, clip_on=False)
        return svg(fig, name, f"{what}: {rows} labels of {record['a']} against {cols} of {record['b']}")


def _names(ax: Axes, record: Record, shape: tuple[int, int]) -> None:
    """Labels as ticks, some of them where there are many."""
    sides = (record["source_labels"], record["target_labels"])
    steps = [max(1, -(-count // NAMED)) for count in shape]
    left, below = ([safe(label, 14) for label in labels] for labels in sides)
    small = 8 if max(shape) <= 24 else 5.5
    turned = 90 if max(map(len, below)) > 3 and shape[1] > 4 else 0
    ax.set_yticks(range(0, shape[0], steps[0]), left[:: steps[0]], fontsize=small)
    ax.set_xticks(range(0, shape[1], steps[1]), below[:: steps[1]], rotation=turned, fontsize=small)
    ax.set_ylabel(safe(short(record["a"])))
    ax.set_xlabel(safe(short(record["b"])))
    ax.spines[:].set_visible(True)


def _cell(value: float) -> str:
    """A number of at most four signs where that is possible."""
    return (
        f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.1 or value == 0 else f"{value:.1g}"
    )
