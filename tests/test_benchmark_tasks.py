"""Every benchmark task from nothing to its report: made tiny, checked, read, trained for two epochs, evaluated."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import orca
from orca.runtime import read_json
from orca.tasks import TASKS, TaskSpec
from orca.tasks.inspection import inspect
from orca.tasks.published import SIDE
from tests.made import made, shifts_of
from tests.tiny import save_tiny_body

BENCHMARK = [spec for spec in TASKS if spec.published is not None]


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_body(tmp_path_factory.mktemp("body"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize("spec", BENCHMARK, ids=lambda spec: spec.name)
def test_a_task_goes_from_its_generator_to_its_report(
    spec: TaskSpec, body: Path, store: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(spec, tmp_path_factory)
    monkeypatch.setenv("ORCA_DATA", str(folder.parent))
    wrong = [finding for finding in inspect(spec, folder).findings if finding.wrong]
    # Acceptance checks are of sizes that resolve the physics and count the statistics; each family's tests have them.
    wrong = [finding for finding in wrong if finding.where != SIDE]
    assert wrong == []
    config = {
        "task": spec.name, "body": str(body), "device": "cpu", "source": {"n": 80}, "embed": {"tokens": 16},
        "align": {"epochs": 1, "samples_per_class": 4, "max_samples": 40, "probe_samples": 40},
        "finetune": {"epochs": 2, "batch_size": 16, "lr": 1e-3, "epoch_samples": 64, "validation_samples": 32},
    }  # fmt: skip
    result = orca.adapt(config, store=store)
    record = read_json(result.path / "run.json")
    assert record["synthetic"] is True
    assert record["metric"]["name"] == spec.metric
    assert math.isfinite(record["metric"]["value"])
    assert set(spec.predictors) <= set(record["baselines"])
    shift = read_json(result.path / "metrics.json")["shift"]
    assert set(shift) == shifts_of(spec)
    assert all(math.isfinite(found["value"]) for found in shift.values())
    assert "synthetic: generated" in record["notes"][0]
    assert "synthetic: generated" in (result.path / "report.html").read_text()
