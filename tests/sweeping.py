"""Sweeps in tests: tiny runs, the command, what its table and the server tell of them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from typer.testing import CliRunner

from flows.cli import app
from flows.sweeps.processes import Processes
from tests.forked import CONTEXT
from tests.test_run import settings
from tests.tiny import save_tiny_body

AXES = ["task", "body", "align", "method", "seed"]
# Four runs that share what they can; one of them diverges.
GRID = {"methods": ["full", "head"], "aligns": ["none"], "settings": {"finetune.lr": [1e-3, 1e30]}}


class InTurn:
    """Stands for a sweep's child processes where these are not the point: jobs are done in this one, one at a time."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._turn = threading.Lock()

    def call(self, function: Callable[..., Any], *given: Any) -> Any:
        with self._turn:
            return function(*given)

    def close(self) -> None:
        """There is nothing to end."""


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Within the block sweeps of the local runner have no child processes."""
    with mock.patch("flows.sweeps.runners.Processes", InTurn):
        yield


@contextlib.contextmanager
def in_children() -> Iterator[None]:
    """Within the block they have, ones that begin at once."""
    with (
        mock.patch("flows.sweeps.runners.Processes", Processes),
        mock.patch("flows.sweeps.processes.multiprocessing.get_context", return_value=CONTEXT),
    ):
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
