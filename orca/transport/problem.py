"""The outer problem: transport between two labelled sets under the cost of features and labels.

    cost_ij = scale d(x_i, y_j)**p + table[label_i, label_j]

Solved as ``sinkhorn`` says; differentiable in the features and in the table by the envelope theorem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from orca.transport.cost import Centred, Products, distance_cost, label_cost
from orca.transport.divergence import Stopping
from orca.transport.sinkhorn import SinkhornResult, envelope, sinkhorn, sinkhorn_self


@dataclass(frozen=True)
class Side:
    """One of the two sets.

    Attributes:
        x: features, (n, d).
        index: class of each sample, (n,) int64.
        weight: of each sample, sum 1, (n,).
    """

    x: Tensor
    index: Tensor
    weight: Tensor

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.x)

    @property
    def centred(self) -> Centred:
        """Its features about their mean; made once where they are constant."""
        return Centred.of(self.x) if self.x.requires_grad else self._centred

    @cached_property
    def _centred(self) -> Centred:
        return Centred.of(self.x)

    def take(self, rows: Tensor) -> Side:
        """Some of the samples, their weights scaled to sum 1; uniform where all of these are 0."""
        weight = self.weight[rows]
        weight = torch.where(weight.sum() > 0, weight, torch.ones_like(weight))
        return Side(self.x[rows], self.index[rows], weight / weight.sum())


@dataclass(frozen=True)
class Problem:
    """Transport between two sets.

    Attributes:
        s: rows.
        t: columns; the same object as ``s`` for a set with itself, which is solved with equal potentials.
        table: cost of each pair of labels, (K, L), or None for no label term.
        scale: factor of the features' part.
        p: power of the distances, 1 or 2.
        reg: eps.
        stopping: tolerance and most iterations.
    """

    s: Side
    t: Side
    table: Tensor | None
    scale: float
    p: int
    reg: float
    stopping: Stopping

    @property
    def itself(self) -> bool:
        """Whether it is a set with itself."""
        return self.s is self.t

    def transposed(self) -> Problem:
        """Rows and columns exchanged."""
        return replace(self, s=self.t, t=self.s, table=None if self.table is None else self.table.mT)

    def cost(self, products: Products | None = None) -> Tensor:
        """The whole cost, (n, m), differentiable in products (made here if None) and table."""
        made = Products.of(self.s.centred, None if self.itself else self.t.x) if products is None else products
        cost = distance_cost(made, self.p)
        if self.scale != 1:
            cost = cost * self.scale
        return cost if self.table is None else label_cost(self.table, self.s.index, self.t.index).add_(cost)

    @cached_property
    def _spread(self) -> Tensor:
        """Label term of each row's class with each column, (K, m), without gradient."""
        assert self.table is not None
        return self.table.detach()[:, self.t.index]

    def add_labels(self, cost: Tensor, rows: slice) -> Tensor:
        """Adds the label term in place to the cost (r, m) of some rows."""
        if self.table is not None:
            cost.add_(self._spread.index_select(0, self.s.index[rows]))
        return cost

    @torch.no_grad()
    def plan(self, f: Tensor, g: Tensor) -> Tensor:
        """Mass moved from each row to each column at these potentials, (n, m)."""
        f, g = self.masked(f, g)
        moved = self.cost().neg_().add_(f[:, None]).add_(g).div_(self.reg).exp_()
        return moved.mul_(self.s.weight[:, None]).mul_(self.t.weight)

    def masked(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Potentials with -inf where nothing weighs, so that no exponential of them overflows."""
        return f.masked_fill(self.s.weight == 0, -math.inf), g.masked_fill(self.t.weight == 0, -math.inf)


def solve_dense(problem: Problem, products: Products | None = None) -> tuple[Tensor, SinkhornResult]:
    """Solves with the whole matrix in memory.

    Args:
        problem: the problem.
        products: of its two sides, if they are there already; the gradient to the features flows through them.

    Returns:
        The value, scalar, differentiable; the solution as a batch of one, without its plan.
    """
    cost = problem.cost(products)[None]
    if problem.itself:
        solved = sinkhorn_self(cost, problem.s.weight[None], reg=problem.reg, **problem.stopping)
    else:
        weights = problem.s.weight[None], problem.t.weight[None]
        solved = sinkhorn(cost, *weights, reg=problem.reg, **problem.stopping)
    return envelope(solved, cost)[0], replace(solved, coupling=cost.new_zeros(0))
