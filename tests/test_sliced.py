"""The sliced dataset distance: transport on the line, the law of the projections, and what a distance must obey."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import Tensor

from orca.errors import InputError
from orca.transport.sliced import SlicedStatistics, sliced_otdd
from orca.transport.sliced.line import Line, equal_steps, ordered, wasserstein
from orca.transport.sliced.slices import MAX_ORDER, SlicedOptions, draw_slices, moment_orders
from orca.types import LabeledSet

SCALES = ("both", "source", "none")
scales = pytest.mark.parametrize("scale", SCALES)


def made(n: int, d: int, classes: int, *, seed: int, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=draw)
    means = torch.randn(classes, d, generator=draw, dtype=torch.float64)
    return means[y] + 0.6 * torch.randn(n, d, generator=draw, dtype=torch.float64) + shift, y


SOURCE, TARGET = made(40, 4, 3, seed=1), made(27, 4, 4, seed=2, shift=0.5)


def value(*sets: Tensor, a: Tensor | None = None, b: Tensor | None = None, **options: Any) -> Tensor:
    chosen: dict[str, Any] = {"projections": 60, **options}
    return sliced_otdd(*sets, options=SlicedOptions(**chosen), a=a, b=b).value


def by_hand(x: Tensor, y: Tensor, options: SlicedOptions, a: Tensor | None = None) -> np.ndarray:
    """All projected samples (L, n) by the paper's formula, sample by sample, in the frame of `none`."""
    slices = draw_slices(options, x.shape[1], like=x)
    weight = torch.ones(len(x)).double() if a is None else a
    out = np.zeros((len(slices), len(x)))
    for row, (theta, feature, polynomial) in enumerate(
        zip(slices.directions, slices.feature, slices.polynomial, strict=True)
    ):
        u = x @ theta
        for i in range(len(x)):
            peers = y == y[i]
            moments = torch.stack([(weight * u**j)[peers].sum() / weight[peers].sum() for j in range(MAX_ORDER + 1)])
            out[row, i] = feature * u[i] + polynomial @ moments
    return out


# transport on the line


def line(values: Any, weight: Any = None) -> Line:
    kept = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    return ordered(torch.tensor([values], dtype=torch.float64), kept)


numbers = st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=1, max_size=30)


@settings(deadline=None, max_examples=60)
@given(numbers, numbers, st.sampled_from([1, 2]))
def test_transport_on_the_line_agrees_with_pot(x: list[float], y: list[float], p: int) -> None:
    expected = ot.wasserstein_1d(np.array(x), np.array(y), p=p)
    assert wasserstein(line(x), line(y), p=p).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(1, 9)), min_size=1, max_size=20), numbers)
def test_weighted_transport_on_the_line_agrees_with_scipy(x: list[tuple[float, int]], y: list[float]) -> None:
    values, counts = zip(*x, strict=True)
    weight = [count / sum(counts) for count in counts]
    expected = wasserstein_distance(values, y, weight)
    for near, far in ((line(values, weight), line(y)), (line(y), line(values, weight))):
        assert wasserstein(near, far, p=1).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_equal_steps_cover_the_unit_interval_and_are_shared_with_any_batch() -> None:
    steps = equal_steps(4, 6, like=torch.zeros((), dtype=torch.float64))
    assert steps.width.sum().item() == pytest.approx(1)
    assert steps.left.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]
    assert steps.right.tolist() == [[0, 1, 1, 2, 3, 4, 4, 5]]
    x, y = ordered(torch.randn(3, 4)), ordered(torch.randn(3, 6))
    assert torch.equal(wasserstein(x, y), wasserstein(x, y, steps=equal_steps(4, 6, like=x.values)))


def test_equal_steps_are_exact_for_a_million_samples() -> None:
    steps = equal_steps(1_000_000, 999_999, like=torch.zeros((), dtype=torch.float64))
    assert steps.width.shape == (1, 1_999_998)
    assert (int(steps.left[0, -1]), int(steps.right[0, -1])) == (999_999, 999_998)
    assert steps.width.sum().item() == pytest.approx(1, abs=1e-15)


def test_sorting_does_not_write_into_its_input() -> None:
    values = torch.tensor([[3.0, 1.0, 2.0]])
    assert ordered(values).values.tolist() == [[1.0, 2.0, 3.0]]
    assert values.tolist() == [[3.0, 1.0, 2.0]]


# the law of the projections


def test_orders_of_moments_have_the_zero_truncated_poisson_law() -> None:
    drawn = moment_orders(SlicedOptions(projections=20_000, moments=5))
    assert drawn.min() == 1
    for rate, orders in zip(range(1, 6), drawn.T, strict=True):
        law = [math.exp(-rate) * rate**j / math.factorial(j) / (1 - math.exp(-rate)) for j in range(1, 6)]
        found = [(orders == j).mean() for j in range(1, 6)]
        np.testing.assert_allclose(found, law, atol=5 * 0.5 / 20_000**0.5)


def test_directions_and_weights_are_unit_vectors_without_a_preferred_side() -> None:
    slices = draw_slices(SlicedOptions(projections=5000, moments=3), 3, like=torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(slices.directions.norm(dim=1), torch.ones(5000).double())
    np.testing.assert_allclose(slices.directions.T @ slices.directions / 5000, np.eye(3) / 3, atol=0.03)
    assert slices.feature.square().mean().item() == pytest.approx(1 / 4, abs=0.02)  # psi is on the sphere of R^4


def test_polynomials_hold_the_weights_over_the_factorials() -> None:
    options = SlicedOptions(projections=300, moments=1)
    slices, orders = draw_slices(options, 2, like=torch.zeros(1).double()), moment_orders(options)[:, 0]
    for row, order in enumerate(orders):
        psi = slices.polynomial[row, order] * math.factorial(order)
        assert psi.square() + slices.feature[row].square() == pytest.approx(1)
    assert (slices.polynomial != 0).sum() == 300


def test_more_projections_begin_with_the_same_and_another_seed_gives_others() -> None:
    few, many, other = (
        sliced_otdd(*SOURCE, *TARGET, options=SlicedOptions(**given)).per_projection
        for given in ({"projections": 20}, {"projections": 50}, {"projections": 20, "seed": 1})
    )
    torch.testing.assert_close(many[:20], few)
    assert not torch.isclose(other, few).any()


def test_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    first, after = value(*SOURCE, *TARGET), torch.rand(1)
    torch.manual_seed(2)
    assert torch.equal(value(*SOURCE, *TARGET), first)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)


# known answers


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weights", ["equal", "given"])
def test_each_projection_is_the_transport_of_the_paper_s_formula(p: int, weights: str) -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.rand(n, generator=draw, dtype=torch.float64) if weights == "given" else None for n in (40, 27))
    options = SlicedOptions(projections=8, p=p, scale="none")
    found = sliced_otdd(*SOURCE, *TARGET, options=options, a=a, b=b)
    near, far = by_hand(*SOURCE, options, a), by_hand(*TARGET, options, b)
    shares = [None if w is None else (w / w.sum()).numpy() for w in (a, b)]
    expected = [ot.wasserstein_1d(u, v, *shares, p=p) for u, v in zip(near, far, strict=True)]
    np.testing.assert_allclose(found.per_projection, expected, rtol=1e-9)
    assert found.value.item() == pytest.approx(np.mean(expected))
    assert found.standard_error == pytest.approx(np.std(expected, ddof=1) / 8**0.5)


@pytest.mark.parametrize("p", [1, 2])
def test_without_moments_it_is_the_sliced_wasserstein_distance(p: int) -> None:
    options = SlicedOptions(projections=30, moments=0, p=p)
    theta = draw_slices(options, 4, like=SOURCE[0]).directions.numpy().T
    expected = ot.sliced_wasserstein_distance(SOURCE[0].numpy(), TARGET[0].numpy(), projections=theta, p=p) ** p
    for scale in SCALES:
        found = value(*SOURCE, *TARGET, projections=30, moments=0, p=p, scale=scale)
        assert found.item() == pytest.approx(expected)  # a frame has no say where there are no moments


def test_one_class_of_equal_moments_on_both_sides_leaves_the_features_alone() -> None:
    x, y = SOURCE[0], torch.zeros(40, dtype=torch.int64)
    heavy = torch.rand(40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    both = sliced_otdd(x, y, x[torch.randperm(40)], y + 5, options=SlicedOptions(projections=50))
    assert both.value.item() == pytest.approx(0, abs=1e-12)
    assert value(x, y, x, y, b=heavy) > 1e-4  # other weights, other moments and another place


def test_two_points_without_labels_are_their_squared_distance_over_the_dimension_apart() -> None:
    x, y = torch.zeros(1, 3).double(), torch.tensor([[3.0, 0.0, 4.0]]).double()
    label = torch.tensor([0])
    found = sliced_otdd(x, label, y, label, options=SlicedOptions(projections=20_000, moments=0))
    assert abs(found.value.item() - 25 / 3) < 4 * found.standard_error
    assert 0.03 < found.standard_error < 0.08  # the law of 25 cos^2 has standard deviation 25 sqrt(4 / 45) = 7.5


def test_two_points_with_labels_are_the_gap_of_two_polynomials_apart() -> None:
    x, y, label = torch.tensor([[0.5, -1.0]]).double(), torch.tensor([[2.0, 1.0]]).double(), torch.tensor([7])
    options = SlicedOptions(projections=40, scale="none")
    slices = draw_slices(options, 2, like=x)
    power = torch.arange(MAX_ORDER + 1)
    u, v = slices.directions @ x[0], slices.directions @ y[0]
    gap = slices.feature * (u - v) + (slices.polynomial * (u[:, None] ** power - v[:, None] ** power)).sum(1)
    torch.testing.assert_close(sliced_otdd(x, label, y, label, options=options).per_projection, gap.square())


# laws


@scales
def test_a_set_is_at_zero_from_itself_in_any_order_and_under_other_names(scale: str) -> None:
    x, y = SOURCE
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(4))
    assert value(x, y, x, y, scale=scale) == 0
    assert value(x, y, x[order], 3 * y[order] + 2, scale=scale).item() == pytest.approx(0, abs=1e-20)


@scales
def test_neither_order_of_samples_nor_names_of_labels_matter(scale: str) -> None:
    order = torch.randperm(27, generator=torch.Generator().manual_seed(5))
    renamed = torch.tensor([9, 0, 4, 2])[TARGET[1]]
    moved = value(SOURCE[0], SOURCE[1] + 3, TARGET[0][order], renamed[order], scale=scale)
    torch.testing.assert_close(moved, value(*SOURCE, *TARGET, scale=scale))


def test_labels_matter() -> None:
    x = torch.tensor([[-1.0], [-0.9], [0.9], [1.0]]).double()
    near, crossed = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    assert value(x, near, x, crossed) > 0.01
    assert value(x, near, x, crossed, moments=0) == 0


@pytest.mark.parametrize("scale", ["both", "none"])
def test_it_is_symmetric_but_in_the_frame_of_the_source(scale: str) -> None:
    torch.testing.assert_close(value(*SOURCE, *TARGET, scale=scale), value(*TARGET, *SOURCE, scale=scale))
    one_way, other_way = (value(*sets, scale="source") for sets in ((*SOURCE, *TARGET), (*TARGET, *SOURCE)))
    assert not torch.isclose(one_way, other_way, rtol=0.01)


@pytest.mark.parametrize("p", [1, 2])
def test_in_one_frame_the_triangle_inequality_holds(p: int) -> None:
    sets = [made(n, 3, k, seed=n, shift=0.2 * k) for n, k in ((10, 2), (15, 3), (21, 1), (8, 4), (30, 2))]
    root = np.array([[value(*s, *t, p=p, scale="none").item() ** (1 / p) for t in sets] for s in sets])
    assert (root[:, None, :] <= root[:, :, None] + root[None, :, :] + 1e-12).all()


@pytest.mark.parametrize("scale", ["both", "source"])
@pytest.mark.parametrize("p", [1, 2])
def test_moving_both_sets_changes_nothing_and_scaling_both_scales_the_value(scale: str, p: int) -> None:
    plain = value(*SOURCE, *TARGET, scale=scale, p=p)
    for c in (1e-6, 1e6):
        scaled = value(c * SOURCE[0] + 3 * c, SOURCE[1], c * TARGET[0] + 3 * c, TARGET[1], scale=scale, p=p)
        assert scaled.item() == pytest.approx(c**p * plain.item(), rel=1e-6)


@scales
def test_the_value_grows_with_the_shift(scale: str) -> None:
    x, y = SOURCE
    grown = [value(x, y, x + shift, y, scale=scale).item() for shift in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)]
    assert grown == sorted(grown)
    assert grown[0] == 0 < grown[1]


def test_far_apart_the_value_grows_as_the_power_of_the_shift() -> None:
    x, y = SOURCE
    near, far = (value(x, y, x + shift, y).item() for shift in (1e3, 1e4))
    assert far / near == pytest.approx(100, rel=0.02)  # the frame grows with the shift, and keeps the moments small


@scales
def test_weights_are_repeated_samples_and_weight_zero_is_absence(scale: str) -> None:
    x, y = TARGET
    counts = torch.arange(27) % 4
    kept = torch.repeat_interleave(torch.arange(27), counts)
    expected = value(*SOURCE, x[kept], y[kept], scale=scale)
    torch.testing.assert_close(value(*SOURCE, x, y, b=counts.double(), scale=scale), expected)
    if scale == "both":
        torch.testing.assert_close(value(x, y, *SOURCE, a=7.0 * counts, scale=scale), expected)


def test_equal_weights_are_no_weights() -> None:
    a, b = torch.full((40,), 0.3).double(), torch.full((27,), 2.0).double()
    torch.testing.assert_close(value(*SOURCE, *TARGET, a=a, b=b), value(*SOURCE, *TARGET))


def test_repeating_a_whole_set_changes_nothing() -> None:
    twice = [torch.cat([part, part]) for part in TARGET]
    torch.testing.assert_close(value(*SOURCE, *twice), value(*SOURCE, *TARGET))


@pytest.mark.parametrize("chunk", [1, 7, 60, 1000])
def test_chunks_change_neither_value_nor_gradient(chunk: int) -> None:
    results = []
    for size in (None, chunk):
        x = TARGET[0].clone().requires_grad_()
        found = value(*SOURCE, x, TARGET[1], chunk=size)
        found.backward()
        results.append((found.detach(), x.grad))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


def test_chunked_gradients_keep_no_chunk_in_memory() -> None:
    def kept(chunk: int | None) -> int:
        """Numbers that wait for the backward pass."""
        sizes: list[int] = []
        x = TARGET[0].clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda saved: sizes.append(saved.numel()) or saved, lambda s: s):
            value(*SOURCE, x, TARGET[1], projections=200, chunk=chunk)
        return sum(sizes)

    assert kept(None) > 200 * 27 > 4 * kept(10)


def test_single_precision_agrees_with_double() -> None:
    single = [part.float() if part.is_floating_point() else part for part in (*SOURCE, *TARGET)]
    for weights in ({}, {"a": torch.arange(1.0, 41.0)}):
        found, expected = value(*single, **weights), value(*SOURCE, *TARGET, **weights)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    assert value(*single[:2], *TARGET).dtype == torch.float64


def test_two_sets_of_one_point_are_at_zero_with_a_finite_gradient() -> None:
    x, y = torch.ones(3, 2, requires_grad=True), torch.zeros(3, dtype=torch.int64)
    found = value(x, y, torch.ones(2, 2), y[:2])
    found.backward()
    assert found.item() == 0
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


# gradients


def differences(function: Any, x: Tensor, step: float = 1e-6) -> Tensor:
    out = torch.zeros_like(x)
    for place in np.ndindex(*x.shape):
        move = torch.zeros_like(x)
        move[place] = step
        out[place] = (function(x + move) - function(x - move)) / (2 * step)
    return out


@scales
@pytest.mark.parametrize("weights", ["equal", "given"])
def test_gradients_to_both_sets_agree_with_central_differences(scale: str, weights: str) -> None:
    (xs, ys), (xt, yt) = made(9, 2, 2, seed=6), made(6, 2, 3, seed=7)
    options: dict[str, Any] = {"scale": scale, "projections": 20, "chunk": 6}
    if weights == "given":
        options |= {"a": torch.arange(9.0), "b": torch.arange(1.0, 7.0)}
    moving = [xs.clone().requires_grad_(), xt.clone().requires_grad_()]
    value(moving[0], ys, moving[1], yt, **options).backward()
    near, far = (x.grad for x in moving)
    torch.testing.assert_close(near, differences(lambda x: value(x, ys, xt, yt, **options), xs), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(far, differences(lambda x: value(xs, ys, x, yt, **options), xt), rtol=1e-5, atol=1e-8)


def test_held_labels_leave_the_value_and_the_gradient_of_the_features() -> None:
    (xs, ys), (xt, yt) = made(9, 2, 2, seed=6), made(6, 2, 3, seed=7)
    options = SlicedOptions(projections=20, scale="none", label_gradient=False)
    x = xt.clone().requires_grad_()
    held = sliced_otdd(xs, ys, x, yt, options=options).value
    held.backward()
    assert torch.equal(held, value(xs, ys, xt, yt, projections=20, scale="none"))
    slices = draw_slices(options, 2, like=x)
    labels = torch.tensor(by_hand(xt, yt, options)) - slices.feature[:, None] * (slices.directions @ xt.T)
    near = ordered(torch.tensor(by_hand(xs, ys, options)))

    def features_alone(moved: Tensor) -> Tensor:
        return wasserstein(near, ordered(slices.feature[:, None] * (slices.directions @ moved.T) + labels)).mean()

    torch.testing.assert_close(x.grad, differences(features_alone, xt), rtol=1e-5, atol=1e-8)


def test_a_second_derivative_is_refused() -> None:
    x = TARGET[0].clone().requires_grad_()
    (first,) = torch.autograd.grad(value(*SOURCE, x, TARGET[1]), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


# statistics of the source


@pytest.mark.parametrize("scale", ["source", "none"])
@pytest.mark.parametrize("chunk", [None, 7])
def test_statistics_of_the_source_change_nothing(scale: str, chunk: int | None) -> None:
    options = SlicedOptions(projections=50, scale=scale, chunk=chunk)
    for weights in (None, torch.arange(40.0)):
        once = SlicedStatistics.of(LabeledSet(*SOURCE), options, weights=weights)
        found = sliced_otdd(*SOURCE, *TARGET, source=once)
        expected = sliced_otdd(*SOURCE, *TARGET, options=options, a=weights)
        torch.testing.assert_close(found.per_projection, expected.per_projection)


def test_statistics_hold_the_source_constant_and_pass_the_gradient_of_the_target() -> None:
    once = SlicedStatistics.of(LabeledSet(SOURCE[0].clone().requires_grad_(), SOURCE[1]))
    assert not once.line.values.requires_grad
    x, free = (TARGET[0].clone().requires_grad_() for _ in range(2))
    sliced_otdd(*SOURCE, x, TARGET[1], source=once).value.backward()
    sliced_otdd(*SOURCE, free, TARGET[1], options=SlicedOptions(scale="source")).value.backward()
    torch.testing.assert_close(x.grad, free.grad)


def test_statistics_of_other_data_or_options_are_refused() -> None:
    once = SlicedStatistics.of(LabeledSet(*SOURCE))
    with pytest.raises(InputError, match="another source"):
        sliced_otdd(SOURCE[0] + 1, SOURCE[1], *TARGET, source=once)
    with pytest.raises(InputError, match="another source"):
        sliced_otdd(SOURCE[0], SOURCE[1] + 1, *TARGET, source=once)
    with pytest.raises(InputError, match="were made for"):
        sliced_otdd(*SOURCE, *TARGET, source=once, options=SlicedOptions(projections=3))
    with pytest.raises(InputError, match="part of its statistics"):
        sliced_otdd(*SOURCE, *TARGET, source=once, a=torch.ones(40))
    with pytest.raises(InputError, match="for a gradient to the source"):
        sliced_otdd(SOURCE[0].clone().requires_grad_(), SOURCE[1], *TARGET, source=once)
    with pytest.raises(InputError, match="scale source or none"):
        SlicedStatistics.of(LabeledSet(*SOURCE), SlicedOptions(scale="both"))


# bad input


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ((*SOURCE, TARGET[0][:, :2], TARGET[1]), "one feature dimension; got source 4, target 2"),
        ((*SOURCE, TARGET[0].to("meta"), TARGET[1].to("meta")), "one device"),
        ((SOURCE[0] * float("nan"), SOURCE[1], *TARGET), "source features: expected finite"),
        ((*SOURCE, TARGET[0], TARGET[1].double()), "target labels: expected integers"),
        ((*SOURCE, TARGET[0][:0], TARGET[1][:0]), "target features: .* not empty"),
        ((1e30 * SOURCE[0].float(), SOURCE[1], TARGET[0].float(), TARGET[1]), "expected a finite sum of squares"),
    ],
)
def test_bad_sets_are_refused(sets: tuple[Tensor, ...], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(part.is_meta for part in sets):  # the one device that every machine has beside the CPU holds no numbers
        monkeypatch.setattr("orca.transport.sliced.distance.checked", lambda x, y, which: (x, y))
    with pytest.raises(InputError, match=said):
        sliced_otdd(*sets)


@pytest.mark.parametrize("weights", [torch.ones(5), -torch.ones(40), torch.zeros(40), torch.ones(40) / 0])
def test_bad_weights_are_refused(weights: Tensor) -> None:
    with pytest.raises(InputError, match="source weights: expected"):
        value(*SOURCE, *TARGET, a=weights)


def test_bad_options_are_listed_together() -> None:
    given: dict[str, Any] = {"projections": 0, "moments": 11, "p": 3, "scale": "bth", "chunk": 0}
    with pytest.raises(InputError) as fault:
        SlicedOptions(**given)
    assert all(name in str(fault.value) for name in given)


def test_a_source_without_spread_has_no_frame() -> None:
    with pytest.raises(InputError, match="numbers that differ"):
        value(torch.ones(5, 4), torch.zeros(5, dtype=torch.int64), *TARGET, scale="source")


def test_moments_that_overflow_are_an_error_that_names_the_remedy() -> None:
    x = (1e9 * TARGET[0]).float()
    with pytest.raises(InputError, match="moments are not finite.*fewer moments"):
        value(SOURCE[0].float(), SOURCE[1], x, TARGET[1], scale="none")
    assert value(SOURCE[0].float(), SOURCE[1], x, TARGET[1]) > 0
