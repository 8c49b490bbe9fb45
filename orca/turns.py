"""Turns of the processes of one user on a GPU."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING

from filelock import FileLock

from orca.runtime import user_cache

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def device_turn(device: torch.device) -> Iterator[None]:
    """Waits until no other process of this user has this GPU, and holds it in the block; a CPU is not waited for.

    The system frees the lock when its holder dies.
    """
    if device.type == "cpu":
        yield
        return
    import torch

    known = device.type == "cuda" and torch.cuda.is_available()  # numbers differ in processes that see some GPUs only
    which = torch.cuda.get_device_properties(device).uuid if known else device.index or 0
    (folder := user_cache() / "turns").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{platform.node()}-{device.type}-{which}.lock"):
        yield
