"""What is in a task's files and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.runtime import read_json
from orca.tasks.audio import pad_ragged
from orca.tasks.checks import Finding, few
from orca.tasks.files import read_npz
from orca.tasks.published import SIDE
from orca.tasks.raw import Raw
from orca.tasks.repeats import blocks, repeated
from orca.tasks.spec import TaskSpec


@dataclass(frozen=True)
class Part:
    """What one split holds.

    Attributes:
        name: of the split.
        samples: how many.
        inputs: type and shape of its inputs.
        targets: type and shape of its targets.
        counts: samples of each class, or positives of each label; empty for other targets.
    """

    name: str
    samples: int
    inputs: str
    targets: str
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What was found in a task's files.

    Attributes:
        task: its name.
        folder: that was looked at.
        synthetic: whether the files were generated.
        parts: the splits.
        findings: what is wrong, then what is worth knowing.
    """

    task: str
    folder: Path
    synthetic: bool = False
    parts: tuple[Part, ...] = ()
    findings: tuple[Finding, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.wrong for finding in self.findings)


def inspect(task: TaskSpec, folder: Path) -> Inspection:
    """Looks through the files of a task.

    Args:
        task: one that reads files: a published benchmark, or ``NAME.npz``.
        folder: that holds them.

    Raises:
        InputError: the task reads no files, or there is no such folder.
    """
    if task.published is None and task.archive is None:
        raise InputError(f"{task.name} reads no files: its data comes with a package or is generated")
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    made, told = _side(folder) if task.published is not None else (False, [])
    try:
        parts, findings = _read(task, folder)
    except InputError as fault:  # a reader names the file, the key, what was expected and what came
        return Inspection(task.name, folder, made, (), (Finding("files", str(fault)), *told))
    findings += [f for name, raw in parts.items() for f in _values(task, name, raw)]
    findings += [*_alike(task, parts), *told]
    if task.target == "classes":
        findings += _classes(task, parts)
    chance = "in a table these may be different samples with equal values" if task.input == "table" else ""
    findings += repeated(parts, excuse="so was it published" if task.repeats else chance)
    order = sorted(parts, key=lambda name: ("train", "val", "test", name).index(name))  # others come last
    found = tuple(_part(task, name, parts[name]) for name in order)
    return Inspection(task.name, folder, made, found, tuple(sorted(findings, key=lambda f: not f.wrong)))


def _side(folder: Path) -> tuple[bool, list[Finding]]:
    """Whether the files were generated, and the acceptance checks that failed then."""
    path = folder / SIDE
    if not path.is_file():
        return False, []
    try:
        checks = read_json(path)["checks"]
        failed = [check["name"] for check in checks if not check["passed"]]
    except (ValueError, KeyError, TypeError) as fault:
        return True, [Finding(SIDE, f"is damaged ({fault!r}); make the data again")]
    return True, [Finding(SIDE, f"failed when it was made: {', '.join(failed)}")] if failed else []


def _read(task: TaskSpec, folder: Path) -> tuple[dict[str, Raw], list[Finding]]:
    if task.published is not None:
        task.published.require(folder)
        if task.published.background is not None:
            task.published.background(folder)
        return dict(task.published.read(folder)), []
    assert task.archive is not None
    return _archive(read_npz(folder / f"{task.archive.name}.npz", task.archive.keys))


def _archive(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Raw], list[Finding]]:
    """The splits of an archive, clips that lie end to end as rows, and which arrays lack their other half."""
    names = dict.fromkeys(key[2:] for key in arrays if key[:2] in ("x_", "y_"))
    halves = [f"{side}_{name}" for name in names for side in "xy" if f"{side}_{name}" not in arrays]
    findings = [Finding(key, "is missing, its other half is there") for key in halves]
    parts: dict[str, Raw] = {}
    for name in names:
        if {f"x_{name}", f"y_{name}"} & set(halves):
            continue
        x, length = arrays[f"x_{name}"], arrays.get(f"len_{name}", arrays.get(f"length_{name}"))
        if length is not None and x.ndim == 1 and x.dtype.kind in "iuf":
            if int(length.sum()) != len(x):
                findings.append(Finding(f"len_{name}", f"adds up to {int(length.sum())}; x_{name} has {len(x)}"))
                continue
            x = pad_ragged(x, length)
        parts[name] = Raw(x, arrays[f"y_{name}"], length)
    return parts, findings


def _part(task: TaskSpec, name: str, raw: Raw) -> Part:
    counts: tuple[int, ...] = ()
    if task.target == "classes" and _whole(raw.y) and len(raw.y) and raw.y.min() >= 0:
        counts = tuple(np.bincount(raw.y.astype(np.int64)).tolist())
    elif task.target == "multilabel" and raw.y.ndim == 2 and raw.y.dtype.kind in "iufb":
        counts = tuple((raw.y > 0).sum(0).tolist())
    return Part(name, len(raw.x), _form(raw.x), _form(raw.y), counts)


def _form(array: np.ndarray) -> str:
    names = array.dtype.names
    kind = array.dtype if names is None else f"{len(names)} columns"
    return f"{kind} ({', '.join(map(str, array.shape))})"


def _whole(y: np.ndarray) -> bool:
    if y.ndim != 1 or y.dtype.kind not in "iufb":
        return False
    return y.dtype.kind != "f" or bool((np.isfinite(y) & (y == np.round(y))).all())


def _values(task: TaskSpec, name: str, raw: Raw) -> Iterator[Finding]:
    """Faults of the values of one split."""
    if np.ndim(raw.x) == 0 or np.ndim(raw.y) == 0 or len(raw.x) != len(raw.y):
        yield Finding(name, f"x has shape {np.shape(raw.x)} and y {np.shape(raw.y)}; one target per input is needed")
        return
    if len(raw.x) == 0:
        yield Finding(name, "is empty; every split needs at least one sample")
        return
    yield from _not_finite(f"x of {name}", raw.x)
    yield from _not_finite(f"y of {name}", raw.y, gaps=task.gaps)
    for start, block in blocks(raw.x):
        try:
            task.encoding.encode(block, None if raw.length is None else raw.length[start : start + len(block)])
        except InputError as fault:
            rows = f"rows {start} to {start + len(block) - 1}"
            yield Finding(f"x of {name}", f"{fault} (counted in {rows})" if start else str(fault))
            break
    if task.target == "multilabel":
        yield from _not_binary(name, raw.y)


def _not_finite(where: str, values: np.ndarray, *, gaps: bool = False) -> Iterator[Finding]:
    if values.dtype.kind != "f":
        return
    count, rows, first = 0, 0, -1
    for start, block in blocks(values):
        bad = (np.isinf(block) if gaps else ~np.isfinite(block)).reshape(len(block), -1)
        if bad.any():
            first = start + int(bad.any(1).argmax()) if first < 0 else first
            count, rows = count + int(bad.sum()), rows + int(bad.any(1).sum())
    if count:
        what = "infinite" if gaps else "NaN or infinite"
        yield Finding(where, f"has {count} {what} values in {rows} of {len(values)} rows, first in row {first}")


def _not_binary(name: str, y: np.ndarray) -> Iterator[Finding]:
    if y.ndim != 2 or y.dtype.kind not in "iufb":
        yield Finding(f"y of {name}", f"is {_form(y)}; several labels are (n, K) of 0 and 1")
    elif (wrong := ~np.isin(y, (0, 1))).any():
        row, column = np.argwhere(wrong)[0]
        yield Finding(f"y of {name}", f"has {y[row, column]} in row {row}, label {column}; labels are 0 or 1")


def _alike(task: TaskSpec, parts: Mapping[str, Raw]) -> Iterator[Finding]:
    """Splits whose samples have another shape or type than those of train."""
    if "train" not in parts:
        yield Finding("train", "is missing")
        return
    like = parts["train"]
    free = 1 if task.input == "sequence" else 0  # the length of a sequence may differ between splits
    for name, raw in parts.items():
        shapes = [part.x.shape[1 : part.x.ndim - free] if part.x.ndim > 1 else () for part in (like, raw)]
        if raw.x.ndim != like.x.ndim or (shapes[0] != shapes[1] and raw.y.shape[1:] == like.y.shape[1:]):
            yield Finding(f"x of {name}", f"is {_form(raw.x)}; in train it is {_form(like.x)}")
        if raw.x.dtype.kind != like.x.dtype.kind:
            yield Finding(f"x of {name}", f"holds {raw.x.dtype}, in train {like.x.dtype}", wrong=False)


def _classes(task: TaskSpec, parts: Mapping[str, Raw]) -> Iterator[Finding]:
    """Faults of class labels: no integers, out of range, gaps in train, classes that train lacks."""
    odd = [name for name, raw in parts.items() if not _whole(raw.y)]
    yield from (Finding(f"y of {name}", f"is {_form(parts[name].y)}; classes are integers 0..K-1") for name in odd)
    good = {name: raw.y for name, raw in parts.items() if name not in odd and len(raw.y)}
    known = np.unique(good["train"]) if "train" in good else np.zeros(0, int)
    count = len(task.classes) or (int(known.max()) + 1 if len(known) else 0)
    for name, y in good.items():
        low, high = y.min(), y.max()
        if low < 0 or (task.classes and high >= count):
            row = int(((y < 0) | (y >= count)).argmax())
            yield Finding(f"y of {name}", f"has label {y[row]} in row {row}; {task.name} has classes 0..{count - 1}")
        elif len(known) and (new := np.setdiff1d(y, known)).size:
            yield Finding(f"y of {name}", f"has classes that train lacks: {few(new)}")
    if len(known) and known[0] >= 0 and (gaps := np.setdiff1d(np.arange(count), known)).size:
        yield Finding("y of train", f"has no sample of class {few(gaps)}")
