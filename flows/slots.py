"""Slots: runs take turns on a GPU and share a machine's memory, so that several at once do not fail together.

Slots are concurrency limits of the Prefect server, where they can be seen and changed. On a GPU the core holds a lock
of the machine as well, which guards runs of other servers, sweeps and notebooks.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
from collections.abc import Iterator

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from orca.plan import Plan
from orca.stages import HUNGRY

log = logging.getLogger(__name__)  # of the command; the run's own goes to the server
LEASE = 60  # seconds after which the server frees the slot of a holder that is gone
BASE_GIB = 1.0  # of a process that has imported torch and holds small data
COPIES = 4  # weights, gradients and two moments of AdamW


def needs(made: Plan) -> tuple[str, int, int]:
    """Name of the limit, slots that a stage of this plan takes, and slots there are.

    A GPU has one slot. On a CPU a slot is a GiB of memory: what torch itself takes and four times the body's weights.
    """
    host = socket.gethostname().lower()
    if made.device.type != "cpu":
        return f"orca-{host}-{made.device.type}-{_card(made.device.index or 0)}", 1, 1
    there = max(1, int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30))
    weights = sum(file.stat().st_size for file in made.files.path.glob("*.safetensors")) / 2**30
    return f"orca-{host}-memory-gib", min(there, math.ceil(BASE_GIB + COPIES * weights)), there


def _card(index: int) -> str:
    """The machine's name of a GPU that this process, which may see some of them only, counts as ``index``."""
    seen = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return seen[index] if index < len(seen) else str(index)


@contextlib.contextmanager
def slot(made: Plan, stage: str) -> Iterator[None]:
    """Holds what a stage needs of its device, waiting for it where others have it.

    A server that is away, then or at the end, is no reason to stop: it frees what nobody holds after ``LEASE`` seconds.
    """
    if stage not in HUNGRY or made.config.share_device:
        yield
        return
    name, taken, there = needs(made)
    with contextlib.ExitStack() as held:
        with _indulgent(f"the server is away; {stage} goes on without its slot"):
            _make_limit(name, there)
            held.enter_context(concurrency(name, occupy=taken, lease_duration=LEASE))
        try:
            yield
        finally:  # a fault of the stage is told as it is, whatever comes of this
            with _indulgent(f"the server is away; it frees the slot of {stage} by itself"):
                held.close()


@contextlib.contextmanager
def _indulgent(message: str) -> Iterator[None]:
    """Within the block a server that does not answer is warned of, and no fault."""
    try:
        yield
    except (httpx.TransportError, ConcurrencySlotAcquisitionError) as fault:
        log.warning("%s (%s: %s)", message, type(fault).__name__, fault)


def _make_limit(name: str, slots: int) -> None:
    """Makes a limit unless it is there; one that the user has changed is left as it is."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            with contextlib.suppress(ObjectAlreadyExists):  # by another run, just now
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))
