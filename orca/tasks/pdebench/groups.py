"""The HDF5 files of PDEBench that hold a group for each sample: ``0000/data``, ``0000/grid/t``; test samples last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.tasks.pdebench.merged import TEST, frame_at
from orca.tasks.published import Arrays
from orca.tasks.raw import Raw
from orca.tasks.readers.hdf5 import dataset, listed, open_hdf5

KEY = "data"
FRAMES = 101  # of every published file of this form
CELLS = 128  # per side of a published file in two dimensions


def frame_times(end: float, points: int, *, steps: int) -> np.ndarray:
    """Times of the frames of a 2-D file, (T,): ``steps`` + 1 as published, and three where the grid is smaller."""
    return np.linspace(0, end, (steps if points >= CELLS else 2) + 1)


def write_groups(path: Path, parts: Mapping[str, Arrays], *, times: np.ndarray, axes: Mapping[str, np.ndarray]) -> None:
    """Writes a group for each sample, train first.

    Args:
        path: the file.
        parts: ``data`` by split, (n, T, *S, C) float32.
        times: (T,).
        axes: coordinates by the name of the axis.
    """
    import h5py

    with h5py.File(path, "w") as file:
        samples = [sample for part in ("train", "test") for sample in parts[part][KEY]]
        for number, sample in enumerate(samples):
            group = file.create_group(f"{number:04d}")
            group[KEY] = sample
            for name, values in {**axes, "t": times}.items():
                group[f"grid/{name}"] = values.astype(np.float32)


def read_groups(
    path: Path, *, time: float, end: float, axes: tuple[str, ...] = ("x",), channels: int | str = "channels"
) -> dict[str, Raw]:
    """The first and a later frame of each sample, (n, C, *S) each; the last tenth is test.

    Args:
        path: the file.
        time: of the target.
        end: time of the last frame of a published file, which may lack its times.
        axes: names of the axes of a frame.
        channels: how many there must be, if that is known.

    Raises:
        InputError: the file is not as published, samples differ in shape, or there is no frame at that time.
    """
    with open_hdf5(path) as file:
        names = sorted((name for name in file if name.isdigit()), key=int)
        if not names:
            raise InputError(f"{path} has no samples; expected groups 0000, 0001, ...; it has {listed(file)}")
        first = dataset(file, f"{names[0]}/{KEY}", ("times", *axes, channels))
        if f"{names[0]}/grid/t" in file or len(first) != FRAMES:
            times = dataset(file, f"{names[0]}/grid/t", (len(first),))[:]
        else:
            times = np.linspace(0, end, FRAMES)
        at = frame_at(times, time, path)
        pairs = np.empty((2, len(names), *first.shape[1:]), np.float32)
        for row, name in enumerate(names):
            sample = dataset(file, f"{name}/{KEY}", first.shape)
            pairs[0, row], pairs[1, row] = sample[0], sample[at]
    if len(names) < 3:
        raise InputError(f"{path} has {len(names)} samples; at least 3 are needed to train, validate and test")
    return split_last(*np.ascontiguousarray(np.moveaxis(pairs, -1, 2)))


def split_last(x: np.ndarray, y: np.ndarray) -> dict[str, Raw]:
    """The last tenth as test, the others as train."""
    count = len(x) - max(1, round(TEST * len(x)))
    return {"train": Raw(x[:count], y[:count]), "test": Raw(x[count:], y[count:])}
