"""What a transport plan says: where it sends each sample, and how much mass it moves between labels."""

from __future__ import annotations

import torch
from torch import Tensor

from orca.errors import InputError


def barycentric_projection(plan: Tensor, xt: Tensor) -> Tensor:
    """Where a plan sends each source sample: the mean of the target samples that it is coupled to.

    T(x_i) = sum_j P_ij x'_j / sum_j P_ij (Peyre and Cuturi, Computational Optimal Transport, 2019, remark 4.11). A plan
    that is a permutation gives the matched samples; an entropic plan blurs, the more so the larger its eps.

    Args:
        plan: mass moved from each source to each target sample, (n, m), not negative.
        xt: target features, (m, d), floating point.

    Returns:
        (n, d), differentiable in ``xt`` and in the plan. A row without mass is sent nowhere: it becomes NaN.

    Raises:
        InputError: shapes do not fit, or the plan has negative, NaN or infinite entries.
    """
    _check(plan, (len(plan), len(xt)))
    if xt.ndim != 2:
        raise InputError(f"target features: expected (m, d), got {tuple(xt.shape)}")
    mass = plan.sum(1, keepdim=True)  # (n, 1)
    there = mass > 0
    projected = (plan / torch.where(there, mass, 1)).to(xt) @ xt
    return torch.where(there, projected, torch.nan)


def label_mass(plan: Tensor, ys: Tensor, yt: Tensor) -> Tensor:
    """Mass that a plan moves from each source label to each target label.

    Args:
        plan: mass moved from each source to each target sample, (n, m), not negative.
        ys: source labels, (n,), integers.
        yt: target labels, (m,), integers.

    Returns:
        (K_s, K_t), rows and columns in ascending order of the labels that occur, as in ``OTDDResult``. Sums to the mass
        of the plan; rows to the share of their source label, columns to that of their target label.

    Raises:
        InputError: shapes do not fit, or the plan has negative, NaN or infinite entries.
    """
    _check(plan, (len(ys), len(yt)))
    source, rows = torch.unique(ys.to(plan.device), return_inverse=True)
    target, cols = torch.unique(yt.to(plan.device), return_inverse=True)
    by_row = plan.new_zeros(len(source), plan.shape[1]).index_add_(0, rows, plan)
    return by_row.new_zeros(len(source), len(target)).index_add_(1, cols, by_row)


def _check(plan: Tensor, shape: tuple[int, int]) -> None:
    if plan.ndim != 2 or plan.shape != shape:
        raise InputError(f"plan: expected one row per source and one column per target sample, {shape}; got "
                         f"{tuple(plan.shape)}")  # fmt: skip
    if not bool(torch.isfinite(plan).all()) or bool((plan < 0).any()):
        raise InputError("plan: expected finite numbers of at least 0; give the plan of a converged result")
