"""Reading ``.npz`` files without pickles, and finding the data folder."""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orca.errors import InputError
from orca.runtime import digest, known_digest, read_json

VARIABLE = "ORCA_DATA"


def read_npz(path: Path, required: Sequence[str] = (), *, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of a file.

    Args:
        path: the file.
        required: names that must be there.
        prefix: only arrays whose name starts so are read.

    Raises:
        InputError: it is not there, no npz file, damaged, holds pickled objects, or lacks a required array.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected an .npz file")
    with path.open("rb") as stream:  # numpy leaves a file open that it opened itself and could not read
        try:
            archive = np.load(stream, allow_pickle=False)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is no .npz file of plain arrays ({error}); save it with np.savez") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path} holds a single array; save named arrays with np.savez: {', '.join(required)}")
        keys = list(archive.files)
        if lacking := [key for key in required if key not in keys]:
            raise InputError(f"{path} lacks {', '.join(lacking)}; it has {', '.join(keys) or 'nothing'}")
        return {key: _array(archive, key, path) for key in keys if key.startswith(prefix)}


def _array(archive: Any, key: str, path: Path) -> np.ndarray:
    try:
        return archive[key]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, tokenize.TokenError) as error:
        if "allow_pickle" not in str(error):
            raise InputError(f"{key} in {path} is damaged ({error}); make or get the file again") from error
        raise InputError(
            f"{key} in {path} holds pickled objects, which may run code when opened and are refused; "
            "save it as plain numbers or strings, with one shape for all rows and a length array if they differ"
        ) from error


def data_missing(name: str) -> str | None:
    """None where ``NAME.npz`` is in the data folder, else how to get it there."""
    folder = os.environ.get(VARIABLE)
    if folder and (Path(folder) / f"{name}.npz").is_file():
        return None
    state = f"there is none in {folder}" if folder else f"{VARIABLE} is not set"
    return f"the file {name}.npz is needed, and {state}: set {VARIABLE} to the folder that holds {name}.npz"


def data_file(name: str) -> Path:
    """The path of ``NAME.npz`` in the data folder.

    Raises:
        InputError: it is not there; the message is that of ``data_missing``.
    """
    if missing := data_missing(name):
        raise InputError(missing)
    return Path(os.environ[VARIABLE]) / f"{name}.npz"


def read_data(name: str, required: Sequence[str]) -> dict[str, np.ndarray]:
    """All arrays of ``NAME.npz`` in the data folder."""
    return read_npz(data_file(name), required)


def side_json(name: str) -> dict[str, Any]:
    """What ``NAME.json`` beside the data says, or an empty dict where there is none."""
    path = data_file(name).with_suffix(".json")
    return read_json(path) if path.is_file() else {}


def data_fingerprint(name: str, **settings: Any) -> str:
    """The sha256 of the data file together with what decides how it is read."""
    return digest({"file": known_digest(data_file(name)), **settings})
