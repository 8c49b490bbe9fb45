"""MATLAB files: version 5, which scipy reads, and 7.3, which is HDF5 with the axes in reverse."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.tasks.readers.arrays import check_axes
from orca.tasks.readers.hdf5 import dataset, open_hdf5

NUMBERS = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


@dataclass(frozen=True)
class MatlabArray:
    """An array of a MATLAB file, not yet read.

    Attributes:
        path: the file.
        key: name of the variable.
        shape: as MATLAB shows it.
        hdf5: whether the file is of version 7.3.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    hdf5: bool

    def read(self, *index: slice, whole_numbers: bool = False) -> np.ndarray:
        """``array[index]`` as float32. Of version 7.3 only that part is read, of version 5 the whole array.

        Args:
            index: the part.
            whole_numbers: leave arrays of integers as they are, for which a type is a scale.
        """
        part = self._stored(*index)
        kept = part if whole_numbers and part.dtype.kind in "iu" else part.astype(np.float32, copy=False)
        return np.ascontiguousarray(kept)

    def _stored(self, *index: slice) -> np.ndarray:
        if self.hdf5:
            with open_hdf5(self.path) as file:
                return np.asarray(file[self.key][index[::-1]]).T
        from scipy.io import loadmat

        try:
            whole = loadmat(str(self.path), variable_names=[self.key])[self.key]
        except _damage() as fault:
            raise _damaged(self.path, fault) from fault
        return whole[index]


def matlab_array(path: Path, key: str, axes: Sequence[int | str]) -> MatlabArray:
    """Finds an array of numbers.

    Args:
        path: a file of version 5 or 7.3.
        key: name of the variable.
        axes: its axes as MATLAB shows them, as for ``check_axes``.

    Raises:
        InputError: there is no such file, it is none of MATLAB's or damaged, or the variable is not there, holds no
            numbers or has other axes.
    """
    import h5py

    if path.is_file() and h5py.is_hdf5(path):
        with open_hdf5(path) as file:
            found = dataset(file, key, [str(axis) for axis in axes[::-1]])  # lengths are compared as MATLAB shows them
            shape = tuple(found.shape[::-1])
        check_axes(shape, axes, f"{key} in {path}, its axes reversed as version 7.3 stores them,")
        return MatlabArray(path, key, shape, hdf5=True)
    shape = _shape_of_version_5(path, key)
    check_axes(shape, axes, f"{key} in {path}")
    return MatlabArray(path, key, shape, hdf5=False)


def matlab_axes(path: Path) -> dict[str, int]:
    """The variables of a file, and how many axes each has.

    Raises:
        InputError: there is no such file, it is none of MATLAB's or damaged.
    """
    import h5py

    if not (path.is_file() and h5py.is_hdf5(path)):
        return {name: len(shape) for name, (shape, _) in _version_5(path).items()}
    with open_hdf5(path) as file:
        return {name: getattr(file[name], "ndim", 0) for name in file if not name.startswith("#")}


def _version_5(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and class of the variables of a file of version 5."""
    from scipy.io import whosmat

    if not path.is_file():
        raise InputError(f"there is no file {path}; expected a MATLAB file")
    try:
        return {name: (tuple(shape), kind) for name, shape, kind in whosmat(str(path))}
    except _damage() as fault:
        raise _damaged(path, fault) from fault


def _shape_of_version_5(path: Path, key: str) -> tuple[int, ...]:
    variables = _version_5(path)
    if key not in variables:
        raise InputError(f"{path} lacks {key}; it has {', '.join(variables) or 'nothing'}")
    shape, kind = variables[key]
    if kind not in NUMBERS:
        raise InputError(f"{key} in {path} is of MATLAB's class {kind}; expected an array of numbers")
    return shape


def _damage() -> tuple[type[Exception], ...]:
    """What scipy raises on bytes that are no MATLAB file, or end too early."""
    from scipy.io.matlab import MatReadError

    return (
        MatReadError,
        ValueError,
        TypeError,
        OSError,
        EOFError,
        KeyError,
        IndexError,
        NotImplementedError,
        zlib.error,
    )


def _damaged(path: Path, fault: Exception) -> InputError:
    return InputError(f"{path} is no MATLAB file, or it is damaged ({fault}); get or make it again")
