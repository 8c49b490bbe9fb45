"""Your own data: arrays by name or a table, and a few words on what is in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from orca.errors import InputError
from orca.metrics import DEFAULT_METRIC, METRICS
from orca.registry import Choices
from orca.runtime import digest, known_digest
from orca.tasks.assemble import assemble, with_validation
from orca.tasks.boosting import boosting
from orca.tasks.checks import check_lengths, report
from orca.tasks.encodings import (
    DnaEncoding,
    Encoding,
    GridEncoding,
    SequenceEncoding,
    TableEncoding,
    WaveformEncoding,
)
from orca.tasks.own_files import Columns, folder_of, gather, named_files, plain_inputs
from orca.tasks.raw import SHIFT, Raw
from orca.tasks.readers.archives import archive_files, is_archive_folder, read_archive
from orca.tasks.readers.hub import HUB, is_hub, locate_dataset
from orca.tasks.readers.images import any_colour
from orca.tasks.readers.tables import TABLE_NAMES, TABLES, table_suffix
from orca.tasks.records import RecordEncoding, fit_records
from orca.tasks.spec import Predictor, TaskSpec
from orca.types import DENSE, Provenance, Splits, TargetKind

FILES = ("waveform", "grid")  # inputs that a table names by their files
REQUIRED = ("x_train", "y_train", "x_test", "y_test")
TABLE_KEYS = ("targets", "inputs", "split", "test")  # settings that only a table has


class OwnData(BaseModel):
    """Your own data as a task: arrays by name or a table, and what is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Own Data")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the task in results.")
    data: str = Field(
        title="File",
        description="Path of arrays, `.npz`, `.h5`, `.mat` or a folder of `.npy`: x_train, y_train, x_test, y_test, "
        "optional x_val, y_val, x_shift_NAME, y_shift_NAME, and length_train etc. for inputs of different lengths. Or "
        "of a table: `.csv`, `.tsv`, `.parquet`, `.arff`, `.fasta`, a folder of sounds or images by class, or "
        "`hf:OWNER/NAME` of the hub.",
    )
    input: Literal["sequence", "grid", "dna", "waveform", "table"] = Field(
        description="Form of the inputs: sequence (n, L) or (n, C, L); grid (n, H, W), (n, C, H, W) or (n, H, W, C); "
        "dna: strings; waveform (n, T); table (n, F)."
    )
    target: TargetKind = Field(
        description="Form of the targets: classes (n,), multilabel (n, K), scalar (n,) or (n, K), field as the input, "
        "mask as the input, of 0 and 1, and -1 in cells that do not count."
    )
    metric: Annotated[str | None, Choices(METRICS.names)] = Field(
        default=None, description="What decides; unset takes the target's usual one."
    )
    sample_rate: int | None = Field(default=None, gt=0, description="Of a waveform, Hz.")
    channels: Literal["first", "last", "none"] | None = Field(
        default=None,
        description="Where the channel axis of a grid is; needed only where the shape leaves it open.",
    )
    categorical: tuple[int | str, ...] = Field(
        default=(),
        title="Categorical Columns",
        description="Columns that hold categories: of an `.npz` by number, with codes 0..k-1; of a table by name, "
        "where they hold numbers: text always is one.",
    )
    targets: tuple[str, ...] = Field(
        default=(), title="Target Columns", description="Columns of a table that are predicted."
    )
    inputs: tuple[str, ...] = Field(
        default=(),
        title="Input Columns",
        description="Columns of a table that are inputs; none named takes all others.",
    )
    split: str | None = Field(
        default=None, title="Split Column", description="Column of a table that says train, val or test."
    )
    test: str | None = Field(
        default=None,
        title="Test File",
        description="Table with the test rows; without it and a split column a fixed random fifth of the rows is test.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> OwnData:
        """Settings belong to the input that they describe, and a waveform needs its rate."""
        if self.input == "waveform" and self.sample_rate is None:
            raise ValueError("input waveform needs sample_rate, in Hz")
        for key, owner in (("sample_rate", "waveform"), ("channels", "grid"), ("categorical", "table")):
            if getattr(self, key) and self.input != owner:
                raise ValueError(f"{key} belongs to input {owner}; input is {self.input}")
        named = [key for key in TABLE_KEYS if getattr(self, key)]
        if named and not is_table(self.data):
            raise ValueError(f"{named[0]} belongs to a table ({TABLE_NAMES}); data is {Path(self.data).name}")
        wanted = str if is_table(self.data) else int
        if wrong := [c for c in self.categorical if not isinstance(c, wanted)]:
            raise ValueError(f"categorical names columns of a table by name, of an .npz by number; got {wrong[0]!r}")
        if self.target in DENSE and self.input not in ("sequence", "grid"):
            raise ValueError(f"target {self.target} needs input sequence or grid; input is {self.input}")
        return self


def own_task(own: OwnData, *, online: bool = False) -> TaskSpec:
    """The task of your own data. Reads the inputs where their form must be known: channels, categories.

    Args:
        own: what is in the data.
        online: whether the hub may be asked for it.

    Raises:
        InputError: the file or a key is missing, the channel axis cannot be told, or the metric is of another target.
    """
    metric = METRICS.get(own.metric or DEFAULT_METRIC[own.target])
    if metric.target != own.target:
        fitting = ", ".join(m.name for m in METRICS if m.target == own.target)
        raise InputError(f"metric {metric.name} is for target {metric.target}, not {own.target}; there are: {fitting}")
    path, root, files = _places(own, online=online)
    if is_table(own.data):
        encoding, load, named = _from_table(own, path)
        files = [file for file in files if file.is_file()] + named
    else:
        looked_at = "x_" if own.input == "table" else "x_train"  # the least that tells the form
        encoding = _encoding(own, read_archive(path, REQUIRED, prefix=looked_at))
        load = partial(_from_archive, own, path, encoding)
    unnamed = () if is_table(own.data) else TABLE_KEYS  # so that keys of stored work on archives hold
    content = {"task": own.model_dump(exclude={"data", "test", *unnamed}), "version": 2, "encoding": encoding}
    if own.test is not None:  # which of the files it is
        content["test"] = os.path.relpath(Path(own.test).expanduser(), root)
    return TaskSpec(
        name=own.name,
        title=f"own data, {own.input} to {own.target}: {path.name}",
        input=encoding.input,
        target=own.target,
        metric=metric.name,
        provenance=Provenance(source=path.name, licence="not stated"),
        encoding=encoding,
        load=load,
        fingerprint=lambda: digest({**content, **_digests(files, root)}),
        predictors=_predictors(own.target, encoding),
        missing=lambda: next((f"there is no file {file}" for file in files if not file.is_file()), None),
    )


def _places(own: OwnData, *, online: bool) -> tuple[Path, Path, list[Path]]:
    """What is read, its folder, and the files that it is made of as far as they are known before it is read."""
    if is_hub(own.data):
        folder = locate_dataset(own.data, online=online)
        return Path(f"{HUB}{folder}"), folder, sorted(path for path in folder.rglob("*") if path.is_file())
    path = Path(own.data).expanduser()
    return (
        path,
        path if path.is_dir() else path.parent,
        [*archive_files(path), *([Path(own.test).expanduser()] if own.test else [])],
    )


def _digests(files: Sequence[Path], root: Path) -> dict[str, str]:
    """That of the one file, or those of several by their names under ``root``, which may say label and split."""
    if len(files) == 1:
        return {"file": known_digest(files[0])}
    return {"files": digest({os.path.relpath(file, root): known_digest(file) for file in files})}


def _predictors(target: TargetKind, encoding: Encoding) -> dict[str, Predictor]:
    """What stands beside the baselines: boosted trees for tables with named columns."""
    if not isinstance(encoding, RecordEncoding) or target not in ("classes", "scalar"):
        return {}
    return {"boosting": boosting(encoding.cardinalities, target)}


def is_table(data: str) -> bool:
    """Whether a file of this name is read as a table of named columns."""
    path = Path(data)
    return table_suffix(path) in TABLES and not is_archive_folder(path)


def _from_table(own: OwnData, path: Path) -> tuple[Encoding, Callable[[], Splits], list[Path]]:
    """The encoding, which train decides, what reads the splits, and the files that the table names."""
    test = None if own.test is None else Path(own.test).expanduser()
    found = gather(path, Columns(own.targets, own.inputs, own.split), own.target, test=test, kind=own.input)
    finish = partial(assemble, target=own.target, classes=found.classes)
    train = found.parts["train"]
    if own.input == "table":
        names = train.x.dtype.names or ()
        if wrong := [name for name in own.categorical if name not in names]:
            raise InputError(f"categorical names {wrong[0]}, which is no input; inputs are {', '.join(names)}")
        records = fit_records(train.x, names, [str(name) for name in own.categorical])
        notes = [*found.notes, *records.told(train.x)]
        return records, partial(finish, found.parts, encoding=records, notes=notes), []
    folder = folder_of(path)
    read, one = partial(plain_inputs, kind=own.input, folder=folder, rate=own.sample_rate), train.subset(np.arange(1))
    first = read(one).x  # what has the wrong form is refused here
    named = [file for part in found.parts.values() for file in named_files(part, folder)] if own.input in FILES else []
    if own.input == "grid":
        read = partial(read, colour=any_colour(named))
        first = read(one).x
    encoding = _encoding(own, {"x_train": first})

    def load() -> Splits:
        return finish({name: read(part) for name, part in found.parts.items()}, encoding=encoding, notes=found.notes)

    return encoding, load, named


def _from_archive(own: OwnData, path: Path, encoding: Encoding) -> Splits:
    return _load(read_archive(path, REQUIRED), own.target, encoding)


def _encoding(own: OwnData, arrays: dict[str, np.ndarray]) -> Encoding:
    makers = {
        "sequence": lambda: SequenceEncoding(),
        "grid": lambda: GridEncoding(channels=own.channels or infer_channels(arrays["x_train"].shape)),
        "dna": lambda: DnaEncoding(),
        "waveform": lambda: WaveformEncoding(sample_rate=own.sample_rate or 0),
        "table": lambda: TableEncoding(cardinalities=_cardinalities([int(c) for c in own.categorical], arrays)),
    }
    return makers[own.input]()


def infer_channels(shape: Sequence[int]) -> Literal["first", "last", "none"]:
    """Where the channel axis of images of that shape is.

    Raises:
        InputError: it cannot be told from the shape.
    """
    few = (1, 3, 4)
    if len(shape) == 3:
        return "none"
    if len(shape) == 4 and (shape[3] in few) != (shape[1] in few):
        return "last" if shape[3] in few else "first"
    raise InputError(
        f"x_train has shape {tuple(shape)}; a grid is (n, H, W), (n, C, H, W) or (n, H, W, C), and which axis has the "
        "channels cannot be told; set channels: first, last or none"
    )


def _cardinalities(categorical: Sequence[int], arrays: dict[str, np.ndarray]) -> tuple[int, ...]:
    """Number of categories of each column over the inputs of all splits; targets are not looked at."""
    tables = {name: x for name, x in arrays.items() if name.startswith("x_")}
    columns = {x.shape[1] if x.ndim == 2 else -1 for x in tables.values()}
    if len(columns) != 1 or -1 in columns:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in tables.items())
        raise InputError(f"a table is (n, F) with the same columns in every split; got {shapes}")
    width = columns.pop()
    if wrong := [c for c in categorical if not 0 <= c < width]:
        raise InputError(f"categorical names column {wrong[0]}; the table has columns 0..{width - 1}")
    counts = [0] * width
    for column in categorical:
        values = np.concatenate([x[:, column] for x in tables.values()])
        if values.dtype.kind not in "iuf" or not ((values >= 0) & (values == np.round(values))).all():
            raise InputError(f"column {column} is categorical and must hold codes 0..k-1; number its categories from 0")
        counts[column] = int(values.max()) + 1 if values.size else 1
    return tuple(counts)


def _load(arrays: dict[str, np.ndarray], target: TargetKind, encoding: Encoding) -> Splits:
    sides = {key[2:]: f"{'y' if key[0] == 'x' else 'x'}_{key[2:]}" for key in arrays if key[:2] in ("x_", "y_")}
    names = [name for name in sides if name in ("train", "val", "test") or name.startswith(SHIFT)]
    report([f"{sides[name]} is missing, its other half is there" for name in names if sides[name] not in arrays])
    parts = {name: Raw(arrays[f"x_{name}"], arrays[f"y_{name}"], arrays.get(f"length_{name}")) for name in names}
    check_lengths({name: (part.x, part.y) for name, part in parts.items()})
    parts, note = with_validation(parts, target)
    used = {f"{array}_{name}" for name in names for array in ("x", "y", "length")}
    unused = sorted(set(arrays) - used)
    notes = [note, *([f"arrays of the file that are not used: {', '.join(unused)}"] if unused else [])]
    return assemble(parts, encoding=encoding, target=target, notes=notes)
