"""What a method costs and what it reaches: the metric against the parameters that train, a panel for each task."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from orca.report.data import metric_label, show
from orca.report.style import INK, ONE, THREE, TWO, figure, safe, svg

COLOURS, MARKERS = (ONE, TWO, THREE, INK), "osD^vP"
PANEL = 2.3  # inches


def tradeoff(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Points of methods, in a colour and a mark for each alignment, with the spread over seeds; None without a run.

    Args:
        rows: as ``orca.sweeps.comparison.compared`` gives them.
    """
    known = [row for row in rows if row[row["by"]]["mean"] is not None and row["trained"] is not None]
    tasks, aligns = (list(dict.fromkeys(row[axis] for row in known)) for axis in ("task", "align"))
    if not known:
        return None
    looks = dict(zip(aligns, zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False), strict=False))
    with figure(0.4 + PANEL * len(tasks)) as fig:
        for task, ax in zip(tasks, fig.subplots(len(tasks), 1, squeeze=False)[:, 0], strict=True):
            here = [row for row in known if row["task"] == task]
            for align in aligns:
                mine = [row for row in here if row["align"] == align]
                colour, marker = looks[align]
                ax.errorbar(
                    [max(row["trained"], 1) for row in mine], [row[row["by"]]["mean"] for row in mine],
                    yerr=[row[row["by"]]["spread"] or 0 for row in mine], linestyle="none", marker=marker, color=colour,
                    elinewidth=0.8, label=safe(f"align {align}"),
                )  # fmt: skip
            for row in {row["method"]: row for row in here}.values():  # one label beside the last of its points
                ax.annotate(
                    safe(row["method"], 14), (max(row["trained"], 1), row[row["by"]]["mean"]), xytext=(5, 3),
                    textcoords="offset points", fontsize=8,
                )  # fmt: skip
            ax.set_xscale("log")
            ax.margins(x=0.15, y=0.15)
            ax.set_title(safe(task), loc="left")
            on = "" if here[0]["by"] == "test" else f", {here[0]['by']}"
            ax.set_ylabel(safe(metric_label(here[0]["metric"]) + on, 40))
            if ax.get_subplotspec().is_last_row():
                ax.set_xlabel("parameters that train")
        if len(aligns) > 1:
            handles, labels = fig.axes[0].get_legend_handles_labels()
            fig.legend(handles, labels, loc="outside upper right", ncols=len(labels))
        words = "; ".join(
            f"{row['task']}, {row['method']}, {row['align']}: {show(row[row['by']]['mean'])}" for row in known
        )
        return svg(fig, "tradeoff", f"{known[0]['by'].capitalize()} metric against trained parameters: {words}")
