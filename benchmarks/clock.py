"""What the timings of the dataset distance share: made-up data, a clock, and the seconds of repeated steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from orca.runtime import generator
from orca.types import LabeledSet


def made_up(n: int, classes: int, dim: int, *, which: str, seed: int, offset: float = 0.0) -> LabeledSet:
    """Gaussian classes: means of standard deviation 1/2, samples of 1, both times (1 + k)^(-1/2) in dimension k.

    Args:
        n: number of samples, shared evenly among the classes.
        classes: number of classes.
        dim: dimension of the features.
        which: names the random stream.
        seed: of the random stream.
        offset: is added to every feature before the spread.
    """
    draw = generator("benchmarks.otdd", which, seed)
    spread = (1 + torch.arange(dim)).rsqrt()
    y = torch.arange(n) % classes
    means = torch.randn(classes, dim, generator=draw) / 2
    return LabeledSet((means[y] + torch.randn(n, dim, generator=draw) + offset) * spread, y)


def clock(device: torch.device) -> float:
    """Seconds, once the device has done all that it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def timed(step: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds of one step, and what it returned."""
    begun = clock(device)
    made = step()
    return clock(device) - begun, made


def spread(times: list[float]) -> dict[str, Any]:
    """Median, least, greatest and all of some seconds."""
    middle = statistics.median(times)
    return {"median_seconds": middle, "min_seconds": min(times), "max_seconds": max(times), "seconds": times}
