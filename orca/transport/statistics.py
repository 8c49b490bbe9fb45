"""What a labelled set contributes to a dataset distance by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from orca.transport.cost import class_clouds, label_cost, pairwise_cost
from orca.transport.labels import LABEL_DISTANCES
from orca.transport.options import OTDDOptions
from orca.transport.sinkhorn import SinkhornResult, envelope, sinkhorn_self
from orca.types import InputError, LabeledSet


@dataclass(frozen=True)
class SourceStatistics:
    """What depends on one set alone: computed once, passed to every comparison with it.

    Attributes:
        x: features, (n, d).
        y: position of each label in ``labels``, (n,).
        labels: the labels that occur, ascending, (K,).
        options: what they were computed for.
        description: classes as the label distance sees them.
        within: label distances W**p inside the set, (K, K).
        own: OT_eps of the set with itself, scalar; 0 without debiasing.
        solution: the self term's solution, None without debiasing; its plan is dropped.
    """

    x: Tensor
    y: Tensor
    labels: Tensor
    options: OTDDOptions
    description: Any
    within: Tensor
    own: Tensor
    solution: SinkhornResult | None

    @classmethod
    def of(cls, source: LabeledSet, options: OTDDOptions | None = None) -> SourceStatistics:
        """Statistics of a set that stays constant: they carry no gradient.

        Raises:
            InputError: the set is empty, not finite, or its labels are not integers of at least 0.
        """
        x, y = checked(source.x, source.y, "source")
        with torch.no_grad():
            return statistics(x, y, options or OTDDOptions())


def checked(x: Tensor, y: Tensor, which: str) -> tuple[Tensor, Tensor]:
    """Features in float32 or float64 and labels in int64, or an error that says what is wrong with this set."""
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise InputError(f"{which}: expected tensors; got {type(x).__name__}, {type(y).__name__}; use torch.as_tensor")
    if not x.is_floating_point() or x.ndim != 2 or not x.numel():
        raise InputError(f"{which} features: expected floating point (n, d), not empty; got {x.dtype} {tuple(x.shape)}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or y.shape != x.shape[:1]:
        raise InputError(
            f"{which} labels: expected integers ({len(x)},), one for each row of x; got {y.dtype} {tuple(y.shape)}"
        )
    if int(y.min()) < 0:
        raise InputError(
            f"{which} labels: expected integers of at least 0; got {int(y.min())}; number the classes from 0"
        )
    bad = ~torch.isfinite(x.detach()).all(1)
    if bool(bad.any()):
        raise InputError(
            f"{which} features: expected finite numbers; {int(bad.sum())} of {len(x)} rows have NaN or infinity, the "
            f"first is row {int(bad.nonzero()[0])}; drop or impute them"
        )
    return (x if x.dtype == torch.float64 else x.float()), y.to(x.device, torch.int64)


def joint_cost(x: Tensor, y: Tensor, table: Tensor, index: tuple[Tensor, Tensor], options: OTDDOptions) -> Tensor:
    """lambda_x d(x_i, y_j)**p + lambda_y W[label_i, label_j], as a batch of one.

    Args:
        x: features of the rows, (n, d).
        y: features of the columns, (m, d).
        table: W**p, (K, L).
        index: labels of the rows (n,) and of the columns (m,).
        options: weights and power.

    Returns:
        (1, n, m).
    """
    cost = pairwise_cost(x, y, options.p)
    if options.lambda_x != 1:
        cost = cost * options.lambda_x
    if options.lambda_y and options.label_distance != "none":
        cost = label_cost(table if options.lambda_y == 1 else table * options.lambda_y, *index).add_(cost)
    return cost[None]


def statistics(x: Tensor, y: Tensor, options: OTDDOptions) -> SourceStatistics:
    """Statistics of checked features (n, d) and labels (n,), with the gradient to the features."""
    labels, index = torch.unique(y, return_inverse=True)
    kind = LABEL_DISTANCES.get(options.label_distance)
    with torch.set_grad_enabled(torch.is_grad_enabled() and options.label_gradient):
        clouds = class_clouds(x, index, len(labels), cap=options.class_cap)
        description = kind.describe(clouds, options.labels)
        within = kind.between(description, None, options.labels)
    own, solution = x.new_zeros(()), None
    if options.debias:
        cost = joint_cost(x, x, within, (index, index), options)
        solution = sinkhorn_self(cost, reg=options.reg, **options.stopping)
        own = envelope(solution, cost)[0]
        solution = replace(solution, coupling=x.new_zeros(0))
    return SourceStatistics(x, index, labels, options, description, within, own, solution)
