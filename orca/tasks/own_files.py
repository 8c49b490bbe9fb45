"""Your own data from a table: which columns are inputs and targets, and which rows are test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib import recfunctions

from orca.errors import InputError
from orca.runtime import known_digest
from orca.tasks.assemble import hold_out, same_rows, with_validation
from orca.tasks.raw import Raw
from orca.tasks.readers.hub import is_hub
from orca.tasks.readers.images import read_images
from orca.tasks.readers.tables import as_text, read_table, spelled
from orca.tasks.readers.wav import read_sounds
from orca.types import TargetKind

Alike = Callable[[np.ndarray], np.ndarray]
TEST = 0.2  # share of the rows that becomes test where nothing says which are
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what.

    Attributes:
        targets: what is predicted.
        inputs: what it is predicted from; empty for all others.
        split: says train, val or test of each row; None for no such column.
    """

    targets: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    split: str | None = None


@dataclass(frozen=True)
class Gathered:
    """A table as raw splits.

    Attributes:
        parts: train, val and test; inputs are rows with a field for each column.
        classes: names of the classes in order of their labels, or of the target columns.
        notes: what was done to the data.
    """

    parts: Mapping[str, Raw]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def gather(
    path: Path, columns: Columns, target: TargetKind, *, test: Path | None = None, kind: str = "table"
) -> Gathered:
    """The raw splits of a table.

    Rows without a target are dropped. Test is another file, or what the split column says, or a fixed random fifth of
    the rows; validation what the split column says, or a fixed random 12 % of the rest. Both draws keep equal inputs on
    one side, and classes in their shares.

    Args:
        path: the table.
        columns: which of its columns are what.
        target: kind of the targets; a table has no fields.
        test: a table with the test rows.
        kind: of the inputs; of ``waveform`` and ``grid`` those are equal whose files hold the same, of ``dna`` those
            with the same letters.

    Raises:
        InputError: files that cannot be read, columns that are not there, targets of another kind.
    """
    if target not in ("classes", "multilabel", "scalar"):
        raise InputError(f"a table has no {target} to predict; target must be classes, multilabel or scalar")
    tables = {"train": read_table(path)} | ({} if test is None else {"test": read_table(test)})
    names = tables["train"].dtype.names or ()
    columns = _usual(columns, names, path)
    inputs = _inputs(columns, names, path)
    for name, rows in tables.items():
        _checked(rows, (*inputs, *columns.targets), path if name == "train" else test)
    _same_kinds(tables, (*inputs, *columns.targets), test)
    kept, notes = _with_targets(tables, columns.targets)
    if target == "classes":
        _check_classes(kept["train"], columns.targets)
    alike = partial(_alike, kind=kind, folder=folder_of(path))
    parts, told = _split(kept, columns, inputs, target, alike)
    classes, numbered = _targets(parts, columns.targets, target)
    made = {name: Raw(_rows(rows, inputs), numbered[name]) for name, rows in parts.items()}
    made, taken = with_validation(made, target, alike)
    return Gathered(made, classes, (*notes, told, taken))


def folder_of(path: Path) -> Path:
    """Where the paths start that a table names."""
    return path if path.is_dir() else path.parent


def _alike(rows: np.ndarray, kind: str, folder: Path) -> np.ndarray:
    """A number for each row, which rows with equal inputs share."""
    name, *more = rows.dtype.names or ("",)
    if kind not in ("dna", "waveform", "grid") or more or rows[name].dtype.kind != "U":
        return same_rows(rows)
    if kind == "dna":
        return same_rows(rows[name])
    files = [folder / text for text in rows[name].tolist()]
    return same_rows(np.array([known_digest(file) if file.is_file() else str(file) for file in files]))


def _usual(columns: Columns, names: Sequence[str], path: Path) -> Columns:
    """Folders, FASTA files and the hub name columns themselves; these are what they say unless told otherwise."""
    if is_hub(path) and columns.split is None and "split" in names:
        columns = replace(columns, split="split")
    held = next((name for name in ("file", "sequence") if name in names), None)
    if columns.targets or held is None or "label" not in names:
        return columns
    return Columns(("label",), columns.inputs or (held,), columns.split or ("split" if "split" in names else None))


def _inputs(columns: Columns, names: Sequence[str], path: Path) -> tuple[str, ...]:
    """The input columns, in the order of the table or as named."""
    if not columns.targets:
        raise InputError(f"{path} is a table: say with targets which of its columns are predicted: {', '.join(names)}")
    if both := [name for name in columns.inputs if name in (*columns.targets, columns.split)]:
        raise InputError(
            f"column {both[0]} is named as an input and as a target or split; an input must not tell these"
        )
    if columns.split is not None and columns.split not in names:
        raise InputError(f"{path} lacks the split column {columns.split}; it has {', '.join(names)}")
    rest = tuple(name for name in names if name not in (*columns.targets, columns.split))
    if not (columns.inputs or rest):
        raise InputError(f"{path} has no column besides {', '.join(names)}; at least one input is needed")
    return columns.inputs or rest


def _checked(rows: np.ndarray, wanted: Sequence[str], path: Path | None) -> None:
    names = rows.dtype.names or ()
    if lacking := [name for name in wanted if name not in names]:
        raise InputError(f"{path} lacks {', '.join(lacking)}; it has {', '.join(names)}")


def _same_kinds(tables: Mapping[str, np.ndarray], names: Sequence[str], test: Path | None) -> None:
    """Text where the other table has numbers would make text of these as well."""
    if "test" not in tables:
        return
    for name in names:
        train, other = tables["train"][name], tables["test"][name]
        if train.dtype.kind == "f" and other.dtype.kind == "U" and any(other):
            found = [row for row, text in enumerate(other) if text]
            row = next((row for row in found if not _is_number(other[row])), found[0])
            raise InputError(f"column {name} holds numbers in train; in row {row} of {test} it is {str(other[row])!r}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _with_targets(
    tables: Mapping[str, np.ndarray], targets: Sequence[str]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    kept: dict[str, np.ndarray] = {}
    dropped = 0
    for name, rows in tables.items():
        gone = np.zeros(len(rows), bool)
        for target in targets:
            values = rows[target]
            gone |= np.isnan(values) if values.dtype.kind == "f" else values == ""
        kept[name], dropped = rows[~gone], dropped + int(gone.sum())
        if not len(kept[name]):
            raise InputError(f"no row of {name} has a value in {', '.join(targets)}")
    return kept, (f"{dropped} rows without a target are left out",) if dropped else ()


def _check_classes(train: np.ndarray, targets: Sequence[str]) -> None:
    if len(targets) != 1:
        raise InputError(f"classes are one column; targets names {len(targets)}: {', '.join(targets)}")
    count = len(np.unique(train[targets[0]]))
    if count > max(2, len(train) // 2):
        raise InputError(f"column {targets[0]} has {count} classes in {len(train)} rows; use target scalar")


def _split(
    tables: Mapping[str, np.ndarray], columns: Columns, inputs: Sequence[str], target: TargetKind, alike: Alike
) -> tuple[dict[str, np.ndarray], str]:
    """The rows of train, test and where it is given val, and how test came to be that."""
    rows = tables["train"]
    parts = dict(tables)
    if columns.split is not None:
        parts = _by_column(rows, columns.split) | {name: t for name, t in tables.items() if name != "train"}
    if "test" in parts:
        return parts, "test: as given"
    train = parts["train"]
    labels = (
        np.unique(train[columns.targets[0]], return_inverse=True)[1] if target == "classes" else np.zeros(len(train))
    )
    held = hold_out(labels.astype(int), groups=alike(_rows(train, inputs)), fraction=TEST, seed="test")
    if not held.any():
        raise InputError(f"there are {len(train)} rows, too few different ones to take test from")
    note = f"test: a fixed random 20 % of the rows{', of each class' if target == 'classes' else ''}"
    return parts | {"test": train[held], "train": train[~held]}, note


def _by_column(rows: np.ndarray, name: str) -> dict[str, np.ndarray]:
    values = np.array([as_text(value, f"column {name}", row) for row, value in enumerate(rows[name].tolist())])
    found = np.array([PARTS.get(value.lower(), "") for value in values])
    if (found == "").any():
        row = int((found == "").argmax())
        raise InputError(f"column {name} says {str(values[row])!r} in row {row}; it must say train, val or test")
    if "train" not in found:
        raise InputError(f"column {name} says train of no row")
    return {part: rows[found == part] for part in ("train", "val", "test") if part in found}


def _rows(rows: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The rows with these columns alone, without gaps between them."""
    return recfunctions.repack_fields(rows[list(names)])


def _targets(
    parts: Mapping[str, np.ndarray], names: Sequence[str], target: TargetKind
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Names of the classes or target columns, and the targets of each split."""
    if target != "classes":
        return tuple(names), {part: _number_targets(rows, names) for part, rows in parts.items()}
    name = names[0]
    texts = {
        part: [spelled(as_text(value, f"column {name}", row)) for row, value in enumerate(rows[name].tolist())]
        for part, rows in parts.items()
    }
    classes = sorted({*texts["train"], *texts.get("val", ())}, key=_order)
    number = {text: label for label, text in enumerate(classes)}
    if unknown := [text for text in texts["test"] if text not in number]:
        raise InputError(f"column {name} is {unknown[0]!r} in test, a class that train lacks: {', '.join(classes)}")
    return tuple(classes), {part: np.array([number[text] for text in found]) for part, found in texts.items()}


def _order(text: str) -> tuple[bool, float, str]:
    """Numbers by value, before text."""
    return (False, float(text), text) if _is_number(text) else (True, 0.0, text)


def _number_targets(rows: np.ndarray, names: Sequence[str]) -> np.ndarray:
    if text := [name for name in names if rows[name].dtype.kind != "f"]:
        raise InputError(f"column {text[0]} holds text; a target of this kind needs numbers")
    return np.stack([rows[name] for name in names], axis=1)


def plain_inputs(part: Raw, kind: str, folder: Path, rate: int | None = None, *, colour: bool = False) -> Raw:
    """Input columns as another kind of input.

    Args:
        part: rows with a field for each column.
        kind: ``sequence``, numbers in a row as a signal (n, L); ``dna``, a column of letters (n,); ``waveform`` and
            ``grid``, a column that names files.
        folder: where the paths of files start.
        rate: of waveforms, in Hz.
        colour: whether grey images become RGB.

    Raises:
        InputError: the columns do not hold that, or a file cannot be read.
    """
    names = part.x.dtype.names or ()
    if kind == "sequence":
        if text := [name for name in names if part.x[name].dtype.kind != "f"]:
            raise InputError(f"column {text[0]} holds text; a sequence needs numbers in every input column")
        return Raw(np.stack([part.x[name] for name in names], axis=1), part.y)
    if len(names) != 1 or part.x[names[0]].dtype.kind != "U":
        what = "letters" if kind == "dna" else "paths of files"
        raise InputError(f"{kind} is one column of {what}; inputs are {', '.join(names)}: name the one with inputs")
    if kind == "dna":
        letters = part.x[names[0]]  # of this part alone: what is known of test must not shape the model
        return Raw(letters.astype(f"U{max(1, int(np.char.str_len(letters).max(initial=0)))}"), part.y)
    files = named_files(part, folder)
    if kind == "grid":
        return Raw(read_images(files, colour=colour), part.y)
    x, length = read_sounds(files, rate or 0)
    return Raw(x, part.y, length)


def named_files(part: Raw, folder: Path) -> list[Path]:
    """The files that the one input column names."""
    name = (part.x.dtype.names or ("",))[0]
    return [folder / text for text in part.x[name].tolist()]
