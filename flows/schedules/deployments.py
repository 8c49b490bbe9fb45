"""Schedules: deployments of the flows on the work pool ``orca``, as a Prefect server keeps them.

A schedule NAME is the deployment ``adapt/NAME``; one that follows a folder of data has ``watch/NAME`` beside it, which
is due every so often and starts the other.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import filters
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from flows.schedules import timing
from flows.schedules.watch import forget, watch_flow
from orca.config import RunConfig
from orca.errors import InputError

POOL = "orca"
OVERLAPS = {"wait": ConcurrencyLimitStrategy.ENQUEUE, "skip": ConcurrencyLimitStrategy.CANCEL_NEW, "parallel": None}
FLOWS = ("adapt", "watch")
PATHS = ("ORCA_DATA", "ORCA_STORE", "ORCA_CACHE", "HF_HOME", "PYTHONPATH")  # a run starts in another process
PAGE = 200  # deployments that the server gives at once


@dataclass(frozen=True)
class Wanted:
    """A schedule to be made.

    Attributes:
        name: of letters, digits, dot, dash and underscore.
        config: of the runs.
        store: folder of stages and runs, absolute.
        online: whether the hub may be asked for weights.
        overlap: what becomes of a time when the run before has not ended: ``wait``, ``skip`` or ``parallel``.
        when: its times; with a folder, those of the looks at it.
        folder: of data whose changes start runs, absolute; None for a schedule by time.
    """

    name: str
    config: RunConfig
    store: Path
    online: bool
    overlap: str
    when: timing.Schedule
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise InputError(f"a schedule's name must be letters, digits, dot, dash and underscore; got '{self.name}'")
        if self.overlap not in OVERLAPS:
            raise InputError(f"--overlap is wait, skip or parallel; got '{self.overlap}'")
        if self.folder is not None and self.overlap == "skip":
            raise InputError("--overlap skip would lose a change of the data; with --on-change it is wait or parallel")
        if self.folder is not None and not self.folder.is_dir():
            raise InputError(f"there is no folder {self.folder} to watch; make it first, or name another")
        if self.folder is not None and self.store.resolve().is_relative_to(self.folder.resolve()):
            raise InputError(
                f"the store {self.store} lies in {self.folder}, so that what a run writes would be a change: watch a "
                "folder of data alone, or name another place with --store"
            )


def make(client: SyncPrefectClient, wanted: Wanted) -> bool:
    """Makes a schedule, or changes the one of that name; true if it was there. Such a one is no longer paused."""
    from flows.adapt import adapt_flow
    from flows.stages import labels as labels_of

    ensure_pool(client)
    labels = labels_of(wanted.config)
    there = _named(client, wanted.name)
    parameters = {
        "config": wanted.config.model_dump(mode="json"), "store": str(wanted.store), "online": wanted.online,
        "fresh": [],
    }  # fmt: skip
    times = [] if wanted.folder else [wanted.when]
    about = "Started when data changes" if wanted.folder else f"Due {timing.in_words(wanted.when)}"
    made: Flow[Any, Any] = adapt_flow
    _deploy(client, made, wanted.name, parameters, times, wanted.overlap, labels, f"{about}: {' '.join(labels)}.")
    if wanted.folder is not None:
        looks = {"name": wanted.name, "folder": str(wanted.folder), "store": str(wanted.store)}
        about = f"Looks at {wanted.folder} and starts adapt/{wanted.name} when its content is new."
        _deploy(client, watch_flow, wanted.name, looks, [wanted.when], "parallel", labels, about)
    elif "watch" in there:
        _delete(client, there["watch"])
    return "adapt" in there


def _deploy(  # noqa: PLR0913 - the parts of a deployment
    client: SyncPrefectClient, flow: Flow[Any, Any], name: str, parameters: Mapping[str, Any],
    times: list[timing.Schedule], overlap: str, tags: list[str], about: str,
) -> None:  # fmt: skip
    strategy = OVERLAPS[overlap]
    here = str(Path.cwd())
    client.create_deployment(
        flow_id=client.create_flow_from_name(flow.name), name=name, work_pool_name=POOL,
        entrypoint=f"{flow.fn.__module__}.{flow.fn.__name__}", parameters=dict(parameters),
        parameter_openapi_schema=flow.parameters.model_dump(exclude_unset=True), enforce_parameter_schema=True,
        schedules=[DeploymentScheduleCreate(schedule=when, active=True) for when in times], paused=False,
        concurrency_limit=None if strategy is None else 1,
        concurrency_options=None if strategy is None else ConcurrencyOptions(collision_strategy=strategy),
        tags=tags, description=about, job_variables={"env": environment(), "working_dir": here},
        # Without a step that says where the code is, Prefect copies the working directory onto itself.
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": here}}],
    )  # fmt: skip


def environment() -> dict[str, str]:
    """The variables that decide what a run finds, paths made absolute."""
    found = {name: os.environ[name] for name in (*PATHS, "ORCA_MIRROR", "HF_HUB_OFFLINE") if os.environ.get(name)}
    for name in PATHS:
        if name in found:
            parts = [part for part in found[name].split(os.pathsep) if part]
            found[name] = os.pathsep.join(str(Path(part).expanduser().absolute()) for part in parts)
    return found


def ensure_pool(client: SyncPrefectClient) -> None:
    """Makes the work pool, unless it is there.

    Raises:
        InputError: a pool of that name runs no processes.
    """
    try:
        pool = client.read_work_pool(POOL)
    except ObjectNotFound:
        from prefect.workers.process import ProcessWorker

        template = ProcessWorker.get_default_base_job_template()
        about = "Runs of Orca, each a process beside `orca serve`."
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", description=about, base_job_template=template)
        )
        return
    if pool.type != "process":
        raise InputError(f"the server has a work pool '{POOL}' of type {pool.type}, not process; remove or rename it")


def listing(client: SyncPrefectClient) -> list[dict[str, Any]]:
    """What `orca schedules` shows of each schedule, sorted by name."""
    watching = {each.name: each for each in _deployments(client, "watch")}
    found = [_entry(client, each, watching.get(each.name)) for each in _deployments(client, "adapt")]
    return sorted(found, key=lambda entry: entry["name"])


def entry(client: SyncPrefectClient, name: str) -> dict[str, Any]:
    """What `orca schedules` shows of the schedule of that name."""
    there = _known(client, name)
    return _entry(client, there["adapt"], there.get("watch"))


def _entry(client: SyncPrefectClient, runs: DeploymentResponse, watch: DeploymentResponse | None) -> dict[str, Any]:
    due = watch or runs
    times = [each.schedule for each in due.schedules if each.active and isinstance(each.schedule, timing.Schedule)]
    words = "; ".join(timing.in_words(when) for when in times) or "when asked"
    if watch is not None:
        words = f"{watch.parameters.get('folder')} changes, looked at {words}"
    paused = runs.paused or due.paused
    upcoming = [] if paused else sorted(time for when in times for time in timing.next_times(when, 3))[:3]
    config = runs.parameters.get("config") or {}
    task, options = config.get("task"), runs.concurrency_options
    waits = options is None or options.collision_strategy == ConcurrencyLimitStrategy.ENQUEUE
    return {
        "name": runs.name, "task": task.get("name") if isinstance(task, dict) else task,
        "method": (config.get("finetune") or {}).get("method", "full"), "seed": config.get("seed", 0),
        "when": words, "timezone": next((str(when.timezone) for when in times if when.timezone), None),
        "next": [time.isoformat() for time in upcoming],
        "overlap": "parallel" if runs.global_concurrency_limit is None else "wait" if waits else "skip",
        "paused": paused, "last": _last_run(client, runs.id), "store": runs.parameters.get("store"),
        "deployment": str(runs.id),
    }  # fmt: skip


def _last_run(client: SyncPrefectClient, deployment: UUID) -> dict[str, Any] | None:
    """The run that was begun last; one that was skipped has a time of beginning, but was never begun."""
    latest = client.read_flow_runs(
        flow_run_filter=filters.FlowRunFilter(
            deployment_id=filters.FlowRunFilterDeploymentId(any_=[deployment]),
            start_time=filters.FlowRunFilterStartTime(is_null_=False),
        ),
        sort=FlowRunSort.START_TIME_DESC, limit=PAGE,
    )  # fmt: skip
    for run in latest:
        if run.run_count and run.start_time:
            begun = run.start_time.isoformat(timespec="seconds")
            return {"state": run.state_name, "time": begun, "flow_run": str(run.id)}
    return None


def pause(client: SyncPrefectClient, name: str) -> None:
    """No more runs until ``resume``; one that is at work goes on."""
    for each in _known(client, name).values():
        client.pause_deployment(each.id)


def resume(client: SyncPrefectClient, name: str) -> None:
    """Ends a pause; times that fell into it are not made up."""
    for each in _known(client, name).values():
        client.resume_deployment(each.id)


def remove(client: SyncPrefectClient, name: str) -> None:
    """Removes a schedule and its runs to come; its runs so far stay in the server's record and in the store."""
    for each in _known(client, name).values():
        _delete(client, each)


def _delete(client: SyncPrefectClient, deployment: DeploymentResponse) -> None:
    client.delete_deployment(deployment.id)
    looks = deployment.parameters
    if {"folder", "store"} <= looks.keys():
        forget(Path(looks["store"]), deployment.name)


def _deployments(client: SyncPrefectClient, flow: str) -> list[DeploymentResponse]:
    found: list[DeploymentResponse] = []
    while len(found) % PAGE == 0:
        page = client.read_deployments(
            flow_filter=filters.FlowFilter(name=filters.FlowFilterName(any_=[flow])),
            work_pool_filter=filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[POOL])),
            limit=PAGE, offset=len(found),
        )  # fmt: skip
        if not page:
            break
        found += page
    return found


def _named(client: SyncPrefectClient, name: str) -> dict[str, DeploymentResponse]:
    """The deployments of a schedule, by flow."""
    found = {flow: [each for each in _deployments(client, flow) if each.name == name] for flow in FLOWS}
    return {flow: each[0] for flow, each in found.items() if each}


def _known(client: SyncPrefectClient, name: str) -> dict[str, DeploymentResponse]:
    """The same.

    Raises:
        InputError: there is no schedule of that name.
    """
    found = _named(client, name)
    if "adapt" not in found:
        names = [each.name for each in _deployments(client, "adapt")]
        near = difflib.get_close_matches(name, names, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names) or 'none'}"
        raise InputError(f"there is no schedule '{name}'; {hint}")
    return found
