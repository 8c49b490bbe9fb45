"""Runs in a store: which there are, how each stands, and what marks one that is at work or did not come to its end.

A finished run's folder is whole; one that is not finished has ``run.json`` and ``config.yaml`` alone. Whether a run is
still at work is told by a lock, which the system frees when its process dies.
"""

from __future__ import annotations

import datetime
import difflib
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from orca.errors import InputError
from orca.manifest import MANIFEST
from orca.runtime import atomic_write, read_json, write_json
from orca.store import Store

if TYPE_CHECKING:  # they bring torch with them, and a list of runs must come at once
    from orca.config import RunConfig
    from orca.plan import Plan

FINISHED = "completed"
VALIDATED = "validated"  # trained, and measured on validation alone: the test set is closed
MOMENT = 1  # seconds that work waits for its lock: who looks whether it is held, holds it for a moment


def describe(config: RunConfig) -> dict[str, Any]:
    """What tells runs apart."""
    return {
        "task": config.task_name, "body": config.body.name,
        "align": config.align.objective if config.aligned else "none", "method": config.finetune.method,
        "seed": config.seed,
    }  # fmt: skip


def settings_text(config: RunConfig) -> str:
    """The content of ``config.yaml``."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


@contextmanager
def track(made: Plan, store: Store, *, flow_run: str | None = None) -> Iterator[str]:
    """Marks a run as running within the block, and how it ended if it did not finish; gives its name.

    A finished run of that name keeps its record until a new one takes its place, and what is known of a validated one
    stays in its record.
    """
    from orca.keys import run_name

    name = run_name(made)
    lock = _lock(store, name)
    try:
        lock.acquire(timeout=MOMENT)
    except Timeout:  # another process does this run; it tells how it stands
        yield name
        return
    facts = {
        "run": name, "path": str(store.runs_dir / name), "flow_run": flow_run, **describe(made.config),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "process": {"host": socket.gethostname(), "pid": os.getpid()},
    }  # fmt: skip
    if (before := entry(store.runs_dir / name)).get("state") == VALIDATED:
        facts = {**before, **facts}
    try:
        if mark(store, name, {**facts, "state": "running"}):
            atomic_write(store.runs_dir / name / "config.yaml", settings_text(made.config))
        yield name
    except Exception as fault:
        mark(store, name, {**facts, "state": "failed", "reason": f"{type(fault).__name__}: {fault}"})
        raise
    except BaseException:  # Ctrl-C, or a signal that Prefect makes one of
        mark(store, name, {**facts, "state": "cancelled", "reason": "stopped from outside"})
        raise
    finally:
        lock.release()


def mark(store: Store, name: str, record: Mapping[str, Any]) -> bool:
    """Writes the record of an unfinished run; False, and nothing is written, where the run is finished."""
    file = store.runs_dir / name / "run.json"
    if entry(file.parent).get("state") == FINISHED:
        return False
    write_json(file, dict(record))
    return True


def is_running(store: Store, name: str) -> bool:
    """Whether a process is at work on a run."""
    return _now(store, entry(store.runs_dir / name)).get("state") == "running"


def mark_flow_run(store: Store, flow_run: str, state: str, reason: str) -> None:
    """Marks the run that a flow run was at, if it says itself that it still is: for those who saw its process end."""
    for folder in _folders(store):
        record = entry(folder)
        if record.get("flow_run") == flow_run and record.get("state") == "running":
            mark(store, folder.name, {**record, "state": state, "reason": reason})


def list_runs(store: Store) -> list[dict[str, Any]]:
    """Each run's record, newest first; of one that cannot be read its name and ``fault``."""
    records = [_now(store, entry(folder)) for folder in _folders(store)]
    return sorted(records, key=lambda record: (_when(record), record["run"]), reverse=True)


def read_run(store: Store, name: str) -> dict[str, Any]:
    """The record of one run, as it stands now.

    Args:
        store: the store.
        name: as of ``run_path``.

    Raises:
        InputError: there is no such run, or its record cannot be read.
    """
    record = _now(store, entry(run_path(store, name)))
    if "fault" in record:
        raise InputError(
            f"{record['path']}/run.json is damaged ({record['fault']}); run its configuration again, which writes it "
            "anew"
        )
    return record


def read_part(folder: Path, name: str) -> Any:
    """A JSON file of a run.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return read_json(folder / name)
    except (OSError, ValueError) as fault:
        raise InputError(
            f"{folder / name} is damaged ({fault}); run its configuration again, which writes it anew"
        ) from fault


def is_finished(store: Store, name: str, *, tested: bool = True) -> bool:
    """Whether the folder of a run is there whole, with a record that says so; or is measured, if not to be tested."""
    folder = store.runs_dir / name
    state = entry(folder).get("state")
    return (state == FINISHED and (folder / "report.html").is_file()) or (state == VALIDATED and not tested)


def run_path(store: Store, name: str) -> Path:
    """The directory of a run.

    Args:
        store: the store.
        name: the run's name, the beginning of it where only one run begins so, or a path.

    Raises:
        InputError: there is no such run, or several; the message names the near ones.
    """
    names = [folder.name for folder in _folders(store)]
    begins = [run for run in names if name and run.startswith(name)]
    if name in names:
        return store.runs_dir / name
    if (Path(name) / "run.json").is_file():
        return Path(name)
    if len(begins) == 1:
        return store.runs_dir / begins[0]
    if begins:
        raise InputError(f"{len(begins)} runs begin with '{name}': {', '.join(begins[:5])}; give more of the name")
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it holds {len(names)} runs: see orca runs"
    raise InputError(f"there is no run '{name}' in {store.runs_dir}; {hint}")


def finished_path(store: Store, name: str) -> Path:
    """The directory of a finished run, by name as of ``run_path``.

    Raises:
        InputError: there is no such run, or it is not finished.
    """
    path = run_path(store, name)
    record = _now(store, entry(path))
    state = record.get("state", FINISHED)
    if state != FINISHED:
        hint = "wait for its end" if state == "running" else f"orca resume {path.name} goes on with it"
        if state == VALIDATED:
            raise InputError(f"the test set of the run {path.name} is closed; orca resume {path.name} opens it")
        raise InputError(f"the run {path.name} is {state}, so it has no results; {hint}")
    return path


def _lock(store: Store, name: str) -> FileLock:
    folder = store.root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"running={name}.lock")


def _folders(store: Store) -> list[Path]:
    """The folders of the runs, sorted by name."""
    return sorted(path for path in store.runs_dir.glob("[!.]*") if path.is_dir())


def entry(folder: Path) -> dict[str, Any]:
    """The content of ``run.json``, with the path where it lies now; ``fault`` where it cannot be read."""
    fallback = {"run": folder.name, "path": str(folder)}
    try:
        content = read_json(folder / "run.json")
    except (OSError, ValueError) as error:
        return fallback | {"fault": f"it cannot be read: {error}"}
    if not isinstance(content, dict):
        return fallback | {"fault": "it holds no object"}
    return {**content, **fallback, "state": content.get("state", FINISHED)}


def _now(store: Store, record: dict[str, Any]) -> dict[str, Any]:
    """The record of a run that says it is running, as crashed where no process holds its lock."""
    if record.get("state") != "running":
        return record
    lock = _lock(store, record["run"])
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return record
    try:
        record = entry(Path(record["path"]))  # it may have ended since it was read
    finally:
        lock.release()
    if record.get("state") != "running":
        return record
    return {**record, "state": "crashed", "reason": "its process ended without a word"}


def _when(record: Mapping[str, Any]) -> float:
    """When a run was made, seconds: as it says itself, else the time of its folder."""
    try:
        return datetime.datetime.fromisoformat(record["created"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return Path(record["path"]).stat().st_mtime


def built_seconds(stage: Mapping[str, Any], root: Path) -> float | None:
    """What building a stage took, by the run that built it; None where it is no longer there.

    Args:
        stage: as a run's record lists it.
        root: of the store, which may have been moved since.
    """
    manifest = root / "stages" / stage["name"] / Path(stage["path"]).name / MANIFEST
    if manifest.is_file():
        return read_json(manifest)["seconds"]
    return None if stage["cached"] else stage["seconds"]
