"""Child processes for the jobs of a sweep on this machine: one for each thread that asks.

A job that is killed, for want of memory for example, ends its own process and nothing else; the next job of that thread
gets a new one. A child ends when its parent does, however that ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from orca.runtime import cores


class JobKilled(RuntimeError):
    """A job's process ended before the job did."""


def thread_settings(workers: int) -> dict[str, str]:
    """Environment of one of several workers that share the cores of this machine. What the user has set holds."""
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // workers)))}


@contextlib.contextmanager
def kept_environment() -> Iterator[None]:
    """After the block the variables of this process are as they were before it."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


class Processes:
    """One child process for each thread that calls; ended by :meth:`close`."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._mine = threading.local()
        self._beginning = threading.Lock()
        self._children: dict[int, ProcessPoolExecutor] = {}
        self._closed = False

    def call(self, function: Callable[..., Any], *given: Any) -> Any:
        """What the function returns, called in this thread's child.

        Raises:
            JobKilled: the child ended before the function did.
            Exception: whatever the function raises.
        """
        if self._closed:
            raise JobKilled("the sweep was stopped")
        pid = getattr(self._mine, "pid", None)
        if pid is None:
            pid = self._mine.pid = self._begin()
        try:
            return self._children[pid].submit(function, *given).result()
        except BrokenProcessPool:
            self._mine.pid = None
            self._children.pop(pid).shutdown(wait=False)
            why = "the sweep was stopped" if self._closed else "was there enough memory?"
            raise JobKilled(f"its process ended from outside; {why}") from None

    def _begin(self) -> int:
        """A new child, of which the environment must be right before it imports torch."""
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_settle)
        with self._beginning:
            if self._closed:
                raise JobKilled("the sweep was stopped")
            with kept_environment():
                os.environ.update(self._environment)
                asked = pool.submit(os.getpid)
            pid = asked.result()
            self._children[pid] = pool
        return pid

    def close(self) -> None:
        """Ends all children, also those at work; their stages go on from the last checkpoint another time."""
        with self._beginning:
            self._closed = True
            children = dict(self._children)
        for pid, pool in children.items():
            _end(pid)
            pool.shutdown(wait=True)


def _end(pid: int) -> None:
    for child in multiprocessing.active_children():  # a number alone may be another process' by now
        if child.pid == pid:
            child.kill()


def _settle() -> None:
    """The first thing a child does: leave Ctrl-C to its parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
