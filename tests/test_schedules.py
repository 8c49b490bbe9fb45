"""Schedules on a real server with one worker: made, run, paused, kept over restarts, made up once, started by data.

The tests run in this order: those before the worker starts leave times behind that nobody ran.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import filters
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from typer.testing import CliRunner, Result

import orca
from flows.cli import app
from flows.schedules import deployments
from flows.servers import connect, ui
from flows.slots import needs
from orca.config import load_config
from orca.plan import plan
from tests.patience import PATIENCE
from tests.records import prepared_home
from tests.served import COMMAND, free_port
from tests.test_run import settings
from tests.tiny import save_tiny_body

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Place:
    """A server, what its users have on disk, and the processes."""

    folder: Path
    port: int
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    @property
    def config(self) -> str:
        return str(self.folder / "tiny.yaml")

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def start(self, name: str, *arguments: str) -> None:
        """An ``orca`` command that goes on; its words go into a file."""
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(
                [*COMMAND, name, *arguments], stdout=log, stderr=log, text=True, env=self.environment, cwd=self.folder
            )

    def start_server(self) -> None:
        self.start("ui", "--port", str(self.port), "--no-browser")
        self.until(lambda: ui.answers(self.port), "the server answers")

    def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        process.terminate()
        return process.wait(PATIENCE)

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def until(self, reached: Callable[[], Any], what: str) -> Any:
        """Waits until it is so, and gives what was found."""
        ends = time.monotonic() + PATIENCE
        while not (found := reached()):
            logs = {name: self.said(name)[-3000:] for name in self.processes}
            assert time.monotonic() < ends, f"waited {PATIENCE} s until {what}; {logs}"
            time.sleep(0.5)  # asked more often, the server would be busy with the answers
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, port = tmp_path_factory.mktemp("place"), free_port()
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings(folder, save_tiny_body(folder / "tiny-body"))))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    made = Place(
        folder, port, {
            **kept, "PREFECT_HOME": str(prepared_home(folder / "home")), "PYTHONPATH": path, "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",  # 30 by default
        },
    )  # fmt: skip
    made.start_server()
    api = {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PYTHONPATH": path}
    with mock.patch.dict(os.environ, api), temporary_settings({PREFECT_API_URL: api["PREFECT_API_URL"]}):
        yield made
    for name in list(made.processes):
        made.stop(name)


@pytest.fixture(scope="module")
def client(place: Place) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as found:
        yield found


@pytest.fixture(scope="module")
def worker(place: Place) -> None:
    place.start("serve")


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def scheduled(place: Place, name: str, *options: str) -> dict[str, Any]:
    """The record of a schedule, made by the command."""
    made = call("schedule", place.config, "--name", name, "--store", place.store, *options, "--json")
    return json.loads(done(made))


def runs_of(client: SyncPrefectClient, schedule: dict[str, Any], *states: str, by: bool | None = None) -> list[FlowRun]:
    """Its runs in these states, or in all, oldest first; by the schedule alone, or by hand alone, if that is said."""
    chosen = filters.FlowRunFilterDeploymentId(any_=[schedule["deployment"]])
    found = client.read_flow_runs(flow_run_filter=filters.FlowRunFilter(deployment_id=chosen))
    wanted = [run for run in found if not states or run.state_name in states]
    wanted = [run for run in wanted if by is None or run.auto_scheduled == by]
    return sorted(wanted, key=lambda run: run.expected_start_time or run.created)


def ended(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def test_without_a_server_the_commands_say_how_to_start_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.setattr(ui, "running_server", lambda: None)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        for command in (["schedule", place.config, "--every", "5"], ["schedules"], ["serve"]):
            result = call(*command)
            assert (result.exit_code, result.stdout) == (2, "")
            assert "start one in another terminal with `orca ui`" in result.stderr


def test_a_server_that_does_not_answer_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    result = call("schedules")
    assert result.exit_code == 2
    assert "the Prefect server at http://127.0.0.1:9/api does not answer" in result.stderr


def test_the_server_of_orca_ui_is_found_where_none_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.setenv("PREFECT_HOME", place.environment["PREFECT_HOME"])
    assert connect.server_address() == f"http://127.0.0.1:{place.port}/api"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of --cron, --every, --at and --on-change"),
        (["--every", "5", "--cron", "0 3 * * *"], "give one of --cron"),
        (["--on-change", ".", "--at", "2036-01-01"], "give one of --cron"),
        (["--every", "5", "-s", "finetune.epoch=3"], "there is no such key; did you mean 'epochs'?"),
        (["--every", "5", "-s", "task.data=none.npz"], "none.npz"),
        (["--every", "5", "--name", "a/b"], "must be letters, digits, dot, dash and underscore; got 'a/b'"),
        (["--on-change", "nowhere"], "nowhere to watch; make it first"),
        (["--on-change", ".", "--overlap", "skip"], "--overlap skip would lose a change of the data"),
    ],
)
def test_bad_input_makes_nothing(place: Place, client: SyncPrefectClient, options: list[str], message: str) -> None:
    result = call("schedule", place.config, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert client.read_deployments() == []


def test_schedules_that_are_not_there_are_named(place: Place) -> None:
    assert "no schedules; make one with: orca schedule" in call("schedules").stderr
    for arguments, message in (
        (["pause"], "orca schedules pause needs the name of one"),
        (["list", "x"], "orca schedules list takes no name"),
        (["remove", "x"], "there is no schedule 'x'; there are: none"),
    ):
        result = call("schedules", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr


def test_times_that_nobody_ran_pile_up(place: Place, client: SyncPrefectClient) -> None:
    """The worker is started later: see the test of missed times."""
    schedule = scheduled(place, "late", "--every", "1")
    now = datetime.datetime.now(datetime.UTC)

    def due() -> list[FlowRun]:
        return [r for r in runs_of(client, schedule, "Scheduled", "Late") if r.expected_start_time < now]  # type: ignore[operator]

    def three_are_due() -> bool:
        nonlocal now
        now = datetime.datetime.now(datetime.UTC)
        return len(due()) >= 3

    place.until(three_are_due, "three times have passed")
    (timer,) = client.read_deployment_schedules(schedule["deployment"])
    client.update_deployment_schedule(schedule["deployment"], timer.id, active=False)  # no more of them


def test_a_schedule_is_a_deployment_with_all_that_a_run_needs(place: Place, client: SyncPrefectClient) -> None:
    text = done(call("schedule", place.config, "--cron", "0 3 * * *", "--timezone", "Europe/Berlin", "--seed", 4))
    assert text.startswith("made the schedule tiny-tiny-body-full-s4\n  when     cron 0 3 * * * (Europe/Berlin)\n")
    assert text.count(" 03:00:00") == 3
    assert "next: orca serve (runs it)   orca schedules" in text
    made = client.read_deployment_by_name("adapt/tiny-tiny-body-full-s4")
    assert made.tags == ["tiny", "tiny-body", "full", "s4"]
    assert made.parameters["config"]["seed"] == 4
    assert made.parameters["config"]["finetune"]["epochs"] == 3
    assert Path(made.parameters["store"]).is_absolute()
    assert made.work_pool_name == "orca"
    assert made.job_variables == {"working_dir": str(Path.cwd()), "env": deployments.environment()}
    done(call("schedules", "remove", made.name))


def test_what_decides_what_a_run_finds_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORCA_STORE", "ORCA_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORCA_DATA", "data")
    monkeypatch.setenv("HF_HOME", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", "", "/elsewhere"]))
    here = str(Path.cwd())
    assert deployments.environment() == {"ORCA_DATA": f"{here}/data", "PYTHONPATH": f"{here}{os.pathsep}/elsewhere"}


def test_the_same_name_is_the_same_schedule_and_changes_it(place: Place, client: SyncPrefectClient) -> None:
    told = [scheduled(place, "it", "--every", "2h", "--overlap", overlap) for overlap in ("wait", "skip", "parallel")]
    assert [each["changed"] for each in told] == [False, True, True]
    assert [each["overlap"] for each in told] == ["wait", "skip", "parallel"]
    assert len({each["deployment"] for each in told}) == 1
    by_data = scheduled(place, "it", "--on-change", str(place.folder / "home"), "--every", "1h")
    assert (by_data["deployment"], by_data["overlap"]) == (told[0]["deployment"], "wait")
    assert by_data["when"] == f"{place.folder / 'home'} changes, looked at every 1 h"
    assert client.read_deployment(by_data["deployment"]).schedules == []
    once = scheduled(place, "it", "--at", "2036-12-01T03:00", "--timezone", "UTC")
    assert (once["when"], once["next"]) == ("once at 2036-12-01 03:00", ["2036-12-01T03:00:00+00:00"])
    with pytest.raises(ObjectNotFound):
        client.read_deployment_by_name("watch/it")
    assert [row.split()[:4] for row in done(call("schedules")).splitlines()] == [
        ["schedule", "task", "method", "seed"], ["it", "tiny", "full", "0"], ["late", "tiny", "full", "0"],
    ]  # fmt: skip
    done(call("schedules", "remove", "it"))


@pytest.mark.parametrize(
    ("overlap", "limit", "strategy"), [("wait", 1, "ENQUEUE"), ("skip", 1, "CANCEL_NEW"), ("parallel", None, None)]
)
def test_overlaps_are_recorded_at_the_server(
    place: Place, client: SyncPrefectClient, overlap: str, limit: int | None, strategy: str | None
) -> None:
    made = client.read_deployment(scheduled(place, "overlap", "--every", "2h", "--overlap", overlap)["deployment"])
    assert (made.global_concurrency_limit.limit if made.global_concurrency_limit else None) == limit
    assert (made.concurrency_options.collision_strategy if made.concurrency_options else None) == strategy


def test_the_prefect_yaml_of_the_docs_deploys(place: Place) -> None:
    deploy = ["--no-prompt", "deploy", "--all", "--prefect-file", str(ROOT / "docs" / "prefect.yaml")]
    subprocess.run(
        [sys.executable, "-m", "prefect", *deploy], check=True, capture_output=True, timeout=PATIENCE,
        env={**place.environment, "PREFECT_API_URL": os.environ["PREFECT_API_URL"], "ORCA_HOME": str(place.folder)},
    )  # fmt: skip
    shown = {each["name"]: each for each in json.loads(done(call("schedules", "--json")))}
    nightly = shown["nightly-digits"]
    assert (nightly["task"], nightly["when"], nightly["timezone"]) == ("digits", "cron 0 3 * * *", "Europe/Berlin")
    assert (nightly["overlap"], shown["digits-by-hand"]["when"]) == ("wait", "when asked")


def test_missed_times_are_made_up_once(place: Place, client: SyncPrefectClient, worker: None) -> None:
    late = client.read_deployment_by_name("adapt/late")
    schedule = {"deployment": late.id}
    place.until(lambda: all(ended(run) for run in runs_of(client, schedule)), "all late runs have ended")
    *missed, newest = runs_of(client, schedule)
    assert len(missed) >= 2
    assert {run.state_name for run in missed} == {"Cancelled"}
    assert all(run.state and "makes up for it" in str(run.state.message) for run in missed)
    assert newest.state_name == "Completed"
    assert f"late: {len(missed)} missed, made up once" in place.said("serve")


def test_a_run_in_the_pool_gives_what_orca_run_gives(place: Place, worker: None, tmp_path: Path) -> None:
    """Of the run above, in a store of its own, without Prefect."""
    (run,) = (place.store / "runs").iterdir()
    record = json.loads((run / "run.json").read_text())
    alone = orca.adapt(place.config, store=tmp_path)
    assert record["run"] == alone.record["run"]
    for part in ("metric", "validation", "shift", "baselines"):
        assert record[part] == alone.record[part]


def test_runs_arrive_until_the_pause_and_after_it(place: Place, client: SyncPrefectClient, worker: None) -> None:
    every = datetime.timedelta(seconds=10)
    tick = scheduled(place, "tick", "--every", str(every.seconds), "--overlap", "skip")
    place.until(lambda: sum(run.run_count for run in runs_of(client, tick)) >= 2, "two runs have begun")
    assert done(call("schedules", "pause", "tick")) == "paused tick\n"
    paused = datetime.datetime.now(datetime.UTC)
    (shown,) = [each for each in json.loads(done(call("schedules", "--json"))) if each["name"] == "tick"]
    assert (shown["paused"], shown["next"], bool(shown["last"])) == (True, [], True)
    assert "paused" in done(call("schedules"))

    place.until(lambda: all(ended(run) for run in runs_of(client, tick)), "what was begun has ended")
    assert len(runs_of(client, tick, "Completed")) >= 2
    # A run with other parameters meanwhile, as the form in the pages makes it, and longer than the period.
    config = {**client.read_deployment(tick["deployment"]).parameters["config"], "seed": 7}
    custom = client.create_flow_run_from_deployment(tick["deployment"], parameters={"config": config})
    place.until(lambda: ended(client.read_flow_run(custom.id)), "the custom run has ended")
    place.until(lambda: datetime.datetime.now(datetime.UTC) > paused + every, "the period is over")
    assert client.read_flow_run(custom.id).name == "tiny-tiny-body-full-s7"
    assert len(list((place.store / "runs").glob("tiny-full-s7-*/report.html"))) == 1
    with pytest.raises((PrefectHTTPStatusError, httpx.HTTPStatusError), match="409"):
        client.create_flow_run_from_deployment(tick["deployment"], parameters={"config": {"task": "tiny", "seed": "x"}})
    limit = paused + datetime.timedelta(seconds=1)
    late = [run for run in runs_of(client, tick, by=True) if run.expected_start_time > limit]  # type: ignore[operator]
    assert [run.name for run in late if run.run_count] == []
    assert runs_of(client, tick, "Scheduled", "Late") == []

    count = len(runs_of(client, tick, "Completed"))
    assert done(call("schedules", "resume", "tick")) == "resumed tick\n"
    place.until(lambda: len(runs_of(client, tick, "Completed")) > count, "a run has come after the pause")
    assert done(call("schedules", "remove", "tick")) == "removed tick\n"
    with pytest.raises(ObjectNotFound):
        client.read_deployment(tick["deployment"])
    assert runs_of(client, tick, "Scheduled", "Late") == []


def test_an_overlapping_run_waits_or_is_skipped(place: Place, client: SyncPrefectClient, worker: None) -> None:
    kept = {name: scheduled(place, name, "--every", "2h", "--overlap", name) for name in ("wait", "skip")}
    for name in ("wait", "wait", "skip", "skip"):
        client.create_flow_run_from_deployment(kept[name]["deployment"])
    runs = lambda: {name: runs_of(client, each, by=False) for name, each in kept.items()}  # noqa: E731
    place.until(lambda: all(ended(run) for each in runs().values() for run in each), "all four have ended")
    states = {name: sorted(str(run.state_name) for run in each) for name, each in runs().items()}
    assert states == {"wait": ["Completed", "Completed"], "skip": ["Cancelled", "Completed"]}
    first, second = sorted(runs()["wait"], key=lambda run: run.start_time or run.created)
    assert first.end_time is not None
    assert second.start_time is not None
    assert second.start_time >= first.end_time


def test_data_that_changes_starts_a_run(place: Place, client: SyncPrefectClient, worker: None) -> None:
    data = place.folder / "incoming"
    data.mkdir()
    (data / "a.npz").write_bytes(b"one")
    schedule = scheduled(place, "arrivals", "--on-change", str(data), "--every", "8")  # a look takes 4
    place.until(lambda: len(runs_of(client, schedule, "Completed")) == 1, "the folder has been found at rest")
    watch = {"deployment": client.read_deployment_by_name("watch/arrivals").id}
    looks = len(runs_of(client, watch, "Completed"))
    place.until(lambda: len(runs_of(client, watch, "Completed")) >= looks + 2, "it was looked at twice more")
    assert len(runs_of(client, schedule)) == 1

    # The server is away for a moment; the worker waits for it, and the looks go on.
    place.stop("ui")
    (data / "b.npz").write_bytes(b"two")
    place.start_server()
    place.until(lambda: len(runs_of(client, schedule, "Completed")) == 2, "the change has started a run")
    done(call("schedules", "remove", "arrivals"))
    assert not list((place.store / "watch").iterdir())
    with pytest.raises(ObjectNotFound):
        client.read_deployment(watch["deployment"])


def test_runs_of_two_deployments_take_turns_on_one_slot(place: Place, client: SyncPrefectClient, worker: None) -> None:
    """Each takes all there is; the limit of the machine's memory is lowered to what one needs.

    The second is left at work.
    """
    stores = {name: place.folder / name for name in ("left", "right")}
    long = ["-s", "finetune.epochs=100000", "-s", "finetune.patience=100000"]
    runs = {}
    name, slots, _ = needs(plan(load_config(place.config)))
    with contextlib.suppress(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))
    before = client.read_global_concurrency_limit_by_name(name).limit
    client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=slots))
    taken = lambda: client.read_global_concurrency_limit_by_name(name).active_slots  # noqa: E731
    for each, store in stores.items():
        made = scheduled(place, each, "--every", "2h", "--store", str(store), *long)
        runs[each] = client.create_flow_run_from_deployment(made["deployment"]).id
        place.until(lambda store=store: any(store.glob("stages/embed/*")), f"{each} has done what needs no slot")
    place.until(lambda: any(stores["left"].glob(".work/finetune-*/checkpoint/*")), "the first is at work")
    assert taken() == slots
    assert not any(stores["right"].glob(".work/align-*"))
    client.set_flow_run_state(runs["left"], Cancelling())
    place.until(lambda: any(stores["right"].glob(".work/finetune-*/checkpoint/*")), "the second has got the slot")
    assert taken() == slots
    place.until(lambda: ended(client.read_flow_run(runs["left"])), "the first has ended")
    client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=before))


def test_serve_ends_with_its_runs(place: Place, client: SyncPrefectClient, worker: None) -> None:
    """With the run that the test before has left."""
    (run,) = runs_of(client, {"deployment": client.read_deployment_by_name("adapt/right").id}, "Running")
    assert place.stop("serve") == 0
    assert client.read_flow_run(run.id).state_name == "Crashed"
    assert f"right ({run.id}): crashed\nstopped\n" in place.said("serve")


def test_ctrl_c_ends_it_as_well(place: Place) -> None:
    place.start("serve", "--limit", "1")
    place.until(lambda: place.said("serve").count("stop with Ctrl-C") == 2, "it serves")
    place.processes["serve"].send_signal(signal.SIGINT)
    assert place.processes.pop("serve").wait(PATIENCE) in (0, 130)
