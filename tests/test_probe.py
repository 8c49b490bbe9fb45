"""The ridge probe: known answers, and that it sees what it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from orca.probe import _STRENGTHS, _dense_rows, probe, ridge_errors, surely_less
from tests.tiny import LAYOUTS, tiny_adapted, tiny_examples


def data(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 6)) * np.array([1, 5, 0.1, 2, 1, 3.0])
    return x, x @ np.random.default_rng(9).normal(size=(6, 2)) + 4 + 0.5 * draw.normal(size=(n, 2))


def test_it_equals_scikit_learns_ridge_at_the_best_strength() -> None:
    (x, y), (x_val, y_val) = data(0, 80), data(1, 40)
    mean, std = x.mean(0), x.std(0)
    errors = []
    for strength in _STRENGTHS:
        model = Ridge(alpha=strength * len(x)).fit((x - mean) / std, y)
        errors.append(np.square(model.predict((x_val - mean) / std) - y_val).mean(0))
    wanted = min((error / np.square(y_val - y.mean(0)).mean(0)).mean() for error in errors)
    assert ridge_errors(x, y, x_val, y_val, "scalar").mean() == pytest.approx(wanted, rel=1e-4)


def test_it_counts_wrong_classes() -> None:
    x = np.repeat(np.eye(3), 4, 0)
    y = x.copy()
    x_val = np.eye(3)
    assert ridge_errors(x, y, x_val, np.eye(3), "classes").tolist() == [0, 0, 0]
    assert ridge_errors(x, y, x_val, np.eye(3)[[0, 2, 1]], "classes").tolist() == [0, 1, 1]


def test_more_features_than_samples_are_no_trouble() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(10, 50)), draw.normal(size=(10, 1))
    assert np.isfinite(ridge_errors(x, y, x, y, "scalar")).all()


@pytest.mark.parametrize("unit", [1e4, 1e-9])
def test_columns_of_numbers_count_alike_whatever_their_unit(unit: float) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 2))
    y = x * [unit, 1]
    for known in (x[:, :1], x[:, 1:]):  # one of two columns
        error = ridge_errors(known[:100], y[:100], known[100:], y[100:], "scalar").mean()
        assert error == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("size", "patch"), [(11, 4), (12, 4)])
def test_a_token_of_a_field_is_judged_on_the_cells_of_its_patch(size: int, patch: int) -> None:
    """Also where the last patch hangs over the edge."""
    y = np.arange(size, dtype=np.float32)[None, None]
    count = -(-size // patch)
    _, targets, sample = _dense_rows(np.zeros((1, count, 3)), y, "field", (count,), (count * patch,))
    assert targets[:, 0].tolist() == [y[0, 0, i : i + patch].mean() for i in range(0, size, patch)]
    assert sample.tolist() == [0] * count


def test_a_gain_within_its_standard_error_is_not_sure() -> None:
    """Paired: four samples of 100 that turn right are sure where none turns wrong, and not where three do."""
    before = np.zeros(100)
    before[:30] = 1
    better, mixed = before.copy(), before.copy()
    better[:4] = 0
    mixed[:4], mixed[-3:] = 0, 1
    assert surely_less(better, before)
    assert not surely_less(mixed, before)  # a gain of 0.01 with a standard error of 0.026
    assert not surely_less(before, before)
    assert not surely_less(before, better)
    assert not surely_less(np.zeros(1), np.ones(1))  # one sample says nothing


@pytest.mark.parametrize("target", list(LAYOUTS))
def test_features_that_are_not_finite_have_infinite_errors(target: str) -> None:
    model = tiny_adapted(target)
    for parameter in model.embedder.parameters():
        parameter.data[:] = np.nan
    errors = probe(model, tiny_examples(target, 9), tiny_examples(target, 6, seed=1), dtype=None)
    assert errors.tolist() == [np.inf] * 6


@pytest.mark.parametrize("target", list(LAYOUTS))
def test_features_of_data_that_can_be_learned_beat_those_of_shuffled_targets(target: str) -> None:
    model = tiny_adapted(target)
    train, val = tiny_examples(target, 90), tiny_examples(target, 60, seed=1)
    shuffled = train.subset(np.arange(90))
    shuffled.y[:] = train.y[np.random.default_rng(0).permutation(90)]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    known, unknown = probe(model, train, val, dtype=None), probe(model, shuffled, val, dtype=None)
    assert known.shape == unknown.shape == (60,)
    assert known.mean() < unknown.mean()
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
