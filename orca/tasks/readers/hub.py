"""Data sets of Hugging Face ``datasets``: from the hub where that is allowed, else from its cache or a folder."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orca.errors import InputError
from orca.runtime import atomic_write, user_cache
from orca.tasks.readers.folders import SPLITS

HUB = "hf:"  # before OWNER/NAME or a folder


def is_hub(path: Path | str) -> bool:
    """Whether this names a data set of ``datasets``."""
    return str(path).startswith(HUB)


def locate_dataset(name: str, *, online: bool = False) -> Path:
    """The folder of a data set: a local one, what the hub's cache has, or what the hub gives if it is allowed.

    Args:
        name: ``hf:FOLDER``, ``hf:OWNER/NAME`` or ``hf:OWNER/NAME@REVISION``.
        online: whether the hub may be asked.

    Raises:
        InputError: ``datasets`` is not installed, or the data set is not on this machine and may not be fetched.
    """
    if importlib.util.find_spec("datasets") is None:
        raise InputError(f"{name} needs the package datasets; install it with pip install 'orca[datasets]'")
    asked, _, revision = name.removeprefix(HUB).partition("@")
    if (folder := Path(asked).expanduser()).is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    allowed = online or os.environ.get("HF_HUB_OFFLINE") == "0"
    try:
        with contextlib.suppress(LocalEntryNotFoundError):
            return Path(snapshot_download(asked, repo_type="dataset", revision=revision or None,
                                          local_files_only=not allowed))  # fmt: skip
    except HFValidationError as fault:
        raise InputError(f"{name} is no folder and no name on the hub; expected hf:OWNER/NAME") from fault
    raise InputError(
        f"the data set {asked} is not on this machine; allow the network with --online, put it into the local hub "
        f"cache ($HF_HOME), or save it with save_to_disk and name the folder: {HUB}FOLDER"
    )


def read_dataset(path: Path) -> dict[str, Any]:
    """The columns of a data set, and ``split`` where it has several.

    Class labels become their names. Images and sounds become files, of which the column holds the paths. A column of
    lists, all of one length, becomes one column for each place. Splits other than train, validation and test are left
    out. No code that lies beside the data is run.

    Raises:
        InputError: ``datasets`` cannot read the folder, or a column holds something else.
    """
    parts = _parts(Path(str(path).removeprefix(HUB)))
    parts = {name: part for name, part in parts.items() if name.lower() in SPLITS} or parts
    found: dict[str, list[Any]] = {}
    for split, part in parts.items():
        for name, feature in part.features.items():
            for column, values in _column(part, name, feature, f"column {name} of {path}"):
                found.setdefault(column, []).append(values)
        if len(parts) > 1:
            found.setdefault("split", []).append([split] * len(part))
    ragged = [name for name, values in found.items() if len(values) != len(parts)]
    if ragged:
        raise InputError(f"{path}: only some of the splits {', '.join(parts)} have the column {ragged[0]}")
    return {name: _joined(values) for name, values in found.items()}


def _parts(folder: Path) -> dict[str, Any]:
    import datasets

    datasets.disable_progress_bars()
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(str(folder), cache_dir=str(user_cache() / "datasets"))
    except (OSError, ValueError, RuntimeError) as fault:  # the last for a script of its own, which is never run
        raise InputError(f"datasets cannot read {folder}: {fault}") from fault
    return {str(name): part for name, part in found.items()} if isinstance(found, dict) else {"train": found}


def _column(part: Any, name: str, feature: Any, where: str) -> Iterable[tuple[str, Any]]:
    """A column as columns of numbers or text."""
    import datasets

    if isinstance(feature, datasets.Image | datasets.Audio):
        plain = part.cast_column(name, type(feature)(decode=False))
        yield name, [_as_file(value, where) for value in plain[name]]
        return
    values = part.select_columns([name]).to_pandas()[name]
    if isinstance(feature, datasets.ClassLabel):
        yield name, [None if label is None or label != label or label < 0 else feature.int2str(int(label))
                     for label in values]  # fmt: skip
    elif isinstance(feature, datasets.Value):
        number = np.dtype(values.dtype).kind in "iuf" if feature.dtype not in ("string", "large_string") else False
        yield name, values.to_numpy(np.float64, na_value=np.nan) if number else [
            None if value is None or value != value else value for value in values
        ]  # fmt: skip
    elif isinstance(feature, datasets.List) and isinstance(feature.feature, datasets.Value):
        yield from _places(name, values, where)
    else:
        raise InputError(f"{where} holds {type(feature).__name__}; expected numbers, text, classes, images or sounds")


def _places(name: str, values: Any, where: str) -> Iterable[tuple[str, np.ndarray]]:
    lengths = {len(value) for value in values}
    if len(lengths) > 1:
        raise InputError(f"{where} holds lists of {min(lengths)} to {max(lengths)} values; they must be of one length")
    stacked = np.stack([np.asarray(value, dtype=np.float64) for value in values])
    digits = len(str(stacked.shape[1] - 1))
    yield from ((f"{name}_{place:0{digits}}", stacked[:, place]) for place in range(stacked.shape[1]))


def _as_file(value: Mapping[str, Any] | None, where: str) -> str:
    """The path of an image or sound, which is written to the cache if it came as bytes."""
    if value is None:
        raise InputError(f"{where} has an empty cell; every row needs its file")
    content, path = value["bytes"], value["path"]
    if content is None:
        return str(path)
    suffix = Path(path).suffix if path else (".wav" if content[:4] == b"RIFF" else ".png")
    file = user_cache() / "datasets" / "files" / f"{hashlib.sha256(content).hexdigest()}{suffix}"
    if not file.is_file():
        atomic_write(file, content)
    return str(file)


def _joined(values: list[Any]) -> Any:
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    return [value for part in values for value in part]
