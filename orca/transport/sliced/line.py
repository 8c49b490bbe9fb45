"""Transport on the real line, where sorting solves it: mass is matched in order, whatever the number of samples.

    W_p(a, b)**p = integral over t in (0, 1) of |F_a^-1(t) - F_b^-1(t)|**p

with F^-1 the quantile function (Peyre and Cuturi 2019, Computational Optimal Transport, remark 2.30). Both quantile
functions are steps, so the integral is a sum over the merged steps of both: exact for sets of any sizes and weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Line:
    """A batch of L distributions on the line.

    Attributes:
        values: ascending in each row, (L, n).
        weight: weights of the values, in the same order, each row sums to 1, (L, n); None: all 1 / n.
    """

    values: Tensor
    weight: Tensor | None = None

    def __getitem__(self, rows: slice) -> Line:
        """Some of the distributions."""
        return Line(self.values[rows], None if self.weight is None else self.weight[rows])


@dataclass(frozen=True)
class Steps:
    """Where two quantile functions are constant: J intervals of (0, 1).

    Attributes:
        left: which value of the first is taken on each interval, int64, (1, J) or (L, J).
        right: the same of the second.
        width: length of each interval, (1, J) or (L, J).
    """

    left: Tensor
    right: Tensor
    width: Tensor


def ordered(values: Tensor, weight: Tensor | None = None) -> Line:
    """Sorts each row, with the gradient to the values.

    On a CPU numpy sorts: with its vector instructions it is about 16 times faster than torch 2.13 for float32.

    Args:
        values: samples on the line, (L, n).
        weight: their weights, the same in each row, sum to 1, (n,); None: all 1 / n.
    """
    if values.device.type != "cpu":
        values, order = torch.sort(values, dim=1)
        return Line(values, None if weight is None else weight[order])
    if weight is None and not values.requires_grad:
        return Line(torch.from_numpy(np.sort(values.numpy(), axis=1)))
    order = torch.from_numpy(np.argsort(values.detach().numpy(), axis=1))
    return Line(values.gather(1, order), None if weight is None else weight[order])


def equal_steps(n: int, m: int, *, like: Tensor) -> Steps:
    """Steps of n and of m samples of equal weight, found in whole numbers: in units of 1 / (n m) they are exact.

    Args:
        n: number of samples of the first.
        m: number of samples of the second.
        like: gives device and dtype.
    """
    marks = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # (J,), the last is n m
    begin = torch.cat([marks.new_zeros(1), marks[:-1]])
    width = (marks - begin).to(torch.float64) / (n * m)
    left, right, width = (part[None] for part in (begin // m, begin // n, width))
    return Steps(left.to(like.device), right.to(like.device), width.to(like.dtype).to(like.device))


def _weighted_steps(x: Line, y: Line) -> Steps:
    """Steps of each row by itself; of J = n + m intervals some may be empty."""
    wide = torch.float32 if x.values.device.type == "mps" else torch.float64  # MPS has no float64
    ends = []
    for line in (x, y):
        weight = torch.full_like(line.values, 1 / line.values.shape[1]) if line.weight is None else line.weight
        end = weight.to(wide).cumsum(1)
        ends.append(end / end[:, -1:])
    marks = torch.cat(ends, dim=1).sort(dim=1).values  # (L, n + m), the last is 1
    begin = torch.cat([torch.zeros_like(marks[:, :1]), marks[:, :-1]], dim=1)
    middle = (begin + marks) / 2  # an interval of rounding's width may be given to either neighbour
    left, right = (
        torch.searchsorted(end, middle, right=True).clamp_(max=end.shape[1] - 1) for end in (ends[0], ends[1])
    )
    return Steps(left, right, (marks - begin).to(x.values.dtype))


def wasserstein(x: Line, y: Line, *, p: int = 2, steps: Steps | None = None) -> Tensor:
    """W_p**p of each pair of rows, (L,), differentiable in the values; where values are equal, a subgradient.

    Args:
        x: L distributions of n values.
        y: L distributions of m values.
        p: 1 or 2; any p of at least 1 is right.
        steps: ``equal_steps`` of n and m, to be used again for many batches; None finds them.
    """
    if x.weight is None and y.weight is None:
        if x.values.shape[1] == y.values.shape[1]:
            return (x.values - y.values).abs().pow(p).mean(1)
        steps = steps or equal_steps(x.values.shape[1], y.values.shape[1], like=x.values)
    else:
        steps = _weighted_steps(x, y)
    rows = len(x.values)
    gap = x.values.gather(1, steps.left.expand(rows, -1)) - y.values.gather(1, steps.right.expand(rows, -1))  # (L, J)
    return (gap.abs().pow(p) * steps.width).sum(1)
