"""Dense targets: cells that do not count change nothing; areas, rates and contact errors have their known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from orca.baselines import fit_baselines
from orca.build import channel_moments, training_statistics
from orca.dense import contact_errors, filled, relative_errors
from orca.errors import InputError
from orca.metrics import METRICS, check_metric, metrics_for
from orca.probe import probe
from orca.pseudo_labels import pseudo_labels
from orca.tasks.assemble import assemble
from orca.tasks.encodings import GridEncoding
from orca.tasks.raw import Raw
from orca.types import Examples, Layout, Splits
from tests.tiny import tiny_adapted, tiny_examples

GRID = GridEncoding(channels="none")


def value(name: str, scores: np.ndarray, y: np.ndarray) -> float:
    return METRICS.get(name).fn(scores, y)


def masks(n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.choice([-1, 0, 1], size=(n, 1, 5, 6), p=[0.1, 0.7, 0.2])
    return np.round(rng.normal(size=y.shape) + 1.5 * (y > 0) - 0.7, 1), y


def test_areas_and_rates_of_masks_are_those_of_the_cells_that_count() -> None:
    scores, y = masks()
    true, found = y[y >= 0], scores[y >= 0]
    assert value("mask_auroc", scores, y) == pytest.approx(sk.roc_auc_score(true, found))
    assert value("mask_balanced_error", scores, y) == pytest.approx(1 - sk.balanced_accuracy_score(true, found > 0))
    assert value("mask_balanced_error", scores, y) == pytest.approx(1 - sk.roc_auc_score(true, found > 0))
    assert value("mask_fnr", scores, y) == pytest.approx(1 - sk.recall_score(true, found > 0))
    changed = np.where(y < 0, 99, scores)
    assert all(value(m.name, changed, y) == value(m.name, scores, y) for m in METRICS if m.target == "mask")


def test_a_mask_of_one_kind_has_no_area() -> None:
    scores, y = masks()
    assert math.isnan(value("mask_auroc", scores, np.minimum(y, 0)))
    assert math.isnan(value("mask_balanced_error", scores, np.where(y == 0, -1, y)))


def test_cells_of_a_field_that_are_nan_do_not_count() -> None:
    y = np.array([[[3.0, 4.0, np.nan]], [[1.0, np.nan, np.nan]]])
    p = np.array([[[0.0, 4.0, 7.0]], [[1.0, 9.0, 9.0]]])
    np.testing.assert_allclose(relative_errors(p, y), [3 / 5, 0])
    assert value("nrmse", p, y) == pytest.approx(0.3)


def proteins() -> tuple[np.ndarray, np.ndarray]:
    """A canvas of 40: 30 residues with three long-range contacts, then one protein with none."""
    y = np.full((2, 1, 40, 40), 20.0)
    y[:, :, 30:], y[..., 30:] = np.nan, np.nan
    for i, j, d in ((0, 24, 5.0), (1, 27, 8.0), (2, 29, 6.0), (3, 20, 4.0)):  # the last is too near along the chain
        y[0, 0, i, j] = y[0, 0, j, i] = d
    return y, np.nan_to_num(y, nan=1.0)


def test_contact_errors_are_means_over_long_range_contacts() -> None:
    y, p = proteins()
    p[0, 0, 0, 24] += 4  # on one side of the diagonal: half of it counts
    p[0, 0, 2, 29], p[0, 0, 29, 2] = -3.0, -3.0  # at least 0.01
    errors = contact_errors(p, y)
    assert errors[0] == pytest.approx((2 + 0 + 5.99) / 3)
    assert np.isnan(errors[1])
    assert value("mae8", p, y) == pytest.approx(errors[0])
    p[0, 0, 35] = 1e6  # beyond the end
    assert value("mae8", p, y) == pytest.approx(errors[0])


def test_a_prediction_that_is_nan_is_not_left_out() -> None:
    y, p = proteins()
    p[0] = np.nan
    assert value("mae8", p, y) == math.inf
    assert math.isnan(value("mae8", p[1:], y[1:]))


def test_mae8_is_for_square_maps_with_cells_that_do_not_count() -> None:
    whole, maps = (Layout("grid", "field", (3, 8, 8), (1, 8, 8), missing=missing) for missing in (False, True))
    assert "mae8" in [m.name for m in metrics_for(maps)]
    with pytest.raises(InputError, match="'mae8' needs square maps over the residues"):
        check_metric("mae8", whole)


def field_with_holes(count: int, seed: int = 0) -> Examples:
    data = tiny_examples("field", count, seed)
    y = data.y.copy()
    y[..., 4:] = np.nan
    return Examples(data.x, y)


def test_statistics_probe_and_pseudo_labels_pass_over_holes() -> None:
    layout = Layout("grid", "field", (1, 6, 6), (1, 6, 6), missing=True)
    data = field_with_holes(60)
    found = training_statistics(data, layout)
    assert found.y_mean.item() == pytest.approx(np.nanmean(data.y), rel=1e-6)
    assert found.y_std.item() == pytest.approx(np.nanstd(data.y), rel=1e-5)
    assert np.isfinite(probe(tiny_adapted("field"), data, field_with_holes(40, 1), dtype=None)).all()
    assert set(pseudo_labels(data.y, "field", classes=3, seed=0)) == {0, 1, 2}
    np.testing.assert_array_equal(filled(data.y, "field")[..., :4], data.y[..., :4])


@pytest.mark.parametrize("unit", [1e-12, 1e-7, 1.0, 1e7])
def test_statistics_follow_the_unit_and_constant_channels_do_not_blow_up(unit: float) -> None:
    draw = np.random.default_rng(0)
    y = np.stack([unit * draw.normal(3, 2, (50, 4)), np.full((50, 4), 1000.1)], 1).astype(np.float32)
    mean, std = channel_moments(y)
    assert mean.tolist() == pytest.approx([y[:, 0].mean(dtype=np.float64), y[0, 1, 0]], rel=1e-5)
    assert std[0].item() == pytest.approx(y[:, 0].std(dtype=np.float64), rel=1e-5)
    assert 0 < std[1].item() < 1e-3


def test_baselines_of_masks_answer_with_log_odds() -> None:
    x = np.random.default_rng(0).normal(size=(200, 1, 4, 4)).astype(np.float32)
    y = np.where(x < -2.2, -1, x > 0.3).astype(np.float32)
    train, val, test = (Examples(x[a:b], y[a:b]) for a, b in ((0, 120), (120, 160), (160, 200)))
    splits = Splits(train, val, test, Layout("grid", "mask", (1, 4, 4), (1, 4, 4)))
    found = fit_baselines(splits, METRICS.get("mask_auroc"), seed=0)
    assert found["majority"]["test"] == 0.5
    assert found["ridge"]["test"] > 0.95 > found["nearest"]["test"] > 0.5
    called = fit_baselines(splits, METRICS.get("mask_balanced_error"), seed=0)
    assert called["majority"]["test"] == 0.5
    assert called["ridge"]["test"] < 0.2


def test_baselines_of_fields_with_holes_are_finite() -> None:
    layout = Layout("grid", "field", (1, 6, 6), (1, 6, 6), missing=True)
    splits = Splits(field_with_holes(90), field_with_holes(30, 1), field_with_holes(30, 2), layout)
    found = fit_baselines(splits, METRICS.get("relative_l2"), seed=0)
    assert found["ridge"]["test"] < found["mean"]["test"] < 2


def assembled(target: str, y: np.ndarray, *, missing: bool = False) -> Splits:
    x = np.random.default_rng(0).normal(size=(4, 5, 5))
    parts = {name: Raw(x, y) for name in ("train", "val", "test")}
    return assemble(parts, encoding=GRID, target=target, missing=missing)  # type: ignore[arg-type]


def test_masks_and_holes_are_checked_at_the_door() -> None:
    y = np.zeros((4, 5, 5))
    y[:, 0], y[:, 1] = 1, -1
    assert assembled("mask", y).layout.target_shape == (1, 5, 5)
    with pytest.raises(InputError, match=r"y_train has values other than 0, 1 and -1, such as 2.0"):
        assembled("mask", 2 * y)
    with pytest.raises(InputError, match="y_train has only 0 in its cells; a mask needs both"):
        assembled("mask", 0 * y)
    holes = np.where(y < 0, np.nan, y)
    assert assembled("field", holes, missing=True).layout.missing
    with pytest.raises(InputError, match="y_train has 20 NaN or infinite values"):
        assembled("field", holes)
    with pytest.raises(InputError, match="y_train has 20 NaN or infinite values"):
        assembled("field", np.where(y < 0, np.inf, y), missing=True)
    holes[2] = np.nan
    with pytest.raises(InputError, match="y_train has only NaN in 1 rows, first row 2"):
        assembled("field", holes, missing=True)


def test_a_mask_starts_without_the_scale_of_a_field() -> None:
    buffers = dict(tiny_adapted("mask").predictor.named_buffers())
    assert torch.equal(buffers["std"], torch.ones(1, 1, 1))
    assert torch.equal(buffers["mean"], torch.zeros(1, 1, 1))
