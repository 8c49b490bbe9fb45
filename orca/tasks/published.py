"""Benchmark data: files as they were published, and a generator that writes the very same files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.runtime import digest, known_digest
from orca.tasks.converting import Arrays, Conversion
from orca.tasks.files import VARIABLE
from orca.tasks.raw import Raw

SIDE = "orca.json"  # beside generated files: how they were made
Draw = Callable[[int, int, np.random.Generator, str], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Size:
    """How much a generator makes.

    Attributes:
        train: samples of the training split.
        val: samples of the validation split; 0 where the published files have none.
        test: samples of the test split.
        points: of one sample: grid points per side, or what the task says.
    """

    train: int
    val: int
    test: int
    points: int

    def parts(self) -> dict[str, int]:
        """The splits that are made, with their counts."""
        return {name: count for name in ("train", "val", "test") if (count := getattr(self, name))}


@dataclass(frozen=True)
class Check:
    """A number that generated data must meet, by the acceptance checks of its task.

    Attributes:
        name: what it is.
        value: what was found.
        low: least value that passes.
        high: greatest value that passes.
    """

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def passed(self) -> bool:
        """Whether it lies within; NaN never does."""
        return self.low <= self.value <= self.high


@dataclass(frozen=True)
class Maker:
    """The generator of a task's files.

    Attributes:
        version: raised when its numbers change.
        small: what is generated where no data is found; takes seconds, at most a minute, on two cores.
        published: the shape of the published set.
        draw: (points, count, generator, part) -> that many samples of a split, by array. Called in other processes, so
            it must be a function of a module.
        write: (folder, arrays by split and name, points) -> writes the files in their published format.
        accept: (arrays by split and name, points) -> the acceptance checks.
        block: samples that one call of ``draw`` makes.
    """

    version: int
    small: Size
    published: Size
    draw: Draw
    write: Callable[[Path, Mapping[str, Arrays], int], None]
    accept: Callable[[Mapping[str, Arrays], int], Sequence[Check]]
    block: int = 50


@dataclass(frozen=True)
class Published:
    """The files of a benchmark's task.

    Attributes:
        name: of the task, and of its folder in ``ORCA_DATA``.
        files: names, or patterns, of what must be there.
        read: the folder's raw splits: ``train``, ``test``, where published ``val``, and ``shift_NAME``. Raises
            InputError that names the file, the key, what was expected and what came.
        maker: writes the same files.
        conversion: how these files are made of pickles, where it is pickles that were published.
        background: the folder's inputs that training may mix in; read where an augmentation asks for them.
        names: the folder's names of classes, where the files tell them; empty where they do not.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[[Path], Mapping[str, Raw]]
    maker: Maker
    conversion: Conversion | None = None
    background: Callable[[Path], np.ndarray] | None = None
    names: Callable[[Path], tuple[str, ...]] = lambda folder: ()

    def require(self, folder: Path) -> None:
        """Checks that a folder has all of its files.

        Raises:
            InputError: it has not; the message says which, and how to come by them.
        """
        lacking = [name for name in self.files if not any(folder.glob(name))]
        if not lacking:
            return
        convert = f"`orca data convert {self.name} {folder}`"
        if self.conversion is not None and self.conversion.there(folder):
            remedy = f"convert the published pickles that are there with {convert}"
        else:
            pickles = "" if self.conversion is None else f" and convert them with {convert}"
            remedy = f"put the published files there{pickles}, or generate some with `orca data make {self.name} DIR`"
        raise InputError(f"{folder} lacks {', '.join(lacking)}; {remedy}")

    def found(self) -> Path | None:
        """The folder that the user has given, None where there is none."""
        root = os.environ.get(VARIABLE)
        folder = Path(root) / self.name if root else None
        return folder if folder is not None and folder.is_dir() else None

    def synthetic(self) -> bool:
        """Whether what the task reads was generated."""
        folder = self.found()
        return folder is None or (folder / SIDE).is_file()

    def key(self, size: Size | None = None, seed: int = 0) -> str:
        """What names a generated set: the generator's version, the size, the seed."""
        made = {"generator": self.name, "version": self.maker.version, "seed": seed}
        return digest({**made, **asdict(size or self.maker.small)})

    def fingerprint(self) -> str:
        """A sha256 that changes with the files, of generated ones with their settings."""
        folder = self.found()
        if folder is None:
            return self.key()
        names = sorted({path for pattern in self.files for path in folder.glob(pattern)})
        return digest({path.relative_to(folder).as_posix(): known_digest(path) for path in names})
