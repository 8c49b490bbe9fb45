"""Ground costs and clouds of classes: the arrays that the transport solvers work on.

Conventions: the cost of two points is d(x, y)**p with the Euclidean distance d, p = 2 (default) or 1, **not halved**:
two points at distance 5 cost 25 for p = 2. (geomloss's ``SamplesLoss`` halves the square, its ``ot.solve_sample`` does
not.)
"""

# torch types once_differentiable loosely; it makes a second derivative, which would be wrong, an error.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _PairwiseCost(Function):
    """d(x, y)**p of all pairs, with a backward pass of two matrix products and no (n, m, d) array."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, p: int) -> Tensor:
        # A common shift changes no distance, and keeps |x|^2 - 2xy + |y|^2 from cancelling when clouds are far from 0.
        centre = y.reshape(-1, y.shape[-1]).mean(0)
        x, y = x - centre, y - centre
        cost = torch.matmul(x, y.mT).mul_(-2)  # (..., n, m)
        cost.add_(x.square().sum(-1)[..., :, None]).add_(y.square().sum(-1)[..., None, :]).clamp_(min=0)
        if p == 1:
            cost.sqrt_()
        ctx.p = p
        ctx.save_for_backward(x, y, *([cost] if p == 1 else []))
        return cost

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors[:2]
        weight = grads[0]
        if ctx.p == 1:  # the gradient of a distance is a unit vector, and 0 (a subgradient) where the points coincide
            cost = ctx.saved_tensors[2]
            weight = torch.where(cost > 0, weight / cost.clamp(min=torch.finfo(cost.dtype).tiny), 0) / 2
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_x = 2 * (weight.sum(-1)[..., None] * x - torch.matmul(weight, y))
        if ctx.needs_input_grad[1]:
            grad_y = 2 * (weight.sum(-2)[..., None] * y - torch.matmul(weight.mT, x))
        return grad_x, grad_y, None


class _LabelCost(Function):
    """Spreads (K, L) values over the pairs of samples; the backward pass sums them by label (two ``index_add``)."""

    @staticmethod
    def forward(ctx, table: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        ctx.save_for_backward(rows, cols)
        ctx.shape = table.shape
        return table[:, cols].index_select(0, rows)  # (n, m)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None, None]:
        rows, cols = ctx.saved_tensors
        by_row = grads[0].new_zeros(ctx.shape[0], len(cols)).index_add_(0, rows, grads[0])  # (K, m)
        return by_row.new_zeros(ctx.shape).index_add_(1, cols, by_row), None, None


def pairwise_cost(x: Tensor, y: Tensor, p: int = 2) -> Tensor:
    """d(x_i, y_j)**p of all pairs, differentiable in both.

    Args:
        x: points, (n, d) or (B, n, d).
        y: points, (m, d) or (B, m, d).
        p: 1 or 2.

    Returns:
        (n, m) or (B, n, m), in the unit of the features to the power p.
    """
    return _PairwiseCost.apply(x, y, p)  # pyright: ignore[reportReturnType]


def label_cost(table: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """``table[rows_i, cols_j]`` of all pairs, differentiable in the table.

    Args:
        table: one value per pair of labels, (K, L).
        rows: label of each row, (n,) int64 in 0..K-1.
        cols: label of each column, (m,) int64 in 0..L-1.

    Returns:
        (n, m).
    """
    return _LabelCost.apply(table, rows, cols)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Clouds:
    """The samples of each class side by side, padded with zeros.

    Attributes:
        x: samples, (K, r, d), r the size of the largest class; differentiable in the samples they came from.
        weight: 1/size on samples and 0 on padding, (K, r).
        size: samples per class, (K,).
    """

    x: Tensor
    weight: Tensor
    size: Tensor


def class_clouds(x: Tensor, index: Tensor, classes: int, *, cap: int | None = None) -> Clouds:
    """Sorts samples by class into one padded batch.

    Args:
        x: samples, (n, d).
        index: class of each, (n,) int64 in 0..classes-1, each class at least once.
        classes: their number K.
        cap: at most so many samples of a class, evenly spaced in the order of the data; None takes all.

    Returns:
        The clouds.
    """
    order = torch.argsort(index, stable=True)
    size = torch.bincount(index, minlength=classes)  # (K,)
    first = size.cumsum(0) - size
    kept = size if cap is None else size.clamp(max=cap)
    slot = torch.arange(int(kept.max()), device=x.device)  # (r,)
    valid = slot < kept[:, None]  # (K, r)
    step = torch.div(slot * size[:, None], kept[:, None], rounding_mode="floor")
    where = order[(first[:, None] + step).clamp(max=len(x) - 1)]  # (K, r)
    padded = x[where.reshape(-1)].reshape(*where.shape, -1) * valid[..., None]
    return Clouds(padded, valid.to(x.dtype) / kept[:, None], kept)
