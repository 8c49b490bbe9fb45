"""Distances between sets of different spaces: known answers, invariances, an independent solver, finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orca.errors import InputError
from orca.transport.gromov import LIMIT, _profiles, gromov_otdd

LABEL_DISTANCES = ("gaussian", "exact", "means", "none")


def a_set(n: int, d: int, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Classes of different shape, far from one another; float64."""
    draw = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = draw.normal(size=(n, d)) * (1 + y[:, None] * np.arange(1, d + 1)) + 4 * draw.normal(size=(classes, d))[y]
    return torch.from_numpy(x), torch.from_numpy(y)


def rotation(d: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0])


def bures(a: np.ndarray, b: np.ndarray) -> float:
    """Squared distance of centred Gaussians, by POT, which gives the root."""
    zero = np.zeros(len(a))
    return float(ot.gaussian.bures_wasserstein_distance(zero, zero, a, b)) ** 2


def covariances(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(3, 3)), draw.normal(size=(2, 2))
    return a @ a.T, b @ b.T


def cloud_of(cov: np.ndarray) -> Tensor:
    """Points whose covariance (over their number) is exactly this one."""
    d = len(cov)
    root = np.linalg.cholesky(cov)
    corners = np.concatenate([np.eye(d), -np.eye(d)]) * np.sqrt(d)
    return torch.from_numpy(corners @ root.T)


def label_table(a: Tensor, b: Tensor, **options) -> float:
    one = [torch.zeros(len(x), dtype=torch.int64) for x in (a, b)]
    return float(gromov_otdd(a, one[0], b, one[1], **options).label_distances)


def test_two_pairs_of_points_differ_by_the_gap_of_their_distances() -> None:
    xs, xt = torch.tensor([[0.0], [5.0]]).double(), torch.tensor([[1.0, 1.0], [1.0, 3.0]]).double()
    y = torch.tensor([0, 1])
    found = gromov_otdd(xs, y, xt, y, label_distance="none", alpha=1.0)
    assert float(found.value) == pytest.approx((5 - 2) ** 2 / 2)  # two of the four pairs of a coupling differ by 3
    assert found.lower_bound == pytest.approx((5 - 2) ** 2 / 2)
    assert found.converged
    assert found.marginal_error < 1e-12


def test_the_label_distance_is_the_least_bures_distance_over_isometries() -> None:
    a, b = covariances()
    embedded = 1e-12 * np.eye(3)  # POT takes the root of rounding errors of a zero
    embedded[:2, :2] += b
    turned = [bures(a, r @ embedded @ r.T) for r in (rotation(3, k).numpy() for k in range(300))]
    value, (la, va), (lb, vb) = label_table(cloud_of(a), cloud_of(b)), np.linalg.eigh(a), np.linalg.eigh(embedded)
    assert value == pytest.approx(sum((np.sqrt(la.clip(0)) - np.sqrt(lb.clip(0))) ** 2), rel=1e-5)
    assert value <= min(turned) + 1e-5
    matched = va @ vb.T  # takes the axes of the one to those of the other, in order
    assert value == pytest.approx(bures(a, matched @ embedded @ matched.T), rel=1e-5)
    assert label_table(cloud_of(a), cloud_of(b), p=1) == pytest.approx(np.sqrt(value))


def test_the_diagonal_label_distance_is_the_least_over_permutations_of_the_axes() -> None:
    a, b = covariances(1)
    sa, sb = np.sqrt(np.diag(a)), np.append(np.sqrt(np.diag(b)), 0)
    least = min(np.square(sa - np.array(p)).sum() for p in itertools.permutations(sb))
    assert label_table(cloud_of(a), cloud_of(b), covariance="diagonal") == pytest.approx(least)


@pytest.mark.parametrize("kind", ["exact", "means", "none"])
def test_label_distances_without_such_a_form_count_inside_the_sets_alone(kind: str) -> None:
    (xs, ys), (xt, yt) = a_set(12, 2), a_set(9, 4, seed=1)
    found = gromov_otdd(xs, ys, xt, yt, label_distance=kind, reg=1.0)
    assert not found.label_distances.any()
    assert found.label_distances.shape == (3, 3)
    alone = gromov_otdd(xs, ys, xt, yt, label_distance=kind, reg=1.0, lambda_y=0.0)
    assert (float(found.value) == pytest.approx(float(alone.value))) is (kind == "none")


@pytest.mark.parametrize("kind", LABEL_DISTANCES)
def test_a_turned_moved_embedded_and_reordered_copy_with_other_label_names_has_distance_zero(kind: str) -> None:
    xs, ys = a_set(20, 3)
    order = torch.from_numpy(np.random.default_rng(2).permutation(20))
    xt = (torch.cat([xs, torch.zeros(20, 2)], 1) @ rotation(5) + 7)[order]
    found = gromov_otdd(xs, ys, xt, (9 - 2 * ys)[order], label_distance=kind, reg=1.0)
    assert abs(float(found.value)) < 1e-8
    assert found.target_labels.tolist() == [5, 7, 9]
    assert torch.equal(found.plan().argmax(0), order)


def test_value_and_plan_agree_with_a_computation_from_the_definition() -> None:
    (xs, ys), (xt, yt) = a_set(14, 2), a_set(11, 4, seed=3)
    found = gromov_otdd(xs, ys, xt, yt, alpha=0.3, lambda_x=2.0, lambda_y=0.5, label_distance="means")
    inside = []
    for x, y in ((xs.numpy(), ys.numpy()), (xt.numpy(), yt.numpy())):
        means = np.stack([x[y == k].mean(0) for k in range(3)])
        inside.append(np.sqrt(2 * ot.dist(x) + 0.5 * ot.dist(means)[y][:, y]))
    plan, gap = found.plan().numpy(), inside[0][:, None, :, None] - inside[1][None, :, None, :]
    assert float(found.value) == pytest.approx(0.3 * np.einsum("ij,kl,ijkl->", plan, plan, gap**2))
    blind = ot.gromov.fused_gromov_wasserstein2(np.zeros((14, 11)), *inside, alpha=0.3)
    assert float(found.value) <= blind + 1e-9


def test_the_lower_bound_is_built_of_exact_distances_between_rows() -> None:
    s, t = (torch.from_numpy(np.random.default_rng(n).exponential(size=(n, n))) for n in (6, 4))
    by_hand = [[ot.wasserstein_1d(a, b, p=2) for b in t.numpy()] for a in s.numpy()]
    assert _profiles(s, t).numpy() == pytest.approx(np.array(by_hand))


def test_no_permutation_is_below_the_lower_bound() -> None:
    (xs, ys), (xt, yt) = a_set(6, 2), a_set(6, 3, seed=5)
    found = gromov_otdd(xs, ys, xt, yt, alpha=1.0, label_distance="none")
    s, t = ot.dist(xs.numpy(), metric="euclidean"), ot.dist(xt.numpy(), metric="euclidean")
    best = min(np.square(s - t[np.ix_(p, p)]).mean() for p in map(list, itertools.permutations(range(6))))
    assert 0 < found.lower_bound <= best
    assert found.lower_bound <= float(found.value) <= 1.2 * best


def test_the_distance_is_symmetric_and_scales_with_the_power_of_the_cost() -> None:
    (xs, ys), (xt, yt) = a_set(15, 2), a_set(15, 3, seed=4)
    for p in (1, 2):
        value = float(gromov_otdd(xs, ys, xt, yt, p=p).value)
        assert float(gromov_otdd(xt, yt, xs, ys, p=p).value) == pytest.approx(value)
        for scale in (1e-6, 1e6):
            assert float(gromov_otdd(xs * scale, ys, xt * scale, yt, p=p).value) == pytest.approx(value * scale**p)


def test_the_gradient_to_both_sets_is_that_of_finite_differences() -> None:
    (xs, ys), (xt, yt) = a_set(8, 2), a_set(7, 3, seed=6)
    xs.requires_grad_()
    xt.requires_grad_()
    gromov_otdd(xs, ys, xt, yt).value.backward()
    assert xs.grad is not None
    assert xt.grad is not None
    for which, x, grad in ((0, xs, xs.grad), (1, xt, xt.grad)):
        for i, k in ((0, 0), (3, 1), (6, 0)):
            sides = []
            for step in (1e-5, -1e-5):
                moved = [xs.detach().clone(), xt.detach().clone()]
                moved[which][i, k] += step
                sides.append(float(gromov_otdd(moved[0], ys, moved[1], yt).value))
            assert float(grad[i, k]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-5), x.shape


def test_the_gradient_is_finite_where_points_coincide_and_stops_at_the_labels_when_asked() -> None:
    (xs, ys), (xt, yt) = a_set(9, 2), a_set(9, 2, seed=7)
    twice = torch.cat([xs, xs]).requires_grad_()
    gromov_otdd(twice, torch.cat([ys, ys]), xt, yt).value.backward()
    assert twice.grad is not None
    assert twice.grad.isfinite().all()
    held = xs.clone().requires_grad_()
    gromov_otdd(held, ys, xt, yt, lambda_x=0.0, label_gradient=False).value.backward()
    assert held.grad is not None
    assert not held.grad.any()


def test_single_precision_comes_back_as_single_precision() -> None:
    (xs, ys), (xt, yt) = a_set(15, 2), a_set(12, 3, seed=4)
    found = gromov_otdd(xs.float(), ys, xt.float(), yt)
    assert found.value.dtype == found.plan().dtype == found.label_distances.dtype == torch.float32
    assert float(found.value) == pytest.approx(float(gromov_otdd(xs, ys, xt, yt).value), rel=1e-4)


@given(
    n=st.integers(1, 7), m=st.integers(1, 7), d=st.integers(1, 3), e=st.integers(1, 3), seed=st.integers(0, 99),
    kind=st.sampled_from(LABEL_DISTANCES), alpha=st.sampled_from([0.1, 0.5, 1.0]),
)  # fmt: skip
def test_the_plan_is_a_coupling_and_the_value_lies_above_the_bound(
    n: int, m: int, d: int, e: int, seed: int, kind: str, alpha: float
) -> None:
    draw = np.random.default_rng(seed)
    xs, xt = (torch.from_numpy(draw.integers(0, 3, size).astype(float)) for size in ((n, d), (m, e)))
    ys, yt = (torch.from_numpy(draw.integers(0, 2, size)) for size in (n, m))
    found = gromov_otdd(xs, ys, xt, yt, label_distance=kind, alpha=alpha, reg=0.5)
    assert torch.allclose(found.plan().sum(1), torch.full((n,), 1 / n).double())
    assert torch.allclose(found.plan().sum(0), torch.full((m,), 1 / m).double())
    assert -1e-9 <= found.lower_bound <= float(found.value) + 1e-9


def test_what_is_too_large_or_wrong_is_refused() -> None:
    x, y = a_set(6, 2)
    many = torch.zeros(LIMIT + 1, 1)
    with pytest.raises(InputError, match="target: Gromov-Wasserstein takes at most 2000 samples a side"):
        gromov_otdd(x, y, many, torch.zeros(LIMIT + 1, dtype=torch.int64))
    for alpha in (0.0, 1.1, float("nan")):
        with pytest.raises(InputError, match="alpha: expected a number above 0 and at most 1"):
            gromov_otdd(x, y, x, y, alpha=alpha)
    with pytest.raises(InputError, match="source features: expected finite numbers"):
        gromov_otdd(x * torch.nan, y, x, y)
    with pytest.raises(InputError, match="there is no label distance 'gauss'"):
        gromov_otdd(x, y, x, y, label_distance="gauss")
