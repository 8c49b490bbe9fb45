"""Which solver takes the outer problem, and what it needs.

``dense``      the matrix in memory: fastest where it fits
``streaming``  passes over blocks of rows: memory grows with n + m
``flash``      FlashSinkhorn's fused Triton kernels (Ye et al. 2026, arXiv 2602.03067) on CUDA, squared distances only;
               its potentials are the start of ``streaming``, which brings them to the tolerance and takes the gradient
``exact``      POT's network simplex, for ``reg`` = 0: no regularisation, the matrix in memory, on the CPU

``auto`` takes ``exact`` for ``reg`` = 0, ``dense`` while its matrices fit into the memory allowed, then ``flash`` where
it can, else ``streaming``. The choice depends on sizes, options, device and installed packages, not on what else runs,
so that a machine repeats its numbers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from orca.errors import InputError
from orca.transport.cost import Products
from orca.transport.problem import Problem, solve_dense
from orca.transport.sinkhorn import SinkhornResult, envelope
from orca.transport.streaming import solve_streaming

DENSE_MATRICES = 6  # of n x m entries, alive at once: products, cost, kernel, and those of the gradient
ANNEALING = 0.5  # flash: factor between levels of eps
FLASH_STEPS = 20  # flash: steps at the final eps

Engine = Callable[[Problem, Products | None], tuple[Tensor, SinkhornResult]]


def _streaming(problem: Problem, products: Products | None) -> tuple[Tensor, SinkhornResult]:
    return solve_streaming(problem)


def flash_reason(problem: Problem) -> str | None:
    """Why ``flash`` cannot take a problem, in words; None if it can."""
    if problem.s.x.device.type != "cuda":
        return f"it needs CUDA tensors; got {problem.s.x.device.type}"
    if problem.p != 2:
        return "it solves p = 2 only"
    if importlib.util.find_spec("flash_sinkhorn") is None:
        return "the package flash-sinkhorn is not installed; pip install 'orca[cuda]'"
    return None


def _flash(problem: Problem, products: Products | None) -> tuple[Tensor, SinkhornResult]:
    """Potentials by FlashSinkhorn's symmetric steps, tolerance and gradient by streaming."""
    if reason := flash_reason(problem):
        raise InputError(f"engine 'flash': {reason}")
    from flash_sinkhorn.sinkhorn_solvers import (  # pyright: ignore[reportMissingImports] - the extra cuda
        sinkhorn_flashstyle_symmetric,
    )

    with torch.no_grad():
        centre = problem.t.x.mean(0)
        size = problem.scale**0.5  # into the features: lambda_x of the kernels counts beside a label term alone
        x, y = (((side.x - centre) * size).float().contiguous() for side in (problem.s, problem.t))
        label: dict[str, object] = {}
        if problem.table is not None:
            k, classes = problem.table.shape
            joint = problem.table.new_zeros(k + classes, k + classes)  # one numbering for the labels of both sides
            joint[:k, k:] = problem.table
            joint[k:, :k] = problem.table.mT
            label = {
                "label_x": problem.s.index.int(), "label_y": (problem.t.index + k).int(),
                "label_cost_matrix": joint.float().contiguous(), "lambda_y": 1.0,
            }  # fmt: skip
        widest = float((x.square().sum(1).max().sqrt() + y.square().sum(1).max().sqrt()) ** 2)
        widest += 0.0 if problem.table is None else float(problem.table.max())
        levels = [problem.reg]
        while levels[0] < widest:
            levels.insert(0, levels[0] / ANNEALING)
        _, g = sinkhorn_flashstyle_symmetric(
            x, y, problem.s.weight.float(), problem.t.weight.float(), eps_list=levels + [problem.reg] * FLASH_STEPS,
            allow_tf32=False, **label,
        )  # fmt: skip
    return solve_streaming(problem, g.to(problem.t.x.dtype))


def _exact(problem: Problem, products: Products | None) -> tuple[Tensor, SinkhornResult]:
    """The unregularised problem; zero for a set with itself, where no mass need move."""
    import ot

    if problem.itself:
        nothing = torch.zeros_like(problem.s.weight)[None]
        zero = nothing.sum(1)
        return zero[0], SinkhornResult(nothing, nothing, zero, zero, 0, True, nothing[0, :0])
    cost = problem.cost(products)
    a, b = (side.weight.cpu().double() for side in (problem.s, problem.t))  # there is no float64 on MPS
    a, b = a / a.sum(), b / b.sum()
    plan, log = ot.emd(a.numpy(), b.numpy(), cost.detach().cpu().double().numpy(), log=True, numItermax=2_000_000)
    moved, f, g = (torch.from_numpy(found).to(cost.dtype).to(cost.device) for found in (plan, log["u"], log["v"]))
    error = (moved.sum(0) - problem.t.weight).abs().sum() + (moved.sum(1) - problem.s.weight).abs().sum()
    total = (moved * cost.detach()).sum()[None]
    solved = SinkhornResult(f[None], g[None], total, error[None], 1, log["warning"] is None, moved[None])
    return envelope(solved, cost[None])[0], solved


ENGINES: dict[str, Engine] = {"dense": solve_dense, "streaming": _streaming, "flash": _flash, "exact": _exact}


def dense_bytes(problem: Problem) -> int:
    """Estimate of the memory that ``dense`` takes at its peak, value and gradient."""
    return DENSE_MATRICES * len(problem.s) * len(problem.t) * problem.s.x.element_size()


def choose(problem: Problem, engine: str, memory: float) -> str:
    """The engine's name.

    Args:
        problem: the problem.
        engine: a name, or ``auto``.
        memory: what ``dense`` may take, GiB.
    """
    if engine != "auto":
        return engine
    if problem.reg == 0:
        return "exact"
    if dense_bytes(problem) <= memory * 2**30:
        return "dense"
    return "streaming" if flash_reason(problem) else "flash"
