"""Runs of a study against those of its first variant: differences paired over seeds, ranks, what the probe foretold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Run = Mapping[str, Any]


class Difference(NamedTuple):
    """A variant on a task against the first one, paired over seeds; what is better is positive.

    Attributes:
        mean: of the differences of the validation metric, in its unit.
        share: the mean as a share of the error of the first variant (of what it lacks to 1, where higher is better);
            NaN where that has none.
        spread: the larger of the two variants' sample standard deviations, each over all of its seeds.
        seeds: how many both have.
    """

    mean: float
    share: float
    spread: float
    seeds: int

    @property
    def verdict(self) -> str:
        """Whether it is better or worse by more than the spread."""
        return "better" if self.mean > self.spread else "worse" if self.mean < -self.spread else "within"


def by_seed(runs: Sequence[Run], task: str, variant: str) -> dict[int, float]:
    """The validation metric of each seed that is there."""
    return {
        run["seed"]: run["validation"]
        for run in runs
        if (run["task"], run["variant"]) == (task, variant) and run["validation"] is not None
    }


def difference(runs: Sequence[Run], task: str, variant: str, first: str) -> Difference | None:
    """How a variant does on a task against the first; None where they have no seed together."""
    ours, theirs = by_seed(runs, task, variant), by_seed(runs, task, first)
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    up = next(run["higher_is_better"] for run in runs if run["task"] == task)
    mean = statistics.fmean(ours[seed] - theirs[seed] for seed in seeds) * (1 if up else -1)
    base = statistics.fmean(theirs[seed] for seed in seeds)
    spread = max(statistics.stdev(found.values()) if len(found) > 1 else 0.0 for found in (ours, theirs))
    lacking = (1 - base) if up else base
    return Difference(mean, mean / lacking if lacking else math.nan, spread, len(seeds))


def pairs(runs: Sequence[Run], task: str, variant: str, first: str) -> list[Difference]:
    """The differences of each seed that both have, by itself."""
    seeds = sorted({run["seed"] for run in runs if run["task"] == task})
    found = [difference([run for run in runs if run["seed"] == seed], task, variant, first) for seed in seeds]
    return [one for one in found if one is not None]


def ranks(runs: Sequence[Run], tasks: Sequence[str], variants: Sequence[str]) -> dict[str, float]:
    """The mean of a variant's rank by its mean on validation, 1 the best, over the tasks that all variants have.

    The mean is that of the seeds that all variants have.
    """
    from scipy.stats import rankdata

    places: dict[str, list[float]] = {variant: [] for variant in variants}
    for task in tasks:
        values = {variant: by_seed(runs, task, variant) for variant in variants}
        seeds = set.intersection(*(set(found) for found in values.values()))
        if not seeds:
            continue
        up = next(run["higher_is_better"] for run in runs if run["task"] == task)
        errors = [statistics.fmean(values[v][seed] for seed in seeds) * (-1 if up else 1) for v in variants]
        for variant, rank in zip(variants, rankdata(errors), strict=True):
            places[variant].append(float(rank))
    return {variant: statistics.fmean(found) for variant, found in places.items() if found}


def agreement(runs: Sequence[Run], variant: str, first: str) -> tuple[int, int]:
    """In how many of the runs that went on with an aligned embedder the probe was right, and in how many it could be.

    It is right where its sign is that of the validation metric after training, against the same seed of the first
    variant, which is not aligned. Runs in which either did not change do not count.
    """
    right = found = 0
    for run in runs:
        probe, theirs = run.get("probe", {}), by_seed(runs, run["task"], first).get(run["seed"])
        if run["variant"] != variant or probe.get("kept", "unaligned") == "unaligned":
            continue
        if None in (theirs, run["validation"], probe["probe_kept"]):
            continue
        gain = (run["validation"] - theirs) * (1 if run["higher_is_better"] else -1)
        promise = probe["probe_unaligned"] - probe["probe_kept"]
        found += bool(gain and promise)
        right += gain * promise > 0
    return right, found
