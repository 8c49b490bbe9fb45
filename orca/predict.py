"""Predictions for a file: raw inputs or a table in, an ``.npz`` out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.model import AdaptedModel
from orca.runtime import atomic_write
from orca.tasks.readers.archives import read_archive
from orca.tasks.readers.tables import TABLES, read_table, table_suffix


def predict_file(model: AdaptedModel, source: Path, target: Path) -> dict[str, np.ndarray]:
    """Reads ``x`` (and ``length``) or a table's rows; writes ``prediction`` and any ``probability``.

    Args:
        model: the adapted model.
        source: the file to read; arrays in the form of the task's raw data as ``read_archive`` takes them, or
            a table with its input columns.
        target: the file to write, ``.npz``.

    Raises:
        InputError: a file of another kind, or data that does not fit the model.
    """
    if target.suffix != ".npz":
        raise InputError(f"predictions are written as .npz; got {target}")
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target} is the input itself; name another file for the predictions")
    archive = table_suffix(source) not in TABLES or (source / "x.npy").is_file()
    arrays = read_archive(source, ("x",)) if archive else {"x": read_table(source)}
    x, length = arrays["x"], arrays.get("length")
    made = {"prediction": model.predict(x, length)}
    if model.layout.probable:
        made["probability"] = model.predict_proba(x, length)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **made)  # type: ignore[arg-type]
    atomic_write(target, buffer.getvalue())
    return made
