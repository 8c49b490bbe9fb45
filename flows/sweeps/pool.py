"""The jobs of a sweep that are out: as many at once as there is room for, tried again where their workers die."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Crashed
from prefect.task_runners import TaskRunner

from orca.errors import InputError, TrainingError

TRIES = 3  # of a job whose worker dies; it goes on from its last checkpoint
# By what Dask and Ray tell that the worker of a job died: package and exception.
DEATHS = {
    ("distributed", "KilledWorker"), ("ray", "NodeDiedError"), ("ray", "OutOfMemoryError"),
    ("ray", "WorkerCrashedError"),
}  # fmt: skip


class WorkersDied(RuntimeError):
    """The workers of a job died, one after the other."""


@dataclass(frozen=True)
class Job:
    """A task to be done.

    Attributes:
        name: by which its end is told.
        work: the task.
        parameters: its own.
        after: states of completed tasks that Prefect's pages shall show before it.
        gpus: how much of a GPU it needs where the cluster counts them.
        deaths: how many workers have died at it.
    """

    name: Any
    work: Any
    parameters: dict[str, Any]
    after: Sequence[State[Any]] = ()
    gpus: float = 0
    deaths: int = 0


@dataclass(frozen=True)
class Ended:
    """What came of a job.

    Attributes:
        name: the job's.
        state: Prefect's, of its last try.
        value: what it returned.
        fault: what it raised, if it failed.
    """

    name: Any
    state: State[Any]
    value: Any = None
    fault: Exception | None = None

    @property
    def reason(self) -> str:
        """Why it failed, for people."""
        plain = isinstance(self.fault, InputError | TrainingError | WorkersDied)
        return str(self.fault) if plain else f"{type(self.fault).__name__}: {self.fault}"


class Pool:
    """Takes jobs, and tells of each when it has ended."""

    def __init__(
        self, runner: TaskRunner[Any], room: Callable[[], int], asking: Callable[[float], AbstractContextManager[Any]]
    ) -> None:
        """Hands nothing over yet.

        Args:
            runner: the task runner of Prefect at work.
            room: how many jobs can be at work at once, at least one.
            asking: within this context a job that is handed over asks for so much of a GPU.
        """
        self._runner, self._room, self._asking = runner, room, asking
        self._out: dict[UUID, tuple[Job, PrefectFuture[Any]]] = {}
        self._again: deque[Job] = deque()
        self._ended: SimpleQueue[UUID] = SimpleQueue()
        self._lost: list[UUID] = []

    def has_room(self) -> bool:
        """Whether one more job would be begun at once. Of those handed over before, a dead worker takes all with it."""
        return len(self._out) + len(self._again) < self._room()

    def submit(self, job: Job) -> None:
        """Hands over a job.

        Raises:
            InputError: it needs a GPU, and the cluster has none.
        """
        with self._asking(job.gpus):
            future = self._runner.submit(job.work, job.parameters, wait_for=job.after)  # pyright: ignore[reportCallIssue, reportArgumentType]
        key = future.task_run_id
        self._out[key] = job, future
        future.add_done_callback(lambda _: self._ended.put(key))

    def next(self) -> Ended | None:
        """Waits for the end of a job; None when all have been told of."""
        while self._out or self._again:
            while self._again and len(self._out) < self._room():
                self.submit(self._again.popleft())
            job, future = self._out.pop(self._ended.get())  # what nobody holds, Dask does not do again when it loses it
            ended = _outcome(job, future)
            if not worker_died(ended.fault):
                return ended
            self._lost.append(future.task_run_id)
            self._record_crashes()
            if job.deaths + 1 == TRIES:
                told = f"{TRIES} workers died at it, one after the other; was there enough memory?"
                return replace(ended, fault=WorkersDied(told))
            self._again.append(replace(job, deaths=job.deaths + 1))
        self._record_crashes()
        return None

    def _record_crashes(self) -> None:
        """Tells the server of tasks whose workers can tell it no more; those it does not know yet stay in the list."""
        if not self._lost:
            return
        with get_client(sync_client=True) as client:
            for task_run in list(self._lost):
                with contextlib.suppress(httpx.HTTPError):
                    client.set_task_run_state(task_run, Crashed(message="its worker died"), force=True)
                    self._lost.remove(task_run)


def _outcome(job: Job, future: PrefectFuture[Any]) -> Ended:
    future.wait()
    try:
        return Ended(job.name, future.state, value=future.result())
    except Exception as fault:  # noqa: BLE001 - whatever ends one job, faults of clusters too, the others go on
        return Ended(job.name, future.state, fault=fault)


def worker_died(fault: Exception | None) -> bool:
    """Whether a job of a cluster ended because its worker died."""
    return (type(fault).__module__.partition(".")[0], type(fault).__name__) in DEATHS
