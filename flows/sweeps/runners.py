"""Where the tasks of a sweep run: child processes of this machine, a Dask cluster or a Ray cluster."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
    redirect_stdout,
    suppress,
)
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import urlsplit

from flows.sweeps.processes import Processes, kept_environment, thread_settings
from orca.errors import InputError
from orca.runtime import cores

if TYPE_CHECKING:  # a wrong option must be told before Prefect is imported
    from prefect.task_runners import TaskRunner

    from flows.sweeps.pool import Pool
    from orca.config import RunConfig

Kind = Literal["local", "dask", "ray"]
LOOPBACK = ("127.0.0.1", "localhost", "::1", None)
QUIET = {"PREFECT_LOGGING_LEVEL": os.environ.get("PREFECT_LOGGING_LEVEL", "ERROR")}  # of workers: the table tells all
STORED = 100 * 2**20  # bytes of memory that a Ray cluster shares; the jobs hand over nothing but JSON
SHARED_GPU = 0.5  # of a GPU, for a job that may share it: two at once on each
# The children of the local runner; a worker of a cluster has none.
_children: ContextVar[Processes | None] = ContextVar("children", default=None)


def call(function: Callable[..., Any], *given: Any) -> Any:
    """Calls a job in this thread's child process; in a worker of a cluster, at once."""
    children = _children.get()
    return function(*given) if children is None else children.call(function, *given)


def gpus(config: RunConfig) -> float:
    """How much of a GPU each job of a run asks Ray for: one where it is planned for CUDA, half of one if it may share.

    Also those that compute little, since a job without a GPU is another one: it would be planned for the CPU.
    """
    from orca.runtime import resolve_device

    if resolve_device(config.device).type != "cuda":
        return 0
    return SHARED_GPU if config.share_device else 1


@dataclass(frozen=True)
class Crew:
    """Those who do jobs.

    Attributes:
        runner: the task runner of Prefect that hands jobs to them.
        size: how many jobs they do at once, now.
        asking: within this context a job that is handed over asks for so much of a GPU.
    """

    runner: TaskRunner[Any]
    size: Callable[[], int]
    asking: Callable[[float], AbstractContextManager[Any]] = lambda gpus: nullcontext()


def check_runner(kind: str, address: str | None) -> None:
    """Checks what can be checked before a flow is started.

    Raises:
        InputError: there is no such runner, it is not installed, or it takes no address.
    """
    if kind not in get_args(Kind):
        raise InputError(f"there is no runner '{kind}'; there are: {', '.join(get_args(Kind))}")
    if kind == "local" and address:
        raise InputError(
            "--address names a Dask or Ray cluster, and the local runner has none; add --runner dask or ray"
        )
    if kind != "local" and importlib.util.find_spec(f"prefect_{kind}") is None:
        raise InputError(f"--runner {kind} needs the package prefect-{kind}: pip install 'orca[{kind}]'")


@contextmanager
def started(kind: str, workers: int | None, address: str | None) -> Iterator[Pool]:
    """Processes of this machine, or a cluster, that take jobs. None of them is tried again by the cluster itself.

    Args:
        kind: local, dask or ray.
        workers: how many jobs run at once; as many as there are cores, or as a cluster with an address has, if None.
        address: of a running cluster; one of this machine is started and ended with the block if None.

    Raises:
        InputError: as of ``check_runner``, or the cluster does not answer, or its workers could not report to the
            Prefect server.
    """
    check_runner(kind, address)
    _check_reach(address)
    make = {"local": _local, "dask": _dask, "ray": _ray}[kind]
    with kept_environment(), ExitStack() as held:  # clusters leave in it what they have set for their workers
        try:
            crew = held.enter_context(make(workers or cores(), address))
        except OSError as fault:
            if address is None:
                raise
            raise InputError(f"no {kind} cluster answers at {address}: {fault}") from fault
        from flows.sweeps.pool import Pool

        yield Pool(crew.runner, lambda: max(1, min(crew.size(), workers or sys.maxsize)), crew.asking)


def _check_reach(address: str | None) -> None:
    from prefect.settings import PREFECT_API_URL

    there, api = _host(address or ""), _host(PREFECT_API_URL.value() or "")
    if there not in LOOPBACK and api in LOOPBACK:
        raise InputError(
            f"workers of {address} cannot reach the Prefect server of this sweep, which listens on this machine alone; "
            "start one that they reach and name it in PREFECT_API_URL"
        )


def _host(address: str) -> str | None:
    return urlsplit(address if "://" in address else f"//{address}").hostname


@contextmanager
def _local(workers: int, address: None) -> Iterator[Crew]:
    from prefect.task_runners import ThreadPoolTaskRunner

    # The children end first: the runner waits for its threads, and those wait for them.
    with ThreadPoolTaskRunner(max_workers=workers) as runner, closing(Processes(thread_settings(workers))) as children:
        token = _children.set(children)
        try:
            yield Crew(runner, lambda: workers)
        finally:
            _children.reset(token)


@contextmanager
def _dask(workers: int, address: str | None) -> Iterator[Crew]:
    os.environ.setdefault("DASK_DISTRIBUTED__LOGGING__DISTRIBUTED", "critical")  # the table tells of dead workers
    import dask.config  # pyright: ignore[reportMissingImports] - the extra dask
    from dask.distributed import Nanny  # pyright: ignore[reportMissingImports]
    from prefect_dask.task_runners import DaskTaskRunner  # pyright: ignore[reportMissingImports]

    class Patient(Nanny):
        """Keeps a worker; ends without a fault where the killed process is still there after Dask's five seconds."""

        async def close(self, *given: Any, **options: Any) -> Any:
            with suppress(asyncio.TimeoutError):  # of a busy machine; all that was asked for has been done
                return await super().close(*given, **options)
            return "OK"

    local = {
        "n_workers": workers, "threads_per_worker": 1, "processes": True, "worker_class": Patient,
        "dashboard_address": "127.0.0.1:0",  # it answers in any case; here on a free port, to this machine alone
        "memory_limit": 0,  # by default a worker is stopped at its share of the memory; needs differ from job to job
    }  # fmt: skip
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.nanny.pre-spawn-environ": {**thread_settings(workers), **QUIET},
    }
    with (
        dask.config.set(settings),
        DaskTaskRunner(address=address, cluster_kwargs=None if address else local) as runner,
    ):
        client = runner.client  # connects
        yield Crew(runner, lambda: sum(client.nthreads().values()))  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def _ray(workers: int, address: str | None) -> Iterator[Crew]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # pyright: ignore[reportMissingImports] - comes with prefect-ray
    from prefect_ray import RayTaskRunner  # pyright: ignore[reportMissingImports] - the extra ray
    from prefect_ray.context import remote_options  # pyright: ignore[reportMissingImports] - the extra ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if not address:
        settings |= {"num_cpus": workers, "include_dashboard": False, "object_store_memory": STORED}
        settings |= {"runtime_env": {"env_vars": thread_settings(workers)}}

    def asking(gpus: float) -> AbstractContextManager[Any]:
        if gpus and not ray.cluster_resources().get("GPU"):  # it would wait for one for ever
            raise InputError("runs are planned for CUDA, but Ray counts no GPU in its cluster; set device: cpu")
        return remote_options(max_retries=0, num_gpus=gpus)

    # Ray prints what happens to its workers; standard output is for the result.
    with redirect_stdout(sys.stderr), _left(), RayTaskRunner(address or "local", settings) as runner:
        yield Crew(runner, lambda: int(ray.cluster_resources().get("CPU", 0)), asking)


@contextmanager
def _left() -> Iterator[None]:
    """After the block this process is no part of a Ray cluster; the task runner stays connected by ``ray://``."""
    import ray  # pyright: ignore[reportMissingImports]

    try:
        yield
    finally:
        ray.shutdown()
