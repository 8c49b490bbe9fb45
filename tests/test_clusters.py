"""Sweeps on real Dask and Ray clusters of this machine: the same runs, workers that die, clusters started elsewhere."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.servers.connect import prepare_environment
from flows.sweeps import pool, runners
from flows.sweeps.jobs import do_stage
from flows.sweeps.pool import Job
from flows.sweeps.runners import gpus, started
from orca.config import RunConfig
from orca.errors import InputError
from orca.store import Store
from orca.sweeps.cells import cells
from orca.sweeps.grid import load_grid
from orca.sweeps.sharing import share
from tests.patience import PATIENCE
from tests.records import recording
from tests.served import free_port, wait_for
from tests.sweeping import GRID, command, document, in_turn, stages, states, task_runs, tiny_place, write_grid

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[1]


def installed(kind: str) -> Any:
    """A parameter of tests that need this engine."""
    missing = importlib.util.find_spec(f"prefect_{kind}") is None
    why = f"prefect-{kind} is not installed: pip install 'orca[{kind}]'"
    marks = [pytest.mark.skipif(missing, reason=why)]
    if kind == "ray":  # it kills the programs of a cluster that it has started, and does not wait for them
        marks.append(pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"))
    return pytest.param(kind, marks=marks)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What a test leaves behind is looked at under its own filter of warnings."""
    yield
    gc.collect()


each = pytest.mark.parametrize("kind", [installed("dask"), installed("ray")])


@pytest.fixture(scope="module", autouse=True)
def harness() -> Iterator[None]:
    """A Prefect server, and a token of these tests' own for Ray, which else keeps one in the home of the user."""
    with recording(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_place(tmp_path_factory.mktemp("place"))


@contextlib.contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program of an engine, in surroundings where these tests can be imported; ended with the block."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {**os.environ, "PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], env=variables, text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield running
    finally:
        running.terminate()
        running.wait(PATIENCE)


@contextlib.contextmanager
def dask_elsewhere(folder: Path) -> Iterator[str]:
    """The address of a Dask cluster that these tests have started: a scheduler and a worker."""
    file, quiet = folder / "scheduler.json", ["--no-dashboard", "--scheduler-file", str(folder / "scheduler.json")]
    with process("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *quiet) as scheduler:
        wait_for(lambda: file.is_file() or scheduler.poll() is not None, "the scheduler of Dask")
        with process("distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", *quiet):
            yield json.loads(file.read_text())["address"]


@contextlib.contextmanager
def ray_elsewhere() -> Iterator[str]:
    """The address of a Ray cluster that these tests have started, one that says it has two cores and a GPU."""
    port = free_port()
    options = {
        "port": port, "ray-client-server-port": free_port(), "num-cpus": 2, "num-gpus": 1, "include-dashboard": False,
        "object-store-memory": 100 * 2**20,
    }  # fmt: skip
    given = [f"--{name}={value}" for name, value in options.items()]
    with process("ray.scripts.scripts", "start", "--head", "--block", *given) as head:
        asking = [sys.executable, "-m", "ray.scripts.scripts", "status", f"--address=127.0.0.1:{port}"]

        def ready() -> bool:
            assert head.poll() is None, "the head of Ray has ended"
            return subprocess.run(asking, capture_output=True, check=False).returncode == 0

        wait_for(ready, "the head of Ray")
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Addresses of clusters by engine; each is started when it is asked for."""
    with contextlib.ExitStack() as held:
        make = {"dask": lambda: dask_elsewhere(tmp_path_factory.mktemp("dask")), "ray": ray_elsewhere}
        found: dict[str, str] = {}

        def address(kind: str) -> str:
            if kind not in found:
                found[kind] = held.enter_context(make[kind]())
            return found[kind]

        yield address


@each
def test_a_cluster_that_was_started_elsewhere_does_the_same(
    kind: str, place: Path, tmp_path: Path, addresses: Callable[[str], str]
) -> None:
    grid = write_grid(place, f"on-{kind}", **GRID)
    options = ["--runner", kind, "--address", addresses(kind), "--store", tmp_path / "store", "--json"]
    result = command("sweep", grid, *options)
    assert result.exit_code == 1, result.stderr
    assert states(document(result), "method", "finetune.lr") == {
        ("full", 1e-3): "completed", ("full", 1e30): "failed", ("head", 1e-3): "completed", ("head", 1e30): "completed"
    }  # fmt: skip
    assert stages(tmp_path / "store") == {"embed": 1, "align": 1, "finetune": 3, "evaluate": 3, "baselines": 1}


@pytest.mark.parametrize("kind", [installed("dask")])  # a search submits by the same code as a sweep
def test_a_cluster_searches_too(kind: str, place: Path, tmp_path: Path, addresses: Callable[[str], str]) -> None:
    if importlib.util.find_spec("optuna") is None:
        pytest.skip("optuna is not installed: pip install 'orca[optuna]'")
    drawn = {"search": "optuna", "samples": 3, "aligns": ["none"], "settings": {"finetune.lr": [1e-3, 2e-3]}}
    grid = write_grid(place, f"search-on-{kind}", **drawn)
    options = ["--runner", kind, "--address", addresses(kind), "--store", tmp_path / "store", "--json"]
    result = command("sweep", grid, *options)
    assert result.exit_code == 0, result.stderr
    assert [row["state"] for row in document(result)["trials"]] == ["completed"] * 3
    assert stages(tmp_path / "store")["evaluate"] == 1


def at_work(lock: Path) -> int | None:
    """The process that has this lock file open."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(descriptor) == str(lock):
                return int(descriptor.parts[2])
    return None


class Killer:
    """Kills the workers that are at work on some stages, as long as the block lasts."""

    def __init__(self, store: Path, times: dict[str, int]) -> None:
        """Takes how often each stage, by its job's name, shall lose its worker once it has a checkpoint."""
        self._store, self._times, self._over = store.resolve(), times, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.killed: dict[str, list[int]] = {name: [] for name in times}

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            for name, times in self._times.items():
                if len(self.killed[name]) == times or not any((self._store / ".work" / name / "checkpoint").glob("*")):
                    continue
                worker = at_work(self._store / ".locks" / f"{name}.lock")
                if worker is not None and worker not in self.killed[name]:
                    os.kill(worker, signal.SIGKILL)
                    self.killed[name].append(worker)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._over.set()
        self._thread.join()


@each
def test_a_job_whose_worker_is_killed_is_tried_by_others(
    kind: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, always, never, tries = 80, 81, 2, 2
    monkeypatch.setattr(pool, "TRIES", tries)  # fewer than are usual: each new worker imports for ten seconds
    varied = {"finetune.epochs": [once, always, never], "finetune.patience": [always]}
    grid = write_grid(place, f"killed-{kind}", aligns=["none"], settings=varied)
    jobs = share(cells(load_grid(grid)), Store(tmp_path)).jobs
    finetune = {job.config.finetune.epochs: name for name, job in jobs.items() if job.stage == "finetune"}
    options = ["--runner", kind, "--workers", 2, "--store", tmp_path, "--json"]
    prepare_environment()  # as the command does; Prefect's settings stay
    before = dict(os.environ)
    with Killer(tmp_path, {finetune[once]: 1, finetune[always]: tries}) as killer:
        result = command("sweep", grid, *options)
    assert {name: value for name, value in os.environ.items() if before.get(name) != value} == {}
    assert [len(killer.killed[finetune[epochs]]) for epochs in (once, always)] == [1, tries]
    assert result.exit_code == 1, result.stderr
    found = document(result)
    assert states(found, "finetune.epochs") == {(once,): "completed", (always,): "failed", (never,): "completed"}
    assert found["runs"][1]["reason"] == (
        f"finetune failed: {tries} workers died at it, one after the other; was there enough memory?"
    )
    assert epochs_of(found["runs"][0]) == list(range(1, once + 1))  # went on where it was

    # Three stages that all share, two finetunings, evaluations and reports. A try that was killed soon may be unknown.
    runs = task_runs(found["flow_run"], 3 + 2 + 2 + 2, lambda run: run.state is not None and run.state.is_final())
    recorded = Counter(run.state_name for run in runs)
    assert recorded.pop("Completed") == 3 + 2 + 2 + 2
    assert recorded["Crashed"] == recorded.total() <= 1 + tries

    with in_turn():  # what a cluster has left is in the store, for any runner
        again = command("sweep", grid, "--workers", 1, "--store", tmp_path, "--json")
    assert again.exit_code == 0, again.stderr
    assert "2 to do" in again.stderr  # finetuning and evaluation of the one that failed
    assert epochs_of(document(again)["runs"][1]) == list(range(1, always + 1))


def epochs_of(row: dict[str, Any]) -> list[int]:
    history = (Path(row["path"]) / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in history if '"finetune"' in line]


@task(cache_policy=NO_CACHE, persist_result=False)
def meeting(folder: str, name: str, patience: float) -> tuple[str | None, bool]:
    """What GPUs a job sees, and whether another job was there at the same time, waited for this long."""
    mine, end = Path(folder) / name, time.monotonic() + patience
    mine.touch()
    met = False
    while not met and time.monotonic() < end:
        met = len(list(Path(folder).iterdir())) > 1
        time.sleep(0.01)
    if not met:  # else the other one may still look for this
        mine.unlink()
    return os.environ.get("CUDA_VISIBLE_DEVICES"), met


@flow(persist_result=False)
def meetings(address: str, folder: str, asked: float, patience: float) -> list[tuple[str | None, bool]]:
    with started("ray", None, address) as crew:
        for name in ("one", "other"):
            crew.submit(Job(name, meeting, {"folder": folder, "name": name, "patience": patience}, gpus=asked))
        return [ended.value for ended in iter(crew.next, None)]


@pytest.mark.parametrize("kind", [installed("ray")])
def test_ray_gives_a_gpu_to_one_job_or_to_two_that_share_it(
    kind: str, tmp_path: Path, addresses: Callable[[str], str]
) -> None:
    address = addresses(kind)
    assert meetings(address, str(tmp_path), 1, 2) == [("0", False), ("0", False)]
    assert meetings(address, str(tmp_path), runners.SHARED_GPU, 60) == [("0", True), ("0", True)]


@pytest.mark.parametrize("kind", [installed("ray")])
def test_a_job_for_a_gpu_is_refused_where_ray_counts_none(
    kind: str, tmp_path: Path, addresses: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = addresses(kind)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(InputError, match="Ray counts no GPU in its cluster; set device: cpu"):
        meetings(address, str(tmp_path), 1, 0)


@flow(persist_result=False)
def one_job(kind: str, folder: str) -> list[Any]:
    with started(kind, 1, None) as crew:
        crew.submit(Job("one", meeting, {"folder": folder, "name": "one", "patience": 0}))
        return [ended.value for ended in iter(crew.next, None)]


@pytest.mark.parametrize("kind", [installed("dask")])
def test_a_worker_that_does_not_end_in_time_costs_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = importlib.import_module("distributed.nanny").WorkerProcess
    killed, kill = [], process.kill

    async def late(self: Any, *given: Any, **options: Any) -> None:
        await kill(self, *given, **options)
        killed.append(self)
        raise TimeoutError

    monkeypatch.setattr(process, "kill", late)
    assert one_job(kind, str(tmp_path)) == [(None, False)]
    assert len(killed) == 1


@pytest.mark.parametrize("kind", [installed("dask")])
def test_an_address_where_nobody_answers_is_told(kind: str, place: Path, tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with importlib.import_module("dask.config").set({"distributed.comm.timeouts.connect": "200ms"}):
        grid = write_grid(place, "nobody")
        refused = command("sweep", grid, "--runner", kind, "--address", address, "--store", tmp_path)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"no dask cluster answers at {address}" in refused.stderr


@pytest.mark.parametrize(
    ("device", "share", "asked"),
    [("cuda", False, 1), ("cuda", True, 0.5), ("auto", False, 1), ("cpu", False, 0), ("cpu", True, 0)],
)
def test_what_a_run_asks_of_ray(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    share: bool,  # noqa: FBT001
    asked: float,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert gpus(RunConfig(task="digits", device=device, share_device=share)) == asked


def test_a_worker_that_plans_something_else_says_so(place: Path, tmp_path: Path) -> None:
    jobs = share(cells(load_grid(write_grid(place, "other"))), Store(tmp_path)).jobs
    job = next(job for job in jobs.values() if job.stage == "embed")
    with pytest.raises(InputError, match="start the sweep on a machine like the workers"):
        do_stage(job.config.model_dump(mode="json"), job.stage, "0" * 24, str(tmp_path), online=False)
    assert not (tmp_path / "stages").exists()
