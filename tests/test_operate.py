"""Runs on a real server: cancelled, killed, resumed, through a restart of the server, without it, on PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.events.schemas.events import ResourceSpecification
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import Result

from flows.servers import heartbeat
from flows.sweeps.table import read_sweep
from orca.runs import list_runs
from orca.store import Store
from tests.forked import Command
from tests.postgres import postgres, programs
from tests.records import prepared_home
from tests.served import Server, free_port, started, wait_for
from tests.test_run import settings
from tests.tiny import save_tiny_body

pytestmark = pytest.mark.services

LONG = {"epochs": 4000, "patience": 4000}  # minutes; it is stopped long before


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(prepared_home(tmp_path_factory.mktemp("home"))) as server:
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

    def start(self, *arguments: str) -> Command:
        """A command that goes on."""
        return Command(self.server.environment, self.folder / arguments[0], *arguments, "--store", str(self.store.root))

    @contextlib.contextmanager
    def begin(self, *options: str, command: str = "run") -> Iterator[Command]:
        """A run, or a sweep, that has come to its third stage, with a checkpoint."""
        given = self.config
        if command == "sweep":
            given = self.folder / "grid.yaml"
            given.write_text(yaml.safe_dump({"tasks": [str(self.config)], "seeds": [0, 1]}))
        with self.start(command, str(given), *options) as process:
            wait_for(self.checkpoint, "a checkpoint of finetune")
            yield process

    def checkpoint(self) -> bool:
        return any(self.store.root.glob(".work/finetune-*/checkpoint/state.safetensors"))

    def command(self, *arguments: str) -> Result:
        return self.server.command(*arguments, "--store", str(self.store.root))

    @property
    def record(self) -> dict[str, Any]:
        (record,) = list_runs(self.store)
        return record

    def flow_run(self, identity: str = "") -> dict[str, Any]:
        """That of its record, or the one of this identity."""
        return self.server.ask(f"/api/flow_runs/{identity or self.record['flow_run']}")[1]


@dataclass
class Killed:
    """A run whose process was killed, and its record at the server."""

    bench: Bench
    flow_run: str


@pytest.fixture(scope="module")
def killed(server: Server, body: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """It alone has seed 9, and an automation that waits 40 s for its sign of life; the one of ``orca ui`` waits 90."""
    hasty = heartbeat.crash_automation(heartbeat.HEARTBEAT + 10)
    hasty.trigger.match_related = ResourceSpecification({"prefect.resource.id": "prefect.tag.s9"})
    with temporary_settings({PREFECT_API_URL: server.api}):
        hasty.create()
    epochs = {"epochs": 60, "patience": 60}
    bench = Bench(server, tmp_path_factory.mktemp("killed"), body, seed=9, finetune=epochs)
    with bench.begin() as process:
        os.kill(process.pid, signal.SIGKILL)
        process.ended()
    return Killed(bench, bench.record["flow_run"])


def test_a_killed_run_is_told_as_crashed_at_once_and_goes_on(killed: Killed):
    bench = killed.bench
    assert (bench.record["state"], bench.record["reason"]) == ("crashed", "its process ended without a word")
    made = bench.command("resume", "tiny", "--json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["run"] == bench.record["run"]
    assert bench.record["state"] == "completed"


def test_a_cancelled_run_ends_with_a_checkpoint_and_is_resumed_from_it(server: Server, tmp_path: Path, body: Path):
    bench = Bench(server, tmp_path, body, finetune=LONG)
    with bench.begin() as process:
        shown = bench.command("show", "tiny")
        assert "  running since it was started at" in shown.stdout
        made = bench.command("cancel", "tiny")
        assert made.exit_code == 0, made.stderr
        assert "by the server at http://127.0.0.1" in made.stderr
        name = bench.record["run"]
        assert made.stdout == f"{name} is cancelled; go on with: orca resume {name}\n"
        code, _, said = process.ended()
    assert (code, said) == (
        130, "orca: stopped; orca resume, or the same command, goes on from the last checkpoint\n",
    )  # fmt: skip
    assert bench.flow_run()["state"]["name"] == "Cancelled"
    assert bench.checkpoint()
    assert "there is nothing to cancel" in bench.command("cancel", "tiny").stderr

    before = bench.record["flow_run"]
    with bench.start("resume", name) as resumed:
        wait_for(lambda: bench.record["state"] == "running", "the resumed run")
        linked = wait_for(bench.flow_run, "its record")
        assert linked["id"] != before
        assert f"resumes-{before[:8]}" in linked["tags"]
        assert bench.command("cancel", name).exit_code == 0
        assert resumed.ended()[0] == 130
    assert bench.record["state"] == "cancelled"


def test_without_a_server_that_knows_it_a_run_is_cancelled_by_a_signal(tmp_path: Path, body: Path, server: Server):
    home = prepared_home(tmp_path / "home")  # where no `orca ui` has left a note
    bench = Bench(Server(server.port, {**server.environment, "PREFECT_HOME": str(home)}), tmp_path, body, finetune=LONG)
    with bench.begin() as process:
        made = bench.command("cancel", "tiny")
        assert made.exit_code == 0, made.stderr
        assert made.stderr == f"asked {bench.record['run']} to end, by a signal\n"
        assert (process.ended()[0], bench.record["state"]) == (130, "cancelled")


def test_a_run_goes_through_a_restart_of_the_server_and_ends_well_without_it(tmp_path: Path, body: Path):
    home, port = prepared_home(tmp_path / "home"), free_port()
    with contextlib.ExitStack() as held:
        with started(home, port) as server:
            bench = Bench(server, tmp_path, body, finetune=LONG)
            process = held.enter_context(bench.begin())
        with started(home, port) as server:
            assert process.running()
            assert bench.flow_run()["state"]["name"] == "Running"
            assert bench.command("cancel", "tiny").exit_code == 0
            process.ended()
            assert bench.flow_run()["state"]["name"] == "Cancelled"

            server.environment["PREFECT_CLIENT_MAX_RETRIES"] = "1"  # two seconds each; 14 where nothing is set
            (folder := tmp_path / "last").mkdir()
            bench = Bench(server, folder, body, finetune={"epochs": 40, "patience": 40})
            process = held.enter_context(bench.begin("--json"))
        code, made, said = process.ended(120)
    assert code == 0, said
    assert json.loads(made)["run"] == bench.record["run"]
    assert bench.record["state"] == "completed"
    assert "the server is away; it frees the slot of finetune by itself" in said
    assert "the server is away; evaluate goes on without its slot" in said
    assert "it will count this run as crashed, but it is done\n" in said
    assert "EventsWorker" not in said


def test_a_sweep_is_cancelled_in_the_pages(server: Server, tmp_path: Path, body: Path):
    bench = Bench(server, tmp_path, body, finetune=LONG)
    with bench.begin("--workers", "1", command="sweep") as process:
        flow_run = read_sweep(bench.store, "grid")["flow_run"]
        server.ask(f"/api/flow_runs/{flow_run}/set_state", {"state": {"type": "CANCELLING"}}, "POST")
        code, _, said = process.ended()
    assert code == 130, said
    assert said.endswith("orca: stopped; the same command does what is missing\n")
    assert server.ask(f"/api/flow_runs/{flow_run}")[1]["state"]["name"] == "Cancelled"
    assert read_sweep(bench.store, "grid")["state"] == "stopped"
    assert bench.checkpoint()


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
        assert made.exit_code == 0, made.stderr
        assert bench.flow_run()["state"]["name"] == "Completed"
    assert not list(home.glob("*.db"))
    shutil.rmtree(home)


def test_the_server_calls_a_killed_run_crashed(killed: Killed):
    """The last one here: the server has waited meanwhile."""
    run = lambda: killed.bench.flow_run(killed.flow_run)  # noqa: E731
    wait_for(lambda: run()["state"]["name"] == "Crashed", "the end of a run that gave no sign of life")
    assert run()["state"]["message"] == f"no sign of life for {heartbeat.HEARTBEAT + 10} s"
