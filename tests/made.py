"""Generated sets of the benchmark tasks, small enough for tests, each made once in a session."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from orca.tasks import TASKS, TaskSpec
from orca.tasks.making import make
from orca.tasks.published import Published, Size

# Samples of train, val and test, and points of one: each split has each class, and all take a second or two.
SIZES = {
    "cfd2d": Size(18, 0, 2, 8), "cifar100": Size(700, 0, 100, 32), "cosmic": Size(18, 0, 4, 32),
    "deepsea": Size(120, 40, 60, 200), "ecg": Size(60, 0, 12, 2400), "fsd50k": Size(24, 8, 40, 4),
    "ninapro": Size(1200, 300, 300, 52), "psicov": Size(10, 0, 4, 64), "satellite": Size(2000, 0, 400, 46),
    "shallow-water": Size(200, 0, 10, 48),
    "spherical": Size(700, 0, 100, 16), "table-mixed": Size(120, 0, 30, 16), "table-small": Size(120, 0, 60, 9),
}  # fmt: skip
DEFAULT = Size(45, 0, 5, 16)

_CORRUPTED = {f"corrupted-{severity}" for severity in (1, 2, 3, 4, 5)}
_TABLE = {"emptied", "n0-low", "n0-high"}
# Of the fields that are not named the grid is made coarser. Cosmic and psicov: other skies and proteins are test.
SHIFTS = {
    "digits": _CORRUPTED, "signdigits": _CORRUPTED, "cifar100": _CORRUPTED, "spherical": _CORRUPTED,
    "fsdd": {"noise", "weak"}, "fsdd-speakers": {"noise", "weak", "speaker"}, "fsd50k": {"noise"},
    "mitbih_aami": {"noise", "weak"}, "ninapro": {"noise", "weak"}, "ecg": {"noise"}, "ecg-nb360": {"noise"},
    "satellite": {"clouds", "noise", "weak"},
    "splice": {"gc-low", "gc-high"}, "ienhancer": {"gc-low", "gc-high"}, "deepsea": {"mutated", "gc-low", "gc-high"},
    "adult": {"age-low", "age-high"}, "table-mixed": _TABLE, "table-small": _TABLE,
    "darcy": {"fine", "lognormal"}, "darcy2d": {"grid32"},
    "cosmic": set(), "psicov": set(),
}  # fmt: skip


def shifts_of(task: TaskSpec) -> set[str]:
    """The shift sets that a task must have."""
    return SHIFTS.get(task.name, {"coarse"})


def published(task: TaskSpec) -> Published:
    """The files of a benchmark task."""
    assert task.published is not None
    return task.published


@functools.cache
def _made(name: str, root: Path) -> Path:
    files = next(task.published for task in TASKS if task.published is not None and task.published.name == name)
    make(files, root / name, SIZES.get(name, DEFAULT))
    return root / name


def made(task: TaskSpec, factory: pytest.TempPathFactory) -> Path:
    """The folder of a small generated set; its parent is what ``ORCA_DATA`` should name."""
    return _made(published(task).name, factory.getbasetemp() / "made")
