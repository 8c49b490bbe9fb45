"""Benchmark data: files as they were published, and a generator that writes the very same files.

A task reads the folder of its name in ``ORCA_DATA``. Where there is none it generates a small set, once, and says so.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock

from orca.runtime import digest, file_digest, read_json, user_cache
from orca.tasks.assemble import Raw, assemble, hold_out, same_rows
from orca.tasks.encodings import Encoding
from orca.tasks.files import VARIABLE
from orca.tasks.spec import Predictor, TaskSpec
from orca.types import InputError, InputKind, Provenance, Splits, TargetKind

logger = logging.getLogger(__name__)

SIDE = "orca.json"  # beside generated files: how they were made
Arrays = Mapping[str, np.ndarray]
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
        read: the folder's raw splits: ``train``, ``test``, where published ``val``, and ``shift_NAME``; and the inputs
            of ``background`` where there are some to mix in. Raises InputError that names the file, the key, what was
            expected and what came.
        maker: writes the same files.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[[Path], Mapping[str, Raw]]
    maker: Maker

    def lacking(self, folder: Path) -> list[str]:
        """Which of its files a folder does not have."""
        return [name for name in self.files if not any(folder.glob(name))]

    def found(self) -> Path | None:
        """The folder that the user has given, None where there is none."""
        root = os.environ.get(VARIABLE)
        folder = Path(root) / self.name if root else None
        return folder if folder is not None and folder.is_dir() else None

    def synthetic(self) -> bool:
        """Whether what the task reads was generated."""
        folder = self.found()
        return folder is None or (folder / SIDE).is_file()

    def folder(self) -> Path:
        """Where the task reads: what the user has given, else a small generated set, which is made if it is not there.

        Raises:
            InputError: the given folder lacks files.
        """
        folder = self.found()
        if folder is None:
            return self._generated()
        if lacking := self.lacking(folder):
            raise InputError(
                f"{folder} lacks {', '.join(lacking)}; put the published files there, or generate some elsewhere with "
                f"`orca data make {self.name} DIR`"
            )
        return folder

    def _generated(self) -> Path:
        from orca.tasks.making import make

        folder = user_cache() / "tasks" / f"{self.name}-{self.key()[:12]}"
        if not (folder / SIDE).is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):  # of runs that begin at once, one generates
                if not (folder / SIDE).is_file():
                    logger.info("generating %s", folder.name)
                    make(self, folder, self.maker.small)
        return folder

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
        return digest({path.relative_to(folder).as_posix(): file_digest(path) for path in names})


@dataclass(frozen=True)
class Frame:
    """What is done with the raw splits of published files.

    Attributes:
        input: kind of the input after encoding.
        target: kind of the target.
        metric: name of the metric that decides.
        encoding: how inputs are encoded.
        classes: names of classes or labels.
        predictors: closed forms and the like by name, which stand beside the task's baselines.
        notes: what a reader of the numbers must know.
        version: raised when the same files give other splits.
        missing: whether NaN in a field is a cell that does not count.
    """

    input: InputKind
    target: TargetKind
    metric: str
    encoding: Encoding
    classes: tuple[str, ...] = ()
    predictors: Mapping[str, Predictor] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())
    version: int = 1
    missing: bool = False


def published_task(
    published: Published, frame: Frame, *, title: str, provenance: Provenance, name: str = ""
) -> TaskSpec:
    """The task that published files make; a second task of the same files has a ``name`` of its own."""
    name = name or published.name
    return TaskSpec(
        name=name,
        title=title,
        input=frame.input,
        target=frame.target,
        metric=frame.metric,
        provenance=provenance,
        encoding=frame.encoding,
        load=partial(load_folder, published, frame),
        fingerprint=lambda: digest({"task": name, "files": published.fingerprint(), "version": frame.version,
                                    "target": frame.target, "encoding": frame.encoding,
                                    "predictors": sorted(frame.predictors)}),
        predictors=frame.predictors,
        published=published,
        classes=frame.classes,
    )  # fmt: skip


def load_folder(published: Published, frame: Frame, folder: Path | None = None) -> Splits:
    """The checked splits of a folder of published files.

    Raises:
        InputError: files are missing or broken; the message names them.
    """
    folder = folder or published.folder()
    parts = dict(published.read(folder))
    background = parts.pop("background", None)
    notes = [*frame.notes]
    if "val" not in parts:
        train = parts["train"]
        balanced = frame.target == "classes"
        groups = same_rows(train.x) if train.group is None else train.group
        val = hold_out(train.y if balanced else np.zeros(len(train.y), int), groups=groups)
        parts |= {"train": train.subset(~val), "val": train.subset(val)}
        notes.append("validation: a fixed random 12 % of train" + (", of each class" if balanced else ""))
    if (folder / SIDE).is_file():
        facts = read_json(folder / SIDE)
        counts = ", ".join(f"{name} {count}" for name, count in facts["parameters"].items())
        notes.insert(
            0,
            f"synthetic: generated ({counts}, seed {facts['seed']}); scores do not compare with those on the published "
            "files",
        )
    return assemble(
        parts, encoding=frame.encoding, target=frame.target, classes=frame.classes, notes=notes, missing=frame.missing,
        background=None if background is None else background.x,
    )  # fmt: skip
