"""A part of a labelled set that has its classes in the same shares."""

from __future__ import annotations

import numpy as np

from orca.errors import InputError
from orca.runtime import rng


def stratified(labels: np.ndarray, n: int, *, seed: int) -> np.ndarray:
    """Rows of a sample of at most ``n``, each class in its share, drawn from the seed.

    Every class keeps at least two of its samples where ``n`` allows it (one has no covariance), else one.

    Args:
        labels: (N,), integers or strings.
        n: size of the sample; all rows are taken where there are no more.
        seed: decides which.

    Returns:
        Row numbers, ascending, (min(n, N),) int64.

    Raises:
        InputError: there are more classes than samples.
    """
    names, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if n >= len(labels):
        return np.arange(len(labels))
    if n < len(names):
        raise InputError(f"{n} samples cannot hold {len(names)} classes; draw at least two for each class")
    least = np.minimum(counts, 2 if n >= 2 * len(names) else 1)
    share = n * counts / len(labels)
    take = np.maximum(np.floor(share).astype(np.int64), least)
    while (missing := n - int(take.sum())) != 0:  # one at a time, where the share is missed by most
        step = 1 if missing > 0 else -1
        able = take < counts if step > 0 else take > least
        take[np.where(able, step * (share - take), -np.inf).argmax()] += step
    parts = [
        rng("labelled", seed, str(name)).permutation(np.flatnonzero(index == k))[: take[k]]
        for k, name in enumerate(names)
    ]
    return np.sort(np.concatenate(parts))
