"""The flow of a sweep: one task for each stage execution that its runs share, one for the report of each run.

A task is handed over when those before it are done and a worker is free. The store says what is to be done, so a sweep
that was stopped, or in which a run failed, does only what is missing when it is started again. A search by Optuna comes
before the tasks of those runs that it has chosen.
"""

from __future__ import annotations

import logging
from collections import deque
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from flows.servers.connect import recording
from flows.servers.temporary import TemporaryServer
from flows.stopping import stoppable
from flows.sweeps import jobs
from flows.sweeps.pool import Job, Pool
from flows.sweeps.runners import Kind, call, gpus, started
from flows.sweeps.search import search
from flows.sweeps.search_table import SearchTable, plan_table
from flows.sweeps.table import SweepTable, planned, planning
from orca.config import RunConfig
from orca.store import Store, default_root
from orca.sweeps.grid import Grid
from orca.sweeps.sharing import label

log = logging.getLogger(__name__)


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
    tested: bool,  # noqa: FBT001
    store: str,
    online: bool,  # noqa: FBT001
) -> dict[str, Any]:
    """The folder of one run."""
    return call(jobs.do_report, config, done, tested, store, online)


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
    try:
        with table.open(flow_run.id), stoppable():
            searching = isinstance(table, SearchTable)
            if searching or table.sharing.graph():  # else no cluster need be started
                with started(runner, workers, address) as pool:
                    if searching:
                        search(table, pool, common)
                    _work(table, pool, common)
    except KeyboardInterrupt:
        return Cancelled(message="stopped; the same sweep again does what is missing")
    return (Failed if table.count("failed") else Completed)(message=table.outcome())


compare_flow = sweep_flow.with_options(name="compare")


def _work(table: SweepTable, pool: Pool, common: dict[str, Any]) -> None:
    """Does what there is to do, each when what it needs is done. What has become possible comes before what has been.

    So a run comes to its end before the next one begins, and each worker stays with a task's data.
    """
    graph = table.sharing.graph()
    order: TopologicalSorter[str] = TopologicalSorter(graph)
    order.prepare()
    ready = deque(order.get_ready())
    states: dict[str, State[Any]] = {}

    def settle(node: str, outcome: dict[str, Any] | str) -> None:
        table.end(node, outcome)
        order.done(node)
        ready.extendleft(reversed(order.get_ready()))

    def fill() -> None:
        while ready and pool.has_room():
            node = ready.popleft()
            if fault := table.fault_before(graph[node]):
                settle(node, fault)
                continue
            work, config, own = _task(table, node)
            parameters = {**own, "config": config.model_dump(mode="json"), **common}
            before = [states[name] for name in graph[node]]
            pool.submit(Job(node, work, parameters, after=before, gpus=gpus(config)))

    fill()
    while ended := pool.next():
        states[ended.name] = ended.state
        settle(ended.name, f"{table.title(ended.name)}: {ended.reason}" if ended.fault else ended.value)
        fill()


def _task(table: SweepTable, node: str) -> tuple[Any, RunConfig, dict[str, Any]]:
    """The task of a node, the configuration it is for, and its own parameters."""
    if job := table.sharing.jobs.get(node):
        return stage_task, job.config, {"label": job.label, "stage": job.stage, "key": job.key}
    member = table.member(node)
    made = [table.results[name] for name in member.jobs if name in table.results]
    done = {result["name"]: result["seconds"] for result in made if not result["cached"]}
    own = {"label": f"report-{label(member.cell)}", "done": done, "tested": member.tested}
    return report_task, member.cell.config, own


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
        KeyboardInterrupt: it was stopped, from here or by a cancellation at the server.
    """
    used = compare_flow if table.kind == "compare" else sweep_flow
    try:
        with planning(table), recording(server):
            state = used(grid, table.name, str(table.store.root), online, runner, workers, address, return_state=True)
    except httpx.TransportError as fault:
        if not table.ended:
            raise
        log.warning(
            "the Prefect server went away (%s); it will count this %s as crashed, but it has ended", fault, table.kind
        )
        return
    if state.is_cancelled():
        raise KeyboardInterrupt
    if not table.ended:  # by a fault of the flow itself
        state.result()
