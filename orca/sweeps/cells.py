"""The runs of a grid: each with its place in it and its checked configuration."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca import runtime
from orca.config import RunConfig, anchor, find_config, find_faults, listed, read_settings, set_key
from orca.errors import InputError
from orca.runs import describe
from orca.sweeps.grid import AXES, FIELDS, MOST, Grid, Span, overlap
from orca.tasks import TASKS


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        place: where it lies in the grid: task, body, align, method, seed, then variant and settings where it has such.
        config: its configuration.
    """

    place: dict[str, Any]
    config: RunConfig


def _every(grid: Grid) -> Iterator[dict[str, Any]]:
    """Every combination of the settings."""
    lists = [values for values in grid.settings.values() if isinstance(values, list)]
    yield from (dict(zip(grid.settings, values, strict=True)) for values in itertools.product(*lists))


def _drawn(grid: Grid) -> Iterator[dict[str, Any]]:
    """The draws of a random search: sample by sample, key by key."""
    for sample in range(grid.samples or 0):
        found = {}
        for key, values in grid.settings.items():
            where = float(runtime.rng("grid", grid.seed or 0, key, sample).random())
            found[key] = values.draw(where) if isinstance(values, Span) else values[int(where * len(values))]
        yield found


def _ends(grid: Grid) -> Iterator[dict[str, Any]]:
    """What Optuna's draws lie between: the first value of each setting, each other value by itself, all the last."""
    ends = {key: [v.low, v.high] if isinstance(v, Span) else v for key, v in grid.settings.items()}
    first = {key: values[0] for key, values in ends.items()}
    yield first
    yield from ({**first, key: value} for key, values in ends.items() for value in values[1:])
    yield {key: values[-1] for key, values in ends.items()}


DRAWS = {"all": _every, "random": _drawn, "optuna": _ends}


def cells(grid: Grid) -> list[Cell]:
    """The runs of a grid, task by task, checked as configurations.

    Of a search by Optuna those with the first and with the last value of each setting, and some between: its own are
    known when it has drawn them.

    Raises:
        InputError: lists the faults of all runs, or says that nothing is left or too much.
    """
    faults: dict[str, None] = {}
    bases: dict[str, dict[str, Any]] = {}
    for entry in grid.tasks:
        try:
            bases[grid.label(entry)] = _base(entry)
        except InputError as fault:
            faults[f"tasks: {fault}"] = None
    found = []
    for place in _places(grid, list(bases)):
        config, wrong = find_faults(_settings(bases[place["task"]], place, grid.variants))
        faults |= dict.fromkeys(_in_grid(fault, grid, place) for fault in wrong)
        if config is not None:
            found.append(Cell(_filled(place, config), config))
    if faults:
        raise InputError(listed(faults, "the grid"))
    if not found:
        raise InputError("the grid has no run: exclude leaves out every one")
    return found


def _places(grid: Grid, labels: list[str]) -> Iterator[dict[str, Any]]:
    """The places that are not excluded; None on an axis that the grid leaves out."""
    named = [{"variant": name} for name in grid.variants] or [{}]
    draws = [variant | draw for variant in named for draw in DRAWS[grid.search](grid)]
    axes: list[list[Any]] = [getattr(grid, FIELDS[axis]) or [None] for axis in AXES]
    if (count := math.prod(map(len, [labels, draws, *axes]))) > MOST:
        raise InputError(f"the grid has {count:,} runs, more than {MOST:,}; did you mean `search: random`?")
    for label, draw in itertools.product(labels, draws):
        for values in itertools.product(*axes):
            place = {"task": label, **dict(zip(AXES, values, strict=True)), **draw}
            if not any(all(place[key] == value for key, value in entry.items()) for entry in grid.exclude):
                yield place


def _base(entry: str | Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a task's entry starts from."""
    if isinstance(entry, Mapping):
        return {"task": dict(entry)}
    try:
        return read_settings(find_config(entry))
    except InputError:
        if entry in TASKS.names():  # one without a configuration of its own
            return {"task": entry}
        raise


def _settings(
    base: Mapping[str, Any], place: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The keys and values of one run, not yet checked."""
    raw = copy.deepcopy(dict(base))
    for key, value in place.items():
        if key not in ("task", "variant") and (value is not None or key not in AXES):
            set_key(raw, AXES.get(key, key), value)
    for key, value in variants.get(place.get("variant", ""), {}).items():
        set_key(raw, key, copy.deepcopy(value))
    anchor(raw, Path.cwd())
    return raw


def _in_grid(fault: str, grid: Grid, place: Mapping[str, Any]) -> str:
    """A fault of a run's configuration with the path that it has in the grid."""
    path, _, text = fault.partition(": ")
    variant = place.get("variant", "")
    if any(overlap(path, key) for key in grid.variants.get(variant, {})):
        return f"variants.{variant}.{path}: {text}"
    for axis, key in AXES.items():
        if path in (key, key.partition(".")[0]) and getattr(grid, FIELDS[axis]):
            alone = path != key and axis == "method" and len(grid.methods) > 1  # what one of the methods does not take
            hint = "; what one method alone takes goes into the `variants` of a grid for orca sweep" * alone
            return f"{FIELDS[axis]}: {text}{hint}"
    varied = any(overlap(path, key) for key in grid.settings)
    return f"settings.{path}: {text}" if varied else f"tasks.{place['task']}: {fault}"


def _filled(place: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """The place with what the configuration says: on axes that the grid leaves out, and where a method never aligns."""
    return {**place, **describe(config), "task": place["task"]}
