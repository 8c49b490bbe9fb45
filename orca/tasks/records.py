"""Rows of a table with named columns, as numbers and codes: categories numbered by train, missing numbers filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from orca.errors import InputError
from orca.tasks.readers.tables import as_text, spelled
from orca.types import InputKind

LONGEST = 1000  # letters of a category
UNKNOWN = 0  # the code of a missing category, and of one that train does not have


class Column(BaseModel):
    """One column of a table.

    Attributes:
        name: of the column.
        categories: what train has, in order of their codes, which begin at 1; None for a column of numbers.
        fill: what stands for a missing number: the mean over train.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    categories: tuple[str, ...] | None = None
    fill: float = 0.0


class RecordEncoding(BaseModel):
    """Rows of named columns; code 0 of a category stands for a missing value and for one that train does not have.

    Attributes:
        columns: in the order of the inputs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: ClassVar[InputKind] = "table"

    kind: Literal["records"] = "records"
    columns: tuple[Column, ...] = Field(min_length=1)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of codes of each column, 0 for a numeric one."""
        return tuple(0 if c.categories is None else len(c.categories) + 1 for c in self.columns)

    def told(self, train: np.ndarray) -> list[str]:
        """Which columns lack values in the training rows, and what stands for these."""
        gone = {c.name: int((train[c.name] == "").sum() if train[c.name].dtype.kind == "U" else
                            np.isnan(train[c.name]).sum()) for c in self.columns}  # fmt: skip
        named = ", ".join(f"{name} {count}" for name, count in gone.items() if count)
        note = (
            "missing numbers have the mean over train; missing categories, and those that train lacks, a code of their"
        )
        return [f"{note} own; missing in train: {named or 'none'}"]

    def encode(self, raw: np.ndarray, length: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """Brings rows (n,) with a field for each column, in any order, to (n, F) float32.

        Raises:
            InputError: no rows with fields, a column is missing, or text where train has numbers.
        """
        if length is not None:
            raise InputError("a table has no valid length; leave the length array out")
        names = raw.dtype.names
        if names is None or raw.ndim != 1:
            raise InputError(
                f"the inputs are rows of named columns, such as a CSV file has; got {raw.dtype} of shape {raw.shape}"
            )
        if lacking := [column.name for column in self.columns if column.name not in names]:
            raise InputError(f"the table lacks {', '.join(lacking)}; it has {', '.join(names)}")
        coded = [_numbers(raw[c.name], c) if c.categories is None else _codes(raw[c.name], c) for c in self.columns]
        return np.stack(coded, axis=1).astype(np.float32), None


def fit_records(train: np.ndarray, columns: Sequence[str], categorical: Sequence[str] = ()) -> RecordEncoding:
    """The encoding that the training rows make: their categories and their means, and nothing of other rows.

    Args:
        train: rows (n,) with a field for each column.
        columns: which of them are inputs.
        categorical: columns of numbers that are categories too; text always is.

    Raises:
        InputError: a column that is empty in train.
    """
    return RecordEncoding(columns=tuple(_fitted(train[name], name, name in categorical) for name in columns))


def _fitted(values: np.ndarray, name: str, coded: bool) -> Column:  # noqa: FBT001 - internal
    if values.dtype.kind == "f" and not coded:
        known = values[np.isfinite(values)]
        if not len(known):
            raise InputError(f"column {name} has no value in train; leave it out")
        return Column(name=name, fill=float(known.mean()))
    found = sorted({text for text in _categories(values, name) if text})
    if not found:
        raise InputError(f"column {name} has no value in train; leave it out")
    if (longest := max(map(len, found))) > LONGEST:
        raise InputError(
            f"column {name} has a text of {longest} letters, more than {LONGEST}; it is no category: leave it out"
        )
    return Column(name=name, categories=tuple(found))


def _texts(values: np.ndarray, name: str) -> list[str]:
    if values.dtype.kind == "U":
        return np.char.strip(values).tolist()
    return [as_text(value, f"column {name}", row) for row, value in enumerate(values.tolist())]


def _categories(values: np.ndarray, name: str) -> list[str]:
    return [spelled(text) for text in _texts(values, name)]


def _codes(values: np.ndarray, column: Column) -> np.ndarray:
    code = {spelled(text): number for number, text in enumerate(column.categories or (), 1)}
    return np.array([code.get(text, UNKNOWN) for text in _categories(values, column.name)], np.float64)


def _numbers(values: np.ndarray, column: Column) -> np.ndarray:
    if values.dtype.kind in "iufb":
        found = values.astype(np.float64)
    else:
        found = np.array(
            [_number(text, row, column) for row, text in enumerate(_texts(values, column.name))], np.float64
        )
    return np.where(np.isnan(found), column.fill, found)


def _number(text: str, row: int, column: Column) -> float:
    try:
        return float(text) if text else np.nan
    except ValueError as fault:
        raise InputError(f"column {column.name} holds numbers in train; got {text!r} in row {row}") from fault
