"""The jobs of a sweep that are out: how many, tried again where their workers die, and what is told of each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from flows.sweeps import pool as module
from flows.sweeps.pool import TRIES, Job, Pool
from orca.errors import TrainingError

KilledWorker = type("KilledWorker", (Exception,), {"__module__": "distributed.scheduler"})  # as Dask has it


class Runner:
    """Does each job when it is handed over; a job's work is a list of what it returns or raises, try by try."""

    def submit(self, work: list[Any], parameters: dict[str, Any], wait_for: Any) -> Any:
        outcome = work.pop(0)

        def result() -> Any:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return SimpleNamespace(
            task_run_id=uuid4(), state=f"after {wait_for}", result=result, wait=lambda: None,
            add_done_callback=lambda call: call(None),
        )  # fmt: skip


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """Task runs of which a server has been told that they crashed; it is busy the first time."""
    known: list[UUID] = []
    busy = [httpx.ConnectError("busy")]

    def set_task_run_state(task_run: UUID, state: Any, *, force: bool) -> None:
        assert (state.name, force) == ("Crashed", True)
        if busy:
            raise busy.pop()
        known.append(task_run)

    client = SimpleNamespace(set_task_run_state=set_task_run_state)
    monkeypatch.setattr(module, "get_client", lambda **_: contextlib.nullcontext(client))
    return known


def ended(pool: Pool) -> Iterator[tuple[Any, Any, str | None]]:
    for each in iter(pool.next, None):
        yield each.name, each.value, each.reason if each.fault else None


def pool_of(room: int) -> Pool:
    return Pool(Runner(), lambda: room, lambda gpus: contextlib.nullcontext())  # type: ignore[arg-type]


def test_a_job_whose_worker_dies_is_tried_again_and_the_server_told(told: list[UUID]) -> None:
    pool = pool_of(2)
    pool.submit(Job("once", [KilledWorker("lost"), 1], {}))
    pool.submit(Job("always", [KilledWorker("lost") for _ in range(TRIES)], {}))
    assert not pool.has_room()
    found = {name: (value, reason) for name, value, reason in ended(pool)}
    assert found == {
        "once": (1, None),
        "always": (None, f"{TRIES} workers died at it, one after the other; was there enough memory?"),
    }
    assert len(told) == len(set(told)) == 1 + TRIES
    assert pool.has_room()


def test_a_job_that_fails_is_told_once_and_others_go_on() -> None:
    pool = pool_of(1)
    pool.submit(Job("diverged", [TrainingError("the loss is NaN")], {}))
    pool.submit(Job("lost", [OSError("no disk")], {}))
    pool.submit(Job("done", [{"value": 3}], {}, after=["before"]))  # type: ignore[list-item]
    assert list(ended(pool)) == [
        ("diverged", None, "the loss is NaN"), ("lost", None, "OSError: no disk"), ("done", {"value": 3}, None)
    ]  # fmt: skip
    assert pool.next() is None
