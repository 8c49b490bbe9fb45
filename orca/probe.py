"""A cheap, deterministic measure of what frozen features know about the targets: ridge regression, closed form.

Alignment uses it to refuse an embedder where validation surely prefers the unaligned one.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from embedders import FieldDecoder
from orca.batches import answers
from orca.dense import counted
from orca.model import AdaptedModel
from orca.types import DENSE, Examples, TargetKind

_STRENGTHS = tuple(10.0**k for k in range(-3, 4))


def _one_hot(y: np.ndarray, kind: TargetKind, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float64)[y] if kind == "classes" else y.astype(np.float64)


def _dense_rows(
    features: np.ndarray, y: np.ndarray, kind: TargetKind, grid: tuple[int, ...], cells: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fields and masks are probed by token: features against the target's mean over the cells of its patch that count.

    Args:
        features: (n, T, D).
        y: (n, C, *S).
        kind: field or mask.
        grid: of the tokens.
        cells: that all patches cover along each axis, the padding of the last ones included.

    Returns:
        (m, D), (m, C) and the sample of each, (m,), of the m tokens that have such cells.
    """
    reduce = F.adaptive_avg_pool1d if len(grid) == 1 else F.adaptive_avg_pool2d
    there = counted(y, kind)
    pads = [(0, 0), (0, 0), *((0, most - size) for most, size in zip(cells, y.shape[2:], strict=True))]
    total, share = (
        reduce(torch.from_numpy(values).float(), grid).flatten(2).transpose(1, 2).reshape(-1, y.shape[1]).numpy()  # type: ignore[operator]
        for values in (np.pad(np.where(there, y, 0), pads), np.pad(there, pads))
    )
    rows = (share > 0).all(1)
    sample = np.repeat(np.arange(len(y)), share.shape[0] // len(y))
    return features.reshape(-1, features.shape[-1])[rows], total[rows] / share[rows], sample[rows]


def ridge_errors(x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, kind: TargetKind) -> np.ndarray:
    """The errors of ridge regression on each validation row, (m,), at the best of seven strengths; lower is better.

    Args:
        x: training features, (n, d).
        y: training targets, (n, k), one-hot for classes.
        x_val: validation features, (m, d).
        y_val: validation targets, (m, k).
        kind: for classes an error is 1 where the class is wrong, else the squared error over the variance; of numbers
            and fields, whose columns may differ in unit, over the variance of each column.
    """
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, x_val = (x - mean) / std, (x_val - mean) / std
    offset = y.mean(0)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    rotated = vectors.T @ (x.T @ (y - offset)) / len(x)
    left = x_val @ vectors
    errors, axis = [], 0 if kind in ("scalar", "field") else None
    variance = np.square(y_val - offset).mean(axis)
    scale = np.where(variance > 0, variance, 1)
    for strength in _STRENGTHS:
        guess = left @ (rotated / (np.clip(values, 0, None) + strength)[:, None]) + offset
        if kind == "classes":
            errors.append((guess.argmax(1) != y_val.argmax(1)).astype(np.float64))
        else:
            errors.append((np.square(guess - y_val) / scale).mean(1))
    return min(errors, key=np.mean)


def surely_less(errors: np.ndarray, than: np.ndarray) -> bool:
    """Whether errors are lower in the mean by more than the standard error of their paired differences.

    The one-standard-error rule (Breiman et al. 1984, section 3.4.3), for two errors of the same samples (n,): with a
    few hundred samples, the least of several probes is often the least by chance.
    """
    gain = than - errors
    if len(gain) < 2:  # one sample has no standard error
        return False
    margin = gain.std(ddof=1) / np.sqrt(len(gain))
    return bool(gain.mean() > margin * (1 + 1e-9))  # one sample alone, gain and margin being equal, is no gain


def probe(model: AdaptedModel, train: Examples, val: Examples, *, dtype: torch.dtype | None) -> np.ndarray:
    """The errors of a ridge regression on the model's frozen features, by validation sample (n,); lower is better.

    Where a feature is not finite, no regression can be fitted and all errors are infinite.

    Args:
        model: embedder and encoder are used, the predictor is not.
        train: what the regression is fitted on; small.
        val: what it is judged on; small.
        dtype: precision of autocast.
    """
    layout, device = model.layout, next(model.parameters()).device
    if layout.target in DENSE:
        assert isinstance(model.predictor, FieldDecoder)
        grid, size = model.grid, layout.input_shape[1:]
        ends = [count * model.predictor.patch for count in grid]  # in cells of what is cut, which may be resized
        cut = model.embedder.covered(size)
        cells = tuple(math.ceil(s * end / total) for s, end, total in zip(size, ends, cut, strict=True))
        call = lambda x, length: model.encode(x, length).x  # noqa: E731
        pairs = [
            _dense_rows(answers(model, part, device=device, dtype=dtype, call=call), part.y, layout.target, grid, cells)
            for part in (train, val)
        ]
    else:
        classes = layout.target_shape[0]
        pairs = [
            (
                answers(model, part, device=device, dtype=dtype, call=model.pooled),
                _one_hot(part.truth(), layout.target, classes),
            )
            for part in (train, val)
        ]
    (x, y, *_), (x_val, y_val, *samples) = pairs
    if not (np.isfinite(x).all() and np.isfinite(x_val).all()):
        return np.full(len(val), np.inf)
    errors = ridge_errors(x.astype(np.float64), y, x_val.astype(np.float64), y_val, layout.target)
    for sample in samples:  # fields: the mean over a sample's tokens
        counts = np.bincount(sample)
        errors = np.bincount(sample, errors)[counts > 0] / counts[counts > 0]
    return errors
