"""Studies: a search by Optuna has one for each task, body, alignment and method of its grid.

A trial is one draw of the settings, trained for every seed of the grid and measured by validation alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca.config import anchor, check_config, set_key
from orca.errors import InputError
from orca.keys import keys
from orca.metrics import Metric
from orca.plan import Plan, plan
from orca.runtime import digest
from orca.store import Store
from orca.sweeps.cells import Cell, cells
from orca.sweeps.grid import Grid
from orca.sweeps.trials import Trials, check_optuna

POINT = ("task", "body", "align", "method")  # the axes that are the same for all runs of a study


@dataclass(frozen=True)
class Study:
    """A search at one point of a grid.

    Attributes:
        cells: a run of each seed, with the first value of each setting.
        grid: what the settings are drawn from, how often, and from which seed.
        journal: the file of its trials; its name has all in it that a trial depends on but its settings.
        metric: what validation measures; None if it cannot start.
        common: keys of the stages that no setting changes, by which studies share them, too.
        own: how many stages a trial has to itself.
        fault: why it cannot start.
    """

    cells: tuple[Cell, ...]
    grid: Grid
    journal: Path
    metric: Metric | None = None
    common: frozenset[tuple[str, str]] = frozenset()
    own: int = 0
    fault: str | None = None

    @property
    def place(self) -> dict[str, Any]:
        """Task, body, align and method."""
        return {axis: self.cells[0].place[axis] for axis in POINT}

    def trials(self) -> Trials:
        """Its trials; the journal is made if it is not there."""
        assert self.metric is not None
        better = self.metric.higher_is_better
        return Trials(self.journal, higher_is_better=better, settings=self.grid.settings, seed=self.grid.seed or 0)

    def settled(self) -> int:
        """How many of its trials are over."""
        known = self.trials().all() if self.fault is None and self.journal.is_file() else []
        return min(sum(trial.settled for trial in known), self.grid.samples or 0)

    def at(self, draw: Mapping[str, Any]) -> list[Cell]:
        """The runs of a trial, one for each seed.

        Raises:
            InputError: the settings do not go together.
        """
        return [Cell({**cell.place, **draw}, check_config(_changed(cell, draw))) for cell in self.cells]


def _changed(cell: Cell, draw: Mapping[str, Any]) -> dict[str, Any]:
    raw = cell.config.model_dump(mode="json")
    for key, value in draw.items():
        set_key(raw, key, value)
    anchor(raw, Path.cwd())
    return raw


@dataclass(frozen=True)
class Search:
    """The studies of a grid."""

    studies: tuple[Study, ...]

    @property
    def able(self) -> list[Study]:
        """Those that can start."""
        return [study for study in self.studies if study.fault is None]

    @property
    def axes(self) -> list[str]:
        """What the place of a run says: task, body, align, method, seed, then the settings that are drawn."""
        return list(self.studies[0].cells[0].place)

    def summary(self) -> str:
        """What is to be done, in one line."""
        samples = self.studies[0].grid.samples or 0
        trials = samples * len(self.able)
        settled = sum(study.settled() for study in self.able)
        common = frozenset[tuple[str, str]]().union(*(study.common for study in self.able))
        most = len(common) + sum(samples * study.own + len(study.cells) for study in self.able)
        lost = len(self.studies) - len(self.able)
        parts = [
            f"{_count(len(self.studies), 'study', 'studies')}, {_count(trials, 'trial')}: at most "
            f"{_count(most, 'stage')} after sharing",
            f"{_count(settled, 'trial')} done already",
            f"{trials - settled} to do",
        ]
        return ", ".join(parts + ([f"{_count(lost, 'study', 'studies')} cannot start"] if lost else []))


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def plan_search(grid: Grid, store: Store, name: str, *, online: bool = False) -> Search:
    """Plans the studies of a grid. Nothing is drawn.

    A study that cannot start, since its data is missing for example, has a fault.

    Args:
        grid: one with ``search: optuna``.
        store: where the journals are.
        name: the sweep's.
        online: whether the hub may be asked for weights.

    Raises:
        InputError: Optuna is not there, the grid has faults, or no study can start.
    """
    check_optuna()
    points: dict[tuple[str, ...], dict[int, list[Cell]]] = {}
    for cell in cells(grid):
        point = points.setdefault(tuple(cell.place[axis] for axis in POINT), {})
        point.setdefault(cell.config.seed, []).append(cell)
    folder = store.root / "sweeps" / name
    found = tuple(_study(list(seeds.values()), grid, folder, online=online) for seeds in points.values())
    if all(study.fault for study in found):
        reasons = dict.fromkeys(study.fault for study in found)
        raise InputError("no study can start:\n" + "\n".join(f"  - {reason}" for reason in reasons))
    return Search(found)


def _study(seeds: Sequence[Sequence[Cell]], grid: Grid, folder: Path, *, online: bool) -> Study:
    """The study of runs that lie seed by seed, each with the first draw of the settings at first, the last at last."""
    first = tuple(runs[0] for runs in seeds)
    try:
        ends = [(plan(runs[0].config, online=online), plan(runs[-1].config, online=online)) for runs in seeds]
    except InputError as fault:
        return Study(first, grid, folder / "none", fault=str(fault))
    facts = {
        "runs": [keys(low)["finetune"] for low, _ in ends], "settings": grid.settings, "seed": grid.seed or 0,
    }  # fmt: skip
    place = first[0].place
    journal = folder / f"{Path(place['task']).name}-{place['method']}-{digest(facts)[:8]}.jsonl"
    stages = [_stages(*pair) for pair in ends]
    common = frozenset[tuple[str, str]]().union(*(shared for shared, _ in stages))
    own = sum(each for _, each in stages)
    return Study(first, grid, journal, metric=ends[0][0].metric(), common=common, own=own)


def _stages(low: Plan, high: Plan) -> tuple[frozenset[tuple[str, str]], int]:
    """Of runs with the first and the last settings: the stages that they share, and how many each has to itself."""
    before, after = keys(low), keys(high)
    del before["evaluate"], after["evaluate"]  # of the best trial alone
    shared = frozenset(before.items() & after.items())
    return shared, len(before) - len(shared)
