"""Generated tables: their laws, their file, what breaks it, and the metric and the trees that go with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from orca.errors import InputError
from orca.metrics import METRICS
from orca.runtime import rng
from orca.tasks import TASKS
from orca.tasks.boosting import boosting
from orca.tasks.inspection import inspect
from orca.tasks.making import make
from orca.tasks.published import Published, Size
from orca.tasks.tabular import MIXED, SMALL, SPECS, Sketch, draw, file_name
from orca.types import Examples

SKETCHES = {"table-mixed": MIXED, "table-small": SMALL}


def published(name: str) -> Published:
    found = TASKS.get(name).published
    assert found is not None
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    for name, sketch in SKETCHES.items():
        checks = make(published(name), folder / name, Size(900, 0, 300, sketch.width))
        assert all(check.passed for check in checks), checks
    return folder


@pytest.mark.parametrize("name", SKETCHES)
def test_a_made_table_meets_its_checks_is_sound_and_loads(name: str, made: Path) -> None:
    task, sketch = TASKS.get(name), SKETCHES[name]
    found = inspect(task, made / name)
    assert (found.passed, len(found.parts[0].counts)) == (True, sketch.classes)
    splits = task.load.func(*task.load.args, made / name)  # type: ignore[attr-defined]
    assert splits.layout.cardinalities == (*(0,) * sketch.numbers, *(k + 1 for k in sketch.levels))
    assert (len(splits.train) + len(splits.val), len(splits.test)) == (900, 300)
    coded = splits.train.x[:, sketch.numbers :]
    assert 0 < (coded == 0).mean() < 0.2  # missing ones
    assert np.abs(splits.train.x[:, : sketch.numbers].mean(0)).max() < 5


def test_blocks_share_their_maps_and_differ_in_their_rows() -> None:
    one, two = (draw(SMALL, SMALL.width, 400, rng("test", i), "train") for i in range(2))
    assert (one["X_raw"] != two["X_raw"]).mean() > 0.5
    encode = SMALL.encoding.encode
    rows = [_rows(SMALL, found["X_raw"]) for found in (one, two)]
    trees = boosting(SMALL.encoding.cardinalities, "classes")(Examples(encode(rows[0])[0], one["y"]))
    assert (trees(Examples(encode(rows[1])[0], two["y"])).argmax(1) == two["y"]).mean() > 0.55


def _rows(sketch: Sketch, cells: np.ndarray) -> np.ndarray:
    from orca.tasks.tabular import _raw

    return _raw(sketch, {"X_raw_x": cells, "y_x": np.zeros(len(cells))}, "x", Path()).x


def test_another_number_of_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="table-small has 9 columns, and its size cannot be set to 5"):
        make(published("table-small"), tmp_path, Size(9, 0, 3, 5))


FAULTS: dict[str, tuple[Any, str]] = {
    "key": ({"y_dev": None}, "lacks y_dev; it has X_raw_dev, X_raw_test, y_test"),
    "columns": ({"X_raw_dev": np.zeros((30, 4))}, r"X_raw_dev in .* has shape \(30, 4\); expected \(n, 9\)"),
    "rows": ({"y_test": np.zeros(3, int)}, r"y_test in .* has shape \(3,\); expected \(12,\)"),
    "text": ({"X_raw_test": np.full((12, 9), "red")}, "X_raw_test in .*: column n0 holds text"),
}


def arrays() -> dict[str, np.ndarray]:
    dev, test = (draw(SMALL, 9, count, rng("test", count), "train") for count in (30, 12))
    return {
        "X_raw_dev": dev["X_raw"],
        "y_dev": np.arange(30) % 4,
        "X_raw_test": test["X_raw"],
        "y_test": np.arange(12) % 4,
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_each_way_to_break_the_file_has_its_own_message(fault: str, tmp_path: Path) -> None:
    changes, message = FAULTS[fault]
    found = {key: value for key, value in (arrays() | changes).items() if value is not None}
    np.savez(tmp_path / file_name(SMALL), **found)
    with pytest.raises(InputError, match=message):
        published("table-small").read(tmp_path)


def test_a_table_of_objects_made_safe_by_hand_loads(tmp_path: Path) -> None:
    found = arrays()
    numbers = np.where(found["X_raw_dev"][:, :8] == "nan", "None", found["X_raw_dev"][:, :8])
    found["X_raw_dev"] = np.concatenate([numbers, found["X_raw_dev"][:, 8:]], 1).astype("S20").astype("U30")
    found["X_norm_dev"] = np.zeros((30, 9))
    np.savez(tmp_path / file_name(SMALL), **found)
    raw = published("table-small").read(tmp_path)
    assert np.isnan(raw["train"].x["n0"]).sum() == (numbers[:, 0] == "None").sum()
    assert len(raw["test"].x) == 12


def test_one_against_one_is_the_metric_of_hand_and_till() -> None:
    draws = np.random.default_rng(0)
    scores, y = draws.standard_normal((200, 4)), np.arange(200) % 4
    scores[np.arange(200), y] += 1
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    metric = METRICS.get("auroc_ovo").fn
    assert metric(scores, y) == pytest.approx(roc_auc_score(y, p, multi_class="ovo"))
    assert metric(scores[:, :2], y % 2) == pytest.approx(METRICS.get("auroc").fn(scores[:, :2], y % 2))
    assert metric(np.eye(3)[[0, 1, 2]] * 9, np.array([0, 1, 2])) == 1
    assert metric(np.zeros((6, 3)), np.arange(6) % 3) == 0.5
    assert metric(scores[:8], np.arange(8) % 2) == metric(scores[:8] + 7, np.arange(8) % 2)
    assert np.isnan(metric(scores, np.zeros(200, int)))


def test_trees_answer_in_the_form_of_every_target() -> None:
    draws = np.random.default_rng(0)
    x = np.column_stack([draws.standard_normal(200), np.arange(200) % 3]).astype(np.float32)
    y = np.stack([x[:, 0] ** 2, x[:, 1]], 1)
    answer = boosting((0, 3), "scalar")(Examples(x, y))(Examples(x, y))
    assert answer.shape == (200, 2)
    assert np.abs(answer - y).mean() < 0.2


def test_generated_tables_are_said_to_be_invented() -> None:
    assert all(spec.provenance.synthetic for spec in SPECS)
    assert dataclasses.replace(MIXED, levels=(2,)).width == 13
