"""The sliced dataset distance beside the full one: whether both order pairs of sets alike, and what each costs.

``python -m benchmarks.sliced --million --figure sliced.svg --json``

- ``agreement``: Pearson and Spearman correlation over pairs of random subsets of real data, each of random classes
  and a random size, as Nguyen et al. 2025 (arXiv 2501.18901) do on MNIST. The data are the training parts of the tasks
  ``digits`` and, where ORCA_DATA has it, ``signdigits``. ``labels`` says how the full distance compares labels;
  ``sliced`` is s-OTDD, ``features`` the same without moments, so blind to labels. Roots are compared as well, for
  the paper correlates distances, not their squares.
- ``seconds``: value alone, made-up sets of one size in 64 dimensions and 10 classes; the full distance up to
  ``--full-limit`` samples.
- ``million``: two sets of a million samples in 64 dimensions, 100 classes each; value, and value with gradient.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from benchmarks.clock import made_up, timed
from orca.discrepancies import DiscrepancyConfig
from orca.errors import InputError
from orca.memory import peak_memory_mb
from orca.runtime import commit, finite, machine, resolve_device, rng, versions
from orca.tasks import TASKS
from orca.transport import otdd
from orca.transport.sliced import SlicedOptions, sliced_otdd
from orca.types import LabeledSet

LABELS = {"gaussian": (300, 900), "exact": (150, 450)}  # how the full distance compares labels: least and most samples
DIM, CLASSES = 64, 10
MILLION, MILLION_CLASSES = 1_000_000, 100


def subset(whole: LabeledSet, draw: np.random.Generator, sizes: tuple[int, int]) -> LabeledSet:
    """Samples of 2 classes or more, both drawn; their number is between ``sizes``, as far as there are so many."""
    labels = whole.y.unique().cpu().numpy()
    chosen = draw.choice(labels, int(draw.integers(2, len(labels) + 1)), replace=False)
    rows = np.flatnonzero(np.isin(whole.y.cpu().numpy(), chosen))
    kept = torch.from_numpy(draw.permutation(rows)[: int(draw.integers(sizes[0], sizes[1] + 1))]).to(whole.y.device)
    return LabeledSet(whole.x[kept], whole.y[kept])


def contenders(
    s: LabeledSet, t: LabeledSet, sliced: dict[str, SlicedOptions], **full: Any
) -> dict[str, Callable[[], float]]:
    """What is compared: ``full`` with these options, if any, and the sliced distances by name."""
    sets = s.x, s.y, t.x, t.y
    runs = {name: partial(_value, sliced_otdd, *sets, options=options) for name, options in sliced.items()}
    return {"full": partial(_value, otdd, *sets, **full), **runs} if full else runs


def _value(distance: Callable[..., Any], *sets: torch.Tensor, **options: Any) -> float:
    return float(distance(*sets, **options).value)


def correlations(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Of two lists of distances to the power 2; rounding may have made one of 0 negative."""
    roots = [np.sqrt(np.maximum(values, 0)) for values in (x, y)]
    pairs = {"pearson": (x, y), "spearman": (rankdata(x), rankdata(y)), "pearson_of_roots": roots}
    return {name: float(np.corrcoef(*pair)[0, 1]) for name, pair in pairs.items()}


def agreement(whole: LabeledSet, labels: str, given: argparse.Namespace) -> dict[str, Any]:
    """Full and sliced distances of random pairs of subsets, and how they correlate."""
    reg = DiscrepancyConfig().options(whole).reg  # one for all pairs
    draw = rng("benchmarks.sliced", labels, given.seed)
    sliced = {
        "sliced": SlicedOptions(projections=given.projections, moments=given.moments),
        "features": SlicedOptions(projections=given.projections, moments=0),
    }
    values, spent = ({name: [] for name in ("full", *sliced)} for _ in range(2))
    for _ in range(given.pairs):
        s, t = subset(whole, draw, LABELS[labels]), subset(whole, draw, LABELS[labels])
        for name, run in contenders(s, t, sliced, reg=reg, label_distance=labels).items():
            seconds, value = timed(run, whole.x.device)
            values[name].append(value)
            spent[name].append(seconds)
    return {
        "values": values, "seconds": {name: sum(each) for name, each in spent.items()},
        "correlation": {name: correlations(values["full"], values[name]) for name in sliced},
    }  # fmt: skip


def _pair(n: int, classes: int, given: argparse.Namespace, device: torch.device) -> list[LabeledSet]:
    sides = (
        made_up(n, classes, DIM, which=which, seed=given.seed, offset=offset)
        for which, offset in (("source", 0.0), ("target", 0.5))
    )
    return [LabeledSet(side.x.to(device), side.y.to(device)) for side in sides]


def seconds_over_size(given: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Median seconds of ``--repeats`` values after a first, for sets of each size."""
    rows = []
    options = {"sliced": SlicedOptions(projections=given.projections, moments=given.moments)}
    for n in given.sizes:
        s, t = _pair(n, CLASSES, given, device)
        full = {"reg": DiscrepancyConfig().options(s).reg} if n <= given.full_limit else {}
        row: dict[str, Any] = {"n": n}
        for name, run in contenders(s, t, options, **full).items():
            row[name] = statistics.median([timed(run, device)[0] for _ in range(given.repeats + 1)][1:])
        rows.append(row)
    return rows


def _peak(device: torch.device) -> float:
    """The most memory held so far, MiB: of the card on CUDA, else of the process."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_memory_mb()


def million(given: argparse.Namespace, device: torch.device, *, n: int = MILLION) -> dict[str, Any]:
    """Seconds and memory of the largest case; runs first, so that the peak is its own."""
    s, t = _pair(n, MILLION_CLASSES, given, device)
    before = _peak(device)
    options = SlicedOptions(projections=given.million_projections, moments=given.moments)
    seconds, result = timed(lambda: sliced_otdd(s.x, s.y, t.x, t.y, options=options), device)
    peak = _peak(device)
    x = t.x.requires_grad_()
    with_gradient, _ = timed(lambda: sliced_otdd(s.x, s.y, x, t.y, options=options).value.backward(), device)
    return {
        "n": n, "classes": MILLION_CLASSES, "dim": DIM, "projections": options.projections, "seconds": seconds,
        "value": result.value.item(), "standard_error": result.standard_error, "data_peak_mb": before, "peak_mb": peak,
        "gradient_seconds": with_gradient, "gradient_peak_mb": _peak(device),
    }  # fmt: skip


def real_sets(device: torch.device) -> dict[str, LabeledSet]:
    """Training parts of the tasks that are here, flattened, (n, d)."""
    found = {}
    for name in ("digits", "signdigits"):
        task = TASKS.get(name)
        if task.missing() is None:
            train = task.load().train
            x = torch.from_numpy(train.x).flatten(1)
            found[name] = LabeledSet(x.to(device), torch.from_numpy(train.y).to(device))
    return found


def draw_figure(made: dict[str, Any], path: Path) -> None:
    """A scatter plot of the full against the sliced distance for each data set and label distance."""
    from matplotlib.figure import Figure

    cells = [(data, labels, cell) for data, kinds in made["agreement"].items() for labels, cell in kinds.items()]
    figure = Figure(figsize=(3.2 * len(cells), 3.2), layout="constrained")
    for axes, (data, labels, cell) in zip(figure.subplots(1, len(cells), squeeze=False)[0], cells, strict=True):
        axes.scatter(cell["values"]["full"], cell["values"]["sliced"], s=10)
        r = cell["correlation"]["sliced"]
        axes.set_title(f"{data}: Pearson {r['pearson']:.2f}, Spearman {r['spearman']:.2f}", fontsize=9)
        axes.set_xlabel(f"OTDD, labels {labels}")
        axes.set_ylabel("s-OTDD")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sliced", description=str(__doc__).partition("\n")[0])
    numbers = {"pairs": 60, "projections": 1000, "moments": 5, "repeats": 3, "full-limit": 4000}
    for name, value in {**numbers, "million-projections": 100}.items():
        parser.add_argument(f"--{name}", type=_whole, default=value, metavar="N", help=f"[{value}]")
    parser.add_argument(
        "--sizes", default="500,1000,2000,4000,16000,64000", help="samples of each set, timed [%(default)s]"
    )
    parser.add_argument("--million", action="store_true", help="also time a million samples")
    parser.add_argument("--figure", type=Path, help="write a scatter plot of both distances, such as sliced.svg")
    parser.add_argument("--threads", type=_whole, help="torch's threads [as torch chooses]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps [auto]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Runs the benchmark and gathers its results with what they were measured on."""
    if given.threads:
        torch.set_num_threads(given.threads)
    device = resolve_device(given.device)
    largest = million(given, device) if given.million else None
    found = {
        name: {labels: agreement(whole, labels, given) for labels in LABELS}
        for name, whole in real_sets(device).items()
    }
    names = ("pairs", "projections", "moments", "repeats", "seed")
    return {
        "benchmark": "sliced", **{name: getattr(given, name) for name in names}, "agreement": found,
        "seconds": seconds_over_size(given, device), "million": largest, "device": str(device),
        "threads": torch.get_num_threads(), "machine": machine(), "versions": versions(), "commit": commit(),
    }  # fmt: skip


def text(made: dict[str, Any]) -> str:
    """The results as Markdown tables, with a line on what they were measured on."""
    rows = [
        "| data | labels | compared | Pearson | Spearman | Pearson of roots | s, full | s, sliced |",
        "|---" * 8 + "|",
    ]
    for data, kinds in made["agreement"].items():
        for labels, cell in kinds.items():
            for name, r in cell["correlation"].items():
                shown = " | ".join(f"{number:.3f}" for number in r.values())
                spent = f"{cell['seconds']['full']:.2f} | {cell['seconds'][name]:.2f}"
                rows.append(f"| {data} | {labels} | {name} | {shown} | {spent} |")
    rows += ["", "| samples of each set | s, full | s, sliced |", "|---" * 3 + "|"]
    rows += [
        f"| {r['n']} | {format(r['full'], '.3f') if 'full' in r else '-'} | {r['sliced']:.3f} |"
        for r in made["seconds"]
    ]
    if largest := made["million"]:
        rows.append(
            "\n{n} against {n} samples, {dim} dimensions, {classes} classes, {projections} projections: "
            "{seconds:.1f} s, value {value:.4g} +- {standard_error:.2g}, peak memory {peak_mb:.0f} MiB of which "
            "{data_peak_mb:.0f} before; with gradient {gradient_seconds:.1f} s, {gradient_peak_mb:.0f} MiB.".format(
                **largest
            )
        )
    on = made["machine"]
    rows.append(
        f"\n{made['pairs']} pairs, {made['projections']} projections, {made['moments']} moments; seed {made['seed']}; "
        f"{made['device']}, {made['threads']} threads; {on['cpu']}, {on['cores']} cores, {on['gpu'] or 'no GPU'}; "
        f"torch {made['versions']['torch']}; commit {made['commit'] or 'unknown'}."
    )
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; bad input ends it with code 2."""
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        given.sizes = [_whole(size) for size in given.sizes.split(",")]
    except argparse.ArgumentTypeError as fault:
        parser.error(f"--sizes: {fault}")
    if given.moments > 10 or given.pairs < 3:
        parser.error(f"--moments is at most 10, --pairs at least 3; got {given.moments} and {given.pairs}")
    try:
        made = measure(given)
    except InputError as fault:
        parser.error(str(fault))
    if given.figure:
        draw_figure(made, given.figure)
    print(json.dumps(finite(made), indent=2, allow_nan=False) if given.json else text(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
