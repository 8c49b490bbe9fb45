"""The entropic solver against known answers, laws, POT and finite differences."""

from __future__ import annotations

import importlib

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orca.transport import envelope, sinkhorn, sinkhorn_divergence, sinkhorn_self
from orca.transport.cost import class_clouds, label_cost, pairwise_cost

solver = importlib.import_module("orca.transport.sinkhorn")  # the package has a function of that name
TIGHT = {"tolerance": 1e-11, "max_iterations": 20_000}


def points(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def weights(*shape: int, seed: int = 0) -> Tensor:
    w = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    return w / w.sum(-1, keepdim=True)


def by_definition(cost: Tensor, plan: Tensor, a: Tensor, b: Tensor, reg: float) -> Tensor:
    """<P, C> + eps KL(P | a x b), written out."""
    product = a[:, None] * b
    return (plan * cost).sum() + reg * (plan * (plan / product).clamp(min=1e-300).log()).sum()


def central_difference(function, x: Tensor, step: float = 1e-5) -> Tensor:
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        move = torch.zeros_like(x).view(-1)
        move[i] = step
        move = move.view_as(x)
        gradient.view(-1)[i] = (function(x + move) - function(x - move)) / (2 * step)
    return gradient


def test_two_points_at_distance_five_cost_twenty_five():
    x, y = torch.zeros(1, 1, 2), torch.tensor([[[3.0, 4.0]]])
    for reg in (0.01, 1.0, 100.0):
        assert sinkhorn(pairwise_cost(x, y), reg=reg).value.item() == pytest.approx(25, rel=1e-6)
        assert sinkhorn_divergence(x, y, reg=reg).value.item() == pytest.approx(25, rel=1e-6)
        assert sinkhorn_divergence(x, y, reg=reg, p=1).value.item() == pytest.approx(5, rel=1e-6)


def test_pairwise_cost_is_the_plain_sum_of_squares():
    x, y = points(2, 4, 3), points(2, 5, 3, seed=1)
    squared = (x[:, :, None] - y[:, None]).square().sum(-1)
    torch.testing.assert_close(pairwise_cost(x, y), squared)
    torch.testing.assert_close(pairwise_cost(x, y, 1), squared.sqrt())


def test_pairwise_cost_keeps_its_digits_far_from_the_origin():
    x, y = points(20, 8, dtype=torch.float32), points(30, 8, seed=1, dtype=torch.float32)
    torch.testing.assert_close(pairwise_cost(x + 100, y + 100), pairwise_cost(x, y), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("p", [1, 2])
def test_pairwise_cost_has_the_right_gradient(p: int):
    x, y = points(2, 4, 3).requires_grad_(), points(2, 5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: pairwise_cost(x, y, p), (x, y))


def test_gradient_of_a_distance_is_zero_where_points_coincide():
    x = points(3, 2).requires_grad_()
    pairwise_cost(x, x.detach(), 1).diagonal().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_label_cost_spreads_the_table_and_sums_its_gradient():
    table = points(2, 3).requires_grad_()
    rows, cols = torch.tensor([0, 1, 1, 0]), torch.tensor([2, 0, 0, 1, 2])
    torch.testing.assert_close(label_cost(table, rows, cols), table[rows][:, cols])
    assert torch.autograd.gradcheck(lambda t: label_cost(t, rows, cols), (table,))


def test_class_clouds_hold_each_class_in_the_order_of_the_data():
    x, index = torch.arange(6.0)[:, None], torch.tensor([1, 0, 1, 2, 1, 0])
    clouds = class_clouds(x, index, 3)
    assert clouds.size.tolist() == [2, 3, 1]
    assert clouds.x[..., 0].tolist() == [[1, 5, 1], [0, 2, 4], [3, 3, 3]]
    torch.testing.assert_close(clouds.weight.sum(1), torch.ones(3))


def test_class_cap_takes_samples_evenly():
    clouds = class_clouds(torch.arange(10.0)[:, None], torch.zeros(10, dtype=torch.int64), 1, cap=5)
    assert clouds.x[0, :, 0].tolist() == [0, 2, 4, 6, 8]
    assert class_clouds(torch.ones(3, 1), torch.tensor([0, 0, 1]), 2, cap=9).size.tolist() == [2, 1]


def test_value_is_the_primal_objective_of_its_plan():
    cost, a, b = pairwise_cost(points(1, 7, 2), points(1, 5, 2, seed=1)), weights(1, 7), weights(1, 5, seed=1)
    solved = sinkhorn(cost, a, b, reg=0.3, **TIGHT)
    assert solved.converged
    torch.testing.assert_close(solved.value[0], by_definition(cost[0], solved.plan()[0], a[0], b[0], 0.3))


def test_plan_has_the_marginals_and_the_form_of_the_optimum():
    cost, a, b = pairwise_cost(points(1, 9, 2), points(1, 6, 2, seed=1)), weights(1, 9), weights(1, 6, seed=1)
    solved = sinkhorn(cost, a, b, reg=0.2, **TIGHT)
    torch.testing.assert_close(solved.plan().sum(2), a)
    torch.testing.assert_close(solved.plan().sum(1), b)
    density = ((solved.f[:, :, None] + solved.g[:, None] - cost) / 0.2).exp()
    torch.testing.assert_close(solved.plan(), a[:, :, None] * b[:, None] * density)


@pytest.mark.parametrize("reg", [0.05, 0.5, 5.0])
def test_agrees_with_pot_in_the_log_domain(reg: float):
    cost, a, b = pairwise_cost(points(1, 12, 3), points(1, 8, 3, seed=1)), weights(1, 12), weights(1, 8, seed=1)
    plan = ot.sinkhorn(
        a[0].numpy(), b[0].numpy(), cost[0].numpy(), reg, method="sinkhorn_log", stopThr=1e-11, numItermax=20_000
    )
    np.testing.assert_allclose(sinkhorn(cost, a, b, reg=reg, **TIGHT).plan()[0].numpy(), plan, atol=1e-9)


def test_small_regularisation_agrees_with_the_exact_solver_of_pot():
    cost, a, b = pairwise_cost(points(1, 15, 2), points(1, 11, 2, seed=1)), weights(1, 15), weights(1, 11, seed=1)
    exact = ot.emd2(a[0].numpy(), b[0].numpy(), cost[0].numpy())
    solved = sinkhorn(cost, a, b, reg=2e-3, tolerance=1e-4, max_iterations=10_000)
    assert solved.converged
    assert (solved.plan() * cost).sum().item() == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e2, 1e6])
def test_scaling_cost_and_regularisation_scales_the_value(scale: float):
    cost = pairwise_cost(points(1, 20, 4), points(1, 15, 4, seed=1))
    one = sinkhorn(cost, reg=0.1, **TIGHT)
    torch.testing.assert_close(sinkhorn(cost * scale, reg=0.1 * scale, **TIGHT).value, one.value * scale)


def test_single_precision_is_near_double_precision():
    x, y = points(1, 60, 16), points(1, 40, 16, seed=1) + 1
    double = sinkhorn_divergence(x, y, reg=0.5, **TIGHT).value
    single = sinkhorn_divergence(x.float(), y.float(), reg=0.5, tolerance=1e-5).value
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_distant_clusters_do_not_underflow():
    x = torch.cat([points(10, 2, dtype=torch.float32), points(10, 2, seed=1, dtype=torch.float32) + 1000])[None]
    y = torch.cat([points(8, 2, seed=2, dtype=torch.float32), points(8, 2, seed=3, dtype=torch.float32) + 1000])[None]
    solved = sinkhorn(pairwise_cost(x, y), reg=0.5)
    assert torch.isfinite(solved.plan()).all()
    assert solved.plan()[0, :10, 8:].sum() < 1e-6
    assert solved.value.item() < 20


def test_clusters_of_unequal_mass_move_what_they_must():
    x = torch.tensor([[[0.0], [100.0]]], dtype=torch.float64)
    a, b = torch.tensor([[0.75, 0.25]]).double(), torch.tensor([[0.25, 0.75]]).double()
    solved = sinkhorn(pairwise_cost(x, x), a, b, reg=1.0, **TIGHT)
    torch.testing.assert_close(solved.plan()[0, 0, 1], torch.tensor(0.5).double())


def test_batch_equals_loop():
    x, y = points(4, 7, 3), points(4, 9, 3, seed=1)
    together = sinkhorn_divergence(x, y, reg=0.3, **TIGHT).value
    alone = torch.cat([sinkhorn_divergence(x[i : i + 1], y[i : i + 1], reg=0.3, **TIGHT).value for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_padding_with_zero_weight_changes_nothing():
    x, y, a, b = points(1, 7, 3), points(1, 5, 3, seed=1), weights(1, 7), weights(1, 5, seed=1)
    bare = sinkhorn_divergence(x, y, a, b, reg=0.2, **TIGHT)
    far = torch.full((1, 4, 3), 50.0).double()
    zero = torch.zeros(1, 4).double()
    x_padded, y_padded = torch.cat([x, far], 1).requires_grad_(), torch.cat([y, 0 * far], 1).requires_grad_()
    padded = sinkhorn_divergence(x_padded, y_padded, torch.cat([a, zero], 1), torch.cat([b, zero], 1), reg=0.2, **TIGHT)
    torch.testing.assert_close(padded.value, bare.value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(padded.cross.plan()[:, :7, :5], bare.cross.plan(), rtol=1e-7, atol=1e-12)
    assert padded.cross.plan()[:, 7:].abs().sum() == 0
    padded.value.sum().backward()
    assert x_padded.grad is not None
    assert y_padded.grad is not None
    assert x_padded.grad[:, 7:].abs().sum() == 0
    assert torch.isfinite(y_padded.grad).all()


def test_divergence_of_a_cloud_with_itself_is_zero():
    x, a = points(3, 20, 4), weights(3, 20)
    for reg in (0.5, 5.0):
        result = sinkhorn_divergence(x, x, a, a, reg=reg, tolerance=1e-6, max_iterations=500)
        assert result.value.abs().max() < 1e-4 * result.cross.value.min()


def test_divergence_is_symmetric():
    x, y = points(1, 9, 3), points(1, 14, 3, seed=1)
    there, back = (sinkhorn_divergence(*pair, reg=0.2, **TIGHT).value for pair in ((x, y), (y, x)))
    torch.testing.assert_close(there, back, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("reg", [2.0, 10.0, 50.0])
def test_divergence_of_a_moved_cloud_is_the_squared_shift(reg: float):
    x, shift = points(1, 12, 3), torch.tensor([1.0, -2.0, 0.5]).double()
    value = sinkhorn_divergence(x, x + shift, reg=reg, **TIGHT).value
    torch.testing.assert_close(value[0], shift.square().sum(), rtol=1e-7, atol=1e-7)


def test_divergence_splits_into_means_and_shapes():
    x, y = points(1, 8, 3), points(1, 11, 3, seed=1) * 2 + 3
    gap = (x.mean(1) - y.mean(1)).square().sum(-1)
    centred = sinkhorn_divergence(x - x.mean(1), y - y.mean(1), reg=0.5, **TIGHT).value
    torch.testing.assert_close(sinkhorn_divergence(x, y, reg=0.5, **TIGHT).value, gap + centred)


@pytest.mark.parametrize(("p", "debias"), [(2, True), (2, False), (1, True)])
def test_gradient_agrees_with_central_differences_at_convergence(p: int, debias: bool):  # noqa: FBT001
    x, y, a = points(1, 5, 2), points(1, 4, 2, seed=1), weights(1, 5)

    def value(x: Tensor) -> Tensor:
        return sinkhorn_divergence(x, y, a, None, reg=0.4, p=p, debias=debias, **TIGHT).value.sum()

    moving = x.clone().requires_grad_()
    value(moving).backward()
    assert moving.grad is not None
    torch.testing.assert_close(moving.grad, central_difference(value, x), rtol=1e-5, atol=1e-7)


def test_derivative_in_the_cost_is_the_plan():
    cost = pairwise_cost(points(2, 5, 2), points(2, 4, 2, seed=1)).requires_grad_()
    solved = sinkhorn(cost, reg=0.3, **TIGHT)
    (envelope(solved, cost) * torch.tensor([1.0, 3.0])).sum().backward()
    torch.testing.assert_close(cost.grad, solved.plan() * torch.tensor([1.0, 3.0]).double()[:, None, None])


def test_second_derivative_is_an_error_and_not_a_wrong_number():
    cost = torch.rand(1, 3, 3, dtype=torch.float64).requires_grad_()
    value = envelope(sinkhorn(cost, reg=0.5), cost).square()
    (gradient,) = torch.autograd.grad(value.sum(), cost, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_self_term_has_one_potential_and_the_value_of_the_plain_solver():
    cost, a = pairwise_cost(points(2, 10, 3), points(2, 10, 3)), weights(2, 10)
    own, plain = sinkhorn_self(cost, a, reg=1.0, **TIGHT), sinkhorn(cost, a, a, reg=1.0, **TIGHT)
    torch.testing.assert_close(own.f, own.g)
    torch.testing.assert_close(own.value, plain.value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(own.plan(), own.plan().mT, rtol=1e-7, atol=1e-12)


def test_result_states_whether_it_converged():
    cost = pairwise_cost(points(1, 30, 2), points(1, 20, 2, seed=1))
    short = sinkhorn(cost, reg=0.01, tolerance=1e-8, max_iterations=3)
    assert not short.converged
    assert short.marginal_error.item() > 1e-8
    long = sinkhorn(cost, reg=0.5, tolerance=1e-8, max_iterations=5000)
    assert long.converged
    assert long.iterations > short.iterations
    error = (long.plan().sum(1) - 1 / 20).abs().sum() + (long.plan().sum(2) - 1 / 30).abs().sum()
    assert error.item() == pytest.approx(long.marginal_error.item(), rel=0.01, abs=1e-12)


def test_over_relaxation_saves_iterations_and_changes_nothing_else(monkeypatch: pytest.MonkeyPatch):
    cost = pairwise_cost(points(2, 60, 3), points(2, 50, 3, seed=1))
    fast = sinkhorn(cost, reg=0.05, tolerance=1e-9, max_iterations=5000)
    monkeypatch.setattr(solver, "RELAX", 1.0)
    plain = sinkhorn(cost, reg=0.05, tolerance=1e-9, max_iterations=5000)
    assert fast.converged
    assert fast.iterations < 0.7 * plain.iterations
    torch.testing.assert_close(fast.value, plain.value, rtol=1e-9, atol=0)


def test_over_relaxation_ends_where_the_error_of_a_problem_rises():
    last = torch.tensor([1.0, 1.0])
    assert solver.relaxation(torch.tensor([0.5, 1.1]), last, 1.8) == 1
    powers = [1.0]
    for _ in range(20):
        powers.append(solver.relaxation(last / 2, last, powers[-1]))
    assert powers[1] == solver.RELAX
    assert powers == sorted(powers)
    assert powers[-1] == solver.MOST < 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e6, 1e8])
def test_weights_of_any_size_leave_everything_finite(ratio: float, dtype: torch.dtype):
    """Points that weigh 1e-20 or nothing are far from their potentials when the annealing ends."""
    x, y = points(3, 30, 2, dtype=dtype), points(3, 25, 2, seed=1, dtype=dtype)
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, n, generator=draw, dtype=torch.float64) ** 20 for n in (30, 25))
    a[:, :3], b[:, 5] = 0, 0
    a, b = (w.to(dtype) / w.to(dtype).sum(1, keepdim=True) for w in (a, b))
    cost = pairwise_cost(x, y)
    reg = float(cost.max()) / ratio
    cross = sinkhorn(cost, a, b, reg=reg, max_iterations=60)
    own = sinkhorn_self(pairwise_cost(x, x), a, reg=reg, max_iterations=60)
    for solved in (cross, own):
        for part in (solved.value, solved.f, solved.g, solved.coupling, solved.marginal_error):
            assert torch.isfinite(part).all()


def test_the_annealing_reaches_an_eps_far_below_the_cost():
    x = 100 * points(1, 150, 5)
    cost = pairwise_cost(x, x)
    assert float(cost.max()) / 0.1 > 1e6
    solved = sinkhorn(cost, reg=0.1)
    assert solved.converged
    assert solved.value.item() == pytest.approx(0.1 * np.log(150), rel=1e-2)  # each point to itself: eps KL alone


def test_the_worst_of_errors_keeps_what_is_not_a_number():
    assert solver.worst(0.0, 0.2, 0.1) == pytest.approx(0.2)
    for errors in ((0.0, np.nan), (np.nan, 0.0)):
        assert np.isnan(solver.worst(*errors))


def test_many_large_scalings_are_absorbed():
    cost = torch.zeros(1, 3, 3, dtype=torch.float64)
    cost[0, :, 0] = 500.0  # the first column is 500 eps away from every row, and must still get its mass
    solved = sinkhorn(cost, reg=1.0, **TIGHT)
    assert solved.converged
    torch.testing.assert_close(solved.plan().sum(1), torch.full((1, 3), 1 / 3).double())


def test_device_and_type_follow_the_input():
    solved = sinkhorn(torch.rand(1, 4, 3), reg=0.1)
    assert solved.plan().dtype == torch.float32
    assert not solved.value.requires_grad
    assert solved.plan().shape == (1, 4, 3)


sizes = st.integers(1, 50)
quick = settings(max_examples=25, deadline=None, derandomize=True)


@quick
@given(n=sizes, m=sizes, seed=st.integers(0, 99), reg=st.sampled_from([0.1, 1.0, 10.0]))
def test_any_sizes_give_a_plan_with_the_stated_marginal_error(n: int, m: int, seed: int, reg: float):
    cost, a, b = pairwise_cost(points(1, n, 3, seed=seed), points(1, m, 3, seed=seed + 1)), weights(1, n), weights(1, m)
    solved = sinkhorn(cost, a, b, reg=reg, tolerance=1e-3, max_iterations=2000)
    plan = solved.plan()
    assert (plan >= 0).all()
    torch.testing.assert_close(plan.sum(2), a)
    assert (plan.sum(1) - b).abs().sum().item() <= solved.marginal_error.item() + 1e-9
    assert solved.value.item() >= (plan * cost).sum().item() - 1e-2 * cost.max().item()


@quick
@given(n=sizes, seed=st.integers(0, 99), masked=st.integers(0, 10))
def test_zero_weights_are_as_if_absent(n: int, seed: int, masked: int):
    x, y = points(1, n + masked, 2, seed=seed), points(1, 6, 2, seed=seed + 1)
    a = torch.cat([torch.full((1, n), 1 / n), torch.zeros(1, masked)], 1).double()
    bare = sinkhorn_divergence(x[:, :n], y, reg=1.0, tolerance=1e-7, max_iterations=300)
    padded = sinkhorn_divergence(x, y, a, None, reg=1.0, tolerance=1e-7, max_iterations=300)
    torch.testing.assert_close(padded.value, bare.value, rtol=1e-6, atol=1e-6)


@quick
@given(n=st.integers(2, 20), copies=st.integers(2, 4), seed=st.integers(0, 99))
def test_duplicate_points_weigh_as_one_heavier_point(n: int, copies: int, seed: int):
    x, y = points(1, n, 2, seed=seed), points(1, 7, 2, seed=seed + 1)
    twice = x.repeat_interleave(copies, 1)
    values = [sinkhorn_divergence(z, y, reg=1.0, tolerance=1e-8, max_iterations=5000).value for z in (x, twice)]
    torch.testing.assert_close(values[0], values[1], rtol=1e-6, atol=1e-6)


@quick
@given(seed=st.integers(0, 99), scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]))
def test_single_precision_holds_at_any_scale(seed: int, scale: float):
    x, y = points(1, 30, 5, seed=seed), points(1, 20, 5, seed=seed + 1) + 0.5
    double = sinkhorn_divergence(x, y, reg=0.5, tolerance=1e-9, max_iterations=5000).value.item()
    single = sinkhorn_divergence(scale * x.float(), scale * y.float(), reg=0.5 * scale**2, tolerance=1e-4).value.item()
    assert single / scale**2 == pytest.approx(double, rel=2e-3, abs=2e-3)


def test_value_grows_with_regularisation_and_divergence_is_not_negative():
    x, y = points(1, 20, 3), points(1, 15, 3, seed=1)
    regs = (0.3, 1.0, 3.0, 10.0)
    values = [sinkhorn(pairwise_cost(x, y), reg=reg, tolerance=1e-7, max_iterations=5000).value.item() for reg in regs]
    assert values == sorted(values)
    assert all(sinkhorn_divergence(x, y, reg=reg, tolerance=1e-7).value.item() > 0 for reg in regs)


def test_annealing_does_not_change_the_solution():
    cost = pairwise_cost(points(1, 20, 3), points(1, 15, 3, seed=1))
    values = [sinkhorn(cost, reg=0.5, annealing=factor, **TIGHT).value for factor in (0.1, 0.5, 0.9)]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])
