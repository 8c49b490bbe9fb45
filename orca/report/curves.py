"""Figures of how a run went: the result beside its baselines, alignment, training."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from markupsafe import Markup

from orca.report.data import RunData, column, metric_label, metric_title, number, show
from orca.report.style import FAINT, INK, ONE, THREE, TWO, figure, safe, svg


def headline(data: RunData) -> Markup:
    """The test metric with its interval as a bar above the baselines'."""
    metric = data.metric
    name, value = metric.get("name", "metric"), number(metric.get("value"))
    low, high = (number(v) for v in (metric.get("ci95") or (None, None)))
    rows = [("this run", value), *((k, number(v)) for k, v in (data.run.get("baselines") or {}).items())]
    rows = [(k, v) for k, v in rows if np.isfinite(v)]
    end = max([abs(v) for _, v in rows] + [high if np.isfinite(high) else 0]) or 1.0
    with figure(0.75 + 0.3 * len(rows)) as fig:
        ax = fig.subplots()
        for i, (label, v) in enumerate(rows):
            ours = label == "this run"
            ax.barh(i, v, height=0.62, color=ONE if ours else FAINT)
            edge = max(v, high) if ours and np.isfinite(high) else v
            ax.text(max(edge, 0) + 0.02 * end, i, show(v), va="center", weight="bold" if ours else "normal")
        if np.isfinite(value) and np.isfinite(low) and np.isfinite(high):
            ax.hlines(0, low, high, color=INK, linewidth=1.2)
            ax.vlines([low, high], -0.14, 0.14, color=INK, linewidth=1.2)
        ax.set_yticks(range(len(rows)), [safe(k) for k, _ in rows])
        ax.invert_yaxis()
        ax.set_xlim(min([v for _, v in rows] + [0.0]), 1.18 * end)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel(safe(metric_label(name), 60))
        words = "; ".join(f"{k} {show(v)}" for k, v in rows)
        return svg(fig, "headline", f"Bar chart of the test {metric_title(name)}: {words}")


def alignment(data: RunData) -> Markup | None:
    """Objective and probe over the epochs of alignment, with the embedder that was kept."""
    if not data.align:
        return None
    epoch, objective, probe = (column(data.align, key) for key in ("epoch", "objective", "probe"))
    kept, unaligned = kept_epoch(data.kept), number(data.kept.get("probe_unaligned"))
    probed = np.isfinite(probe).any() or np.isfinite(unaligned)
    with figure(3.4 if probed else 2.1) as fig:
        axes = np.atleast_1d(fig.subplots(2 if probed else 1, 1, sharex=True))
        axes[0].plot(epoch, objective, color=ONE, marker="o" if len(epoch) == 1 else None)
        axes[0].set_ylabel("objective")
        if probed:
            there = np.isfinite(probe)
            marker = "o" if there.sum() <= 40 else None
            axes[1].plot(epoch[there], probe[there], color=TWO, marker=marker, linestyle="--", label="aligned")
            if np.isfinite(unaligned):
                axes[1].axhline(unaligned, color=INK, linewidth=0.9, linestyle=":", label="unaligned")
            passed = number(data.kept.get("probe_kept"))
            if kept is not None and np.isfinite(passed):
                axes[1].plot(kept, passed, "o", markersize=9, markerfacecolor="none", markeredgecolor=INK, label="kept")
            axes[1].set_ylabel("probe")
            axes[1].legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1)
        axes[-1].set_xlabel("epoch of alignment")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        alt = f"Objective of the alignment over {len(epoch)} epochs, from {show(objective[0])} to {show(objective[-1])}"
        return svg(fig, "alignment", alt)


def kept_epoch(record: dict[str, Any]) -> int | None:
    """Epoch of the kept embedder, None for the unaligned one."""
    found = re.search(r"\d+", str(record.get("kept", "")))
    return int(found.group()) if found else None


def choice(record: dict[str, Any]) -> str:
    """What chose the embedder that was kept."""
    if record.get("keep") == "last":
        return "It is the last, as align.keep says, whatever the probe of frozen features on validation data."
    if "validation_aligned" in record:
        aligned, without = show(record["validation_aligned"]), show(record["validation_unaligned"])
        return f"Both were trained: validation is {aligned} with the aligned one, {without} with the unaligned one."
    if kept_epoch(record) is None:
        return "A ridge probe of frozen features let no other pass on validation data."
    return "It is the last that a ridge probe of frozen features lets pass on validation data."


def training(data: RunData) -> Markup | None:
    """Training loss and validation metric over epochs, the chosen epoch marked."""
    if not data.finetune:
        return None
    epoch, loss, value = (column(data.finetune, key) for key in ("epoch", "train_loss", "val_metric"))
    chosen = number((data.run.get("validation") or {}).get("epoch"))
    name = data.metric.get("name", "metric")
    marker = "o" if len(epoch) <= 20 else None
    with figure(3.4) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True)
        top.plot(epoch, loss, color=ONE, marker=marker)
        top.set_ylabel("training loss")
        bottom.plot(epoch, value, color=THREE, marker=marker, linestyle="--")
        bottom.set_ylabel("validation\n" + safe(metric_title(name), 26))
        if np.isfinite(chosen):
            for ax in (top, bottom):
                ax.axvline(chosen, color=INK, linewidth=0.8, linestyle=":")
            bottom.annotate(
                "chosen", (chosen, 1), xycoords=("data", "axes fraction"), xytext=(3, 2), textcoords="offset points"
            )
        bottom.set_xlabel("epoch of training")
        bottom.xaxis.get_major_locator().set_params(integer=True)
        alt = f"Training loss from {show(loss[0])} to {show(loss[-1])}, validation {name} from {show(value[0])} to "
        return svg(fig, "training", alt + f"{show(value[-1])} over {len(epoch)} epochs")
