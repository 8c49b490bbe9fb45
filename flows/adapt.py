"""The flow of one run: embed, align, finetune, evaluate, report, each a Prefect task around a stage of the core.

The store decides whether a stage must run; Prefect orders, names, retries and shows. Between tasks go small references.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from orca import run
from orca.config import RunConfig
from orca.plan import Plan, plan
from orca.run import Progress, RunResult, silent
from orca.store import StageRef, Store, default_root
from orca.train import TrainingError
from orca.types import InputError


def _worth_retrying(task: Any, task_run: Any, state: Any) -> bool:
    """Bad input and diverged training fail the same way again; anything else may have been bad luck."""
    fault = state.result(raise_on_failure=False)
    return not isinstance(fault, InputError | TrainingError)


def stage(function: Callable[..., Any]) -> Any:
    """A stage of the core as a Prefect task: named, retried, nothing of it stored by Prefect."""
    name = function.__name__.removesuffix("_task")
    return task(
        name=name, task_run_name=name, tags=["orca", name], retries=1, retry_delay_seconds=2,
        retry_condition_fn=_worth_retrying, cache_policy=NO_CACHE, persist_result=False,
    )(function)  # fmt: skip


@stage
def embed_task(made: Plan, store: Store, progress: Progress) -> StageRef:
    """Stage 1."""
    return run.embed(made, store, progress=progress)


@stage
def align_task(made: Plan, store: Store, embedded: StageRef, progress: Progress) -> StageRef:
    """Stage 2."""
    return run.align(made, store, embedded, progress=progress)


@stage
def finetune_task(made: Plan, store: Store, embedded: StageRef, aligned: StageRef, progress: Progress) -> StageRef:
    """Stage 3."""
    return run.finetune(made, store, embedded, aligned, progress=progress)


@stage
def evaluate_task(made: Plan, store: Store, tuned: StageRef, progress: Progress) -> StageRef:
    """Opens the test set."""
    return run.evaluate(made, store, tuned, progress=progress)


@stage
def report_task(made: Plan, store: Store, stages: list[StageRef], flow_run: str | None) -> RunResult:
    """Gathers the run's folder and its report."""
    return run.finish(made, store, stages, flow_run=flow_run)


def _flow_run_name() -> str:
    given = flow_run.parameters
    config: RunConfig = given["config"]
    return f"{config.task_name}-{config.body.name.split('/')[-1]}-{config.finetune.method}-s{config.seed}"


@flow(name="adapt", flow_run_name=_flow_run_name, validate_parameters=False, persist_result=False)
def adapt_flow(
    config: RunConfig,
    store: str | None = None,
    online: bool = False,  # noqa: FBT001 - flow parameters are passed by name
    fresh: tuple[str, ...] = (),
    progress: Progress = silent,
) -> RunResult:
    """Adapts a pretrained language transformer to a task.

    Args:
        config: the run's configuration.
        store: folder of stages and runs; ``ORCA_STORE`` or ``./runs`` if None.
        online: whether the hub may be asked for weights.
        fresh: stages to do again.
        progress: is called with facts of the work as it goes on.
    """
    made, place = plan(config, online=online, fresh=fresh), Store(Path(store) if store else default_root())
    with tags(config.task_name, config.body.name, config.finetune.method, f"seed-{config.seed}"):
        embedded = embed_task(made, place, progress)
        aligned = align_task(made, place, embedded, progress)
        tuned = finetune_task(made, place, embedded, aligned, progress)
        scored = evaluate_task(made, place, tuned, progress)
        return report_task(made, place, [embedded, aligned, tuned, scored], flow_run.id)
