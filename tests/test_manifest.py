from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orca import manifest as manifest_module
from orca.manifest import Cost
from orca.store import Store
from tests.test_store import Build, files_under

DOCUMENT = {"config": {"lr": 0.1, "sizes": (1, 2)}, "inputs": ["ab"], "version": 1}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture(autouse=True)
def _nothing_verified_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "_verified", {})


def test_the_manifest_says_what_made_the_files(store):
    ref = store.stage("embed", DOCUMENT, Build())
    manifest = json.loads((ref.path / "manifest.json").read_text())
    assert (manifest["stage"], manifest["key"]) == ("embed", ref.key)
    assert manifest["document"] == json.loads(json.dumps(DOCUMENT))
    assert set(manifest["files"]) == {"a.txt", "deep/b.bin"}
    assert manifest["versions"]["python"]
    assert {"seconds", "created"} <= set(manifest)


def test_costs_of_stages_one_after_the_other_are_times_together_and_the_highest_peak() -> None:
    both = Cost.together([Cost(2.0, 3.0, 100.0), Cost(0.5, None, 250.0, None)])
    assert both == Cost(2.5, 3.0, 250.0, None)


def change_byte(path: Path) -> None:
    stat = (path / "a.txt").stat()
    (path / "a.txt").write_text("x")  # same size
    os.utime(path / "a.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))


def other_key(path: Path) -> None:
    content = json.loads((path / "manifest.json").read_text())
    content["document"]["version"] = 7
    (path / "manifest.json").write_text(json.dumps(content))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "byte changed": change_byte,
    "file missing": lambda path: (path / "deep" / "b.bin").unlink(),
    "file longer": lambda path: (path / "a.txt").write_text("aa"),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "half a manifest": lambda path: os.truncate(path / "manifest.json", 40),
    "binary manifest": lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe\x00"),
    "manifest of another kind": lambda path: (path / "manifest.json").write_text("[1]"),
    "document changed": other_key,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_detected_set_aside_and_mended(store, name, caplog):
    build = Build()
    path = store.stage("embed", DOCUMENT, build).path
    DAMAGES[name](path)
    damaged = files_under(path)
    assert store.find("embed", DOCUMENT) is None
    mended = store.stage("embed", DOCUMENT, build)
    assert not mended.cached
    assert build.calls == 2
    assert "is damaged" in caplog.text
    assert "set aside" in caplog.text
    [aside] = (store.root / "damaged").iterdir()
    assert aside.name.startswith(f"embed-{mended.key}-")
    assert files_under(aside) == damaged
    assert store.stage("embed", DOCUMENT, build).cached


def test_damage_after_a_first_verification_is_seen_in_the_same_process(store):
    path = store.stage("embed", DOCUMENT, Build()).path
    assert store.stage("embed", DOCUMENT, Build()).cached
    (path / "a.txt").write_text("x")
    assert not store.stage("embed", DOCUMENT, Build()).cached


def test_checksums_are_computed_once_in_a_process(store, monkeypatch):
    store.stage("embed", DOCUMENT, Build())
    assert store.find("embed", DOCUMENT)
    monkeypatch.setattr(manifest_module.runtime, "file_digest", lambda path: pytest.fail("read again"))
    assert store.find("embed", DOCUMENT)
    assert Store(store.root).find("embed", DOCUMENT)


def test_files_beside_those_of_the_manifest_are_no_damage(store):
    path = store.stage("embed", DOCUMENT, Build()).path
    (path / ".DS_Store").write_text("")
    assert store.find("embed", DOCUMENT)


def test_a_directory_that_may_not_be_read_is_not_taken_for_damaged(store, monkeypatch):
    path = store.stage("embed", DOCUMENT, Build()).path

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(PermissionError):
        store.stage("embed", DOCUMENT, Build())
    assert path.exists()
