"""Dense targets, one value for each cell of the input: which cells count, and how far a prediction is off.

A field (n, C, *S) has NaN, and a mask (n, C, *S) of 0 and 1 has -1, where a cell does not count.
"""

from __future__ import annotations

import numpy as np

from orca.types import TargetKind

BINS = 1024  # of scores, by which areas are resampled
SEPARATION, CONTACT, LEAST_DISTANCE = 24, 8.0, 0.01  # residues along the chain, Angstrom, Angstrom


def counted(y: np.ndarray, kind: TargetKind) -> np.ndarray:
    """Which cells of dense targets count, a mask of their shape."""
    return y >= 0 if kind == "mask" else ~np.isnan(y)


def filled(y: np.ndarray, kind: TargetKind) -> np.ndarray:
    """Targets with the mean of what counts where a cell does not; all other kinds as they are."""
    if kind not in ("field", "mask") or (counts := counted(y, kind)).all():
        return y
    return np.where(counts, y, y[counts].mean(dtype=np.float64) if counts.any() else 0).astype(np.float32)


def relative_errors(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """||p - u|| / ||u|| of each sample over all its channels and the cells that count, (n,); norms are at least 1e-12.

    Args:
        scores: predicted fields, (n, C, *S).
        y: true ones, NaN where a cell does not count.
    """
    there = ~np.isnan(y)
    off, norms = (np.linalg.norm(np.where(there, values, 0).reshape(len(y), -1), axis=1) for values in (scores - y, y))
    return off / np.maximum(norms, 1e-12)


def nrmse(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """rms(p - u) / rms(u) over space, mean over channels (PDEBench, Takamoto et al. 2022), (n,).

    PDEBench averages over the predicted frames as well; here there is one. ORCA's is ``relative_l2``: all channels in
    one norm.
    """
    flat = (len(y) * y.shape[1], -1)
    return relative_errors(scores.reshape(flat), y.reshape(flat)).reshape(len(y), -1).mean(1)


def field_rmse(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """rms(p - u) over all channels and cells that count, in the target's units, (n,); its mean is ORCA's RMSE."""
    return np.sqrt(np.nanmean(np.square(scores - y).reshape(len(y), -1), axis=1))


def contact_errors(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean |p - d| of each protein over its long-range contacts, in Angstrom, (n,): MAE8 of Adhikari 2020 (PDNET).

    A contact is a pair of residues at least 24 apart along the chain whose true distance is at most 8 Angstrom. The
    prediction is made symmetric, p = (P + P^T) / 2, and at least 0.01. What lies beyond a protein's end is NaN in y.

    Args:
        scores: predicted distances, (n, 1, H, H).
        y: true ones, not clipped.

    Returns:
        Errors; NaN for a protein without such a pair, infinite where a prediction is NaN.
    """
    p = np.maximum((scores + np.swapaxes(scores, -1, -2)) / 2, LEAST_DISTANCE)
    pairs = np.triu(np.ones(y.shape[-2:], bool), SEPARATION) & (np.nan_to_num(y, nan=np.inf) <= CONTACT)
    off = np.nan_to_num(np.where(pairs, np.abs(p - y), 0), nan=np.inf).reshape(len(y), -1).sum(1)
    count = pairs.reshape(len(y), -1).sum(1)
    return np.divide(off, count, out=np.full(len(y), np.nan), where=count > 0)


def pixel_auroc(scores: np.ndarray, y: np.ndarray) -> float:
    """AUROC of the scores of all cells that count, of the whole set at once; NaN where they are of one kind.

    Args:
        scores: logits, (n, C, *S); ties count one half.
        y: masks of 0 and 1, -1 where a cell does not count.
    """
    from scipy.stats import rankdata

    there = y >= 0
    ranks, true = rankdata(scores[there]), y[there] > 0
    positives = float(true.sum())
    pairs = positives * (true.size - positives)
    return float((ranks[true].sum() - positives * (positives + 1) / 2) / pairs) if pairs else float("nan")


def auroc_draws(scores: np.ndarray, y: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Areas on resamples of the frames, (resamples,), from counts of positives and negatives in bins of the scores."""
    edges = [np.quantile(scores[y == kind], np.linspace(0, 1, BINS // 2)) for kind in (0, 1) if (y == kind).any()]
    edges = np.unique(np.concatenate(edges))
    width = len(edges) + 1
    binned = (np.digitize(s[v >= 0], edges) + width * (v[v >= 0] > 0) for s, v in zip(scores, y, strict=True))
    counts = np.stack([np.bincount(b, minlength=2 * width) for b in binned]).astype(np.float64)  # (n, 2 * width)
    drawn = _weights(len(y), rng, resamples) @ counts
    negative, positive = drawn[:, :width], drawn[:, width:]
    wins = (positive * (np.cumsum(negative, 1) - negative / 2)).sum(1)
    pairs = positive.sum(1) * negative.sum(1)
    return np.divide(wins, pairs, out=np.full(resamples, np.nan), where=pairs > 0)


def outcomes(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each sample how many cells are true positive, false negative, true negative, false positive, (n, 4).

    A cell is called positive where its logit is above 0.
    """
    called, kinds = scores > 0, ((1, True), (1, False), (0, False), (0, True))
    cells = [((y == true) & (called == answer)).reshape(len(y), -1).sum(1) for true, answer in kinds]
    return np.stack(cells, 1).astype(np.float64)


def outcome_draws(counts: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Sums of ``outcomes`` over resamples of the samples, (resamples, 4)."""
    return _weights(len(counts), rng, resamples) @ counts


def balanced_error(counts: np.ndarray) -> np.ndarray:
    """1 - (TPR + TNR) / 2 of outcomes (..., 4), NaN where there is one kind of cell only."""
    return (miss_rate(counts) + miss_rate(counts[..., 2:])) / 2


def miss_rate(counts: np.ndarray) -> np.ndarray:
    """The share of the second of the first two outcomes (..., >= 2): FN / (TP + FN); NaN where there are none."""
    total = counts[..., 0] + counts[..., 1]
    return np.divide(counts[..., 1], total, out=np.full(np.shape(total), np.nan), where=total > 0)


def _weights(n: int, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """How often each of n samples is in a resample, (resamples, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
