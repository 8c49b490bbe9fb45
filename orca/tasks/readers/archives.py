"""Named arrays of your own: an ``.npz``, an HDF5 or MATLAB file, or a folder with one ``.npy`` for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orca.errors import InputError
from orca.tasks.files import read_npz
from orca.tasks.readers.arrays import load_npy
from orca.tasks.readers.hdf5 import listed, open_hdf5
from orca.tasks.readers.matlab import matlab_array, matlab_axes


def read_archive(path: Path, required: Sequence[str], *, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of a file or folder, by name.

    Args:
        path: ``.npz``; ``.h5`` or ``.hdf5`` with datasets at its root; ``.mat`` of version 5 or 7.3, of which columns
            of labels become (n,); a folder with ``NAME.npy``, which stay on disk until they are used; or an ``.npy``
            that holds the one array that is required.
        required: names that must be there.
        prefix: only arrays whose name starts so are read.

    Raises:
        InputError: it is not there, damaged, or lacks a required array, or an array holds neither numbers nor text.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy" and len(required) == 1:
        return {required[0]: load_npy(path)}
    if path.is_dir():
        return _folder(path, required, prefix)
    return READERS.get(suffix, read_npz)(path, required, prefix=prefix)


def is_archive_folder(path: Path) -> bool:
    """Whether this folder holds arrays, and not sounds or images."""
    return (path / "x_train.npy").is_file()


def archive_files(path: Path) -> list[Path]:
    """The files that hold the arrays."""
    return sorted(path.glob("*.npy")) if path.is_dir() else [path]


def _folder(path: Path, required: Sequence[str], prefix: str) -> dict[str, np.ndarray]:
    files = {file.stem: file for file in archive_files(path)}
    _check(path, required, files)
    return {name: load_npy(file, mapped=True) for name, file in files.items() if name.startswith(prefix)}


def _hdf5(path: Path, required: Sequence[str], *, prefix: str) -> dict[str, np.ndarray]:
    with open_hdf5(path) as file:
        _check(path, required, file)
        return {name: _dataset(file[name], f"{name} in {path}") for name in file if name.startswith(prefix)}


def _dataset(found: Any, where: str) -> np.ndarray:
    import h5py

    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{where} is a group; expected arrays at the root of the file")
    if h5py.check_string_dtype(found.dtype) is not None:
        return np.array(found.asstr()[()], dtype=np.str_)
    if found.dtype.kind not in "iufb":
        raise InputError(f"{where} holds {found.dtype}; expected numbers or text")
    return found[()]


def _matlab(path: Path, required: Sequence[str], *, prefix: str) -> dict[str, np.ndarray]:
    axes = matlab_axes(path)
    _check(path, required, axes)
    wanted = {name: ["n"] * count for name, count in axes.items() if name.startswith(prefix or ("x", "y", "length"))}
    read = {name: matlab_array(path, name, of).read(whole_numbers=name.startswith("x")) for name, of in wanted.items()}
    return {name: _plain(name, x) for name, x in read.items()}


def _plain(name: str, x: np.ndarray) -> np.ndarray:
    """An array of MATLAB's as numpy would have it: vectors with one axis, labels and lengths as integers."""
    if name.startswith("x"):
        return x
    x = x.reshape(-1) if x.ndim == 2 and 1 in x.shape else x
    return x.astype(np.int64) if (x == np.round(x)).all() else x


def _check(path: Path, required: Sequence[str], there: Iterable[str]) -> None:
    there = list(there)
    if lacking := [name for name in required if name not in there]:
        raise InputError(f"{path} lacks {', '.join(lacking)}; it has {listed(there)}")


READERS: dict[str, Callable[..., dict[str, np.ndarray]]] = {".h5": _hdf5, ".hdf5": _hdf5, ".mat": _matlab}
