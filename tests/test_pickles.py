"""Pickles of arrays and plain containers are read, of every protocol; whatever could run is refused and named."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orca.errors import InputError
from orca.tasks.readers.pickles import read_npy, read_pickle

VALUES: dict[str, Any] = {
    "floats": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "strided": np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
    "other order": np.arange(3, dtype=">i4"),
    "text": np.array(["N", "A", "~"]),
    "bytes": np.array([b"ACGT", b"GG"]),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 4)),
    "zero axes": np.array(2.5),
    "scalar": np.float32(0.25),
    "dict": {
        "train": {"images": np.zeros((2, 3), np.uint8), "labels": [1, 2]},
        "n": (1, None, True, 2j, "é", b"", b"a"),
    },
}


def write(folder: Path, content: bytes) -> Path:
    (folder / "x.pkl").write_bytes(content)
    return folder / "x.pkl"


def same(a: Any, b: Any) -> None:
    if isinstance(b, dict):
        assert list(a) == list(b)
        for key in b:
            same(a[key], b[key])
    elif isinstance(b, list | tuple):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
    else:
        np.testing.assert_array_equal(a, b)
        assert np.asarray(a).dtype.kind == np.asarray(b).dtype.kind


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", VALUES)
def test_arrays_and_plain_containers_come_back(name: str, protocol: int, tmp_path: Path) -> None:
    same(read_pickle(write(tmp_path, pickle.dumps(VALUES[name], protocol=protocol))), VALUES[name])


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_of_objects_hold_arrays_of_different_lengths_once_each(protocol: int, tmp_path: Path) -> None:
    records = np.empty(3, object)
    records[:] = [np.arange(2.0), np.arange(3.0), np.arange(2.0)]
    shared = [1, 2]
    found = read_pickle(write(tmp_path, pickle.dumps([records, shared, shared], protocol=protocol)))
    assert [len(record) for record in found[0]] == [2, 3, 2]
    assert found[1] is found[2]


def test_pickles_of_older_numpy_and_of_python_two_are_read(tmp_path: Path) -> None:
    new = pickle.dumps(np.arange(3.0), protocol=2)
    old = new.replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")
    assert old != new
    assert read_pickle(write(tmp_path, old)).tolist() == [0, 1, 2]
    two = (  # what Python 2.7 writes for {'x': numpy.array([-1], dtype='<i2')}
        b"\x80\x02}q\x00U\x01xq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04U\x01b"
        b"q\x05\x87q\x06Rq\x07(K\x01K\x01\x85q\x08cnumpy\ndtype\nq\tU\x02i2q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\rNNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89U\x02\xff\xffq\x0ftq\x10bs."
    )
    assert read_pickle(write(tmp_path, two))["x"].tolist() == [-1]


def test_gzipped_pickles_are_read(tmp_path: Path) -> None:
    assert read_pickle(write(tmp_path, gzip.compress(pickle.dumps([1, "a"])))) == [1, "a"]


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> Any:
        return self.made


def hostile(tmp_path: Path) -> dict[str, tuple[Any, str]]:
    mark = str(tmp_path / "ran")
    holding = np.empty(1, object)
    holding[0] = Calls(os.mkdir, mark)
    return {
        "os.system": (Calls(os.system, f"touch {mark}"), r"(posix|nt)\.system"),
        "eval": (Calls(eval, f"open({mark!r}, 'w')"), r"(builtins|__builtin__)\.eval"),
        "getattr": (Calls(getattr, "", "join"), r"(builtins|__builtin__)\.getattr"),
        "numpy, no reconstructor": (Calls(np.save, mark, 1), r"numpy\.save"),
        "numpy.load": (Calls(np.load, mark, None, True), r"numpy\.load"),
        "in an array of objects": (holding, r"(posix|nt)\.mkdir"),
        "deep in containers": ({"data": [(1, {"x": Calls(os.mkdir, mark)})]}, r"(posix|nt)\.mkdir"),
        "a class": (Path("x"), "pathlib"),
        "bytes of any size": (Calls(bytes, 10**12), "calls bytes with arguments"),
        "a set": ({1, 2}, "holds a set, which is neither an array nor a container"),
        "records": (np.zeros(2, [("a", "f4")]), r"dtype 'V4'"),
        "dates": (np.zeros(2, "M8[s]"), "dtype 'M8'"),
        "raw memory": (Calls(np.ndarray, (9,), np.dtype("f4")), "calls numpy.ndarray"),
        "a function itself": ([np.ndarray], "holds a Call, which is neither"),
    }


NAMES = list(hostile(Path()))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", NAMES)
def test_what_could_run_is_refused_and_named_and_does_not_run(name: str, protocol: int, tmp_path: Path) -> None:
    value, message = hostile(tmp_path)[name]
    if name == "a set" and protocol < 4:
        message = r"(builtins|__builtin__)\.set"
    with pytest.raises(InputError, match=f"x.pkl is refused: .*{message}"):
        read_pickle(write(tmp_path, pickle.dumps(value, protocol=protocol)))
    assert not (tmp_path / "ran").exists()


def state(dtype: bytes, data: bytes) -> bytes:
    """A pickle of an array of one item with that dtype's state and that data, by hand."""
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\ntcnumpy\ndtype\n"
    return head + dtype + b"I00\n" + data + b"tb."


BY_HAND = {
    "addresses as objects": (
        state(b"(S'O8'\nI0\nI1\ntR", b"S'AAAAAAAA'\n"), "made of bytes, which would be taken for addresses",
    ),
    "fields in a plain dtype": (
        state(b"(S'f8'\nI0\nI1\ntR(I3\nS'|'\nN(S'a'\nt}I8\nI1\nI0\ntb", b"S'AAAAAAAA'\n"), "dtype with fields",
    ),
    "an array of text": (state(b"(S'f8'\nI0\nI1\ntR", b"I5\n"), "whose data is not bytes"),
    "an array without dtype": (state(b"0I5\n", b"S'AAAAAAAA'\n"), "without a dtype or a shape"),
    "a function's attributes": (
        b"cnumpy.core.multiarray\n_reconstruct\n(N}S'__defaults__'\n(I1\ntstb.", "tries to change a function",
    ),
    "a shared one": (b"Pelsewhere\n.", "objects that lie outside of it"),
    "a list in itself": (b"(lp0\ng0\na.", "it holds itself, or is nested more than 100 deep"),
    "a deep list": (b"(l" * 150 + b"a" * 149 + b".", "nested more than 100 deep"),
    "an array without data": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.", "an array without data",
    ),
    "other text": (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "encodes text as 'rot13'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_what_is_made_by_hand_to_mislead_is_refused(name: str, tmp_path: Path) -> None:
    content, message = BY_HAND[name]
    with pytest.raises(InputError, match=message):
        read_pickle(write(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK\x03\x04", pickle.dumps(np.arange(300.0))[:-400], gzip.compress(pickle.dumps([1]), mtime=0)[:-9],
        b"\x80\x07.", b"I1\n", b"\x95" + struct.pack("<Q", 2**50), state(b"(S'f8'\nI0\nI1\ntR", b"S'AAA'\n"),
    ],
)  # fmt: skip
def test_damaged_files_are_told_from_hostile_ones(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no pickle, or it is damaged|more memory than there is"):
        read_pickle(write(tmp_path, content))
    with pytest.raises(InputError, match="there is no file"):
        read_pickle(tmp_path / "none.pkl")


def test_npy_files_of_objects_give_what_they_hold(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.array({"data": np.ones((2, 3)), "label": np.array([1, 2])}, dtype=object))
    assert read_npy(file)["data"].shape == (2, 3)
    triple = np.empty(3, object)
    triple[:] = [2, "AC", np.eye(2)]
    np.save(file, triple)
    assert read_npy(file)[2].tolist() == [[1, 0], [0, 1]]
    np.save(file, np.arange(3))
    assert read_npy(file).tolist() == [0, 1, 2]


def test_npy_files_that_are_hostile_or_broken_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.array(Calls(os.mkdir, str(tmp_path / "ran")), dtype=object))
    with pytest.raises(InputError, match=r"x.npy is refused: it asks for (posix|nt)\.mkdir"):
        read_npy(file)
    content = file.read_bytes()
    file.write_bytes(content[: content.index(b"\n") + 1] + pickle.dumps([1]))
    with pytest.raises(InputError, match="says that it holds an array"):
        read_npy(file)
    file.write_bytes(b"none")
    with pytest.raises(InputError, match="is no .npy file"):
        read_npy(file)
    assert not (tmp_path / "ran").exists()
