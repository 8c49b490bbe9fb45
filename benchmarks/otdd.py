"""Time of one alignment epoch: value and gradient of the dataset distance of a target to a constant source.

``python -m benchmarks.otdd --source 5000 --source-classes 10 --classes 10 --per-class 128 --dim 768 --json``

``joint`` is the objective ``otdd``, all classes at once; ``classwise`` is ``otdd-classwise``, the loop of the ORCA
reference, each target class against the whole source; ``sliced`` is ``otdd-sliced``. Terms of the source alone are
computed once, outside the epoch, and timed by themselves. The features are made up: Gaussian classes whose spread falls
with the dimension, the target's moved away from the source's. Orca's defaults for regularisation and solver hold.

``--preset issue`` takes three sizes at which the reference was timed, ``--preset large`` one of 10,000 against 10,000
samples, ``--preset streaming`` one of 50,000 against 50,000; ``--rivals`` adds geomloss and POT, ``--growth FIGURE``
draws how the time grows with the sizes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import growth, limit, rivals
from benchmarks.clock import made_up, spread, timed
from benchmarks.report import grown, table
from orca.discrepancies import DiscrepancyConfig
from orca.errors import InputError
from orca.memory import peak_memory_mb
from orca.runtime import commit, finite, machine, resolve_device, versions
from orca.transport import SourceStatistics, otdd, otdd_classwise
from orca.transport.sliced import SlicedOptions, SlicedStatistics, sliced_otdd
from orca.types import LabeledSet

SIZES = {"source": 5000, "source_classes": 10, "classes": 10, "per_class": 128, "dim": 768}
PRESETS: dict[str, list[dict[str, Any]]] = {
    "issue": [  # reference_seconds: its inner and outer problems on 2 CPU cores, each class and epoch anew
        {"source": 500, "source_classes": 10, "classes": 4, "per_class": 64, "dim": 384,
         "reference_seconds": 2.0, "most_seconds": 0.01},
        {"source": 2000, "source_classes": 10, "classes": 10, "per_class": 64, "dim": 384,
         "reference_seconds": 2.8, "most_seconds": 0.05},
        {"source": 5000, "source_classes": 10, "classes": 10, "per_class": 128, "dim": 768,
         "reference_seconds": 78.0, "most_seconds": 0.45},
    ],
    "large": [
        {"source": 10_000, "source_classes": 20, "classes": 20, "per_class": 500, "dim": 384, "kinds": "joint"},
    ],
    "streaming": [
        {"source": 50_000, "source_classes": 20, "classes": 20, "per_class": 2500, "dim": 384, "kinds": "joint",
         "repeats": 0},
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """An objective: from the source and its settings to what stays constant, and from that and a target to a result."""

    prepare: Callable[[LabeledSet, DiscrepancyConfig], Any]
    epoch: Callable[[Any, Tensor, Tensor], Any]


def _statistics(source: LabeledSet, config: DiscrepancyConfig) -> SourceStatistics:
    return SourceStatistics.of(source, config.options(source))


KINDS = {
    "joint": Kind(_statistics, lambda source, x, y: otdd(source.x, source.y, x, y, source=source)),
    "classwise": Kind(_statistics, otdd_classwise),
    "sliced": Kind(
        lambda source, config: SlicedStatistics.of(
            source, SlicedOptions(projections=config.projections, moments=config.moments, scale="source")
        ),
        lambda source, x, y: sliced_otdd(source.x, source.y, x, y, source=source),
    ),
}


def time_epochs(
    kind: str, source: LabeledSet, target: LabeledSet, *, config: DiscrepancyConfig, repeats: int
) -> dict[str, Any]:
    """Times the source's terms once, a first epoch (which warms up), and ``repeats`` more.

    Args:
        kind: one of ``KINDS``.
        source: held constant.
        target: gets the gradient.
        config: settings of the distance.
        repeats: number of timed epochs; with 0 the first is the one that counts.

    Returns:
        Seconds with their spread, and value, norm of the gradient and convergence of the last epoch.
    """
    device, times, x = source.x.device, [], target.x
    prepared, fixed = timed(lambda: KINDS[kind].prepare(source, config), device)

    def epoch() -> Any:
        result = KINDS[kind].epoch(fixed, x, target.y)
        result.value.backward()
        return result

    result: Any = None
    for _ in range(repeats + 1):
        x = target.x.clone().requires_grad_()
        seconds, result = timed(epoch, device)
        times.append(seconds)
    assert x.grad is not None
    solved = {"converged": True, "marginal_error": 0.0, "engine": None}  # of the sliced one, which solves nothing
    return {
        "source_seconds": prepared, "first_seconds": times[0], **spread(times[1:] or times),
        "value": result.value.item(), "gradient_norm": x.grad.norm().item(),
        **{key: getattr(result, key, value) for key, value in solved.items()},
    }  # fmt: skip


def _memory(device: torch.device) -> dict[str, float]:
    """The most memory that the process has held so far, MiB, and the most of a CUDA device's."""
    held = {"peak_memory_mb": peak_memory_mb()}
    if device.type == "cuda":
        held["device_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return held


def _sets(sizes: dict[str, int], seed: int, device: torch.device) -> tuple[LabeledSet, LabeledSet]:
    count = sizes["classes"] * sizes["per_class"]
    source = made_up(sizes["source"], sizes["source_classes"], sizes["dim"], which="source", seed=seed)
    target = made_up(count, sizes["classes"], sizes["dim"], which="target", seed=seed, offset=0.5)
    return LabeledSet(source.x.to(device), source.y.to(device)), LabeledSet(target.x.to(device), target.y.to(device))


def _time_rivals(source: LabeledSet, target: LabeledSet, config: DiscrepancyConfig) -> dict[str, Any]:
    fixed, x = _statistics(source, config), target.x.clone().requires_grad_()
    otdd_classwise(fixed, x, target.y).value.backward()
    assert x.grad is not None
    return rivals.time_rivals(fixed, target, x.grad)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Runs the benchmark at one size and gathers its results with what they were measured on."""
    device, sizes = resolve_device(given.device), {name: getattr(given, name) for name in SIZES}
    source, target = _sets(sizes, given.seed, device)
    config = DiscrepancyConfig(label_distance=given.label_distance)
    before = peak_memory_mb()
    results = {
        kind: time_epochs(kind, source, target, config=config, repeats=given.repeats) for kind in given.kinds.split(",")
    }
    held = _memory(device)
    classes = [given.per_class] * given.classes
    return {
        "benchmark": "otdd", **sizes, "repeats": given.repeats, "seed": given.seed,
        "distance": config.model_dump(exclude={"kernels"}), "results": results,
        "rivals": _time_rivals(source, target, config) if given.rivals else {},
        "limit": limit.shares(results, given.source, classes, given.dim, device), **_measured_on(device), **held,
        "memory_before_mb": before,
    }  # fmt: skip


def _measured_on(device: torch.device) -> dict[str, Any]:
    return {
        "device": str(device), "threads": torch.get_num_threads(), "machine": machine(), "versions": versions(),
        "commit": commit(),
    }  # fmt: skip


def measure_preset(given: argparse.Namespace) -> dict[str, Any]:
    """Runs the benchmark at the sizes of a preset, one after another; the reference's seconds stand beside them."""
    rows = []
    for row in PRESETS[given.preset]:
        made = measure(argparse.Namespace(**{**vars(given), **row}))
        rows.append(made | {key: row[key] for key in ("reference_seconds", "most_seconds") if key in row})
    return {"benchmark": "otdd", "preset": given.preset, "rows": rows}


def measure_growth(given: argparse.Namespace) -> dict[str, Any]:
    """Times all kinds of epochs at growing sizes and draws the figure."""
    device, base = resolve_device(given.device), growth.Sizes(given.source, given.source_classes, given.dim)
    config = DiscrepancyConfig(label_distance=given.label_distance)

    def seconds(size: growth.Sizes) -> dict[str, float]:
        sets = [
            made_up(size.samples, size.classes, size.dim, which=which, seed=given.seed, offset=offset)
            for which, offset in (("source", 0.0), ("target", 0.5))
        ]
        source, target = (LabeledSet(side.x.to(device), side.y.to(device)) for side in sets)
        runs = {kind: time_epochs(kind, source, target, config=config, repeats=given.repeats) for kind in KINDS}
        return {kind: run["median_seconds"] for kind, run in runs.items()}

    made = {
        "benchmark": "otdd", "growth": growth.measure_growth(base, seconds), "samples": base.samples,
        "classes": base.classes, "dim": base.dim, "repeats": given.repeats, "seed": given.seed, **_measured_on(device),
    }  # fmt: skip
    on = made["machine"]
    note = f"{on['gpu'] if device.type == 'cuda' else on['cpu']}, {made['threads']} threads, median of {given.repeats}"
    growth.draw(made["growth"], base, note, given.growth)
    return made


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return int(text)


def _figure(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".svg", ".png") or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected an .svg or .png file in a directory that exists, got {text}")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.otdd", description=str(__doc__).partition("\n")[0])
    for name, value in {**SIZES, "repeats": 5}.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=_whole, default=value, metavar="N", help=f"[{value}]")
    parser.add_argument("--kinds", default="joint,classwise", help=f"of {', '.join(KINDS)} [joint,classwise]")
    parser.add_argument("--preset", choices=list(PRESETS), help="sizes known beforehand, in place of those above")
    parser.add_argument("--rivals", action="store_true", help="also geomloss and POT, class by class")
    parser.add_argument("--growth", type=_figure, metavar="FIGURE", help="draw time against each of the source's sizes")
    choices = ["gaussian", "exact", "means", "none"]
    parser.add_argument("--label-distance", choices=choices, default="gaussian", help="[gaussian]")
    parser.add_argument("--threads", type=_whole, help="torch's threads [as torch chooses]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps [auto]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def run(given: argparse.Namespace) -> tuple[dict[str, Any], Callable[[dict[str, Any]], str]]:
    """What was asked for, and what turns it into text."""
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.growth:
        return measure_growth(given), grown
    if given.preset:
        return measure_preset(given), lambda made: "\n\n".join(table(row) for row in made["rows"])
    return measure(given), table


def main(argv: Sequence[str] | None = None) -> int:
    """The command; bad input ends it with code 2."""
    parser = _parser()
    given = parser.parse_args(argv)
    if unknown := set(given.kinds.split(",")) - set(KINDS):
        parser.error(f"--kinds takes {', '.join(KINDS)}; got {', '.join(sorted(unknown))}")
    if given.source < given.source_classes:
        parser.error(f"--source {given.source} is too few for --source-classes {given.source_classes}")
    try:
        made, text = run(given)
    except InputError as fault:
        parser.error(str(fault))
    print(json.dumps(finite(made), indent=2, allow_nan=False) if given.json else text(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
