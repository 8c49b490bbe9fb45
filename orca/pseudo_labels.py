"""Classes for targets that are none, so that a labelled distance can be taken to them."""

from __future__ import annotations

import numpy as np

from orca.build import channel_moments
from orca.dense import filled
from orca.runtime import rng
from orca.types import TargetKind


def pseudo_labels(y: np.ndarray, kind: TargetKind, *, classes: int, seed: int) -> np.ndarray:
    """Class labels for alignment: the true ones, or k-means over a projection of the targets.

    The columns of numbers and the channels of fields, which may differ in unit, count alike. Targets are read in blocks
    and projected to at most 32 random directions (Johnson-Lindenstrauss), so that a set of large fields is never in
    memory at once. Deterministic under the seed.

    Args:
        y: targets, (n,) for classes, else (n, ...).
        kind: kind of the target.
        classes: number of clusters.
        seed: of projection and clustering.

    Returns:
        Labels (n,), int64, 0..K-1, every one of which occurs.
    """
    if kind == "classes":
        return y.astype(np.int64)
    from sklearn.cluster import MiniBatchKMeans

    width = int(np.prod(y.shape[1:]))
    draw = rng("pseudo-labels", seed)
    projection = draw.standard_normal((width, 32)) / np.sqrt(width) if width > 32 else np.eye(width)
    mean, std = np.zeros(1), np.ones(1)
    if kind in ("scalar", "field") and y.shape[1] > 1:
        mean, std = (moment.numpy().reshape(-1, *[1] * (y.ndim - 2)) for moment in channel_moments(y))
    scaled = ((y[i : i + 1024] - mean) / std for i in range(0, len(y), 1024))
    parts = (filled(part, kind).reshape(-1, width) for part in scaled)
    blocks = [part.astype(np.float64) @ projection for part in parts]
    rows = np.concatenate(blocks)
    rows = (rows - rows.mean(0)) / (rows.std() + 1e-12)
    count = min(classes, len(np.unique(rows, axis=0)))
    model = MiniBatchKMeans(count, random_state=seed, n_init="auto", batch_size=1024)
    return np.unique(model.fit_predict(rows), return_inverse=True)[1].astype(np.int64)
