"""What Prefect's pages show of a run while it goes on and when it is done: progress, alignment, result.

The store is the truth and these are for people to look at: a server that is slow or away must not fail a run, nor take
more than a small share of its time.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.context import SettingsContext, get_settings_context
from prefect.runtime import flow_run, task_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, Settings, temporary_settings

from flows.pages.markdown import align_page, artifact_key, metric_row, result_page, result_words, seed
from flows.terminal import progress_words
from orca.errors import InputError, TrainingError

EVERY = 1.0  # seconds between two updates of a progress artifact
SHARE = 20  # and at least so many times as long as the last one took
PROGRESS_TIMEOUT, PAGE_TIMEOUT = 2.0, 10.0  # seconds for an answer of the server
RUNS = 20  # that the table of numbers goes back


class Shown:
    """The progress of a stage, as one artifact of its flow run and a line in its log per epoch; made within a task.

    Called with the facts of a stage as they come: the artifact is made at the first that tells of an epoch, or of the
    end, and then kept up to date, once a second; a stage that was in the store already has none. The fact that the
    stage is ``done`` makes it 100. At the end of a ``with`` block, what was held back is shown, also if the stage has
    failed.

    Args:
        stage: the stage's name.
        labels: task, body, method and seed of the run.
        clock: seconds that only grow.
    """

    def __init__(self, stage: str, labels: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.stage, self.clock, self.log = stage, clock, get_run_logger()
        self.key = artifact_key(labels, "progress", stage)
        self.seed = seed(labels)
        self.client, self.settings = _client(PROGRESS_TIMEOUT, retries=0)
        self.artifact: UUID | None = None
        self.facts: dict[str, Any] = {}
        self.due = -math.inf  # when the next update may go out
        self.held = self.warned = False

    def __call__(self, facts: Mapping[str, Any]) -> None:
        """Shows the newest facts, now or with one of the next calls."""
        self.facts, self.held = merged(self.facts, facts), True
        if "done" in facts or ("epoch" in facts and "step" not in facts):
            self.log.info("%s: %s", self.stage, words(self.facts))
        if facts.get("cached") or not ("done" in facts or "epoch" in facts):  # nothing was, or is yet, on its way
            self.held = False
        elif "done" in facts or self.clock() >= self.due:
            self._show()

    def __enter__(self) -> Shown:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        """Shows what was held back."""
        if self.held:
            self._show()

    def _show(self) -> None:
        begun = self.clock()
        text = f"{self.seed}: {words(self.facts)}"
        try:
            # Of settings that are there already: making them takes longer than the update.
            with SettingsContext(profile=get_settings_context().profile, settings=self.settings):
                self._send(percent(self.facts), text)
            self.held = False
        except httpx.HTTPError as fault:
            if not self.warned:
                self.log.warning("progress is not shown for now, the work goes on: %s", _away(fault))
            self.warned = True
        now = self.clock()
        self.due = now + max(EVERY, SHARE * (now - begun))

    def _send(self, done: float, text: str) -> None:
        """Makes the artifact, or brings the one of this run up to date; a stage that is retried goes on with it."""
        self.artifact = self.artifact or self._find()
        if self.artifact is None:
            self.artifact = _create(self.client, "progress", self.key, done, text)
        else:
            self.client.update_artifact(self.artifact, ArtifactUpdate(data=done, description=text))

    def _find(self) -> UUID | None:
        if flow_run.id is None:
            return None
        within = ArtifactFilterFlowRunId(any_=[UUID(flow_run.id)])
        chosen = ArtifactFilter(key=ArtifactFilterKey(any_=[self.key]), flow_run_id=within)
        found = self.client.read_artifacts(artifact_filter=chosen, limit=1)
        return found[0].id if found else None


def merged(earlier: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with what earlier ones told and they do not repeat: validation and probe; when done, where it ended."""
    new = {key: value for key, value in facts.items() if value is not None}
    if not math.isfinite(new.get("left", 0.0)):
        del new["left"]
    if "done" in new:
        return {key: value for key, value in {**earlier, **new}.items() if key not in ("step", "left")}
    return {key: earlier[key] for key in ("val_metric", "probe") if key in earlier} | new


def words(facts: Mapping[str, Any]) -> str:
    """The facts of a stage in one line."""
    parts = progress_words(facts)
    if "done" in facts:
        parts = ["in the store already"] if facts.get("cached") else [f"done in {facts['done']:.1f} s", *parts]
    return ", ".join(parts) or f"at work on {facts['stage']}"


def percent(facts: Mapping[str, Any]) -> float:
    """How far a stage is: 0 to 99 by epoch and step, 100 when it is done."""
    if "done" in facts:
        return 100.0
    if not facts.get("epochs"):
        return 0.0
    passed = facts["epoch"] - 1 + facts["step"] / facts["steps"] if "step" in facts else facts["epoch"]
    return min(99.0, round(100 * passed / facts["epochs"], 1))


def show_align(folder: Path, labels: Sequence[str]) -> None:
    """Shows what alignment did, after the stage.

    Args:
        folder: of the finished stage.
        labels: task, body, method and seed of the run.
    """
    page, text = align_page(folder, labels)
    with _publisher(key := artifact_key(labels, "align")) as client:
        _create(client, "markdown", key, page, text)


def show_result(path: Path, record: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Shows the result of a run: a page, and a table of its numbers above those of the runs before it.

    Args:
        path: the run's folder.
        record: as ``orca run --json`` prints it.
        labels: task, body, method and seed of the run.
    """
    page, row = result_page(path, record, labels), metric_row(path, record)
    text = f"{seed(labels)}: {result_words(record)}, run {row['run']}"
    result, metrics = (artifact_key(labels, what) for what in ("result", "metrics"))
    with _publisher(f"{result} or {metrics}") as client:
        _create(client, "markdown", result, page, text)
        rows = [row, *(earlier for earlier in _earlier(client, metrics) if earlier["run"] != row["run"])]
        _create(client, "table", metrics, json.dumps(rows[:RUNS], allow_nan=False), text)


def _earlier(client: SyncPrefectClient, key: str) -> list[dict[str, Any]]:
    """The rows of earlier runs, newest first: the first row of each table under this key, each run once."""
    chosen = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    found: dict[str, dict[str, Any]] = {}
    for artifact in client.read_artifacts(artifact_filter=chosen, limit=RUNS, sort=ArtifactSort.CREATED_DESC):
        try:
            row = json.loads(str(artifact.data))[0]
            found.setdefault(row["run"], row)
        except (ValueError, LookupError, TypeError):  # not one of ours
            continue
    return list(found.values())


def explain(fault: BaseException) -> str:
    """What to tell of a fault: those meant for users say it themselves, others with their kind."""
    text, kind = str(fault).strip(), type(fault).__name__
    if isinstance(fault, InputError | TrainingError):
        return text
    return f"{kind}: {text}" if text else kind


@contextmanager
def _publisher(keys: str) -> Iterator[SyncPrefectClient]:
    """A client for artifacts under these keys; where the server does not take one, the log says so."""
    client, settings = _client(PAGE_TIMEOUT, retries=2)
    try:
        with SettingsContext(profile=get_settings_context().profile, settings=settings):
            yield client
    except httpx.HTTPError as fault:
        get_run_logger().warning("the artifact %s is missing in Prefect's pages: %s", keys, _away(fault))


def _create(client: SyncPrefectClient, kind: str, key: str, data: Any, text: str) -> UUID:
    made = ArtifactCreate(
        type=kind, key=key, description=text, data=data, flow_run_id=flow_run.id, task_run_id=task_run.id
    )  # pyright: ignore[reportArgumentType] - identities as text
    return client.create_artifact(made).id


def _client(timeout: float, *, retries: int) -> tuple[SyncPrefectClient, Settings]:
    """A client that gives up early, and the settings to use it with. It keeps no connection, so it needs no closing."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: retries}) as settings:
        limits = httpx.Limits(max_keepalive_connections=0)
        return get_client(httpx_settings={"timeout": timeout, "limits": limits}, sync_client=True), settings


def _away(fault: httpx.HTTPError) -> str:
    return f"the Prefect server says {type(fault).__name__}: {fault}"
