"""Published files that are pickles as ``.npz`` files that cannot run anything: what the tasks of these sets read."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orca.errors import InputError
from orca.runtime import TEMP_SUFFIX
from orca.tasks.readers.arrays import numbers

Arrays = Mapping[str, np.ndarray]
Told = Callable[[int, int], None]  # files done, files in all


@dataclass(frozen=True)
class Conversion:
    """What becomes of the pickles of one published set.

    Attributes:
        title: the set.
        files: patterns of its pickles inside the folder; each must match something.
        arrays: path of a pickle -> arrays of its ``.npz``; raises InputError for other content.
        target: path of a pickle -> path of its ``.npz``.
    """

    title: str
    files: tuple[str, ...]
    arrays: Callable[[Path], Arrays]
    target: Callable[[Path], Path] = lambda path: path.with_suffix(".npz")

    def there(self, folder: Path) -> bool:
        """Whether a folder has the pickles."""
        return all(any(folder.glob(pattern)) for pattern in self.files)

    def sources(self, folder: Path) -> list[Path]:
        """The pickles of a folder, in the order in which they are read.

        Raises:
            InputError: there is no such folder, or one of the files is not there.
        """
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}")
        found = {pattern: sorted(folder.glob(pattern)) for pattern in self.files}
        if lacking := [pattern for pattern, paths in found.items() if not paths]:
            raise InputError(f"{folder} lacks {', '.join(lacking)}, as {self.title} was published; nothing to convert")
        return list(dict.fromkeys(path for paths in found.values() for path in paths))


def convert(task: str, folder: Path, *, progress: Told = lambda done, whole: None) -> list[Path]:
    """Writes the safe files of a published set beside its pickles.

    A file that is there and newer than its pickle is kept, so that a conversion which was stopped goes on.

    Args:
        task: one that reads such a set; dashes and underscores of its name do not count.
        folder: where the published files are.
        progress: is told how many pickles are done.

    Returns:
        The ``.npz`` files, written or kept.

    Raises:
        InputError: nothing of that task needs conversion, files are missing, or one of them is damaged, is refused, or
            holds something else than was published.
    """
    conversion = conversion_of(task)
    sources = conversion.sources(folder)
    written: list[Path] = []
    for done, source in enumerate(sources):
        progress(done, len(sources))
        target = conversion.target(source)
        if not (target.is_file() and target.stat().st_mtime >= source.stat().st_mtime):
            write_npz(target, conversion.arrays(source))
        written.append(target)
    progress(len(sources), len(sources))
    return list(dict.fromkeys(written))


def conversion_of(task: str) -> Conversion:
    """The conversion of that task.

    Raises:
        InputError: there is none.
    """
    from orca.tasks import TASKS  # which has the conversions that are defined by means of this module

    published = {spec.name: spec.published for spec in TASKS if spec.published is not None}
    there = {name: files.conversion for name, files in published.items() if files.conversion is not None}
    for name, conversion in there.items():
        if _bare(task) == _bare(name):
            return conversion
    raise InputError(f"{task} has no pickles to convert; there are: {', '.join(there)}")


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ``.npz`` whole or not at all, without a copy of it in memory."""
    temporary = path.parent / f".{uuid.uuid4().hex}{TEMP_SUFFIX}"
    try:
        with temporary.open("xb") as stream:
            np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def as_dict(found: Any, place: Path | str, keys: Sequence[str]) -> dict[str, Any]:
    """What a pickle holds, if it is a dict with these keys.

    Raises:
        InputError: it is something else; the message names ``place``.
    """
    if not isinstance(found, dict):
        raise InputError(f"{place} holds a {type(found).__name__}; expected a dict with {', '.join(keys)}")
    if lacking := [key for key in keys if key not in found]:
        has = ", ".join(map(str, list(found)[:8])) or "nothing"
        raise InputError(f"{place} lacks {', '.join(lacking)}; it has {has}")
    return found


def as_numbers(value: Any, key: str, path: Path, axes: Sequence[int | str]) -> np.ndarray:
    """A value of a pickle as an array of numbers with these axes.

    Raises:
        InputError: it is something else.
    """
    try:
        found = np.asarray(value)
    except ValueError:  # rows of different lengths
        found = np.empty((), object)
    return numbers(found, axes, f"{key} in {path}")


def same_length(path: Path, **lengths: int) -> None:
    """Checks that arrays of one file have as many samples.

    Raises:
        InputError: they do not.
    """
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise InputError(f"{path} has {told}; expected one of each for every sample")
