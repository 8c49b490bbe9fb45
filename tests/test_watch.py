"""Looks at a folder of data: what counts as new, when it is at rest, and that nothing is started twice."""

from __future__ import annotations

import asyncio
import datetime
import os
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled

from flows.schedules import watch
from flows.schedules.deployments import Wanted
from flows.schedules.worker import Worker
from orca.errors import InputError


def test_a_store_inside_the_folder_is_refused(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"config": None, "online": False, "overlap": "wait", "when": None, "folder": tmp_path}
    Wanted(name="it", store=tmp_path.parent / "store", **wanted)
    with pytest.raises(InputError, match="lies in .* name another place with --store"):
        Wanted(name="it", store=tmp_path / "runs", **wanted)


class Watched:
    """A folder, its memory, and the runs that its looks have started."""

    def __init__(self, place: Path) -> None:
        self.folder, self.memory, self.starts = place / "data", watch.memory_file(place / "store", "it"), 0
        self.folder.mkdir()

    def write(self, name: str, text: str, time: int = 1) -> None:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        os.utime(file, (time, time))

    def start(self) -> None:
        self.starts += 1

    def look(self) -> str:
        return watch.look(self.folder, self.memory, self.start).verdict


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def at_rest(watched: Watched) -> Watched:
    """After a first file, and a run for it."""
    watched.write("a.npz", "one")
    assert [watched.look(), watched.look()] == ["changing", "started"]
    return watched


def test_a_run_starts_once_when_two_looks_agree(watched: Watched) -> None:
    at_rest(watched)
    assert [watched.look(), watched.look(), watched.starts] == ["unchanged", "unchanged", 1]


@pytest.mark.parametrize("change", ["content", "new file", "fewer files", "new name", "below"])
def test_any_change_of_content_or_names_starts_one_more(watched: Watched, change: str) -> None:
    watched.write("b.npz", "two")
    at_rest(watched)
    if change == "content":
        watched.write("a.npz", "six", time=2)
    elif change == "new file":
        watched.write("c.npz", "three")
    elif change == "below":
        watched.write("sub/c.npz", "three")
    elif change == "fewer files":
        (watched.folder / "b.npz").unlink()
    else:
        (watched.folder / "b.npz").rename(watched.folder / "c.npz")
    assert [watched.look(), watched.look(), watched.look()] == ["changing", "started", "unchanged"]
    assert watched.starts == 2


def test_a_folder_that_is_being_written_waits(watched: Watched) -> None:
    at_rest(watched)
    for size in range(1, 4):
        watched.write("big.npz", "x" * size)
        assert watched.look() == "changing"
    assert [watched.starts, watched.look(), watched.starts] == [1, "started", 2]


def test_a_new_time_alone_is_no_change(watched: Watched) -> None:
    at_rest(watched).write("a.npz", "one", time=9)
    assert [watched.look(), watched.look(), watched.starts] == ["changing", "unchanged", 1]


def test_what_was_there_before_is_new_again_after_something_else(watched: Watched) -> None:
    at_rest(watched).write("a.npz", "other", time=2)
    assert [watched.look(), watched.look()] == ["changing", "started"]
    watched.write("a.npz", "one")
    assert [watched.look(), watched.look(), watched.starts] == ["changing", "started", 3]


def test_only_what_has_changed_is_read(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rest(watched).write("b.npz", "two")
    read: list[str] = []
    hashing = watch.file_digest
    monkeypatch.setattr(watch, "file_digest", lambda path: read.append(path.name) or hashing(path))
    assert [watched.look(), read] == ["changing", []]
    assert [watched.look(), watched.look(), read] == ["started", "unchanged", ["b.npz"]]


def test_a_file_that_changes_while_it_is_read_waits(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.write("a.npz", "one")
    assert watched.look() == "changing"
    hashing = watch.file_digest

    def slow(path: Path) -> str:
        watched.write("a.npz", "longer")
        return hashing(path)

    monkeypatch.setattr(watch, "file_digest", slow)
    assert [watched.look(), watched.starts] == ["changing", 0]


def test_a_start_that_fails_is_tried_again(watched: Watched) -> None:
    watched.write("a.npz", "one")
    watched.look()

    def fail() -> None:
        raise OSError("no server")

    with pytest.raises(OSError, match="no server"):
        watch.look(watched.folder, watched.memory, fail)
    assert [watched.look(), watched.starts] == ["started", 1]


def test_two_looks_at_once_start_one_run(watched: Watched) -> None:
    watched.write("a.npz", "one")
    watched.look()
    within: list[str] = []
    watch.look(watched.folder, watched.memory, lambda: within.append(watched.look()))
    assert [within, watched.look(), watched.starts] == [["busy"], "unchanged", 0]


def test_what_was_seen_can_be_forgotten(watched: Watched) -> None:
    at_rest(watched)
    watch.forget(watched.memory.parents[1], "it")
    assert list(watched.memory.parent.iterdir()) == []
    assert [watched.look(), watched.look(), watched.starts] == ["changing", "started", 2]


def test_hidden_files_and_an_empty_folder_start_nothing(watched: Watched) -> None:
    watched.write(".half-copied", "one")
    assert [watched.look(), watched.look(), watched.starts] == ["empty", "empty", 0]


def test_a_damaged_memory_counts_as_none(watched: Watched) -> None:
    at_rest(watched)
    watched.memory.write_text('{"started": 3}')
    assert [watched.look(), watched.look(), watched.starts] == ["changing", "started", 2]


def test_a_folder_that_has_gone_is_told(watched: Watched) -> None:
    watched.folder.rmdir()
    with pytest.raises(InputError, match="there is no folder .*data to watch; make it, or remove the schedule"):
        watched.look()


class Server:
    """What the worker asks a server about runs that are due."""

    def __init__(self, due: list[FlowRun]) -> None:
        self.due, self.cancelled = due, list[UUID]()

    async def read_flow_runs(self, **filters: Any) -> list[FlowRun]:
        return self.due

    async def set_flow_run_state(self, run: UUID, state: Any) -> None:
        assert state.name == Cancelled().name
        self.cancelled.append(run)


def test_looks_do_not_pile_up_behind_a_slow_one() -> None:
    """One that is due while the one before is at work is dropped; those of other schedules are not."""
    slow, other = uuid4(), uuid4()
    now = datetime.datetime.now(datetime.UTC)
    due = [
        FlowRun(flow_id=uuid4(), deployment_id=of, auto_scheduled=True, expected_start_time=now) for of in (slow, other)
    ]
    server, worker = Server(due), Worker(limit=None)
    worker._client = server  # type: ignore[assignment]
    worker.looking.add(slow)
    asyncio.run(worker._drop_missed())
    assert server.cancelled == [due[0].id]
    worker.looking.clear()
    asyncio.run(worker._drop_missed())
    assert server.cancelled == [due[0].id]
