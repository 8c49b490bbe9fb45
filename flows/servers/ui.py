"""A Prefect server with its pages for one user on one machine: the command ``orca ui``.

It listens on loopback alone, and only its own pages may ask it things. It is left running between runs; ``orca run``
finds it by the file that it writes into Prefect's home, and records its runs there.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from flows.servers.heartbeat import HEARTBEAT, make_crash_automation
from flows.servers.temporary import alone
from flows.terminal import exit_codes
from orca.errors import InputError
from orca.runtime import write_json

HOST = "127.0.0.1"
PORT = 4200  # Prefect's own
PATIENCE = 120  # seconds until the server answers; the first start makes the database
GRACE = 10  # seconds for an orderly end


def prefect_home() -> Path:
    """Where Prefect keeps its database and profiles."""
    return Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()


def server_settings(home: Path, port: int) -> dict[str, str]:
    """Environment of the server: private, and whole after a restart. Variables that the user has set come before it.

    Prefect's second set of pages asks an outside address for its configuration even with analytics off, so the first
    set is shown; ``PREFECT_SERVER_UI_V2_ENABLED=true`` brings the second.
    """
    return {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),  # by the flag alone, the pages would ask the server at 4200
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",  # else any web page may
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),  # else it unpacks among the installed packages
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        # Prefect marks late runs in transactions that SQLite refuses at once beside other writers: by the hundred where
        # a busy machine is behind, which then gets further behind. `orca serve` drops missed times by itself.
        "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "120",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "30",
    }


def answers(port: int) -> bool:
    """Whether a Prefect server answers on this port of loopback; it may take its time on a busy machine."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/api/health")
        return json.loads(connection.getresponse().read()) is True
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _note(port: int) -> Path:
    return prefect_home() / f"orca-ui-{port}.json"


def _log(port: int) -> Path:
    return prefect_home() / f"orca-ui-{port}.log"


def running_server() -> str | None:
    """The API's address of a server that ``orca ui`` shows and that answers, or None. Does not import Prefect."""
    for note in sorted(prefect_home().glob("orca-ui-*.json")):
        port = note.stem.rpartition("-")[2]
        if port.isdecimal() and answers(int(port)):
            return f"http://{HOST}:{port}/api"
    return None


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


@contextlib.contextmanager
def served(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a server on this port, which answers; ended with the block.

    Raises:
        InputError: something else has the port, or the server ends before it answers.
    """
    if not _free(port):
        raise InputError(f"port {port} is taken by another program; choose another: orca ui --port {port + 1}")
    home = prefect_home()
    home.mkdir(parents=True, exist_ok=True)
    # The address of its pages' server is its own, whatever PREFECT_API_URL says.
    own = {"PREFECT_SERVER_API_PORT": str(port), "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api"}
    with _log(port).open("wb") as output, contextlib.ExitStack() as starting:
        starting.enter_context(alone(home))
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,  # Ctrl-C is ours to hand on
            env={**server_settings(home, port), **os.environ, **own},
        )  # fmt: skip
        try:
            _await(process, port)
            starting.close()
            yield process
        finally:
            process.terminate()
            try:
                process.wait(GRACE)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                process.kill()
                process.wait()


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    begun = time.monotonic()
    while not answers(port) or process.poll() is not None:
        late = time.monotonic() - begun > PATIENCE
        if late or process.poll() is not None:
            said = _log(port).read_text(encoding="utf-8", errors="replace").strip()[-1500:]
            why = f"does not answer after {PATIENCE} s" if late else f"ended with code {process.returncode}"
            raise InputError(f"the Prefect server {why}; its log, {_log(port)}, ends with:\n{said}")
        time.sleep(0.2)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and a closed terminal end the block as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def noted(port: int) -> Iterator[None]:
    """Within the block ``orca run`` finds the server on this port."""
    write_json(_note(port), {"port": port})
    try:
        yield
    finally:
        _note(port).unlink(missing_ok=True)


def client_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment of a run that is recorded on a server: its signs of life come often enough for the automation.

    A server that the environment names comes before one of ``orca ui``, and that before one of a Prefect profile.
    """
    found = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT)}
    if "PREFECT_API_URL" not in environment and (api := running_server()):
        found["PREFECT_API_URL"] = api
    return found


def ui(
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="Of the server.")] = PORT,
    browser: Annotated[
        bool | None, typer.Option("--browser/--no-browser", help="Open the pages. [only from a terminal]")
    ] = None,
) -> None:
    """Show runs in Prefect's pages: starts the server on this machine and stops it at Ctrl-C.

    If one is running already, it is used. Runs of `orca run` are recorded there while it runs.
    """
    show = sys.stdout.isatty() if browser is None else browser
    address = f"http://{HOST}:{port}"
    with exit_codes():
        if answers(port):
            prefect_home().mkdir(parents=True, exist_ok=True)
            write_json(_note(port), {"port": port})
            make_crash_automation(f"{address}/api")
            _announce(address, "a Prefect server is running already", show=show)
            return
        typer.echo("starting the Prefect server; the first time takes some seconds longer", err=True)
        with contextlib.suppress(KeyboardInterrupt), stoppable(), served(port) as process, noted(port):
            make_crash_automation(f"{address}/api")
            _announce(address, "stop it with Ctrl-C", show=show)
            code = process.wait()
            raise InputError(f"the Prefect server has ended by itself, with code {code}; its log is {_log(port)}")
        typer.echo("stopped", err=True)


def _announce(address: str, note: str, *, show: bool) -> None:
    typer.echo(address)
    typer.echo(f"{note}; other programs reach it with PREFECT_API_URL={address}/api", err=True)
    if show:
        import webbrowser

        webbrowser.open(address)
