"""The HDF5 files of PDEBench: one array over samples, times and points, the test samples first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from orca.tasks.assemble import Raw
from orca.tasks.published import Arrays
from orca.tasks.readers.hdf5 import dataset, open_hdf5, rows
from orca.types import InputError

CITATION = "M. Takamoto et al., PDEBench: An Extensive Benchmark for Scientific Machine Learning, NeurIPS 2022"
TEST = 0.1  # share of the samples that are test
GRID = 1024  # points of a published one-dimensional file
STEP, COARSE = 0.01, 20  # between its frames; of smaller files, frames beside the first


def write_merged(path: Path, parts: Mapping[str, Arrays], *, times: np.ndarray, points: np.ndarray) -> None:
    """Writes one array over all samples for each field, test first, with coordinates.

    Args:
        path: the file.
        parts: fields by split and name, (n, T, X) float32.
        times: (T,).
        points: (X,).
    """
    import h5py

    with h5py.File(path, "w") as file:
        for name in parts["train"]:
            file[name] = np.concatenate([parts["test"][name], parts["train"][name]])
        file["t-coordinate"], file["x-coordinate"] = times.astype(np.float32), points.astype(np.float32)


def frame_times(end: float, points: int) -> np.ndarray:
    """Times of the frames of a file, (T,): as published, and fewer where the grid is smaller."""
    return np.linspace(0, end, round(end / STEP) + 1 if points == GRID else COARSE + 1)


def read_pair(path: Path, key: str, *, time: float, points: int) -> dict[str, Raw]:
    """The first and a later frame of each sample of a merged file; the first tenth is test.

    Only these two frames are read.

    Args:
        path: the file.
        key: the array (n, T, X).
        time: of the target.
        points: how many are kept of more, evenly.

    Raises:
        InputError: the file is not as published, or has no frame at that time.
    """
    with open_hdf5(path) as file:
        found = dataset(file, key, ("samples", "times", "points"))
        at = frame_at(dataset(file, "t-coordinate", ("times",))[: found.shape[1]], time, path)
        kept = slice(None, None, max(1, found.shape[2] // points))
        return split_first(rows(found, 0, kept), rows(found, at, kept))


def frame_at(times: np.ndarray, time: float, path: Path) -> int:
    """Index of the frame at a time.

    Raises:
        InputError: there is none.
    """
    at = int(np.abs(times - time).argmin())
    if abs(times[at] - time) > 1e-3 * max(1.0, time):
        raise InputError(f"{path} has no frame at t = {time}; its t-coordinate goes from {times[0]} to {times[-1]}")
    return at


def split_first(x: np.ndarray, y: np.ndarray) -> dict[str, Raw]:
    """The first tenth as test, the others as train."""
    count = max(1, round(TEST * len(x)))
    return {"train": Raw(x[count:], y[count:]), "test": Raw(x[:count], y[:count])}
