"""Sinkhorn divergences between point clouds: entropic transport without its bias.

    SD_eps(x, y) = OT_eps(x, y) - OT_eps(x, x) / 2 - OT_eps(y, y) / 2

(Genevay et al. 2018; Feydy et al. 2019, arXiv 1810.08278, eq. 3.) Zero for equal clouds, and |t|^2 for a cloud and the
same cloud moved by t, at every eps (cost |x - y|^2, not halved).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from orca.transport.cost import Clouds, pairwise_cost
from orca.transport.gaussian import class_pairs, from_upper, in_parts
from orca.transport.sinkhorn import SinkhornResult, envelope, sinkhorn, sinkhorn_self, worst


class Stopping(TypedDict, total=False):
    """When the solver stops; see ``sinkhorn``."""

    tolerance: float
    max_iterations: int
    annealing: float


@dataclass(frozen=True)
class DivergenceResult:
    """A batch of Sinkhorn divergences.

    Attributes:
        value: (B,), differentiable in both clouds and not in the weights.
        cross: the solution between the clouds.
        selves: the solutions of the self terms, empty without debiasing.
    """

    value: Tensor
    cross: SinkhornResult
    selves: tuple[SinkhornResult, ...]

    @property
    def converged(self) -> bool:
        """Whether all problems met the tolerance."""
        return self.cross.converged and all(r.converged for r in self.selves)


def sinkhorn_divergence(
    x: Tensor,
    y: Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    reg: float,
    p: int = 2,
    debias: bool = True,
    **stopping: Unpack[Stopping],
) -> DivergenceResult:
    """Sinkhorn divergence of each pair of clouds of a batch, with the cost d(x, y)**p.

    Args:
        x: points, (B, n, d).
        y: points, (B, m, d).
        a: weights, (B, n), sum 1, zero on padding; None is uniform.
        b: weights, (B, m), likewise.
        reg: eps, absolute, in the unit of the cost.
        p: 1 or 2.
        debias: subtract the self terms.
        **stopping: tolerance, max_iterations, annealing.

    Returns:
        Values and solutions.
    """
    cost = pairwise_cost(x, y, p)
    cross = sinkhorn(cost, a, b, reg=reg, **stopping)
    value = envelope(cross, cost)
    if not debias:
        return DivergenceResult(value, cross, ())
    selves = []
    for points, weight in ((x, a), (y, b)):
        cost = pairwise_cost(points, points, p)
        selves.append(sinkhorn_self(cost, weight, reg=reg, **stopping))
        value = value - envelope(selves[-1], cost) / 2
    return DivergenceResult(value, cross, tuple(selves))


@dataclass(frozen=True)
class CloudStatistics:
    """Classes as clouds, with what each contributes by itself to every divergence it is part of.

    Attributes:
        clouds: samples of each class.
        own: OT_eps of each class with itself, (K,).
        reg: eps, absolute.
        p: power of the cost.
        error: largest L1 marginal error of the self terms.
    """

    clouds: Clouds
    own: Tensor
    reg: float
    p: int
    error: float

    @classmethod
    def of(cls, clouds: Clouds, *, reg: float, p: int, **stopping: Unpack[Stopping]) -> CloudStatistics:
        """Solves the K self terms."""
        (k, n, d), errors = clouds.x.shape, [0.0]

        def own(rows: Tensor) -> Tensor:
            cost = pairwise_cost(clouds.x[rows], clouds.x[rows], p)
            solved = sinkhorn_self(cost, clouds.weight[rows], reg=reg, **stopping)
            errors.append(float(solved.marginal_error.max()))
            return envelope(solved, cost)

        index = torch.arange(k, device=clouds.x.device)[None]
        return cls(clouds, in_parts(own, index, n * (n + 2 * d)), reg, p, worst(*errors))


def cloud_divergences(
    s: CloudStatistics, t: CloudStatistics | None = None, **stopping: Unpack[Stopping]
) -> tuple[Tensor, float]:
    """Sinkhorn divergences between all pairs of classes, solved as one masked batch, or several where one is too large.

    Args:
        s: K classes.
        t: L classes, or None for s with itself: then half the pairs are solved and the diagonal is exactly 0.
        **stopping: tolerance, max_iterations, annealing.

    Returns:
        (K, L), of at least 0, unit of the cost, differentiable in both sets; and the largest L1 marginal error of all
        problems behind it.
    """
    other, upper = s if t is None else t, t is None
    (k, n, d), (classes, m, _) = s.clouds.x.shape, other.clouds.x.shape
    if upper and k == 1:
        return s.own.new_zeros(1, 1), s.error
    errors = [s.error, other.error]

    def compare(rows: Tensor, cols: Tensor) -> Tensor:
        cost = pairwise_cost(s.clouds.x[rows], other.clouds.x[cols], s.p)
        solved = sinkhorn(cost, s.clouds.weight[rows], other.clouds.weight[cols], reg=s.reg, **stopping)
        errors.append(float(solved.marginal_error.max()))
        return envelope(solved, cost) - s.own[rows] / 2 - other.own[cols] / 2

    pairs = class_pairs(k, classes, upper=upper, device=s.own.device)
    values = in_parts(compare, pairs, n * m + (n + m) * d)
    return (from_upper(values, k) if upper else values.reshape(k, classes)).clamp(min=0), worst(*errors)
