"""Device, precision, seeds, hashes, whole-file writes and the facts of a run. Torch is imported only where used."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import math
import os
import platform
import subprocess
import uuid
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

log = logging.getLogger(__name__)

TEMP_SUFFIX = ".orca-tmp"  # what a killed `atomic_write` leaves behind ends in this
PACKAGES = ("torch", "transformers", "peft", "numpy", "scikit-learn", "pot", "geomloss", "prefect")
# torch's names for the instructions that multiply bfloat16: x86 (AVX-512, AMX), then ARM.
CPU_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def sleeping_threads() -> None:
    """Lets waiting threads of OpenMP sleep soon; to be called before torch is imported. What the user has set holds.

    They spin for milliseconds by default: two runs on the same cores then take nine times as long each. Sleeping at
    once costs one run that is made of many small steps a quarter, sleeping after some microseconds nothing.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # of the libgomp that torch brings; comes before the policy


def resolve_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then MPS, then the CPU.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        InputError: the name is unknown, or this machine has no such device.
    """
    import torch

    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and (kind != "cuda" or not index.isdecimal())):
        raise InputError(f"device must be auto, cpu, cuda, cuda:N or mps; got '{name}'")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if kind == "auto":
        kind = "cuda" if cuda else "mps" if mps else "cpu"
    if not {"cuda": cuda, "mps": mps, "cpu": True}[kind]:
        raise InputError(f"device '{name}' was asked for, but torch sees no {kind} device here; use auto or cpu")
    if kind != "cuda":
        return torch.device(kind)
    number, count = int(index) if index else torch.cuda.current_device(), torch.cuda.device_count()
    if number >= count:
        raise InputError(f"device '{name}' was asked for, but torch sees {count} CUDA devices, counted from 0")
    return torch.device("cuda", number)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware itself multiplies bfloat16; without that it is emulated, and slower than float32."""
    import torch

    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(bool(able.get(name, False)) for name in CPU_BFLOAT16)
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return False


def autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    """The dtype for autocast, or None for plain float32.

    Args:
        device: where the model runs.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 only where the hardware has it.

    Raises:
        InputError: the precision is unknown.
    """
    import torch

    if precision not in ("auto", "float32", "bfloat16"):
        raise InputError(f"precision must be auto, float32 or bfloat16; got '{precision}'")
    if precision == "float32":
        return None
    native = has_bfloat16(device)
    if precision == "bfloat16" and not native:
        log.warning("bfloat16 was asked for, but %s has no instructions for it: expect it to be very slow", device)
    return torch.bfloat16 if native or precision == "bfloat16" else None


def seed_everything(seed: int) -> None:
    """Seeds the global generators of Python, numpy and torch, which libraries draw from. Orca passes its own."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries still draw from the global state
    torch.manual_seed(seed)


def _derived_seed(parts: tuple[int | str, ...]) -> int:
    """63 bits from the parts; 1 and "1" differ, and so do ("a", "b") and ("ab",)."""
    return int(digest(parts)[:16], 16) >> 1


def generator(*parts: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator whose seed is derived from ``parts`` by sha256, such as ``generator(seed, "align", epoch)``."""
    import torch

    return torch.Generator(device=device).manual_seed(_derived_seed(parts))


def rng(*parts: int | str) -> np.random.Generator:
    """A numpy generator whose seed is derived from ``parts`` by sha256."""
    import numpy as np

    return np.random.default_rng(_derived_seed(parts))


def _plain(value: Any) -> Any:
    """For JSON: what pydantic models, dataclasses, paths and numpy scalars stand for."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if not isinstance(value, type) and dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a numpy or torch scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def canonical(obj: Any) -> str:
    """The one JSON text of ``obj``: sorted keys, no spaces.

    Raises:
        TypeError: something in it has no JSON form.
        ValueError: a number in it is not finite.
    """
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def digest(obj: Any) -> str:
    """The sha256 (hex) of the canonical JSON of ``obj``."""
    return hashlib.sha256(canonical(obj).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 (hex) of a file, read as a stream."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def known_digest(path: Path) -> str:
    """The sha256 (hex) of a file, read once in a process while size and time stay: for plans, not to find damage."""
    state = path.stat()
    return _digest_of(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    return file_digest(path)


def sync(path: Path) -> None:
    """Asks the system to write a file, or the names in a folder, to the disk: a rename then outlives a power cut."""
    if os.name != "posix":  # elsewhere what is opened for reading cannot be synced
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write(path: Path, data: bytes | str) -> None:
    """Writes a file whole or not at all; text as UTF-8. Makes the folders above it.

    Raises:
        OSError: the disk is full or the folder is not writable; an older file at ``path`` is still whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid.uuid4().hex}{TEMP_SUFFIX}"
    try:
        with open(temporary, "xb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def finite(value: Any) -> Any:
    """The same with null for NaN and the infinities, which JSON does not have, and models and the like made plain."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value if value is None or isinstance(value, str | int) else finite(_plain(value))


def write_json(path: Path, obj: Any) -> None:
    """Writes ``obj`` as indented JSON, whole or not at all. NaN and infinities become null."""
    atomic_write(path, json.dumps(finite(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: the file is not JSON.
    """
    return json.loads(Path(path).read_text(encoding="utf-8"))


def user_cache() -> Path:
    """Where Orca keeps what it can make again, and locks: ``ORCA_CACHE``, else ``~/.cache/orca``."""
    return Path(os.environ.get("ORCA_CACHE") or Path.home() / ".cache" / "orca").expanduser()


def versions() -> dict[str, str]:
    """Versions of Python, Orca and the packages that decide numbers; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in ("orca", *PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # an optional package, or Orca run from its source tree
            continue
    return found


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """What a number was measured on: cpu, cores (those this process may use), threads, gpu or None, platform."""
    import torch

    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8", errors="replace").splitlines() if facts.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    cpu = next(named, "") or platform.processor() or platform.machine()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu,
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "platform": platform.platform(),
    }


@functools.cache
def commit() -> str | None:
    """The git commit of Orca's source tree, with ``-dirty`` where tracked files differ from it; None without one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # an installed package may lie inside the repository of somebody else
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, a tree without commits, or one git does not trust
        return None
    return done.stdout.strip() or None


def number(value: float | None) -> str:
    """A number for people: four significant digits, from a thousand on whole; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
