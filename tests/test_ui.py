"""The command ``orca ui`` on a real server process: what it shows, whom it answers, and that runs find it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import heartbeat, ui
from tests.test_run import settings
from tests.tiny import save_tiny_body

COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]


@dataclass
class Server:
    """A running ``orca ui``."""

    port: int
    environment: dict[str, str]

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        data = None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **headers}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, given, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text.startswith((b"{", b"[", b"t")) else text
        except urllib.error.HTTPError as fault:
            with fault:
                return fault.code, None

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """An ``orca`` command in the same surroundings."""
        return subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, timeout=300, env=self.environment, check=False
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextlib.contextmanager
def started(home: Path) -> Iterator[Server]:
    """``orca ui`` on a free port with this home; ended in order with the block."""
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**kept, "PREFECT_HOME": str(home)}
    elsewhere = {**environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}  # its pages must not ask there
    process = subprocess.Popen(
        [*COMMAND, "ui", "--port", str(port), "--no-browser"], stdout=subprocess.PIPE, text=True, env=elsewhere
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"http://127.0.0.1:{port}\n", (home / f"orca-ui-{port}.log").read_text()
    try:
        yield Server(port, environment)
    finally:
        process.terminate()  # as Ctrl-C, which a process in the background may have been started deaf to
        code = process.wait(30)
        process.stdout.close()
    assert code == 0
    assert not ui.answers(port)
    assert not list(home.glob("orca-ui-*.json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("home")) as server:
        yield server


def test_its_pages_ask_this_server_and_nobody_else(server: Server):
    shown = server.ask("/ui-settings")[1]
    assert shown["api_url"] == f"http://127.0.0.1:{server.port}/api"
    assert shown["default_ui"] == "v1"  # the second set asks an outside address
    assert b"<html" in server.ask("/")[1]


def test_other_web_pages_may_not_ask_it(server: Server):
    def preflight(origin: str) -> int:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        return server.ask("/api/flow_runs/filter", method="OPTIONS", **asked)[0]

    assert preflight("http://example.org") == 400
    assert preflight(f"http://localhost:{server.port}") == 200


def test_the_crash_automation_is_made_once(server: Server):
    heartbeat.make_crash_automation(f"http://127.0.0.1:{server.port}/api")
    found = server.ask("/api/automations/filter", {})[1]
    assert [(a["name"], a["enabled"]) for a in found] == [("orca: crashed runs", True)]
    assert found[0]["trigger"]["within"] == heartbeat.SILENCE


def test_a_second_one_uses_the_first(server: Server):
    made = server.command("ui", "--port", str(server.port), "--no-browser")
    assert made.returncode == 0
    assert made.stdout == f"http://127.0.0.1:{server.port}\n"
    assert "running already" in made.stderr


def test_a_run_is_recorded_there_though_nothing_names_the_server(server: Server, tmp_path: Path):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(settings(tmp_path, save_tiny_body(tmp_path / "body"))))
    made = server.command("run", str(config), "--store", str(tmp_path / "store"), "--json")
    assert made.returncode == 0, made.stderr
    recorded = server.ask("/api/flow_runs/filter", {})[1]
    assert [(run["id"], run["state"]["type"]) for run in recorded] == [
        (json.loads(made.stdout)["flow_run"], "COMPLETED")
    ]
    tasks = server.ask("/api/task_runs/filter", {})[1]
    assert sorted(task["name"] for task in tasks) == sorted(["embed", "align", "finetune", "evaluate", "report"])


def test_a_port_of_another_program_is_refused(server: Server):
    with socket.create_server(("127.0.0.1", 0)) as other:
        made = server.command("ui", "--port", str(other.getsockname()[1]), "--no-browser")
    assert made.returncode == 2
    assert "is taken by another program; choose another: orca ui --port" in made.stderr


def test_a_stale_note_names_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    (tmp_path / f"orca-ui-{free_port()}.json").write_text("{}")
    (tmp_path / "orca-ui-x.json").write_text("{}")
    assert ui.running_server() is None


def test_a_server_that_the_user_names_comes_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ui, "running_server", lambda: "http://127.0.0.1:4200/api")
    assert "PREFECT_API_URL" not in ui.client_settings({"PREFECT_API_URL": "http://elsewhere/api"})
    assert ui.client_settings({})["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"


def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "nonsense")
    with (
        pytest.raises(ValueError, match=r"ended with code 1; its log, .*orca-ui-[0-9]+.log, ends with"),
        ui.served(free_port()),
    ):
        pass
    assert not list(tmp_path.glob("*.json"))
