"""What a study of studies/ found: its runs as data, the differences to its first variant, and their figure.

``python -m benchmarks.study SWEEP --write docs/results`` reads the sweep of that name from the store, writes
``SWEEP.json`` (a row for each run, with commit and processor) and ``SWEEP.svg`` there, and prints the tables. Runs in
the ``SWEEP.json`` that is there stay where the sweep has not done them anew.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.differences import Difference, Run, agreement, by_seed, difference, pairs, ranks

FIRST = 0
KEPT = ("metric", "higher_is_better", "validation", "test")
CHOSEN = ("kept", "probe_unaligned", "probe_kept", "validation_unaligned", "validation_aligned")
LOOKS = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#e69f00", "v"), ("#56b4e9", "P"),
         ("#000000", "X"), ("#999999", "*"))  # fmt: skip


def gathered(sweep: Mapping[str, Any], before: Sequence[Run] = ()) -> list[dict[str, Any]]:
    """A sweep's completed runs as data: place, metrics, what came of the alignment, cost, commit and processor.

    Args:
        sweep: as ``sweep.json`` holds it; the folders of completed runs are read.
        before: runs that were gathered earlier; those stay that the sweep has not done anew.
    """
    from orca.runs import read_part

    runs: dict[tuple[Any, ...], dict[str, Any]] = {place(run): dict(run) for run in before}
    for row in sweep["runs"]:
        if row["state"] == "completed":
            run = {"variant": row["method"], **{key: row[key] for key in (*sweep["axes"], *KEPT)}}
            record = read_part(Path(row["path"]), "run.json")
            told = record["alignment"]
            run |= {"shift": record["shift"], "trained": record["parameters"]["trained"]}
            run |= {"probe": {key: told[key] for key in CHOSEN if key in told}}
            run["seconds"] = {stage["name"]: round(stage["seconds"], 2) for stage in record["stages"]}
            run |= {"commit": record["commit"], "cpu": record["machine"]["cpu"], "created": record["created"]}
            runs[place(run)] = run
    return list(runs.values())


def place(run: Run) -> tuple[Any, ...]:
    """What tells runs of a study apart."""
    return run["task"], run["variant"], run["seed"]


def means(runs: Sequence[Run], tasks: Sequence[str], variants: Sequence[str]) -> str:
    """A table of validation metrics: tasks by variants, mean and sample standard deviation over seeds."""
    lines = [f"| task | metric | {' | '.join(variants)} |", f"|---|---|{'---|' * len(variants)}"]
    for task in tasks:
        cells = [_spread(list(by_seed(runs, task, variant).values())) for variant in variants]
        metric = next(run["metric"] for run in runs if run["task"] == task)
        lines.append(f"| `{task}` | {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(runs: Sequence[Run], tasks: Sequence[str], variants: Sequence[str]) -> str:
    """A table over the tasks: how often a variant is better than the first, its rank, and what came of alignment."""
    placed = ranks(runs, tasks, variants)
    lines = [
        "| variant | better, within, worse | mean is better | mean gain | seeds worse than the spread | rank "
        "| alignment kept | probe's gain | probe right |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for variant in variants:
        found = {task: difference(runs, task, variant, variants[FIRST]) for task in tasks}
        known = [one for one in found.values() if one is not None]
        single = [
            (pair.mean, one.spread)
            for task, one in found.items()
            if one is not None
            for pair in pairs(runs, task, variant, variants[FIRST])
        ]
        counts = [sum(one.verdict == verdict for one in known) for verdict in ("better", "within", "worse")]
        probes = [run["probe"] for run in runs if run["variant"] == variant and "kept" in run.get("probe", {})]
        kept = sum(probe["kept"] != "unaligned" for probe in probes)
        gains = [
            (probe["probe_unaligned"] - probe["probe_kept"]) / probe["probe_unaligned"]
            for probe in probes
            if probe["probe_kept"] is not None and probe["probe_unaligned"]
        ]
        first = variant == variants[FIRST]
        aligned = any("kept" in run.get("probe", {}) for run in runs if run["variant"] == variants[FIRST])
        right, judged = (0, 0) if aligned else agreement(runs, variant, variants[FIRST])
        shares = [one.share for one in known if not math.isnan(one.share)]
        cells = [
            "-" if first else ", ".join(map(str, counts)),
            "-" if first else f"{sum(one.mean > 0 for one in known)} of {len(known)}",
            "-" if first or not shares else f"{statistics.fmean(shares):+.1%}",
            "-" if first else f"{sum(mean < -spread for mean, spread in single)} of {len(single)}",
            f"{placed[variant]:.2f}" if variant in placed else "-",
            f"{kept} of {len(probes)}" if probes else "-",
            f"{statistics.fmean(gains):.1%}" if gains else "-",
            f"{right} of {judged}" if judged else "-",
        ]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tested(runs: Sequence[Run]) -> list[Run]:
    """The runs whose test set was opened, anew for test and each shift set, with its metric in validation's place."""
    sets = [(run, {"test": run["test"], **run["shift"]}) for run in runs if run["test"] is not None]
    return [
        {**run, "task": f"{run['task']}, {name}", "validation": value}
        for run, values in sets for name, value in values.items()
    ]  # fmt: skip


def _axes(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """The tasks and the variants of runs, in their order."""
    tasks, variants = ([*dict.fromkeys(run[axis] for run in runs)] for axis in ("task", "variant"))
    return tasks, variants


def _spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3g}{spread}"


def _ticks(low: float, high: float) -> dict[str, float]:
    """Multiples between two by their labels: the powers of two, or finer ones where there are only three of these."""
    fine = {f"{tick:g}": tick for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2)}
    powers = {f"1/{2**-power}" if power < 0 else str(2**power): 2.0**power for power in range(-5, 10)}
    ticks = fine if low > 0.25 and high < 4 else powers
    return {label: tick for label, tick in ticks.items() if low <= tick <= high}


def draw(
    runs: Sequence[Run], tasks: Sequence[str], variants: Sequence[str], path: Path, of: str = "validation"
) -> None:
    """The error of each variant as a multiple of the first one's, for every seed and in the mean, by task.

    On a logarithmic axis, where half and twice the error are equally far from one; less than the thirty-second part
    stands there. Tasks that no other variant has are left out.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    from benchmarks.growth import STYLE

    def times(found: Difference) -> float:
        return math.nan if math.isnan(found.share) else max(1 - found.share, 1 / 32)

    others = [variant for variant in variants if variant != variants[FIRST]]
    tasks = [task for task in tasks if any(difference(runs, task, variant, variants[FIRST]) for variant in others)]
    with mpl.rc_context({**STYLE, "svg.hashsalt": path.stem}):
        figure = Figure(figsize=(8, 0.7 + 0.42 * len(tasks)), layout="constrained", facecolor="white")
        ax = figure.subplots()
        ax.set_xscale("log", base=2)
        for number, variant in enumerate(others):
            colour, marker = LOOKS[number % len(LOOKS)]
            at = (number - (len(others) - 1) / 2) * 0.7 / max(len(others), 1)
            label: str | None = variant  # of its first point alone; not every task has every variant
            for row, task in enumerate(tasks):
                points = [times(pair) for pair in pairs(runs, task, variant, variants[FIRST])]
                ax.scatter(points, [row + at] * len(points), s=9, color=colour, alpha=0.4)
                if whole := difference(runs, task, variant, variants[FIRST]):
                    ax.scatter(times(whole), row + at, s=36, color=colour, marker=marker, label=label)
                    label = None
        ax.axvline(1, color="#555555", linewidth=1, zorder=0)
        ax.set_axisbelow(True)
        ax.set_yticks(range(len(tasks)), tasks)
        ax.set_ylim(len(tasks) - 0.5, -0.5)
        ticks = _ticks(*ax.get_xlim())
        ax.set_xticks([*ticks.values()], [*ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(f"error on {of}, as a multiple of that of '{variants[FIRST]}'; small: one seed, large: the mean")
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """The command."""
    from orca.runtime import read_json, write_json
    from orca.store import Store, default_root

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", help="name of the sweep, such as alignment")
    parser.add_argument("--store", type=Path, default=None, help="folder of stages and runs [ORCA_STORE, or ./runs]")
    parser.add_argument("--write", type=Path, required=True, help="folder of the data and the figure")
    given = parser.parse_args()
    source = Store(given.store or default_root()).root / "sweeps" / given.sweep / "sweep.json"
    data = given.write / f"{given.sweep}.json"
    runs = read_json(data) if data.is_file() else []
    if source.is_file():
        given.write.mkdir(parents=True, exist_ok=True)
        runs = gathered(read_json(source), runs)
        write_json(data, runs)
    if not runs:
        parser.error(f"neither {source} nor {data} has a completed run; run the sweep first")
    looks = {"validation": runs}
    if all(run["test"] is not None for run in runs):
        looks["test"] = tested(runs)
    for of, seen in looks.items():
        print(f"Of {of}:", *(table(seen, *_axes(seen)) for table in (means, verdicts)), sep="\n\n", end="\n\n")
    of, seen = looks.popitem()
    draw(seen, *_axes(seen), given.write / f"{given.sweep}.svg", of)


if __name__ == "__main__":
    main()
