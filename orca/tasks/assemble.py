"""From raw arrays of each split to checked Splits: validation taken from train, encoding, common lengths, layout."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np

from orca.errors import InputError
from orca.runtime import rng
from orca.tasks.checks import check_lengths, check_splits
from orca.tasks.encodings import Encoding, GridEncoding, TableEncoding
from orca.tasks.raw import SHIFT, Raw
from orca.tasks.records import RecordEncoding
from orca.tasks.shifts import Shift
from orca.types import DENSE, Examples, Layout, Splits, TargetKind

VALIDATION = 0.12  # share of train that becomes validation where the source has none


def same_rows(x: np.ndarray) -> np.ndarray:
    """A group number for each row of x, (n,) int64; identical rows share it, text whatever its case."""
    seen: dict[bytes, int] = {}
    x = np.asarray(x)
    rows = np.char.upper(x) if x.dtype.kind in "SU" else x
    return np.array([seen.setdefault(row_digest(row), len(seen)) for row in rows], dtype=np.int64)


def row_digest(row: np.ndarray) -> bytes:
    """What tells the bytes of a row from those of another, in little memory."""
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def with_validation(
    parts: Mapping[str, Raw], target: TargetKind, alike: Callable[[np.ndarray], np.ndarray] = same_rows
) -> tuple[dict[str, Raw], str]:
    """The raw splits with a validation split, taken from train where there is none, and a note on it.

    Classes keep their shares, but for labels that are no integers yet: the checks report them. ``alike`` gives inputs
    that are to stay together one number.

    Raises:
        InputError: train has too few different rows.
    """
    if "val" in parts:
        return dict(parts), "validation: as given"
    train = parts["train"]
    labels = as_targets(train.y, target) if target == "classes" else np.zeros(len(train.y), int)
    balanced = target == "classes" and labels.ndim == 1 and labels.dtype.kind == "i"
    groups = alike(train.x) if train.group is None else train.group
    val = hold_out(labels if balanced else np.zeros(len(train.y), int), groups=groups)
    if not val.any():
        raise InputError(
            f"train has {len(train.y)} rows, too few different ones to take validation from; give more, or validation "
            "data of your own"
        )
    note = (
        "validation: a fixed random 12 % of train" + (", of each class" if balanced else "") + "; equal inputs together"
    )
    return {**parts, "train": train.subset(~val), "val": train.subset(val)}, note


def hold_out(
    labels: np.ndarray, *, groups: np.ndarray, fraction: float = VALIDATION, seed: str = "validation"
) -> np.ndarray:
    """A mask (n,) of the rows that are held out, whole groups at a time, in equal shares of each label.

    The choice depends on ``seed``, which belongs to the task, and never on the seed of a run.

    Args:
        labels: (n,) integers to balance; zeros where there is nothing to balance.
        groups: (n,) integers; rows of one group stay together. A group counts under the label of its first row.
        fraction: share of the groups of each label; at least one where there are two.
        seed: names the draw.
    """
    members, first = np.unique(groups, return_index=True)
    held: list[np.ndarray] = []
    for label in np.unique(labels[first]):
        pool = members[labels[first] == label]
        count = min(max(1, round(fraction * len(pool))), len(pool) - 1)
        held.append(rng(seed, int(label)).permutation(pool)[:count])
    return np.isin(groups, np.concatenate(held)) if held else np.zeros(len(groups), bool)


def assemble(
    parts: Mapping[str, Raw],
    *,
    encoding: Encoding,
    target: TargetKind,
    classes: Sequence[str] = (),
    notes: Sequence[str] = (),
    shifts: Mapping[str, Shift] = MappingProxyType({}),
    background: Callable[[], np.ndarray] | None = None,
    missing: bool = False,
) -> Splits:
    """Encodes the raw splits, brings sequences to the length of the longest of train and validation, and checks them.

    Args:
        parts: ``train``, ``val``, ``test`` and any ``shift_NAME``.
        encoding: how inputs are encoded.
        target: kind of the targets.
        classes: names of the classes or target columns, or empty.
        notes: what was done to the data.
        shifts: by name, what makes a shift set of test.
        background: reads raw inputs that training may mix in, of the length of all others; none of them are no fault.
        missing: whether NaN in a field is a cell that does not count, and no fault.

    Raises:
        InputError: a fault in the data; all that were found are in the message.
    """
    check_lengths({name: (part.x, part.y) for name, part in parts.items()})
    examples = {name: _encoded(part, encoding, target) for name, part in parts.items()}
    examples |= {f"{SHIFT}{k}": _encoded(shift.of(parts["test"]), encoding, target) for k, shift in shifts.items()}
    if encoding.input == "sequence" and target not in DENSE:  # a field's target ends where its input does
        examples = _of_one_length(examples)
    train = examples["train"]
    layout = Layout(
        input=encoding.input,
        target=target,
        input_shape=train.x.shape[1:],
        target_shape=_target_shape(train.y, target, classes),
        cardinalities=encoding.cardinalities if isinstance(encoding, TableEncoding | RecordEncoding) else (),
        classes=tuple(classes),
        missing=missing,
    )
    shift = {name.removeprefix(SHIFT): e for name, e in examples.items() if name.startswith(SHIFT)}
    behind = None if background is None else partial(_behind, background, encoding)
    splits = Splits(train, examples["val"], examples["test"], layout, shift, tuple(notes), behind)
    check_splits(splits)
    return splits


def _behind(background: Callable[[], np.ndarray], encoding: Encoding) -> np.ndarray:
    raw = background()
    return encoding.encode(raw)[0] if len(raw) else raw


def _encoded(part: Raw, encoding: Encoding, target: TargetKind) -> Examples:
    x, length = encoding.encode(part.x, part.length)
    y = part.y
    if target in DENSE and isinstance(encoding, GridEncoding) and encoding.channels == "last" and y.ndim == 4:
        y = np.moveaxis(y, -1, 1)  # (n, H, W, C) to (n, C, H, W), as the input
    return Examples(x, as_targets(y, target, axes=x.ndim), length, part.group)


def as_targets(y: np.ndarray, target: TargetKind, *, axes: int = 0) -> np.ndarray:
    """Targets in the layout's form and type; what cannot be brought to it is left as it is for the checks to report.

    Args:
        y: raw targets, (n,) or (n, ...).
        target: their kind.
        axes: number of axes of the inputs, which a field follows.
    """
    if y.dtype.kind not in "iufb":
        return y
    if target == "classes":
        whole = y.dtype.kind != "f" or bool((np.isfinite(y) & (y == np.round(y))).all())
        return y.astype(np.int64) if whole else y
    if (target == "scalar" and y.ndim == 1) or (target in DENSE and y.ndim == axes - 1):
        y = y[:, None]  # (n, 1) or (n, 1, *S)
    return np.ascontiguousarray(y, dtype=np.float32)


def _target_shape(y: np.ndarray, target: TargetKind, classes: Sequence[str]) -> tuple[int, ...]:
    if target != "classes":
        return y.shape[1:]
    if classes:
        return (len(classes),)
    return (int(y.max()) + 1,) if y.size and y.dtype.kind == "i" else (0,)


def _of_one_length(examples: Mapping[str, Examples]) -> dict[str, Examples]:
    """Zeros after the end of sequences shorter than the longest of train and validation; all tell their true length.

    Longer ones of other splits stay as they are: what a model is built for must not follow from test data.
    """
    longest = max(examples[name].x.shape[-1] for name in ("train", "val"))
    if all(e.length is None and e.x.shape[-1] == longest for e in examples.values()):
        return dict(examples)
    return {name: _padded(e, longest) for name, e in examples.items()}


def _padded(examples: Examples, longest: int) -> Examples:
    missing = max(0, longest - examples.x.shape[-1])
    x = np.pad(examples.x, ((0, 0), (0, 0), (0, missing))) if missing else examples.x
    length = np.full(len(x), examples.x.shape[-1], np.int64) if examples.length is None else examples.length
    return Examples(x, examples.y, length, examples.group)
