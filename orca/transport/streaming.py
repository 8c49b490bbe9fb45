"""The outer problem without its matrix: costs are computed a block of rows at a time, and forgotten.

One pass over the blocks is one whole update of both potentials. The rows' potentials of a block follow from the
columns' by a log-sum-exp; with these rows the block's share of the column sums t_j = sum_i a_i exp((f_i + g_j - C_ij) /
eps) is added up at once; after the pass g_j <- g_j - eps log t_j, and the marginal error is sum_j b_j |t_j - 1|. So an
update costs n m d multiply-adds and n m exponentials, half of what two log-sum-exp passes would, and memory grows with
n + m. A self term takes the averaged update of ``sinkhorn_self``.

The start is the solution of a sample of both sets, evenly spaced, which has the annealing behind it and is extended to
all points by the same log-sum-exp (Feydy et al. 2019, arXiv 1810.08278, section 3.2 extends potentials so); what it
lacks, the passes correct. The stopping rule is that of ``sinkhorn``; so is the over-relaxation, whose exponent does not
grow here, as few passes are taken.
"""

# torch types once_differentiable loosely; it makes a second derivative, which would be wrong, an error.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from orca.transport.cost import Products, by_labels, distances
from orca.transport.problem import Problem, solve_dense
from orca.transport.sinkhorn import FLOOR, SinkhornResult, relaxation

COARSE = 4096  # samples a side of the problem that gives the start
BLOCK = {"cpu": 2**22, "mps": 2**24, "cuda": 2**27}  # entries of a block: 16 MiB, 64 MiB and 512 MiB in float32


class _Pass(NamedTuple):
    """One pass: potentials of the rows (n,), and column sums (m,)."""

    f: Tensor
    sums: Tensor


def _blocks(problem: Problem) -> Iterator[tuple[slice, Tensor]]:
    """Features' part of the cost, block by block of rows, in one buffer that is used again."""
    x, y = problem.s.x, problem.t.x
    centre = y.mean(0)
    x, y = x - centre, y - centre
    xx, yy = x.square().sum(1), y.square().sum(1)
    rows = max(1, min(len(x), BLOCK[x.device.type] // len(y)))
    buffer = x.new_empty(rows, len(y))
    for begin in range(0, len(x), rows):
        part = slice(begin, min(begin + rows, len(x)))
        inner = torch.matmul(x[part], y.mT, out=buffer[: part.stop - begin])
        yield part, distances(Products(inner, xx[part], yy), problem.p, out=inner)


def sweep(problem: Problem, g: Tensor, *, columns: bool = True) -> _Pass:
    """Rows' potentials (n,) that meet the rows' marginals at ``g`` (m,), and the column sums they leave."""
    a, b = problem.s.weight, problem.t.weight
    f, sums = torch.empty_like(a), torch.zeros_like(b)
    for part, cost in _blocks(problem):
        exponent = problem.add_labels(cost.mul_(problem.scale), part).neg_().add_(g).div_(problem.reg)
        top = exponent.amax(1, keepdim=True)
        kernel = exponent.sub_(top).clamp_(min=FLOOR).exp_()
        mass = kernel @ b
        f[part] = -problem.reg * (top[:, 0] + mass.log())
        if columns:
            sums += (a[part] / mass) @ kernel
    return _Pass(f, sums)


def _start(problem: Problem) -> tuple[Tensor, int]:
    """Columns' potentials (m,) from a sample of both sets, and the updates that took."""
    some = [_even(side.x) for side in (problem.s, problem.t)]
    s = problem.s.take(some[0])
    small = replace(problem, s=s, t=s if problem.itself else problem.t.take(some[1]))
    _, solved = solve_dense(small)
    f = solved.f[0].masked_fill(small.s.weight == 0, -math.inf)
    whole = replace(problem.transposed(), t=small.s)  # all columns against the rows of the sample
    return sweep(whole, f, columns=False).f, solved.iterations


def _even(x: Tensor) -> Tensor:
    """At most ``COARSE`` rows of x (n, d), evenly spaced."""
    count = min(len(x), COARSE)
    return torch.arange(count, device=x.device) * len(x) // count


@torch.no_grad()
def sinkhorn_streaming(problem: Problem, start: Tensor | None = None) -> SinkhornResult:
    """Solves by passes over the rows; see the module.

    Args:
        problem: the problem.
        start: potentials of the columns (m,) from elsewhere, instead of those of a sample.

    Returns:
        The solution as a batch of one, without its plan.
    """
    a, b, eps = problem.s.weight, problem.t.weight, problem.reg
    tolerance, budget = problem.stopping.get("tolerance", 1e-3), problem.stopping.get("max_iterations", 500)
    g, used = (start, 0) if start is not None else _start(problem)
    g = g.masked_fill(b == 0, -math.inf)
    step, last = 0, g.new_tensor(math.inf)
    while True:
        f, sums = sweep(problem, g, columns=not problem.itself)
        if problem.itself:  # g is the old potential and f its image
            sums = ((g - f) / eps).exp()
        sums = torch.where(b > 0, sums, 1)
        error = (b * (sums - 1).abs()).sum()
        if step == budget or bool((error <= tolerance) | ~torch.isfinite(error)):
            break
        if problem.itself:
            g = (g + f) / 2
        else:
            power, last = relaxation(error, last, 1.0), error
            g = g - power * eps * sums.log()
        step += 1
    f = g if problem.itself else f
    total = (b * sums).sum()
    f, g = f.masked_fill(a == 0, 0), g.masked_fill(b == 0, 0)
    value = (a * f).sum() + (b * g).sum() - eps * (total - 1)
    done = bool(error <= tolerance)
    return SinkhornResult(f[None], g[None], value[None], error[None], used + step + 1, done, a.new_zeros(0))


class _Stream(Function):
    """Value of a solved problem as a function of features and table; the plan is made again block by block."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, table: Tensor | None, problem: Problem, solved: SinkhornResult) -> Tensor:
        ctx.problem, ctx.solved = problem, solved
        return solved.value[0].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        problem: Problem = ctx.problem
        f, g = problem.masked(ctx.solved.f[0], ctx.solved.g[0])
        (x, a), (y, b) = ((side.x, side.weight) for side in (problem.s, problem.t))
        x, y = x - y.mean(0), y - y.mean(0)  # changes no gradient, and keeps its two terms small
        needs = ctx.needs_input_grad
        grad_x, grad_y = (torch.zeros_like(v) if needed else None for v, needed in zip((x, y), needs, strict=False))
        table = None if problem.table is None else torch.zeros_like(problem.table)
        for part, features in _blocks(problem):
            distance = features.clone() if problem.p == 1 else None
            exponent = problem.add_labels(features.mul_(problem.scale), part).neg_().add_(g).add_(f[part][:, None])
            moved = exponent.div_(problem.reg).exp_().mul_(a[part][:, None]).mul_(b)
            if table is not None and needs[2]:
                table += by_labels(moved, problem.s.index[part], problem.t.index, (table.shape[0], table.shape[1]))
            if distance is not None:
                moved = torch.where(distance > 0, moved / (2 * distance), 0)
            if grad_x is not None:
                grad_x[part] = moved.sum(1)[:, None] * x[part] - moved @ y
            if grad_y is not None:
                grad_y += moved.sum(0)[:, None] * y - moved.mT @ x[part]
        factor = 2 * problem.scale * grads[0]
        label = None if table is None else table * grads[0]
        grad_x, grad_y = (None if v is None else v * factor for v in (grad_x, grad_y))
        return grad_x, grad_y, label, None, None


def solve_streaming(problem: Problem, start: Tensor | None = None) -> tuple[Tensor, SinkhornResult]:
    """Solves by passes; as ``solve_dense``, in memory that grows with n + m."""
    solved = sinkhorn_streaming(problem, start)
    value: Tensor = _Stream.apply(problem.s.x, problem.t.x, problem.table, problem, solved)  # pyright: ignore[reportAssignmentType]
    return value, solved
