"""A grid of runs, as a GRID.yaml describes it: tasks x bodies x aligns x methods x seeds, variants and settings."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from orca.config import RunConfig, anchor, fault_text, listed, read_settings
from orca.errors import InputError

# The axes of every grid, with the key of a run's configuration that each sets; a task is a configuration of its own.
AXES = {"body": "body.name", "align": "align.objective", "method": "finetune.method", "seed": "seed"}
FIELDS = {"task": "tasks", "body": "bodies", "align": "aligns", "method": "methods", "seed": "seeds"}
SEARCHES = {"random": "a random search", "optuna": "a search by Optuna"}  # the searches that draw the settings
# What validation is measured by: trials that differ in it could not be compared.
MEASURES = ("metric", "task", "finetune.validation_samples")
MOST = 100_000  # runs of one grid; more is a slip of the pen


def _listed(value: Any) -> Any:
    """One value as a list of one."""
    found = value if isinstance(value, list | tuple) else [value]
    if not found:
        raise ValueError("expected at least one; leave the key out for what is configured")
    return found


def _seeds(value: Any) -> list[Any]:
    """Seeds one by one from ``[0, 1]``, ``0..4``, ``{from: 0, to: 4}`` or one number."""
    found: list[Any] = []
    for item in _listed(value):
        ends: list[Any] = [item, item]
        if isinstance(item, Mapping) and set(item) == {"from", "to"}:
            ends = [item["from"], item["to"]]
        elif isinstance(item, str) and (match := re.fullmatch(r"(\d+)\.\.(\d+)", item)):
            ends = [int(match[1]), int(match[2])]
        if not all(isinstance(end, int) and not isinstance(end, bool) and end >= 0 for end in ends):
            raise ValueError(f"must be whole numbers, like [0, 1, 2], 0..4 or {{from: 0, to: 4}}; got {item!r}")
        if not 0 <= ends[1] - ends[0] < MOST:
            raise ValueError(f"a range goes from the smaller number up to and with the larger; got {item!r}")
        found += range(ends[0], ends[1] + 1)
    return found


def _entries(value: Any) -> list[Any]:
    """Tasks: names, paths or own data."""
    for item in _listed(value):
        if not isinstance(item, str | Mapping):
            raise ValueError(f"must be names of configurations, YAML files, or own data as in `task:`; got {item!r}")
    return [dict(item) if isinstance(item, Mapping) else item for item in _listed(value)]


class Span(BaseModel):
    """The numbers that a search draws a setting from; whole ones where both ends are whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int | float = Field(description="The least value.")
    high: int | float = Field(description="The greatest value.")
    log: bool = Field(default=False, description="Evenly over orders of magnitude, as learning rates need it.")

    @model_validator(mode="after")
    def _ordered(self) -> Span:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low must be less than high, and more than 0 with log; got {self.low} and {self.high}")
        return self

    def draw(self, where: float) -> int | float:
        """The value at a point between 0 and 1."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        low, high = (self.low, self.high + 1) if whole else (self.low, self.high)
        value = low * (high / low) ** where if self.log else low + (high - low) * where
        return min(math.floor(value), int(self.high)) if whole else self.named(value)

    def named(self, value: float) -> float:
        """A value of the span with four digits, which name it well enough, as far as they lie in the span."""
        return value if isinstance(value, int) else min(max(float(f"{value:.4g}"), self.low), self.high)


def _number(value: Any) -> Any:
    """Text that is a number, like 1e-4, which YAML takes for text, as the number."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _choices(value: Any) -> Any:
    """The values of a setting, or the ends of a span, with numbers as numbers."""
    if isinstance(value, Mapping):
        return {key: _number(item) for key, item in value.items()}
    return value if isinstance(value, Span) else [_number(item) for item in _listed(value)]


def _exclusion(value: Any) -> Any:
    return {key: _number(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _variants(value: Any) -> Any:
    """Keys and values by name; a name with nothing behind it is as configured."""
    if not isinstance(value, Mapping):
        return value
    if numbers := [name for name in value if not isinstance(name, str)]:
        raise ValueError(f"names of variants are text; write '{numbers[0]}' in quotes, or another name")
    return {name: _exclusion({} if keys is None else keys) for name, keys in value.items()}


def _kind(value: Any) -> str:
    return "span" if isinstance(value, Mapping | Span) else "values"


BRANCHES = ("span", "values")  # of the union below; they are no part of a path in the file
Names = Annotated[list[str], BeforeValidator(_listed)]
Choices = Annotated[
    Annotated[Span, Tag("span")] | Annotated[list[Any], Tag("values"), Field(min_length=1)],
    Discriminator(_kind),
    BeforeValidator(_choices),
]
Exclusion = Annotated[dict[str, Any], BeforeValidator(_exclusion)]


class Grid(BaseModel):
    """Runs over several tasks, bodies, alignments, methods, seeds and settings. An axis left out is as configured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: Annotated[list[str | dict[str, Any]], BeforeValidator(_entries)] = Field(
        min_length=1, description="Names of configurations, YAML files, or own data."
    )
    bodies: Names = Field(default=[], description="Names from `orca bodies`, or folders in Hugging Face format.")
    aligns: Names = Field(default=[], description="Objectives of the second stage; none leaves it out.")
    methods: Names = Field(default=[], description="Names from `orca methods`.")
    seeds: Annotated[list[int], BeforeValidator(_seeds)] = Field(
        default=[], description="Whole numbers, or a range like 0..4."
    )
    settings: dict[str, Choices] = Field(
        default={}, description="Other keys of a configuration, like finetune.lr, each with its values."
    )
    variants: Annotated[dict[str, dict[str, Any]], BeforeValidator(_variants)] = Field(
        default={}, description="Settings of several keys by name, each set of them tried in turn."
    )
    exclude: list[Exclusion] = Field(
        default=[], description="Runs to leave out: those that agree with all that an entry says."
    )
    search: Literal["all", "random", "optuna"] = Field(
        default="all",
        description="all: every combination of the settings; random: some drawn; optuna: drawn by what came before.",
    )
    until: Literal["finetune", "evaluate"] = Field(
        default="evaluate",
        description="The last stage of the runs; finetune leaves test sets closed and compares by validation.",
    )
    samples: int | None = Field(default=None, ge=1, le=MOST, description="How many draws a search makes.")
    seed: int | None = Field(default=None, ge=0, description="Of the draws of a search, 0 if unset.")
    prune: bool = Field(default=True, description="Whether a search by Optuna stops trials that lag behind.")

    @property
    def tested(self) -> bool:
        """Whether the runs open their test sets."""
        return self.until == "evaluate"

    def label(self, entry: str | Mapping[str, Any]) -> str:
        """The name of a task's entry in tables and in ``exclude``."""
        if isinstance(entry, Mapping):
            return str(entry.get("name"))
        return Path(entry).stem if entry.endswith((".yaml", ".yml")) else entry


def load_grid(path: Path) -> Grid:
    """Reads and checks a GRID.yaml. Paths among tasks and bodies start at its folder, others at the current one.

    Raises:
        InputError: no such file, no YAML, or faults in it, all of them at once.
    """
    if not path.is_file():
        raise InputError(f"there is no grid {path.absolute()}; `orca sweep --help` says what one holds")
    raw = read_settings(path)

    def whole(entry: Any, *, folders: bool = False) -> Any:
        """A path made absolute; a name as it is."""
        if isinstance(entry, Mapping):
            inner = {"task": dict(entry)}
            anchor(inner, path.parent)
            return inner["task"]
        is_path = isinstance(entry, str) and ((path.parent / entry).is_dir() if folders else entry.endswith("ml"))
        return str((path.parent / Path(entry).expanduser()).resolve()) if is_path else entry

    for key, folders in (("tasks", False), ("bodies", True)):
        if key in raw:
            raw[key] = [whole(entry, folders=folders) for entry in _listed(raw[key])]
    for entry in raw["exclude"] if isinstance(raw.get("exclude"), list) else []:
        if isinstance(entry, dict) and "body" in entry:
            entry["body"] = whole(entry["body"], folders=True)
    return check_grid(raw, origin=str(path))


def check_grid(raw: Mapping[str, Any], *, origin: str = "the grid") -> Grid:
    """Checks the keys and values of a grid by themselves; its runs are checked by ``orca.sweeps.cells``.

    Raises:
        InputError: lists all faults, each with its path.
    """
    try:
        grid = Grid.model_validate(raw)
    except ValidationError as error:
        found = [
            fault | {"loc": tuple(part for part in fault["loc"] if part not in BRANCHES)} for fault in error.errors()
        ]
        raise InputError(listed(map(_text, found), origin)) from error
    if faults := _faults(grid):
        raise InputError(listed(faults, origin))
    return grid


def _text(fault: Any) -> str:
    """A fault of a grid in words; a key of a run's configuration has its place under settings."""
    said, key = fault_text(fault, Grid), str(fault["loc"][0])
    if "there is no such key; there are" in said and key.partition(".")[0] in RunConfig.model_fields:
        return f"{key}: this is a key of runs; write it as settings: {{{key}: [...]}}"
    return said


def _faults(grid: Grid) -> list[str]:
    """What does not go together in a grid."""
    labels = [grid.label(entry) for entry in grid.tasks]
    called = [("tasks", label) for label in labels] + [("bodies", Path(body).name) for body in grid.bodies]  # in tables
    faults = [f"{key}: '{name}' comes twice" for key, name in dict.fromkeys(called) if called.count((key, name)) > 1]
    faults += _search_faults(grid)
    own = {"task": "tasks", "variant": "variants", **{key: FIELDS[axis] for axis, key in AXES.items()}}
    faults += [f"settings.{key}: this is the axis {own[key]}" for key in grid.settings if key in own]
    used = {key: field for key, field in own.items() if getattr(grid, field)}
    faults += _twice("settings", grid.settings, used)
    for name, keys in grid.variants.items():
        faults += _twice(f"variants.{name}", keys, used | dict.fromkeys(grid.settings, "settings"))
    axes = {"task": labels} | {axis: getattr(grid, FIELDS[axis]) for axis in AXES} | grid.settings
    if grid.variants:
        axes["variant"] = list(grid.variants)
    for number, entry in enumerate(grid.exclude):
        for key, value in entry.items():
            values = axes.get(key)
            if values is None:
                faults.append(f"exclude.{number}.{key}: there is no such axis; there are: {', '.join(axes)}")
            elif isinstance(values, list) and value not in values:
                there = f"it has {', '.join(map(str, values))}" if values else f"it has no {FIELDS.get(key, key)}"
                faults.append(f"exclude.{number}.{key}: the grid has no {value!r}; {there}")
    return faults


def _twice(place: str, keys: Mapping[str, Any], used: Mapping[str, str]) -> list[str]:
    """Keys that are set elsewhere in the grid too, whole or in part, or beside a part of them.

    Parts of own data vary by themselves: ``task.`` of a key is no matter of the axis.
    """
    outside = [key for key in keys if not key.startswith("task.")]
    found = {key: where for key in outside for other, where in used.items() if overlap(key, other)}
    found |= {key: place for key in keys for other in keys if key != other and overlap(key, other)}
    return [f"{place}.{key}: {where} sets it already" for key, where in found.items()]


def overlap(key: str, other: str) -> bool:
    """Whether one of two dotted keys is the other, or a part of it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _search_faults(grid: Grid) -> list[str]:
    """What does not go together with the way of searching."""
    if grid.search in SEARCHES:
        lacking = [key for key, given in (("samples", grid.samples), ("settings", grid.settings)) if not given]
        faults = [f"{key}: {SEARCHES[grid.search]} needs it" for key in lacking]
    else:
        spans = [key for key, values in grid.settings.items() if isinstance(values, Span)]
        faults = [f"settings.{key}: low and high need `search: random` or `optuna`, and samples" for key in spans]
        if grid.samples is not None or grid.seed is not None:
            faults.append(
                "samples, seed: these belong to `search: random` or `optuna`; the seeds of the runs are `seeds`"
            )
    if grid.search != "optuna":
        return faults if grid.prune else [*faults, "prune: this belongs to `search: optuna`"]
    if grid.variants:
        faults.append("variants: Optuna tries settings alone; leave these out, or make each a task of its own")
    measures = [key for key in grid.settings if key.startswith(MEASURES)]
    faults += [f"settings.{key}: trials that are measured differently cannot be compared" for key in measures]
    drawn = [(number, key) for number, entry in enumerate(grid.exclude) for key in entry if key in grid.settings]
    faults += [f"exclude.{number}.{key}: Optuna draws it; leave values out of settings.{key}" for number, key in drawn]
    return faults
