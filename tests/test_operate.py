"""Runs on a real server: cancelled, killed, resumed, through a restart of the server, on one slot, on PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.servers import heartbeat
from flows.sweeps.table import read_sweep
from orca.runs import list_runs
from orca.store import Store
from tests.postgres import postgres, programs
from tests.served import COMMAND, Server, free_port, started, wait_for
from tests.test_run import settings
from tests.tiny import save_tiny_body

LONG = {"epochs": 4000, "patience": 4000}  # minutes; it is stopped long before


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_body(tmp_path_factory.mktemp("body") / "tiny")


class Bench:
    """Runs of one configuration in one store, as processes of their own."""

    def __init__(self, server: Server, folder: Path, body: Path, **changes: Any) -> None:
        self.server, self.folder = server, folder
        self.store = Store(folder / "store")
        self.config = folder / "tiny.yaml"
        self.config.write_text(yaml.safe_dump(settings(folder, body, **changes)))

    def begin(self, *options: str, command: str = "run") -> subprocess.Popen[str]:
        """A run, or a sweep, that has come to its third stage, with a checkpoint."""
        given = self.config
        if command == "sweep":
            given = self.folder / "grid.yaml"
            given.write_text(yaml.safe_dump({"tasks": [str(self.config)], "seeds": [0, 1]}))
        process = subprocess.Popen(
            [*COMMAND, command, str(given), "--store", str(self.store.root), *options],
            env=self.server.environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for(self.checkpoint, "a checkpoint of finetune")
        return process

    def checkpoint(self) -> bool:
        return any(self.store.root.glob(".work/finetune-*/checkpoint/state.safetensors"))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.server.command(*arguments, "--store", str(self.store.root))

    @property
    def record(self) -> dict[str, Any]:
        (record,) = list_runs(self.store)
        return record

    def flow_run(self) -> dict[str, Any]:
        return self.server.ask(f"/api/flow_runs/{self.record['flow_run']}")[1]


def test_a_cancelled_run_ends_with_a_checkpoint_and_is_resumed_from_it(server: Server, tmp_path: Path, body: Path):
    bench = Bench(server, tmp_path, body, finetune=LONG)
    process = bench.begin()
    shown = bench.command("show", "tiny")
    assert "  running since it was started at" in shown.stdout
    made = bench.command("cancel", "tiny")
    assert made.returncode == 0, made.stderr
    assert "by the server at http://127.0.0.1" in made.stderr
    name = bench.record["run"]
    assert made.stdout == f"{name} is cancelled; go on with: orca resume {name}\n"
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (
        130, "orca: stopped; orca resume, or the same command, goes on from the last checkpoint\n",
    )  # fmt: skip
    assert bench.flow_run()["state"]["name"] == "Cancelled"
    assert bench.checkpoint()
    assert "there is nothing to cancel" in bench.command("cancel", "tiny").stderr

    before = bench.record["flow_run"]
    resumed = subprocess.Popen(
        [*COMMAND, "resume", name, "--store", str(bench.store.root)], env=server.environment, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: bench.record["state"] == "running", "the resumed run")
    linked = wait_for(bench.flow_run, "its record")
    assert linked["id"] != before
    assert f"resumes-{before[:8]}" in linked["tags"]
    assert bench.command("cancel", name).returncode == 0
    assert resumed.wait(60) == 130
    assert bench.record["state"] == "cancelled"


def test_a_killed_run_is_told_as_crashed_at_once_and_goes_on(server: Server, tmp_path: Path, body: Path):
    bench = Bench(server, tmp_path, body, finetune={"epochs": 60, "patience": 60})
    process = bench.begin()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert (bench.record["state"], bench.record["reason"]) == ("crashed", "its process ended without a word")
    made = bench.command("resume", "tiny", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["run"] == bench.record["run"]
    assert bench.record["state"] == "completed"


def test_the_server_calls_a_killed_run_crashed(tmp_path: Path, body: Path):
    home = tmp_path / "home"
    home.mkdir()
    with started(home) as server:
        hasty = heartbeat.crash_automation(heartbeat.HEARTBEAT + 10)  # 90 s, else
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.port}/api"}):
            hasty.create()
        bench = Bench(server, tmp_path, body, finetune=LONG)
        process = bench.begin()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        wait_for(lambda: bench.flow_run()["state"]["name"] == "Crashed", "the end of a run that gave no sign of life")
        assert bench.flow_run()["state"]["message"] == f"no sign of life for {heartbeat.HEARTBEAT + 10} s"


def test_without_a_server_that_knows_it_a_run_is_cancelled_by_a_signal(tmp_path: Path, body: Path, server: Server):
    alone = {**server.environment, "PREFECT_HOME": str(tmp_path / "home")}  # where no `orca ui` has left a note
    bench = Bench(Server(server.port, alone), tmp_path, body, finetune=LONG)
    process = bench.begin()
    made = bench.command("cancel", "tiny")
    assert made.returncode == 0, made.stderr
    assert made.stderr == f"asked {bench.record['run']} to end, by a signal\n"
    process.communicate(timeout=60)
    assert (process.returncode, bench.record["state"]) == (130, "cancelled")


def test_a_run_goes_through_a_restart_of_the_server(tmp_path: Path, body: Path):
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    with started(home, port) as server:
        bench = Bench(server, tmp_path, body, finetune=LONG)
        process = bench.begin()
    with started(home, port):
        assert process.poll() is None
        assert bench.flow_run()["state"]["name"] == "Running"
        assert bench.command("cancel", "tiny").returncode == 0
        process.communicate(timeout=60)
        assert bench.flow_run()["state"]["name"] == "Cancelled"


def test_a_run_ends_well_though_the_server_went_away(tmp_path: Path, body: Path):
    home = tmp_path / "home"
    home.mkdir()
    with started(home) as server:
        server.environment["PREFECT_CLIENT_MAX_RETRIES"] = "1"  # two seconds each; 14 where nothing is set
        bench = Bench(server, tmp_path, body, finetune={"epochs": 40, "patience": 40})
        process = bench.begin("--json")
    made, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert json.loads(made)["run"] == bench.record["run"]
    assert bench.record["state"] == "completed"
    assert "the server is away; it frees the slot of finetune by itself" in said
    assert "the server is away; evaluate goes on without its slot" in said
    assert "it will count this run as crashed, but it is done\n" in said
    assert "EventsWorker" not in said


def test_a_sweep_is_cancelled_in_the_pages(server: Server, tmp_path: Path, body: Path):
    bench = Bench(server, tmp_path, body, finetune=LONG)
    process = bench.begin("--workers", "1", command="sweep")
    flow_run = read_sweep(bench.store, "grid")["flow_run"]
    server.ask(f"/api/flow_runs/{flow_run}/set_state", {"state": {"type": "CANCELLING"}}, "POST")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert said.endswith("orca: stopped; the same command does what is missing\n")
    assert server.ask(f"/api/flow_runs/{flow_run}")[1]["state"]["name"] == "Cancelled"
    assert read_sweep(bench.store, "grid")["state"] == "stopped"
    assert bench.checkpoint()


def test_runs_that_need_more_than_there_is_take_turns(server: Server, tmp_path: Path, body: Path):
    first, second = (Bench(server, tmp_path / name, body, finetune=LONG) for name in made_folders(tmp_path))
    process = first.begin()
    held = [limit for limit in server.ask("/api/v2/concurrency_limits/filter", {})[1] if limit["active_slots"]]
    (limit,) = held
    assert limit["name"].endswith("-memory-gib")
    assert (
        server.ask(f"/api/v2/concurrency_limits/{limit['name']}", {"limit": limit["active_slots"]}, "PATCH")[0] == 204
    )
    waiting = subprocess.Popen(
        [*COMMAND, "run", str(second.config), "--store", str(second.store.root)], env=server.environment,
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: any(second.store.root.glob("stages/embed/*")), "the embed stage, which needs no slot")
    assert not any(second.store.root.glob(".work/align-*"))
    assert first.command("cancel", "tiny").returncode == 0
    process.communicate(timeout=60)
    wait_for(second.checkpoint, "the second run's third stage")
    assert second.command("cancel", "tiny").returncode == 0
    assert waiting.wait(60) == 130


def made_folders(folder: Path) -> list[str]:
    names = ["one", "two"]
    for name in names:
        (folder / name).mkdir()
    return names


@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed: apt-get install postgresql")
def test_the_server_keeps_its_records_in_postgresql(tmp_path: Path, body: Path):
    home = tmp_path / "home"
    home.mkdir()
    with (
        postgres(free_port()) as database,
        started(home, PREFECT_SERVER_DATABASE_CONNECTION_URL=database) as server,
    ):
        bench = Bench(server, tmp_path, body)
        made = bench.command("run", str(bench.config), "--json")
        assert made.returncode == 0, made.stderr
        assert bench.flow_run()["state"]["name"] == "Completed"
    assert not list(home.glob("*.db"))
    shutil.rmtree(home)
