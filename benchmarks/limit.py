"""The arithmetic limit of an alignment epoch on this machine: its matrix products and exponentials at full speed.

Counted is what no exact method can leave out. The cost between n source and m target samples in d dimensions takes one
product, 2 n m d operations, and its gradient to the target another; the target's self term takes the same over its own
pairs. Each pair's share of the plan takes one exponential. The terms of the source alone are constant, and label
distances, passes over memory and the solver's updates are what keeps a program from the limit. Both rates are the best
that torch reaches here, in float32, on the shapes of the problem (at most ``MOST`` samples a side).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.clock import timed

REPEATS = 5
SMALL = 2**17  # numbers that stay in the cache
MOST = 8192  # samples a side beyond which neither rate grows, but the memory of the measurement would


def operations(kind: str, n: int, classes: list[int], d: int) -> tuple[float, float]:
    """Operations of the products and number of exponentials of one epoch.

    Args:
        kind: ``joint`` or ``classwise``.
        n: number of source samples.
        classes: number of samples of each target class.
        d: dimension of the features.
    """
    m = sum(classes)
    own = m * m if kind == "joint" else sum(size * size for size in classes)
    return 2 * 2.0 * d * (n * m + own), float(n * m + own)


def _best(step: Callable[[], Any], device: torch.device) -> float:
    step()  # warms up
    return min(timed(step, device)[0] for _ in range(REPEATS))


def rates(n: int, m: int, d: int, device: torch.device) -> dict[str, float]:
    """Operations per second of matrix products, and exponentials per second."""
    n, m = min(n, MOST), min(m, MOST)
    x, y, weight = (torch.rand(shape, device=device) for shape in ((n, d), (m, d), (n, m)))
    cost, gradient = torch.empty_like(weight), torch.empty_like(y)
    seconds = min(
        _best(lambda: torch.mm(x, y.T, out=cost), device), _best(lambda: torch.mm(weight.T, x, out=gradient), device)
    )
    products = 2.0 * n * m * d / seconds
    exponentials = 0.0
    for flat in (weight.view(-1), weight.view(-1)[:SMALL]):
        target = torch.empty_like(flat)
        times = max(1, SMALL // len(flat))

        def several(flat: torch.Tensor = flat, target: torch.Tensor = target, times: int = times) -> None:
            for _ in range(times):
                torch.exp(flat, out=target)

        exponentials = max(exponentials, times * len(flat) / _best(several, device))
    return {"products_per_second": products, "exponentials_per_second": exponentials}


def shares(
    results: dict[str, dict[str, Any]], n: int, classes: list[int], d: int, device: torch.device
) -> dict[str, Any]:
    """The two rates, and for each kind of epoch the seconds at these rates and their share of the median measured."""
    found = rates(n, sum(classes), d, device)
    made: dict[str, Any] = dict(found)
    for kind in [kind for kind in ("joint", "classwise") if kind in results]:
        products, exponentials = operations(kind, n, classes, d)
        seconds = products / found["products_per_second"] + exponentials / found["exponentials_per_second"]
        made[kind] = {
            "operations": products, "exponentials": exponentials, "seconds": seconds,
            "share": seconds / results[kind]["median_seconds"],
        }  # fmt: skip
    return made
