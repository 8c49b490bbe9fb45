"""What a method costs and what it reaches: the metric against the parameters that train, a panel for each task."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from orca.report.data import metric_label, show
from orca.report.style import INK, ONE, THREE, TWO, figure, safe, svg
from orca.runtime import canonical

COLOURS, MARKERS = (ONE, TWO, THREE, INK), "osD^vP"
PANEL = 2.3  # inches
LINE = 10  # points between labels that would stand on each other
HAIR = {"arrowstyle": "-", "linewidth": 0.4, "color": INK, "shrinkA": 2, "shrinkB": 4}
Row = Mapping[str, Any]


def tradeoff(rows: Sequence[Row], places: Sequence[str] = ()) -> Markup | None:
    """Points of methods, in a colour and a mark for each alignment, with the spread over seeds; None without a run.

    Args:
        rows: as ``orca.sweeps.comparison.compared`` gives them.
        places: their axes; what varies beside task, alignment and seed names a point.
    """
    known = [row for row in rows if row[row["by"]]["mean"] is not None and row["trained"] is not None]
    tasks, aligns = (list(dict.fromkeys(row[axis] for row in known)) for axis in ("task", "align"))
    if not known:
        return None
    looks = dict(zip(aligns, zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False), strict=False))
    varied = [a for a in places if a not in ("task", "align") and len({canonical(row[a]) for row in known}) > 1]
    named = ["variant"] if "variant" in varied else varied or ["method"]
    labels: dict[Axes, dict[str, tuple[float, float]]] = {}
    with figure(0.4 + PANEL * len(tasks)) as fig:
        for task, ax in zip(tasks, fig.subplots(len(tasks), 1, squeeze=False)[:, 0], strict=True):
            here = [row for row in known if row["task"] == task]
            for align in aligns:
                mine = [row for row in here if row["align"] == align]
                colour, marker = looks[align]
                ax.errorbar(
                    [row["trained"] for row in mine], [row[row["by"]]["mean"] for row in mine],
                    yerr=[row[row["by"]]["spread"] or 0 for row in mine], linestyle="none", marker=marker, color=colour,
                    elinewidth=0.8, label=safe(f"align {align}"),
                )  # fmt: skip
            labels[ax] = {  # one label beside the last of the points of that name
                ", ".join(str(row[axis]) for axis in named): (row["trained"], row[row["by"]]["mean"]) for row in here
            }
            trained = [row["trained"] for row in here if row["trained"]] or [1]
            if len(trained) < len(here):  # nothing trains in some: zero has a place of its own
                ax.set_xscale("symlog", linthresh=min(trained))
            else:
                ax.set_xscale("log")
                close = max(trained) < 30 * min(trained)
                ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if close else (1,)))
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.margins(x=0.15, y=0.15)
            ax.set_title(safe(task), loc="left")
            on = "" if here[0]["by"] == "test" else f", {here[0]['by']}"
            ax.set_ylabel(safe(metric_label(here[0]["metric"]) + on, 40))
            if ax.get_subplotspec().is_last_row():
                ax.set_xlabel("parameters that train")
        if len(aligns) > 1:
            handles, legend = fig.axes[0].get_legend_handles_labels()
            fig.legend(handles, legend, loc="outside upper right", ncols=len(legend))
        fig.draw_without_rendering()  # from here on places on the page are known
        for ax, points in labels.items():
            _label(ax, points)
        words = "; ".join(
            f"{row['task']}, {row['method']}, {row['align']}: {show(row[row['by']]['mean'])}" for row in known
        )
        return svg(fig, "tradeoff", f"{known[0]['by'].capitalize()} metric against trained parameters: {words}")


def _label(ax: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Writes names beside their points, left of those at the right, each a line higher while it stands on another.

    A hair leads from a name that had to move to its point.
    """
    placed: list[Bbox] = []
    page = ax.get_window_extent()
    for name, point in sorted(points.items(), key=lambda item: item[1][::-1]):
        text = ax.annotate(safe(name, 24), point, xytext=(5, 3), textcoords="offset points", fontsize=8)
        text.set_in_layout(False)
        if text.get_window_extent().x1 > page.x1:
            text.set_horizontalalignment("right")
            text.xyann = (-5, 3)
        while any(text.get_window_extent().overlaps(other) for other in placed):
            text.xyann = (text.xyann[0], text.xyann[1] + LINE)
        placed.append(text.get_window_extent())
        if text.xyann[1] > 3:
            ax.annotate("", point, xytext=text.xyann, textcoords="offset points", arrowprops=HAIR).set_in_layout(False)
