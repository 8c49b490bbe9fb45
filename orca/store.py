"""Directories of finished work, found by content key, whole or absent.

``stages/<stage>/<key>/`` holds what a stage made, with a manifest; ``runs/<run>/`` holds a run. What is being made lies
in ``.work/`` under a name that stays the same, so that a stage that was killed finds its own checkpoint again.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from orca import runtime
from orca.errors import InputError
from orca.manifest import CHECKPOINT, MANIFEST, Cost, Damaged, Manifest, StageRef, link, seal, stage_key, verify
from orca.memory import peak_gpu_memory_mb, peak_memory_mb, reset_peak_memory
from orca.mirror import Mirror

log = logging.getLogger(__name__)

FETCHED, OLD = "=fetched", "=old"  # after the name of the work whose lock guards them
Build = Callable[[Path], float | None]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def default_root() -> Path:
    """The store's folder: the environment's ``ORCA_STORE``, or ``runs`` in the current folder."""
    return Path(os.environ.get("ORCA_STORE") or "runs").expanduser()


class Store:
    """Finished stages and runs under one folder; processes may share it."""

    def __init__(self, root: Path, mirror: Mirror | None = None) -> None:
        """Makes nothing on the disk yet.

        Args:
            root: the folder.
            mirror: where finished stages are sent and fetched; None takes that of ``ORCA_MIRROR``, if it is set.

        Raises:
            InputError: ``root`` is a file, or the mirror's URL is wrong.
        """
        self.root = Path(root)
        self.mirror = mirror or Mirror.chosen()
        self.runs_dir = self.root / "runs"
        self._work = self.root / ".work"
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"the store must be a folder; {self.root} is a file: choose another with --store")

    def make(self) -> Store:
        """Makes the folder.

        Raises:
            InputError: it cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            why = fault.strerror
        else:
            why = None if os.access(self.root, os.W_OK) else "no permission to write"
        if why:
            raise InputError(f"the store {self.root} cannot be made: {why}; choose another --store")
        return self

    def key(self, name: str, document: Mapping[str, Any]) -> str:
        """The key of a stage: 24 hex digits from its name and all that its result depends on."""
        return stage_key(name, document)

    def find(self, name: str, document: Mapping[str, Any]) -> StageRef | None:
        """The finished stage if it is there and sound; builds and moves nothing."""
        key = self.key(name, document)
        path = self._place(name, key)
        if not path.exists():
            return None
        try:
            return StageRef.of(verify(path, name, key), path, cached=True)
        except Damaged as damage:
            log.warning("%s is damaged: %s", path, damage)
            return None

    def stage(
        self, name: str, key_document: Mapping[str, Any], build: Build, *, fresh: bool = False,
        cost: Cost | None = None,
    ) -> StageRef:  # fmt: skip
        """The finished stage; builds it where it is absent or damaged.

        Args:
            name: the stage's name, of letters, digits, dot, dash and underscore.
            key_document: all that the result depends on: config, inputs' keys, fingerprints, version; plain JSON.
            build: fills the folder it is given. After a stop it is given the same folder again, with what is in it.
                Files under ``checkpoint/`` are dropped when it is done. It may return seconds that it only waited.
            fresh: build even if it is there, and from the beginning. The old one stays until the new one is whole;
                who reads files of the old one at that moment may find them gone.
            cost: of whom to take seconds and memory, where the files are another's; None measures them.

        Raises:
            ValueError: the name cannot be a folder's.
            Exception: whatever ``build`` raises; its folder stays for the next attempt.
        """
        _check_name("stage", name)
        key = self.key(name, key_document)
        final, work = self._place(name, key), self._work / f"{name}-{key}"
        if not fresh and (found := self.find(name, key_document)):
            log.info("%s: in the store already (%s)", name, key)
            return found
        with self._lock(work.name):
            if fresh:
                _remove(work)
            elif final.exists():  # built while this process waited, or damaged
                if found := self.find(name, key_document):
                    return found
                self._set_aside(final, work.name)
            if not fresh and (found := self._fetched(name, key, work, final)):
                return found
            manifest = _finish(work, name, key_document, build, cost)
            _remove(work / CHECKPOINT)  # only now: until it is sealed, a stop must find it
            self._publish(work, final)
            if self.mirror is not None:
                self.mirror.send(name, key, final)
        return StageRef.of(manifest, final, cached=False)

    def alias(self, ref: StageRef, key_document: Mapping[str, Any], *, fresh: bool = False) -> StageRef:
        """A finished stage under another key as well, where what that depends on has come to the same.

        Its files get second names, and its costs are told as this one's.

        Args:
            ref: the stage.
            key_document: as of ``stage``.
            fresh: as of ``stage``.
        """
        manifest = verify(ref.path, ref.name, ref.key)

        def same(out: Path) -> None:
            for file in manifest.files:
                link(ref.path / file, out / file)

        found = self.stage(ref.name, key_document, same, fresh=fresh, cost=manifest.cost)
        return replace(found, cached=ref.cached, seconds=ref.seconds)

    def _fetched(self, name: str, key: str, work: Path, final: Path) -> StageRef | None:
        """The stage from the mirror, where it is there and sound, and none of it was begun here."""
        if self.mirror is None or work.exists():
            return None
        place = work.with_name(work.name + FETCHED)
        _remove(place)
        try:
            if not self.mirror.fetch(name, key, place):
                return None
            manifest = verify(place, name, key)
        except Damaged as damage:
            log.warning("%s holds %s/%s damaged: %s; building it here", self.mirror.url, name, key, damage)
            _remove(place)
            return None
        self._publish(place, final)
        return StageRef.of(manifest, final, cached=True)

    def publish_run(self, run_name: str, fill: Callable[[Path], None]) -> Path:
        """Writes ``runs/<run_name>/`` whole or not at all, in place of an older run of that name.

        Args:
            run_name: of letters, digits, dot, dash and underscore.
            fill: writes the run's files into the folder it is given.
        """
        _check_name("run", run_name)
        work = self._work / f"run={run_name}"
        with self._lock(work.name):
            _remove(work)
            work.mkdir(parents=True)
            fill(work)
            for path in work.rglob("*"):
                runtime.sync(path)
            self._publish(work, self.runs_dir / run_name)
        return self.runs_dir / run_name

    def clean(self) -> int:
        """Removes what dead work has left, checkpoints included, and returns the bytes freed. Live work stays."""
        freed = 0
        for path in sorted(self._work.glob("*")):
            try:
                with self._lock(path.name.removesuffix(OLD).removesuffix(FETCHED), wait=False):
                    freed += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                    _remove(path)
            except Timeout:
                log.info("%s is at work; left alone", path.name)
        return freed

    def _place(self, name: str, key: str) -> Path:
        """Where a finished stage lies."""
        return self.root / "stages" / name / key

    @contextmanager
    def _lock(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Holds the lock of that name; the system frees it when its holder dies.

        Raises:
            Timeout: another holds it, and this one is not to wait.
        """
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise
            log.warning("another process is at work on %s; waiting for it", name)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _set_aside(self, path: Path, name: str) -> None:
        """Moves a damaged directory to ``damaged/``, where a person can look at it."""
        aside = self.root / "damaged" / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, aside)
        log.warning("set aside as %s; building it again", aside)

    def _publish(self, work: Path, final: Path) -> None:
        """Renames ``work`` to ``final``; what was there before steps aside for that moment and is then removed."""
        final.parent.mkdir(parents=True, exist_ok=True)
        old = work.with_name(work.name + OLD)
        _remove(old)
        if final.exists():
            os.rename(final, old)
        os.rename(work, final)
        runtime.sync(final.parent)
        _remove(old)


def _finish(work: Path, name: str, document: Mapping[str, Any], build: Build, cost: Cost | None) -> Manifest:
    """Fills ``work`` and seals it, unless one that died just before publishing had done so already."""
    work.mkdir(parents=True, exist_ok=True)
    if (work / MANIFEST).exists():
        try:
            return verify(work, name, stage_key(name, document))
        except Damaged as damage:
            log.warning("unfinished work in %s: %s", work, damage)
    for path in [work / MANIFEST, *work.rglob(f"*{runtime.TEMP_SUFFIX}")]:
        path.unlink(missing_ok=True)
    start, cpu = time.perf_counter(), time.process_time()
    reset_peak_memory()
    waited = build(work) or 0.0
    spent = time.perf_counter() - start - waited, time.process_time() - cpu
    return seal(work, name, document, cost or Cost(*spent, peak_memory_mb(), peak_gpu_memory_mb()))


def _check_name(kind: str, name: str) -> None:
    """Raises ValueError for a name that is no plain folder name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a {kind}'s name must be letters, digits, dot, dash and underscore; got '{name}'")


def _remove(path: Path) -> None:
    """Removes a folder with all in it, or a file, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
