from __future__ import annotations

from pathlib import Path

import pytest

from orca.runtime import write_json
from orca.store import Store, default_root
from orca.types import InputError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def files_under(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def publish(store: Store, name: str, created: str | None) -> Path:
    return store.publish_run(name, lambda path: write_json(path / "run.json", {"run": name, "created": created}))


def test_a_run_is_replaced_whole_or_not_at_all(store):
    path = publish(store, "fsdd-s0-1f3a", "2026-01-01T00:00:00+00:00")

    def half(folder: Path) -> None:
        (folder / "metrics.json").write_text("{")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        store.publish_run("fsdd-s0-1f3a", half)
    assert files_under(path) == ["run.json"]
    store.publish_run("fsdd-s0-1f3a", lambda folder: (folder / "other").write_text(""))
    assert files_under(path) == ["other"]
    assert not list((store.root / ".work").iterdir())


def test_runs_are_listed_newest_first_with_their_faults(store):
    assert store.list_runs() == []
    publish(store, "b", "2026-01-02T00:00:00+00:00")
    publish(store, "a", "2026-01-03T00:00:00+00:00")
    publish(store, "c", "2026-01-01T00:00:00Z")
    (publish(store, "bad", None) / "run.json").write_text("{")
    publish(store, "list", None).joinpath("run.json").write_text("[]")
    (store.runs_dir / "empty").mkdir()
    runs = store.list_runs()
    assert [run["run"] for run in runs if "fault" not in run] == ["a", "b", "c"]
    assert {run["run"] for run in runs if "fault" in run} == {"bad", "list", "empty"}
    assert runs[-1]["path"] == str(store.runs_dir / "c")


def test_a_run_is_found_by_name_beginning_or_path(store, tmp_path):
    one = publish(store, "fsdd-full-s0", None)
    two = publish(store, "fsdd-full-s0-b", None)
    assert store.run_path("fsdd-full-s0") == one
    assert store.run_path("fsdd-full-s0-") == two
    assert Store(tmp_path / "elsewhere").run_path(str(two)) == two


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fsdd", "2 runs begin with 'fsdd'"),
        ("fsdd-ful-s0", "did you mean fsdd-full-s0"),
        ("", "no run"),
        ("zz", "2 runs"),
    ],
)
def test_a_run_that_is_not_there_names_the_near_ones(store, name, text):
    publish(store, "fsdd-full-s0", None)
    publish(store, "fsdd-head-s0", None)
    with pytest.raises(InputError, match=text):
        store.run_path(name)


def test_the_default_root_is_runs_or_the_environments(monkeypatch, tmp_path):
    monkeypatch.delenv("ORCA_STORE", raising=False)
    assert default_root() == Path("runs")
    monkeypatch.setenv("ORCA_STORE", str(tmp_path))
    assert default_root() == tmp_path


def test_a_file_in_the_stores_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder"):
        Store(tmp_path / "file")
