"""How the time of an alignment epoch grows with the number of samples, of classes and of dimensions, and its figure.

One of the three varies about the sizes given, the others stay; both sets have as many samples and classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
NAMES = {"samples": "samples in each set", "classes": "classes in each set", "dim": "dimensions"}
LOOKS = {"joint": ("#0072b2", "o", "-"), "classwise": ("#d55e00", "s", "--"), "sliced": ("#009e73", "^", ":")}
STYLE: dict[Any, Any] = {
    "font.size": 10, "svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "growth",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
    "grid.linewidth": 0.6, "legend.frameon": False,
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Sizes of both sets: samples, classes and dimensions."""

    samples: int
    classes: int
    dim: int

    def times(self, name: str, factor: float) -> Sizes:
        """One of the three multiplied, at least 1, with a sample for each class."""
        made = replace(self, **{name: max(1, round(getattr(self, name) * factor))})
        return replace(made, samples=max(made.samples, made.classes))


def measure_growth(base: Sizes, seconds: Callable[[Sizes], Mapping[str, float]]) -> dict[str, list[dict[str, Any]]]:
    """Seconds of each kind of epoch at each size.

    Args:
        base: what is multiplied by ``FACTORS``, one number at a time.
        seconds: from sizes to the seconds of each kind.

    Returns:
        For ``samples``, ``classes`` and ``dim`` a list of points: ``at``, the number that varies, and ``seconds`` by
        kind.
    """
    made: dict[str, list[dict[str, Any]]] = {}
    for name in NAMES:
        sizes = [base.times(name, factor) for factor in FACTORS]
        made[name] = [{"at": getattr(size, name), "seconds": dict(seconds(size))} for size in sizes]
    return made


def exponent(points: Sequence[Mapping[str, Any]], kind: str) -> float | None:
    """The slope k of seconds = c at**k between the last point and that two before; None where the two are one size."""
    first, last = points[-3], points[-1]
    if first["at"] == last["at"]:
        return None
    return math.log(last["seconds"][kind] / first["seconds"][kind]) / math.log(last["at"] / first["at"])


def _seconds(value: float, _: Any) -> str:
    return f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms"


def _panel(ax: Axes, name: str, points: Sequence[Mapping[str, Any]]) -> None:
    at = [point["at"] for point in points]
    for kind in points[0]["seconds"]:
        colour, marker, dash = LOOKS[kind]
        k = exponent(points, kind)
        label = kind if k is None else f"{kind}: power {k:.1f}"
        seconds = [point["seconds"][kind] for point in points]
        ax.plot(at, seconds, color=colour, marker=marker, linestyle=dash, label=label)
    ax.set(xscale="log", yscale="log", xlabel=NAMES[name])
    ax.set_xticks(at, [f"{number:,}".replace(",", " ") for number in at])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(_seconds))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 1.0))


def draw(growth: Mapping[str, Sequence[Mapping[str, Any]]], base: Sizes, note: str, path: Path) -> None:
    """Three panels, both axes logarithmic, on white, so that they can be read in light and dark pages.

    Args:
        growth: as ``measure_growth`` returns it.
        base: the sizes that stay.
        note: what it was measured on, one line.
        path: an SVG or PNG file; its directory must exist.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2), layout="constrained", facecolor="white")
        axes = figure.subplots(1, len(NAMES), sharey=True)
        for ax, name in zip(axes, NAMES, strict=True):
            _panel(ax, name, growth[name])
            stay = {
                "samples": f"{base.samples} samples",
                "classes": f"{base.classes} classes",
                "dim": f"d = {base.dim}",
            }
            ax.set_title(", ".join(text for key, text in stay.items() if key != name), fontsize=10)
        low, high = axes[0].get_ylim()
        axes[0].set(ylim=(low, high * (high / low) ** 0.25))  # room for the legends, in all three
        axes[0].set_ylabel("value and gradient, once")
        figure.supxlabel(note, fontsize=8, color="#555555")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
