"""Sweeps and comparisons under Prefect's own harness: what is shared, what a failure leaves, what is done again."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from filelock import FileLock

from flows.sweeps.processes import JobKilled, Processes
from flows.sweeps.runners import check_runner
from flows.sweeps.table import SweepTable, planned, read_sweep
from flows.sweeps.text import means_text
from orca.errors import InputError
from orca.runtime import number, read_json
from orca.store import Store
from orca.sweeps.cells import cells
from orca.sweeps.grid import check_grid, load_grid
from orca.sweeps.sharing import share
from tests.patience import PATIENCE
from tests.records import recording
from tests.sweeping import (
    AXES,
    GRID,
    command,
    document,
    in_children,
    in_turn,
    stages,
    states,
    task_runs,
    tiny_place,
    write_grid,
)


@pytest.fixture(scope="module", autouse=True)
def harness() -> Iterator[None]:
    with recording(), in_turn():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def first(place: Path) -> Any:
    """A sweep of four runs, of which a diverging one fails at once, beside a task whose data is not there."""
    tasks = [str(place / "tiny.yaml"), "signdigits"]
    grid = write_grid(place, "grid", **GRID, tasks=tasks, exclude=[{"task": "signdigits", "method": "head"}])
    with in_children(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCA_DATA", str(place / "nowhere"))
        return command("sweep", grid, "--workers", 2, "--store", place / "store", "--json")


def test_shared_stages_run_once_and_a_failing_run_stops_no_other(first: Any, place: Path) -> None:
    found = document(first)
    assert first.exit_code == 1
    assert states({"runs": [r for r in found["runs"] if r["task"] == "tiny"]}, "method", "finetune.lr") == {
        ("full", 1e-3): "completed", ("full", 1e30): "failed", ("head", 1e-3): "completed", ("head", 1e30): "completed"
    }  # fmt: skip
    assert stages(place / "store") == {"embed": 1, "align": 1, "finetune": 3, "evaluate": 3, "baselines": 1}
    names = [run.name for run in task_runs(found["flow_run"], 2 + 4 + 3 + 1 + 3)]
    assert {name: names.count(name) for name in set(names)} == {
        "embed-tiny-full-s0": 1, "align-tiny-full-s0": 1, "baselines-tiny-full-s0": 1, "finetune-tiny-full-s0": 2,
        "finetune-tiny-head-s0": 2, "evaluate-tiny-full-s0": 1, "evaluate-tiny-head-s0": 2, "report-tiny-full-s0": 1,
        "report-tiny-head-s0": 2,
    }  # fmt: skip


def test_the_table_tells_which_failed_and_why(first: Any, place: Path) -> None:
    reasons = [row["reason"] for row in document(first)["runs"] if row["state"] == "failed"]
    assert reasons[0].startswith("finetune failed: the training loss became ")
    assert len(reasons) == 3
    assert all("signdigits" in reason for reason in reasons[1:])
    assert first.stderr.splitlines()[0] == (
        "6 runs, 20 stages: 11 after sharing, 0 in the store already, 11 to do, 2 runs cannot start"
    )
    assert "[6/6]" in first.stderr
    shown = command("sweep", place / "grid.yaml", "--status", "--store", place / "store")
    assert shown.stdout.startswith("grid: failed; 6 runs")
    assert "finetune failed: the training loss" in shown.stdout


def test_a_finished_run_is_a_run_as_any_other(first: Any, place: Path) -> None:
    row = document(first)["runs"][0]
    record = json.loads((place / "store" / "runs" / row["run"] / "run.json").read_text())
    assert record["metric"]["value"] == row["test"]
    assert [stage["name"] for stage in record["stages"]] == ["embed", "align", "finetune", "evaluate"]
    assert [stage["cached"] for stage in record["stages"]] == [False] * 4


def test_started_again_it_tries_only_what_is_missing(first: Any, place: Path) -> None:
    again = command("sweep", write_grid(place, "again", **GRID), "--store", place / "store", "--json")
    assert again.exit_code == 1
    assert "9 in the store already, 2 to do" in again.stderr
    assert [run.name for run in task_runs(document(again)["flow_run"], 1)] == ["finetune-tiny-full-s0"]


def test_a_comparison_gives_means_over_seeds_and_says_how_the_test_set_was_used(first: Any, place: Path) -> None:
    options = ["--methods", "full,head", "--aligns", "none", "--seeds", "0..1", "--store", place / "store"]
    found = document(command("compare", place / "tiny.yaml", *options, "--json"))
    assert found["state"] == "completed"
    assert found["compare"].startswith("compare-tiny-")
    head = [row["test"] for row in found["runs"] if row["method"] == "head"]
    assert found["means"][1]["test"]["mean"] == pytest.approx(sum(head) / 2)
    shown = means_text(found, found["means"])
    header, *rows = shown.splitlines()
    assert header.split()[:4] == ["task", "method", "metric", "test"]
    assert [row.split()[:2] for row in rows[:2]] == [["tiny", method] for method in ("full", "head")]
    assert all("±" in row and row.endswith("  2") for row in rows[:2])
    assert found["means"][1]["difference"]["seeds"] == 2
    assert found["means"][1]["trained"] < found["means"][0]["trained"]
    folder = place / "store" / "sweeps" / found["compare"]
    assert json.loads((folder / "comparison.json").read_text()) == found["means"]
    assert all((folder / f"comparison.{kind}").is_file() for kind in ("md", "csv", "svg"))
    assert "opened once per run, after validation had chosen the epoch" in shown


def test_a_grid_that_ends_with_finetune_leaves_test_sets_closed_until_a_run_is_resumed(
    place: Path, tmp_path: Path
) -> None:
    grid = {"methods": ["full", "head"], "aligns": ["none"], "seeds": [0, 1]}
    closed = write_grid(place, "closed", **grid, until="finetune")
    found = document(command("sweep", closed, "--store", tmp_path, "--json"))
    assert set(stages(tmp_path)) == {"embed", "align", "finetune"}
    assert [(row["state"], row["test"]) for row in found["runs"]] == [("completed", None)] * 4
    full, head = found["means"]
    assert full["rank"] is full["test"]["mean"] is None
    assert head["difference"]["mean"] == pytest.approx(head["validation"]["mean"] - full["validation"]["mean"])
    shown = means_text(found, found["means"])
    assert "test" not in shown.splitlines()[0].split()
    assert "mean difference of the validation metric" in shown
    assert "Test sets were not opened" in shown
    name = found["runs"][0]["run"]
    record = read_json(tmp_path / "runs" / name / "run.json")
    assert (record["state"], record["metric"]["value"]) == ("validated", None)
    assert record["validation"]["value"] == found["runs"][0]["validation"]
    assert sorted(file.name for file in (tmp_path / "runs" / name).iterdir()) == ["config.yaml", "run.json"]
    told = command("show", name, "--store", tmp_path).stdout
    assert f"validated: trained and measured on validation; the test set was not opened\n  orca resume {name}" in told
    assert f"  validation  {record['metric']['name']} {number(record['validation']['value'])}\n" in told

    again = command("sweep", closed, "--store", tmp_path)
    assert again.exit_code == 0, again.stderr
    assert "8 in the store already, 0 to do" in again.stderr
    resumed = command("resume", name, "--store", tmp_path)
    assert resumed.exit_code == 0, resumed.stderr
    assert read_json(tmp_path / "runs" / name / "run.json")["state"] == "completed"
    assert stages(tmp_path) == {"embed": 2, "align": 2, "finetune": 4, "evaluate": 1, "baselines": 1}
    rows = document(command("sweep", closed, "--store", tmp_path, "--json"))["runs"]
    assert [row["validation"] for row in rows] == [row["validation"] for row in found["runs"]]
    assert [row["test"] for row in rows] == [None] * 4  # though one was opened meanwhile
    opened = document(command("sweep", write_grid(place, "opened", **grid), "--store", tmp_path, "--json"))
    assert all(row["test"] is not None for row in opened["runs"])
    assert stages(tmp_path)["evaluate"] == 4


def test_with_one_worker_a_run_is_finished_before_the_next_begins(place: Path, tmp_path: Path) -> None:
    result = command(
        "sweep", write_grid(place, "deep", seeds=[0, 1], aligns=["none"]), "--workers", 1, "--store", tmp_path
    )
    assert result.exit_code == 0, result.stderr
    first, second = sorted(path.stat().st_mtime_ns for path in tmp_path.glob("stages/embed/*/manifest.json"))
    reports = sorted(path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/report.html"))
    assert first < reports[0] < second < reports[1]


def test_a_setting_may_be_a_list_and_the_table_names_its_axes(first: Any, place: Path) -> None:
    grid = write_grid(place, "lists", methods="head", aligns="none", settings={"finetune.augment": [[]]})
    result = command("sweep", grid, "--store", place / "store", "--json")
    assert result.exit_code == 0, result.stderr
    assert document(result)["axes"] == [*AXES, "finetune.augment"]
    assert document(result)["means"][0]["finetune.augment"] == []


def test_finished_runs_are_found_where_the_store_is_now_and_a_damaged_record_is_written_anew(
    first: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(place / "store", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    grid = write_grid(place, "moved", methods=["full", "head"], aligns=["none"], settings={"finetune.lr": [1e-3]})
    asked = ["sweep", grid, "--store", "moved", "--json"]
    rows = document(command(*asked))["runs"]
    assert [Path(row["path"]) for row in rows] == [tmp_path / "moved" / "runs" / row["run"] for row in rows]
    record = Path(rows[0]["path"]) / "run.json"
    record.write_text("{")
    again = command(*asked)
    assert again.exit_code == 0, again.stderr
    assert document(again)["runs"] == rows
    assert json.loads(record.read_text())["state"] == "completed"


@pytest.mark.parametrize("name", ["../../x", "a/b", ".", "..", ".hidden", "/x"])
def test_a_sweeps_name_is_no_path(place: Path, tmp_path: Path, name: str) -> None:
    for more in ([], ["--status"]):
        refused = command("sweep", write_grid(place, "named"), "--name", name, "--store", tmp_path / "in" / "it", *more)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert f"not a path; got '{name}'" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_comparison_of_a_configuration_in_a_folder_has_a_plain_name(first: Any, place: Path, monkeypatch) -> None:
    monkeypatch.setattr("orca.sweeps.cells.find_config", lambda name: place / "tiny.yaml")
    result = command("compare", "folder/tiny", "--methods", "head", "--aligns", "none", "--store", place / "store")
    assert result.exit_code == 0, result.stderr
    assert list((place / "store" / "sweeps").glob("compare-tiny-*/sweep.json"))
    assert not list((place / "store" / "sweeps").glob("compare-folder"))


def kill_when(found: Callable[[], bool]) -> threading.Thread:
    """Kills the one child of this process as soon as something is there."""

    def watch() -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if found():
                os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_killed_job_fails_its_run_alone_and_goes_on_where_it_was(place: Path, tmp_path: Path) -> None:
    grid = write_grid(
        place, "killed", aligns=["none"], settings={"finetune.epochs": [60, 2, 3], "finetune.patience": [60]}
    )
    sharing = share(cells(load_grid(grid)), Store(tmp_path))
    (victim,) = [
        name for name, job in sharing.jobs.items() if job.stage == "finetune" and job.config.finetune.epochs == 60
    ]
    killer = kill_when(lambda: any((tmp_path / ".work" / victim / "checkpoint").glob("*")))
    with in_children():
        found = document(command("sweep", grid, "--workers", 1, "--store", tmp_path, "--json"))
    killer.join()
    assert states(found, "finetune.epochs") == {(60,): "failed", (2,): "completed", (3,): "completed"}
    assert found["runs"][0]["reason"] == (
        "finetune failed: JobKilled: its process ended from outside; was there enough memory?"
    )
    again = command("sweep", grid, "--workers", 1, "--store", tmp_path, "--json")
    assert again.exit_code == 0, again.stderr
    assert "2 to do" in again.stderr  # its finetuning and its evaluation
    history = (Path(document(again)["runs"][0]["path"]) / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in history if '"finetune"' in line] == list(range(1, 61))


def test_a_child_that_is_killed_has_a_successor_and_close_ends_all() -> None:
    children = Processes({"ORCA_TEST": "set before the child"})
    try:
        assert children.call(os.getenv, "ORCA_TEST") == "set before the child"
        assert "ORCA_TEST" not in os.environ
        one = children.call(os.getpid)
        assert children.call(os.getpid) == one
        with pytest.raises(JobKilled, match="was there enough memory"):
            children.call(signal.raise_signal, signal.SIGKILL)
        assert children.call(os.getpid) not in (one, os.getpid())
        with pytest.raises(ZeroDivisionError):
            children.call(divmod, 1, 0)
    finally:
        children.close()
    assert multiprocessing.active_children() == []
    with pytest.raises(JobKilled, match="the sweep was stopped"):
        children.call(os.getpid)


def test_children_do_not_outlive_a_parent_that_is_killed() -> None:
    code = (
        "import os, signal, threading, time\nfrom flows.sweeps.processes import Processes\nchildren = Processes({})\n"
        "print(children.call(os.getpid), flush=True)\n"
        "threading.Thread(target=children.call, args=(time.sleep, 600), daemon=True).start()\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(600):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split(") ")[1][0] == "Z":
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child was still there after a minute")


def test_a_sweep_is_at_work_once_and_one_that_died_counts_as_stopped(place: Path, tmp_path: Path) -> None:
    store, grid = Store(tmp_path).make(), check_grid({"tasks": [str(place / "tiny.yaml")]})
    table = SweepTable(store, "s", share(cells(grid), store))
    with table.open("flow run"):
        assert read_sweep(store, "s")["state"] == "running"
        with (
            pytest.raises(InputError, match="the sweep s is at work in another process"),
            SweepTable(store, "s", table.sharing).open(None),
        ):
            pass
        left = (tmp_path / "sweeps" / "s" / "sweep.json").read_text()
    (tmp_path / "sweeps" / "s" / "sweep.json").write_text(left)  # as one that was killed leaves it
    assert read_sweep(store, "s")["state"] == "stopped"
    with pytest.raises(InputError, match="has no sweep 'other'"):
        read_sweep(store, "other")


def test_a_look_at_a_sweep_keeps_none_from_work_and_sees_its_end(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, grid = Store(tmp_path).make(), check_grid({"tasks": [str(place / "tiny.yaml")]})
    table = SweepTable(store, "s", share(cells(grid), store))
    (looking := FileLock(tmp_path / ".locks" / "sweep=s.lock")).acquire()
    monkeypatch.setattr("filelock._api.time.sleep", lambda seconds: looking.release())  # while work waits
    with table.open(None):
        assert not looking.is_locked
    read = read_json

    def while_it_ends(file: Path) -> Any:
        before = read(file)
        monkeypatch.setattr("flows.sweeps.table.read_json", read)
        file.write_text(json.dumps({**before, "state": "completed"}))
        return {**before, "state": "running"}

    monkeypatch.setattr("flows.sweeps.table.read_json", while_it_ends)
    assert read_sweep(store, "s")["state"] == "completed"


def test_a_sweep_that_has_ended_outlives_its_server(place: Path, tmp_path: Path, monkeypatch) -> None:
    ends, told = True, []

    def lost(*given: Any, **named: Any) -> None:
        table = planned()
        assert table is not None
        if ends:
            with table.open(None):
                pass
        raise httpx.ConnectError("refused")

    monkeypatch.setattr("flows.sweeps.flow.sweep_flow", lost)
    monkeypatch.setattr("flows.sweeps.flow.log.warning", lambda text, *values: told.append(text % values))
    asked = ["sweep", write_grid(place, "outlives"), "--store", tmp_path, "--json"]
    result = command(*asked)
    assert (result.exit_code, document(result)["state"]) == (0, "completed")
    assert told == ["the Prefect server went away (refused); it will count this sweep as crashed, but it has ended"]
    ends = False
    assert isinstance(command(*asked).exception, httpx.ConnectError)


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(place: Path, tmp_path: Path) -> None:
    shown = command("sweep", write_grid(place, "dry"), "--dry-run", "--store", tmp_path / "store")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == "1 run, 6 stages: 6 after sharing, 0 in the store already, 6 to do\n"
    assert not (tmp_path / "store").exists()


def test_a_dry_run_needs_no_prefect(place: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom flows.cli import app\n"
        "assert CliRunner().invoke(app, sys.argv[1:]).exit_code == 0\nassert 'prefect' not in sys.modules"
    )
    asked = ["sweep", write_grid(place, "bare"), "--dry-run", "--store", tmp_path]
    subprocess.run([sys.executable, "-c", code, *map(str, asked)], check=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--runner", "slurm"], "there is no runner 'slurm'; there are: local, dask, ray"),
        (["--address", "tcp://a:1"], "--address names a Dask or Ray cluster, and the local runner has none"),
        (["--status", "--name", "other"], "has no sweep 'other'"),
    ],
)
def test_bad_options_are_refused_before_work(place: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    refused = command("sweep", write_grid(place, "refused"), "--store", tmp_path, *arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert said in refused.stderr


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package prefect-ray: pip install 'orca\[ray\]'"):
        check_runner("ray", None)
