"""Optimal transport dataset distance: how far one labelled set is from another, labels matched to labels.

    cost((x, y), (x', y')) = lambda_x d(x, x')**p + lambda_y W(y, y')**p
    OTDD(S, T) = OT_eps(S, T) - OT_eps(S, S) / 2 - OT_eps(T, T) / 2        (debiased; else the first term alone)

(Alvarez-Melis and Fusi 2020, arXiv 2002.02923, eq. 4.) W compares the classes of two labels as distributions over the
features. The cost is **not halved** and no root is taken: two points at distance 5 have feature cost 25 for p = 2. The
ORCA reference halves both parts; its value with eps is half of ours with 2 eps. Samples weigh the same unless weights
are given.

``reg`` is eps, absolute, in the unit of the cost (squared features for p = 2). Debiased values of small samples depend
on the sample size: compare them at equal sizes only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Unpack

import torch
from torch import Tensor

from orca.errors import InputError
from orca.transport.cost import Clouds, Products, class_clouds, distance_cost, pairwise_cost
from orca.transport.engines import ENGINES, choose
from orca.transport.labels import LABEL_DISTANCES, Table
from orca.transport.options import OTDDChanges, OTDDOptions
from orca.transport.problem import Problem, Side
from orca.transport.sinkhorn import SinkhornResult, envelope, sinkhorn, sinkhorn_self, worst
from orca.transport.statistics import (
    SourceStatistics,
    check_given,
    checked,
    checked_weights,
    outer,
    same_space,
    statistics,
)


@dataclass(frozen=True)
class OTDDResult:
    """A dataset distance and what it was made of.

    Attributes:
        value: scalar, differentiable in both feature sets; unit of the features to the power p.
        label_distances: W**p as it enters the cost, (K_s, K_t).
        source_labels: label of each row of ``label_distances``, (K_s,).
        target_labels: label of each column, (K_t,).
        marginal_error: largest L1 marginal error of the outer problems, and of those of label distances ``exact``.
        iterations: updates of the problem between the sets.
        converged: whether all these problems met the tolerance.
        engine: what solved the problem between the sets.
        problem: that problem, samples class by class.
        solution: its potentials.
        orders: sample of the source (n,) and of the target (m,) that each row and column of the problem is.
    """

    value: Tensor
    label_distances: Tensor
    source_labels: Tensor
    target_labels: Tensor
    marginal_error: float
    iterations: int
    converged: bool
    engine: str
    problem: Problem
    solution: SinkhornResult
    orders: tuple[Tensor, Tensor]

    def plan(self) -> Tensor:
        """Mass moved from each source sample to each target sample, (n, m), without gradient; sums to 1.

        Made from the potentials at each call: n x m numbers, however the problem was solved.
        """
        found = self.solution.coupling
        moved = found[0] if found.numel() else self.problem.plan(self.solution.f[0], self.solution.g[0])
        rows, cols = (torch.argsort(order) for order in self.orders)
        return moved[rows][:, cols]


def sinkhorn_otdd(
    xs: Tensor,
    ys: Tensor,
    xt: Tensor,
    yt: Tensor,
    *,
    a: Tensor | None = None,
    b: Tensor | None = None,
    source: SourceStatistics | None = None,
    **options: Unpack[OTDDChanges],
) -> OTDDResult:
    """All classes of the one set jointly against all classes of the other; arguments and errors as of ``orca.otdd``.

    Args:
        xs: source features, (n, d).
        ys: source labels, (n,).
        xt: target features, (m, d).
        yt: target labels, (m,).
        a: weights of the source samples, (n,), at least 0, scaled to sum 1; None is uniform.
        b: weights of the target samples, (m,), likewise.
        source: statistics of the source, computed once by ``SourceStatistics.of``; their options and weights hold.
        **options: fields of ``OTDDOptions``.

    Returns:
        The value, differentiable in ``xs`` (without ``source``) and ``xt``, with label distances, plan and convergence.
    """
    chosen = source.options if source and not options else OTDDOptions(**options)
    xt, yt = checked(xt, yt, "target")
    if source is None:
        xs, ys = checked(xs, ys, "source")
        wider = torch.promote_types(xs.dtype, xt.dtype)
        xs, xt = xs.to(wider), xt.to(wider)
    elif a is not None:
        raise InputError("source statistics hold the weights of the source; give them to SourceStatistics.of, not as a")
    else:
        check_given((source.x, source.y), xs, ys, made_for=source.options, options=chosen)
        xs, xt = source.x, xt.to(source.x.dtype)
    same_space(xs, xt)
    with torch.autocast(xt.device.type, enabled=False):
        if source is None:
            source = statistics(xs, ys, chosen, checked_weights(a, xs, "source"))
        return joint(source, statistics(xt, yt, chosen, checked_weights(b, xt, "target")))


def joint(source: SourceStatistics, target: SourceStatistics) -> OTDDResult:
    """Dataset distance of two sets by their statistics, which share their options; see ``otdd``."""
    options = source.options
    engine = choose(outer(source.side, target.side, None, options), options.engine, options.memory)
    products = Products.of(source.side.centred, target.side.x) if engine == "dense" else None
    kind = LABEL_DISTANCES.get(options.label_distance)
    with torch.set_grad_enabled(torch.is_grad_enabled() and options.label_gradient):
        table, label_error = kind.between(source.description, target.description, options.labels, products)
    problem = outer(source.side, target.side, table, options)
    value, cross = ENGINES[engine](problem, products)
    label_error = worst(label_error, source.label_error, target.label_error)
    error, done = _convergence(options, label_error, cross, source.solution, target.solution)
    return OTDDResult(
        value - source.own / 2 - target.own / 2, table, source.labels, target.labels, error, cross.iterations, done,
        engine, problem, cross, (source.order, target.order),
    )  # fmt: skip


def _convergence(options: OTDDOptions, label_error: float, *solved: SinkhornResult | None) -> tuple[float, bool]:
    """Largest marginal error, and whether all converged."""
    parts = [s for s in solved if s is not None]
    error = worst(label_error, *(float(s.marginal_error.max()) for s in parts))
    return error, label_error <= options.tolerance and all(s.converged for s in parts)


@dataclass(frozen=True)
class ClasswiseResult:
    """The reference's alignment objective.

    Attributes:
        value: sum of weights times class values, scalar, differentiable in the target's features.
        classes: value of each target class, (K_t,).
        weights: weight of each target class, (K_t,).
        label_distances: W**p between source and target classes, (K_s, K_t), without gradient.
        marginal_error: largest L1 marginal error, that of label distances ``exact`` included.
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
    same_space(source.x, xt)
    labels, index = torch.unique(yt, return_inverse=True)
    if weights is not None and (weights.shape != labels.shape or not bool((weights >= 0).all())):
        raise InputError(
            f"class weights: expected ({len(labels)},) numbers of at least 0, one for each label; got {weights}"
        )
    with torch.autocast(xt.device.type, enabled=False):
        clouds = class_clouds(xt.to(source.x.dtype), index, len(labels))
        whole = Side(clouds.x.flatten(0, 1), labels.new_zeros(clouds.weight.numel()), clouds.weight.flatten())
        engine = choose(outer(source.side, whole, None, options), options.engine, options.memory)
        at_once = engine == "dense"
        value, (table, label_error), solved = (
            _all_classes(source, clouds) if at_once else _class_by_class(source, clouds, engine)
        )
        constant = options.lambda_y * (source.side.weight @ table[source.side.index])  # (K_t,): <P, W> for any plan
        value = value + constant - source.own / 2
        shares = (clouds.size / len(xt)).to(value.dtype) if weights is None else weights.to(value)
    error, done = _convergence(options, worst(label_error, source.label_error), *solved, source.solution)
    return ClasswiseResult((shares * value).sum(), value, shares, table, error, done)


def _class_table(source: SourceStatistics, clouds: Clouds, products: Products | None) -> Table:
    """Label distances between the source's classes and these, (K_s, K_t), without gradient, and their error.

    ``products`` are those with the padded clouds.
    """
    options, kind = source.options, LABEL_DISTANCES.get(source.options.label_distance)
    with torch.no_grad():
        if options.class_cap is None or options.class_cap >= clouds.weight.shape[1]:
            place = torch.arange(clouds.weight.numel(), device=clouds.x.device).view_as(clouds.weight)
            clouds = replace(clouds, where=place, straight=True)
        else:
            kept = torch.repeat_interleave(torch.arange(len(clouds.size), device=clouds.x.device), clouds.size)
            clouds = class_clouds(clouds.x[clouds.weight > 0], kept, len(clouds.size), cap=options.class_cap)
            products = None
        return kind.between(source.description, kind.describe(clouds, options.labels), options.labels, products)


def _all_classes(source: SourceStatistics, clouds: Clouds) -> tuple[Tensor, Table, list[SinkhornResult]]:
    """Feature terms of all classes (K_t,) in one batch, label distances, and the solutions."""
    options, side = source.options, source.side
    products = Products.of(side.centred, clouds.x.flatten(0, 1))
    cost = distance_cost(products, options.p)
    if options.lambda_x != 1:
        cost = cost * options.lambda_x
    cost = cost.view(len(side), *clouds.weight.shape).transpose(0, 1)  # (K_t, n, r)
    rows = side.weight.expand(len(clouds.size), -1)

    solved = [sinkhorn(cost, rows, clouds.weight, reg=options.reg, **options.stopping)]
    value = envelope(solved[0], cost)
    if options.debias:
        own = pairwise_cost(clouds.x, clouds.x, options.p) * options.lambda_x
        solved.append(sinkhorn_self(own, clouds.weight, reg=options.reg, **options.stopping))
        value = value - envelope(solved[1], own) / 2
    return value, _class_table(source, clouds, products), solved


def _class_by_class(
    source: SourceStatistics, clouds: Clouds, engine: str
) -> tuple[Tensor, Table, list[SinkhornResult]]:
    """As ``_all_classes``, one after another, where all at once would not fit."""
    options, values, solved = source.options, [], []
    for x, weight in zip(clouds.x, clouds.weight, strict=True):
        side = Side(x[weight > 0], torch.zeros_like(weight[weight > 0], dtype=torch.int64), weight[weight > 0])
        value, cross = ENGINES[engine](outer(source.side, side, None, options), None)
        solved.append(cross)
        if options.debias:
            own, alone = ENGINES[engine](outer(side, side, None, options), None)
            value, solved = value - own / 2, [*solved, alone]
        values.append(value)
    return torch.stack(values), _class_table(source, clouds, None), solved
