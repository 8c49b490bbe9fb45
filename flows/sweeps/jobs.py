"""The work of a sweep's tasks as plain functions: JSON in, JSON out, whatever process or machine they run in.

Stages hand nothing to each other but what lies in the store, where each finds those before it by their keys.
"""

from __future__ import annotations

import platform
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orca import run
from orca.config import RunConfig
from orca.errors import InputError, TrainingError
from orca.finishing import finish, read_history, validate
from orca.keys import documents
from orca.plan import STAGES, Plan, plan
from orca.runtime import read_json
from orca.store import StageRef, Store
from orca.sweeps.sharing import TAKES, TESTING
from orca.sweeps.trials import Trials, step_of


def do_stage(config: dict[str, Any], stage: str, key: str, store: str, online: bool) -> dict[str, Any]:  # noqa: FBT001 - a parameter of a task
    """Does one stage of a run, or finds it done.

    Args:
        config: the run's configuration.
        stage: embed, align, finetune, evaluate, source or baselines; what it takes must be in the store.
        key: the key under which the sweep expects it.
        store: the store's folder, the same for all who take part.
        online: whether the hub may be asked for weights.

    Returns:
        Name, key, seconds, and whether it was there already.

    Raises:
        InputError: this machine plans another stage than the one that the sweep has planned.
    """
    made, place = _prepare(config, store, online=online)
    if place.key(stage, documents(made)[stage]) != key:
        raise InputError(
            f"{platform.node()} plans this stage for {made.device} in {made.dtype or 'float32'}, the sweep otherwise: "
            "start the sweep on a machine like the workers, or set device and precision, and "
            "compare data and weights"
        )
    ref: StageRef = getattr(run, stage)(made, place, *(_found(made, place, before) for before in TAKES.get(stage, ())))
    return {"name": ref.name, "key": ref.key, "seconds": ref.seconds, "cached": ref.cached}


def do_report(
    config: dict[str, Any],
    done: dict[str, float],
    tested: bool,  # noqa: FBT001
    store: str,
    online: bool,  # noqa: FBT001
) -> dict[str, Any]:
    """Gathers the folder of a run whose stages are in the store.

    Args:
        config: the run's configuration.
        done: seconds of the stages that were not there before.
        tested: whether its test set was opened; else the folder has a record alone.
        store: the store's folder.
        online: whether the hub may be asked for weights.

    Returns:
        The record of the run.
    """
    made, place = _prepare(config, store, online=online)
    refs = [_found(made, place, stage) for stage in STAGES if tested or stage not in TESTING]
    stages = [replace(ref, cached=ref.name not in done, seconds=done.get(ref.name, ref.seconds)) for ref in refs]
    return finish(made, place, stages).record if tested else validate(made, place, stages)


def _prepare(config: dict[str, Any], store: str, *, online: bool) -> tuple[Plan, Store]:
    return plan(RunConfig.model_validate(config), online=online), Store(Path(store)).make()


def _found(made: Plan, place: Store, stage: str) -> StageRef:
    """A stage that was done before, by its key."""
    ref = place.find(stage, documents(made)[stage])
    if ref is None:
        raise FileNotFoundError(
            f"the stage {stage} is not in {place.root}; was it removed, or is this not the folder of the other workers?"
        )
    return ref


def do_trial(configs: list[dict[str, Any]], trial: dict[str, Any], store: str, online: bool) -> dict[str, Any]:  # noqa: FBT001
    """Trains the runs of a trial, seed by seed, and tells its journal of each epoch. The test set stays closed.

    Args:
        configs: of each seed.
        trial: its ``number``, the ``journal`` of its study, and whether to ``prune`` it.
        store: the store's folder.
        online: whether the hub may be asked for weights.

    Returns:
        The mean of validation over the seeds as ``value``, None of one that was pruned.

    Raises:
        TrainingError: a loss is not finite, or validation is not.
    """
    values: list[float] = []
    for config in configs:
        made, place = _prepare(config, store, online=online)
        trials = Trials(Path(trial["journal"]), higher_is_better=made.metric().higher_is_better)
        curve = _Curve(trials, trial["number"], tuple(values), prune=trial["prune"])
        try:
            embedded = run.embed(made, place)
            aligned = run.align(made, place, embedded)
            tuned = run.finetune(made, place, embedded, aligned, progress=curve.watch)
        except _Lagging:
            return {"value": None}
        for record in read_history(tuned.path):
            curve.report(record)  # of a training that others had done, or begun
        value = read_json(tuned.path / "report.json")["validation"]["value"]
        if value is None:
            raise TrainingError(f"validation by {made.metric().name} gave no number; choose another metric")
        values.append(value)
    return {"value": statistics.fmean(values)}


class _Lagging(Exception):  # noqa: N818 - no error
    """Ends the training of a trial that lags behind the others."""


@dataclass(frozen=True)
class _Curve:
    """Validation of a trial while one of its seeds trains, as the journal is told of it.

    Attributes:
        trials: the journal.
        number: the trial's.
        before: what the seeds before this one came to; each value told is a mean with these.
        prune: whether to stop a trial that lags behind.
    """

    trials: Trials
    number: int
    before: tuple[float, ...]
    prune: bool

    def report(self, facts: dict[str, Any]) -> None:
        """Takes note of an epoch."""
        if facts.get("val_metric") is not None:
            step = step_of(len(self.before), facts["epoch"])
            self.trials.report(self.number, step, statistics.fmean([*self.before, facts["val_metric"]]))

    def watch(self, facts: dict[str, Any]) -> None:
        """Takes note of an epoch that has just ended, of which the checkpoint is there."""
        self.report(facts)
        if self.prune and "val_metric" in facts and self.trials.lags(self.number):
            raise _Lagging
