"""The last stage: the test set is opened once, beside shift sets and baselines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orca.batches import answers
from orca.metrics import Metric, bootstrap_interval, metrics_for, one_sided
from orca.model import AdaptedModel
from orca.runtime import write_json
from orca.types import Examples, Splits

EXAMPLES = 16  # test inputs that the report shows


def measure(metric: Metric, scores: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """A metric over a whole set with its bootstrap 95 % interval; of labels, how many it leaves out, if any."""
    low, high = bootstrap_interval(metric, scores, y)
    left_out = int(one_sided(y).sum()) if metric.target == "multilabel" else 0
    return {
        "name": metric.name,
        "value": metric.fn(scores, y),
        "higher_is_better": metric.higher_is_better,
        "ci95": [low, high],
        "n": len(y),
    } | ({"labels_left_out": left_out} if left_out else {})


def score(
    model: AdaptedModel, splits: Splits, metric: Metric, *, dtype: torch.dtype | None, out: Path
) -> dict[str, Any]:
    """Scores test and shift sets, writes ``predictions.npz`` and ``layout.json``, and returns the metrics.

    Args:
        model: the model that validation chose, on its device.
        splits: the task's data.
        metric: what is reported; all others that fit the layout stand beside it.
        dtype: precision of autocast.
        out: the stage's folder.
    """
    device = next(model.parameters()).device

    def scores_of(data: Examples) -> np.ndarray:
        return answers(model, data, device=device, dtype=dtype, call=model.answer)

    arrays: dict[str, np.ndarray] = {"test_scores": scores_of(splits.test), "test_y": splits.test.truth()}
    shift = {}
    for name, data in splits.shift.items():
        arrays |= {f"shift_{name}_scores": scores_of(data), f"shift_{name}_y": data.truth()}
        shift[name] = measure(metric, arrays[f"shift_{name}_scores"], arrays[f"shift_{name}_y"])
    scores, y = arrays["test_scores"], arrays["test_y"]
    others = {m.name: m.fn(scores, y) for m in metrics_for(splits.layout) if m != metric}
    test = measure(metric, scores, y)
    write_json(out / "layout.json", dataclasses.asdict(splits.layout))
    shown = splits.test.subset(splits.test.firsts()[:EXAMPLES])
    arrays["examples_x"] = shown.x
    if shown.length is not None:
        arrays["examples_length"] = shown.length
    np.savez_compressed(out / "predictions.npz", **arrays)  # type: ignore[arg-type]
    return {"test": test, "shift": shift, "others": others}
