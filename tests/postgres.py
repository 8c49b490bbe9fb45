"""A PostgreSQL of the test's own, from the system's package, on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.patience import PATIENCE


def programs() -> Path | None:
    """Where initdb and postgres are: of the newest installed version, on the path or where Debian puts them."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextlib.contextmanager
def postgres(port: int) -> Iterator[str]:
    """The address of a new database, as Prefect takes it; the server ends with the block."""
    found = programs()
    assert found is not None
    folder = Path(tempfile.mkdtemp(prefix="orca-postgres-"))
    user: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "postgres")
        user = ["runuser", "-u", "postgres", "--"]
    data = str(folder / "data")
    subprocess.run(
        [*user, str(found / "initdb"), "-D", data, "-U", "orca", "-A", "trust"], check=True, stdout=subprocess.DEVNULL
    )
    process = subprocess.Popen(
        [*user, str(found / "postgres"), "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    ready = [str(found / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-U", "orca", "-d", "postgres", "-q"]
    try:
        begun = time.monotonic()
        while subprocess.run(ready, check=False).returncode:
            assert process.poll() is None, "PostgreSQL has ended"
            assert time.monotonic() - begun < PATIENCE
            time.sleep(0.1)
        yield f"postgresql+asyncpg://orca@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)
