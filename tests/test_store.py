from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import orca.store as store_module
from orca.errors import InputError
from orca.store import Store
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = {"config": {"lr": 0.1, "sizes": (1, 2)}, "inputs": ["ab"], "version": 1}

# A process that builds the key of DOCUMENT: says so, then waits for the file `go` (or for its death).
BUILDER = """
import json, logging, os, sys, time
from pathlib import Path
from orca.store import Store

logging.basicConfig(level=logging.INFO)
root, document = Path(sys.argv[1]), json.loads(sys.argv[2])

def build(path):
    with open(root / "built", "a") as log:
        log.write(f"{os.getpid()}\\n")
    (path / "checkpoint").mkdir()
    (path / "checkpoint" / "epoch").write_text("3")
    (path / "part.txt").write_text("half")
    (path / ".1.orca-tmp").write_text("half")
    print("building", flush=True)
    while not (root / "go").exists():
        time.sleep(0.01)
    (path / "part.txt").write_text("whole")

print("ready", flush=True)
ref = Store(root).stage("train", document, build)
print(json.dumps({"cached": ref.cached, "text": (ref.path / "part.txt").read_text()}), flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


class Build:
    """Writes two files and counts its calls."""

    def __init__(self, text: str = "a") -> None:
        self.calls = 0
        self.text = text

    def __call__(self, path: Path) -> None:
        self.calls += 1
        (path / "deep").mkdir(exist_ok=True)
        (path / "a.txt").write_text(self.text)
        (path / "deep" / "b.bin").write_bytes(b"\x00" * 1000)


def start_builder(root: Path, *, stderr: Path) -> subprocess.Popen[str]:
    root.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", BUILDER, str(root), json.dumps(DOCUMENT)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with stderr.open("w") as told:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True, env=environment)


def files_under(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_processor_time_is_kept_apart_from_waiting(store):
    def build(path: Path) -> None:
        time.sleep(0.3)
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass

    made = json.loads((store.stage("embed", DOCUMENT, build).path / "manifest.json").read_text())
    assert made["cpu_seconds"] >= 0.1
    assert made["seconds"] >= made["cpu_seconds"] + 0.2


def test_time_that_a_stage_waited_for_its_turn_is_not_its_cost(store):
    waited = 3600.0  # an hour, which this test has not: what is told is less by it
    made = json.loads((store.stage("embed", DOCUMENT, lambda path: waited).path / "manifest.json").read_text())
    assert made["seconds"] < 0


def test_the_second_call_finds_the_first_ones_work(store):
    build = Build()
    first = store.stage("embed", DOCUMENT, build)
    second = store.stage("embed", DOCUMENT, build)
    assert build.calls == 1
    assert (first.cached, second.cached) == (False, True)
    assert first.path == second.path == store.root / "stages" / "embed" / first.key
    assert first.seconds == second.seconds
    assert first.peak_memory_mb == second.peak_memory_mb
    assert first.peak_memory_mb is not None
    assert first.peak_memory_mb > 1
    assert files_under(first.path) == ["a.txt", "deep/b.bin", "manifest.json"]
    assert store.find("embed", DOCUMENT) == second


def test_the_key_depends_on_name_and_content_but_not_on_order(store):
    key = store.key("embed", {"a": 1, "b": {"x": 10, "y": 9}})
    assert key == store.key("embed", {"b": {"y": 9, "x": 10}, "a": 1})
    assert len(key) == 24
    others = [("align", {"a": 1}), ("embed", {"a": 1}), ("embed", {"a": "1"}), ("embed", {"a": 1.5})]
    assert len({store.key(*other) for other in others} | {key}) == 5
    assert store.key("embed", {9: "a", 10: "b"}) == store.key("embed", {"9": "a", "10": "b"})


def test_a_changed_document_builds_anew_and_keeps_the_old(store):
    first = store.stage("embed", DOCUMENT, Build())
    second = store.stage("embed", DOCUMENT | {"version": 2}, Build("b"))
    assert not second.cached
    assert (first.path / "a.txt").read_text() == "a"
    assert (second.path / "a.txt").read_text() == "b"


def test_an_error_in_build_publishes_nothing_and_keeps_the_work(store):
    def full(path: Path) -> None:
        (path / "part").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.stage("embed", DOCUMENT, full)
    assert not (store.root / "stages").exists()
    [work] = (store.root / ".work").iterdir()
    assert files_under(work) == ["part"]
    seen: list[list[str]] = []
    store.stage("embed", DOCUMENT, lambda path: seen.append(files_under(path)))
    assert seen == [["part"]]
    assert not list((store.root / ".work").iterdir())


def test_the_checkpoint_is_not_published(store):
    def build(path: Path) -> None:
        (path / "checkpoint").mkdir()
        (path / "checkpoint" / "state").write_text("1")
        (path / "result").write_text("2")

    path = store.stage("train", DOCUMENT, build).path
    assert files_under(path) == ["manifest.json", "result"]
    assert not (path / "checkpoint").exists()
    assert store.find("train", DOCUMENT)


def test_work_finished_just_before_a_stop_is_published_not_repeated(store, monkeypatch):
    build = Build()
    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "rename", lambda old, new: (_ for _ in ()).throw(OSError(5, "stopped")))
        with pytest.raises(OSError, match="stopped"):
            store.stage("embed", DOCUMENT, build)
    assert not store.find("embed", DOCUMENT)
    assert (store.stage("embed", DOCUMENT, build).path / "a.txt").read_text() == "a"
    assert build.calls == 1


def test_after_kill_9_the_next_call_goes_on_in_the_same_folder(store, tmp_path):
    process = start_builder(store.root, stderr=tmp_path / "told")
    assert process.stdout
    assert [process.stdout.readline().strip() for _ in range(2)] == ["ready", "building"]
    [work] = (store.root / ".work").iterdir()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert not (store.root / "stages").exists()

    def go_on(path: Path) -> None:
        assert path == work
        assert (path / "checkpoint" / "epoch").read_text() == "3"
        assert not (path / ".1.orca-tmp").exists()
        (path / "part.txt").write_text("whole")

    ref = store.stage("train", DOCUMENT, go_on)
    assert files_under(ref.path) == ["manifest.json", "part.txt"]
    assert store.find("train", DOCUMENT)


def test_of_two_processes_on_one_key_one_builds_and_the_other_waits_and_says_so_once(store, tmp_path):
    told = [tmp_path / "first", tmp_path / "second"]
    processes = [start_builder(store.root, stderr=path) for path in told]
    deadline = time.monotonic() + PATIENCE
    while not any("waiting" in path.read_text() for path in told):
        assert time.monotonic() < deadline, [path.read_text() for path in told]
        time.sleep(0.05)
    assert store.clean() == 0  # live work is left alone
    (store.root / "go").touch()
    results = [json.loads(process.communicate(timeout=PATIENCE)[0].splitlines()[-1]) for process in processes]
    assert sorted(result["cached"] for result in results) == [False, True]
    assert {result["text"] for result in results} == {"whole"}
    assert len((store.root / "built").read_text().splitlines()) == 1
    assert "".join(path.read_text() for path in told).count("waiting") == 1


def test_fresh_replaces_what_is_there_and_starts_from_nothing(store):
    path = store.stage("embed", DOCUMENT, Build()).path
    left = store.root / ".work" / f"embed-{path.name}"
    (left / "checkpoint").mkdir(parents=True)
    (left / "checkpoint" / "state").write_text("old")

    def build(work: Path) -> None:
        assert not files_under(work)
        assert (path / "a.txt").read_text() == "a"  # the old one is there while the new one is made
        (work / "a.txt").write_text("new")

    ref = store.stage("embed", DOCUMENT, build, fresh=True)
    assert not ref.cached
    assert ref.path == path
    assert files_under(path) == ["a.txt", "manifest.json"]
    assert (path / "a.txt").read_text() == "new"
    assert not list((store.root / ".work").iterdir())
    assert store.stage("embed", DOCUMENT, Build()).cached


def test_a_failed_fresh_build_leaves_the_old_one(store):
    store.stage("embed", DOCUMENT, Build())
    with pytest.raises(RuntimeError, match="no"):
        store.stage("embed", DOCUMENT, lambda path: (_ for _ in ()).throw(RuntimeError("no")), fresh=True)
    assert store.find("embed", DOCUMENT)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b"])
def test_names_that_are_no_folder_names_are_refused(store, name):
    with pytest.raises(ValueError, match="must be letters"):
        store.stage(name, DOCUMENT, Build())
    with pytest.raises(ValueError, match="must be letters"):
        store.publish_run(name, Build())


def test_clean_removes_dead_work_and_counts_its_bytes(store):
    assert store.clean() == 0
    dead = store.root / ".work" / "train-0123"
    dead.mkdir(parents=True)
    (dead / "big").write_bytes(b"0" * 5000)
    ref = store.stage("embed", DOCUMENT, Build())
    assert store.clean() == 5000
    assert not dead.exists()
    assert ref.path.exists()


def test_clean_leaves_what_belongs_to_work_under_a_lock(store):
    for name in ("train-0123", "train-0123=fetched", "train-0123=fetched=old", "run=demo=old", "train-4567=old"):
        (store.root / ".work" / name).mkdir(parents=True)
    with store._lock("train-0123"), store._lock("run=demo"):
        store.clean()
        left = {path.name for path in (store.root / ".work").iterdir()}
    assert left == {"train-0123", "train-0123=fetched", "train-0123=fetched=old", "run=demo=old"}
    store.clean()
    assert not any((store.root / ".work").iterdir())


def test_a_hit_is_told_to_who_listens(store, caplog):
    store.stage("embed", DOCUMENT, Build())
    with caplog.at_level(logging.INFO, logger="orca.store"):
        store.stage("embed", DOCUMENT, Build())
    assert "embed: in the store already" in caplog.text


def test_a_store_that_cannot_be_made_says_so(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="store .*file/store cannot be made: Not a directory; choose another --store"):
        Store(tmp_path / "file" / "store").make()
