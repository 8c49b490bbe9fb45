"""A Prefect server that lives as long as one command, for those who have configured none.

Prefect starts one by itself, but late: when the flow begins, after it has imported all of the server into the command's
own process. This one starts beside the command's imports, on a socket that is already open, so that nothing polls. It
ends when its standard input closes, that is with the command, however that ends.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

PATIENCE = 120  # seconds; the first start makes the database: 8 on a quiet machine, many times that on a busy one
GRACE = 1  # seconds after the command's end in which the last states of its tasks are recorded


class TemporaryServer:
    """The server's process. It is started at once; :meth:`wait` gives its address when it answers."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._port = listening.getsockname()[1]
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server
            quiet = {
                "PREFECT_LOGGING_LEVEL": "ERROR",
                "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{self._port}",  # else any web page may ask
            }
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(listening.fileno())],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, **quiet},
                pass_fds=[listening.fileno()],
                start_new_session=True,  # Ctrl-C is the command's: it still reports to the server how it ended
            )
        self._answered = False
        atexit.register(self.stop)

    def wait(self) -> str:
        """The address of its API, as soon as it answers.

        Raises:
            RuntimeError: it ended, or does not answer; the message has what it wrote last.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request("GET", "/api/health")
            connection.getresponse().read()
            self._answered = True
        except OSError as fault:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace")[-2000:].strip() or "it wrote nothing"
            raise RuntimeError(f"Prefect's temporary server does not answer ({fault}); {said}") from fault
        finally:
            connection.close()
        return f"http://127.0.0.1:{self._port}/api"

    def stop(self) -> None:
        """Ends it, if it is still there."""
        atexit.unregister(self.stop)
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self._answered:
            self._process.kill()
        self._process.wait()
        self._log.close()


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """Within the block no other server of Orca starts: two that make the same database at once break each other."""
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "orca-server.lock"):
        yield


def serve(handle: int) -> None:
    """The server's own process: answers on an open socket until standard input closes."""

    def end_with_the_command() -> None:
        os.read(0, 1)  # nothing is ever sent: it returns when the other end is closed
        time.sleep(GRACE)
        os._exit(0)  # the database stays whole, and an orderly end would take seconds

    threading.Thread(target=end_with_the_command, daemon=True).start()
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url:  # by a profile: the command will find it there, too
        return
    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            with alone(settings.home):
                await super().startup(sockets)

    server = Server(uvicorn.Config(create_app(ephemeral=True, final=True), log_level="error", lifespan="on"))
    server.run(sockets=[socket.socket(fileno=handle)])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
