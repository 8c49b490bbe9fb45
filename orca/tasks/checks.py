"""The door: faults of a task's data, all found before any work starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from orca.errors import InputError
from orca.types import DENSE, Examples, Splits

PIECE = 1024  # rows looked at together


@dataclass(frozen=True)
class Finding:
    """Something that a user of the data must know.

    Attributes:
        where: the file, split or array.
        what: what was found there, with its first place.
        wrong: whether it must be mended; else it is worth knowing.
    """

    where: str
    what: str
    wrong: bool = True


def report(faults: list[str], what: str = "the data") -> None:
    """Raises one error for all faults, or none.

    Raises:
        InputError: there are faults.
    """
    if len(faults) == 1:
        raise InputError(f"{what} cannot be used: {faults[0]}")
    if faults:
        raise InputError(f"{what} cannot be used, {len(faults)} faults:\n" + "\n".join(f"- {f}" for f in faults))


def check_lengths(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Checks that inputs and targets of each split pair up and that no split is empty.

    Args:
        pairs: (x, y) of each split by its name.

    Raises:
        InputError: they do not.
    """
    report([fault for kind in (_unequal, _empty) for fault in _first(kind(pairs))])


def check_splits(splits: Splits) -> None:
    """Checks a task's data before work starts.

    Args:
        splits: what ``load`` is about to return.

    Raises:
        InputError: the first fault of each kind, all in one message: lengths that differ, empty splits, NaN or
            infinite values, shapes that do not fit the layout, labels that are not 0..K-1, classes that train lacks,
            a single class, multi-label targets other than 0 and 1, masks other than 0, 1 and -1, fields and masks of
            which no cell counts; lengths beside fields or masks, or validation on another grid than train; or a shift
            set called test.
    """
    if "test" in splits.shift:
        report(["the shift set 'test' has the name of the test set; call it otherwise"])
    parts = _parts(splits)
    pairs = {name: (e.x, e.y) for name, e in parts.items()}
    faults = [*_first(_unequal(pairs)), *_first(_empty(pairs))]
    faults += [*_first(_not_finite(parts, missing=splits.layout.missing)), *_first(_shapes(splits))]
    report(faults + _label_faults(splits))


def _parts(splits: Splits) -> dict[str, Examples]:
    shift = {f"shift_{name}": examples for name, examples in splits.shift.items()}
    return {"train": splits.train, "val": splits.val, "test": splits.test, **shift}


def _first(faults: Iterator[str]) -> list[str]:
    return [fault for fault in [next(faults, None)] if fault is not None]


def _unequal(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[str]:
    for name, (x, y) in pairs.items():
        if np.ndim(x) == 0 or np.ndim(y) == 0 or len(x) != len(y):
            yield f"x_{name} has shape {np.shape(x)} and y_{name} {np.shape(y)}; they need one target per input"


def _empty(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[str]:
    for name, (x, _) in pairs.items():
        if np.size(x) == 0:
            yield f"split {name} is empty, x_{name} has shape {np.shape(x)}; every split needs at least one example"


def _not_finite(parts: Mapping[str, Examples], *, missing: bool) -> Iterator[str]:
    for name, examples in parts.items():
        for array, values in (("x", examples.x), ("y", examples.y)):
            if values.dtype.kind != "f" or values.size == 0:
                continue
            pieces = (values[i : i + PIECE] for i in range(0, len(values), PIECE))  # they may be larger than memory
            wrong = np.isinf if missing and array == "y" else _unusable  # NaN is a cell that does not count
            bad = np.concatenate([wrong(v).reshape(len(v), -1).sum(1) for v in pieces])
            if not (rows := np.flatnonzero(bad)).size:
                continue
            yield (
                f"{array}_{name} has {int(bad.sum())} NaN or infinite values in {len(rows)} of {len(bad)} rows, "
                f"first in row {rows[0]}; drop these rows or fill the values"
            )


def _unusable(values: np.ndarray) -> np.ndarray:
    return np.logical_not(np.isfinite(values))


def _shapes(splits: Splits) -> Iterator[str]:
    layout = splits.layout
    axes = {"sequence": 3, "grid": 4, "table": 2}[layout.input]
    wanted = {"classes": 1, "multilabel": 2, "scalar": 2, "field": axes, "mask": axes}[layout.target]
    if layout.target in DENSE and layout.input == "table":
        yield f"a table has no {layout.target} to predict; target must be classes, multilabel or scalar"
    for name, e in _parts(splits).items():
        if e.x.ndim != axes or e.x.shape[1] != layout.input_shape[0]:
            yield f"x_{name} has shape {e.x.shape}; {layout.input} like x_train is (n, {_text(layout.input_shape)})"
        if e.y.ndim != wanted:
            yield f"y_{name} has shape {e.y.shape}; target {layout.target} needs {wanted} axes once a channel is added"
        elif wanted > 1 and e.y.shape[1] != layout.target_shape[0]:
            yield f"y_{name} has {e.y.shape[1]} columns or channels; y_train has {layout.target_shape[0]}"
        elif layout.target in DENSE and e.y.shape[2:] != e.x.shape[2:]:
            yield f"y_{name} covers {_text(e.y.shape[2:])} points and x_{name} {_text(e.x.shape[2:])}; they must agree"
        elif layout.target in DENSE and e.length is not None:
            instead = "resample or cut the inputs" + (", or set y to -1 behind their end" * (layout.target == "mask"))
            yield f"length_{name} is given, but a {layout.target} has a value at every point; {instead}"
        elif layout.target in DENSE and name == "val" and e.x.shape[2:] != layout.input_shape[1:]:
            yield (
                f"x_val covers {_text(e.x.shape[2:])} points and x_train {_text(layout.input_shape[1:])}; validation "
                "needs the grid of train, another one may be test or a shift set"
            )


def _text(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _label_faults(splits: Splits) -> list[str]:
    parts = {name: e for name, e in _parts(splits).items() if e.y.size}
    if splits.layout.target == "multilabel":
        return _first(_not_binary(parts))
    if splits.layout.target == "mask":
        return _first(_not_mask(parts))
    if splits.layout.missing:
        return _first(_nothing_counts(parts))
    if splits.layout.target != "classes":
        return []
    broken = _first(_not_integers(parts))
    if broken or "train" not in parts:
        return broken
    return [*_first(_train_classes(splits)), *_first(_unknown_classes(splits, parts))]


def _not_binary(parts: Mapping[str, Examples]) -> Iterator[str]:
    for name, e in parts.items():
        if (other := e.y[~np.isin(e.y, (0, 1))]).size:
            yield f"y_{name} has values other than 0 and 1, such as {other[0]}; multilabel is (n, K) of 0 and 1"


def _not_mask(parts: Mapping[str, Examples]) -> Iterator[str]:
    for name, e in parts.items():
        if (other := e.y[~np.isin(e.y, (-1, 0, 1))]).size:
            yield f"y_{name} has values other than 0, 1 and -1, such as {other[0]}; -1 is a cell that does not count"
        elif len(found := np.unique(e.y[e.y >= 0])) < 2:
            there = f"only {found[0]:g}" if len(found) else "none that counts"
            yield f"y_{name} has {there} in its cells; a mask needs both 0 and 1 in every split"


def _nothing_counts(parts: Mapping[str, Examples]) -> Iterator[str]:
    for name, e in parts.items():
        if (empty := np.isnan(e.y).reshape(len(e.y), -1).all(1)).any():
            yield f"y_{name} has only NaN in {empty.sum()} rows, first row {empty.argmax()}; drop rows without a target"


def _not_integers(parts: Mapping[str, Examples]) -> Iterator[str]:
    for name, e in parts.items():
        if e.y.dtype.kind not in "iu":
            odd = e.y[e.y != np.round(e.y)] if e.y.dtype.kind == "f" else e.y
            value = odd.reshape(-1)[0] if odd.size else e.y.reshape(-1)[0]
            yield f"y_{name} has labels that are not integers 0..K-1, such as {value!r}; number the classes from 0"


def _train_classes(splits: Splits) -> Iterator[str]:
    found = np.unique(splits.train.y)
    count = splits.layout.target_shape[0]
    if found[0] < 0 or found[-1] >= count:
        yield f"y_train has labels {found[0]}..{found[-1]}; they must be 0..K-1; number the classes from 0"
    elif len(found) == 1:
        yield f"y_train has one class only ({found[0]}); nothing can be learned, at least two are needed"
    elif len(found) < count:
        gaps = np.flatnonzero(found != np.arange(len(found)))
        first = int(gaps[0]) if gaps.size else len(found)
        yield (
            f"y_train has {len(found)} classes in labels {found[0]}..{found[-1]} of 0..{count - 1} and lacks {first}; "
            "labels must be 0..K-1, each in train; number the classes from 0"
        )


def _unknown_classes(splits: Splits, parts: Mapping[str, Examples]) -> Iterator[str]:
    known = np.unique(splits.train.y)
    for name, e in parts.items():
        if (unknown := np.setdiff1d(e.y, known)).size:
            yield f"y_{name} has classes that train lacks: {few(unknown)}; train needs examples of every class"


def few(values: np.ndarray) -> str:
    """The first of some values in words."""
    return ", ".join(str(v) for v in values[:5]) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
