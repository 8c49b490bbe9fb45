"""A real ``orca ui`` for tests: its process, what can be asked of it, and commands in its surroundings."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.servers import ui
from tests.patience import PATIENCE

BUSY = 503  # what a server says whose SQLite is locked by another writer
COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]


@dataclass
class Server:
    """A running ``orca ui``."""

    port: int
    environment: dict[str, str]

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer; asked again as long as the server is busy, as Prefect's own client does."""
        return wait_for(
            lambda: answer if (answer := self._ask(path, body, method, **headers))[0] != BUSY else None, path
        )

    def _ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of one answer."""
        data = None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **headers}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, given, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text.startswith((b"{", b"[", b"t")) else text
        except urllib.error.HTTPError as fault:
            with fault:
                return fault.code, None

    @property
    def api(self) -> str:
        """Its address for other programs."""
        return f"http://127.0.0.1:{self.port}/api"

    def command(self, *arguments: str) -> Result:
        """An ``orca`` command in the same surroundings, but in this process: a new one would import for seconds."""
        with mock.patch.dict(os.environ, self.environment, clear=True), temporary_settings({PREFECT_API_URL: self.api}):
            return CliRunner().invoke(app, arguments)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def wait_for(value: Callable[[], Any], what: str) -> Any:
    """The first value that is true."""
    begun = time.monotonic()
    while not (found := value()):
        assert time.monotonic() - begun < PATIENCE, f"waited {PATIENCE} s for {what}"
        time.sleep(0.3)  # asked more often, a server would be busy with the answers
    return found


@contextlib.contextmanager
def started(home: Path, port: int | None = None, **variables: str) -> Iterator[Server]:
    """``orca ui`` on a free port with this home and these variables; ended in order with the block."""
    port = port or free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**kept, "PREFECT_HOME": str(home), **variables}
    elsewhere = {**environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}  # its pages must not ask there
    process = subprocess.Popen(
        [*COMMAND, "ui", "--port", str(port), "--no-browser"], stdout=subprocess.PIPE, text=True, env=elsewhere
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"http://127.0.0.1:{port}\n", (home / f"orca-ui-{port}.log").read_text()
        yield Server(port, environment)
    finally:
        process.terminate()  # as Ctrl-C, which a process in the background may have been started deaf to
        code = process.wait(60)
        process.stdout.close()
    assert code == 0
    assert not ui.answers(port)
    assert not list(home.glob("orca-ui-*.json"))
