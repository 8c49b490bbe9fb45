"""What a sweep takes: small runs with one and with more workers, and trivial ones by the thousand, none lost."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.pipeline import COMMAND, seconds, server
from orca.runtime import commit, machine, versions

# Runs of some seconds that share the embedder of their seed and nothing else that takes time.
SMALL: dict[str, Any] = {
    "tasks": {"task": "digits", "embed": {"tokens": 16}},
    "aligns": ["none"], "seeds": [0, 1, 2], "settings": {"finetune.lr": [1e-4, 2e-4, 3e-4, 4e-4]},
}  # fmt: skip
PATIENCE = 300  # seconds in which the server may still write down the end of tasks


def small_runs(runner: str, workers: int, samples: int, api: str) -> dict[str, Any]:
    """Seconds of the command over 12 small runs in an empty store, one thread each, and of doing nothing again."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**kept, "PREFECT_API_URL": api, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        config, grid = Path(folder) / "small.yaml", Path(folder) / "grid.yaml"
        config.write_text(yaml.safe_dump({**SMALL["tasks"], "finetune": {"epochs": 1, "epoch_samples": samples}}))
        grid.write_text(yaml.safe_dump({**SMALL, "tasks": str(config)}))
        given = ["sweep", str(grid), "--runner", runner, "--workers", str(workers), "--store", folder, "--json"]
        whole, told = seconds(COMMAND, given, environment)
        again, _ = seconds(COMMAND, given, environment)
    states = Counter(run["state"] for run in json.loads(told)["runs"])
    return {"runner": runner, "workers": workers, "runs": dict(states), "seconds": whole, "again_seconds": again}


def trivial_runs(count: int, runner: str, workers: int, api: str) -> dict[str, Any]:
    """Seconds of one flow with so many empty tasks, and how many the server has recorded as completed."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.runtime import flow_run
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.sweeps.pool import Job
    from flows.sweeps.runners import call, started

    @task(cache_policy=NO_CACHE, persist_result=False)
    def trivial(number: int) -> int:
        return call(abs, number)

    @flow(name="trivial", persist_result=False)
    def many() -> tuple[str, int]:
        with started(runner, workers, None) as pool:
            for number in range(count):
                pool.submit(Job(number, trivial, {"number": number}))
            return str(flow_run.id), sum(ended.value == ended.name for ended in iter(pool.next, None))

    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        begun = time.perf_counter()
        identity, returned = many()
        took = time.perf_counter() - begun
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[identity]))  # pyright: ignore[reportArgumentType]
        recorded = 0
        while recorded < count and time.perf_counter() - begun < took + PATIENCE:
            recorded = 0
            for offset in range(0, count, 200):
                page = client.read_task_runs(flow_run_filter=chosen, limit=200, offset=offset)
                recorded += sum(run.state is not None and run.state.is_completed() for run in page)
        late = time.perf_counter() - begun - took
    return {"runner": runner, "workers": workers, "count": count, "seconds": took, "returned": returned,
            "recorded": recorded, "late_seconds": late}  # fmt: skip


def table(made: Mapping[str, Any]) -> str:
    """Both measurements as Markdown, with what they were made on."""
    lines = ["| runner | workers | runs | s | s a run | times faster | s again, nothing to do |", "|" + " --- |" * 7]
    alone = {row["runner"]: row["seconds"] for row in made["small"] if row["workers"] == 1}
    for row in made["small"]:
        count = sum(row["runs"].values())
        faster = f"{alone[row['runner']] / row['seconds']:.2f}" if row["runner"] in alone else ""
        cells = [row["runner"], row["workers"], row["runs"], f"{row['seconds']:.1f}", f"{row['seconds'] / count:.1f}"]
        lines.append("| " + " | ".join(map(str, [*cells, faster, f"{row['again_seconds']:.1f}"])) + " |")
    if made["trivial"]:
        lines += ["", "| runner | workers | trivial runs | s | ms a run | returned | recorded | after s more |"]
        lines.append("|" + " --- |" * 8)
    for row in made["trivial"]:
        cells = [row["runner"], row["workers"], row["count"], f"{row['seconds']:.1f}"]
        cells += [f"{1000 * row['seconds'] / row['count']:.1f}", row["returned"], row["recorded"]]
        lines.append("| " + " | ".join(map(str, [*cells, f"{row['late_seconds']:.1f}"])) + " |")
    on = made["machine"]
    return "\n".join(lines) + (
        f"\n\nServer's records in {made['database']}. {on['cpu']}, {on['cores']} cores, {on['gpu'] or 'no GPU'}; "
        f"prefect {made['versions']['prefect']}; commit {made['commit'] or 'unknown'}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=str(__doc__))
    parser.add_argument("--runners", default="local", help="of local, dask, ray [local]")
    parser.add_argument("--workers", default="1,2", help="numbers of workers [1,2]")
    parser.add_argument("--samples", type=int, default=320, metavar="N", help="that each run is trained on [320]")
    parser.add_argument("--trivial", type=int, default=0, metavar="N", help="also N trivial runs, by the most workers")
    parser.add_argument("--only-trivial", action="store_true", help="leave out the small runs")
    parser.add_argument("--database", metavar="URL", help="of the server [SQLite], such as postgresql+asyncpg://…")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(argv)
    runners, workers = given.runners.split(","), [int(part) for part in given.workers.split(",")]
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")  # a line for each task otherwise
    if given.database:
        os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = given.database
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as api:
        pairs = [] if given.only_trivial else [(runner, number) for runner in runners for number in workers]
        small = [small_runs(runner, number, given.samples, api) for runner, number in pairs]
        trivial = [trivial_runs(given.trivial, runner, max(workers), api) for runner in runners if given.trivial]
    made = {"benchmark": "sweep", "small": small, "trivial": trivial, "machine": machine(), "versions": versions(),
            "commit": commit(), "database": (given.database or "SQLite").partition("+")[0]}  # fmt: skip
    print(json.dumps(made, indent=2) if given.json else table(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
