"""Eigendecompositions of batches of small symmetric matrices, on all cores of the CPU.

PyTorch solves a batch on the CPU one matrix after another, and LAPACK's own threads lose time at some hundred rows.
Here each thread takes its share of the batch, with LAPACK on one core: two to three times faster on two cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import torch
from torch import Tensor

WORTH = 2**20  # batch times rows cubed from which threads pay


def _one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # makes it final for this thread: the first look takes what was set last, by any thread


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that leave LAPACK one core each."""
    pool = ThreadPoolExecutor(threads, "orca-eigen", initializer=_one_core)
    ready = Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(ready.wait)
    ready.wait()
    torch.set_num_threads(threads)  # theirs is the default of every new thread as well
    return pool


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not outlive a fork


def _shared(solve: Callable[[Tensor], Tensor | tuple[Tensor, ...]], matrices: Tensor) -> list:
    """What ``solve`` makes of the parts of a batch (B, r, r), one for each thread."""
    threads = min(torch.get_num_threads(), len(matrices))
    if matrices.device.type != "cpu" or threads < 2 or len(matrices) * matrices.shape[-1] ** 3 < WORTH:
        return [solve(matrices)]
    return list(_pool(torch.get_num_threads()).map(solve, matrices.chunk(threads)))


def eigvalsh(matrices: Tensor) -> Tensor:
    """Eigenvalues, ascending, of symmetric matrices (B, r, r): (B, r). No gradient."""
    return torch.cat(_shared(torch.linalg.eigvalsh, matrices.detach()))


def eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, (B, r), and eigenvectors in columns, (B, r, r), of symmetric matrices. No gradient."""
    values, vectors = zip(*_shared(torch.linalg.eigh, matrices.detach()), strict=True)
    return torch.cat(values), torch.cat(vectors)
