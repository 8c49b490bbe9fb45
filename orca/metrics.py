"""Metrics over a whole set at once, each with a bootstrap interval.

Metrics of classes are functions of the confusion matrix, so a resample of the set is one multinomial draw of it.
Metrics that are a mean over samples are resampled by index. What is left (areas under curves, R2) runs in a plain loop
whose number of rounds falls with the size of the set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orca import confusions, dense
from orca.errors import InputError
from orca.registry import Registry
from orca.types import Layout, TargetKind

ArrayFn = Callable[[np.ndarray], np.ndarray]
MetricFn = Callable[[np.ndarray, np.ndarray], float]
Draws = Callable[[np.ndarray, np.ndarray, np.random.Generator, int], np.ndarray]

LOOP_BUDGET = 10_000_000  # scores looked at in a resampling loop: about three seconds on a slow core
FEWEST_RESAMPLES = 100
RESIDUES = "maps of residue pairs"
_UNITS = "units of the target"


@dataclass(frozen=True)
class Metric:
    """One number for the scores of a whole set.

    Attributes:
        name: name in configs and results.
        fn: (scores, y) -> value; NaN where the set does not define it (an AUROC with one class only).
        higher_is_better: direction.
        target: kind of target it is for; fixes the shapes (see ``orca.types.Examples``), scores being logits (n, K) for
            classes and multi-label, values (n, K) for scalars and (n, C, *S) for fields, logits (n, C, *S) for masks.
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
    "mask": "mask_auroc",
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
    if metric.needs == RESIDUES and not (layout.missing and len({*layout.target_shape[1:]}) == 1):
        return "needs square maps over the residues of proteins, NaN beyond the end of each"
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


def _add_confusion(
    name: str, formula: Callable[[np.ndarray], np.ndarray], title: str, *, higher: bool, unit: str
) -> None:
    def fn(scores: np.ndarray, y: np.ndarray) -> float:
        return float(formula(confusions.confusion(scores, y)))

    def draws(scores: np.ndarray, y: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
        counts = confusions.confusion(scores, y)
        k, share = len(counts), counts.ravel() / counts.sum()
        chunk = max(1, 20_000_000 // share.size)  # at most 160 MB of counts
        sizes = [min(chunk, resamples - i) for i in range(0, resamples, chunk)]
        drawn = (rng.multinomial(len(y), share, size=r).reshape(r, k, k) for r in sizes)
        return np.concatenate([formula(c) for c in drawn])

    METRICS.add(Metric(name, fn, higher, "classes", title=title, unit=unit, draws=draws))


def _add_mean(  # noqa: PLR0913
    name: str,
    values: Callable[[np.ndarray, np.ndarray], np.ndarray],
    target: TargetKind,
    *,
    title: str,
    root: bool = False,
    unit: str = "relative",
    needs: str = "",
) -> None:
    """A metric that is the mean over samples of ``values(scores, y)`` (n,), or the root of that mean.

    Where the metric needs something of the data, samples with a NaN do not have it and are left out.
    """
    finish = np.sqrt if root else np.asarray

    def each(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        v = values(scores, y)
        v = v[~np.isnan(v)] if needs else v
        return v if len(v) else np.full(1, np.nan)

    def fn(scores: np.ndarray, y: np.ndarray) -> float:
        return float(finish(np.mean(each(scores, y))))

    def draws(scores: np.ndarray, y: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
        v = each(scores, y).astype(np.float64)
        return finish(np.array([v[rng.integers(len(v), size=len(v))].mean() for _ in range(resamples)]))

    METRICS.add(Metric(name, fn, False, target, needs=needs, title=title, unit=unit, draws=draws))


def _add_outcomes(name: str, formula: ArrayFn, title: str) -> None:
    """A metric of masks that follows from the counts of right and wrong cells, (..., 4) -> (...)."""

    def fn(scores: np.ndarray, y: np.ndarray) -> float:
        return float(formula(dense.outcomes(scores, y).sum(0)))

    def draws(scores: np.ndarray, y: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
        return formula(dense.outcome_draws(dense.outcomes(scores, y), rng, resamples))

    METRICS.add(Metric(name, fn, False, "mask", title=title, unit="fraction of cells", draws=draws))


def one_sided(y: np.ndarray) -> np.ndarray:
    """Which of the K labels of y (n, K) are always or never there, so that no score can be right or wrong, (K,)."""
    return (y == y[:1]).all(0)


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
    """Mean average precision over the labels that some samples have and some have not."""
    from sklearn.metrics import average_precision_score

    there = np.flatnonzero(~one_sided(y))
    return float(np.mean([average_precision_score(y[:, k], scores[:, k]) for k in there])) if len(there) else np.nan


def _r2(scores: np.ndarray, y: np.ndarray) -> float:
    """Mean over the K columns; a column whose truth is constant counts 1 if met, else 0, as in scikit-learn."""
    from sklearn.metrics import r2_score

    return float(r2_score(y, scores)) if len(y) > 1 else float("nan")


_add_confusion("error", lambda c: 1 - confusions.accuracy(c), "error", higher=False, unit="fraction of samples")
_add_confusion("accuracy", confusions.accuracy, "accuracy", higher=True, unit="fraction of samples")
_add_confusion("macro_f1", confusions.macro_f1, "macro F1", higher=True, unit="0 to 1")
_add_confusion("balanced_error", confusions.balanced_error, "balanced error", higher=False, unit="mean over classes")
_add_confusion("mcc", confusions.mcc, "Matthews correlation", higher=True, unit="-1 to 1")
METRICS.add(Metric("auroc", _auroc, True, "classes", needs="two classes", title="AUROC", unit="0 to 1"))
METRICS.add(Metric("auroc_ovo", _auroc_ovo, True, "classes", title="AUROC, one against one", unit="0 to 1"))
METRICS.add(Metric("macro_auroc", _macro_auroc, True, "multilabel", title="macro AUROC", unit="0 to 1"))
METRICS.add(Metric("map", _map, True, "multilabel", title="mean average precision", unit="0 to 1"))
_add_mean(
    "rmse", lambda p, y: ((p - y) ** 2).mean(1), "scalar", title="root mean squared error", root=True, unit=_UNITS
)
_add_mean("mae", lambda p, y: np.abs(p - y).mean(1), "scalar", title="mean absolute error", unit=_UNITS)
METRICS.add(Metric("r2", _r2, True, "scalar", title="R2", unit="1 is perfect"))
_add_mean("relative_l2", dense.relative_errors, "field", title="relative L2 error")
_add_mean("nrmse", dense.nrmse, "field", title="normalised RMSE")
_add_mean("field_rmse", dense.field_rmse, "field", title="RMSE of fields", unit=_UNITS)
_add_mean("mae8", dense.contact_errors, "field", title="MAE of long-range contacts", unit="Angstrom", needs=RESIDUES)
METRICS.add(
    Metric("mask_auroc", dense.pixel_auroc, True, "mask", title="cell AUROC", unit="0 to 1", draws=dense.auroc_draws)
)
_add_outcomes("mask_balanced_error", dense.balanced_error, "balanced error of cells")
_add_outcomes("mask_fnr", dense.miss_rate, "false negative rate of cells")
