"""The flow of one run, under Prefect's own harness: names, tags, states, what is reused and what is retried."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx
import pytest
import torch
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, PREFECT_SERVER_DATABASE_CONNECTION_URL
from prefect.states import Cancelling
from typer.testing import CliRunner

from flows import adapt, slots, stages
from flows.cli import app
from orca.config import RunConfig, check_config
from orca.errors import InputError, TrainingError
from orca.finishing import RunResult
from orca.plan import Plan, plan
from orca.runs import list_runs
from orca.store import Store
from tests.patience import PATIENCE
from tests.records import recording
from tests.test_run import settings
from tests.tiny import save_tiny_body

STAGES = ["embed", "align", "finetune", "evaluate", "report"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Prefect server with a database of its own; gives the folder where Prefect would keep results."""
    folder = tmp_path_factory.mktemp("results")
    with recording({PREFECT_LOCAL_STORAGE_PATH: folder}):  # the harness leaves it in the user's home
        yield folder


@pytest.fixture(autouse=True)
def harness(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here is under the harness."""
    for task in stages.TASKS.values():
        monkeypatch.setattr(task, "retry_delay_seconds", 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny body, tiny data and a configuration."""
    folder = tmp_path_factory.mktemp("place")
    text = yaml.safe_dump(settings(folder, save_tiny_body(folder / "tiny-body")))
    (folder / "tiny.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def first(place: Path, results: Path) -> RunResult:
    return adapt.launch(config_of(place), store=place / "store")


def config_of(place: Path, **changes: Any) -> RunConfig:
    return check_config({**yaml.safe_load((place / "tiny.yaml").read_text()), **changes})


def flow_run_of(identity: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(identity)  # type: ignore[arg-type]


def newest_flow_run(name: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))
    return max(runs, key=lambda run: run.created)


def task_runs_of(flow_run: FlowRun, names: list[str]) -> dict[str, TaskRun]:
    """The task runs by name, when the server has recorded the end of these. It does so after the flow's end."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    ended: dict[str, TaskRun] = {}
    with get_client(sync_client=True) as client:
        for _ in range(300):
            found = client.read_task_runs(flow_run_filter=chosen)
            ended = {run.name: run for run in found if run.state is not None and run.state.is_final()}
            if set(names) <= set(ended):
                break
            time.sleep(0.1)
    assert sorted(ended) == sorted(names)
    return ended


def runs_of(place: Path, *, seed: int) -> list[dict[str, Any]]:
    """The records of the runs of a seed."""
    return [record for record in list_runs(Store(place / "store")) if record["seed"] == seed]


def failing(times: int, fault: Exception, function: Callable[..., Any]) -> tuple[Callable[..., Any], list[int]]:
    """A stage that raises the first ``times`` times; and the calls so far."""
    calls: list[int] = []

    def stage(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) <= times:
            raise fault
        return function(*given, **named)

    return stage, calls


def test_a_run_is_a_flow_with_a_task_per_stage(first: RunResult) -> None:
    flow_run = flow_run_of(first.record["flow_run"])
    assert flow_run.name == "tiny-tiny-body-full-s0"
    assert flow_run.state_name == "Completed"
    assert set(flow_run.tags) == {"tiny", "tiny-body", "full", "s0"}
    tasks = task_runs_of(flow_run, STAGES)
    assert {run.state_name for run in tasks.values()} == {"Completed"}
    assert not any(run.tags for run in tasks.values())  # a task with tags fails where the server is away
    assert json.loads((first.path / "run.json").read_text())["flow_run"] == str(flow_run.id)


def test_the_parameters_are_json_and_make_a_form(first: RunResult, place: Path) -> None:
    parameters = flow_run_of(first.record["flow_run"]).parameters
    assert set(parameters) == {"config", "store", "online", "fresh"}
    assert RunConfig.model_validate(parameters["config"]) == config_of(place)
    form = adapt.adapt_flow.parameters.model_dump()
    assert set(form["properties"]) == set(parameters)
    assert form["required"] == ["config"]
    assert form["definitions"]["FinetuneConfig"]["properties"]["epochs"]["description"]


def test_the_flow_takes_plain_parameters_as_the_ui_sends_them(first: RunResult, place: Path) -> None:
    config = config_of(place).model_dump(mode="json")
    result = adapt.adapt_flow(config, str(place / "store"), False, [])  # type: ignore[arg-type]
    assert result.unchanged
    assert flow_run_of(result.record["flow_run"]).name == "tiny-tiny-body-full-s0"


def test_prefect_keeps_no_results(first: RunResult, results: Path) -> None:
    assert list(results.rglob("*")) == []


def test_the_second_run_reuses_every_stage_and_tells_so(first: RunResult, place: Path) -> None:
    told: list[dict[str, Any]] = []
    second = adapt.launch(config_of(place), store=place / "store", watched_by=told.append)
    assert second.unchanged
    assert second.record["metric"] == first.record["metric"]
    assert second.record["flow_run"] != first.record["flow_run"]
    done = [facts for facts in told if "done" in facts]
    assert [facts["stage"] for facts in done] == STAGES
    assert all(facts["cached"] for facts in done if facts["stage"] != "report")
    tasks = task_runs_of(flow_run_of(second.record["flow_run"]), STAGES)
    assert {run.run_count for run in tasks.values()} == {1}
    assert {name: run.state_name for name, run in tasks.items()} == {
        name: "Completed" if name == "report" else "Cached" for name in STAGES
    }


def test_a_stage_that_fails_once_is_retried(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, calls = failing(1, OSError("the disk was busy"), stages.run.align)
    monkeypatch.setattr(stages.run, "align", stage)
    told: list[dict[str, Any]] = []
    result = adapt.launch(config_of(place, seed=1), store=place / "store", watched_by=told.append)
    assert len(calls) == 2
    assert {"stage": "align", "retry": "OSError: the disk was busy"} in told
    tasks = task_runs_of(flow_run_of(result.record["flow_run"]), STAGES)
    assert {name: run.run_count for name, run in tasks.items()} == {name: 1 + (name == "align") for name in STAGES}
    assert tasks["align"].state_name == "Completed"


def test_a_stage_that_keeps_failing_fails_the_run_with_its_own_fault(place: Path, monkeypatch) -> None:
    stage, calls = failing(9, OSError("the disk is gone"), stages.run.align)
    monkeypatch.setattr(stages.run, "align", stage)
    with pytest.raises(OSError, match="the disk is gone"):
        adapt.launch(config_of(place, seed=2), store=place / "store")
    assert len(calls) == 1 + stages.RETRIES
    assert [(r["state"], r["reason"]) for r in runs_of(place, seed=2)] == [("failed", "OSError: the disk is gone")]
    assert newest_flow_run("tiny-tiny-body-full-s2").state_name == "Failed"


def test_bad_input_is_not_retried(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, calls = failing(9, InputError("the data does not fit"), stages.run.align)
    monkeypatch.setattr(stages.run, "align", stage)
    with pytest.raises(InputError, match="the data does not fit"):
        adapt.launch(config_of(place, seed=3), store=place / "store")
    assert len(calls) == 1
    assert runs_of(place, seed=3)[0]["reason"] == "InputError: the data does not fit"
    tasks = task_runs_of(newest_flow_run("tiny-tiny-body-full-s3"), ["embed", "align"])
    assert {name: run.state_name for name, run in tasks.items()} == {"embed": "Completed", "align": "Failed"}


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def command(*arguments: Any) -> Any:
    return invoke("run", *arguments)


def test_the_command_prints_the_result_and_that_nothing_was_to_be_done(first: RunResult, place: Path) -> None:
    result = command(place / "tiny.yaml", "--store", place / "store")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "nothing was to be done" in result.stdout
    assert f"next: orca show {first.record['run']}" in result.stdout


def test_training_that_diverges_ends_with_one_line_and_no_retry(first: RunResult, place: Path) -> None:
    options = ["-s", "finetune.lr=1e30", "-s", "finetune.warmup=0", "--store", place / "store"]
    result = command(place / "tiny.yaml", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("orca: the training loss became ")
    assert len(result.stderr.splitlines()) == 1
    tasks = task_runs_of(newest_flow_run("tiny-tiny-body-full-s0"), STAGES[:3])
    assert (tasks["finetune"].state_name, tasks["finetune"].run_count) == ("Failed", 1)


def test_ctrl_c_ends_quietly_and_is_recorded(first: RunResult, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages.run, "finetune", interrupted)
    result = command(place / "tiny.yaml", "--store", place / "store")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "orca: stopped; orca resume, or the same command, goes on from the last checkpoint\n"
    flow_run = newest_flow_run("tiny-tiny-body-full-s0")
    assert flow_run.state_name == "Cancelled"
    assert task_runs_of(flow_run, STAGES[:3])["finetune"].state_name == "Cancelled"


def test_without_a_server_the_command_works_at_once_and_prints_one_json_object(first: RunResult, place: Path) -> None:
    code = "import sys; sys.argv[0] = 'orca'; from flows.cli import main; main()"
    arguments = ["run", str(place / "tiny.yaml"), "--store", str(place / "store"), "--json"]
    of_the_tests = ("PREFECT_API_URL", "PREFECT_LOGGING_LEVEL")
    environment = {key: value for key, value in os.environ.items() if key not in of_the_tests}
    # The harness' database is ready, and there the record of the temporary server can be read.
    environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = PREFECT_SERVER_DATABASE_CONNECTION_URL.value()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE,
        env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert list(record)[:9] == ["run", "path", "flow_run", "task", "body", "align", "method", "seed", "metric"]
    assert record["metric"] == first.record["metric"]
    assert all(stage["cached"] for stage in record["stages"])
    flow_run = flow_run_of(record["flow_run"])
    assert flow_run.state_name == "Completed"
    assert {run.state_name for run in task_runs_of(flow_run, STAGES).values()} == {"Cached", "Completed"}


# Stages alone.


def test_a_stage_is_a_flow_of_its_own_and_shares_the_store(place: Path) -> None:
    store = place / "stages"
    aligned = adapt.launch(config_of(place), store=store, until="align")
    assert (aligned.name, aligned.cached) == ("align", False)
    flow_run = newest_flow_run("tiny-tiny-body-full-s0")
    assert sorted(task_runs_of(flow_run, ["embed", "align"])) == ["align", "embed"]
    assert flow_run.state_name == "Completed"
    assert list_runs(Store(store)) == []  # a run is what has come to its end, or meant to
    tuned = adapt.launch(config_of(place), store=store, until="finetune")
    tasks = task_runs_of(newest_flow_run("tiny-tiny-body-full-s0"), STAGES[:3])
    assert {name: run.state_name for name, run in tasks.items()} == {
        "embed": "Cached", "align": "Cached", "finetune": "Completed",
    }  # fmt: skip
    assert adapt.launch(config_of(place), store=store, until="finetune") == replace(tuned, cached=True, seconds=ANY)


def test_every_stage_has_its_flow_and_the_command_names_the_stages() -> None:
    assert list(adapt.FLOWS) == STAGES[:4]
    assert [flow.name for flow in adapt.FLOWS.values()] == STAGES[:4]
    assert all(getattr(adapt, f"{name}_flow") is flow for name, flow in adapt.FLOWS.items())
    assert all(set(f.parameters.model_dump()["properties"]) == {"config", "store", "online", "fresh"} for f in
               adapt.FLOWS.values())  # fmt: skip


def test_the_command_stops_after_a_stage_and_tells_where_it_is(place: Path) -> None:
    result = command(place / "tiny.yaml", "--store", place / "stages", "--until", "embed", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["stage"], Path(found["path"]).name) == ("embed", found["key"])
    wrong = command(place / "tiny.yaml", "--store", place / "stages", "--until", "tune")
    assert (wrong.exit_code, wrong.stderr) == (
        2, "orca: there is no stage 'tune'; there are embed, align, finetune, evaluate\n",
    )  # fmt: skip


# Time limits and what may pass.


def test_a_stage_beyond_its_limit_is_stopped_and_not_tried_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for a slot, here longer than the limit, does not count."""
    calls: list[int] = []

    @contextlib.contextmanager
    def waited_for(made: Plan, stage: str) -> Iterator[None]:
        time.sleep(1)
        yield

    def endless(*given: Any, **named: Any) -> None:
        calls.append(1)
        for _ in range(600):
            time.sleep(0.1)

    monkeypatch.setattr(stages.run, "align", endless)
    monkeypatch.setattr(stages, "slot", waited_for)
    with pytest.raises(TrainingError, match=r"align took longer than limits.align, 0.01 min; raise it, and the run"):
        adapt.launch(config_of(place, seed=5, limits={"align": 0.01}), store=place / "store")
    assert calls == [1]
    assert task_runs_of(newest_flow_run("tiny-tiny-body-full-s5"), STAGES[:2])["align"].state_name == "TimedOut"


@pytest.mark.parametrize(
    ("fault", "passes"),
    [
        (OSError("stale file handle"), True),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (httpx.ConnectError("refused"), True),
        (TimeoutError("a time limit"), False),
        (InputError("no such task"), False),
        (TrainingError("the loss became nan"), False),
        (TypeError("a mistake of ours"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(fault: Exception, passes: object) -> None:
    assert stages.may_pass(fault) == passes


# Cancellation.


def test_a_cancellation_at_the_server_ends_a_direct_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*given: Any, **named: Any) -> None:
        with get_client(sync_client=True) as client:  # as somebody does in the UI
            record = runs_of(place, seed=6)[0]
            assert record["state"] == "running"
            client.set_flow_run_state(record["flow_run"], Cancelling())
        for _ in range(600):
            time.sleep(0.1)

    monkeypatch.setattr(stages.run, "finetune", endless)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        adapt.launch(config_of(place, seed=6), store=place / "store")
    assert time.monotonic() - begun < 50  # far less than the minute that the stage would have taken
    assert [(r["state"], r["reason"]) for r in runs_of(place, seed=6)] == [("cancelled", "stopped from outside")]
    flow_run = newest_flow_run("tiny-tiny-body-full-s6")
    assert flow_run.state_name == "Cancelled"
    assert task_runs_of(flow_run, STAGES[:3])["finetune"].state_name == "Cancelled"


def test_a_cancelled_run_is_resumed_under_its_name_with_a_link(place: Path) -> None:
    (cancelled,) = runs_of(place, seed=6)
    result = invoke("resume", cancelled["run"], "--store", place / "store", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["run"] == cancelled["run"]
    assert {stage["name"]: stage["cached"] for stage in record["stages"]} == {
        "embed": True, "align": True, "finetune": False, "evaluate": False,
    }  # fmt: skip
    assert f"resumes-{cancelled['flow_run'][:8]}" in flow_run_of(record["flow_run"]).tags
    again = invoke("resume", cancelled["run"], "--store", place / "store")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "is completed; there is nothing to resume" in again.stderr


# Slots.


def test_stages_that_need_much_hold_a_slot_and_others_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(config_of(place))
    name, taken, there = slots.needs(made)
    seen: dict[str, int] = {}
    for stage in STAGES:
        with slots.slot(made, stage), get_client(sync_client=True) as client:
            limits = {limit.name: limit for limit in client.read_global_concurrency_limits()}
            seen[stage] = limits[name].active_slots if name in limits else 0
    assert seen == {"embed": 0, "align": taken, "finetune": taken, "evaluate": taken, "report": 0}
    assert (taken, limits[name].limit) == (2, there)  # GiB: that of torch, and a little for the tiny body
    sharing = replace(made, config=config_of(place, share_device=True))
    with slots.slot(sharing, "align"), get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name(name).active_slots == 0


@pytest.mark.parametrize("fault", [TrainingError("the loss is NaN"), KeyboardInterrupt(), httpx.ReadError("of it")])
def test_a_stage_that_fails_while_the_server_is_away_tells_its_own_fault(
    place: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    @contextlib.contextmanager
    def lost(*given: Any, **named: Any) -> Iterator[None]:
        try:
            yield
        finally:
            raise httpx.ConnectError("the server is away")

    monkeypatch.setattr(slots, "concurrency", lost)
    with pytest.raises(type(fault)) as told, slots.slot(plan(config_of(place)), "finetune"):
        raise fault
    assert told.value is fault
    with slots.slot(plan(config_of(place)), "finetune"):
        pass


def test_a_gpu_is_named_as_the_machine_counts_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(plan(config_of(place)), device=torch.device("cuda", 0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert slots.needs(made)[0].endswith("-cuda-3")
    assert slots.needs(replace(made, device=torch.device("cuda", 1)))[0].endswith("-cuda-1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert slots.needs(made)[0].endswith("-cuda-0")


def test_a_gpu_has_one_slot_that_others_wait_for(place: Path) -> None:
    made = replace(plan(config_of(place)), device=torch.device("cuda", 1))
    assert slots.needs(made)[0].endswith("-cuda-1")
    assert slots.needs(made)[1:] == (1, 1)
    order: list[str] = []

    def other() -> None:
        with slots.slot(made, "finetune"):
            order.append("second")

    waiting = threading.Thread(target=other)
    with slots.slot(made, "finetune"):
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
        order.append("first")
    waiting.join(60)
    assert order == ["first", "second"]
