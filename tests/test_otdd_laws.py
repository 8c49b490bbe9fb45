"""Laws of the dataset distance over sets of any size, balance, scale and repetition, for every label distance.

A law on values holds within what the stated marginal errors allow. With optimal potentials (f*, g*) the dual value at
(f, g) is too small by at most <marginal violation, g* - g>, and potentials vary no more than the cost: so by at most
the L1 marginal error times the largest cost.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from orca.transport import LABEL_DISTANCES, OTDDOptions, OTDDResult, SourceStatistics, otdd, otdd_classwise
from orca.types import LabeledSet

KINDS = LABEL_DISTANCES.names()
TIGHT: dict[str, Any] = {"tolerance": 1e-10, "max_iterations": 1000}
few = settings(max_examples=25, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Pair:
    """Two labelled sets and how their distance is chosen; ``unit`` is the mean cost of two of all samples."""

    xs: Tensor
    ys: Tensor
    xt: Tensor
    yt: Tensor
    kind: str
    p: int
    reg: float
    unit: float

    def distance(self, **changes: Any) -> OTDDResult:
        """Solved to convergence, or nearly so, unless a change says otherwise."""
        chosen = {"label_distance": self.kind, "p": self.p, "reg": self.reg, **TIGHT, **changes}
        return otdd(self.xs, self.ys, self.xt, self.yt, **chosen)

    def slack(self, *results: OTDDResult) -> float:
        """How far these values may be off: W is no larger than a cost, and the self terms count half each."""
        both = torch.cat([self.xs, self.xt]).detach()
        return 4 * torch.cdist(both, both).max().item() ** self.p * sum(result.marginal_error for result in results)


def labels(n: int, classes: int, balance: str, generator: torch.Generator) -> Tensor:
    if balance == "even":
        return torch.arange(n) % classes
    if balance == "one":
        return torch.full((n,), 3)
    return (classes * torch.rand(n, generator=generator) ** 3).long()  # skewed: the last classes are rare or missing


@st.composite
def labelled(draw: st.DrawFn, d: int) -> tuple[Tensor, Tensor]:
    """1 to 50 samples around 1 to 5 class means, some sets with most points repeated, some far from the origin."""
    n, classes = draw(st.integers(1, 50)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    y = labels(n, classes, draw(st.sampled_from(["even", "one", "skewed"])), generator)
    means = torch.randn(5, d, generator=generator, dtype=torch.float64)
    x = means[y] + 0.5 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):
        x = x[torch.randint(0, n // 3 + 1, (n,), generator=generator)]  # at least two thirds are repetitions
    return x + draw(st.sampled_from([0.0, 0.0, 3.0])), y


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    d = draw(st.integers(1, 4))
    (xs, ys), (xt, yt) = draw(labelled(d)), draw(labelled(d))
    kind, p, smooth = (
        draw(st.sampled_from(KINDS)),
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([0.2, 1.0, 5.0])),
    )
    both = torch.cat([xs, xt])
    unit = torch.cdist(both, both).pow(p).mean().item() or 1.0  # 1 where all samples coincide
    return Pair(xs, ys, xt, yt, kind, p, smooth * unit, unit)


def close(got: Tensor, expected: Tensor, unit: float, share: float = 1e-6, slack: float = 0.0) -> None:
    torch.testing.assert_close(got, expected, rtol=share, atol=share * unit + slack)


@few
@given(pair=pairs())
def test_distance_is_symmetric(pair: Pair):
    there = pair.distance()
    back = replace(pair, xs=pair.xt, ys=pair.yt, xt=pair.xs, yt=pair.ys).distance()
    close(back.value, there.value, pair.unit, slack=pair.slack(there, back))
    close(back.label_distances.T, there.label_distances, pair.unit)


@few
@given(pair=pairs())
def test_a_set_has_no_distance_from_itself(pair: Pair):
    alone = replace(pair, xt=pair.xs, yt=pair.ys)
    result = alone.distance()
    assert abs(result.value.item()) <= 1e-6 * pair.unit + pair.slack(result)
    assert result.label_distances.diagonal().abs().max().item() <= 1e-6 * pair.unit


@few
@given(pair=pairs(), seed=st.integers(0, 99))
def test_order_of_samples_changes_nothing_but_the_order_of_the_plan(pair: Pair, seed: int):
    generator = torch.Generator().manual_seed(seed)
    rows, cols = (torch.randperm(len(x), generator=generator) for x in (pair.xs, pair.xt))
    plain = pair.distance()
    other = replace(pair, xs=pair.xs[rows], ys=pair.ys[rows], xt=pair.xt[cols], yt=pair.yt[cols]).distance()
    close(other.value, plain.value, pair.unit, slack=pair.slack(other, plain))
    close(other.label_distances, plain.label_distances, pair.unit)
    torch.testing.assert_close(other.plan(), plain.plan()[rows][:, cols], rtol=1e-4, atol=1e-8)


@few
@given(pair=pairs(), names=st.permutations(range(5)))
def test_names_of_labels_change_nothing_but_the_order_of_the_table(pair: Pair, names: list[int]):
    plain, renaming = pair.distance(), 7 * torch.tensor(names) + 2
    other = replace(pair, ys=renaming[pair.ys], yt=renaming.flip(0)[pair.yt]).distance()
    close(other.value, plain.value, pair.unit, slack=pair.slack(other, plain))
    rows, cols = torch.argsort(renaming[pair.ys.unique()]), torch.argsort(renaming.flip(0)[pair.yt.unique()])
    close(other.label_distances, plain.label_distances[rows][:, cols], pair.unit)


@few
@given(pair=pairs(), seed=st.integers(0, 99))
def test_turning_and_moving_both_sets_changes_nothing(pair: Pair, seed: int):
    d, generator = pair.xs.shape[1], torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    shift = torch.randn(d, generator=generator, dtype=torch.float64)
    moved = replace(pair, xs=pair.xs @ turn + shift, xt=pair.xt @ turn + shift).distance()
    plain = pair.distance()
    close(moved.value, plain.value, pair.unit, slack=pair.slack(moved, plain))


@few
@given(pair=pairs(), scale=st.sampled_from([1e-6, 1e-3, 1e3, 1e6]), single=st.booleans())
def test_scaling_the_features_and_the_regularisation_scales_the_value(pair: Pair, scale: float, single: bool):  # noqa: FBT001
    """value(c x, c**p eps) = c**p value(x, eps); in single precision within 1e-3 of the mean cost."""
    unit, plain, power = pair.unit, pair.distance(), scale**pair.p
    scaled, stopping, share = replace(pair, xs=scale * pair.xs, xt=scale * pair.xt), TIGHT, 1e-6
    if single:
        scaled = replace(scaled, xs=scaled.xs.float(), xt=scaled.xt.float())
        stopping, share = {"tolerance": 1e-5, "max_iterations": 1000}, 1e-3
    result = scaled.distance(reg=pair.reg * power, **stopping)
    close(result.value.double() / power, plain.value, unit, share, pair.slack(plain, result))
    close(result.label_distances.double() / power, plain.label_distances, unit, share)


@few
@given(pair=pairs())
def test_single_precision_is_within_a_thousandth_of_the_mean_cost_of_double_precision(pair: Pair):
    double = pair.distance()
    single = replace(pair, xs=pair.xs.float(), xt=pair.xt.float()).distance(tolerance=1e-5, max_iterations=1000)
    assert single.value.dtype == single.label_distances.dtype == single.plan().dtype == torch.float32
    close(single.value.double(), double.value, pair.unit, 1e-3, pair.slack(double, single))
    close(single.label_distances.double(), double.label_distances, pair.unit, 1e-3)


@few
@given(pair=pairs())
def test_debiased_distance_is_not_negative(pair: Pair):
    result = pair.distance()
    assert result.value.item() >= -1e-6 * pair.unit - pair.slack(result)


@few
@given(pair=pairs())
def test_value_grows_with_the_regularisation_when_not_debiased(pair: Pair):
    """The entropy is at least 0, so OT_eps grows with eps (label_reg held, so that the cost is the same)."""
    regs = [pair.unit * smooth for smooth in (0.2, 1.0, 5.0)]
    results = [pair.distance(reg=reg, label_reg=regs[0], debias=False) for reg in regs]
    for less, more in itertools.pairwise(results):
        assert less.value.item() <= more.value.item() + 1e-9 * pair.unit + pair.slack(more)


@few
@given(pair=pairs())
def test_the_plan_couples_the_two_uniform_measures(pair: Pair):
    result = pair.distance()
    plan = result.plan()
    assert (plan >= 0).all()
    off = [(plan.sum(axis) - 1 / plan.shape[1 - axis]).abs().sum().item() for axis in (0, 1)]
    assert sum(off) <= result.marginal_error + 1e-9


@few
@given(pair=pairs(), copies=st.integers(2, 3))
def test_repeating_every_sample_changes_nothing(pair: Pair, copies: int):
    twice = replace(pair, xs=pair.xs.repeat(copies, 1), ys=pair.ys.repeat(copies)).distance()
    plain = pair.distance()
    close(twice.value, plain.value, pair.unit, slack=pair.slack(twice, plain))


@few
@given(pair=pairs(), seed=st.integers(0, 99))
def test_moving_one_set_adds_the_squared_shift_and_a_cross_term_for_features_and_for_labels(pair: Pair, seed: int):
    """|x - z - t|^2 = |x - z|^2 + |t|^2 - 2 <x - z, t>, and W the same with class means, for p = 2 at every eps.

    What is added is a sum of a row's and a column's part, so the plan stays. S against S + t: |t|^2 each, not halved.
    """
    pair = replace(pair, p=2)
    shift = torch.randn(pair.xs.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    added = shift.square().sum() - 2 * (pair.xs.mean(0) - pair.xt.mean(0)) @ shift
    times = 1 if pair.kind == "none" else 2
    moved, plain = replace(pair, xt=pair.xt + shift).distance(), pair.distance()
    close(moved.value, plain.value + times * added, pair.unit + added.abs().item(), slack=pair.slack(moved, plain))


# ---- gradients


@few
@given(pair=pairs(), debias=st.booleans(), seed=st.integers(0, 99))
def test_slope_along_any_direction_agrees_with_the_central_difference(pair: Pair, debias: bool, seed: int):  # noqa: FBT001
    """Not where points or Gaussians coincide: there a distance has a kink, and the gradient is a choice.

    Points on a line meet all the time. A gradient is right where the solver has converged, so eps is large here.
    """
    assume(pair.p == 2 or pair.xs.shape[1] > 1)
    pair = replace(pair, reg=max(pair.reg, pair.unit))
    generator = torch.Generator().manual_seed(seed)
    xs, xt = (x + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (pair.xs, pair.xt))
    along = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (xs, xt)]

    def value(step: float) -> Tensor:
        moved = replace(pair, xs=xs + step * along[0], xt=xt + step * along[1])
        return moved.distance(debias=debias).value

    moving = [x.clone().requires_grad_() for x in (xs, xt)]
    replace(pair, xs=moving[0], xt=moving[1]).distance(debias=debias).value.backward()
    slope = sum((x.grad * v).sum() for x, v in zip(moving, along, strict=True))  # pyright: ignore[reportOptionalOperand]
    step = 1e-4  # less would measure the rounding of distances near 0 for p = 1, about 1e-8
    expected = (value(step) - value(-step)).item() / (2 * step)
    assert slope.item() == pytest.approx(expected, rel=1e-4, abs=1e-4 * pair.unit)


@few
@given(pair=pairs(), debias=st.booleans())
def test_gradients_of_both_sets_cancel_as_moving_both_changes_nothing(pair: Pair, debias: bool):  # noqa: FBT001
    moving = replace(pair, xs=pair.xs.clone().requires_grad_(), xt=pair.xt.clone().requires_grad_())
    moving.distance(debias=debias).value.backward()
    assert moving.xs.grad is not None
    assert moving.xt.grad is not None
    total = moving.xs.grad.sum(0) + moving.xt.grad.sum(0)
    assert total.abs().max().item() <= 1e-6 * moving.xt.grad.abs().sum().item() + 1e-7 * pair.unit


# ---- the class-wise objective


@few
@given(pair=pairs())
def test_classwise_value_is_at_least_the_joint_value_of_features(pair: Pair):
    """OT is convex in the target measure: sum of w_c OT(S, Z_c) >= OT(S, sum of w_c Z_c), when not debiased."""
    options: dict[str, Any] = {"label_distance": "none", "debias": False}
    joint = pair.distance(**options)

    chosen = OTDDOptions(p=pair.p, reg=pair.reg, **options, **TIGHT)
    looped = otdd_classwise(SourceStatistics.of(LabeledSet(pair.xs, pair.ys), chosen), pair.xt, pair.yt)
    assert looped.value.item() >= joint.value.item() - 1e-6 * pair.unit - pair.slack(joint)
