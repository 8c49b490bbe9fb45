from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from orca.config import check_config, load_config
from orca.errors import InputError
from orca.finishing import validate
from orca.keys import run_name
from orca.plan import Plan, plan
from orca.run import align, embed, finetune
from orca.runs import finished_path, is_finished, list_runs, mark_flow_run, read_run, run_path, track
from orca.runtime import read_json, write_json
from orca.store import Store, default_root
from tests.test_run import settings
from tests.tiny import save_tiny_body


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
    assert list_runs(store) == []
    publish(store, "b", "2026-01-02T00:00:00+00:00")
    publish(store, "a", "2026-01-03T00:00:00+00:00")
    publish(store, "c", "2026-01-01T00:00:00Z")
    (publish(store, "bad", None) / "run.json").write_text("{")
    publish(store, "list", None).joinpath("run.json").write_text("[]")
    (store.runs_dir / "empty").mkdir()
    runs = list_runs(store)
    assert [run["run"] for run in runs if "fault" not in run] == ["a", "b", "c"]
    assert {run["run"] for run in runs if "fault" in run} == {"bad", "list", "empty"}
    assert runs[-1]["path"] == str(store.runs_dir / "c")


def test_a_run_is_found_by_name_beginning_or_path(store, tmp_path):
    one = publish(store, "fsdd-full-s0", None)
    two = publish(store, "fsdd-full-s0-b", None)
    assert run_path(store, "fsdd-full-s0") == one
    assert run_path(store, "fsdd-full-s0-") == two
    assert run_path(Store(tmp_path / "elsewhere"), str(two)) == two


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
        run_path(store, name)


def test_the_default_root_is_runs_or_the_environments(monkeypatch, tmp_path):
    monkeypatch.delenv("ORCA_STORE", raising=False)
    assert default_root() == Path("runs")
    monkeypatch.setenv("ORCA_STORE", str(tmp_path))
    assert default_root() == tmp_path


def test_a_file_in_the_stores_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder"):
        Store(tmp_path / "file")


# Runs that are at work, or did not come to their end.


@pytest.fixture
def made(tmp_path: Path) -> Plan:
    return plan(check_config(settings(tmp_path, save_tiny_body(tmp_path / "body"))))


def standing(store: Store) -> list[tuple[str, str | None]]:
    return [(run["state"], run.get("reason")) for run in list_runs(store)]


def attempt(
    store: Store, made: Plan, fault: BaseException, *, look: Callable[[str], object] = str, flow_run: str | None = None
) -> str:
    """A run that fails, after a look at it; gives its name."""
    with contextlib.suppress(type(fault)), track(made, store, flow_run=flow_run) as name:
        look(name)
        raise fault
    return name


def test_a_run_is_running_until_its_block_ends_and_then_tells_how(store: Store, made: Plan) -> None:
    def look(name: str) -> None:
        assert standing(store) == [("running", None)]
        assert (store.runs_dir / name / "config.yaml").is_file()
        with pytest.raises(InputError, match="is running, so it has no results; wait for its end"):
            finished_path(store, name)

    name = attempt(store, made, OSError("the disk is gone"), look=look, flow_run="f-1")
    assert standing(store) == [("failed", "OSError: the disk is gone")]
    assert read_run(store, name)["flow_run"] == "f-1"
    with pytest.raises(InputError, match=f"is failed, so it has no results; orca resume {name} goes on with it"):
        finished_path(store, name)
    attempt(store, made, KeyboardInterrupt())
    assert standing(store) == [("cancelled", "stopped from outside")]


def test_what_validation_said_of_a_run_stays_when_opening_its_test_set_fails(store: Store, made: Plan) -> None:
    stages = [embed(made, store), align(made, store, embed(made, store))]
    stages.append(finetune(made, store, *stages))
    record = validate(made, store, stages)
    name = run_name(made)
    assert standing(store) == [("validated", "trained and measured on validation; the test set was not opened")]
    assert is_finished(store, name, tested=False)
    assert not is_finished(store, name)
    with pytest.raises(InputError, match=f"the test set of the run {name} is closed; orca resume {name} opens it"):
        finished_path(store, name)

    def look(name: str) -> None:
        assert standing(store)[0][0] == "running"
        validate(made, store, stages)  # a sweep that looks by leaves a run at work alone
        assert standing(store)[0][0] == "running"

    attempt(store, made, OSError("the disk is gone"), look=look)
    told = read_run(store, name)
    assert (told["state"], told["validation"]) == ("failed", record["validation"])
    validate(made, store, stages)
    assert standing(store)[0][0] == "validated"
    publish(store, name, "2026-01-01T00:00:00+00:00")
    validate(made, store, stages)
    assert standing(store)[0][0] == "completed"


def test_its_configuration_makes_the_same_run_again(store: Store, made: Plan) -> None:
    name = attempt(store, made, RuntimeError())
    again = load_config(str(store.runs_dir / name / "config.yaml"))
    assert again == made.config
    assert run_name(plan(again)) == name


def test_a_finished_run_keeps_its_record_when_another_try_fails(store: Store, made: Plan) -> None:
    publish(store, run_name(made), "2026-01-01T00:00:00+00:00")
    seen: list[object] = []
    attempt(store, made, RuntimeError("no luck"), look=lambda name: seen.append(standing(store)))
    assert seen == [[("completed", None)]]
    assert standing(store) == [("completed", None)]
    assert finished_path(store, run_name(made)) == store.runs_dir / run_name(made)


def test_a_run_whose_process_is_gone_has_crashed(store: Store, made: Plan) -> None:
    seen: list[dict[str, Any]] = []
    name = attempt(store, made, RuntimeError(), look=lambda name: seen.append(read_run(store, name)))
    write_json(store.runs_dir / name / "run.json", seen[0])  # as a killed process leaves it: nobody holds its lock
    assert standing(store) == [("crashed", "its process ended without a word")]


def test_a_look_keeps_no_run_from_its_record_and_sees_its_end(
    store: Store, made: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = run_name(made)
    (store.root / ".locks").mkdir(parents=True)
    (looking := FileLock(store.root / ".locks" / f"running={name}.lock")).acquire()
    monkeypatch.setattr("filelock._api.time.sleep", lambda seconds: looking.release())  # while the run waits
    attempt(store, made, RuntimeError("no luck"))
    assert standing(store) == [("failed", "RuntimeError: no luck")]

    def while_it_ends(file: Path) -> Any:
        monkeypatch.setattr("orca.runs.read_json", read_json)
        return {**read_json(file), "state": "running"}

    monkeypatch.setattr("orca.runs.read_json", while_it_ends)
    assert standing(store) == [("failed", "RuntimeError: no luck")]


def test_who_saw_the_process_end_marks_the_run_by_its_flow_run(store: Store, made: Plan) -> None:
    with track(made, store, flow_run="f-1"):
        mark_flow_run(store, "f-2", "crashed", "killed")
        assert standing(store) == [("running", None)]
        mark_flow_run(store, "f-1", "crashed", "killed")
        assert standing(store) == [("crashed", "killed")]
        mark_flow_run(store, "f-1", "cancelled", "too late")
        assert standing(store) == [("crashed", "killed")]


def test_a_second_process_on_one_run_leaves_the_record_to_the_first(store: Store, made: Plan) -> None:
    with track(made, store, flow_run="first") as name:
        attempt(store, made, RuntimeError("of the second"), flow_run="second")
        assert (read_run(store, name)["flow_run"], read_run(store, name)["state"]) == ("first", "running")
