"""The task that published files make: which folder is read, how its splits are framed, what a reader must know.

A task reads the folder of its name in ``ORCA_DATA``. Where there is none it generates a small set, once, and says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock

from orca.runtime import digest, read_json, user_cache
from orca.tasks.assemble import assemble, with_validation
from orca.tasks.encodings import Encoding
from orca.tasks.making import make
from orca.tasks.published import SIDE, Published
from orca.tasks.shifts import Shift, thinned
from orca.tasks.spec import Predictor, TaskSpec
from orca.types import Provenance, Splits, TargetKind

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """What is done with the raw splits of published files.

    Attributes:
        target: kind of the target.
        metric: name of the metric that decides.
        encoding: how inputs are encoded.
        classes: names of classes or labels.
        predictors: closed forms and the like by name, which stand beside the task's baselines.
        notes: what a reader of the numbers must know.
        version: raised when the same files give other splits.
        shift: how test becomes other sets, by name; a field's grid is made half as fine where nothing is said.
        gaps: whether NaN in a field is a cell that does not count.
        repeats: whether the published splits share samples, as the notes then say.
    """

    target: TargetKind
    metric: str
    encoding: Encoding
    classes: tuple[str, ...] = ()
    predictors: Mapping[str, Predictor] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())
    version: int = 1
    shift: Mapping[str, Shift] = field(default_factory=dict)
    gaps: bool = False
    repeats: bool = False


def published_task(
    published: Published, frame: Frame, *, title: str, provenance: Provenance, name: str = ""
) -> TaskSpec:
    """The task that published files make; a second task of the same files has a ``name`` of its own."""
    name = name or published.name
    return TaskSpec(
        name=name,
        title=title,
        input=frame.encoding.input,
        target=frame.target,
        metric=frame.metric,
        provenance=provenance,
        encoding=frame.encoding,
        load=partial(load_folder, published, frame),
        fingerprint=lambda: digest({"task": name, "files": published.fingerprint(), "version": frame.version,
                                    "target": frame.target, "encoding": frame.encoding,
                                    "predictors": sorted(frame.predictors)}),
        predictors=frame.predictors,
        shifts=_shifts(frame),
        published=published,
        classes=frame.classes,
        gaps=frame.gaps,
        repeats=frame.repeats,
    )  # fmt: skip


def load_folder(published: Published, frame: Frame, folder: Path | None = None) -> Splits:
    """The checked splits of a folder of published files.

    Raises:
        InputError: files are missing or broken; the message names them.
    """
    folder = folder or data_folder(published)
    parts = dict(published.read(folder))
    background = None if published.background is None else partial(published.background, folder)
    notes = [*frame.notes]
    if "val" not in parts:
        parts, note = with_validation(parts, frame.target)
        notes.append(note)
    if (folder / SIDE).is_file():
        facts = read_json(folder / SIDE)
        counts = ", ".join(f"{name} {count}" for name, count in facts["parameters"].items())
        notes.insert(
            0,
            f"synthetic: generated ({counts}, seed {facts['seed']}); scores do not compare with those on the published "
            "files",
        )
    return assemble(
        parts, encoding=frame.encoding, target=frame.target, classes=published.names(folder) or frame.classes,
        notes=notes, shifts=_shifts(frame), missing=frame.gaps, background=background,
    )  # fmt: skip


def _shifts(frame: Frame) -> Mapping[str, Shift]:
    if frame.target != "field" or frame.gaps:
        return frame.shift
    return frame.shift or {"coarse": thinned(2 if frame.encoding.input == "grid" else 1)}


def data_folder(published: Published) -> Path:
    """Where a task reads: what the user has given, else a small generated set, which is made if it is not there.

    Raises:
        InputError: the given folder lacks files.
    """
    folder = published.found()
    if folder is None:
        return _generated(published)
    published.require(folder)
    return folder


def _generated(published: Published) -> Path:
    folder = user_cache() / "tasks" / f"{published.name}-{published.key()[:12]}"
    if not (folder / SIDE).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # of runs that begin at once, one generates
            if not (folder / SIDE).is_file():
                logger.info("generating %s", folder.name)
                make(published, folder, published.maker.small)
    return folder
