"""The folder of a run, gathered from its stages: whole once the test set was opened, a record alone before."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca import runtime
from orca.keys import run_name
from orca.manifest import link
from orca.memory import peak_memory_mb
from orca.plan import Plan
from orca.runs import FINISHED, VALIDATED, describe, entry, is_finished, is_running, mark, settings_text
from orca.runtime import read_json, write_json
from orca.store import StageRef, Store


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        path: its folder, with ``run.json``, ``metrics.json``, ``predictions.npz``, ``report.html`` and ``model/``.
        record: what ``orca run --json`` prints.
    """

    path: Path
    record: dict[str, Any]

    @property
    def unchanged(self) -> bool:
        """Whether every stage was there already."""
        return all(stage["cached"] for stage in self.record["stages"])


def finish(made: Plan, store: Store, stages: list[StageRef], *, flow_run: str | None = None) -> RunResult:
    """Gathers a run's folder from its four stages; a run that is there and unchanged is left as it is."""
    refs = {ref.name: ref for ref in stages}
    name = run_name(made)
    path = store.runs_dir / name
    if all(ref.cached for ref in stages) and is_finished(store, name):
        now = {"path": str(path), "flow_run": flow_run, "stages": _listed(stages)}  # the store may have been moved
        return RunResult(path, {**entry(path), **now})
    scores = read_json(refs["evaluate"].path / "metrics.json")
    record = _record(made, path, stages, scores) | {"state": FINISHED, "flow_run": flow_run}

    def fill(out: Path) -> None:
        write_json(out / "run.json", record)
        runtime.atomic_write(out / "config.yaml", settings_text(made.config))
        for file in ("metrics.json", "predictions.npz", "layout.json"):
            link(refs["evaluate"].path / file, out / file)
        for file in (refs["finetune"].path / "model").iterdir():
            link(file, out / "model" / file.name)
        write_history(out, [*_tagged("align", refs["align"].path), *_tagged("finetune", refs["finetune"].path)])
        from orca.report import write_report

        write_report(out)

    return RunResult(store.publish_run(name, fill), record)


def validate(made: Plan, store: Store, stages: list[StageRef]) -> dict[str, Any]:
    """The record of a run that is trained and whose test set stays closed, for now or for good.

    It is that of a finished run, without test metric, shift sets and baselines, and stands in the run's folder with the
    settings; ``orca resume`` opens the test set. A run that is finished, or at work elsewhere, keeps its own record.
    """
    name, metric = run_name(made), made.metric()
    path, tuned = store.runs_dir / name, next(ref for ref in stages if ref.name == "finetune")
    closed = {
        "test": {"name": metric.name, "value": None, "higher_is_better": metric.higher_is_better},
        "validation": read_json(tuned.path / "report.json")["validation"], "shift": {}, "baselines": {},
    }  # fmt: skip
    reason = "trained and measured on validation; the test set was not opened"
    record = _record(made, path, stages, closed) | {"state": VALIDATED, "reason": reason}
    if not is_running(store, name) and mark(store, name, record):
        runtime.atomic_write(path / "config.yaml", settings_text(made.config))
    return record


def _record(made: Plan, path: Path, stages: list[StageRef], scores: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.json`` tells of a run with these scores, but for its state."""
    config, notes = made.config, list(made.data().notes)
    refs = {ref.name: ref for ref in stages}
    peaks = [ref.peak_memory_mb for ref in stages if ref.peak_memory_mb is not None]
    of_gpu = [ref.peak_gpu_memory_mb for ref in stages if ref.peak_gpu_memory_mb is not None]
    if config.random_seed is not None and config.method.pretrained:
        notes.append("body.pretrained: no, so that the body's weights are random: a control")
    if left_out := scores["test"].get("labels_left_out"):
        notes.append(f"{left_out} labels that all or no test samples have are left out of {scores['test']['name']}")
    return {
        "run": path.name, "path": str(path), "flow_run": None, **describe(config),
        "metric": scores["test"], "validation": scores["validation"],
        "shift": {key: value["value"] for key, value in scores["shift"].items()},
        "baselines": {k: found["test"] for k, found in scores["baselines"].items() if "test" in found},
        "alignment": read_json(refs["align"].path / "report.json"),
        "parameters": read_json(refs["finetune"].path / "report.json")["parameters"], "stages": _listed(stages),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "versions": runtime.versions(),
        "machine": runtime.machine(), "commit": runtime.commit(),
        "peak_memory_mb": max(peaks, default=peak_memory_mb()), "peak_gpu_memory_mb": max(of_gpu, default=None),
        "body_revision": made.files.revision, "body_sha256": made.files.sha256, "notes": notes,
        "synthetic": made.task.synthetic,
    }  # fmt: skip


def _listed(stages: list[StageRef]) -> list[dict[str, Any]]:
    return [{"name": r.name, "seconds": r.seconds, "cached": r.cached, "path": str(r.path)} for r in stages]


def write_history(out: Path, records: list[dict[str, Any]]) -> None:
    """Writes ``history.jsonl``, a line for each record."""
    lines = (json.dumps(runtime.finite(record), allow_nan=False) + "\n" for record in records)
    runtime.atomic_write(out / "history.jsonl", "".join(lines))


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The records of a stage's ``history.jsonl``; none where it wrote none."""
    file = folder / "history.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [json.loads(line) for line in lines]


def _tagged(stage: str, folder: Path) -> list[dict[str, Any]]:
    return [{"stage": stage, **record} for record in read_history(folder)]
