"""HDF5 files: chosen parts of large arrays, block by block, so that a file may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from orca.errors import InputError
from orca.tasks.readers.arrays import numbers

BLOCK = 2**26  # bytes read at once


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The open file, an ``h5py.File``.

    Raises:
        InputError: it is not there, or no HDF5 file.
    """
    import h5py

    if not path.is_file():
        raise InputError(f"there is no file {path}; expected an HDF5 file")
    try:
        file = h5py.File(path, "r")
    except OSError as fault:
        raise InputError(f"{path} is no HDF5 file, or it is damaged ({fault}); get or make it again") from fault
    with file:
        yield file


def dataset(file: Any, key: str, axes: Sequence[int | str]) -> Any:
    """A dataset of an open file, not yet read.

    Args:
        file: the file, or a group of it.
        key: the dataset's name.
        axes: as for ``check_axes``.

    Raises:
        InputError: it is not there, holds no numbers, or has another shape.
    """
    path = file.file.filename
    if key not in file:
        raise InputError(f"{path} lacks {key}; it has {listed(file)}")
    found = file[key]
    if not hasattr(found, "shape"):
        raise InputError(f"{key} in {path} is a group; expected an array ({', '.join(map(str, axes))})")
    return numbers(found, axes, f"{key} in {path}")


def listed(names: Iterable[str], most: int = 8) -> str:
    """The first names in words."""
    first = [*islice(names, most + 1)]
    return ", ".join([*first[:most], "..."] if len(first) > most else first) or "nothing"


def rows(found: Any, *index: int | slice) -> np.ndarray:
    """``found[:, *index]`` as float32, read block by block along the first axis."""
    size = max(1, BLOCK // max(1, int(np.prod(found.shape[1:])) * found.dtype.itemsize))
    parts = [
        np.asarray(found[(slice(start, start + size), *index)], dtype=np.float32)
        for start in range(0, len(found), size)
    ]
    return np.concatenate(parts)
