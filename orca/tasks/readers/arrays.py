"""Plain arrays of ``.npy`` files, and what an array must be before it counts as inputs or labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from orca.errors import InputError


def read_npy(path: Path, axes: Sequence[int | str]) -> np.ndarray:
    """The array of a file, numbers of the given axes.

    Args:
        path: the file.
        axes: as for ``check_axes``.

    Raises:
        InputError: it is not there, no npy file, damaged, holds pickled objects, or is not as expected.
    """
    return numbers(load_npy(path), axes, str(path))


def load_npy(path: Path, *, mapped: bool = False) -> np.ndarray:
    """The array of a file.

    Args:
        path: the file.
        mapped: whether it stays on disk until it is used.

    Raises:
        InputError: it is not there, no npy file, damaged, or holds pickled objects.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected an .npy file")
    try:
        with path.open("rb") as stream:
            _, held = npy_header(stream)
        if held.hasobject:
            raise InputError(
                f"{path} holds pickled objects, which may run code when opened and are refused; save plain numbers"
            )
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, EOFError, SyntaxError, UnicodeDecodeError) as fault:
        raise _no_npy(path, fault) from fault
    except ValueError as fault:
        if isinstance(fault, InputError):
            raise
        raise _no_npy(path, fault) from fault


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array of an ``.npy`` file, of which ``stream`` is then at the values.

    Raises:
        ValueError: it is no such file, or of a version that numpy writes for names of fields beyond Latin-1 alone.
    """
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = read[version](stream)
    return shape, dtype


def _no_npy(path: Path, fault: Exception) -> InputError:
    return InputError(f"{path} is no .npy file, or it is damaged ({fault}); get or make it again")


def numbers(found: Any, axes: Sequence[int | str], place: str) -> Any:
    """The array itself, if it holds numbers and has these axes.

    Args:
        found: what was read: an array, or a dataset of a file.
        axes: as for ``check_axes``.
        place: key and file, for messages.

    Raises:
        InputError: it is something else.
    """
    if found.dtype.kind not in "fiu":
        raise InputError(f"{place} holds {found.dtype}; expected numbers")
    check_axes(found.shape, axes, place)
    return found


def check_axes(shape: Sequence[int], axes: Sequence[int | str], place: str) -> None:
    """Checks the shape of an array.

    Args:
        shape: what was found.
        axes: a number where the length is fixed, a name where it is not.
        place: key and file, for messages.

    Raises:
        InputError: it is another shape.
    """
    fits = all(isinstance(axis, str) or axis == length for axis, length in zip(axes, shape, strict=False))
    if len(shape) != len(axes) or not fits:
        wanted = ", ".join(map(str, axes)) + "," * (len(axes) == 1)
        raise InputError(f"{place} has shape {tuple(shape)}; expected ({wanted})")


def labels(found: np.ndarray, low: int, high: int, place: str) -> np.ndarray:
    """Class labels (n,) as int64; whole numbers of another type are taken.

    Args:
        found: what was read, (n,).
        low: least label.
        high: greatest label.
        place: key and file, for messages.

    Raises:
        InputError: other axes, no whole numbers, or one outside ``low`` .. ``high``.
    """
    numbers(found, ("n",), place)
    right = np.isfinite(found) & (found == np.round(found)) & (found >= low) & (found <= high)
    if not right.all():
        row = int(right.argmin())
        raise InputError(f"{place} has label {found[row]} in row {row}; expected whole numbers {low}..{high}")
    return found.astype(np.int64)


def paired(x: np.ndarray, y: np.ndarray, place: str) -> None:
    """Checks that inputs (n, ...) are finite, and have one label (n,) each.

    Raises:
        InputError: they do not.
    """
    if not (finite := np.isfinite(x).reshape(len(x), -1).all(1)).all():
        raise InputError(
            f"{place} has NaN or infinite values in {int((~finite).sum())} of {len(x)} inputs, first in row "
            f"{int(finite.argmin())}; drop these rows or fill the values"
        )
    if len(x) != len(y):
        raise InputError(f"{place} has {len(x)} inputs and {len(y)} labels; expected one label for each input")
