"""Distances between labels: how far apart two classes are as distributions over the features.

Each kind is a pair of functions: ``describe`` turns the clouds of one set into what it contributes by itself, and
``between`` compares the classes of two descriptions, or of one with itself. Both keep the gradient. All give W**p, the
quantity that enters the cost: for p = 2 squared distances, not halved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orca.registry import Registry
from orca.transport.cost import Clouds, Products, pairwise_cost
from orca.transport.divergence import CloudStatistics, cloud_divergences
from orca.transport.gaussian import Gaussians, bures_wasserstein

Table = tuple[Tensor, float]


@dataclass(frozen=True)
class LabelOptions:
    """What a label distance needs to know: power of the cost, form of covariances, eps, stopping rule of the solver."""

    p: int
    covariance: str
    reg: float
    tolerance: float
    max_iterations: int


@dataclass(frozen=True)
class LabelDistance:
    """A way to compare labels.

    Attributes:
        name: how it is chosen.
        summary: one line on what it is.
        describe: clouds of K classes to their description.
        between: two descriptions to (K, L) distances, and the largest L1 marginal error of the problems that were
            solved for them; None for the second compares the first with itself. Takes the inner products of the
            samples as well, or None where they are not there.
    """

    name: str
    summary: str
    describe: Callable[[Clouds, LabelOptions], Any]
    between: Callable[[Any, Any | None, LabelOptions, Products | None], Table]


LABEL_DISTANCES: Registry[LabelDistance] = Registry("label distance")


def _root(squared: Tensor) -> Tensor:
    """Square root with derivative 0 at 0."""
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1).sqrt(), 0)


def _gaussians(clouds: Clouds, options: LabelOptions) -> Gaussians:
    return Gaussians.of_clouds(clouds)


def _gaussian(s: Gaussians, t: Gaussians | None, options: LabelOptions, products: Products | None) -> Table:
    squared = bures_wasserstein(s, t, covariance=options.covariance, products=products)
    return squared if options.p == 2 else _root(squared), 0.0


def _clouds(clouds: Clouds, options: LabelOptions) -> CloudStatistics:
    stopping = {"tolerance": options.tolerance, "max_iterations": options.max_iterations}
    return CloudStatistics.of(clouds, reg=options.reg, p=options.p, **stopping)


def _exact(s: CloudStatistics, t: CloudStatistics | None, options: LabelOptions, products: Products | None) -> Table:
    return cloud_divergences(s, t, tolerance=options.tolerance, max_iterations=options.max_iterations)


def _class_means(clouds: Clouds, options: LabelOptions) -> Tensor:
    return (clouds.weight[..., None] * clouds.x).sum(1)


def _means(s: Tensor, t: Tensor | None, options: LabelOptions, products: Products | None) -> Table:
    if t is not None:
        return pairwise_cost(s, t, options.p), 0.0
    return pairwise_cost(s, s, options.p) * (1 - torch.eye(len(s), dtype=s.dtype, device=s.device)), 0.0


def _count(clouds: Clouds, options: LabelOptions) -> Tensor:
    return clouds.x.new_zeros(len(clouds.size))


def _none(s: Tensor, t: Tensor | None, options: LabelOptions, products: Products | None) -> Table:
    return s[:, None] + (s if t is None else t), 0.0


LABEL_DISTANCES.add(LabelDistance("gaussian", "2-Wasserstein between class Gaussians", _gaussians, _gaussian))
LABEL_DISTANCES.add(LabelDistance("exact", "Sinkhorn divergence between class clouds", _clouds, _exact))
LABEL_DISTANCES.add(LabelDistance("means", "distance of class means", _class_means, _means))
LABEL_DISTANCES.add(LabelDistance("none", "zero: labels are not compared", _count, _none))
