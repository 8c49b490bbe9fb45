"""The flow of one run, and one for each stage alone: the work of the core, ordered, named and shown by Prefect."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import httpx
from prefect import flow, tags
from prefect.exceptions import CancelledRun
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows.servers.connect import recording
from flows.servers.temporary import TemporaryServer
from flows.stages import STOPPED, TASKS, labels, report_task, run_stage, watcher
from flows.stopping import stoppable
from orca.config import RunConfig
from orca.finishing import RunResult
from orca.plan import Plan, plan
from orca.runs import mark_flow_run, track
from orca.stages import Progress, silent
from orca.store import StageRef, Store, default_root

log = logging.getLogger(__name__)
# What flows of this process have returned, for a server that is away when they end.
_made: ContextVar[list[RunResult | StageRef] | None] = ContextVar("made", default=None)


def _flow_run_name() -> str:
    return "-".join(labels(RunConfig.model_validate(flow_run.parameters["config"])))


def _store(path: str | None) -> Store:
    return Store(Path(path) if path else default_root())


def _mark(flow: Any, flow_run: Any, state: Any) -> None:
    """Tells the run's folder how the flow run ended. Where its process was killed, Prefect's runner calls this."""
    mark_flow_run(_store(flow_run.parameters.get("store")), str(flow_run.id), state.type.value.lower(), state.message)


OPTIONS: dict[str, Any] = {
    "flow_run_name": _flow_run_name, "persist_result": False,
    "on_failure": [_mark], "on_crashed": [_mark], "on_cancellation": [_mark],
}  # fmt: skip


@flow(name="adapt", **OPTIONS)
def adapt_flow(
    config: RunConfig,
    store: str | None = None,
    online: bool = False,  # noqa: FBT001 - flow parameters are passed by name
    fresh: tuple[str, ...] = (),
) -> RunResult:
    """Adapts a pretrained language transformer to a task.

    Args:
        config: The run's configuration.
        store: Folder of stages and runs; unset takes the environment's ORCA_STORE, or ./runs.
        online: Whether the model hub may be asked for weights.
        fresh: Stages to do again, each with those that follow it: embed, align, finetune, evaluate, or all.
    """
    made, place = plan(config, online=online, fresh=fresh), _store(store).make()
    try:
        with track(made, place, flow_run=flow_run.id), stoppable():
            stages = _stages(made, place, list(TASKS))
            return _kept(run_stage(report_task, made, place, stages, flow_run.id))
    except KeyboardInterrupt:
        return Cancelled(message=STOPPED)  # pyright: ignore[reportReturnType]


def _kept(result: Any) -> Any:
    if (made := _made.get()) is not None:
        made.append(result)
    return result


def _stages(made: Plan, place: Store, names: list[str]) -> list[StageRef]:
    """Runs the stages of these names, the first ones of all, one after the other."""
    done: list[StageRef] = []
    for name in names:
        done.append(run_stage(TASKS[name], made, place, *done))
    return done


def _flow_to(last: str) -> Any:
    """A flow that ends with this stage; those before it come from the store, or are done first."""
    names = list(TASKS)[: list(TASKS).index(last) + 1]

    def up_to(
        config: RunConfig,
        store: str | None = None,
        online: bool = False,  # noqa: FBT001
        fresh: tuple[str, ...] = (),
    ) -> StageRef:
        made, place = plan(config, online=online, fresh=fresh), _store(store).make()
        try:
            with stoppable():
                return _kept(_stages(made, place, names)[-1])
        except KeyboardInterrupt:
            return Cancelled(message=STOPPED)  # pyright: ignore[reportReturnType]

    up_to.__name__ = up_to.__qualname__ = f"{last}_flow"  # by which a deployment finds it in this module
    up_to.__doc__ = f"Runs the stages of a run up to {last}. Arguments as of the flow adapt."
    return flow(name=last, **OPTIONS)(up_to)


embed_flow, align_flow, finetune_flow, evaluate_flow = map(_flow_to, TASKS)
FLOWS = {"embed": embed_flow, "align": align_flow, "finetune": finetune_flow, "evaluate": evaluate_flow}


def launch(
    config: RunConfig, *, store: Path | None = None, online: bool = False, fresh: tuple[str, ...] = (),
    until: str | None = None, more: tuple[str, ...] = (), watched_by: Progress = silent,
    server: TemporaryServer | None = None,
) -> RunResult | StageRef:  # fmt: skip
    """Runs the flow in this process.

    Args:
        config: the run's configuration.
        store: folder of stages and runs; ``ORCA_STORE`` or ``./runs`` if None.
        online: whether the hub may be asked for weights.
        fresh: stages to do again.
        until: the last stage to run; None for all, and the report.
        more: tags of the flow run beside those that tell runs apart.
        watched_by: is called with facts of the work as it goes on.
        server: where the run is recorded if the user has configured no server; Prefect starts its own if None.

    Returns:
        The finished run, or the stage ``until``.

    Raises:
        InputError: something is wrong with configuration, data or body, or the configured server does not answer.
        TrainingError: the loss became infinite or NaN.
        KeyboardInterrupt: it was stopped, from here or by a cancellation at the server.
    """
    made: list[RunResult | StageRef] = []
    tokens = watcher.set(watched_by), _made.set(made)
    chosen = adapt_flow if until is None else FLOWS[until]
    try:
        with recording(server), tags(*labels(config), *more):
            return chosen(config, None if store is None else str(store), online, fresh)
    except CancelledRun:
        raise KeyboardInterrupt from None
    except httpx.TransportError as fault:
        if not made:
            raise
        log.warning("the Prefect server went away (%s); it will count this run as crashed, but it is done", fault)
        return made[0]
    finally:
        watcher.reset(tokens[0])
        _made.reset(tokens[1])
