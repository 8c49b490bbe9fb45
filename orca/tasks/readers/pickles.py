"""Published pickles as plain values: arrays, numbers, text and containers of these, and nothing that could run.

A pickle is a program. Here the names that it may call lead to functions of this file, which build what numpy's own
would have built from values that are checked first; a name that is not listed is refused before it is called. numpy
itself never sees the state that a file brings: its ``dtype.__setstate__`` believes flags that say where pointers are.
"""

from __future__ import annotations

import gzip
import pickle
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from orca.errors import InputError
from orca.tasks.readers.arrays import npy_header

GZIP = b"\x1f\x8b"
SCALARS = {int, float, bool, complex, str, bytes, type(None)}
DEPTH = 100  # containers inside containers
_DTYPE = re.compile(r"[|<>=]?([biufcSUO]\d{0,9}|\?)")  # no records, no dates


def read_pickle(path: Path) -> Any:
    """What a pickle holds, gzipped or not, of any protocol; text of Python 2 is read as Latin-1.

    Args:
        path: the file.

    Returns:
        Lists, tuples, dicts, numbers, text, bytes and arrays, nested.

    Raises:
        InputError: it is not there, damaged, or asks for anything else, which is named.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected a pickle")
    with path.open("rb") as plain:
        zipped = plain.read(2) == GZIP
        plain.seek(0)
        if not zipped:
            return _load(plain, path)
        with gzip.open(plain) as stream:
            return _load(stream, path)  # pyright: ignore[reportArgumentType]


def read_npy(path: Path) -> Any:
    """What a ``.npy`` file holds, pickled objects among it; a single object is given as it is.

    Raises:
        InputError: as ``read_pickle``.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected an .npy file")
    with path.open("rb") as stream:
        try:
            shape, dtype = npy_header(stream)
            if not dtype.hasobject:
                stream.seek(0)
                return np.load(stream, allow_pickle=False)
        except (ValueError, KeyError, EOFError, OSError) as fault:
            raise InputError(f"{path} is no .npy file, or it is damaged ({fault}); get it again") from fault
        found = _load(stream, path)
    if not isinstance(found, np.ndarray) or found.shape != shape:
        raise InputError(f"{path} says that it holds an array {shape} and holds something else; get it again")
    return found.item() if shape == () else found


def _load(stream: IO[bytes], path: Path) -> Any:
    reader = _Reader(stream, encoding="latin1")
    try:
        return _plain(reader.load(), {}, 0)
    except _RefusedError as refused:
        raise InputError(f"{path} is refused: {refused}") from refused
    except RecursionError as fault:
        raise InputError(f"{path} is refused: it holds itself, or is nested more than {DEPTH} deep") from fault
    except MemoryError as fault:
        raise InputError(f"{path} asks for more memory than there is; it is damaged, or too large here") from fault
    except (  # what the standard library's reader raises for a broken stream
        pickle.UnpicklingError, EOFError, OSError, zlib.error, ValueError, TypeError, KeyError, IndexError,
        AttributeError, OverflowError, NotImplementedError, AssertionError,
    ) as fault:  # fmt: skip
        raise InputError(f"{path} is no pickle, or it is damaged ({fault}); get it again") from fault


class _RefusedError(Exception):
    """A pickle asks for what is not admitted."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = ADMITTED.get((module, name))
        if found is None:
            raise _RefusedError(
                f"it asks for {module}.{name}, which is neither an array nor a plain container and could run code; "
                "convert it where you trust it, and save plain arrays with np.savez"
            )
        return _Call(found)

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("it asks for objects that lie outside of it")


class _Call:
    """One of the functions below. No attribute of it can be set, whatever the pickle says."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("it tries to change a function")


class _Dtype:
    """Stands for a dtype until the byte order of its state has come."""

    __slots__ = ("found",)

    def __init__(self, text: str) -> None:
        self.found = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        order = _text(state[1]) if isinstance(state, tuple) and len(state) > 4 else None
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise _RefusedError("it holds a dtype with fields or parts; only plain numbers and text are admitted")
        if order in "<>":
            self.found = self.found.newbyteorder(order)  # pyright: ignore[reportArgumentType]


class _Array:
    """Stands for an array until its state has come."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise _RefusedError("it holds an array in a form that numpy does not write")
        shape, dtype, fortran, data = state[-4:]
        self.found = _filled(data, dtype, shape, "F" if fortran else "C")


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _dtype(name: Any, *flags: Any) -> _Dtype:
    if not _DTYPE.fullmatch(text := _text(name)):
        raise _RefusedError(f"it holds a dtype {text!r}; only plain numbers and text are admitted")
    return _Dtype(text)


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _ndarray(*args: Any) -> Any:
    raise _RefusedError("it calls numpy.ndarray, which makes arrays out of memory that it does not own")


def _scalar(dtype: Any, data: Any = None) -> Any:
    if not isinstance(dtype, _Dtype) or dtype.found.hasobject:
        raise _RefusedError("it holds a numpy scalar that is neither number nor text")
    return _filled(data, dtype, (), "C").item()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    made = _Array()  # never an array itself, whose own __setstate__ could then be called
    made.found = _filled(data, dtype, shape, "F" if order == "F" else "C")
    if order == "K" and axes is not None:
        made.found = made.found.transpose([int(axis) for axis in axes])
    return made


def _filled(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array of the bytes, or of the list of objects, that a pickle brings; its size must be that of its shape."""
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple | int):
        raise _RefusedError("it holds an array without a dtype or a shape")
    sizes = (shape,) if isinstance(shape, int) else shape
    if dtype.found.hasobject:
        if not isinstance(data, list):
            raise _RefusedError("it holds an array of objects made of bytes, which would be taken for addresses")
        flat = np.empty(len(data), object)
        for at, item in enumerate(data):  # at once, numpy would look into the items
            flat[at] = item
        return flat.reshape(sizes, order=order)
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | bytearray | memoryview):
        raise _RefusedError("it holds an array whose data is not bytes")
    if dtype.found.itemsize == 0:
        return np.zeros(sizes, dtype.found)
    return np.frombuffer(raw, dtype.found).reshape(sizes, order=order)


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    if not isinstance(text, str) or codec != "latin1":
        raise _RefusedError(f"it encodes text as {codec!r}; only the Latin-1 that stands for bytes is admitted")
    return text.encode("latin1")


def _bytes(*args: Any) -> bytes:
    if args:
        raise _RefusedError("it calls bytes with arguments; only the empty one is written so")
    return b""


def _complex(*parts: Any) -> complex:
    if not all(isinstance(part, float) for part in parts):
        raise _RefusedError("it holds a complex number whose parts are not floats")
    return complex(*parts)


ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,  # bytes in protocols 0 to 2
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    ("builtins", "complex"): _complex,
    ("__builtin__", "complex"): _complex,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


def _plain(value: Any, done: dict[int, Any], depth: int) -> Any:
    """The value with its stand-ins replaced; ``done`` keeps what was met, so that shared parts are made once."""
    if type(value) in SCALARS:
        return value
    if depth > DEPTH:
        raise RecursionError
    if id(value) in done:
        return done[id(value)][1]
    made = _PLAIN.get(type(value), _unknown)(value, done, depth + 1)
    done[id(value)] = (value, made)  # the value too: a freed one's id would be given away again
    return made


def _plain_list(value: Any, done: dict[int, Any], depth: int) -> Any:
    if set(map(type, value)) <= SCALARS:
        return value
    return type(value)(_plain(item, done, depth) for item in value)


def _plain_dict(value: Any, done: dict[int, Any], depth: int) -> Any:
    return {_plain(key, done, depth): _plain(item, done, depth) for key, item in value.items()}


def _plain_array(value: Any, done: dict[int, Any], depth: int) -> Any:
    found = value.found
    if found is None:
        raise _RefusedError("it holds an array without data")
    if not found.dtype.hasobject:
        return found
    made = np.empty(found.shape, object)
    for at in np.ndindex(found.shape):
        made[at] = _plain(found[at], done, depth)
    return made


def _plain_dtype(value: Any, done: dict[int, Any], depth: int) -> Any:
    return value.found.str


def _unknown(value: Any, done: dict[int, Any], depth: int) -> Any:
    raise _RefusedError(f"it holds a {type(value).__name__.strip('_')}, which is neither an array nor a container")


_PLAIN: dict[type, Callable[[Any, dict[int, Any], int], Any]] = {
    list: _plain_list, tuple: _plain_list, dict: _plain_dict, _Array: _plain_array, _Dtype: _plain_dtype,
    bytearray: lambda value, done, depth: bytes(value),
}  # fmt: skip
