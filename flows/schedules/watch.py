"""The flow ``watch``: looks at a folder of data, and starts a run of a deployment when what lies there is new.

A look compares names, sizes and times with the look before it; only where they differ from what was hashed before are
files read. Files that changed since the look before may still be written to, so a run waits until two looks agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prefect import flow
from prefect.deployments import run_deployment

from orca.errors import InputError
from orca.runtime import digest, file_digest, read_json, write_json

Stamps = dict[str, list[int]]  # by name: size in bytes, time of the last change in ns


@dataclass(frozen=True)
class Look:
    """What a look at a folder found.

    Attributes:
        verdict: ``started``, ``unchanged``, ``changing``, ``empty``, or ``busy`` where another look is at work.
        fingerprint: of names and contents; None where they were not read.
    """

    verdict: str
    fingerprint: str | None = None


def memory_file(store: Path, name: str) -> Path:
    """Where the looks of the schedule of that name are remembered."""
    return store / "watch" / f"{name}.json"


def forget(store: Path, name: str) -> None:
    """Removes what the looks of the schedule of that name remember."""
    for file in (memory_file(store, name), _lock_file(memory_file(store, name))):
        file.unlink(missing_ok=True)


def _lock_file(memory: Path) -> Path:
    return memory.with_suffix(".lock")


def stamps(folder: Path) -> Stamps:
    """Size and time of each file in a folder, those below it included, hidden ones left out.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder.absolute()} to watch; make it, or remove the schedule")
    found: Stamps = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not any(part.startswith(".") for part in name.split("/")) and path.is_file():
            facts = path.stat()
            found[name] = [facts.st_size, facts.st_mtime_ns]
    return found


def look(folder: Path, memory: Path, start: Callable[[], Any]) -> Look:
    """Looks once, and calls ``start`` if the folder is at rest and differs from what the last run was started for.

    Args:
        folder: of data.
        memory: JSON file of what the looks before have found; a damaged one counts as none.
        start: starts a run; the folder counts as seen when it has returned.
    """
    memory.parent.mkdir(parents=True, exist_ok=True)
    # No limit of Prefect: a look that ended while the server was away would hold its place for minutes.
    lock = FileLock(_lock_file(memory))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return Look("busy")
    try:
        return _look(folder, memory, start)
    finally:
        lock.release()


def _look(folder: Path, memory: Path, start: Callable[[], Any]) -> Look:
    before = _remembered(memory)
    now = stamps(folder)
    hashes: dict[str, str] = {}
    if not now or now != before["stamps"]:
        write_json(memory, {**before, "stamps": now})
        return Look("changing" if now else "empty")
    for name, stamp in now.items():
        same = before["hashed"].get(name) == stamp
        hashes[name] = before["hashes"][name] if same else file_digest(folder / name)
    found = digest(hashes)
    if stamps(folder) != now:  # written to while it was read
        return Look("changing")
    after = {"stamps": now, "hashed": now, "hashes": hashes, "started": before["started"]}
    if found != before["started"]:
        start()
        after["started"] = found
    if after != before:
        write_json(memory, after)
    return Look("unchanged" if found == before["started"] else "started", found)


def _remembered(memory: Path) -> dict[str, Any]:
    blank: dict[str, Any] = {"stamps": None, "hashed": {}, "hashes": {}, "started": None}
    try:
        found = read_json(memory)
    except (OSError, ValueError):
        return blank
    return found if isinstance(found, dict) and found.keys() == blank.keys() else blank


@flow(name="watch", flow_run_name="look-at-{name}", persist_result=False)
def watch_flow(name: str, folder: str, store: str) -> str:
    """Looks at a folder once, and starts a run where its content is new.

    Args:
        name: of the schedule; its deployment ``adapt/NAME`` is started.
        folder: the folder of data.
        store: the folder of stages and runs, where the looks are remembered.
    """

    def start() -> None:
        run_deployment(f"adapt/{name}", timeout=0, as_subflow=False)

    return look(Path(folder), memory_file(Path(store), name), start).verdict
