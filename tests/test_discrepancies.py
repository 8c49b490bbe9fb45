"""Every registered discrepancy obeys the same laws; each one its own known answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from orca.discrepancies import DISCREPANCIES, DiscrepancyConfig, Objective
from orca.errors import InputError
from orca.transport import SourceStatistics, otdd, otdd_classwise
from orca.transport.sliced import SlicedOptions, sliced_otdd
from orca.types import LabeledSet

NAMES = DISCREPANCIES.names()


def labelled(n: int, d: int, classes: int, seed: int = 0) -> LabeledSet:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    means = torch.randn(classes, d, generator=generator, dtype=torch.float64)
    return LabeledSet(means[y] + 0.5 * torch.randn(n, d, generator=generator, dtype=torch.float64), y)


def prepared(name: str, source: LabeledSet, **settings: Any) -> Objective:
    return DISCREPANCIES.get(name).prepare(source, DiscrepancyConfig(**settings))


def gradient(objective: Objective, target: LabeledSet) -> Tensor:
    moving = target.x.clone().requires_grad_()
    objective(moving, target.y).backward()
    assert moving.grad is not None
    return moving.grad


def test_the_contract_names_are_there():
    assert NAMES == ["otdd", "otdd-classwise", "otdd-sliced", "mmd", "coral", "means"]
    with pytest.raises(InputError, match="did you mean otdd"):
        DISCREPANCIES.get("otd")


@pytest.mark.parametrize("name", NAMES)
def test_objective_is_a_scalar_with_a_finite_gradient_to_every_sample(name: str):
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    objective = prepared(name, source)
    value = objective(target.x, target.y)
    assert value.ndim == 0
    assert value > 0
    rows = gradient(objective, target)
    assert torch.isfinite(rows).all()
    assert (rows.abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_objective_is_a_pure_function(name: str):
    target, other = labelled(20, 4, 2, seed=1), labelled(10, 4, 3, seed=2)
    objective = prepared(name, labelled(30, 4, 3))
    first = objective(target.x, target.y)
    objective(other.x, other.y)
    assert torch.equal(objective(target.x, target.y), first)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_agrees_with_central_differences(name: str):
    target = labelled(6, 2, 2, seed=1)
    # otdd-classwise holds its label term constant, so only without it is its gradient that of its value
    kind = "none" if name == "otdd-classwise" else "gaussian"
    settings = {"reg": 0.3, "tolerance": 1e-11, "max_iterations": 10_000, "label_distance": kind}
    objective = prepared(name, labelled(9, 2, 2), **settings)
    expected = torch.zeros_like(target.x)
    for i in range(6):
        for j in range(2):
            step = torch.zeros_like(target.x)
            step[i, j] = 1e-5
            expected[i, j] = (objective(target.x + step, target.y) - objective(target.x - step, target.y)) / 2e-5
    torch.testing.assert_close(gradient(objective, target), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["otdd", "otdd-sliced", "mmd", "coral", "means"])
def test_the_source_itself_is_at_zero(name: str):
    source = labelled(24, 3, 3)
    assert abs(prepared(name, source, reg=0.5, tolerance=1e-8)(source.x, source.y).item()) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_descent_brings_the_target_to_the_source(name: str):
    source, target = labelled(30, 3, 2), labelled(20, 3, 2, seed=3)
    objective = prepared(name, source)
    x = (3 * target.x + 1).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=0.1)
    values = []
    for _ in range(25):
        optimiser.zero_grad()
        value = objective(x, target.y)
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0]


@pytest.mark.parametrize("name", NAMES)
def test_moving_source_and_target_changes_nothing(name: str):
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    moved = prepared(name, LabeledSet(source.x + 5, source.y))(target.x + 5, target.y)
    torch.testing.assert_close(moved, prepared(name, source)(target.x, target.y), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_source_meets_any_precision_of_target(name: str):
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    objective = prepared(name, LabeledSet(source.x.float(), source.y))
    expected = prepared(name, source)(target.x, target.y)
    for dtype, tolerance in ((torch.float64, 1e-3), (torch.float32, 1e-3), (torch.bfloat16, 0.1)):
        value = objective(target.x.to(dtype), target.y)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=tolerance, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_does_not_lower_the_precision(name: str):
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    objective = prepared(name, LabeledSet(source.x.float(), source.y))
    plain = objective(target.x.float(), target.y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(objective(target.x.float(), target.y), plain)


@pytest.mark.parametrize("name", NAMES)
def test_bad_targets_are_an_error(name: str):
    objective = prepared(name, labelled(30, 4, 3))
    target = labelled(20, 4, 2, seed=1)
    with pytest.raises(InputError, match="one feature dimension; got source 4, target 3"):
        objective(target.x[:, :3], target.y)
    with pytest.raises(InputError, match="NaN or infinity"):
        objective(target.x * float("nan"), target.y)
    with pytest.raises(InputError, match="labels: expected integers"):
        objective(target.x, target.y[:5])


@pytest.mark.parametrize("name", ["otdd", "otdd-classwise", "otdd-sliced", "mmd"])
def test_a_source_without_spread_is_an_error(name: str):
    with pytest.raises(InputError, match="that differ"):
        prepared(name, LabeledSet(torch.ones(5, 3), torch.zeros(5, dtype=torch.int64)))


def test_regularisation_is_relative_to_the_mean_squared_distance_of_the_source():
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    scale = torch.cdist(source.x, source.x).square().mean().item()
    options = DiscrepancyConfig(reg=0.1).options(source)
    assert options.reg == pytest.approx(0.1 * scale, rel=1e-5)
    relative = prepared("otdd", source, reg=0.1)(target.x, target.y)
    absolute = prepared("otdd", source, reg=options.reg, reg_unit="absolute")(target.x, target.y)
    torch.testing.assert_close(relative, absolute)
    assert DiscrepancyConfig(reg=0.1, reg_unit="absolute").options(source).reg == 0.1


@pytest.mark.parametrize("name", ["otdd", "otdd-classwise", "otdd-sliced"])
def test_scaling_all_features_scales_the_transport_objectives(name: str):
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    plain = prepared(name, source)(target.x, target.y)
    scaled = prepared(name, LabeledSet(100 * source.x, source.y))(100 * target.x, target.y)
    torch.testing.assert_close(scaled / 10_000, plain, rtol=1e-6, atol=0)


def test_otdd_objectives_are_the_functions_of_transport():
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    settings: dict[str, Any] = {"label_distance": "exact", "reg": 1.0, "class_cap": 5, "lambda_y": 0.5}
    joint = prepared("otdd", source, reg_unit="absolute", **settings)(target.x, target.y)
    torch.testing.assert_close(joint, otdd(source.x, source.y, target.x, target.y, **settings).value)
    looped = prepared("otdd-classwise", source, reg_unit="absolute", **settings)(target.x, target.y)
    config = DiscrepancyConfig(reg_unit="absolute", **settings)
    statistics = SourceStatistics.of(source, config.options(source))
    torch.testing.assert_close(looped, otdd_classwise(statistics, target.x, target.y).value)


def test_the_sliced_objective_is_the_function_of_transport_in_the_frame_of_the_source():
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    value = prepared("otdd-sliced", source, projections=40, moments=3)(target.x, target.y)
    options = SlicedOptions(projections=40, moments=3, scale="source")
    torch.testing.assert_close(value, sliced_otdd(source.x, source.y, target.x, target.y, options=options).value)


def test_without_the_label_gradient_the_sliced_objective_has_its_value_and_another_gradient():
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    free, held = (prepared("otdd-sliced", source, label_gradient=flag) for flag in (True, False))
    assert torch.equal(free(target.x, target.y), held(target.x, target.y))
    assert (gradient(free, target) - gradient(held, target)).norm() > 0.05 * gradient(free, target).norm()


def test_labels_that_are_not_contiguous_are_fine():
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    for name in ("otdd", "otdd-classwise", "otdd-sliced"):
        renamed = prepared(name, LabeledSet(source.x, source.y * 3 + 4))(target.x, target.y * 7)
        torch.testing.assert_close(renamed, prepared(name, source)(target.x, target.y))


def test_source_terms_are_computed_once(monkeypatch: pytest.MonkeyPatch):
    calls = []
    of = SourceStatistics.of
    monkeypatch.setattr(SourceStatistics, "of", lambda *args: calls.append(args) or of(*args))
    target = labelled(20, 4, 2, seed=1)
    objective = prepared("otdd", labelled(30, 4, 3))
    for _ in range(3):
        objective(target.x, target.y)
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["otdd-sliced", "mmd", "coral", "means"])
def test_discrepancies_of_features_do_not_see_labels(name: str):
    source, target = labelled(30, 4, 3), labelled(20, 4, 2, seed=1)
    objective = prepared(name, source, moments=0)
    assert torch.equal(objective(target.x, target.y), objective(target.x, 0 * target.y))


def test_means_is_the_squared_distance_of_the_means():
    source = labelled(30, 4, 3)
    shift = torch.tensor([1.0, 2.0, 0.0, -2.0]).double()
    assert prepared("means", source)(source.x + shift, source.y).item() == pytest.approx(9)


def test_coral_of_a_scaled_source_is_the_known_multiple_of_its_covariance():
    source = labelled(30, 4, 3)
    value = prepared("coral", source)(2 * source.x, source.y)
    covariance = torch.cov(source.x.T, correction=0)
    torch.testing.assert_close(value, 9 * covariance.square().sum() / 64)


def test_mmd_of_two_points_follows_the_formula():
    source = LabeledSet(torch.tensor([[0.0], [2.0]]).double(), torch.tensor([0, 1]))  # mean squared distance 2
    value = prepared("mmd", source, kernels=1)(torch.tensor([[0.0]]).double(), torch.tensor([0]))
    near, far = 1.0, torch.exp(torch.tensor(-4 / 2)).item()
    assert value.item() == pytest.approx((near + far) / 2 + near - (near + far))


def test_settings_are_checked_all_at_once():
    with pytest.raises(ValidationError, match="3 validation errors"):
        DiscrepancyConfig.model_validate({"reg": 0, "label_distance": "gaussain", "regg": 1})
