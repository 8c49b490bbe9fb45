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
        if p == 1:  # squares below their rounding are 0, as in `distances`
            norms = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
            cost.masked_fill_(cost <= norms.mul_(4 * torch.finfo(cost.dtype).eps), 0).sqrt_()
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


class _Gram(Function):
    """Inner products of a set with itself; one matrix product on the way back instead of two."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x @ x.mT

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> Tensor:
        return (grads[0] + grads[0].mT) @ ctx.saved_tensors[0]


@dataclass(frozen=True)
class Centred:
    """A set moved by its mean, which is held constant.

    A shift changes no distance, and keeps |x|^2 - 2xy + |y|^2 from cancelling when clouds are far from 0.

    Attributes:
        points: (n, d), differentiable.
        centre: the vector taken away, (d,).
        norms: squared norms of the points, (n,).
    """

    points: Tensor
    centre: Tensor
    norms: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Centred:
        """Of x (n, d)."""
        centre = x.detach().mean(0)
        points = x - centre
        return cls(points, centre, points.square().sum(1))


@dataclass(frozen=True)
class Products:
    """Inner products between two sets, both moved by one vector: distances and Gaussians need no more of the features.

    Attributes:
        table: x_i . y_j, (n, m).
        rows: squared norms of the x_i, (n,).
        cols: squared norms of the y_j, (m,).
    """

    table: Tensor
    rows: Tensor
    cols: Tensor

    @classmethod
    def of(cls, x: Centred, y: Tensor | None = None) -> Products:
        """Of x (n, d) with y (m, d), or with itself; differentiable in both."""
        if y is None:
            return cls(_Gram.apply(x.points), x.norms, x.norms)  # pyright: ignore[reportArgumentType]
        y = y - x.centre
        return cls(x.points @ y.mT, x.norms, y.square().sum(1))


def distances(products: Products, p: int, out: Tensor | None = None) -> Tensor:
    """d(x_i, y_j)**p of all pairs from inner products, (n, m), without gradient; ``out`` may be their own table.

    For p = 1 squares below their own rounding are 0: a root would blow that up to 1e-4 of the norms in float32.
    """
    cost = torch.mul(products.table, -2, out=out)
    cost.add_(products.rows[:, None]).add_(products.cols).clamp_(min=0)
    if p == 2:
        return cost
    rounding = (products.rows[:, None] + products.cols).mul_(4 * torch.finfo(cost.dtype).eps)
    return cost.masked_fill_(cost <= rounding, 0).sqrt_()


class _Distances(Function):
    """``distances`` as a function of inner products and squared norms."""

    @staticmethod
    def forward(ctx, table: Tensor, rows: Tensor, cols: Tensor, p: int) -> Tensor:
        cost = distances(Products(table, rows, cols), p)
        ctx.save_for_backward(*([cost] if p == 1 else []))
        return cost

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        weight = grads[0]
        if ctx.saved_tensors:  # p = 1: the gradient of a distance is a unit vector, and 0 where the points coincide
            cost = ctx.saved_tensors[0]
            weight = torch.where(cost > 0, weight / (2 * cost), 0)
        return weight * -2, weight.sum(1), weight.sum(0), None


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
        return by_labels(grads[0], rows, cols, ctx.shape), None, None


def by_labels(values: Tensor, rows: Tensor, cols: Tensor, shape: tuple[int, int]) -> Tensor:
    """Values of pairs of samples (n, m) summed over pairs of labels, (K, L) = ``shape``."""
    by_row = values.new_zeros(shape[0], values.shape[1]).index_add_(0, rows, values)  # (K, m)
    return values.new_zeros(shape).index_add_(1, cols, by_row)


def distance_cost(products: Products, p: int = 2) -> Tensor:
    """d(x_i, y_j)**p of all pairs, (n, m), differentiable in the products."""
    return _Distances.apply(products.table, products.rows, products.cols, p)  # pyright: ignore[reportReturnType]


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


@dataclass(frozen=True)
class Clouds:
    """The samples of each class side by side, padded with its first one: what is no sample must not lie far away.

    Attributes:
        x: samples, (K, r, d), r the size of the largest class; differentiable in the samples they came from.
        weight: weight of each sample in its class, 0 on padding, sum 1, (K, r).
        size: samples per class, (K,).
        where: row of each sample in the data, any on padding, (K, r).
        straight: whether ``where`` is 0..n-1, so that blocks of a table over the data are views of it.
    """

    x: Tensor
    weight: Tensor
    size: Tensor
    where: Tensor
    straight: bool


def class_clouds(
    x: Tensor, index: Tensor, classes: int, *, cap: int | None = None, weight: Tensor | None = None
) -> Clouds:
    """Sorts samples by class into one padded batch.

    Args:
        x: samples, (n, d).
        index: class of each, (n,) int64 in 0..classes-1, each class at least once.
        classes: their number K.
        cap: at most so many samples of a class, evenly spaced in the order of the data; None takes all.
        weight: of the samples, (n,), at least 0; None is uniform, and so is a class whose weights are all 0.
    """
    order = torch.argsort(index, stable=True)
    size = torch.bincount(index, minlength=classes)  # (K,)
    first = size.cumsum(0) - size
    kept = size if cap is None else size.clamp(max=cap)
    slot = torch.arange(int(kept.max()), device=x.device)  # (r,)
    valid = slot < kept[:, None]  # (K, r)
    step = torch.div(slot * size[:, None], kept[:, None], rounding_mode="floor")
    where = order[first[:, None] + torch.where(valid, step, 0)]  # (K, r)
    flat = where.reshape(-1)
    straight = len(flat) == len(x) and bool((flat == torch.arange(len(x), device=x.device)).all())
    padded = (x if straight else x[flat]).reshape(*where.shape, -1)
    share = valid.to(x.dtype)
    if weight is not None:
        given = weight[where] * share
        share = torch.where(given.sum(1, keepdim=True) > 0, given, share)
    return Clouds(padded, share / share.sum(1, keepdim=True), kept, where, straight)
