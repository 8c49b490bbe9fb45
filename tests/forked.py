"""Processes of tests that begin with the heavy packages imported: forked from one that has done so.

One of their own would import for ten seconds. Where it is the start of a process that is tested, a test takes none of
these. The environment is that of the first one's start; a command is given its own.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
# Prefect is not among them: it reads its environment when it is imported.
CONTEXT.set_forkserver_preload(["tests.tiny", "orca.run", "orca.report", "flows.cli"])


class Command:
    """An ``orca`` command in a process of its own; killed at the end of the block if it is still there."""

    def __init__(self, environment: Mapping[str, str], said: Path, *arguments: str) -> None:
        """Starts it; what it writes goes into files beside ``said``."""
        self._files = [said.with_suffix(end) for end in (".out", ".err")]
        given = dict(environment), [str(file) for file in self._files], arguments
        self._process = CONTEXT.Process(target=_run, args=given)
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def ended(self, patience: float = 60) -> tuple[int, str, str]:
        """Waits for its end; its exit code, and what it wrote to standard output and error."""
        self._process.join(patience)
        code = self._process.exitcode
        assert code is not None, f"it has not ended in {patience} s"
        out, err = (file.read_text() for file in self._files)
        return code, out, err

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *fault: object) -> None:
        self._process.kill()
        self._process.join()


def _run(environment: dict[str, str], files: list[str], arguments: tuple[str, ...]) -> None:
    """The command's own process."""
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, 1):
        with open(file, "wb") as stream:
            os.dup2(stream.fileno(), number)
    sys.argv = ["orca", *arguments]
    from flows.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out
