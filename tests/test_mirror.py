from __future__ import annotations

from pathlib import Path

import pytest

from orca.errors import InputError
from orca.mirror import Mirror
from orca.store import StageRef, Store

DOCUMENT = {"version": 1, "lr": 0.1}


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(f"file://{tmp_path}/far")


def build_with(calls: list[str], text: str = "weights"):
    def build(out: Path) -> None:
        calls.append(text)
        (out / "part").mkdir()
        (out / "part" / "file").write_text(text)

    return build


def stage(store: Store, calls: list[str], *, fresh: bool = False, text: str = "weights") -> StageRef:
    return store.stage("embed", DOCUMENT, build_with(calls, text), fresh=fresh)


def test_what_one_machine_built_another_finds(tmp_path: Path, mirror: Mirror) -> None:
    calls: list[str] = []
    one, two = (Store(tmp_path / name, mirror) for name in ("one", "two"))
    built = stage(one, calls)
    found = stage(two, calls)
    assert calls == ["weights"]
    assert (built.cached, found.cached, found.seconds) == (False, True, built.seconds)
    assert (found.path / "part" / "file").read_text() == "weights"
    assert found.path.is_relative_to(tmp_path / "two")
    assert stage(two, calls).cached
    assert not list((tmp_path / "two" / ".work").iterdir())


def test_a_stage_that_was_not_sent_whole_is_built_here(tmp_path: Path, mirror: Mirror) -> None:
    calls: list[str] = []
    built = stage(Store(tmp_path / "one", mirror), calls)
    (tmp_path / "far" / "embed" / built.key / "manifest.json").unlink()
    assert not stage(Store(tmp_path / "two", mirror), calls).cached
    assert calls == ["weights"] * 2


def test_a_damaged_stage_is_built_here_and_sent_in_its_place(tmp_path: Path, mirror: Mirror, caplog) -> None:
    calls: list[str] = []
    built = stage(Store(tmp_path / "one", mirror), calls)
    (tmp_path / "far" / "embed" / built.key / "part" / "file").write_text("garbled")
    assert not stage(Store(tmp_path / "two", mirror), calls).cached
    assert "damaged" in caplog.text
    assert stage(Store(tmp_path / "three", mirror), calls).cached
    assert calls == ["weights"] * 2


def test_fresh_builds_anew_and_replaces_what_is_far(tmp_path: Path, mirror: Mirror) -> None:
    calls: list[str] = []
    stage(Store(tmp_path / "one", mirror), calls)
    stage(Store(tmp_path / "two", mirror), calls, fresh=True, text="new")
    found = stage(Store(tmp_path / "three", mirror), calls)
    assert ((found.path / "part" / "file").read_text(), calls) == ("new", ["weights", "new"])


def test_work_that_was_begun_here_goes_on_here(tmp_path: Path, mirror: Mirror) -> None:
    calls: list[str] = []
    built = stage(Store(tmp_path / "one", mirror), calls)
    (tmp_path / "two" / ".work" / f"embed-{built.key}" / "checkpoint").mkdir(parents=True)
    assert not stage(Store(tmp_path / "two", mirror), calls).cached


def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Store(tmp_path).mirror is None
    monkeypatch.setenv("ORCA_MIRROR", "memory://orca-test")
    calls: list[str] = []
    stage(Store(tmp_path / "one"), calls)
    assert stage(Store(tmp_path / "two"), calls).cached
    monkeypatch.setenv("ORCA_MIRROR", "nonsense://x")
    with pytest.raises(InputError, match="ORCA_MIRROR must be a URL that fsspec knows, such as s3"):
        Store(tmp_path)
