"""The work of a sweep's tasks as plain functions: JSON in, JSON out, whatever process or machine they run in.

Stages hand nothing to each other but what lies in the store, where each finds those before it by their keys.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from orca import run
from orca.config import RunConfig
from orca.keys import documents
from orca.plan import STAGES, Plan, plan
from orca.store import StageRef, Store
from orca.sweeps.sharing import TAKES
from orca.types import InputError


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


def do_report(config: dict[str, Any], done: dict[str, float], store: str, online: bool) -> dict[str, Any]:  # noqa: FBT001
    """Gathers the folder of a run whose stages are in the store.

    Args:
        config: the run's configuration.
        done: seconds of the stages that were not there before.
        store: the store's folder.
        online: whether the hub may be asked for weights.

    Returns:
        The record of the run.
    """
    made, place = _prepare(config, store, online=online)
    refs = [_found(made, place, stage) for stage in STAGES]
    stages = [
        StageRef(ref.name, ref.key, ref.path, ref.name not in done, done.get(ref.name, ref.seconds)) for ref in refs
    ]
    return run.finish(made, place, stages).record


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
