"""Squared Bures-Wasserstein distances between sets of Gaussians, all pairs at once.

    W_2^2(N(m, A), N(n, B)) = |m - n|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2

(Dowson and Landau 1982; Peyre and Cuturi 2019, eq. 2.41.) Squared and not halved, in squared units of the features.

A Gaussian is held by its mean and a factor F with F^T F = A. Then tr (A^1/2 B A^1/2)^1/2 is the nuclear norm of
F_A F_B^T, whatever the factors. For a class of r samples in d dimensions the centred samples over sqrt(r) are such a
factor, so the cross matrix is no larger than min(r, d) on each side, and rows of zeros (padding) change nothing.

The derivative of the nuclear norm of M = U S V^T is U V^T, bounded; on vanishing singular values the least subgradient
is taken. So gradients are finite where two Gaussians coincide, have no samples to spare, or are single points.
"""

# torch types once_differentiable loosely; it makes a second derivative, which would be wrong, an error.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from orca.transport.cost import Clouds, Products, pairwise_cost
from orca.transport.eigen import eigh, eigvalsh

WIDE = 2**24  # entries that are in float64 at once: 128 MiB
PART = 2**27  # entries that pairs of classes may take at once: 512 MiB in float32


def _wide(x: Tensor) -> Tensor:
    """In float64, as the eigenvalues of a Gram matrix are squares of singular values; on the CPU where MPS has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def _significant(squares: Tensor, matrix: Tensor) -> Tensor:
    """Roots of the eigenvalues (B, r) of Gram matrices, 0 where they are the rounding of a 0."""
    values = squares.clamp(min=0).sqrt()
    least = max(torch.finfo(matrix.dtype).eps * max(matrix.shape[-2:]), 1e-7)
    return torch.where(values > least * values.amax(-1, keepdim=True), values, 0)


def _norms(matrix: Tensor, polar: Tensor | None) -> Tensor:
    """Sum of the singular values of each matrix (B, r, s), r <= s, in float64; U V^T is written into ``polar``."""
    wide = _wide(matrix)
    gram = torch.matmul(wide, wide.mT)
    if polar is None:
        return _significant(eigvalsh(gram), matrix).sum(-1)
    squares, vectors = eigh(gram)
    values = _significant(squares, matrix)  # (B, r)
    inverse = torch.where(values > 0, 1 / values, 0)
    left = (vectors * inverse[..., None, :]) @ vectors.mT  # in float64; the product may be rounded as the matrix was
    torch.matmul(left.to(matrix), matrix, out=polar)
    return values.sum(-1)


class _NuclearNorm(Function):
    """Sum of the singular values of each matrix of a batch (B, r, s), by the Gram matrix of its smaller side."""

    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:
        flat = matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix
        polar = torch.empty_like(flat) if ctx.needs_input_grad[0] else None
        step = max(1, WIDE // (flat.shape[1] * flat.shape[2]))
        parts = [slice(begin, begin + step) for begin in range(0, max(1, len(flat)), step)]
        norms = torch.cat([_norms(flat[part], None if polar is None else polar[part]) for part in parts])
        if polar is not None:
            ctx.save_for_backward(polar if flat is matrix else polar.mT)
        return norms.to(matrix)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> Tensor:
        return grads[0][..., None, None] * ctx.saved_tensors[0]


class _SymmetricRoot(Function):
    """S with S S = A for positive semi-definite A (K, d, d); the derivative solves S dS + dS S = dA."""

    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:
        squares, vectors = eigh(_wide(matrix))
        roots = squares.clamp(min=0).sqrt()
        ctx.save_for_backward(roots, vectors)
        return ((vectors * roots[..., None, :]) @ vectors.mT).to(matrix)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> Tensor:
        roots, vectors = ctx.saved_tensors
        total = roots[..., :, None] + roots[..., None, :]
        inverse = torch.where(total > 1e-7 * total.amax((-2, -1), keepdim=True), 1 / total, 0)
        inner = vectors.mT @ grads[0].to(vectors) @ vectors
        return (vectors @ (inner * inverse) @ vectors.mT).to(grads[0])


def nuclear_norm(matrix: Tensor) -> Tensor:
    """Sum of singular values of each matrix (B, r, s), differentiable with the least subgradient."""
    return _NuclearNorm.apply(matrix)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Gaussians:
    """K Gaussians in d dimensions.

    Attributes:
        mean: (K, d).
        factor: F with F^T F = covariance, (K, r, d).
        spread: trace of each covariance, (K,).
        clouds: the samples they came from, None where moments were given.
    """

    mean: Tensor
    factor: Tensor
    spread: Tensor
    clouds: Clouds | None = None

    @classmethod
    def of_moments(cls, mean: Tensor, cov: Tensor) -> Gaussians:
        """From means (K, d) and covariances (K, d, d), symmetric and positive semi-definite."""
        root: Tensor = _SymmetricRoot.apply(cov)  # pyright: ignore[reportAssignmentType]
        return cls(mean, root, torch.diagonal(cov, dim1=-2, dim2=-1).sum(-1))

    @classmethod
    def of_clouds(cls, clouds: Clouds) -> Gaussians:
        """The Gaussian of each class: its mean and covariance over the class size (not size - 1).

        A class of one sample has covariance 0. A class larger than the dimension is turned into the span of its samples
        by an orthonormal basis held constant, which changes neither the nuclear norm nor its derivative.
        """
        mean = (clouds.weight[..., None] * clouds.x).sum(1)  # (K, d)
        factor = clouds.weight.sqrt()[..., None] * (clouds.x - mean[:, None])  # (K, r, d)
        spread = factor.square().sum((1, 2))
        if factor.shape[1] > factor.shape[2]:
            factor = torch.linalg.qr(factor.detach()).Q.mT @ factor  # (K, d, d)
        return cls(mean, factor, spread, clouds)


def class_pairs(k: int, other: int, *, upper: bool, device: torch.device) -> Tensor:
    """All pairs of k and ``other`` classes, (2, k other); with ``upper`` the k (k - 1) / 2 with the first below."""
    if upper:
        return torch.triu_indices(k, k, 1, device=device)
    return torch.stack([torch.arange(k, device=device).repeat_interleave(other),
                        torch.arange(other, device=device).repeat(k)])  # fmt: skip


def in_parts(compute: Callable[..., Tensor], index: Tensor, entries: int) -> Tensor:
    """``compute(*index)``, some columns of ``index`` at a time where all would take too much memory.

    The backward pass makes each part anew, so that it needs no more.

    Args:
        compute: from (B,) indices, one for each row of ``index``, to (B,) values.
        index: (rows, P).
        entries: numbers that one column takes.
    """
    step = max(1, PART // entries)
    if step >= index.shape[1]:
        return compute(*index)
    parts = index.split(step, 1)
    return torch.cat([checkpoint(compute, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


def pair_blocks(table: Tensor, sizes: tuple[int, int], *, upper: bool) -> Tensor:
    """Cuts a (K r, L s) array over samples into its blocks over pairs of classes, (pairs, r, s) as ``class_pairs``."""
    r, s = sizes
    blocks = table.reshape(table.shape[0] // r, r, table.shape[1] // s, s).transpose(1, 2)  # (K, L, r, s)
    if not upper:
        return blocks.reshape(-1, r, s)
    k, other = class_pairs(len(blocks), len(blocks), upper=True, device=table.device)
    return blocks[k, other]


def from_upper(values: Tensor, classes: int) -> Tensor:
    """The symmetric (K, K) table with zero diagonal whose pairs k < l have these values (K (K - 1) / 2,)."""
    k, other = torch.triu_indices(classes, classes, 1, device=values.device)
    table = values.new_zeros(classes, classes).index_put((k, other), values)
    return table + table.mT


class _CentredBlocks(Function):
    """F_k F_l^T of all pairs of classes from inner products of samples: each block centred by its weighted means.

    Takes a table (n, m) to one of (K r, L s) over the padded samples of the classes.
    """

    @staticmethod
    def forward(ctx, table: Tensor, p: Clouds, q: Clouds) -> Tensor:
        ctx.sides, ctx.shape = (p, q), table.shape
        blocks = table.clone() if p.straight else table[p.where.reshape(-1)]
        blocks = blocks if q.straight else blocks[:, q.where.reshape(-1)]
        blocks = blocks.view(*p.where.shape, *q.where.shape)  # (K, r, L, s)
        blocks -= torch.einsum("krls,ls->krl", blocks, q.weight)[..., None]
        blocks -= torch.einsum("krls,kr->kls", blocks, p.weight)[:, None]
        blocks *= p.weight.sqrt()[:, :, None, None]
        blocks *= q.weight.sqrt()
        return blocks.view(p.where.numel(), -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None, None]:
        p, q = ctx.sides
        g = grads[0].reshape(*p.where.shape, *q.where.shape) * q.weight.sqrt()
        g *= p.weight.sqrt()[:, :, None, None]
        g -= g.sum(3, keepdim=True) * q.weight
        g -= g.sum(1, keepdim=True) * p.weight[:, :, None, None]
        g = g.view(p.where.numel(), -1)
        if not q.straight:
            g = g.new_zeros(len(g), ctx.shape[1]).index_add_(1, q.where.reshape(-1), g)
        if not p.straight:
            g = g.new_zeros(ctx.shape).index_add_(0, p.where.reshape(-1), g)
        return g, None, None


def _cross(p: Gaussians, q: Gaussians, products: Products | None) -> tuple[Tensor, tuple[int, int]]:
    """F_k F_l^T of all pairs, (K r, L s), and (r, s); without a product over the features where there is one already.

    Where a side has more samples in a class than dimensions, its factors are the smaller ones.
    """
    d = p.mean.shape[-1]
    if products is not None and p.clouds is not None and q.clouds is not None:
        sizes = p.clouds.weight.shape[1], q.clouds.weight.shape[1]
        if max(sizes) <= d:
            return _CentredBlocks.apply(products.table, p.clouds, q.clouds), sizes  # pyright: ignore[reportReturnType]
    return p.factor.reshape(-1, d) @ q.factor.reshape(-1, d).mT, (p.factor.shape[1], q.factor.shape[1])


def _full(p: Gaussians, q: Gaussians, *, upper: bool, products: Products | None) -> Tensor:
    k, other, r, s, d = len(p.mean), len(q.mean), p.factor.shape[1], q.factor.shape[1], p.mean.shape[1]
    if k * r * other * s > PART:
        pairs = class_pairs(k, other, upper=upper, device=p.mean.device)
        norms = in_parts(lambda i, j: nuclear_norm(p.factor[i] @ q.factor[j].mT), pairs, r * s + (r + s) * d)
    else:
        table, sizes = _cross(p, q, products)
        norms = nuclear_norm(pair_blocks(table, sizes, upper=upper))
    if upper:
        spread = torch.diag(p.spread)  # the diagonal cancels: tr A + tr A - 2 tr A
        return p.spread[:, None] + p.spread - 2 * from_upper(norms, k) - 2 * spread
    return p.spread[:, None] + q.spread - 2 * norms.reshape(k, other)


def _diagonal(p: Gaussians, q: Gaussians, *, upper: bool, products: Products | None) -> Tensor:
    p_sd, q_sd = (torch.linalg.vector_norm(g.factor, dim=1) for g in (p, q))  # (K, d); derivative 0 at 0
    return pairwise_cost(p_sd, q_sd)


COVARIANCES = {"full": _full, "diagonal": _diagonal}


def bures_wasserstein(
    p: Gaussians, q: Gaussians | None = None, *, covariance: str = "full", products: Products | None = None
) -> Tensor:
    """Squared Bures-Wasserstein distances of all pairs.

    Args:
        p: K Gaussians.
        q: L Gaussians, or None for p with itself: then half the pairs are computed and the diagonal is exactly 0.
        covariance: ``full``, or ``diagonal``, which leaves out the correlations between dimensions.
        products: of the samples that both sides came from, if they are there already; saves the largest product here.

    Returns:
        (K, L), of at least 0, in squared units of the features; differentiable in both sets.
    """
    other = p if q is None else q
    table = pairwise_cost(p.mean, other.mean) + COVARIANCES[covariance](p, other, upper=q is None, products=products)
    if q is None:
        table = table * (1 - torch.eye(len(table), dtype=table.dtype, device=table.device))
    return table.clamp(min=0)
