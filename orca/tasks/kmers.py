"""Counts of short words in DNA, either strand, and logistic regression on them: the classical model of sequences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orca.types import Examples

K = 5
STRENGTH = 0.003  # inverse penalty on standardised counts


def codes(onehot: np.ndarray) -> np.ndarray:
    """One-hot DNA (n, 4, L) to base numbers (n, L) int8; -1 where no base is certain."""
    return np.where(onehot.max(1) > 0.5, onehot.argmax(1), -1).astype(np.int8)


def counts(bases: np.ndarray, k: int = K) -> np.ndarray:
    """How often each word of k bases occurs on either strand, (n, W) float32; reverse complements are one word.

    Args:
        bases: base numbers (n, L), complements adding to 3, -1 for an unknown one, whose words do not count.
        k: length of the words.
    """
    windows = np.lib.stride_tricks.sliding_window_view(bases, k, axis=1).astype(np.int64)  # (n, L - k + 1, k)
    word = windows @ 4 ** np.arange(k)[::-1]
    known = (windows >= 0).all(2)
    kinds, row = 4**k, np.arange(len(bases))[:, None]
    flat = np.where(known, word, kinds) + row * (kinds + 1)
    table = np.bincount(flat.ravel(), minlength=len(bases) * (kinds + 1)).reshape(len(bases), kinds + 1)[:, :kinds]
    digits = np.arange(kinds)[:, None] // 4 ** np.arange(k)[::-1] % 4
    other = (3 - digits[:, ::-1]) @ 4 ** np.arange(k)[::-1]  # the reverse complement of each word
    first = np.flatnonzero(np.arange(kinds) <= other)
    both = table[:, first] + np.where(first == other[first], 0, table[:, other[first]])
    return both.astype(np.float32)


def word_scores(bases: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Logistic regressions of labels (n, K) on word counts of sequences (n, L); answers others with logits (m, K)."""
    from sklearn.linear_model import LogisticRegression

    x = counts(bases)
    mean, std = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / std
    weights, offsets = np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1])
    for label in np.flatnonzero((y.min(0) == 0) & (y.max(0) == 1)):
        model = LogisticRegression(C=STRENGTH, max_iter=200, tol=1e-3).fit(x, y[:, label])
        weights[:, label], offsets[label] = model.coef_[0], model.intercept_[0]

    def scores(others: np.ndarray) -> np.ndarray:
        parts = (counts(others[i : i + 1024]) for i in range(0, len(others), 1024))
        return np.concatenate([(part - mean) / std @ weights + offsets for part in parts]).astype(np.float32)

    return scores


def word_regression(train: Examples) -> Callable[[Examples], np.ndarray]:
    """Logistic regression on word counts, as a predictor of multi-label DNA (n, 4, L)."""
    scores = word_scores(codes(train.x), train.y)
    return lambda data: scores(codes(data.x))
