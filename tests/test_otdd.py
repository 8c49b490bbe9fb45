"""The dataset distance against known answers, laws, POT and finite differences."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orca.errors import InputError
from orca.transport import LABEL_DISTANCES, OTDDOptions, SourceStatistics, otdd, otdd_classwise, sinkhorn_divergence
from orca.transport.cost import pairwise_cost
from orca.transport.options import OTDDChanges
from orca.types import LabeledSet

TIGHT: dict[str, Any] = {"tolerance": 1e-11, "max_iterations": 10_000}
KINDS = LABEL_DISTANCES.names()


def labelled(n: int, d: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Classes of one spread around means that differ."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    means = torch.randn(classes, d, generator=generator, dtype=torch.float64)
    return means[y] + 0.5 * torch.randn(n, d, generator=generator, dtype=torch.float64), y


def two_sets() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *labelled(17, 3, 3), *labelled(14, 3, 2, seed=1)


def central_difference(function: Any, x: Tensor, step: float = 1e-5) -> Tensor:
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        move = torch.zeros(x.numel(), dtype=x.dtype)
        move[i] = step
        move = move.view_as(x)
        gradient.view(-1)[i] = (function(x + move) - function(x - move)).item() / (2 * step)
    return gradient


def test_two_points_at_distance_five_give_twenty_five_for_features_and_as_much_for_labels():
    x, y, z = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), torch.zeros(1, dtype=torch.int64)
    assert otdd(x, z, y, z, label_distance="none").value.item() == pytest.approx(25)
    for kind in ("gaussian", "exact", "means"):
        result = otdd(x, z, y, z, label_distance=kind)
        assert result.value.item() == pytest.approx(50)
        assert result.label_distances.item() == pytest.approx(25)
        assert otdd(x, z, y, z, label_distance=kind, lambda_x=2.0, lambda_y=0.5).value.item() == pytest.approx(62.5)
        assert otdd(x, z, y, z, label_distance=kind, p=1).value.item() == pytest.approx(10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_has_no_distance_from_itself(kind: str):
    x, y = labelled(20, 3, 3)
    result = otdd(x, y, x, y, label_distance=kind, reg=2.0, **TIGHT)
    assert abs(result.value.item()) < 1e-7
    assert result.label_distances.diagonal().abs().max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_distance_is_symmetric(kind: str):
    xs, ys, xt, yt = two_sets()
    there = otdd(xs, ys, xt, yt, label_distance=kind, reg=1.0, **TIGHT)
    back = otdd(xt, yt, xs, ys, label_distance=kind, reg=1.0, **TIGHT)
    torch.testing.assert_close(there.value, back.value, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(there.label_distances, back.label_distances.T, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(there.plan(), back.plan().T, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_samples_and_names_of_labels_do_not_matter(kind: str):
    xs, ys, xt, yt = two_sets()
    plain = otdd(xs, ys, xt, yt, label_distance=kind, reg=1.0, **TIGHT)
    shuffled = torch.randperm(17, generator=torch.Generator().manual_seed(2))
    renamed = torch.tensor([40, 7, 12])[ys]  # neither contiguous nor in the same order
    other = otdd(xs[shuffled], renamed[shuffled], xt, 1 - yt, label_distance=kind, reg=1.0, **TIGHT)
    torch.testing.assert_close(other.value, plain.value, rtol=1e-8, atol=1e-8)
    assert other.source_labels.tolist() == [7, 12, 40]
    torch.testing.assert_close(other.label_distances, plain.label_distances[[1, 2, 0]].flip(1), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_moving_both_sets_changes_nothing(kind: str):
    xs, ys, xt, yt = two_sets()
    shift = torch.tensor([3.0, -1.0, 2.0]).double()
    values = [
        otdd(a, ys, b, yt, label_distance=kind, reg=1.0, **TIGHT).value for a, b in ((xs, xt), (xs + shift, xt + shift))
    ]
    torch.testing.assert_close(values[0], values[1], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("reg", [1.0, 10.0])
def test_one_class_moved_costs_the_squared_shift_for_features_and_for_labels(reg: float):
    x, y = labelled(15, 3, 1)
    shift = torch.tensor([1.0, 2.0, -1.0]).double()
    for kind, times in (("none", 1), ("gaussian", 2), ("means", 2), ("exact", 2)):
        result = otdd(x, y, x + shift, y, label_distance=kind, reg=reg, **TIGHT)
        torch.testing.assert_close(result.value, times * shift.square().sum(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_small_regularisation_agrees_with_the_exact_solver_of_pot(kind: str):
    xs, ys, xt, yt = two_sets()
    result = otdd(xs, ys, xt, yt, label_distance=kind, reg=5e-3, debias=False, tolerance=1e-4, max_iterations=5000)
    cost = pairwise_cost(xs, xt) + result.label_distances[ys][:, yt]
    exact = ot.emd2(np.full(17, 1 / 17), np.full(14, 1 / 14), cost.numpy())
    assert (result.plan() * cost).sum().item() == pytest.approx(exact, rel=5e-3)


def test_value_is_that_of_the_augmented_cost_in_pot_with_the_convention_of_the_reference():
    xs, ys, xt, yt = two_sets()
    ours = otdd(xs, ys, xt, yt, reg=2.0, **TIGHT)  # the reference: half the cost and eps 1
    within = [otdd(x, y, x, y).label_distances for x, y in ((xs, ys), (xt, yt))]

    def entropic(x: Tensor, y: Tensor, u: Tensor, v: Tensor, table: Tensor) -> float:
        cost = (pairwise_cost(x, u) / 2 + table[y][:, v] / 2).numpy()
        a, b = np.full(len(x), 1 / len(x)), np.full(len(u), 1 / len(u))
        plan = ot.sinkhorn(a, b, cost, 1.0, method="sinkhorn_log", stopThr=1e-12, numItermax=10_000)
        return float((plan * cost).sum() + (plan * np.log(plan / (a[:, None] * b))).sum())

    reference = (
        entropic(xs, ys, xt, yt, ours.label_distances)
        - entropic(xs, ys, xs, ys, within[0]) / 2
        - entropic(xt, yt, xt, yt, within[1]) / 2
    )
    assert ours.value.item() / 2 == pytest.approx(reference, rel=1e-7)


def test_exact_label_distances_are_the_divergences_of_class_clouds():
    xs, ys, xt, yt = two_sets()
    result = otdd(xs, ys, xt, yt, label_distance="exact", label_reg=0.5, reg=3.0, **TIGHT)
    for c in range(3):
        for k in range(2):
            alone = sinkhorn_divergence(xs[ys == c][None], xt[yt == k][None], reg=0.5, **TIGHT).value.item()
            assert result.label_distances[c, k].item() == pytest.approx(alone, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_sets_far_from_zero_with_few_samples_in_most_classes_keep_their_distance(kind: str, p: int) -> None:
    """In single precision; what fills small classes up must not lie at zero."""
    generator = torch.Generator().manual_seed(0)
    sets = []
    for n in (120, 90):
        y = torch.zeros(n, dtype=torch.int64)
        y[:9] = torch.arange(9) // 3 + 1
        sets += [torch.randn(n, 8, generator=generator, dtype=torch.float64) + y[:, None], y]
    xs, ys, xt, yt = sets
    near = otdd(xs, ys, xt, yt, reg=0.5, label_distance=kind, p=p).value
    far = otdd((xs + 3e3).float(), ys, (xt + 3e3).float(), yt, reg=0.5, label_distance=kind, p=p).value
    assert float(far) == pytest.approx(float(near), rel=5e-3)


def test_features_in_half_precision_are_taken() -> None:
    wide = 100 * torch.randn(300, 384, generator=torch.Generator().manual_seed(0)).half()
    assert torch.isfinite(otdd(wide, torch.arange(300) % 3, wide + 1, torch.arange(300) % 3, reg=1e5).value)


def test_label_distances_of_equal_gaussians_agree_between_kinds():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    z, shift = torch.zeros(300, dtype=torch.int64), torch.tensor([3.0, 0.0]).double()
    for kind in ("gaussian", "means", "exact"):
        tables = otdd(x, z, x + shift, z, label_distance=kind, reg=1.0).label_distances
        assert tables.item() == pytest.approx(9, rel=1e-3)


def test_labels_change_the_plan_of_two_joint_classes():
    x = torch.tensor([[0.0], [1.0]]).double().repeat_interleave(4, 0) + torch.linspace(0, 0.1, 8).double()[:, None]
    near = torch.arange(2).repeat_interleave(4)
    crossed = torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])
    alone = otdd(x, near, x, crossed, label_distance="none", reg=0.05).plan()
    joint = otdd(x, near, x, crossed, label_distance="means", lambda_y=5.0, reg=0.05).plan()
    same = near[:, None] == crossed
    assert (joint * same).sum() > 0.95  # labels matched to labels
    assert (alone * same).sum() < 0.8


def test_plan_has_uniform_marginals():
    xs, ys, xt, yt = two_sets()
    plan = otdd(xs, ys, xt, yt, reg=1.0, **TIGHT).plan()
    torch.testing.assert_close(plan.sum(1), torch.full((17,), 1 / 17).double())
    torch.testing.assert_close(plan.sum(0), torch.full((14,), 1 / 14).double())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("debias", [True, False])
def test_gradient_to_both_sets_agrees_with_central_differences(kind: str, debias: bool):  # noqa: FBT001
    (xs, ys), (xt, yt) = labelled(6, 2, 2), labelled(5, 2, 2, seed=1)

    def value(xs: Tensor, xt: Tensor) -> Tensor:
        return otdd(xs, ys, xt, yt, label_distance=kind, reg=2.0, debias=debias, **TIGHT).value

    source, target = xs.clone().requires_grad_(), xt.clone().requires_grad_()
    value(source, target).backward()
    torch.testing.assert_close(source.grad, central_difference(lambda x: value(x, xt), xs), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(target.grad, central_difference(lambda x: value(xs, x), xt), rtol=1e-5, atol=1e-6)


def test_the_gradient_through_label_distances_can_be_cut():
    xs, ys, xt, yt = two_sets()
    gradients = {}
    for label_gradient in (True, False):
        moving = xt.clone().requires_grad_()
        result = otdd(xs, ys, moving, yt, label_gradient=label_gradient, debias=False, reg=1.0)
        assert result.label_distances.requires_grad is label_gradient
        result.value.backward()
        gradients[label_gradient] = moving.grad
    features = 2 * (result.plan().sum(0)[:, None] * xt - result.plan().T @ xs)
    torch.testing.assert_close(gradients[False], features)
    assert (gradients[True] - features).norm() > 0.1 * features.norm()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, 2])
def test_gradient_is_finite_at_coincident_sets_and_classes(kind: str, p: int):
    x, y = labelled(12, 3, 2)
    x = torch.cat([x, x]).float()
    y = torch.cat([y, y + 2])  # classes 2 and 3 lie on classes 0 and 1
    moving = x.clone().requires_grad_()
    otdd(x, y, moving, y, label_distance=kind, p=p, reg=1.0).value.backward()
    assert moving.grad is not None
    assert torch.isfinite(moving.grad).all()
    assert moving.grad.abs().max() < 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_source_statistics_made_once_equal_a_fresh_computation(kind: str):
    xs, ys, xt, yt = two_sets()
    options = OTDDOptions(label_distance=kind, reg=1.0)
    statistics = SourceStatistics.of(LabeledSet(xs, ys), options)
    results = []
    for source in (None, statistics):
        moving = xt.clone().requires_grad_()
        result = otdd(xs, ys, moving, yt, label_distance=kind, reg=1.0, source=source)
        result.value.backward()
        results.append((result.value.detach(), moving.grad, result.label_distances.detach(), result.plan()))
    for fresh, reused in zip(*results, strict=True):
        assert torch.equal(fresh, reused)
    by_default = otdd(xs, ys, xt, yt, source=statistics).value  # options come with the statistics
    torch.testing.assert_close(by_default, results[0][0])


def test_statistics_of_another_source_or_other_options_are_refused():
    xs, ys, xt, yt = two_sets()
    statistics = SourceStatistics.of(LabeledSet(xs, ys))
    with pytest.raises(InputError, match="another source"):
        otdd(xs + 1, ys, xt, yt, source=statistics)
    with pytest.raises(InputError, match="another source"):
        otdd(xs, ys + 1, xt, yt, source=statistics)
    with pytest.raises(InputError, match="were made for"):
        otdd(xs, ys, xt, yt, source=statistics, reg=3.0)
    with pytest.raises(InputError, match="hold the source constant"):
        otdd(xs.clone().requires_grad_(), ys, xt, yt, source=statistics)


def test_class_cap_of_the_largest_class_changes_nothing():
    xs, ys, xt, yt = two_sets()
    for kind in ("exact", "gaussian"):
        full, capped, fewer = (
            otdd(xs, ys, xt, yt, label_distance=kind, class_cap=cap, reg=1.0).label_distances for cap in (None, 7, 3)
        )
        torch.testing.assert_close(capped, full)
        assert not torch.allclose(fewer, full)


def test_diagonal_covariance_is_a_choice():
    xs, ys, xt, yt = two_sets()
    full, diagonal = (otdd(xs, ys, xt, yt, covariance=c).label_distances for c in ("full", "diagonal"))
    assert (diagonal <= full + 1e-9).all()  # correlations only add
    assert not torch.allclose(full, diagonal)


def test_without_debiasing_the_value_is_the_first_term_alone():
    xs, ys, xt, yt = two_sets()
    biased = otdd(xs, ys, xt, yt, reg=1.0, debias=False)
    assert biased.value > otdd(xs, ys, xt, yt, reg=1.0).value
    assert SourceStatistics.of(LabeledSet(xs, ys), OTDDOptions(debias=False)).own == 0


def test_result_states_convergence():
    xs, ys, xt, yt = two_sets()
    assert otdd(xs, ys, xt, yt, reg=1.0).converged
    short = otdd(xs, ys, xt, yt, reg=1e-3, max_iterations=1, tolerance=1e-9)
    assert not short.converged
    assert short.marginal_error > 1e-9
    assert short.iterations > 0


@pytest.mark.parametrize("with_itself", [True, False])
def test_convergence_covers_the_problems_behind_exact_label_distances(with_itself: bool):  # noqa: FBT001
    """Features weigh nothing, so the outer problem is easy; within the classes reg is far too small for one step."""
    xs, ys, xt, yt = two_sets()
    if with_itself:  # a single class there has no other to be compared with
        xt, yt = xs[:1], torch.zeros(1, dtype=torch.int64)
    hard = {"label_distance": "exact", "label_reg": 1e-3, "lambda_x": 0.0, "lambda_y": 1e-9, "reg": 1.0}
    late = otdd(xs, ys, xt, yt, max_iterations=1, **hard)
    assert not late.converged
    assert late.marginal_error > 1e-3
    done = otdd(xs, ys, xt, yt, max_iterations=1, **hard | {"label_reg": 1e5})
    assert done.converged


def test_a_class_of_one_sample_and_unbalanced_classes_are_fine():
    x, y = labelled(20, 3, 2)
    y[:] = 0
    y[7] = 5
    for kind in KINDS:
        moving = x.clone().requires_grad_()
        result = otdd(x, y, moving + 1, y, label_distance=kind, reg=1.0)
        result.value.backward()
        assert torch.isfinite(moving.grad).all()  # pyright: ignore[reportArgumentType]


def test_lower_precision_is_computed_in_single_and_mixed_in_double():
    xs, ys, xt, yt = two_sets()
    half = xt.to(torch.bfloat16).requires_grad_()
    result = otdd(xs.float(), ys, half, yt, reg=1.0)
    assert result.value.dtype == torch.float32
    result.value.backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16
    assert otdd(xs.float(), ys, xt, yt, reg=1.0).value.dtype == torch.float64


def test_autocast_does_not_lower_the_precision():
    xs, ys, xt, yt = (t.float() if t.is_floating_point() else t for t in two_sets())
    plain = otdd(xs, ys, xt, yt, reg=1.0).value
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(otdd(xs, ys, xt, yt, reg=1.0).value, plain)


# ---- the reference's class-wise objective


def classwise(kind: str, xt: Tensor, yt: Tensor, **options: Any) -> Any:
    xs, ys = labelled(17, 3, 3)
    return otdd_classwise(SourceStatistics.of(LabeledSet(xs, ys), OTDDOptions(label_distance=kind, **options)), xt, yt)


@pytest.mark.parametrize("kind", ["gaussian", "exact", "means"])
def test_classwise_gradient_does_not_see_the_label_distances(kind: str):
    xt, yt = labelled(14, 3, 2, seed=1)
    gradients = []
    for choice in (kind, "none"):
        moving = xt.clone().requires_grad_()
        result = classwise(choice, moving, yt, reg=1.0, **TIGHT)
        assert not result.label_distances.requires_grad
        result.value.backward()
        gradients.append(moving.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-9)


def test_joint_gradient_does_see_the_label_distances():
    xs, ys, xt, yt = two_sets()
    gradients = []
    for kind in ("gaussian", "none"):
        moving = xt.clone().requires_grad_()
        otdd(xs, ys, moving, yt, label_distance=kind, label_gradient=False, reg=1.0).value.backward()
        gradients.append(moving.grad)
    assert (gradients[0] - gradients[1]).norm() > 0.01 * gradients[1].norm()


@pytest.mark.parametrize("kind", KINDS)
def test_classwise_batch_equals_the_loop_over_single_class_sets(kind: str):
    xs, ys = labelled(17, 3, 3)
    xt, yt = labelled(14, 3, 2, seed=1)
    yt[:4] = 0  # classes of different sizes
    result = classwise(kind, xt, yt, reg=1.0, **TIGHT)
    weights = torch.bincount(yt) / 14
    torch.testing.assert_close(result.weights.double(), weights.double())
    for c in range(2):
        alone = otdd(xs, ys, xt[yt == c], 0 * yt[yt == c], label_distance=kind, reg=1.0, **TIGHT)
        torch.testing.assert_close(result.classes[c], alone.value, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(result.label_distances[:, c], alone.label_distances[:, 0], rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(result.value, (result.classes * result.weights).sum())


def test_classwise_weights_can_be_given():
    xt, yt = labelled(14, 3, 2, seed=1)
    xs, ys = labelled(17, 3, 3)
    statistics = SourceStatistics.of(LabeledSet(xs, ys))
    given = otdd_classwise(statistics, xt, yt, weights=torch.tensor([1.0, 0.0]).double())
    torch.testing.assert_close(given.value, given.classes[0])


def test_classwise_gradient_agrees_with_central_differences():
    xt, yt = labelled(5, 3, 2, seed=1)
    moving = xt.clone().requires_grad_()
    classwise("none", moving, yt, reg=2.0, **TIGHT).value.backward()
    expected = central_difference(lambda x: classwise("none", x, yt, reg=2.0, **TIGHT).value, xt)
    torch.testing.assert_close(moving.grad, expected, rtol=1e-5, atol=1e-7)


# ---- bad input


def test_different_dimensions_are_an_error_that_names_the_ways_out():
    xs, ys, xt, yt = two_sets()
    with pytest.raises(InputError, match="one feature dimension; got source 3, target 2; embed both"):
        otdd(xs, ys, xt[:, :2], yt)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(5, dtype=torch.int64), "one for each row of x; got torch.int64"),
        (torch.zeros(14), "expected integers"),
        (torch.zeros(14, dtype=torch.bool), "expected integers"),
        (torch.full((14,), -1), "at least 0; got -1"),
    ],
)
def test_wrong_labels_are_an_error(y: Tensor, message: str):
    xs, ys, xt, _ = two_sets()
    with pytest.raises(InputError, match=message):
        otdd(xs, ys, xt, y)


def test_sets_that_are_empty_or_not_finite_or_no_tensors_are_an_error():
    xs, ys, xt, yt = two_sets()
    with pytest.raises(InputError, match=r"target features: expected floating point \(n, d\), not empty"):
        otdd(xs, ys, xt[:0], yt[:0])
    broken = xt.clone()
    broken[[3, 5], 1] = torch.tensor([float("nan"), float("inf")]).double()
    with pytest.raises(InputError, match="2 of 14 rows have NaN or infinity, the first is row 3"):
        otdd(xs, ys, broken, yt)
    with pytest.raises(InputError, match="expected floating point"):
        otdd(xs, ys, xt.long(), yt)
    with pytest.raises(InputError, match="expected tensors; got ndarray"):
        otdd(xs, ys, xt.numpy(), yt)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"expected integers \(17,\), one for each row of x"):
        otdd(xs, ys[:3], xt, yt)


def test_wrong_options_are_an_error_that_lists_them_all():
    with pytest.raises(InputError, match="reg: expected a number of at least 0, got -1; p: expected 1 or 2, got 3"):
        OTDDOptions(reg=-1, p=3)
    with pytest.raises(InputError, match="did you mean gaussian"):
        OTDDOptions(label_distance="gausian")
    with pytest.raises(InputError, match="covariance: expected full or diagonal"):
        OTDDOptions(covariance="low-rank")
    xs, ys, xt, yt = two_sets()
    with pytest.raises(InputError, match="method sinkhorn has no option regularisation; it takes a, b, source, label_"):
        otdd(xs, ys, xt, yt, regularisation=1.0)  # pyright: ignore[reportCallIssue]
    with pytest.raises(InputError, match="method sliced has no option reg; it takes a, b, source, projections"):
        otdd(xs, ys, xt, yt, method="sliced", reg=1.0)
    with pytest.raises(InputError, match="geometry gromov has no option a; it takes alpha, label_distance"):
        otdd(xs, ys, xt, yt, geometry="gromov", a=torch.ones(len(xs)))  # pyright: ignore[reportCallIssue]


def test_the_keywords_of_otdd_are_the_fields_of_its_options():
    assert list(OTDDChanges.__annotations__) == [field.name for field in fields(OTDDOptions)]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    classes=st.integers(1, 6),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 99),
)
def test_any_sizes_and_class_counts_give_a_finite_value_gradient_and_plan(
    n: int, m: int, classes: int, kind: str, seed: int
):
    (xs, ys), (xt, yt) = labelled(n, 4, classes, seed), labelled(m, 4, 3, seed + 1)
    moving = xt.float().requires_grad_()
    result = otdd(xs.float(), ys, moving, yt, label_distance=kind, reg=1.0)
    result.value.backward()
    assert moving.grad is not None
    assert torch.isfinite(moving.grad).all()
    assert result.value.item() > -1e-3
    assert result.label_distances.shape == (len(ys.unique()), len(yt.unique()))
    assert result.plan().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_all_features_scales_the_value(kind: str):
    xs, ys, xt, yt = two_sets()
    plain = otdd(xs, ys, xt, yt, label_distance=kind, reg=1.0, **TIGHT).value
    for scale in (1e-4, 1e4):
        scaled = otdd(scale * xs, ys, scale * xt, yt, label_distance=kind, reg=scale**2, **TIGHT).value
        torch.testing.assert_close(scaled / scale**2, plain, rtol=1e-6, atol=1e-7)


def test_zero_label_weight_leaves_the_feature_divergence():
    xs, ys, xt, yt = two_sets()
    features = sinkhorn_divergence(xs[None], xt[None], reg=1.0, **TIGHT).value[0]
    for options in ({"label_distance": "none"}, {"lambda_y": 0.0}):
        torch.testing.assert_close(otdd(xs, ys, xt, yt, reg=1.0, **options, **TIGHT).value, features)


def test_zero_feature_weight_leaves_the_labels_alone():
    xs, ys, xt, yt = two_sets()
    result = otdd(xs, ys, xt, yt, lambda_x=0.0, label_distance="means", reg=1.0, **TIGHT)
    for c in range(3):  # samples of one label are interchangeable
        rows = result.plan()[ys == c]
        torch.testing.assert_close(rows, rows[:1].expand_as(rows))


def test_the_objective_pulls_classes_together_and_the_classwise_one_to_a_common_mean():
    source = torch.tensor([[0.0, 0.0], [4.0, 0.0]]).double().repeat_interleave(6, 0)
    source = source + 0.2 * torch.randn(12, 2, generator=torch.Generator().manual_seed(0)).double()
    y = torch.arange(2).repeat_interleave(6)
    statistics = SourceStatistics.of(LabeledSet(source, y), OTDDOptions(reg=0.2))
    moving = (source * 0.9).requires_grad_()
    otdd_classwise(statistics, moving, y).value.backward()
    assert moving.grad is not None
    pull = [moving.grad[y == c, 0].mean().item() for c in (0, 1)]
    assert pull[0] < 0 < pull[1]  # descent moves class 0 to the right and class 1 to the left: both to the middle
    joint = source.clone().requires_grad_()
    otdd(source, y, joint, y, source=statistics).value.backward()
    assert joint.grad is not None
    assert joint.grad.abs().max() < 1e-3  # the source itself is where the joint distance rests
