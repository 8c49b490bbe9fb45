"""A part of a labelled set, or of a training set, that has its classes in the same shares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orca.errors import InputError
from orca.runtime import rng
from orca.types import Splits


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


def fewer(data: Splits, size: float | None) -> Splits:
    """The same data with a part of the training set; validation, test and shift sets stay whole.

    Args:
        data: of a task.
        size: a share below 1 or a number of answers, as scikit-learn's ``train_size``; None leaves all. Classes keep
            their shares. What has one answer together stays together. The draw has a seed of its own: runs of all
            seeds learn from the same part.

    Raises:
        InputError: there are fewer answers than asked for, or more classes.
    """
    if size is None:
        return data
    truth = data.train.truth()
    count = max(1, round(size * len(truth))) if size < 1 else int(size)
    if count > len(truth):
        raise InputError(f"train_size is {count:,}, but the training set has {len(truth):,} answers; ask for fewer")
    if count == len(truth):
        return data
    labels = truth if data.layout.target == "classes" else np.zeros(len(truth), np.int64)
    if count < (classes := len(np.unique(labels))):
        raise InputError(
            f"train_size asks for {count:,} of {len(truth):,} answers; {classes} classes need at least one each"
        )
    kept = stratified(labels, count, seed=0)
    if data.train.group is not None:
        kept = np.flatnonzero(np.isin(data.train.group, np.unique(data.train.group)[kept]))
    note = f"train_size: learnt from {count:,} of the {len(truth):,} answers of the training set"
    return replace(data, train=data.train.subset(kept), notes=(*data.notes, note))
