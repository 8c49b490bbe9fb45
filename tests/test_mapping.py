"""Barycentric projections and mass between labels, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from orca.errors import InputError
from orca.transport import otdd, sinkhorn
from orca.transport.cost import pairwise_cost
from orca.transport.mapping import barycentric_projection, label_mass

DRAW = np.random.default_rng(0)


def test_a_permutation_sends_each_sample_to_its_partner() -> None:
    xt = torch.from_numpy(DRAW.normal(size=(6, 3)))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    plan = torch.eye(6, dtype=torch.float64)[order] / 6
    assert torch.allclose(barycentric_projection(plan, xt), xt[order])


def test_independent_samples_are_all_sent_to_the_mean() -> None:
    xt = torch.from_numpy(DRAW.normal(size=(5, 2)))
    plan = torch.outer(torch.tensor([0.7, 0.3]).double(), torch.full((5,), 0.2).double())
    assert torch.allclose(barycentric_projection(plan, xt), xt.mean(0).expand(2, 2))


def test_a_moved_cloud_is_sent_where_it_was_moved() -> None:
    xs = torch.from_numpy(DRAW.normal(size=(40, 2)))
    xt = xs + torch.tensor([30.0, -4.0])
    for power in (1.0, 1e-3):
        plan = sinkhorn(pairwise_cost(xs, xt)[None], reg=power, tolerance=1e-6, max_iterations=5000).plan()[0]
        moved = barycentric_projection(plan, xt)
        assert torch.allclose(moved.mean(0), xt.mean(0), atol=1e-3)
    assert torch.allclose(moved, xt, atol=1e-2)  # at the small eps


def test_gaussians_are_sent_by_the_linear_map_between_them() -> None:
    """T(x) = n + sqrt(b / a) (x - m) between N(m, a) and N(n, b) in one dimension, by quantiles of both."""
    levels = torch.special.ndtri((torch.arange(100) + 0.5).double() / 100)[:, None]
    xs, xt = 2 + 0.5 * levels, -1 + 3 * levels
    plan = sinkhorn(pairwise_cost(xs, xt)[None], reg=1e-2, tolerance=1e-4, max_iterations=5000).plan()[0]
    assert torch.allclose(barycentric_projection(plan, xt), -1 + 6 * (xs - 2), atol=0.05)


def test_a_sample_without_mass_is_sent_nowhere_and_leaves_the_gradient_finite() -> None:
    xt = torch.eye(2).double().requires_grad_()
    plan = torch.tensor([[0.5, 0.5], [0.0, 0.0]]).double()
    moved = barycentric_projection(plan, xt)
    assert moved[0].tolist() == [0.5, 0.5]
    assert moved[1].isnan().all()
    moved[0].sum().backward()
    assert xt.grad is not None
    assert torch.allclose(xt.grad, torch.full((2, 2), 0.5).double())


def test_mass_between_labels_sums_to_the_shares_of_the_labels() -> None:
    ys, yt = torch.tensor([4, 0, 4, 9]), torch.tensor([1, 1, 0])
    plan = torch.from_numpy(DRAW.dirichlet(np.ones(12)).reshape(4, 3))
    mass = label_mass(plan, ys, yt)
    by_hand = [[float(plan[ys == k][:, yt == c].sum()) for c in (0, 1)] for k in (0, 4, 9)]
    assert mass.numpy() == pytest.approx(np.array(by_hand))
    assert float(mass.sum()) == pytest.approx(1.0)


def test_the_mass_of_a_copy_stays_on_its_own_labels_in_the_order_of_the_result() -> None:
    ys = torch.tensor([5, 2, 2, 5, 7, 7])
    xs = torch.from_numpy(DRAW.normal(size=(6, 3))) + 10 * ys[:, None]
    found = otdd(xs, ys, xs, 9 - ys, reg=0.01)
    mass = label_mass(found.plan(), ys, 9 - ys)
    assert (found.source_labels.tolist(), found.target_labels.tolist()) == ([2, 5, 7], [2, 4, 7])
    assert torch.allclose(mass, torch.eye(3).flip(1).double() / 3, atol=1e-3)


def test_plans_that_do_not_fit_or_are_no_plans_are_refused() -> None:
    plan, xt, y = torch.full((2, 3), 1 / 6), torch.zeros(3, 1), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(InputError, match=r"one column per target sample, \(2, 2\); got \(2, 3\)"):
        barycentric_projection(plan, xt[:2])
    with pytest.raises(InputError, match=r"expected \(m, d\), got \(3,\)"):
        barycentric_projection(plan, xt[:, 0])
    with pytest.raises(InputError, match="one row per source"):
        label_mass(plan, torch.zeros(3, dtype=torch.int64), y)
    for bad in (-1.0, torch.nan, torch.inf):
        with pytest.raises(InputError, match="expected finite numbers of at least 0"):
            barycentric_projection(plan * bad, xt)
