"""Time of one alignment epoch: value and gradient of the dataset distance of a target to a constant source.

``python -m benchmarks.otdd --source 5000 --source-classes 10 --classes 10 --per-class 128 --dim 768 --json``

``joint`` is the objective ``otdd``, all classes at once; ``classwise`` is ``otdd-classwise``, the loop of the ORCA
reference, each target class against the whole source. Terms of the source alone are computed once, outside the epoch,
and timed by themselves. The features are made up: Gaussian classes whose spread falls with the dimension, the target's
moved away from the source's. Orca's defaults for regularisation and solver hold.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from orca.discrepancies import DiscrepancyConfig
from orca.runtime import commit, finite, generator, machine, peak_memory_mb, resolve_device, versions
from orca.transport import ClasswiseResult, OTDDResult, SourceStatistics, otdd, otdd_classwise
from orca.types import InputError, LabeledSet

Epoch = Callable[[SourceStatistics, Tensor, Tensor], OTDDResult | ClasswiseResult]


def _joint(source: SourceStatistics, x: Tensor, y: Tensor) -> OTDDResult:
    return otdd(source.x, source.labels[source.y], x, y, source=source)


KINDS: dict[str, Epoch] = {"joint": _joint, "classwise": otdd_classwise}


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


def _clock(device: torch.device) -> float:
    """Seconds, once the device has done all that it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def time_epochs(
    kind: str, source: LabeledSet, target: LabeledSet, *, config: DiscrepancyConfig, repeats: int
) -> dict[str, Any]:
    """Times the source's terms once, a first epoch (which warms up), and ``repeats`` more.

    Args:
        kind: ``joint`` or ``classwise``.
        source: held constant.
        target: gets the gradient.
        config: settings of the distance.
        repeats: number of timed epochs, at least 1.

    Returns:
        Seconds with their spread, and value, norm of the gradient and convergence of the last epoch.
    """
    device, times = source.x.device, []
    begun = _clock(device)
    fixed = SourceStatistics.of(source, config.options(source))
    prepared = _clock(device) - begun
    while True:
        x = target.x.clone().requires_grad_()
        begun = _clock(device)
        result = KINDS[kind](fixed, x, target.y)
        result.value.backward()
        times.append(_clock(device) - begun)
        if len(times) > repeats:
            break
    assert x.grad is not None
    timed = times[1:]
    return {
        "source_seconds": prepared, "first_seconds": times[0], "median_seconds": statistics.median(timed),
        "min_seconds": min(timed), "max_seconds": max(timed), "seconds": timed, "value": result.value.item(),
        "gradient_norm": x.grad.norm().item(), "converged": result.converged, "marginal_error": result.marginal_error,
    }  # fmt: skip


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.otdd", description=str(__doc__).partition("\n")[0])
    sizes = {"source": 5000, "source-classes": 10, "classes": 10, "per-class": 128, "dim": 768, "repeats": 5}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=_whole, default=value, metavar="N", help=f"[{value}]")
    parser.add_argument("--kinds", default="joint,classwise", help="what to time [joint,classwise]")
    choices = ["gaussian", "exact", "means", "none"]
    parser.add_argument("--label-distance", choices=choices, default="gaussian", help="[gaussian]")
    parser.add_argument("--threads", type=_whole, help="torch's threads [as torch chooses]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps [auto]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Runs the benchmark and gathers its results with what they were measured on."""
    if given.threads:
        torch.set_num_threads(given.threads)
    device = resolve_device(given.device)
    sides = [
        made_up(given.source, given.source_classes, given.dim, which="source", seed=given.seed),
        made_up(given.classes * given.per_class, given.classes, given.dim, which="target", seed=given.seed, offset=0.5),
    ]
    source, target = (LabeledSet(side.x.to(device), side.y.to(device)) for side in sides)
    config = DiscrepancyConfig(label_distance=given.label_distance)
    results = {
        kind: time_epochs(kind, source, target, config=config, repeats=given.repeats) for kind in given.kinds.split(",")
    }
    sizes = ("source", "source_classes", "classes", "per_class", "dim", "repeats", "seed")
    return {
        "benchmark": "otdd", **{name: getattr(given, name) for name in sizes},
        "distance": config.model_dump(exclude={"kernels"}), "results": results, "device": str(device),
        "threads": torch.get_num_threads(), "machine": machine(), "versions": versions(), "commit": commit(),
        "peak_memory_mb": peak_memory_mb(),
    }  # fmt: skip


def text(made: dict[str, Any]) -> str:
    """The results as a Markdown table, with a line on what they were measured on."""
    rows = ["| epoch | source terms, once | median s | least | most | value | converged |", "|---" * 7 + "|"]
    for kind, r in made["results"].items():
        seconds = " | ".join(f"{r[key]:.3f}" for key in ("median_seconds", "min_seconds", "max_seconds"))
        rows.append(f"| {kind} | {r['source_seconds']:.3f} | {seconds} | {r['value']:.4g} | {r['converged']} |")
    on = made["machine"]
    return "\n".join(rows) + (
        f"\n\nSource {made['source']} in {made['source_classes']} classes, target {made['classes']} classes of "
        f"{made['per_class']}, dimension {made['dim']}; {made['repeats']} repeats after a first; seed {made['seed']}; "
        f"{made['device']}, {made['threads']} threads; {on['cpu']}, {on['cores']} cores, {on['gpu'] or 'no GPU'}; "
        f"torch {made['versions']['torch']}; commit {made['commit'] or 'unknown'}; peak memory "
        f"{made['peak_memory_mb']:.0f} MiB."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; bad input ends it with code 2."""
    parser = _parser()
    given = parser.parse_args(argv)
    if unknown := set(given.kinds.split(",")) - set(KINDS):
        parser.error(f"--kinds takes {' and '.join(KINDS)}; got {', '.join(sorted(unknown))}")
    if given.source < given.source_classes:
        parser.error(f"--source {given.source} is too few for --source-classes {given.source_classes}")
    try:
        made = measure(given)
    except InputError as fault:
        parser.error(str(fault))
    print(json.dumps(finite(made), indent=2, allow_nan=False) if given.json else text(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
