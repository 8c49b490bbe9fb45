from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from orca.confusions import confusion
from orca.errors import InputError
from orca.evaluate import measure
from orca.metrics import (
    DEFAULT_METRIC,
    METRICS,
    Metric,
    bootstrap_interval,
    check_metric,
    label_aurocs,
    metrics_for,
    one_sided,
)
from orca.types import Layout


def logits_for(predicted: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[predicted]


def random_problem(name: str, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    kind = METRICS.get(name).target
    if kind == "classes":
        k = 2 if name == "auroc" else 4
        y = rng.integers(k, size=n)
        return rng.normal(size=(n, k)) + np.eye(k)[y], y
    if kind == "multilabel":
        y = rng.integers(2, size=(n, 3))
        return rng.normal(size=(n, 3)) + y, y
    if kind == "mask":
        y = rng.integers(-1, 2, size=(n, 1, 4, 5))
        return rng.normal(size=y.shape) + y, y
    if name == "mae8":
        y = np.where(rng.random((n, 1, 28, 28)) < 0.1, np.nan, rng.uniform(4, 12, (n, 1, 28, 28)))
        return np.nan_to_num(y, nan=5.0) + 0.3 * rng.normal(size=y.shape), y
    y = rng.normal(size=(n, 2) if kind == "scalar" else (n, 2, 4, 5))
    return y + 0.3 * rng.normal(size=y.shape), y


def layout(target: str, classes: int = 3) -> Layout:
    return Layout("table", target, (4,), (classes,))  # type: ignore[arg-type]


def test_class_metrics_of_a_small_table_are_the_ones_done_by_hand():
    y = np.array([0, 0, 0, 1])
    scores = logits_for(np.array([0, 0, 1, 1]), 2)
    value = {m.name: m.fn(scores, y) for m in METRICS if m.target == "classes"}
    assert value["error"] == pytest.approx(1 / 4)
    assert value["accuracy"] == pytest.approx(3 / 4)
    assert value["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert value["balanced_error"] == pytest.approx(1 - (2 / 3 + 1) / 2)
    assert value["mcc"] == pytest.approx((2 * 1 - 0 * 1) / np.sqrt(2 * 3 * 1 * 2))
    assert value["auroc"] == pytest.approx((2 + 0.5) / 3)


def test_class_metrics_agree_with_scikit_learn():
    scores, y = random_problem("error", n=200)
    p = scores.argmax(1)
    np.testing.assert_array_equal(confusion(scores, y), sk.confusion_matrix(y, p))
    assert METRICS.get("macro_f1").fn(scores, y) == pytest.approx(sk.f1_score(y, p, average="macro"))
    assert METRICS.get("balanced_error").fn(scores, y) == pytest.approx(1 - sk.balanced_accuracy_score(y, p))
    assert METRICS.get("mcc").fn(scores, y) == pytest.approx(sk.matthews_corrcoef(y, p))


def test_macro_f1_runs_over_classes_that_occur_in_truth_or_prediction():
    y = np.array([0, 0, 1])
    assert METRICS.get("macro_f1").fn(logits_for(np.array([0, 0, 1]), 5), y) == 1.0
    assert METRICS.get("macro_f1").fn(logits_for(np.array([0, 0, 4]), 5), y) == pytest.approx(1 / 3)


def test_mcc_is_zero_when_all_predictions_are_one_class():
    assert METRICS.get("mcc").fn(logits_for(np.array([1, 1, 1]), 2), np.array([0, 1, 1])) == 0.0


def test_field_metrics_are_means_over_samples_of_relative_norms():
    u = np.zeros((2, 2, 3))
    u[0, 0], u[0, 1], u[1] = 3.0, 4.0, 1.0
    p = u.copy()
    p[0, 0] += 1.5  # half of channel 0, norm 1.5 against 5 over both channels; sample 1 is met exactly
    assert METRICS.get("relative_l2").fn(p, u) == pytest.approx(0.3 / 2)
    assert METRICS.get("nrmse").fn(p, u) == pytest.approx(0.5 / 4)


def test_pdebench_has_a_norm_for_each_channel_where_orca_has_one_for_all():
    u, p = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    u[:, 0], u[:, 1], u[:, 2] = 1.0, 10.0, 100.0
    p[:] = u
    p[0, 0], p[0, 1, :2] = 0.5, 5.0  # half of channel 0; half of channel 1 on half of its points
    assert METRICS.get("nrmse").fn(p, u) == pytest.approx((0.5 + np.sqrt(0.125) + 0) / 3 / 2)
    flat = np.sqrt((4 * 0.25 + 2 * 25) / (4 * (1 + 100 + 10_000)))
    assert METRICS.get("relative_l2").fn(p, u) == pytest.approx(flat / 2)
    assert METRICS.get("field_rmse").fn(p, u) == pytest.approx(np.sqrt((4 * 0.25 + 2 * 25) / 12) / 2)
    assert METRICS.get("nrmse").fn(p[:, :1], u[:, :1]) == pytest.approx(0.25)  # one channel: both are the same
    assert METRICS.get("relative_l2").fn(p[:, :1], u[:, :1]) == pytest.approx(0.25)


def test_relative_l2_does_not_change_with_the_unit():
    p, u = random_problem("relative_l2")
    assert METRICS.get("relative_l2").fn(1e3 * p, 1e3 * u) == pytest.approx(METRICS.get("relative_l2").fn(p, u))


def test_scalar_metrics_have_known_values():
    y, p = np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]])
    assert METRICS.get("rmse").fn(p, y) == pytest.approx(np.sqrt(2))
    assert METRICS.get("mae").fn(p, y) == pytest.approx(1.0)
    assert METRICS.get("r2").fn(p, y) == pytest.approx(1 - 4 / 2)
    assert METRICS.get("r2").fn(np.full((2, 1), 1.0), y) == pytest.approx(0.0)


def test_multilabel_metrics_leave_out_labels_they_are_not_defined_for():
    y = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]])
    scores = np.stack([[4, 1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4]], axis=1).astype(float)
    assert METRICS.get("macro_auroc").fn(scores, y) == pytest.approx(3 / 4)
    assert METRICS.get("map").fn(scores, y) == pytest.approx((1 + 2 / 3) / 2)
    np.testing.assert_array_equal(one_sided(y), [False, True, True])


def test_mean_average_precision_and_macro_auroc_by_hand():
    y = np.array([[1, 0], [0, 1], [1, 0], [0, 0], [0, 1]])
    scores = np.array([[0.9, 0.1], [0.8, 0.3], [0.7, 0.9], [0.2, 0.2], [0.1, 0.8]])
    # label 0 by rank: + - + - -, precisions 1 and 2/3; label 1: - + + - -, precisions 1/2 and 2/3
    assert METRICS.get("map").fn(scores, y) == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2 + 2 / 3) / 2) / 2)
    # of 6 pairs label 0 has 5 right, label 1 has 4
    assert METRICS.get("macro_auroc").fn(scores, y) == pytest.approx((5 / 6 + 4 / 6) / 2)


def test_a_result_says_how_many_labels_are_left_out():
    y = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
    scores = np.arange(9.0).reshape(3, 3)
    assert measure(METRICS.get("map"), scores, y)["labels_left_out"] == 2
    assert "labels_left_out" not in measure(METRICS.get("map"), scores[:, :1], y[:, :1])


def test_aurocs_with_ties_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    y, scores = rng.integers(2, size=(50, 3)), rng.integers(5, size=(50, 3)).astype(float)
    expected = [sk.roc_auc_score(y[:, k], scores[:, k]) for k in range(3)]
    np.testing.assert_allclose(label_aurocs(scores, y), expected)
    logits = np.stack([np.zeros(50), scores[:, 0]], axis=1)
    assert METRICS.get("auroc").fn(logits, y[:, 0]) == pytest.approx(expected[0])


def test_undefined_values_are_nan_and_not_an_exception():
    one_class = np.zeros(5, dtype=int)
    assert np.isnan(METRICS.get("auroc").fn(np.ones((5, 2)), one_class))
    assert np.isnan(METRICS.get("macro_auroc").fn(np.ones((5, 2)), np.zeros((5, 2))))
    low, high = bootstrap_interval(METRICS.get("auroc"), np.ones((5, 2)), one_class, resamples=100)
    assert np.isnan(low)
    assert np.isnan(high)


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_lies_in_its_interval_and_the_interval_repeats(name):
    metric, (scores, y) = METRICS.get(name), random_problem(name)
    low, high = bootstrap_interval(metric, scores, y, seed=1, resamples=100)
    assert low < metric.fn(scores, y) < high
    assert bootstrap_interval(metric, scores, y, seed=1, resamples=100) == (low, high)
    assert bootstrap_interval(metric, scores, y, seed=2, resamples=100) != (low, high)


@pytest.mark.parametrize("name", ["error", "macro_f1", "mcc", "rmse", "nrmse", "mask_balanced_error", "mask_auroc"])
def test_fast_resampling_has_the_law_of_the_plain_loop(name):
    fast, (scores, y) = METRICS.get(name), random_problem(name, n=80)
    plain = Metric(name, fast.fn, fast.higher_is_better, fast.target)
    a = bootstrap_interval(fast, scores, y, resamples=2000)
    b = bootstrap_interval(plain, scores, y, resamples=2000)
    assert a == pytest.approx(b, abs=0.12 * (b[1] - b[0]))


def test_interval_of_the_error_is_that_of_the_binomial_law():
    y = np.zeros(400, dtype=int)
    scores = logits_for((np.arange(400) < 80).astype(int), 2)
    low, high = bootstrap_interval(METRICS.get("error"), scores, y, resamples=4000)
    half = 1.96 * np.sqrt(0.2 * 0.8 / 400)
    assert (low, high) == pytest.approx((0.2 - half, 0.2 + half), abs=0.006)


def test_resamples_that_lack_a_rare_class_still_count():
    y = np.array([0] * 30 + [1])
    scores = logits_for(np.array([0] * 30 + [1]), 2)
    assert bootstrap_interval(METRICS.get("macro_f1"), scores, y) == (1.0, 1.0)
    assert bootstrap_interval(METRICS.get("balanced_error"), scores, y) == (0.0, 0.0)
    assert bootstrap_interval(METRICS.get("auroc"), scores, y, resamples=100) == (1.0, 1.0)


def test_interval_of_nothing_is_refused():
    with pytest.raises(InputError, match="one score per sample; got 0 scores for 3"):
        bootstrap_interval(METRICS.get("error"), np.zeros((0, 2)), np.zeros(3))


@pytest.mark.parametrize("target", DEFAULT_METRIC)
def test_default_metric_comes_first_of_those_that_fit(target):
    assert metrics_for(layout(target))[0].name == DEFAULT_METRIC[target]


def test_metric_for_another_kind_of_target_is_refused_with_a_choice():
    with pytest.raises(InputError, match=r"'rmse' is for targets of kind 'scalar'.*choose one of: error, accuracy"):
        check_metric("rmse", layout("classes"))
    with pytest.raises(InputError, match="'auroc' needs two classes, there are 3"):
        check_metric("auroc", layout("classes"))
    with pytest.raises(InputError, match="did you mean"):
        check_metric("eror", layout("classes"))
    assert check_metric("auroc", layout("classes", classes=2)).name == "auroc"


def test_nan_is_worse_than_any_number():
    error, accuracy = METRICS.get("error"), METRICS.get("accuracy")
    assert error.better(0.1, 0.2)
    assert accuracy.better(0.2, 0.1)
    assert error.better(0.9, float("nan"))
    assert not error.better(float("nan"), 0.9)
