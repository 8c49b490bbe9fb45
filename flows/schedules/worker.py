"""The process that runs what is due: Prefect's process worker, with an orderly end and missed times made up once."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import signal
import socket
import time
import warnings
from collections import defaultdict
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled
from prefect.workers.process import ProcessWorker

from flows.schedules.deployments import POOL, ensure_pool
from flows.terminal import tell

MISSED = 5  # seconds after which a time that has not been begun, while a newer one is due too, counts as missed
GRACE = 8  # seconds that running flows have to write down where they are, when they are asked to end
RECORD = 5  # seconds in which the server is told of those that did not
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

with warnings.catch_warnings():  # Prefect tells of a second worker for processes; it is this one that is wanted
    warnings.simplefilter("ignore", UserWarning)

    class Worker(ProcessWorker):
        """Prefect's worker, which also drops missed times and knows its processes."""

        def __init__(self, **options: Any) -> None:
            # Prefect would claim a run ten seconds ahead, and decide then whether the one before is still at work.
            name = f"orca-{socket.gethostname()}-{os.getpid()}"
            super().__init__(work_pool_name=POOL, name=name, prefetch_seconds=0, **options)
            self.at_work: dict[UUID, int | None] = {}  # the process of each flow run; None until it has started
            self.looking: set[UUID | None] = set()  # deployments whose look at a folder is at work
            self.ending = False

        async def get_and_submit_flow_runs(self) -> list[FlowRun]:
            """Starts what is due; called every two seconds. A server that is away is waited for, however long."""
            if self.ending or await self.client.api_healthcheck() is not None:
                return []
            await self._drop_missed()
            return await super().get_and_submit_flow_runs()

        async def _drop_missed(self) -> None:
            """Cancels times of a schedule that nobody could begin, where a newer one is due too and makes up for them.

            Only runs that a schedule made, and that were never begun; those that wait for a run before them are not
            missed. A look at a folder does not wait for the one before: on a busy machine they would pile up.
            """
            now = datetime.datetime.now(datetime.UTC)
            waiting = await self.client.read_flow_runs(
                flow_run_filter=filters.FlowRunFilter(
                    state=filters.FlowRunFilterState(name=filters.FlowRunFilterStateName(any_=["Scheduled", "Late"])),
                    next_scheduled_start_time=filters.FlowRunFilterNextScheduledStartTime(before_=now),  # pyright: ignore[reportArgumentType]
                ),
                work_pool_filter=filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[POOL])),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            )
            due: dict[UUID, list[FlowRun]] = defaultdict(list)
            for run in waiting:
                if run.auto_scheduled and run.deployment_id and not run.run_count and run.id not in self.at_work:
                    due[run.deployment_id].append(run)
            for deployment in due.keys() & self.looking:
                for run in due.pop(deployment):
                    await self.client.set_flow_run_state(run.id, Cancelled(message="The look before has not ended."))
            limit = now - datetime.timedelta(seconds=MISSED)
            for runs in due.values():
                missed = [run for run in runs[1:] if run.expected_start_time and run.expected_start_time < limit]
                for run in missed:
                    message = "Missed; a newer time of the same schedule makes up for it."
                    await self.client.set_flow_run_state(run.id, Cancelled(message=message))
                if missed:
                    tell(f"{await self._name(runs[0])}: {len(missed)} missed, made up once")

        async def run(self, flow_run: FlowRun, configuration: Any, task_status: Any = None) -> Any:
            """Runs a flow in a process of its own and waits for its end."""
            self.at_work[flow_run.id] = None
            looking = {flow_run.deployment_id} if "folder" in flow_run.parameters else set[UUID | None]()
            self.looking |= looking
            try:
                name = f"{await self._name(flow_run)} ({flow_run.id})"
                tell(f"{name}: started")
                noting: Any = _Noting(self, flow_run.id, task_status)
                result = await super().run(flow_run, configuration, noting)
                tell(f"{name}: {await self._state(flow_run)}")
                return result
            finally:
                del self.at_work[flow_run.id]
                self.looking -= looking

        async def _state(self, flow_run: FlowRun) -> str:
            """How a run has ended; a fault of the server must not make it look as if the run had failed."""
            try:
                if await self.client.api_healthcheck() is None:
                    return ((await self.client.read_flow_run(flow_run.id)).state_name or "ended").lower()
            except PrefectHTTPStatusError:
                pass
            return "ended while the server was away"

        async def _name(self, flow_run: FlowRun) -> str:
            """Of the schedule that a run belongs to, or that it looks for."""
            try:
                deployment = await self.client.read_deployment(flow_run.deployment_id or "")
            except (ObjectNotFound, PrefectHTTPStatusError, ValueError):
                return flow_run.name
            return f"look for {deployment.name}" if "folder" in deployment.parameters else deployment.name

        async def end_runs(self) -> None:
            """Starts nothing more; asks running flows to end, kills those that do not, waits until that is recorded."""
            self.ending = True
            for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, RECORD)):
                asked: set[int] = set()
                until = time.monotonic() + patience
                while self.at_work and time.monotonic() < until:
                    for process in {each for each in self.at_work.values() if each} - asked:
                        _signal(process, number)
                        asked.add(process)
                    await asyncio.sleep(0.1)


class _Noting:
    """Hands on the process of a flow run to whoever waits for its start, and notes it."""

    def __init__(self, worker: Worker, flow_run: UUID, task_status: Any) -> None:
        self.worker, self.flow_run, self.task_status = worker, flow_run, task_status

    def started(self, process: int) -> None:
        self.worker.at_work[self.flow_run] = process
        if self.task_status is not None:
            self.task_status.started(process)


def _signal(process: int, number: int) -> None:
    """To a flow's process and its children: it leads a group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, number)


def serve(limit: int | None) -> None:
    """Runs what is due until Ctrl-C or SIGTERM.

    Args:
        limit: of runs at once; None for none.
    """
    with get_client(sync_client=True) as client:
        ensure_pool(client)
    asyncio.run(_serve(Worker(limit=limit)))


async def _serve(worker: Worker) -> None:
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tell(f"serving the schedules of {PREFECT_API_URL.value()}; stop with Ctrl-C")
    serving = asyncio.ensure_future(worker.start(printer=lambda *said: None))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not serving.done():
        for name in ("asyncio", "prefect.FlowRunCancellingObserver"):  # they tell now of a server that was once away
            logging.getLogger(name).setLevel(logging.CRITICAL)
        tell(f"stopping; {len(worker.at_work)} at work")
        await worker.end_runs()
        serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
