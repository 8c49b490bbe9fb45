"""Numbers (...) from confusion matrices c (..., K, K) of counts: rows are true classes, columns predicted ones."""

from __future__ import annotations

import numpy as np


def confusion(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Counts (K, K) int64: rows are true classes, columns the classes of the highest of the scores (n, K)."""
    k = scores.shape[1]
    return np.bincount(y.astype(np.int64) * k + scores.argmax(1), minlength=k * k).reshape(k, k)


def accuracy(c: np.ndarray) -> np.ndarray:
    """Share of the diagonal."""
    return np.trace(c, axis1=-2, axis2=-1) / c.sum((-2, -1))


def macro_f1(c: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that are among truth or predictions."""
    hits, total = np.diagonal(c, axis1=-2, axis2=-1), c.sum(-1) + c.sum(-2)  # total = 2 tp + fp + fn, (..., K)
    return (2 * hits / np.maximum(total, 1)).sum(-1) / (total > 0).sum(-1)


def balanced_error(c: np.ndarray) -> np.ndarray:
    """One minus the mean recall of the classes that are there."""
    hits, true = np.diagonal(c, axis1=-2, axis2=-1), c.sum(-1)
    return 1 - (hits / np.maximum(true, 1)).sum(-1) / (true > 0).sum(-1)


def mcc(c: np.ndarray) -> np.ndarray:
    """Matthews correlation of K classes (Gorodkin 2004); 0 where all is one class, as in scikit-learn."""
    c = c.astype(np.float64)
    true, predicted, n = c.sum(-1), c.sum(-2), c.sum((-2, -1))
    covariance = np.trace(c, axis1=-2, axis2=-1) * n - (true * predicted).sum(-1)
    spread = np.sqrt((n**2 - (true**2).sum(-1)) * (n**2 - (predicted**2).sum(-1)))
    return np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0)
