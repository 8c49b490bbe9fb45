"""The stages of the core as Prefect tasks: named, watched, timed, retried where that may help, one at a time on a GPU.

The store decides whether a stage must run. One that was there already ends in the state "Cached"; Prefect keeps no
results of its own, so that there is one truth.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import httpx
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TagsContext
from prefect.states import Cancelled, Completed
from prefect.tasks import exponential_backoff
from prefect.utilities.timeout import timeout

from flows.pages.artifacts import Shown, explain, show_align, show_result
from flows.servers.connect import recorded
from flows.slots import slot
from orca import run
from orca.config import RunConfig
from orca.errors import TrainingError
from orca.finishing import RunResult, finish
from orca.plan import Plan
from orca.stages import Progress, silent
from orca.store import StageRef, Store

RETRIES = 3
STOPPED = "stopped; orca resume goes on from the last checkpoint"
# Who watches the stages in this process. No parameter of the flow: those are JSON, for the forms of the Prefect UI.
watcher: ContextVar[Progress] = ContextVar("watcher", default=silent)


def may_pass(fault: object) -> bool:
    """Whether the same work may succeed later: file systems, memory, a lost server.

    Bad input, diverged training, a time limit that is over and mistakes in the program come back the same.
    """
    import torch

    passing = OSError | MemoryError | torch.OutOfMemoryError | httpx.TransportError
    return isinstance(fault, passing) and not isinstance(fault, TimeoutError)


def _worth_retrying(task: Any, task_run: Any, state: State) -> bool:
    fault = state.result(raise_on_failure=False)
    worth = may_pass(fault)
    if worth and task_run.run_count <= RETRIES:
        watcher.get()({"stage": task.name, "retry": f"{type(fault).__name__}: {fault}"})
        _free_memory()
    return worth


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def labels(config: RunConfig) -> list[str]:
    """What tells runs apart: task, body, method, seed. Tags of the flow run; a task with tags would need the server."""
    return [config.task_name, Path(config.body.name).name, config.finetune.method, f"s{config.seed}"]


def stage(show: Callable[[Any, list[str]], None] | None = None) -> Callable[[Callable[..., Any]], Any]:
    """A stage of the core as a Prefect task; the function takes the plan and what the stage needs.

    Args:
        show: puts what the stage has made into Prefect's pages, by it and the run's labels.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        name = function.__name__.removesuffix("_task")

        @functools.wraps(function)
        def watched(made: Plan, *given: Any) -> Any:
            begun, named = time.perf_counter(), labels(made.config)
            with _watched(name, named) as tell:
                tell({"stage": name})
                with slot(made, name) if recorded.get() else contextlib.nullcontext(), _limited(made, name):
                    found = function(made, *given)
                cached = getattr(found, "cached", False)
                if show is not None and recorded.get() and not cached:
                    show(found, named)
                tell({"stage": name, "done": time.perf_counter() - begun, "cached": cached})
            return Completed(name="Cached", message="in the store already", data=found) if cached else found

        @functools.wraps(function)
        def stopping(*given: Any) -> Any:
            try:
                return watched(*given)
            except KeyboardInterrupt:
                return Cancelled(message=STOPPED)

        return task(
            name=name, task_run_name=name, retries=RETRIES, retry_delay_seconds=exponential_backoff(2),
            retry_jitter_factor=0.3, retry_condition_fn=_worth_retrying, cache_policy=NO_CACHE, persist_result=False,
        )(stopping)  # fmt: skip

    return decorate


class _Overtime(TimeoutError):
    pass


@contextlib.contextmanager
def _limited(made: Plan, name: str) -> Iterator[None]:
    """Ends what takes longer than the stage's limit. The wait for its slot is over: a queue is no fault of a stage."""
    minutes = getattr(made.config.limits, name, None)
    try:
        with timeout(None if minutes is None else minutes * 60, _Overtime):
            yield
    except _Overtime as late:
        raise _Overtime(
            f"{name} took longer than limits.{name}, {minutes:g} min; raise it, and the run goes on from the last "
            "checkpoint"
        ) from late


@contextlib.contextmanager
def _watched(name: str, named: list[str]) -> Iterator[Progress]:
    """Who is told of a stage's facts within the block: whoever watches the process, and Prefect's pages."""
    outer = watcher.get()
    with contextlib.ExitStack() as held:
        shown = held.enter_context(Shown(name, named)) if recorded.get() and name != "report" else silent

        def tell(facts: dict[str, Any]) -> None:
            outer(facts)
            shown(facts)

        token = watcher.set(tell)
        try:
            yield tell
        except Exception as fault:
            get_run_logger().error("%s", explain(fault))
            raise
        finally:
            watcher.reset(token)


def run_stage(staged: Any, made: Plan, *given: Any) -> Any:
    """Runs a stage's task.

    Raises:
        KeyboardInterrupt: it was cancelled.
        TrainingError: it took longer than its limit.
        Exception: what the stage raises.
    """
    try:
        with TagsContext(current_tags=set()):
            found = staged(made, *given)
    except _Overtime as late:
        raise TrainingError(str(late)) from late
    if not isinstance(found, State):
        return found
    if found.is_cancelled():
        raise KeyboardInterrupt
    return found.result()


@stage()
def embed_task(made: Plan, store: Store) -> StageRef:
    """Stage 1."""
    return run.embed(made, store, progress=watcher.get())


@stage(lambda ref, named: show_align(ref.path, named))
def align_task(made: Plan, store: Store, embedded: StageRef) -> StageRef:
    """Stage 2."""
    return run.align(made, store, embedded, progress=watcher.get())


@stage()
def finetune_task(made: Plan, store: Store, embedded: StageRef, aligned: StageRef) -> StageRef:
    """Stage 3."""
    return run.finetune(made, store, embedded, aligned, progress=watcher.get())


@stage()
def evaluate_task(made: Plan, store: Store, embedded: StageRef, aligned: StageRef, tuned: StageRef) -> StageRef:
    """Opens the test set."""
    return run.evaluate(made, store, aligned, tuned, progress=watcher.get())


@stage(lambda result, named: show_result(result.path, result.record, named))
def report_task(made: Plan, store: Store, stages: list[StageRef], flow_run: str | None) -> RunResult:
    """Gathers the run's folder and its report."""
    return finish(made, store, stages, flow_run=flow_run)


TASKS = {"embed": embed_task, "align": align_task, "finetune": finetune_task, "evaluate": evaluate_task}
