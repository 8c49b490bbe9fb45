"""Every benchmark task from nothing to its report: made tiny, checked, read, trained for two epochs, evaluated."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import orca
from orca.runtime import read_json
from orca.tasks import TASKS, TaskSpec
from orca.tasks.inspection import inspect
from orca.tasks.making import make
from orca.tasks.published import SIDE, Size
from tests.tiny import save_tiny_body

# Samples of train, val and test, and points of one: so many that train has each class, so few that it takes seconds.
SIZES = {
    "cfd2d": Size(18, 0, 2, 8), "cifar100": Size(500, 0, 100, 32), "cosmic": Size(18, 0, 4, 32),
    "deepsea": Size(120, 40, 60, 200), "ecg": Size(60, 0, 12, 2400), "fsd50k": Size(100, 30, 60, 8),
    "ninapro": Size(360, 90, 90, 52), "psicov": Size(12, 0, 4, 64), "satellite": Size(700, 0, 100, 46),
    "spherical": Size(500, 0, 100, 20), "table-mixed": Size(120, 0, 30, 16), "table-small": Size(120, 0, 30, 9),
}  # fmt: skip
DEFAULT = Size(45, 0, 5, 16)
BENCHMARK = [spec for spec in TASKS if spec.published is not None]


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_body(tmp_path_factory.mktemp("body"))


@pytest.mark.parametrize("spec", BENCHMARK, ids=lambda spec: spec.name)
def test_a_task_goes_from_its_generator_to_its_report(
    spec: TaskSpec, body: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = spec.published
    assert published is not None
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    folder = tmp_path / published.name
    make(published, folder, SIZES.get(published.name, DEFAULT))
    wrong = [finding for finding in inspect(spec, folder).findings if finding.wrong]
    # Acceptance checks are of sizes that resolve the physics and count the statistics; each family's tests have them.
    wrong = [finding for finding in wrong if finding.where != SIDE]
    assert wrong == []
    config = {
        "task": spec.name, "body": str(body), "device": "cpu", "source": {"n": 80}, "embed": {"tokens": 16},
        "align": {"epochs": 1, "samples_per_class": 4, "max_samples": 40, "probe_samples": 40},
        "finetune": {"epochs": 2, "batch_size": 16, "lr": 1e-3, "epoch_samples": 64, "validation_samples": 32},
    }  # fmt: skip
    made = orca.adapt(config, store=tmp_path / "store")
    record = read_json(made.path / "run.json")
    assert record["synthetic"] is True
    assert record["metric"]["name"] == spec.metric
    assert math.isfinite(record["metric"]["value"])
    assert set(spec.predictors) <= set(record["baselines"])
    assert "synthetic: generated" in record["notes"][0]
    assert "synthetic: generated" in (made.path / "report.html").read_text()
