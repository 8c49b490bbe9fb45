"""Optimal transport dataset distance: how far one labelled set is from another, labels matched to labels.

    cost((x, y), (x', y')) = lambda_x d(x, x')**p + lambda_y W(y, y')**p
    OTDD(S, T) = OT_eps(S, T) - OT_eps(S, S) / 2 - OT_eps(T, T) / 2        (debiased; else the first term alone)

(Alvarez-Melis and Fusi 2020, arXiv 2002.02923, eq. 4.) W compares the classes of two labels as distributions over the
features. The cost is **not halved** and no root is taken: two points at distance 5 have feature cost 25 for p = 2. The
ORCA reference halves both parts; its value with eps is half of ours with 2 eps. Samples have equal weights.

``reg`` is eps, absolute, in the unit of the cost (squared features for p = 2). Debiased values of small samples depend
on the sample size: compare them at equal sizes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from orca.transport.cost import class_clouds, pairwise_cost
from orca.transport.labels import LABEL_DISTANCES
from orca.transport.options import OTDDChanges, OTDDOptions
from orca.transport.sinkhorn import SinkhornResult, envelope, sinkhorn, sinkhorn_self
from orca.transport.statistics import SourceStatistics, checked, joint_cost, statistics
from orca.types import InputError, LabeledSet


@dataclass(frozen=True)
class OTDDResult:
    """A dataset distance and what it was made of.

    Attributes:
        value: scalar, differentiable in both feature sets; unit of the features to the power p.
        label_distances: W**p as it enters the cost, (K_s, K_t).
        source_labels: label of each row of ``label_distances``, (K_s,).
        target_labels: label of each column, (K_t,).
        marginal_error: largest L1 marginal error of the outer problems.
        iterations: updates of the problem between the sets.
        converged: whether the outer problems met the tolerance.
        coupling: mass moved from each source sample to each target sample, (n, m).
    """

    value: Tensor
    label_distances: Tensor
    source_labels: Tensor
    target_labels: Tensor
    marginal_error: float
    iterations: int
    converged: bool
    coupling: Tensor

    def plan(self) -> Tensor:
        """Mass moved from each source sample to each target sample, (n, m), without gradient; sums to 1."""
        return self.coupling


def _same_space(xs: Tensor, xt: Tensor) -> None:
    if xs.shape[1] != xt.shape[1]:
        raise InputError(
            f"both sets must have one feature dimension; got source {xs.shape[1]}, target {xt.shape[1]}; embed both "
            "with one body or project them to a common dimension"
        )
    if xs.device != xt.device:
        raise InputError(
            f"both sets must be on one device; got source {xs.device}, target {xt.device}; move one of them"
        )


def _sides(
    source: SourceStatistics | LabeledSet, xt: Tensor, yt: Tensor, options: OTDDOptions
) -> tuple[SourceStatistics, Tensor, Tensor]:
    """Source statistics, computed if they are not there yet, and the checked target in the same type."""
    if isinstance(source, SourceStatistics):
        _same_space(source.x, xt)
        return source, xt.to(source.x.dtype), yt
    xs, ys = checked(source.x, source.y, "source")
    _same_space(xs, xt)
    wider = torch.promote_types(xs.dtype, xt.dtype)
    return statistics(xs.to(wider), ys, options), xt.to(wider), yt


def _given(source: SourceStatistics, xs: Tensor, ys: Tensor, options: OTDDOptions) -> SourceStatistics:
    """The given statistics, if they are those of this source and these options."""
    if source.options != options:
        raise InputError(f"source statistics were made for {source.options}; got {options}; make them anew")
    if xs.requires_grad:
        raise InputError("source statistics hold the source constant; leave them out for a gradient to the source")
    same = source.x is xs or torch.equal(source.x, xs.to(source.x.dtype))
    if not same or not torch.equal(source.labels[source.y], ys.to(source.y)):
        raise InputError("source statistics belong to another source; make them anew with SourceStatistics.of")
    return source


def otdd(
    xs: Tensor,
    ys: Tensor,
    xt: Tensor,
    yt: Tensor,
    *,
    source: SourceStatistics | None = None,
    **options: Unpack[OTDDChanges],
) -> OTDDResult:
    """Dataset distance of two labelled sets: all classes of the one jointly against all classes of the other.

    Not halved, no root: one point against one point at distance 5 gives 25 with ``label_distance="none"`` and p = 2,
    and 50 with label distances, which are 25 as well.

    Args:
        xs: source features, (n, d), floating point.
        ys: source labels, (n,), integers of at least 0, not necessarily contiguous.
        xt: target features, (m, d).
        yt: target labels, (m,); they share no names with the source's.
        source: statistics of the source, computed once by ``SourceStatistics.of``; their options hold.
        **options: fields of ``OTDDOptions``.

    Returns:
        The value, differentiable in ``xs`` (without ``source``) and ``xt``, with label distances, plan and convergence.

    Raises:
        InputError: sets that are empty, not finite, or of different dimensions; wrong labels or options.
    """
    chosen = source.options if source and not options else OTDDOptions(**options)
    given = LabeledSet(xs, ys) if source is None else _given(source, xs, ys, chosen)
    xt, yt = checked(xt, yt, "target")
    with torch.autocast(xt.device.type, enabled=False):
        stats, xt, yt = _sides(given, xt, yt, chosen)
        return joint(stats, statistics(xt, yt, chosen))


def joint(source: SourceStatistics, target: SourceStatistics) -> OTDDResult:
    """Dataset distance of two sets by their statistics, which share their options; see ``otdd``."""
    options = source.options
    kind = LABEL_DISTANCES.get(options.label_distance)
    with torch.set_grad_enabled(torch.is_grad_enabled() and options.label_gradient):
        table = kind.between(source.description, target.description, options.labels)
    cost = joint_cost(source.x, target.x, table, (source.y, target.y), options)
    cross = sinkhorn(cost, reg=options.reg, **options.stopping)
    value = envelope(cross, cost)[0] - source.own / 2 - target.own / 2
    error, done = _convergence(cross, source.solution, target.solution)
    return OTDDResult(value, table, source.labels, target.labels, error, cross.iterations, done, cross.coupling[0])


def _convergence(*solved: SinkhornResult | None) -> tuple[float, bool]:
    """Largest marginal error, and whether all converged."""
    parts = [s for s in solved if s is not None]
    return max(float(s.marginal_error.max()) for s in parts), all(s.converged for s in parts)


@dataclass(frozen=True)
class ClasswiseResult:
    """The reference's alignment objective.

    Attributes:
        value: sum of weights times class values, scalar, differentiable in the target's features.
        classes: value of each target class, (K_t,).
        weights: weight of each target class, (K_t,).
        label_distances: W**p between source and target classes, (K_s, K_t), without gradient.
        marginal_error: largest L1 marginal error.
        converged: whether all problems met the tolerance.
    """

    value: Tensor
    classes: Tensor
    weights: Tensor
    label_distances: Tensor
    marginal_error: float
    converged: bool


def otdd_classwise(
    source: SourceStatistics, xt: Tensor, yt: Tensor, *, weights: Tensor | None = None
) -> ClasswiseResult:
    """Sum over target classes c of w_c OTDD(source, target class c), all classes as one masked batch.

    Kept to compare with the ORCA reference. Within one problem the target has a single label, so the label cost is
    constant along each row: it moves the value and leaves plan and gradient as they are. It is held constant here, as
    there. At its optimum all classes look like the whole source, and so alike; ``otdd`` compares class with class.

    Args:
        source: statistics of the source.
        xt: target features, (m, d).
        yt: target labels, (m,).
        weights: w_c of the labels that occur, in ascending order, (K_t,); None takes their shares of ``yt``.

    Raises:
        InputError: as ``otdd``.
    """
    options = source.options
    xt, yt = checked(xt, yt, "target")
    with torch.autocast(xt.device.type, enabled=False):
        source, xt, yt = _sides(source, xt, yt, options)
        labels, index = torch.unique(yt, return_inverse=True)
        clouds = class_clouds(xt, index, len(labels))
        kind = LABEL_DISTANCES.get(options.label_distance)
        with torch.no_grad():
            capped = class_clouds(xt, index, len(labels), cap=options.class_cap)
            table = kind.between(source.description, kind.describe(capped, options.labels), options.labels)
        cost = pairwise_cost(source.x[None].expand(len(labels), -1, -1), clouds.x, options.p) * options.lambda_x
        cross = sinkhorn(cost, None, clouds.weight, reg=options.reg, **options.stopping)
        constant = options.lambda_y * table[source.y].mean(0)  # (K_t,): <P, W> for any plan
        value, own = envelope(cross, cost) + constant - source.own / 2, None
        if options.debias:
            cost = pairwise_cost(clouds.x, clouds.x, options.p) * options.lambda_x
            own = sinkhorn_self(cost, clouds.weight, reg=options.reg, **options.stopping)
            value = value - envelope(own, cost) / 2
        shares = (clouds.size / len(xt)).to(value.dtype) if weights is None else weights
    error, done = _convergence(cross, own, source.solution)
    return ClasswiseResult((shares * value).sum(), value, shares, table, error, done)
