from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from packaging.version import Version

from orca import runtime
from orca.errors import InputError
from orca.memory import peak_gpu_memory_mb, peak_memory_mb, reset_peak_memory
from orca.turns import device_turn

CPU = torch.device("cpu")


def with_devices(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(2, True, "cuda:0"), (0, True, "mps"), (0, False, "cpu")], ids=["cuda", "mps", "cpu"]
)
def test_auto_takes_cuda_then_mps_then_cpu(monkeypatch, cuda, mps, expected):
    with_devices(monkeypatch, cuda=cuda, mps=mps)
    assert runtime.resolve_device("auto") == torch.device(expected)
    assert runtime.resolve_device("cpu") == CPU


def test_a_cuda_device_is_taken_by_its_number(monkeypatch):
    with_devices(monkeypatch, cuda=2)
    assert runtime.resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InputError, match="'cuda:2' was asked for, but torch sees 2 CUDA devices"):
        runtime.resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu:1", "auto:0", "CPU"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(InputError, match="auto, cpu, cuda, cuda:N or mps; got"):
        runtime.resolve_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused(monkeypatch, name):
    with_devices(monkeypatch)
    with pytest.raises(InputError, match="use auto or cpu"):
        runtime.resolve_device(name)


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, None),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_tile": True, "amx_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
        ({"neon": True}, None),
    ],
    ids=["avx2", "avx512", "amx", "arm", "old arm"],
)
def test_auto_precision_is_bfloat16_only_where_the_cpu_has_it(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert runtime.autocast_dtype(CPU, "auto") is expected
    assert runtime.autocast_dtype(CPU, "float32") is None


def test_auto_agrees_with_this_machine():
    facts = Path("/proc/cpuinfo")
    if not facts.is_file() or "flags" not in facts.read_text():
        pytest.skip("the processor's flags are read from /proc/cpuinfo of x86")
    flags = set(facts.read_text().split())
    expected = torch.bfloat16 if flags & {"avx512_bf16", "amx_bf16"} else None
    assert runtime.autocast_dtype(CPU, "auto") is expected


def test_bfloat16_without_the_hardware_is_allowed_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert runtime.autocast_dtype(CPU, "bfloat16") is torch.bfloat16
    assert "very slow" in caplog.text


def test_bfloat16_with_the_hardware_is_silent(monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert runtime.autocast_dtype(CPU, "bfloat16") is torch.bfloat16
    assert not caplog.records


def test_mps_stays_in_float32_by_default():
    assert runtime.autocast_dtype(torch.device("mps"), "auto") is None


@pytest.mark.gpu
def test_auto_precision_on_cuda_follows_the_cards_generation():
    device = runtime.resolve_device("cuda")
    native = torch.cuda.get_device_capability(device) >= (8, 0)
    assert runtime.autocast_dtype(device, "auto") is (torch.bfloat16 if native else None)


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="auto, float32 or bfloat16; got 'fp16'"):
        runtime.autocast_dtype(CPU, "fp16")


def test_one_seed_gives_the_same_draws_everywhere():
    draws = []
    for _ in range(2):
        runtime.seed_everything(2**40 + 7)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002 - the global one
    assert draws[0] == draws[1]


def test_generators_depend_on_every_part():
    parts = [(0, "a"), (1, "a"), ("0", "a"), (0, "a", "b"), (0, "ab"), (0, "b", "a")]
    torch_draws = {torch.rand(1, generator=runtime.generator(*part)).item() for part in parts}
    numpy_draws = {runtime.rng(*part).random() for part in parts}
    assert len(torch_draws) == len(numpy_draws) == len(parts)
    assert torch.equal(
        torch.rand(3, generator=runtime.generator(0, "a")), torch.rand(3, generator=runtime.generator(0, "a"))
    )
    assert runtime.rng(0, "a").random() == runtime.rng(0, "a").random()


def test_a_derived_seed_is_the_same_in_every_version_and_process():
    assert runtime.generator(0, "align").initial_seed() == int(hashlib.sha256(b'[0,"align"]').hexdigest()[:16], 16) >> 1


def test_digest_is_that_of_sorted_json():
    assert runtime.digest({"b": [1, 2.5], "a": None}) == hashlib.sha256(b'{"a":null,"b":[1,2.5]}').hexdigest()
    assert runtime.digest({"a": (1, 2)}) == runtime.digest({"a": [1, 2]})
    assert runtime.digest({"a": 1}) != runtime.digest({"a": "1"})


def test_digest_takes_dataclasses_paths_and_numpy_scalars_for_what_they_hold():
    @dataclass
    class Config:
        lr: float
        where: Path

    plain = {"lr": 0.5, "where": "x/y"}
    assert runtime.digest(Config(0.5, Path("x/y"))) == runtime.digest(plain)
    assert runtime.digest({"n": np.int64(3)}) == runtime.digest({"n": 3})


@pytest.mark.parametrize(
    ("bad", "error"), [(float("nan"), ValueError), (np.zeros(3), TypeError), (object(), TypeError)]
)
def test_digest_refuses_what_has_no_one_text(bad, error):
    with pytest.raises(error):
        runtime.digest({"a": bad})


def test_file_digest_is_sha256(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(os.urandom(3_000_001))
    assert runtime.file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_known_digest_is_read_again_only_where_the_file_has_changed(tmp_path, monkeypatch):
    path, read = tmp_path / "file", []
    digest = runtime.file_digest
    monkeypatch.setattr(runtime, "file_digest", lambda file: read.append(file) or digest(file))
    path.write_text("one")
    assert [runtime.known_digest(path) for _ in range(2)] == [digest(path)] * 2
    path.write_text("three")
    assert runtime.known_digest(path) == digest(path)
    os.utime(path, ns=(0, 0))
    assert runtime.known_digest(path) == digest(path)
    assert len(read) == 3


def test_atomic_write_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    runtime.atomic_write(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    runtime.atomic_write(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        runtime.atomic_write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json_round_trip_turns_what_json_lacks_into_null(tmp_path):
    path = tmp_path / "a.json"
    runtime.write_json(
        path, {"a": [1.5, float("nan"), np.float64("inf")], "b": np.float32(0.5), "c": (True, None, "é")}
    )
    assert runtime.read_json(path) == {"a": [1.5, None, None], "b": 0.5, "c": [True, None, "é"]}
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_file_that_is_not_json_is_a_value_error(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        runtime.read_json(tmp_path / "a.json")


def test_versions_and_machine_are_small_and_fit_json():
    versions, machine = runtime.versions(), runtime.machine()
    assert Version(versions["torch"]).public == Version(torch.__version__).public  # of CUDA one of them names it alone
    assert versions["numpy"] == np.__version__
    assert set(machine) == {"cpu", "cores", "threads", "gpu", "platform"}
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert len(json.dumps([versions, machine])) < 2000


def test_commit_names_the_source_trees_state(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    source = tmp_path / "orca" / "runtime.py"
    source.parent.mkdir()
    source.write_text("1")
    monkeypatch.setattr(runtime, "__file__", str(source))
    ask = runtime.commit.__wrapped__  # without the cache
    assert ask() is None
    git("init", "-q")
    assert ask() is None
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git("tag", "v1")
    assert ask() == git("rev-parse", "HEAD")
    source.write_text("2")
    assert ask() == git("rev-parse", "HEAD") + "-dirty"


def test_the_peak_of_memory_is_counted_anew():
    reset_peak_memory()
    start = peak_memory_mb()
    assert 50 < start < 100_000
    held = np.ones(40 * 2**17)  # 40 MiB
    after = peak_memory_mb()
    assert after > start + 30
    del held
    reset_peak_memory()
    assert peak_memory_mb() < after - 30 or not Path("/proc/self/clear_refs").exists()


def test_the_peak_of_gpu_memory_is_that_of_the_fullest_device_where_there_is_one(monkeypatch):
    assert peak_gpu_memory_mb() is None or torch.cuda.is_initialized()
    held = {0: 3 * 2**20, 1: 5 * 2**20}
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", held.__getitem__)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda device: held.update({device: 2**20}))
    assert peak_gpu_memory_mb() == 5
    reset_peak_memory()
    assert peak_gpu_memory_mb() == 1


def test_the_module_alone_imports_no_heavy_package():
    code = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('alone', sys.argv[1]);"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec));"
        "sys.exit(bool({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, runtime.__file__], check=False).returncode == 0


def test_the_library_only_has_a_named_logger():
    assert runtime.log.name == "orca.runtime"
    assert not logging.getLogger("orca").handlers


def test_runs_take_turns_on_a_gpu_but_not_on_the_cpu() -> None:
    order: list[str] = []

    def other(device: torch.device) -> None:
        with device_turn(device):
            order.append(str(device))

    waiting = threading.Thread(target=other, args=(torch.device("cuda", 1),))
    with device_turn(torch.device("cuda", 1)):
        waiting.start()
        for free in (torch.device("cpu"), torch.device("cuda", 0)):
            other(free)
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join(60)
    assert order == ["cpu", "cuda:0", "cuda:1"]


def test_a_turn_is_for_the_gpu_and_not_for_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = ["GPU-a"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=shown[0]))
    for shown[0] in ("GPU-a", "GPU-b"):  # the second as in a process that is shown this one alone
        with device_turn(torch.device("cuda", 0)):
            pass
    locks = {lock.name for lock in (runtime.user_cache() / "turns").glob("*GPU-?.lock")}
    assert {name[-10:] for name in locks} == {"GPU-a.lock", "GPU-b.lock"}
