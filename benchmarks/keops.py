"""One update of the streaming engine beside one log-sum-exp of KeOps, which geomloss's back end "online" is made of.

``python -m benchmarks.keops --json`` (with ``pip install pykeops``, which compiles at first use)

Both give the potential of the rows at columns' potentials of 0, for squared distances and eps 0.05 of their mean; the
streaming pass updates the columns' potential as well, for which KeOps needs a second one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.clock import made_up, spread, timed
from orca.runtime import machine, versions
from orca.transport.problem import Problem, Side
from orca.transport.streaming import sweep

DIMS = (3, 16, 64, 384)


def keops_rows(x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Potential of the rows, (n,), by KeOps."""
    from pykeops.torch import LazyTensor  # pyright: ignore[reportMissingImports] - not among our dependencies

    cost = ((LazyTensor(x[:, None]) - LazyTensor(y[None])) ** 2).sum(-1)
    return -eps * ((-cost / eps).logsumexp(1)[:, 0] - math.log(len(y)))


def measure(samples: int, dim: int, repeats: int) -> dict[str, Any]:
    """Seconds of both at one size, after a first run, and how far their potentials are apart relative to eps."""
    x, y = (made_up(samples, 10, dim, which=which, seed=0).x for which in ("source", "target"))
    eps = 0.05 * 2 * float(x.var(0).sum())
    rows, cols = (
        Side(side, torch.zeros(len(side), dtype=torch.int64), x.new_full((samples,), 1 / samples)) for side in (x, y)
    )
    problem = Problem(rows, cols, None, 1.0, 2, eps, {})

    def repeated(step: Callable[[], Tensor]) -> tuple[dict[str, Any], Tensor]:
        runs = [timed(step, x.device) for _ in range(repeats + 1)]
        return spread([seconds for seconds, _ in runs[1:]]), runs[0][1]

    (ours, f), (theirs, other) = (
        repeated(lambda: sweep(problem, torch.zeros(samples)).f),
        repeated(lambda: keops_rows(x, y, eps)),
    )
    return {
        "samples": samples,
        "dim": dim,
        "streaming": ours,
        "keops": theirs,
        "apart": float((f - other).abs().max() / eps),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keops", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--samples", type=int, default=5000, help="of both sets [5000]")
    parser.add_argument("--repeats", type=int, default=3, help="[3]")
    parser.add_argument("--threads", type=int, help="torch's threads [as torch chooses]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(argv)
    if importlib.util.find_spec("pykeops") is None:
        parser.error("pykeops is not installed; pip install pykeops")
    if given.threads:
        torch.set_num_threads(given.threads)
    rows = [measure(given.samples, dim, given.repeats) for dim in DIMS]
    if given.json:
        print(json.dumps({"benchmark": "keops", "rows": rows, "machine": machine(), "versions": versions()}, indent=2))
    else:
        print("| dimension | streaming, both updates, s | KeOps, one, s | apart, eps |\n| --- | --- | --- | --- |")
        for r in rows:
            seconds = [f"{r[name]['median_seconds']:.3f}" for name in ("streaming", "keops")]
            print(f"| {r['dim']} | {' | '.join(seconds)} | {r['apart']:.0e} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
