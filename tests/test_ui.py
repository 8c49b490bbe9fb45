"""The command ``orca ui`` on a real server process: what it shows, whom it answers, and that runs find it."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flows.servers import heartbeat, ui
from tests.patience import PATIENCE
from tests.served import COMMAND, Server, free_port, started
from tests.test_run import settings
from tests.tiny import save_tiny_body


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
    assert made.exit_code == 0
    assert made.stdout == f"http://127.0.0.1:{server.port}\n"
    assert "running already" in made.stderr


def test_a_run_is_recorded_there_though_nothing_names_the_server(server: Server, tmp_path: Path):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(settings(tmp_path, save_tiny_body(tmp_path / "body"))))
    made = subprocess.run(
        [*COMMAND, "run", str(config), "--store", str(tmp_path / "store"), "--json"], env=server.environment,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
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
    assert made.exit_code == 2
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
