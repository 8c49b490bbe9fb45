"""Metrics over a whole set at once, each with a bootstrap interval.

Metrics of classes are functions of the confusion matrix, so a resample of the set is one multinomial draw of it.
Metrics that are a mean over samples are resampled by index. What is left (areas under curves, R2) runs in a plain loop
whose number of rounds falls with the size of the set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orca.registry import Registry
from orca.types import InputError, Layout, TargetKind

ArrayFn = Callable[[np.ndarray], np.ndarray]
MetricFn = Callable[[np.ndarray, np.ndarray], float]
Draws = Callable[[np.ndarray, np.ndarray, np.random.Generator, int], np.ndarray]

LOOP_BUDGET = 10_000_000  # scores looked at in a resampling loop: about three seconds on a slow core
FEWEST_RESAMPLES = 100


@dataclass(frozen=True)
class Metric:
    """One number for the scores of a whole set.

    Attributes:
        name: name in configs and results.
        fn: (scores, y) -> value; NaN where the set does not define it (an AUROC with one class only).
        higher_is_better: direction.
        target: kind of target it is for; fixes the shapes (see ``orca.types.Examples``), scores being logits (n, K) for
            classes and multi-label, values (n, K) for scalars and (n, C, *S) for fields.
        needs: what the data must have beyond that, in words; empty for nothing.
        title: words for tables and figures.
        unit: unit of the value, in words.
        draws: (scores, y, rng, resamples) -> values on resamples (resamples,); None for a plain loop over ``fn``.
    """

    name: str
    fn: MetricFn
    higher_is_better: bool
    target: TargetKind
    needs: str = ""
    title: str = ""
    unit: str = "fraction"
    draws: Draws | None = None

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is strictly better than ``b``; a NaN is worse than any number."""
        if np.isnan(a) or np.isnan(b):
            return bool(np.isnan(b) and not np.isnan(a))
        return a > b if self.higher_is_better else a < b


METRICS: Registry[Metric] = Registry("metric")
DEFAULT_METRIC: dict[TargetKind, str] = {
    "classes": "error",
    "multilabel": "macro_auroc",
    "scalar": "rmse",
    "field": "relative_l2",
}


def metrics_for(layout: Layout) -> list[Metric]:
    """All metrics that this layout allows, the default of its kind first."""
    first = DEFAULT_METRIC[layout.target]
    fitting = [m for m in METRICS if m.target == layout.target and _lacks(m, layout) is None]
    return sorted(fitting, key=lambda m: m.name != first)


def check_metric(name: str, layout: Layout) -> Metric:
    """The metric of that name, if it can be computed on this layout.

    Raises:
        InputError: there is no such metric, or it is for other targets.
    """
    metric = METRICS.get(name)
    lack = _lacks(metric, layout)
    if lack:
        fitting = ", ".join(m.name for m in metrics_for(layout))
        raise InputError(f"metric '{name}' {lack}; choose one of: {fitting}")
    return metric


def _lacks(metric: Metric, layout: Layout) -> str | None:
    if metric.target != layout.target:
        return f"is for targets of kind '{metric.target}', these are '{layout.target}'"
    if metric.needs == "two classes" and layout.target_shape[0] != 2:
        return f"needs two classes, there are {layout.target_shape[0]}"
    return None


def bootstrap_interval(
    metric: Metric,
    scores: np.ndarray,
    y: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric over samples (Efron 1979).

    A resample may lack a class or a positive label. Means over classes then run over the classes that it has; a
    resample that does not define the metric at all is left out. Metrics without a fast form use fewer resamples on
    large sets: ``LOOP_BUDGET / scores.size``, but at least 100.

    Args:
        metric: what to compute.
        scores: as for ``metric.fn``, n samples along the first axis.
        y: targets, n along the first axis.
        seed: of the resampling; same seed, same interval.
        resamples: number of resamples.
        level: coverage, in (0, 1).

    Returns:
        Lower and upper end, in the metric's unit; two NaN where no resample defines the metric.

    Raises:
        InputError: no samples, or lengths that differ.
    """
    if len(y) == 0 or len(scores) != len(y):
        raise InputError(f"an interval needs one score per sample; got {len(scores)} scores for {len(y)} samples")
    values = (metric.draws or _looped(metric.fn))(scores, y, np.random.default_rng(seed), resamples)
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _looped(fn: MetricFn) -> Draws:
    def draws(scores: np.ndarray, y: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
        rounds = min(resamples, max(FEWEST_RESAMPLES, LOOP_BUDGET // scores.size))
        index = (rng.integers(len(y), size=len(y)) for _ in range(rounds))
        return np.array([fn(scores[i], y[i]) for i in index])

    return draws


def confusion(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Counts (K, K) int64: rows are true classes, columns the classes of the highest of the scores (n, K)."""
    k = scores.shape[1]
    return np.bincount(y.astype(np.int64) * k + scores.argmax(1), minlength=k * k).reshape(k, k)


def _accuracy(c: np.ndarray) -> np.ndarray:  # c: (..., K, K) -> (...)
    return np.trace(c, axis1=-2, axis2=-1) / c.sum((-2, -1))


def _macro_f1(c: np.ndarray) -> np.ndarray:
    hits, total = np.diagonal(c, axis1=-2, axis2=-1), c.sum(-1) + c.sum(-2)  # total = 2 tp + fp + fn, (..., K)
    return (2 * hits / np.maximum(total, 1)).sum(-1) / (total > 0).sum(-1)


def _balanced_error(c: np.ndarray) -> np.ndarray:
    hits, true = np.diagonal(c, axis1=-2, axis2=-1), c.sum(-1)
    return 1 - (hits / np.maximum(true, 1)).sum(-1) / (true > 0).sum(-1)


def _mcc(c: np.ndarray) -> np.ndarray:
    """Matthews correlation of K classes (Gorodkin 2004); 0 where all is one class, as in scikit-learn."""
    c = c.astype(np.float64)
    true, predicted, n = c.sum(-1), c.sum(-2), c.sum((-2, -1))
    covariance = np.trace(c, axis1=-2, axis2=-1) * n - (true * predicted).sum(-1)
    spread = np.sqrt((n**2 - (true**2).sum(-1)) * (n**2 - (predicted**2).sum(-1)))
    return np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0)


def _add_confusion(
    name: str, formula: Callable[[np.ndarray], np.ndarray], title: str, *, higher: bool, unit: str
) -> None:
    def fn(scores: np.ndarray, y: np.ndarray) -> float:
        return float(formula(confusion(scores, y)))

    def draws(scores: np.ndarray, y: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
        counts = confusion(scores, y)
        k, share = len(counts), counts.ravel() / counts.sum()
        chunk = max(1, 20_000_000 // share.size)  # at most 160 MB of counts
        sizes = [min(chunk, resamples - i) for i in range(0, resamples, chunk)]
        drawn = (rng.multinomial(len(y), share, size=r).reshape(r, k, k) for r in sizes)
        return np.concatenate([formula(c) for c in drawn])

    METRICS.add(Metric(name, fn, higher, "classes", title=title, unit=unit, draws=draws))


def _add_mean(
    name: str,
    values: Callable[[np.ndarray, np.ndarray], np.ndarray],
    target: TargetKind,
    *,
    title: str,
    root: bool = False,
) -> None:
    """A metric that is the mean over samples of ``values(scores, y)`` (n,), or the root of that mean."""
    finish = np.sqrt if root else np.asarray

    def fn(scores: np.ndarray, y: np.ndarray) -> float:
        return float(finish(np.mean(values(scores, y))))

    def draws(scores: np.ndarray, y: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
        v = values(scores, y).astype(np.float64)
        return finish(np.array([v[rng.integers(len(v), size=len(v))].mean() for _ in range(resamples)]))

    unit = "units of the target" if target == "scalar" else "relative"
    METRICS.add(Metric(name, fn, False, target, title=title, unit=unit, draws=draws))


def label_aurocs(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """AUROC of each of the K labels from ranks (Mann and Whitney 1947), (K,); NaN for a label always or never there.

    Args:
        scores: (n, K), ties count one half.
        y: (n, K) in {0, 1}.
    """
    from scipy.stats import rankdata

    positives = y.sum(0).astype(np.float64)
    pairs = positives * (len(y) - positives)
    wins = (rankdata(scores, axis=0) * y).sum(0) - positives * (positives + 1) / 2
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _auroc(scores: np.ndarray, y: np.ndarray) -> float:
    return float(label_aurocs(scores[:, 1:] - scores[:, :1], y[:, None])[0])


def _auroc_ovo(scores: np.ndarray, y: np.ndarray) -> float:
    """Mean over the pairs of classes of the AUROC between these two alone, by the probability of each of them in turn.

    M of Hand and Till 2001, eq. 7, on softmax of the scores (n, K); pairs of which a class is absent are left out.
    """
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    there = np.unique(y)
    values = []
    for i, one in enumerate(there):
        for other in there[i + 1 :]:
            rows = (y == one) | (y == other)
            labels = np.stack([y[rows] == one, y[rows] == other], axis=1)
            values.append(label_aurocs(p[rows][:, [one, other]], labels.astype(np.int64)).mean())
    return float(np.mean(values)) if values else float("nan")


def _macro_auroc(scores: np.ndarray, y: np.ndarray) -> float:
    values = label_aurocs(scores, y)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _map(scores: np.ndarray, y: np.ndarray) -> float:
    """Mean average precision over the labels with at least one positive."""
    from sklearn.metrics import average_precision_score

    there = np.flatnonzero(y.sum(0) > 0)
    return float(np.mean([average_precision_score(y[:, k], scores[:, k]) for k in there])) if len(there) else np.nan


def _r2(scores: np.ndarray, y: np.ndarray) -> float:
    """Mean over the K columns; a column whose truth is constant counts 1 if met, else 0, as in scikit-learn."""
    from sklearn.metrics import r2_score

    return float(r2_score(y, scores)) if len(y) > 1 else float("nan")


def relative_errors(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """||p - u|| / ||u|| of each sample over all its channels and points, (n,); a zero truth counts as norm 1e-12."""
    norms = np.linalg.norm(y.reshape(len(y), -1), axis=1)
    return np.linalg.norm((scores - y).reshape(len(y), -1), axis=1) / np.maximum(norms, 1e-12)


def _nrmse(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """rms(p - u) / rms(u) over space, mean over channels (PDEBench, Takamoto et al. 2022), (n,)."""
    flat = (len(y) * y.shape[1], -1)
    return relative_errors(scores.reshape(flat), y.reshape(flat)).reshape(len(y), -1).mean(1)


_add_confusion("error", lambda c: 1 - _accuracy(c), "error", higher=False, unit="fraction of samples")
_add_confusion("accuracy", _accuracy, "accuracy", higher=True, unit="fraction of samples")
_add_confusion("macro_f1", _macro_f1, "macro F1", higher=True, unit="0 to 1")
_add_confusion("balanced_error", _balanced_error, "balanced error", higher=False, unit="fraction, mean over classes")
_add_confusion("mcc", _mcc, "Matthews correlation", higher=True, unit="-1 to 1")
METRICS.add(Metric("auroc", _auroc, True, "classes", needs="two classes", title="AUROC", unit="0 to 1"))
METRICS.add(Metric("auroc_ovo", _auroc_ovo, True, "classes", title="AUROC, one against one", unit="0 to 1"))
METRICS.add(Metric("macro_auroc", _macro_auroc, True, "multilabel", title="macro AUROC", unit="0 to 1"))
METRICS.add(Metric("map", _map, True, "multilabel", title="mean average precision", unit="0 to 1"))
_add_mean("rmse", lambda p, y: ((p - y) ** 2).mean(1), "scalar", title="root mean squared error", root=True)
_add_mean("mae", lambda p, y: np.abs(p - y).mean(1), "scalar", title="mean absolute error")
METRICS.add(Metric("r2", _r2, True, "scalar", title="R2", unit="1 is perfect"))
_add_mean("relative_l2", relative_errors, "field", title="relative L2 error")
_add_mean("nrmse", _nrmse, "field", title="normalised RMSE")
