"""Ends a run that was started directly when it is cancelled from outside; Prefect ends those of its workers itself."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.runtime import deployment, flow_run

from flows.servers.connect import recorded

LOOK = 3.0  # seconds between two looks at the server


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within the block SIGUSR1 interrupts the main thread, as Ctrl-C does, and a cancellation at its server likewise.

    Work is then lost back to the last checkpoint, which is that of the last epoch.
    """
    if deployment.id or threading.current_thread() is not threading.main_thread():
        yield
        return
    over = threading.Event()
    before = signal.signal(signal.SIGUSR1, _interrupt)  # not SIGINT, which a shell may have let this process ignore
    watcher = threading.Thread(target=_watch, args=(str(flow_run.id), over), daemon=True, name="orca-stopping")
    if recorded.get():
        watcher.start()
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGUSR1, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _watch(identity: str, over: threading.Event) -> None:
    with get_client(sync_client=True) as client:
        while not over.wait(LOOK):
            try:
                state = client.read_flow_run(identity).state  # pyright: ignore[reportArgumentType] - a UUID's text
            except (httpx.HTTPError, PrefectException):  # the server is away; the run goes on
                continue
            if state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED):
                over.set()
                os.kill(os.getpid(), signal.SIGUSR1)
