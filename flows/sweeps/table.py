"""The table of a sweep: how each run stands, in ``sweeps/<name>/sweep.json`` of the store, written as runs end."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from orca.errors import InputError
from orca.runs import MOMENT, read_run
from orca.runtime import finite, read_json, write_json
from orca.store import Store

if TYPE_CHECKING:  # it brings torch with it, and the table of an old sweep must come at once
    from orca.sweeps.sharing import Member, Sharing

PAUSE = 1  # seconds between two writings while stages end; the end of a run is written at once
Row = dict[str, Any]


class SweepTable:
    """The runs of a sweep at work, and what came of each task."""

    def __init__(
        self, store: Store, name: str, sharing: Sharing, *, kind: str = "sweep",
        watcher: Callable[[SweepTable, Row | None], None] | None = None,
    ) -> None:  # fmt: skip
        """Writes nothing yet.

        Args:
            store: where it is written.
            name: the sweep's.
            sharing: its runs and what they share.
            kind: sweep or compare.
            watcher: is called with the row of a run that has ended, and with None whenever a stage has.
        """
        self.store, self.name, self.kind = store, name, kind
        self.ended = False
        self.results: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, str] = {}
        self._file, self._lock = _places(store, name)
        self._facts: dict[str, Any] = {kind: name, "state": "running", "plan": sharing.summary()}
        self._watcher = watcher or (lambda table, row: None)
        self._written = 0.0
        self.take(sharing)

    @property
    def plan(self) -> str:
        """What there was to do, in one line."""
        return self._facts["plan"]

    def take(self, sharing: Sharing) -> None:
        """Makes these the runs of the sweep."""
        self.sharing = sharing
        self._facts["by"] = "test" if all(member.tested for member in sharing.members) else "validation"
        self.rows = [self._row(member) for member in sharing.members]
        if sharing.members:
            self._facts["axes"] = list(sharing.members[0].cell.place)

    def _row(self, member: Member) -> Row:
        row = {"run": member.run, **member.cell.place, "body": Path(member.cell.place["body"]).name}
        if member.fault is not None:
            return {**row, "state": "failed", "reason": member.fault}
        if member.finished:
            return {**row, **self._ended(member, read_run(self.store, member.run))}
        return {**row, "state": "waiting"}

    @contextmanager
    def open(self, flow_run: str | None) -> Iterator[None]:
        """Within the block the sweep is at work; its file tells how it ended.

        Raises:
            InputError: another process is at work on it.
        """
        try:
            self._lock.acquire(timeout=MOMENT)
        except Timeout as fault:
            raise InputError(
                f"the {self.kind} {self.name} is at work in another process; wait for its end, or choose another --name"
            ) from fault
        self._facts |= {"flow_run": flow_run, "begun": _now()}
        try:
            self._write()
            yield
        except BaseException:
            self._facts |= {"state": "stopped", "ended": _now()}
            raise
        else:
            self._facts |= {"state": "failed" if self.count("failed") else "completed", "ended": _now()}
            self.ended = True
        finally:
            self._write()
            self._lock.release()

    def member(self, node: str) -> Member:
        """The run that a report is of."""
        return next(member for member in self.sharing.members if member.report == node)

    def title(self, node: str) -> str:
        """What failed, for people."""
        job = self.sharing.jobs.get(node)
        return f"{job.stage if job else 'report'} failed"

    def count(self, state: str) -> int:
        """How many runs are in this state."""
        return sum(row["state"] == state for row in self.rows)

    def progress(self, row: Row) -> tuple[int, int]:
        """How many rows of the kind of this one have ended, and of how many."""
        return len(self.rows) - sum(row["state"] == "waiting" for row in self.rows), len(self.rows)

    def stages(self) -> tuple[int, int]:
        """How many stages are done, and of how many; shared ones count once."""
        return len(self.sharing.there.union(self.results).intersection(self.sharing.jobs)), len(self.sharing.jobs)

    def outcome(self) -> str:
        """What came of the sweep, in one line."""
        told = f"{self.count('completed')} of {len(self.rows)} runs completed"
        return f"{told}, the others failed" if self.count("failed") else told

    def fault_before(self, needs: set[str]) -> str | None:
        """Why work that needs these cannot begin, or None."""
        return next((self.faults[need] for need in sorted(needs) if need in self.faults), None)

    def end(self, node: str, outcome: dict[str, Any] | str) -> None:
        """Takes note of a task that ended, with what it returned or why it failed."""
        if isinstance(outcome, str):
            self.faults[node] = outcome
        else:
            self.results[node] = outcome
        for member, row in zip(self.sharing.members, self.rows, strict=True):
            if row["state"] != "waiting" or node not in (*member.jobs, member.report):
                continue
            if isinstance(outcome, str):
                row |= {"state": "failed", "reason": outcome}
            elif node == member.report:
                row |= self._ended(member, outcome)
            if row["state"] != "waiting":
                self._watcher(self, row)
        if any(row["state"] == "waiting" for row in self.rows):
            self._watcher(self, None)
        if node.startswith("report-") or isinstance(outcome, str) or time.monotonic() - self._written > PAUSE:
            self._write()

    def _ended(self, member: Member, record: Mapping[str, Any]) -> Row:
        """What the table tells of a finished run, wherever its store was when it ran.

        A sweep that leaves test sets closed does not tell what others saw in them.
        """
        metric, path = record["metric"], (self.store.runs_dir / record["run"]).absolute()
        kept = {"metric": metric["name"], "higher_is_better": metric["higher_is_better"]}
        kept["test"] = metric["value"] if member.tested else None
        return {"state": "completed", **kept, "validation": record["validation"]["value"], "path": str(path)}

    def document(self) -> dict[str, Any]:
        """What the file holds."""
        done = self.sharing.there | set(self.results)
        rows = [
            {**row, "stages": len(member.jobs), "stages_done": len(done.intersection(member.jobs))}
            for member, row in zip(self.sharing.members, self.rows, strict=True)
        ]
        return finite({**self._facts, "runs": rows})

    def _write(self) -> None:
        write_json(self._file, self.document())
        self._written = time.monotonic()


# No parameter of the flow, which are JSON, and no variable of its module, which travel to the workers of a cluster.
_planned: ContextVar[SweepTable | None] = ContextVar("planned", default=None)


@contextmanager
def planning(table: SweepTable) -> Iterator[None]:
    """Within the block the flow of a sweep fills this table, which a command has planned."""
    token = _planned.set(table)
    try:
        yield
    finally:
        _planned.reset(token)


def planned() -> SweepTable | None:
    """The table that is to be filled; None where a flow plans for itself."""
    return _planned.get()


def read_sweep(store: Store, name: str) -> dict[str, Any]:
    """The table of a sweep as it stands now.

    Raises:
        InputError: there is none of that name, or its file is damaged.
    """
    file, lock = _places(store, name)
    if not file.is_file():
        raise InputError(f"the store {store.root} has no sweep '{name}'; without --status it is started")
    document = _read(file)
    if document["state"] != "running":
        return document
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return document
    try:
        document = _read(file)  # it may have ended since it was read
    finally:
        lock.release()
    return {**document, "state": "stopped"} if document["state"] == "running" else document


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except ValueError as fault:
        raise InputError(f"{file} is damaged ({fault}); the same sweep again writes it anew") from fault


def _places(store: Store, name: str) -> tuple[Path, FileLock]:
    """The file of a sweep, and the lock that is held while it is at work.

    Raises:
        InputError: the name is not that of a folder.
    """
    if name != Path(name).name or name.startswith("."):
        raise InputError(f"a sweep's name is that of its folder in the store, not a path; got '{name}'")
    return store.root / "sweeps" / name / "sweep.json", FileLock(store.root / ".locks" / f"sweep={name}.lock")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
