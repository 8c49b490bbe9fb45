"""The HDF5 files of PDEBench's two-dimensional tasks: a group for each sample, or one array over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orca.tasks.assemble import Raw
from orca.tasks.pdebench.files import TEST, frame_at, split_first
from orca.tasks.published import Arrays
from orca.tasks.readers.hdf5 import dataset, open_hdf5, rows
from orca.types import InputError

CELLS = 128  # per side of a published file
AXES = ("times", "x", "y")
KEY = "data"


def frame_times(end: float, points: int, *, steps: int) -> np.ndarray:
    """Times of the frames of a file, (T,): ``steps`` + 1 as published, and three where the grid is smaller."""
    return np.linspace(0, end, (steps if points >= CELLS else 2) + 1)


def write_groups(path: Path, parts: Mapping[str, Arrays], *, times: np.ndarray, centres: np.ndarray) -> None:
    """Writes a group ``0000``, ``0001``, ... for each sample, with ``data`` and ``grid/x``, ``y``, ``t``; test last.

    Args:
        path: the file.
        parts: ``data`` (n, T, X, Y, C) float32 by split.
        times: (T,).
        centres: of the cells along both axes, (X,).
    """
    import h5py

    with h5py.File(path, "w") as file:
        for number, sample in enumerate(sample for part in ("train", "test") for sample in parts[part][KEY]):
            group = file.create_group(f"{number:04d}")
            group[KEY] = sample
            for name, values in (("x", centres), ("y", centres), ("t", times)):
                group[f"grid/{name}"] = values.astype(np.float32)


def read_groups(path: Path, *, channels: int, time: float) -> dict[str, Raw]:
    """First frame and the one at ``time`` of every sample, (n, C, X, Y) float32; the last tenth is test.

    Only these two frames are read. Where a file has no ``grid/t`` its last frame is taken for the one at ``time``.

    Raises:
        InputError: the file is not as published, or has no frame at that time.
    """
    with open_hdf5(path) as file:
        names = [name for name in sorted(file) if name.isdigit()]
        if not names:
            raise InputError(f"{path} has no groups 0000, 0001, ... of samples; it has {_few(file)}")
        if len(names) < 3:
            raise InputError(f"{path} has {len(names)} samples; at least 3 are needed to train, validate and test")
        shape = _sample(file, names[0], (*AXES, channels)).shape
        at = shape[0] - 1
        if "grid/t" in file[names[0]]:
            at = frame_at(np.asarray(dataset(file[names[0]], "grid/t", (shape[0],))), time, path)
        x, y = np.empty((2, len(names), channels, *shape[1:3]), np.float32)
        for row, name in enumerate(names):
            found = _sample(file, name, shape)
            x[row], y[row] = (np.moveaxis(found[frame], -1, 0) for frame in (0, at))
    return split_last(x, y)


def split_last(x: np.ndarray, y: np.ndarray) -> dict[str, Raw]:
    """The last tenth as test, the others as train."""
    count = len(x) - max(1, round(TEST * len(x)))
    return {"train": Raw(x[:count], y[:count]), "test": Raw(x[count:], y[count:])}


def write_stacks(path: Path, stacks: Mapping[str, np.ndarray], coordinates: Mapping[str, np.ndarray]) -> None:
    """Writes arrays over all samples, with ``x-coordinate`` and so on."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in stacks.items():
            file[name] = values
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
        Both as (n, points, points) float32.

    Raises:
        InputError: the file is not as published.
    """
    with open_hdf5(path) as file:
        coefficient = dataset(file, key, ("samples", "x", "y"))
        state = dataset(file, solution, (len(coefficient), 1, *coefficient.shape[1:]))
        kept = thinned(coefficient.shape[1], points)
        return split_first(rows(coefficient, kept, kept), rows(state, 0, kept, kept))


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


def _sample(file: Any, name: str, shape: Sequence[int | str]) -> Any:
    group = file[name]
    if not hasattr(group, "keys") or KEY not in group:
        inside = _few(group) if hasattr(group, "keys") else "no groups"
        raise InputError(f"{file.filename}: sample {name} lacks {name}/{KEY}; it has {inside}")
    return dataset(file, f"{name}/{KEY}", shape)


def _few(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:8]) + (", ..." if len(listed) > 8 else "") if listed else "nothing"
