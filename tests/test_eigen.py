"""Eigendecompositions of batches that are shared out over threads."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from orca.transport.eigen import WORTH, eigh, eigvalsh
from tests.patience import PATIENCE

SIZES = [(1, 3), (7, 5), (3, 150), (40, 64)]  # the first two are below WORTH


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def symmetric(count: int, rows: int) -> Tensor:
    half = torch.randn(count, rows, rows + 3, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
    return half @ half.mT


def test_the_sizes_are_on_both_sides_of_the_threshold():
    assert {count * rows**3 >= WORTH for count, rows in SIZES} == {True, False}


@pytest.mark.parametrize(("count", "rows"), SIZES)
def test_a_batch_is_solved_as_one_by_one(count: int, rows: int):
    matrices = symmetric(count, rows)
    values, vectors = eigh(matrices)
    torch.testing.assert_close(values, torch.stack([torch.linalg.eigvalsh(m) for m in matrices]))
    torch.testing.assert_close(eigvalsh(matrices), values)
    torch.testing.assert_close((vectors * values[:, None]) @ vectors.mT, matrices)


def test_the_callers_threads_stay():
    eigvalsh(symmetric(40, 64))
    assert torch.get_num_threads() == 2


def test_a_forked_process_makes_its_own_threads():
    code = (
        "import os, torch; torch.set_num_threads(2); from orca.transport.eigen import eigvalsh; "
        "x = torch.eye(64, dtype=torch.float64).expand(40, 64, 64); eigvalsh(x); child = os.fork(); "
        "bad = bool((eigvalsh(x) != 1).any()); os._exit(bad) if child == 0 else None; "
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, check=False).returncode == 0
