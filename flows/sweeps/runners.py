"""Where the tasks of a sweep run: child processes of this machine, a Dask cluster or a Ray cluster."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import urlsplit

from flows.sweeps.processes import Processes, cores, thread_settings

if TYPE_CHECKING:  # a wrong option must be told before Prefect is imported
    from prefect.task_runners import TaskRunner

Kind = Literal["local", "dask", "ray"]
LOOPBACK = ("127.0.0.1", "localhost", "::1", None)
QUIET = {"PREFECT_LOGGING_LEVEL": os.environ.get("PREFECT_LOGGING_LEVEL", "ERROR")}  # of workers: the table tells all
# The children of the local runner; a worker of a cluster has none.
_children: ContextVar[Processes | None] = ContextVar("children", default=None)


def call(function: Callable[..., Any], *given: Any) -> Any:
    """Calls a job in this thread's child process; in a worker of a cluster, at once."""
    children = _children.get()
    return function(*given) if children is None else children.call(function, *given)


def _refusal(message: str) -> Exception:
    from orca.types import InputError  # brings torch with it

    return InputError(message)


def check_runner(kind: str, address: str | None) -> None:
    """Checks what can be checked before a flow is started.

    Raises:
        InputError: there is no such runner, it is not installed, or it takes no address.
    """
    if kind not in get_args(Kind):
        raise _refusal(f"there is no runner '{kind}'; there are: {', '.join(get_args(Kind))}")
    if kind == "local" and address:
        raise _refusal("--address names a Dask or Ray cluster, and the local runner has none; add --runner dask or ray")
    if kind != "local" and importlib.util.find_spec(f"prefect_{kind}") is None:
        raise _refusal(f"--runner {kind} needs the package prefect-{kind}: pip install 'orca[{kind}]'")


@contextmanager
def started(kind: str, workers: int | None, address: str | None) -> Iterator[TaskRunner[Any]]:
    """A task runner of Prefect that takes jobs. None of them is tried again by the cluster when its process dies.

    Args:
        kind: local, dask or ray.
        workers: how many jobs run at once, as many as there are cores if None; a cluster that has an address knows.
        address: of a running cluster; one of this machine is started and ended with the block if None.

    Raises:
        InputError: as of ``check_runner``, or workers elsewhere could not report to the Prefect server.
    """
    check_runner(kind, address)
    _check_reach(address)
    make = {"local": _local, "dask": _dask, "ray": _ray}[kind]
    with make(workers or cores(), address) as runner:
        yield runner


def _check_reach(address: str | None) -> None:
    from prefect.settings import PREFECT_API_URL

    there, api = _host(address or ""), _host(PREFECT_API_URL.value() or "")
    if there not in LOOPBACK and api in LOOPBACK:
        raise _refusal(
            f"workers of {address} cannot reach the Prefect server of this sweep, which listens on this machine alone; "
            "start one that they reach and name it in PREFECT_API_URL"
        )


def _host(address: str) -> str | None:
    return urlsplit(address if "://" in address else f"//{address}").hostname


@contextmanager
def _local(workers: int, address: None) -> Iterator[TaskRunner[Any]]:
    from prefect.task_runners import ThreadPoolTaskRunner

    # The children end first: the runner waits for its threads, and those wait for them.
    with ThreadPoolTaskRunner(max_workers=workers) as runner, closing(Processes(thread_settings(workers))) as children:
        token = _children.set(children)
        try:
            yield runner
        finally:
            _children.reset(token)


@contextmanager
def _dask(workers: int, address: str | None) -> Iterator[TaskRunner[Any]]:
    import dask  # pyright: ignore[reportMissingImports] - the extra dask

    local = {
        "n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None,
        "memory_limit": 0,  # by default a worker is stopped at its share of the memory; needs differ from job to job
    }  # fmt: skip
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.nanny.pre-spawn-environ": {**thread_settings(workers), **QUIET},
        "distributed.logging.distributed": "error",  # holds if it comes before the import
    }
    with dask.config.set(settings):
        from prefect_dask import DaskTaskRunner  # pyright: ignore[reportMissingImports]

        with DaskTaskRunner(address=address, cluster_kwargs=None if address else local) as runner:
            yield runner


@contextmanager
def _ray(workers: int, address: str | None) -> Iterator[TaskRunner[Any]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray import RayTaskRunner  # pyright: ignore[reportMissingImports] - the extra ray
    from prefect_ray.context import remote_options  # pyright: ignore[reportMissingImports] - the extra ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        settings |= {"num_cpus": workers, "include_dashboard": False}
        settings |= {"runtime_env": {"env_vars": thread_settings(workers)}}
    with remote_options(max_retries=0), RayTaskRunner(address=address, init_kwargs=settings) as runner:
        yield runner
