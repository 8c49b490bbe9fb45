"""What the pipeline must know of a task; everything else of it stays in its own file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from orca.tasks.encodings import Encoding
from orca.types import Examples, InputKind, Provenance, Splits, TargetKind

if TYPE_CHECKING:
    from orca.tasks.published import Published
    from orca.tasks.shifts import Shift

# Fitted on the training set, it answers examples with scores as the task's metric takes them.
Predictor = Callable[[Examples], Callable[[Examples], np.ndarray]]


@dataclass(frozen=True)
class Archive:
    """A file ``NAME.npz`` in the data folder.

    Attributes:
        name: of the file, without its suffix.
        keys: arrays that must be there.
    """

    name: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class TaskSpec:
    """One task: where its data is, how it is encoded and what is measured.

    Attributes:
        name: name in configs and results.
        title: one line for lists.
        input: kind of the input after encoding.
        target: kind of the target.
        metric: name of the metric that decides.
        provenance: source, licence, citation.
        encoding: how raw arrays of this task become model inputs, also at prediction time.
        load: reads or generates the data and returns checked splits; raises InputError where it cannot.
        fingerprint: sha256 that changes whenever ``load`` would return something else, but for what ``shifts`` make.
        missing: None where the data is here, else a sentence on how to get it.
        predictors: baselines of this task alone by name, such as a closed form; fitted on train.
        shifts: by which ``load`` makes shift sets of test; stored scores depend on them, stored trainings do not.
        published: files of a benchmark that it reads, or generates where there are none; None for other tasks.
        archive: the ``NAME.npz`` that it reads; None for other tasks.
        classes: names of classes or labels as the files number them, where they are known before these are read.
        gaps: whether NaN in a field to predict is a cell that does not count, and no fault.
        repeats: whether the published splits share samples, which is then no fault of the files.
    """

    name: str
    title: str
    input: InputKind
    target: TargetKind
    metric: str
    provenance: Provenance
    encoding: Encoding
    load: Callable[[], Splits]
    fingerprint: Callable[[], str]
    missing: Callable[[], str | None] = lambda: None
    predictors: Mapping[str, Predictor] = field(default_factory=dict)
    shifts: Mapping[str, Shift] = field(default_factory=dict)
    published: Published | None = None
    archive: Archive | None = None
    classes: tuple[str, ...] = ()
    gaps: bool = False
    repeats: bool = False

    @property
    def synthetic(self) -> bool:
        """Whether the data that it reads is generated."""
        return self.provenance.synthetic if self.published is None else self.published.synthetic()
