"""The ridge probe: known answers, and that it sees what it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from orca.probe import _STRENGTHS, probe, ridge_error
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
        errors.append(np.square(model.predict((x_val - mean) / std) - y_val).mean())
    wanted = min(errors) / np.square(y_val - y.mean(0)).mean()
    assert ridge_error(x, y, x_val, y_val, "scalar") == pytest.approx(wanted, rel=1e-4)


def test_it_counts_wrong_classes() -> None:
    x = np.repeat(np.eye(3), 4, 0)
    y = x.copy()
    x_val = np.eye(3)
    assert ridge_error(x, y, x_val, np.eye(3), "classes") == 0.0
    assert ridge_error(x, y, x_val, np.eye(3)[[0, 2, 1]], "classes") == pytest.approx(2 / 3)


def test_more_features_than_samples_are_no_trouble() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(10, 50)), draw.normal(size=(10, 1))
    assert np.isfinite(ridge_error(x, y, x, y, "scalar"))


@pytest.mark.parametrize("target", list(LAYOUTS))
def test_features_of_data_that_can_be_learned_beat_those_of_shuffled_targets(target: str) -> None:
    model = tiny_adapted(target)
    train, val = tiny_examples(target, 90), tiny_examples(target, 60, seed=1)
    shuffled = train.subset(np.arange(90))
    shuffled.y[:] = train.y[np.random.default_rng(0).permutation(90)]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    known, unknown = probe(model, train, val, dtype=None), probe(model, shuffled, val, dtype=None)
    assert known < unknown
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
