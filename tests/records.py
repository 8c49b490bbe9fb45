"""Prefect's records in tests: databases that are made already, and a server with one of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from tests.patience import PATIENCE


@functools.cache
def empty_database() -> Path:
    """A database without records, made once in a session: a server that has to make one takes twice as long."""
    file = Path(os.environ["ORCA_TESTS_SHARED"]) / "prefect.db"
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            home = file.with_name("making")
            make = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            subprocess.run(make, env={**os.environ, "PREFECT_HOME": str(home)}, check=True, stdout=subprocess.DEVNULL)
            (home / file.name).rename(file)
    return file


def prepared_home(home: Path) -> Path:
    """A home of Prefect with a database."""
    home.mkdir(exist_ok=True)
    shutil.copy(empty_database(), home / "prefect.db")
    return home


def _prepared_folder() -> str:
    """What the harness asks for: a new folder, here with its database in it."""
    folder = tempfile.mkdtemp()
    shutil.copy(empty_database(), Path(folder) / "prefect-test.db")
    return folder


@contextlib.contextmanager
def recording(more: dict[Any, Any] | None = None) -> Iterator[None]:
    """A Prefect server with a database of its own, and more settings of Prefect.

    A command starts none, as one is named in the environment.
    """
    quick = {
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # the end of each flow would wait for it, up to a second
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefect.testing.utilities.mkdtemp", _prepared_folder)
        with prefect_test_harness(server_startup_timeout=PATIENCE), temporary_settings({**quick, **(more or {})}):
            patch.setenv("PREFECT_API_URL", "that of the harness")
            yield
