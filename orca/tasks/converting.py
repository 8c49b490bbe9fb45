"""Published files that are pickles as ``.npz`` files that cannot run anything: what the tasks of these sets read."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orca.runtime import TEMP_SUFFIX
from orca.tasks.readers.pickles import read_npy, read_pickle
from orca.types import InputError

Arrays = dict[str, np.ndarray]
Told = Callable[[int, int], None]  # files done, files in all
RHYTHMS = {"N", "A", "O", "~"}
SATELLITE_DATES = 46
OPENML = ("X_raw_dev", "y_dev", "X_raw_test", "y_test", "X_norm_dev", "X_norm_test")


@dataclass(frozen=True)
class Conversion:
    """What becomes of the pickles of one published set.

    Attributes:
        title: the set.
        files: patterns of its pickles inside the folder; each must match something.
        target: path of a pickle -> path of its ``.npz``.
        arrays: path of a pickle -> arrays of that ``.npz``; raises InputError for other content.
    """

    title: str
    files: tuple[str, ...]
    target: Callable[[Path], Path]
    arrays: Callable[[Path], Arrays]

    def sources(self, folder: Path) -> list[Path]:
        """The pickles of a folder, in the order in which they are read.

        Raises:
            InputError: there is no such folder, or one of the files is not there.
        """
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}")
        found = {pattern: sorted(folder.glob(pattern)) for pattern in self.files}
        if lacking := [pattern for pattern, paths in found.items() if not paths]:
            raise InputError(f"{folder} lacks {', '.join(lacking)}, as {self.title} was published; nothing to convert")
        return list(dict.fromkeys(path for paths in found.values() for path in paths))


def convert(task: str, folder: Path, *, progress: Told = lambda done, whole: None) -> list[Path]:
    """Writes the safe files of a published set beside its pickles.

    A file that is there and newer than its pickle is kept, so that a conversion which was stopped goes on.

    Args:
        task: a name of ``CONVERSIONS``; dashes and underscores do not count.
        folder: where the published files are.
        progress: is told how many pickles are done.

    Returns:
        The ``.npz`` files, written or kept.

    Raises:
        InputError: nothing of that task needs conversion, files are missing, or one of them is damaged, is refused, or
            holds something else than was published.
    """
    conversion = conversion_of(task)
    sources = conversion.sources(folder)
    written: list[Path] = []
    for done, source in enumerate(sources):
        progress(done, len(sources))
        target = conversion.target(source)
        if not (target.is_file() and target.stat().st_mtime >= source.stat().st_mtime):
            write_npz(target, conversion.arrays(source))
        written.append(target)
    progress(len(sources), len(sources))
    return list(dict.fromkeys(written))


def conversion_of(task: str) -> Conversion:
    """The conversion of that task.

    Raises:
        InputError: there is none.
    """
    wanted = _bare(task)
    for name, conversion in CONVERSIONS.items():
        if wanted == _bare(name):
            return conversion
    raise InputError(f"{task} has no pickles to convert; there are: {', '.join(CONVERSIONS)}")


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ``.npz`` whole or not at all, without a copy of it in memory."""
    temporary = path.parent / f".{uuid.uuid4().hex}{TEMP_SUFFIX}"
    try:
        with temporary.open("xb") as stream:
            np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _dict(found: Any, path: Path, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}; expected a dict with {', '.join(keys)}")
    if lacking := [key for key in keys if key not in found]:
        has = ", ".join(map(str, list(found)[:8])) or "nothing"
        raise InputError(f"{path} lacks {', '.join(lacking)}; it has {has}")
    return found


def _numbers(value: Any, key: str, path: Path, axes: Sequence[int | str]) -> np.ndarray:
    """An array of numbers with these axes: a number where the length is fixed, a name where it is not."""
    try:
        found = np.asarray(value)
    except ValueError:
        found = np.empty((), object)
    wanted = f"({', '.join(map(str, axes))})"
    if found.dtype.kind not in "iufb":
        raise InputError(f"{key} in {path} holds {found.dtype}; expected numbers {wanted}")
    if found.ndim != len(axes) or any(isinstance(a, int) and a != s for a, s in zip(axes, found.shape, strict=True)):
        raise InputError(f"{key} in {path} has shape {found.shape}; expected {wanted}")
    return found


def _same_length(path: Path, **lengths: int) -> None:
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise InputError(f"{path} has {told}; expected one of each for every sample")


def _ecg(path: Path) -> Arrays:
    """Records end to end (float32), the length of each, and its rhythm as text."""
    found = _dict(read_pickle(path), path, ("data", "label"))
    records = [
        _numbers(record, f"data[{i}]", path, ("T",)).astype(np.float32) for i, record in enumerate(found["data"])
    ]
    label = np.array([str(rhythm) for rhythm in found["label"]])
    _same_length(path, data=len(records), label=len(label))
    if not records:
        raise InputError(f"{path} has no records")
    if other := set(label.tolist()) - RHYTHMS:
        raise InputError(f"label in {path} has {sorted(other)[0]!r}; expected N, A, O and ~")
    length = np.array([len(record) for record in records], dtype=np.int64)
    return {"data": np.concatenate(records), "length": length, "label": label}


def _satellite(path: Path) -> Arrays:
    found = _dict(read_npy(path), path, ("data", "label"))
    data = _numbers(found["data"], "data", path, ("n", SATELLITE_DATES))
    label = _numbers(found["label"], "label", path, ("n",))
    _same_length(path, data=len(data), label=len(label))
    return {"data": data, "label": label}


def _spherical(path: Path) -> Arrays:
    found = _dict(read_pickle(path), path, ("train", "test"))
    arrays: Arrays = {}
    for part in ("train", "test"):
        inner = _dict(found[part], Path(f"{path}[{part}]"), ("images", "labels"))
        images = _numbers(inner["images"], f"{part}.images", path, ("n", 3, "H", "W"))
        labels = _numbers(inner["labels"], f"{part}.labels", path, ("n",))
        _same_length(path, **{f"{part}.images": len(images), f"{part}.labels": len(labels)})
        arrays |= {f"{part}_images": images, f"{part}_labels": labels}
    return arrays


def _cifar(path: Path) -> Arrays:
    """Images (n, 32, 32, 3) uint8 of rows (n, 3072), channel by channel; fine labels; their names."""
    arrays: Arrays = {}
    for part in ("train", "test"):
        file = path.parent / part
        found = _dict(read_pickle(file), file, ("data", "fine_labels"))
        data = _numbers(found["data"], "data", file, ("n", 3 * 32 * 32))
        labels = _numbers(found["fine_labels"], "fine_labels", file, ("n",))
        _same_length(file, data=len(data), fine_labels=len(labels))
        images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # (n, 32, 32, 3)
        arrays |= {f"x_{part}": np.ascontiguousarray(images, dtype=np.uint8), f"y_{part}": labels.astype(np.int64)}
    names = _dict(read_pickle(path), path, ("fine_label_names",))["fine_label_names"]
    return arrays | {"classes": np.array([str(name) for name in names])}


PROTEIN: dict[str, tuple[int | str, ...]] = {
    "ss": (3, "L"), "pssm": ("L", 22), "sa": ("L",), "entropy": ("L",), "ccmpred": ("L", "L"), "freecon": ("L", "L"),
    "potential": ("L", "L"),
}  # fmt: skip


def _protein(path: Path) -> Arrays:
    """Features of a protein by name with its sequence, or the distances of its residues (L, L) in ångström."""
    if path.suffix == ".npy":
        found = read_npy(path)
        parts = list(found.flat) if isinstance(found, np.ndarray) else []
        if len(parts) != 3:
            raise InputError(f"{path} holds something else than length, sequence and distances")
        length = len(parts[1]) if isinstance(parts[1], str) else parts[0]
        return {"dist": _numbers(parts[2], "the third part", path, (length, length))}
    found = _dict(read_pickle(path), path, ("seq", *PROTEIN))
    length = len(found["seq"])
    fixed = {key: tuple(length if axis == "L" else axis for axis in axes) for key, axes in PROTEIN.items()}
    return {"seq": np.array(str(found["seq"]))} | {
        key: _numbers(found[key], key, path, axes) for key, axes in fixed.items()
    }


def _openml(path: Path) -> Arrays:
    """The cache of one OpenML table; text columns become text, so that no array holds objects."""
    found = _dict(read_npy(path), path, OPENML[:4])
    arrays = {key: _table(found[key], key, path) for key in OPENML if key in found}
    for part in ("dev", "test"):
        _same_length(path, **{key: len(arrays[key]) for key in (f"X_raw_{part}", f"y_{part}")})
    return arrays


def _table(value: Any, key: str, path: Path) -> np.ndarray:
    found = np.asarray(value)
    if found.ndim not in (1, 2, 3):
        raise InputError(f"{key} in {path} has shape {found.shape}; expected rows, (n,) or (n, F)")
    return np.array([str(cell) for cell in found.flat]).reshape(found.shape) if found.dtype.kind == "O" else found


def _beside(name: str) -> Callable[[Path], Path]:
    return lambda path: path.parent / name


CONVERSIONS: dict[str, Conversion] = {
    "ecg": Conversion(
        "the PhysioNet challenge of 2017", ("challenge2017.pkl",), _beside("challenge2017.npz"), _ecg
    ),
    "satellite": Conversion(
        "Satellite", ("satellite_train.npy", "satellite_test.npy"), lambda path: path.with_suffix(".npz"), _satellite
    ),
    "spherical": Conversion("spherical CIFAR-100", ("s2_cifar100.gz",), _beside("s2_cifar100.npz"), _spherical),
    "cifar100": Conversion(
        "CIFAR-100", ("cifar-100-python/meta",), lambda path: path.parents[1] / "cifar-100.npz", _cifar
    ),
    "psicov": Conversion(
        "PSICOV", ("**/features/*.pkl", "**/distance/*-cb.npy"), lambda path: path.with_suffix(".npz"), _protein
    ),
    "openml": Conversion(
        "the cache of OpenML tables", ("*_dev_test_split.npy",), lambda path: path.with_suffix(".npz"), _openml
    ),
}  # fmt: skip
