from __future__ import annotations

import numpy as np
import pytest

from orca import baselines
from orca.baselines import fit_baselines
from orca.metrics import DEFAULT_METRIC, METRICS
from orca.types import Examples, Layout, Splits


def cut(x: np.ndarray, y: np.ndarray, layout: Layout, *, length: np.ndarray | None = None, **shift: Examples) -> Splits:
    whole, n = Examples(x, y, length), len(x)
    parts = [whole.subset(np.arange(a, b)) for a, b in ((0, n // 2), (n // 2, 3 * n // 4), (3 * n // 4, n))]
    return Splits(*parts, layout, shift)


def clusters(n: int = 240, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(classes, size=n)
    x = 3 * np.eye(classes, 12)[y] + 0.3 * rng.normal(size=(n, 12))
    return x.reshape(n, 1, 3, 4).astype(np.float32), y


def fit(splits: Splits, name: str | None = None) -> dict[str, dict[str, float]]:
    return fit_baselines(splits, METRICS.get(name or DEFAULT_METRIC[splits.layout.target]), seed=0)


def test_clear_clusters_are_solved_by_linear_and_nearest_and_not_by_majority():
    x, y = clusters()
    values = fit(cut(x, y, Layout("grid", "classes", (1, 3, 4), (3,)), far=Examples(x[:5] + 10, y[:5])))
    top = np.bincount(y[:120]).argmax()
    assert values["majority"]["test"] == pytest.approx((y[180:] != top).mean())
    assert values["linear"]["test"] == 0.0
    assert values["nearest"]["test"] == 0.0
    assert set(values["linear"]) == {"test", "far"}


def test_ridge_solves_a_linear_law_and_mean_gives_the_spread():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    y = x @ rng.normal(size=(5, 2)) + 7
    values = fit(cut(x, y, Layout("table", "scalar", (5,), (2,))))
    assert values["ridge"]["test"] < 0.02 * values["mean"]["test"]
    assert values["mean"]["test"] == pytest.approx(np.sqrt(((y[300:] - y[:200].mean(0)) ** 2).mean()), rel=1e-5)
    assert values["nearest"]["test"] < values["mean"]["test"]


def test_fields_of_another_shape_are_left_out():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(80, 1, 8, 8)).astype(np.float32)
    finer = Examples(np.ones((4, 1, 16, 16), np.float32), np.ones((4, 1, 16, 16), np.float32))
    values = fit(cut(x, 2 * x + 1, Layout("grid", "field", (1, 8, 8), (1, 8, 8)), finer=finer))
    assert all(set(v) == {"test"} for v in values.values())
    assert values["ridge"]["test"] < values["mean"]["test"]


def test_labels_are_ranked_by_ridge_and_nearest():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 2, 6)).astype(np.float32)
    y = (x[:, 0, :4] > 0).astype(np.int64)
    values = fit(cut(x, y, Layout("sequence", "multilabel", (2, 6), (4,))))
    assert values["majority"]["test"] == pytest.approx(0.5)
    assert values["ridge"]["test"] > 0.9
    assert values["nearest"]["test"] > 0.7


@pytest.mark.parametrize("channels", [1, 2])
def test_the_length_of_a_sequence_has_a_scale_of_its_own(channels: int) -> None:
    """A signal in small units is heard beside its length."""
    rng = np.random.default_rng(5)
    y, length = rng.integers(2, size=160), rng.integers(12, 21, size=160)
    x = (1e-5 * (rng.normal(size=(160, channels, 20)) + 2 * y[:, None, None])).astype(np.float32)
    x[np.broadcast_to(np.arange(20) >= length[:, None, None], x.shape)] = 0
    assert fit(cut(x, y, Layout("sequence", "classes", (channels, 20), (2,)), length=length))["linear"]["test"] < 0.05


def test_sequences_of_any_length_are_compared_by_their_shape_alone():
    rng = np.random.default_rng(4)
    n, size = 160, 40
    y, length = rng.integers(2, size=n), rng.integers(12, size + 1, size=n)
    x = np.zeros((n, 1, size), np.float32)
    for i in range(n):  # a rise or a fall over the valid part, padded with zeros
        ramp = np.linspace(-1, 1, length[i])
        x[i, 0, : length[i]] = ramp if y[i] else -ramp
    values = fit(cut(x, y, Layout("sequence", "classes", (1, size), (2,)), length=length))
    assert values["linear"]["test"] == 0.0
    assert values["nearest"]["test"] == 0.0


def test_stretching_a_line_gives_a_line():
    x = np.zeros((1, 1, 9), np.float32)
    x[0, 0, :5] = np.arange(5)
    stretched = baselines._stretch(x, np.array([5]), 9)[0, 0]
    np.testing.assert_allclose(np.diff(stretched)[1:-1], 5 / 9, rtol=1e-5)
    assert stretched[0] == 0.0
    assert stretched[-1] == 4.0


def test_categories_become_one_hot_and_unknown_codes_nothing():
    x = np.array([[0.5, 2], [1.5, 7]], np.float32)
    np.testing.assert_array_equal(baselines._one_hot(x, (0, 3)), [[0.5, 0, 0, 1], [1.5, 0, 0, 0]])


def test_a_category_without_order_is_learned_by_the_linear_model():
    code = np.random.default_rng(5).integers(4, size=200)
    x = np.stack([code, np.zeros(200)], axis=1).astype(np.float32)
    values = fit(cut(x, code % 2, Layout("table", "classes", (2,), (2,), cardinalities=(4, 0))), "auroc")
    assert values["linear"]["test"] == 1.0
    assert values["majority"]["test"] == 0.5


def test_large_inputs_are_averaged_and_reduced_and_still_solved():
    x, y = clusters(120)
    big = np.repeat(np.repeat(x, 40, axis=2), 40, axis=3)  # 1 x 120 x 160
    values = fit(cut(big, y, Layout("grid", "classes", (1, 120, 160), (3,))))
    assert values["linear"]["test"] == 0.0
    assert np.prod(baselines._pooled_shape((1, 120, 160))) <= baselines.MAX_INPUT


def test_a_class_that_the_rows_lack_gets_the_lowest_score_and_no_error():
    x, y = clusters()
    x, y = x[y < 2], y[y < 2]
    values = fit(cut(x, y, Layout("grid", "classes", (1, 3, 4), (5,))), "macro_f1")
    assert values["linear"]["test"] == 1.0


def test_one_class_leaves_the_linear_model_out_and_nothing_is_nan():
    x, y = clusters()
    splits = cut(x, np.zeros_like(y), Layout("grid", "classes", (1, 3, 4), (2,)))
    assert set(fit(splits)) == {"majority", "nearest"}
    assert fit(splits, "auroc") == {}


def test_same_seed_same_values_also_with_fewer_rows(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_ROWS", 40)
    x, y = clusters()
    splits = cut(x + np.random.default_rng(1).normal(size=x.shape), y, Layout("grid", "classes", (1, 3, 4), (3,)))
    assert fit(splits) == fit(splits)


def test_predictors_of_a_task_are_fitted_on_as_few_rows_as_the_others(monkeypatch) -> None:
    monkeypatch.setattr("orca.baselines.MAX_ROWS", 20)
    seen: list[int] = []

    def predictor(train: Examples):
        seen.append(len(train))
        return lambda data: np.zeros((len(data), 3), np.float32)

    splits = cut(*clusters(), Layout("grid", "classes", (1, 3, 4), (3,)))
    assert "mine" in fit_baselines(splits, METRICS.get("error"), seed=0, predictors={"mine": predictor})
    assert seen == [20]
