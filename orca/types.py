"""The plain values that travel between the rooms of the core. All are frozen and hold no behaviour of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from orca.errors import InputError

if TYPE_CHECKING:  # the command line names faults before torch is there
    import torch

InputKind = Literal["sequence", "grid", "table"]
TargetKind = Literal["classes", "multilabel", "scalar", "field", "mask"]
DENSE: tuple[TargetKind, ...] = ("field", "mask")  # one value, or more, for each cell of the input
BINARY: tuple[TargetKind, ...] = ("multilabel", "mask")  # a logit for each answer


@dataclass(frozen=True)
class LabeledSet:
    """Features with integer labels, the object that a dataset distance compares.

    Attributes:
        x: features, (n, d), floating point.
        y: labels, (n,), int64 in 0..K-1.
        names: the K names of the labels, or empty.
    """

    x: torch.Tensor
    y: torch.Tensor
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.y.ndim != 1 or len(self.x) != len(self.y):
            raise InputError(
                f"a labelled set needs x (n, d) and y (n,) of one length; got {tuple(self.x.shape)}, "
                f"{tuple(self.y.shape)}"
            )


@dataclass(frozen=True)
class Examples:
    """Inputs and targets of one split, ready for a model.

    Attributes:
        x: inputs, float32: ``sequence`` (n, C, L), ``grid`` (n, C, H, W), ``table`` (n, F) with categories as codes.
        y: targets: ``classes`` (n,) int64, ``multilabel`` (n, K) in {0, 1}, ``scalar`` (n, K), ``field`` (n, C, *S),
            NaN in cells that do not count, ``mask`` (n, C, *S) of 0 and 1, -1 in cells that do not count.
        length: valid positions of each sequence, (n,) int64, or None where all are full. The rest of x is zero.
        group: rows that have one answer together, such as the pieces of a long recording, share a number, (n,) int64;
            their targets are equal. None where each row has its own. In this order of numbers the answers stand.
    """

    x: np.ndarray
    y: np.ndarray
    length: np.ndarray | None = None
    group: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    def subset(self, index: np.ndarray) -> Examples:
        """The examples at ``index``, in that order."""
        beside = (None if a is None else a[index] for a in (self.length, self.group))
        return Examples(self.x[index], self.y[index], *beside)

    def firsts(self) -> np.ndarray:
        """The first row of each of the G answers, (G,)."""
        return np.arange(len(self)) if self.group is None else np.unique(self.group, return_index=True)[1]

    def truth(self) -> np.ndarray:
        """The target of each answer, (G, ...): what scores are measured against."""
        return self.y if self.group is None else self.y[self.firsts()]

    def answered(self, rows: np.ndarray) -> np.ndarray:
        """The mean of what rows say (n, ...) for each answer, (G, ...)."""
        if self.group is None:
            return rows
        names, place, count = np.unique(self.group, return_inverse=True, return_counts=True)
        total = np.zeros((len(names), *rows.shape[1:]), np.float64)
        np.add.at(total, place, rows)
        return (total / count.reshape(-1, *(1,) * (rows.ndim - 1))).astype(rows.dtype)


@dataclass(frozen=True)
class Layout:
    """What a model must know of a task's arrays to be built: numbers only, so it can be stored as JSON.

    Attributes:
        input: kind of the input.
        target: kind of the target.
        input_shape: (C, L), (C, H, W) or (F,), the longest sequence of train and validation.
        target_shape: (K,) for classes, multi-label and scalars, (C, *S) for fields and masks.
        cardinalities: for tables, the number of categories of each column, 0 for a numeric one.
        classes: names of the classes or of the target columns.
        missing: whether fields may have cells that do not count.
    """

    input: InputKind
    target: TargetKind
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    cardinalities: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    missing: bool = False

    @property
    def probable(self) -> bool:
        """Whether answers have probabilities."""
        return self.target == "classes" or self.target in BINARY


@dataclass(frozen=True)
class Provenance:
    """Where data comes from and under which terms."""

    source: str
    licence: str
    citation: str = ""
    synthetic: bool = False


@dataclass(frozen=True)
class Splits:
    """A task's data. ``test`` and ``shift`` are for the evaluate stage alone.

    Attributes:
        train: what models and baselines are fitted on.
        val: what selection uses; never part of test.
        test: opened once, at the end.
        shift: named out-of-distribution sets, opened with test.
        layout: shapes and kinds.
        notes: what was done to the data that a reader of the numbers must know.
        background: reads inputs that hold nothing to be found, (m, ...) as x, which training may mix in; None for none.
    """

    train: Examples
    val: Examples
    test: Examples
    layout: Layout
    shift: Mapping[str, Examples] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    background: Callable[[], np.ndarray] | None = None
