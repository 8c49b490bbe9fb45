"""Figures of the predictions on the test set, one kind for each kind of target."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from orca.confusions import confusion
from orca.dense import relative_errors
from orca.metrics import label_aurocs
from orca.report.data import RunData, show
from orca.report.masks import Shown, masks
from orca.report.style import CELL, FAINT, INK, ONE, TWO, WIDTH, bare, figure, safe, svg

NUMBERED_CLASSES, NAMED_LABELS, POINTS = 12, 30, 1000


def predictions(data: RunData) -> Shown | None:
    """The figure for this run's kind of target, None where predictions or layout are not stored."""
    scores, y = data.arrays.get("test_scores"), data.arrays.get("test_y")
    if scores is None or y is None or data.layout is None or not len(y):
        return None
    kinds = {"classes": _confusion, "multilabel": _labels, "scalar": _scatter, "field": _fields, "mask": masks}
    return kinds[data.layout.target](data, scores, y)


def _confusion(data: RunData, scores: np.ndarray, y: np.ndarray) -> Shown:
    counts = confusion(scores, y)
    k = len(counts)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [safe(data.class_name(i), 14) for i in range(k)]
    every = max(1, -(-k // 24))
    with figure(WIDTH) as fig:
        ax = fig.subplots()
        cells = np.empty((k, k, 4))
        cells[..., :3], cells[..., 3] = CELL, share
        ax.imshow(cells, interpolation="none")
        ticks = range(0, k, every)
        turned = 90 if max(map(len, names)) > 3 and k > 4 else 0
        ax.set_xticks(ticks, names[::every], rotation=turned)
        ax.set_yticks(ticks, names[::every])
        ax.set_xlabel("predicted class")
        ax.set_ylabel("true class")
        ax.spines[:].set_visible(True)
        if k <= NUMBERED_CLASSES:
            for (i, j), n in np.ndenumerate(counts):
                color = "white" if share[i, j] > 0.5 else (INK if n else FAINT)
                ax.text(j, i, str(n), ha="center", va="center", fontsize=8, color=color)
        right = int(np.trace(counts))
        drawn = svg(fig, "confusion", f"Confusion matrix of {k} classes: {right} of {len(y)} test samples are right")
    cell = "Numbers are samples; colour" if k <= NUMBERED_CLASSES else "Colour"
    worst = _worst_pairs(data, counts)
    return Shown(drawn, f"Confusion matrix on the test set. {cell} is the share of the true class.{worst}")


def _worst_pairs(data: RunData, counts: np.ndarray) -> str:
    off = counts - np.diag(np.diag(counts))
    top = [np.unravel_index(i, off.shape) for i in np.argsort(-off, axis=None, kind="stable")[:3]]
    named = [f"{data.class_name(int(i))} as {data.class_name(int(j))} ({off[i, j]})" for i, j in top if off[i, j]]
    return f" Most frequent confusions: {', '.join(named)}." if named else " There is no error."


def _labels(data: RunData, scores: np.ndarray, y: np.ndarray) -> Shown:
    value = label_aurocs(scores, y)
    order = np.argsort(-np.nan_to_num(value, nan=-1), kind="stable")
    order = order[np.isfinite(value[order])]
    left_out = len(value) - len(order)
    named = len(order) <= NAMED_LABELS
    with figure(0.8 + 0.19 * len(order) if named else 2.6) as fig:
        ax = fig.subplots()
        rank = np.arange(len(order))
        if named:
            ax.hlines(rank, 0.5, value[order], color=FAINT, linewidth=1)
            ax.plot(value[order], rank, "o", color=ONE)
            ax.set_yticks(rank, [safe(data.class_name(int(i)), 22) for i in order])
            ax.invert_yaxis()
            ax.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
            ax.set_xlabel("AUROC (0.5 is chance)")
        else:
            ax.plot(rank + 1, value[order], color=ONE)
            ax.axhline(0.5, color=INK, linewidth=0.8, linestyle=":")
            ax.set_xlabel("rank of the label")
            ax.set_ylabel("AUROC (0.5 is chance)")
        best = f"from {show(float(value[order[-1]]))} to {show(float(value[order[0]]))}" if len(order) else "none"
        drawn = svg(fig, "labels", f"AUROC of each of {len(order)} labels on the test set: {best}")
    rest = f" Left out, as always or never present: {left_out}." if left_out else ""
    return Shown(drawn, f"AUROC of each label on the test set, best first; the dotted line is chance.{rest}")


def _scatter(data: RunData, scores: np.ndarray, y: np.ndarray) -> Shown:
    k = min(y.shape[1], 4)
    rows = np.linspace(0, len(y) - 1, min(len(y), POINTS)).astype(int)
    columns = 1 if k == 1 else 2
    with figure(WIDTH * (0.85 if k == 1 else 0.52 * -(-k // 2))) as fig:
        axes = fig.subplots(-(-k // columns), columns, squeeze=False).ravel()
        for j, ax in enumerate(axes):
            if j >= k:
                ax.set_visible(False)
                continue
            true, predicted = y[rows, j], scores[rows, j]
            ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
            ax.plot(ends, ends, color=INK, linewidth=0.8, linestyle=":")
            ax.plot(true, predicted, "o", color=ONE, alpha=0.45, markersize=3, markeredgewidth=0)
            name = safe(data.class_name(j)) if data.layout and data.layout.classes else ""
            ax.set(xlabel="true (units of the target)", ylabel="predicted", title=name)
        drawn = svg(fig, "scatter", f"Predicted against true values of {len(rows)} test samples")
    some = f" {len(rows)} of {len(y)} samples, evenly spaced." if len(rows) < len(y) else ""
    more = f" The first {k} of {y.shape[1]} targets." if k < y.shape[1] else ""
    return Shown(drawn, f"Predicted against true values on the test set; on the dotted line they agree.{some}{more}")


def _fields(data: RunData, scores: np.ndarray, y: np.ndarray) -> Shown:
    errors = relative_errors(scores, y)
    ranked = np.argsort(errors, kind="stable")
    picks = dict(zip(("best", "median", "worst"), ranked[[0, len(ranked) // 2, -1]], strict=True))
    if y.ndim == 3:
        with figure(1.75 * len(picks)) as fig:
            axes = fig.subplots(len(picks), 1, sharex=True)
            for ax, (word, i) in zip(axes, picks.items(), strict=True):
                _lines(ax, y[i, 0], scores[i, 0], f"{word}: relative error {show(float(errors[i]))}")
            axes[-1].set_xlabel("position (grid points)")
            fig.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside upper left")
            drawn = svg(
                fig, "fields", "Predicted and true fields of three test samples as lines, with their difference"
            )
    else:
        tall = min(max(y.shape[2] / y.shape[3], 0.4), 2.0)
        with figure((0.1 + 1.05 * tall) * len(picks) + 0.3) as fig:
            axes = fig.subplots(len(picks), 3)
            for row, (word, i) in zip(axes, picks.items(), strict=True):
                _images(fig, row, y[i, 0], scores[i, 0])
                row[0].set_ylabel(f"{word}\n{show(float(errors[i]))}")
            for ax, title in zip(axes[0], ("truth", "prediction", "difference"), strict=True):
                ax.set_title(title)
            drawn = svg(
                fig, "fields", "True and predicted fields of three test samples as images, with their difference"
            )
    channel = f" Channel 1 of {y.shape[1]}." if y.shape[1] > 1 else ""
    scale = (
        " Truth and prediction share one colour scale; the difference is prediction minus truth." if y.ndim > 3 else ""
    )
    caption = "Test samples with the best, the median and the worst relative error (the number at the left)."
    return Shown(drawn, (caption if y.ndim > 3 else caption.replace(" (the number at the left)", "")) + scale + channel)


def _lines(ax: Axes, true: np.ndarray, predicted: np.ndarray, title: str) -> None:
    ax.plot(true, color=INK, linewidth=2.2, alpha=0.45, label="truth")
    ax.plot(predicted, color=ONE, linewidth=1.2, label="prediction")
    ax.plot(predicted - true, color=TWO, linewidth=0.9, linestyle="--", label="difference")
    ax.set_title(title, loc="left")
    ax.set_ylabel("value")


def _images(fig: Figure, row: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> None:
    predicted = np.where(np.isnan(true), np.nan, predicted)  # cells that do not count stay blank
    low, high = float(np.nanmin([true, predicted])), float(np.nanmax([true, predicted]))
    off = float(np.nanmax(np.abs(predicted - true))) or 1.0
    row[0].imshow(true, cmap="viridis", vmin=low, vmax=high, interpolation="none")
    shared = row[1].imshow(predicted, cmap="viridis", vmin=low, vmax=high, interpolation="none")
    difference = row[2].imshow(predicted - true, cmap="PuOr", vmin=-off, vmax=off, interpolation="none")
    for ax in row:
        bare(ax)
    for ax, image in ((row[:2], shared), (row[2], difference)):
        bar = fig.colorbar(image, ax=ax, pad=0.02, aspect=14)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.locator_params(nbins=3)
        bar.ax.tick_params(labelsize=7)
