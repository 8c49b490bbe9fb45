"""The flow of a sweep: one task for each stage execution that its runs share, one for the report of each run.

A task is submitted when those before it are done. The store says what is to be done, so a sweep that was stopped, or in
which a run failed, does only what is missing when it is started again. A search by Optuna comes before the tasks of
those runs that it has chosen.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter, deque
from graphlib import TopologicalSorter
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.settings import temporary_settings
from prefect.states import Completed, Crashed, Failed

from flows.adapt import server_settings
from flows.servers.temporary import TemporaryServer
from flows.sweeps import jobs
from flows.sweeps.processes import cores
from flows.sweeps.runners import Kind, Pool, call, gpus, started, worker_died
from flows.sweeps.search import search
from flows.sweeps.search_table import SearchTable, plan_table
from flows.sweeps.table import SweepTable, planned, planning
from orca.config import RunConfig
from orca.store import Store, default_root
from orca.sweeps.grid import Grid
from orca.sweeps.sharing import label
from orca.train import TrainingError
from orca.types import InputError

TRIES = 3  # of a job whose worker dies; it goes on from its last checkpoint


@task(name="stage", task_run_name="{label}", cache_policy=NO_CACHE, persist_result=False)
def stage_task(
    label: str,
    config: dict[str, Any],
    stage: str,
    key: str,
    store: str,
    online: bool,  # noqa: FBT001
) -> dict[str, Any]:
    """One stage execution."""
    return call(jobs.do_stage, config, stage, key, store, online)


@task(name="report", task_run_name="{label}", cache_policy=NO_CACHE, persist_result=False)
def report_task(
    label: str,
    config: dict[str, Any],
    done: dict[str, float],
    store: str,
    online: bool,  # noqa: FBT001
) -> dict[str, Any]:
    """The folder of one run."""
    return call(jobs.do_report, config, done, store, online)


@flow(name="sweep", flow_run_name="{name}", persist_result=False)
def sweep_flow(  # noqa: PLR0913 - each argument is a field of the form for a custom run
    grid: Grid,
    name: str = "sweep",
    store: str | None = None,
    online: bool = False,  # noqa: FBT001 - flow parameters are passed by name
    runner: Kind = "local",
    workers: int | None = None,
    address: str | None = None,
) -> State[Any]:
    """Runs a grid of configurations; a stage that several of them need runs once.

    Args:
        grid: tasks, bodies, alignments, methods, seeds and settings.
        name: the sweep's name in the store.
        store: folder of stages and runs; ``ORCA_STORE`` or ``./runs`` if None.
        online: whether the hub may be asked for weights.
        runner: where the jobs run: processes of this machine, a Dask or a Ray cluster.
        workers: how many jobs run at once; as many as there are cores if None.
        address: of a running cluster; one of this machine is started for the sweep if None.
    """
    place = Store(Path(store) if store else default_root()).make()
    table = planned() or plan_table(grid, place, name, online=online)
    common = {"store": str(place.root.absolute()), "online": online}
    with table.open(flow_run.id):
        searching = isinstance(table, SearchTable)
        if searching or table.sharing.graph():  # else no cluster need be started
            with started(runner, workers, address) as pool:
                if searching:
                    room = pool.room()
                    search(table, pool, common, at_once=workers or (cores() if math.isinf(room) else int(room)))
                _work(table, pool, common)
    return (Failed if table.count("failed") else Completed)(message=table.outcome())


compare_flow = sweep_flow.with_options(name="compare")


def _work(table: SweepTable, pool: Pool, common: dict[str, Any]) -> None:
    """Submits each task when what it needs is done and there is room, until none is left."""
    graph = table.sharing.graph()
    order: TopologicalSorter[str] = TopologicalSorter(graph)
    order.prepare()
    ready: deque[str] = deque()
    futures: dict[str, PrefectFuture[Any]] = {}
    states: dict[str, State[Any]] = {}
    deaths: Counter[str] = Counter()
    lost: list[UUID] = []
    ended: SimpleQueue[str] = SimpleQueue()
    while order.is_active():
        ready.extend(order.get_ready())
        while ready and len(futures) < pool.room():
            node = ready.popleft()
            if fault := table.fault_before(graph[node]):
                table.end(node, fault)
                order.done(node)
                continue
            work, config, own = _task(table, node)
            parameters = {**own, "config": config.model_dump(mode="json"), **common}
            before = [states[name] for name in graph[node]]
            futures[node] = pool.submit(work, parameters, after=before, gpus=gpus(config))
            futures[node].add_done_callback(lambda _, node=node: ended.put(node))
        if not futures:
            continue
        node = ended.get()
        future = futures.pop(node)  # what nobody holds any more, Dask does not do again when it loses it
        outcome = _outcome(future, table.title(node))
        if outcome is None:
            deaths[node] += 1
            lost.append(future.task_run_id)
            _record_crashes(lost)
            if deaths[node] < TRIES:
                ready.append(node)
                continue
            outcome = f"{table.title(node)}: {TRIES} workers died at it, one after the other; was there enough memory?"
        table.end(node, outcome)
        states[node] = future.state
        order.done(node)
    _record_crashes(lost)


def _task(table: SweepTable, node: str) -> tuple[Any, RunConfig, dict[str, Any]]:
    """The task of a node, the configuration it is for, and its own parameters."""
    if job := table.sharing.jobs.get(node):
        return stage_task, job.config, {"label": job.label, "stage": job.stage, "key": job.key}
    member = table.member(node)
    made = [table.results[name] for name in member.jobs if name in table.results]
    done = {result["name"]: result["seconds"] for result in made if not result["cached"]}
    return report_task, member.cell.config, {"label": f"report-{label(member.cell)}", "done": done}


def _outcome(future: PrefectFuture[Any], title: str) -> dict[str, Any] | str | None:
    """What a task returned, or why it failed; None where its worker died."""
    future.wait()
    try:
        return future.result()
    except (InputError, TrainingError) as fault:
        return f"{title}: {fault}"
    except Exception as fault:  # noqa: BLE001 - whatever ends one task, faults of clusters too, the others go on
        return None if worker_died(fault) else f"{title}: {type(fault).__name__}: {fault}"


def _record_crashes(lost: list[UUID]) -> None:
    """Tells the server of tasks whose workers can tell it no more; those it does not know yet stay in the list."""
    with get_client(sync_client=True) as client:
        for task_run in list(lost):
            with contextlib.suppress(httpx.HTTPError):
                client.set_task_run_state(task_run, Crashed(message="its worker died"), force=True)
                lost.remove(task_run)


def launch(
    table: SweepTable, grid: Grid, *, online: bool = False, runner: str = "local", workers: int | None = None,
    address: str | None = None, server: TemporaryServer | None = None,
) -> None:  # fmt: skip
    """Runs the flow of a sweep, or of a comparison, in this process; the table tells what came of it.

    Args:
        table: the planned runs, which the flow fills.
        grid: what they were planned from.
        online: whether the hub may be asked for weights.
        runner: local, dask or ray.
        workers: how many jobs run at once, as many as there are cores if None.
        address: of a running cluster.
        server: where the flow is recorded if the user has configured no server.

    Raises:
        InputError: the sweep is at work elsewhere, or the Prefect server cannot be reached.
    """
    used = compare_flow if table.kind == "compare" else sweep_flow
    with planning(table), temporary_settings(server_settings(server)):
        state = used(grid, table.name, str(table.store.root), online, runner, workers, address, return_state=True)
    if not table.ended:  # by a fault of the flow itself
        state.result()
