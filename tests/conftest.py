"""Keeps the tests away from the user's own files and from the network. Prefect and Hugging Face read these variables
when they are imported, and pytest imports this file before any test module.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import settings

SCRATCH = tempfile.mkdtemp(prefix="orca-tests-")
# Registered before Prefect's own exit handlers, so it runs after them: a temporary server writes until it is stopped.
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)

# One folder for all processes of a session: pytest-xdist's first one imports this before it starts the others.
os.environ.setdefault("ORCA_TESTS_SHARED", SCRATCH)

# A server or profile that the user has configured must not see the runs of the tests.
for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"):
    os.environ.pop(name, None)

os.environ.update(
    ORCA_STORE=os.path.join(SCRATCH, "store"),
    ORCA_CACHE=os.path.join(SCRATCH, "cache"),
    PREFECT_HOME=os.path.join(SCRATCH, "prefect"),
    # The first start migrates a database: 8 s on a quiet machine, more than the default 20 s on a busy one.
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="900",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    # A temporary server says at exit that it stops, when pytest has closed the stream that the message goes to.
    PREFECT_LOGGING_LEVEL="WARNING",
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
    # The models are tiny and tests run beside one another, so more threads would wait for each other. The last bits of
    # sums depend on their number, too: children have it from here.
    OMP_NUM_THREADS="1",
)

# The same examples each time, and no time limit for one: shared machines stall.
settings.register_profile("orca", deadline=None, derandomize=True, database=None)
settings.load_profile("orca")


# Those that take a minute or more, the longest first: then no process is left alone with one of them at the end.
LONG = (
    "test_schedules", "test_operate", "test_clusters", "test_pages", "test_run", "test_benchmark_tasks", "test_search",
    "test_sweep", "test_flows", "test_ui",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))


@pytest.fixture(autouse=True, scope="module")
def environment() -> Iterator[None]:
    """What commands that run in this process set, other files' tests do not see."""
    with mock.patch.dict(os.environ):
        yield
