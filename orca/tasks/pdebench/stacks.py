"""The HDF5 files of PDEBench's two-dimensional tasks that hold one array over all samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from orca.tasks.pdebench.groups import split_last
from orca.tasks.pdebench.merged import frame_at, split_first, write_stack
from orca.tasks.raw import SHIFT, Raw
from orca.tasks.readers.hdf5 import dataset, open_hdf5, rows

AXES = ("times", "x", "y")


def write_stacks(path: Path, stacks: Mapping[str, Sequence[np.ndarray]], coordinates: Mapping[str, np.ndarray]) -> None:
    """Writes arrays over all samples, each of its parts in turn, with ``x-coordinate`` and so on."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, arrays in stacks.items():
            write_stack(file, name, arrays)
        for axis, values in coordinates.items():
            file[f"{axis}-coordinate"] = values.astype(np.float32)


def read_steady(path: Path, key: str, solution: str, *, points: int) -> dict[str, Raw]:
    """A coefficient (n, X, Y) and the steady state that it makes (n, 1, X, Y); the first tenth is test.

    Args:
        path: the file.
        key: of the coefficient.
        solution: of the state.
        points: at most so many cells per side are kept, evenly.

    Returns:
        Both as (n, points, points) float32; where cells are left out, ``shift_fine`` is the test samples with all.

    Raises:
        InputError: the file is not as published.
    """
    with open_hdf5(path) as file:
        coefficient = dataset(file, key, ("samples", "x", "y"))
        state = dataset(file, solution, (len(coefficient), 1, *coefficient.shape[1:]))
        kept = thinned(coefficient.shape[1], points)
        parts = split_first(rows(coefficient, kept, kept), rows(state, 0, kept, kept))
        if kept.step > 1:
            test = slice(len(parts["test"].x))
            parts[f"{SHIFT}fine"] = Raw(rows(coefficient[test]), rows(state[test, 0]))
        return parts


def read_evolution(path: Path, keys: Sequence[str], *, time: float, points: int) -> dict[str, Raw]:
    """First frame and the one at ``time`` of several fields (n, T, X, Y) as channels; the last tenth is test.

    Returns:
        (n, C, points, points) float32.

    Raises:
        InputError: the file is not as published, or has no frame at that time.
    """
    with open_hdf5(path) as file:
        shape = dataset(file, keys[0], ("samples", *AXES)).shape
        found = [dataset(file, key, shape) for key in keys]
        at = frame_at(np.asarray(dataset(file, "t-coordinate", ("times",)))[: shape[1]], time, path)
        kept = thinned(shape[2], points)
        x, y = (np.stack([rows(field, frame, kept, kept) for field in found], axis=1) for frame in (0, at))
        return split_last(x, y)


def thinned(length: int, points: int) -> slice:
    """Every n-th of so many positions, so that at most ``points`` are left."""
    return slice(None, None, -(-length // points))
