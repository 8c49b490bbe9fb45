"""The merged HDF5 files of PDEBench: an array (samples, times, points) for each field, the test samples first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orca.errors import InputError
from orca.tasks.published import Arrays
from orca.tasks.raw import Raw
from orca.tasks.readers.hdf5 import dataset, open_hdf5, rows
from orca.types import Provenance

CITATION = "M. Takamoto et al., PDEBench: An Extensive Benchmark for Scientific Machine Learning, NeurIPS 2022"
ORIGIN = Provenance("https://github.com/pdebench/PDEBench", "CC BY 4.0", CITATION)
TEST = 0.1  # share of the samples that are test
GRID = 1024  # points of a published one-dimensional file
LOOKED_AT = 1000  # samples that acceptance checks look at: all would be more than fits into memory
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
        for name, train in parts["train"].items():
            write_stack(file, name, [parts["test"][name], train])
        file["t-coordinate"], file["x-coordinate"] = times.astype(np.float32), points.astype(np.float32)


def write_stack(file: Any, name: str, arrays: Sequence[np.ndarray]) -> None:
    """Writes arrays one after the other as one dataset, without a copy of them in memory."""
    shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
    stack, start = file.create_dataset(name, shape, arrays[0].dtype), 0
    for array in arrays:
        stack[start : start + len(array)] = array
        start += len(array)


def frame_times(end: float, points: int) -> np.ndarray:
    """Times of the frames of a file, (T,): as published, and fewer where the grid is smaller."""
    return np.linspace(0, end, round(end / STEP) + 1 if points == GRID else COARSE + 1)


def read_pair(path: Path, keys: Sequence[str], *, time: float, points: int = GRID) -> dict[str, Raw]:
    """The first and a later frame of each sample of a merged file, (n, fields, X) each; the first tenth is test.

    Only these two frames are read.

    Args:
        path: the file.
        keys: the arrays (n, T, X), one for each field.
        time: of the target.
        points: how many are kept of more, evenly.

    Raises:
        InputError: the file is not as published, or has no frame at that time.
    """
    with open_hdf5(path) as file:
        fields = [dataset(file, key, ("samples", "times", "points")) for key in keys]
        shape = fields[0].shape
        for key, field in zip(keys, fields, strict=True):
            if field.shape != shape:
                raise InputError(f"{key} in {path} has shape {field.shape} and {keys[0]} {shape}; they must agree")
        at = frame_at(_times(file, shape, path), time, path)
        kept = slice(None, None, max(1, shape[2] // points))
        x, y = (np.stack([rows(field, frame, kept) for field in fields], 1) for frame in (0, at))
        return split_first(x, y)


def _times(file: Any, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Times of the frames, (T,); some published files have one time more, of the end of the last step."""
    if "t-coordinate" not in file and shape[2] == GRID:
        return STEP * np.arange(shape[1])  # files of full size all have these
    times = dataset(file, "t-coordinate", ("times",))[: shape[1]]
    if len(times) < shape[1]:
        raise InputError(f"t-coordinate in {path} has {len(times)} times; expected one for each of {shape[1]} frames")
    return times


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
