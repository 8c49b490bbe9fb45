"""The flow of one run: embed, align, finetune, evaluate, report, each a Prefect task around a stage of the core.

The store decides whether a stage must run; Prefect orders, names, retries and shows. Between tasks go small references.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    get_current_settings,
    temporary_settings,
)

from flows.server import TemporaryServer
from orca import run
from orca.config import RunConfig
from orca.plan import Plan, plan
from orca.run import Progress, RunResult, silent
from orca.store import StageRef, Store, default_root
from orca.train import TrainingError
from orca.types import InputError

# Who watches the stages in this process. No parameter of the flow: those are JSON, for the forms of the Prefect UI.
_watcher: ContextVar[Progress] = ContextVar("watcher", default=silent)


def _worth_retrying(task: Any, task_run: Any, state: Any) -> bool:
    """Bad input and diverged training fail the same way again; anything else may have been bad luck."""
    fault = state.result(raise_on_failure=False)
    worth = not isinstance(fault, InputError | TrainingError)
    if worth:
        _watcher.get()({"stage": task.name, "retry": f"{type(fault).__name__}: {fault}"})
    return worth


def stage(function: Callable[..., Any]) -> Any:
    """A stage of the core as a Prefect task: named, watched, retried, nothing of it stored by Prefect."""
    name = function.__name__.removesuffix("_task")

    @functools.wraps(function)
    def watched(*given: Any, **named: Any) -> Any:
        tell, begun = _watcher.get(), time.perf_counter()
        tell({"stage": name})
        made = function(*given, **named)
        tell({"stage": name, "done": time.perf_counter() - begun, "cached": getattr(made, "cached", False)})
        return made

    return task(
        name=name, task_run_name=name, retries=1, retry_delay_seconds=2, retry_condition_fn=_worth_retrying,
        cache_policy=NO_CACHE, persist_result=False,
    )(watched)  # fmt: skip


@stage
def embed_task(made: Plan, store: Store) -> StageRef:
    """Stage 1."""
    return run.embed(made, store, progress=_watcher.get())


@stage
def align_task(made: Plan, store: Store, embedded: StageRef) -> StageRef:
    """Stage 2."""
    return run.align(made, store, embedded, progress=_watcher.get())


@stage
def finetune_task(made: Plan, store: Store, embedded: StageRef, aligned: StageRef) -> StageRef:
    """Stage 3."""
    return run.finetune(made, store, embedded, aligned, progress=_watcher.get())


@stage
def evaluate_task(made: Plan, store: Store, tuned: StageRef) -> StageRef:
    """Opens the test set."""
    return run.evaluate(made, store, tuned, progress=_watcher.get())


@stage
def report_task(made: Plan, store: Store, stages: list[StageRef], flow_run: str | None) -> RunResult:
    """Gathers the run's folder and its report."""
    return run.finish(made, store, stages, flow_run=flow_run)


def _labels(config: RunConfig) -> list[str]:
    """What tells runs apart. Also the tags, one set for all stages: Prefect asks the server anew for each set."""
    return [config.task_name, Path(config.body.name).name, config.finetune.method, f"s{config.seed}"]


def _flow_run_name() -> str:
    return "-".join(_labels(RunConfig.model_validate(flow_run.parameters["config"])))


@flow(name="adapt", flow_run_name=_flow_run_name, persist_result=False)
def adapt_flow(
    config: RunConfig,
    store: str | None = None,
    online: bool = False,  # noqa: FBT001 - flow parameters are passed by name
    fresh: tuple[str, ...] = (),
) -> RunResult:
    """Adapts a pretrained language transformer to a task.

    Args:
        config: the run's configuration.
        store: folder of stages and runs; ``ORCA_STORE`` or ``./runs`` if None.
        online: whether the hub may be asked for weights.
        fresh: stages to do again, each with those that follow it.
    """
    made, place = plan(config, online=online, fresh=fresh), Store(Path(store) if store else default_root()).make()
    with tags(*_labels(config)):
        embedded = embed_task(made, place)
        aligned = align_task(made, place, embedded)
        tuned = finetune_task(made, place, embedded, aligned)
        scored = evaluate_task(made, place, tuned)
        return report_task(made, place, [embedded, aligned, tuned, scored], flow_run.id)


def _check_answers(server: str) -> None:
    """Whether the server that the user has configured is there.

    Raises:
        InputError: it is not.
    """
    with get_client(sync_client=True) as client:
        fault = client.api_healthcheck()
    if fault is not None:
        raise InputError(
            f"the Prefect server at {server} does not answer ({fault}); start it with `prefect server start`, or unset "
            "PREFECT_API_URL (`prefect config unset PREFECT_API_URL` if a profile sets it) to run without one"
        )


def _settings(temporary: TemporaryServer | None) -> dict[Any, Any]:
    """Settings of Prefect for a flow: none beside those of a server that the user has configured."""
    configured = get_current_settings().api.url
    if configured:
        _check_answers(configured)
        return {}
    # A server that ends with the command has no use for a heartbeat, for which the end of a flow waits up to a second,
    # nor for logs, which may still be on their way when it stops.
    settings: dict[Any, Any] = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
    return settings if temporary is None else {**settings, PREFECT_API_URL: temporary.wait()}


def launch(
    config: RunConfig, *, store: Path | None = None, online: bool = False, fresh: tuple[str, ...] = (),
    watcher: Progress = silent, server: TemporaryServer | None = None,
) -> RunResult:  # fmt: skip
    """Runs the flow in this process.

    Args:
        config: the run's configuration.
        store: folder of stages and runs; ``ORCA_STORE`` or ``./runs`` if None.
        online: whether the hub may be asked for weights.
        fresh: stages to do again.
        watcher: is called with facts of the work as it goes on.
        server: where the run is recorded if the user has configured no server; Prefect starts its own if None.

    Raises:
        InputError: something is wrong with configuration, data or body, or the configured server does not answer.
        TrainingError: the loss became infinite or NaN.
    """
    token = _watcher.set(watcher)
    try:
        with temporary_settings(_settings(server)), tags(*_labels(config)):
            return adapt_flow(config, None if store is None else str(store), online, fresh)
    finally:
        _watcher.reset(token)
