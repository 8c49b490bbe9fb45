"""Sweeps in tests: tiny runs, the command, what its table and the server tell of them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from typer.testing import CliRunner

from flows.cli import app
from tests.test_run import settings
from tests.tiny import save_tiny_body

AXES = ["task", "body", "align", "method", "seed"]
# Four runs that share what they can; one of them diverges.
GRID = {"methods": ["full", "head"], "aligns": ["none"], "settings": {"finetune.lr": [1e-3, 1e30]}}


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """A Prefect server with a database of its own; the command starts none, as one is named in the environment."""
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PREFECT_API_URL", "that of the harness")
        yield


def tiny_place(folder: Path) -> Path:
    """The folder with a tiny body, tiny data and a configuration."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings(folder, save_tiny_body(folder / "tiny-body"))))
    return folder


def write_grid(place: Path, name: str, **grid: Any) -> Path:
    file = place / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"tasks": [str(place / "tiny.yaml")], **grid}))
    return file


def command(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(result: Any) -> dict[str, Any]:
    return json.loads(result.stdout)


def states(found: dict[str, Any], *axes: str) -> dict[Any, str]:
    return {tuple(row[axis] for axis in axes): row["state"] for row in found["runs"]}


def stages(store: Path) -> dict[str, int]:
    return {folder.name: len(list(folder.iterdir())) for folder in (store / "stages").iterdir()}


def task_runs(flow_run: str, count: int, recorded: Callable[[TaskRun], bool] = lambda run: True) -> list[TaskRun]:
    """Task runs of a flow run, when the server has recorded so many, each like this; it takes its time."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))  # type: ignore[list-item]
    runs: list[TaskRun] = []
    with get_client(sync_client=True) as client:
        for _ in range(300):
            runs = sorted(client.read_task_runs(flow_run_filter=chosen), key=lambda run: run.name)
            if len(runs) >= count and all(map(recorded, runs)):
                break
            time.sleep(0.1)
    return runs
