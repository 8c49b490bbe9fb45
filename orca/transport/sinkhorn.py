"""Entropic optimal transport between batches of discrete measures.

Primal:  OT_eps(a, b) = min_P <P, C> + eps KL(P | a x b)  over couplings P of a and b.
Dual:    OT_eps(a, b) = max_{f,g} <a, f> + <b, g> - eps (<a x b, exp((f + g - C) / eps)> - 1).
Plan:    P_ij = a_i b_j exp((f_i + g_j - C_ij) / eps).
(Peyre and Cuturi, Computational Optimal Transport, 2019, eq. 4.2, 4.30; Feydy et al. 2019, arXiv 1810.08278, eq. 8.)
``reg`` is eps, absolute, in the unit of the cost.

Potentials live in the log domain. A step there costs a pass of exponentials over (n, m); a step with a kernel that has
absorbed the potentials costs a matrix-vector product, ten to twenty times less (Schmitzer 2019, arXiv 1610.06519,
algorithm 2). So each level of eps absorbs once, then scales; the last absorbs again when a scaling leaves exp(+-10).
Kernel entries below exp(-60) of their row's largest are lifted to that: with such scalings they stay under 1e-17 of the
mass.

Steps are over-relaxed, which takes a third to a half off their number (Thibault et al. 2017, arXiv 1711.01851): the
columns' 1 / t becomes v (v t)**-w, with w from 1.5 towards 2 as long as the error falls, and 1 where it has risen.

Stopping rule: the solver stops when the larger marginal violation of any problem in the batch, in the L1 norm (that of
the columns; rows are exact after their update), is at most ``tolerance``, measured on a freshly absorbed kernel, or
after ``max_iterations`` at the final eps.

Gradient: by the envelope theorem the derivative of the dual value with respect to C is the plan at the returned
potentials. It is exact at convergence, and its error is of the first order in the marginal error; so is that of the
value where clusters lie far apart compared to eps, else it is of the second.
"""

# torch types once_differentiable loosely; it makes a second derivative, which would be wrong, an error.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

FLOOR = -60.0  # smallest logarithm of a kernel entry relative to its row
DRIFT = 10.0  # largest logarithm of a scaling before it is absorbed
SWEEPS = 3  # scaling steps at each eps of the annealing but the last
CHECK = 4  # scaling steps between two looks at the marginal error
RELAX, MOST = 1.5, 1.95  # exponent of the columns' updates where the error falls: the first and the largest


@dataclass(frozen=True)
class SinkhornResult:
    """Solution of a batch of B problems.

    Attributes:
        f: potential of the rows, (B, n), unit of the cost; 0 where the weight is 0.
        g: potential of the columns, (B, m), likewise.
        value: dual value, (B,), without gradient; ``envelope`` gives it one.
        marginal_error: L1 violation of the marginals, (B,).
        iterations: updates at all levels of eps.
        converged: whether every problem met the tolerance.
        coupling: the plan, (B, n, m).
    """

    f: Tensor
    g: Tensor
    value: Tensor
    marginal_error: Tensor
    iterations: int
    converged: bool
    coupling: Tensor

    def plan(self) -> Tensor:
        """Mass moved from each row to each column, (B, n, m); it sums to 1 over each problem."""
        return self.coupling


@dataclass(frozen=True)
class _Level:
    """State of the solver after a level of eps: rows are exact for the kernel ``exp((g - C) / eps - top)``."""

    f: Tensor  # (B, n)
    g: Tensor  # (B, m), -inf where masked
    kernel: Tensor  # (B, n, m)
    mass: Tensor  # (B, n): a exp(f / eps + top), so that mass * kernel * b is the plan
    error: Tensor  # (B,)
    used: int


class _Envelope(Function):
    """The value of a solved problem as a function of its cost: the derivative is the plan."""

    @staticmethod
    def forward(ctx, cost: Tensor, value: Tensor, plan: Tensor) -> Tensor:
        ctx.save_for_backward(plan)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0][:, None, None] * ctx.saved_tensors[0], None, None


def worst(*errors: float) -> float:
    """The largest of some errors; NaN if one is, which Python's ``max`` may drop."""
    return float(torch.tensor(errors).max())


def envelope(result: SinkhornResult, cost: Tensor) -> Tensor:
    """The value (B,) with its gradient with respect to the cost (B, n, m) that it was solved for."""
    return _Envelope.apply(cost, result.value, result.coupling)  # pyright: ignore[reportReturnType]


def _coarse(cost: Tensor, reg: float, annealing: float) -> list[float]:
    """Levels of eps from the largest cost down to ``reg``, without it, by the factor ``annealing``."""
    top = float(cost.max())
    levels = 0 if top <= reg else math.ceil(math.log(top / reg) / -math.log(annealing))
    return [reg * annealing**-k for k in range(levels, 0, -1)]


def _absorb(cost: Tensor, g: Tensor, eps: float, out: Tensor) -> tuple[Tensor, Tensor]:
    """exp((g_j - C_ij) / eps - top_i) written into ``out`` (B, n, m), and top (B, n)."""
    torch.add((g / eps)[:, None, :], cost, alpha=-1 / eps, out=out)
    top = out.amax(2, keepdim=True)
    return out.sub_(top).clamp_(min=FLOOR).exp_(), top[..., 0]


def _rows(kernel: Tensor, v: Tensor) -> Tensor:
    """Kernel times a vector of the columns, (B, n); as a row times a matrix, which CPUs do two to five times faster."""
    return torch.bmm(v[:, None], kernel.mT)[:, 0]


def _cols(kernel: Tensor, u: Tensor) -> Tensor:
    """Transposed kernel times a vector of the rows, (B, m)."""
    return torch.bmm(u[:, None], kernel)[:, 0]


def relaxation(error: Tensor, last: Tensor, power: float) -> float:
    """Exponent of the next steps, from the errors now and at the last look and the exponent until now."""
    if bool((error > last).any()):
        return 1.0
    return RELAX if power == 1 else min(power + (2 - power) / 5, MOST)


def _anneal(cost: Tensor, weights: tuple[Tensor, Tensor], g: Tensor, eps: float, buffer: Tensor) -> Tensor:
    """Potential of the columns after ``SWEEPS`` updates at a coarse eps."""
    (a, b), masked = weights, weights[1] == 0
    kernel, _ = _absorb(cost, g, eps, buffer)
    v = torch.ones_like(b)
    for _ in range(SWEEPS):
        v = _cols(kernel, a / _rows(kernel, b * v)).reciprocal_().masked_fill_(masked, 1)
    return g + eps * v.log()


def _anneal_symmetric(cost: Tensor, a: Tensor, f: Tensor, eps: float, buffer: Tensor) -> Tensor:
    """Potential of a self term after ``SWEEPS`` averaged updates at a coarse eps."""
    for _ in range(SWEEPS):  # each absorbed: the potentials of points that weigh little move far from level to level
        kernel, top = _absorb(cost, f.masked_fill(a == 0, -math.inf), eps, buffer)
        f = (f - eps * (top + _rows(kernel, a).log())) / 2
    return f


def _solve_level(
    cost: Tensor, weights: tuple[Tensor, Tensor], g: Tensor, eps: float, rule: tuple[float, int], buffer: Tensor
) -> _Level:
    """Alternating updates until the columns are right; ``rule`` is (tolerance, most iterations)."""
    (a, b), masked = weights, weights[1] == 0
    tolerance, budget = rule
    used, power = 0, 1.0
    while True:
        kernel, top = _absorb(cost, g, eps, buffer)
        u, v = _rows(kernel, b).reciprocal_(), torch.ones_like(b)
        t = _cols(kernel, a * u)
        error = last = (b * (t - 1).abs()).sum(-1)
        if used >= budget or bool((error <= tolerance).all()):
            return _Level(eps * (u.log() - top), g, kernel, a * u, error, used)
        for step in range(1, budget - used + 1):
            v = (1 / t if power == 1 else v * (v * t).pow_(-power)).masked_fill_(masked, 1)
            u = _rows(kernel, b * v).reciprocal_()
            t = _cols(kernel, a * u)
            used += 1
            if step % CHECK and used < budget:
                continue
            approximate = (b * (v * t - 1).abs()).sum(-1)
            if bool((approximate <= tolerance / 2).all() | (v.log().abs().max() > DRIFT)):
                break
            power, last = relaxation(approximate, last, power), approximate
        g = g + eps * v.log()


def _solve_symmetric_level(
    cost: Tensor, a: Tensor, f: Tensor, eps: float, rule: tuple[float, int], buffer: Tensor
) -> _Level:
    """Averaged updates f <- (f + T f) / 2 of a self term until f = T f (Feydy et al. 2019, section 3.1)."""
    (tolerance, budget), masked = rule, a == 0
    used = 0
    while True:
        columns = f.masked_fill(masked, -math.inf)
        kernel, top = _absorb(cost, columns, eps, buffer)
        image = -eps * (top + _rows(kernel, a).log())  # T f
        error = (a * ((f - image) / eps).expm1().abs()).sum(-1)
        if used >= budget or bool((error <= tolerance).all()):
            mass = (f / eps + top + a.log()).exp()  # a within: where it is tiny, f may be far from its place
            return _Level(f, columns, kernel, mass, error, used)
        start = f
        for step in range(1, budget - used + 1):
            f = (f + image) / 2
            drift = ((f - start) / eps).masked_fill_(masked, 0)
            image = -eps * (top + _rows(kernel, a * drift.exp()).log())
            used += 1
            if step > 1 and step % CHECK and used < budget:
                continue
            approximate = (a * ((f - image) / eps).expm1().abs()).sum(-1)
            if bool((approximate <= tolerance / 2).all() | (drift.abs().max() > DRIFT)):
                break


def _result(level: _Level, weights: tuple[Tensor, Tensor], eps: float, used: int, tolerance: float) -> SinkhornResult:
    a, b = weights
    plan = level.kernel.mul_(level.mass[:, :, None]).mul_(b[:, None, :])
    f, g = level.f.masked_fill(a == 0, 0), level.g.masked_fill(b == 0, 0)
    value = (a * f).sum(-1) + (b * g).sum(-1) - eps * (plan.sum((1, 2)) - 1)
    done = bool((level.error <= tolerance).all())
    return SinkhornResult(f, g, value, level.error, used, done, plan)


def _uniform(weights: Tensor | None, like: Tensor, size: int) -> Tensor:
    return like.new_full((len(like), size), 1 / size) if weights is None else weights


@torch.no_grad()
def sinkhorn(
    cost: Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    reg: float,
    tolerance: float = 1e-3,
    max_iterations: int = 500,
    annealing: float = 0.25,
) -> SinkhornResult:
    """Solves a batch of entropic transport problems.

    Args:
        cost: (B, n, m), finite, of at least 0.
        a: weights of the rows, (B, n), sum 1; a zero masks its row (padding). None is uniform.
        b: weights of the columns, (B, m), likewise.
        reg: eps > 0, unit of the cost.
        tolerance: largest L1 marginal error.
        max_iterations: most updates at the final eps (the annealing adds three per level).
        annealing: factor between levels of eps, in (0, 1).

    Returns:
        Potentials, value, plan and how well they converged; on the device and in the type of the cost.
    """
    cost = cost.detach()
    a, b = _uniform(a, cost, cost.shape[1]), _uniform(b, cost, cost.shape[2])
    g = torch.zeros_like(b).masked_fill(b == 0, -math.inf)
    buffer, coarse = torch.empty_like(cost), _coarse(cost, reg, annealing)
    for eps in coarse:
        g = _anneal(cost, (a, b), g, eps, buffer)
    level = _solve_level(cost, (a, b), g, reg, (tolerance, max_iterations), buffer)
    return _result(level, (a, b), reg, level.used + SWEEPS * len(coarse), tolerance)


@torch.no_grad()
def sinkhorn_self(
    cost: Tensor,
    a: Tensor | None = None,
    *,
    reg: float,
    tolerance: float = 1e-3,
    max_iterations: int = 500,
    annealing: float = 0.25,
) -> SinkhornResult:
    """Solves measures against themselves: symmetric cost (B, n, n), equal potentials f = g; else as ``sinkhorn``."""
    cost = cost.detach()
    a = _uniform(a, cost, cost.shape[1])
    f = torch.zeros_like(a)
    buffer, coarse = torch.empty_like(cost), _coarse(cost, reg, annealing)
    for eps in coarse:
        f = _anneal_symmetric(cost, a, f, eps, buffer)
    level = _solve_symmetric_level(cost, a, f, reg, (tolerance, max_iterations), buffer)
    return _result(level, (a, a), reg, level.used + SWEEPS * len(coarse), tolerance)
