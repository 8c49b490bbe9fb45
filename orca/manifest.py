"""What a finished directory says of itself: ``manifest.json`` with the checksum of every file, and its verification."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from orca import runtime

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint"  # a stage keeps here what only serves to go on after a stop; it is not published
# Directories whose checksums this process has verified, with the state of their files at that time.
_verified: dict[str, list[tuple[str, int, int]]] = {}


class Damaged(Exception):
    """A directory is not as its manifest says; the text names what is wrong."""


class Cost(NamedTuple):
    """What building a stage took, as its manifest tells."""

    seconds: float
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None

    @classmethod
    def together(cls, costs: Iterable[Cost]) -> Cost:
        """Of several stages, one after the other: the sum of times, the highest of peaks; None where none is known."""
        seconds, cpu, *peaks = ([value for value in column if value is not None] for column in zip(*costs, strict=True))
        return cls(sum(seconds), sum(cpu) if cpu else None, *(max(peak, default=None) for peak in peaks))

    def rounded(self) -> dict[str, Any]:
        """By name, to three digits after the point."""
        return {name: None if value is None else round(value, 3) for name, value in self._asdict().items()}


class Manifest(BaseModel):
    """The content of ``manifest.json``.

    Attributes:
        stage: the stage's name.
        key: the stage's key, made of name and document.
        document: all that the result depends on: config, inputs' keys, fingerprints, version.
        files: sha256 (hex) by relative path.
        versions: of the packages that made it.
        seconds: what building it took; after a stop, the last part only.
        cpu_seconds: the processor time of it, summed over cores, which other work beside hardly changes; None where
            that was not measured yet.
        peak_memory_mb: the most memory that the process held meanwhile, MiB; None where that was not measured yet.
        peak_gpu_memory_mb: the same of a CUDA device; None without one.
        created: time, ISO 8601, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    document: dict[str, Any]
    files: dict[str, str]
    versions: dict[str, str]
    seconds: float
    created: str
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None

    @property
    def cost(self) -> Cost:
        """What building it took."""
        return Cost(self.seconds, self.cpu_seconds, self.peak_memory_mb, self.peak_gpu_memory_mb)


@dataclass(frozen=True)
class StageRef:
    """A finished stage.

    Attributes:
        name: the stage's name.
        key: 24 hex digits, made from what the stage depends on.
        path: its directory.
        cached: whether it was there before.
        seconds: what building it took, also where it was there before; after a stop, the last part only.
        peak_memory_mb: the most memory that its process held meanwhile, MiB; None of a stage older than this record.
        peak_gpu_memory_mb: the same of a CUDA device; None without one.
    """

    name: str
    key: str
    path: Path
    cached: bool
    seconds: float
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None

    @classmethod
    def of(cls, manifest: Manifest, path: Path, *, cached: bool) -> StageRef:
        """The stage that a manifest is of."""
        peaks = manifest.peak_memory_mb, manifest.peak_gpu_memory_mb
        return cls(manifest.stage, manifest.key, path, cached, manifest.seconds, *peaks)


def stage_key(name: str, document: Mapping[str, Any]) -> str:
    """The key of a stage: 24 hex digits from its name and all that its result depends on.

    Raises:
        TypeError: the document holds something that has no JSON form.
        ValueError: a number in the document is not finite.
    """
    return runtime.digest({"stage": name, "document": _as_read_back(document)})[:24]


def contents(folder: Path) -> list[str]:
    """Relative paths of the files to be published, sorted: all but the manifest and the checkpoint."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(path.as_posix() for path in paths if path.parts[0] not in (CHECKPOINT, MANIFEST))


def link(file: Path, to: Path) -> None:
    """A second name for a finished file; a copy where the file system has no links."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, to)
    except OSError:
        shutil.copy(file, to)


def seal(folder: Path, name: str, document: Mapping[str, Any], cost: Cost) -> Manifest:
    """Brings the files of a finished stage to the disk, then writes the manifest, whole or not at all.

    Args:
        folder: where the stage's files lie.
        name: the stage's name.
        document: what its key is made of.
        cost: what building took.
    """
    files = {}
    for path in contents(folder):
        runtime.sync(folder / path)
        files[path] = runtime.file_digest(folder / path)
    manifest = Manifest(
        stage=name,
        key=stage_key(name, document),
        document=_as_read_back(document),
        files=files,
        versions=runtime.versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **cost.rounded(),
    )
    runtime.atomic_write(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def verify(folder: Path, name: str, key: str) -> Manifest:
    """The manifest of a stage's directory, once all is found to be as it says.

    Checksums are computed once in a process and again only for a directory whose files' sizes or times have changed.

    Raises:
        Damaged: the manifest or a file is missing, changed or unreadable.
        PermissionError: this user may not read the directory, which is no damage.
    """
    place = os.path.abspath(folder)
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        if (manifest.stage, manifest.key, stage_key(name, manifest.document)) != (name, key, key):
            raise Damaged(f"{MANIFEST} is that of another stage, or was changed")
        state = _state(folder, manifest.files)
        if _verified.get(place) != state:
            changed = [path for path, sha in manifest.files.items() if runtime.file_digest(folder / path) != sha]
            if changed:
                raise Damaged(f"changed since it was written: {', '.join(changed[:3])}")
    except PermissionError:
        raise
    except ValidationError as error:
        raise Damaged(f"{MANIFEST} cannot be understood") from error
    except OSError as error:
        raise Damaged(f"{error.filename or folder}: {error.strerror}") from error
    _verified[place] = state
    return manifest


def _as_read_back(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as JSON gives it back: keys are text, tuples are lists."""
    return json.loads(runtime.canonical(document))


def _state(folder: Path, paths: Iterable[str]) -> list[tuple[str, int, int]]:
    """Path, size and time of change of each file."""
    stats = ((path, (folder / path).stat()) for path in sorted(paths))
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
