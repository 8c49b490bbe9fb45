"""Figure of predicted masks: what was found, missed and called without reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from orca.dense import balanced_error, outcomes
from orca.report.data import RunData, show
from orca.report.style import WIDTH, bare, figure, svg


@dataclass(frozen=True)
class Shown:
    """A figure and its caption."""

    figure: Markup
    caption: str


def masks(data: RunData, scores: np.ndarray, y: np.ndarray) -> Shown:
    """Truth and prediction of the test samples with the least, the median and the greatest balanced error.

    Args:
        data: the run.
        scores: logits, (n, C, *S); the first channel is shown.
        y: masks of 0 and 1, -1 where a cell does not count.
    """
    errors = balanced_error(outcomes(scores, y))
    ranked = np.argsort(errors, kind="stable")[: max(1, int(np.isfinite(errors).sum()))]  # NaN is last
    picks = dict(zip(("best", "median", "worst"), ranked[[0, len(ranked) // 2, -1]], strict=True))
    with figure(WIDTH * 0.42 * len(picks)) as fig:
        axes = fig.subplots(len(picks), 2)
        for row, (word, i) in zip(axes, picks.items(), strict=True):
            for ax, on in zip(row, (y[i, 0], scores[i, 0]), strict=True):
                shown = np.atleast_2d(np.where(y[i, 0] < 0, np.nan, on > 0))
                ax.imshow(shown, cmap="cividis", vmin=0, vmax=1, interpolation="none", aspect="auto")
                bare(ax)
            row[0].set_ylabel(f"{word}\n{show(float(errors[i]))}")
        axes[0][0].set_title("truth")
        axes[0][1].set_title("prediction")
        drawn = svg(fig, "masks", "True and predicted masks of three test samples as images")
    caption = (
        "Test samples with the best, the median and the worst balanced error (the number at the left); bright cells "
        "are 1, by the model where the logit is above 0, and blank ones do not count."
    )
    return Shown(drawn, caption)
