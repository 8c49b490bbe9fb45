"""Bures-Wasserstein distances against closed forms, POT and finite differences."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from orca.transport import Gaussians, bures_wasserstein
from orca.transport.cost import class_clouds
from orca.transport.gaussian import from_upper, nuclear_norm, pair_blocks


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(k: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    root = points(k, d, d + 2, seed=seed)
    return points(k, d, seed=seed + 100), root @ root.mT / d


def gaussians(x: Tensor, index: Tensor) -> Gaussians:
    return Gaussians.of_clouds(class_clouds(x, index, int(index.max()) + 1))


def two_sets(n: int, d: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return points(n, d), torch.arange(n) % 3, points(n + 5, d, seed=1) + 1, torch.arange(n + 5) % 2


def root(matrix: np.ndarray) -> np.ndarray:
    squares, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(squares.clip(min=0))) @ vectors.T


def by_definition(x: Tensor, index: Tensor, y: Tensor, other: Tensor) -> np.ndarray:
    """Squared distances from the class moments (1/n), one pair after the other; POT gives NaN for singular ones."""

    def pieces(z: Tensor, labels: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
        classes = [z[labels == c].numpy() for c in range(int(labels.max()) + 1)]
        return [(c.mean(0), np.cov(c.T, bias=True)) for c in classes]

    def distance(p: tuple[np.ndarray, np.ndarray], q: tuple[np.ndarray, np.ndarray]) -> float:
        mixed = root(root(p[1]) @ q[1] @ root(p[1]))
        return float(((p[0] - q[0]) ** 2).sum() + np.trace(p[1] + q[1] - 2 * mixed))

    return np.array([[distance(p, q) for q in pieces(y, other)] for p in pieces(x, index)])


def test_commuting_covariances_have_the_difference_of_roots():
    a, b = torch.tensor([4.0, 9.0]).double(), torch.tensor([1.0, 25.0]).double()
    m, n = torch.tensor([1.0, 2.0]).double(), torch.tensor([-2.0, 6.0]).double()
    turn = torch.linalg.qr(points(2, 2)).Q
    p = Gaussians.of_moments(m[None], (turn @ torch.diag(a) @ turn.T)[None])
    q = Gaussians.of_moments(n[None], (turn @ torch.diag(b) @ turn.T)[None])
    expected = 9 + 16 + (2 - 1) ** 2 + (3 - 5) ** 2
    assert bures_wasserstein(p, q).item() == pytest.approx(expected)


def test_two_single_points_at_distance_five_give_twenty_five():
    p = gaussians(torch.zeros(1, 2), torch.tensor([0]))
    q = gaussians(torch.tensor([[3.0, 4.0]]), torch.tensor([0]))
    for covariance in ("full", "diagonal"):
        assert bures_wasserstein(p, q, covariance=covariance).item() == pytest.approx(25)


def test_general_covariances_agree_with_pot():
    (m, a), (n, b) = moments(3, 4), moments(2, 4, seed=7)
    ours = bures_wasserstein(Gaussians.of_moments(m, a), Gaussians.of_moments(n, b))
    for i in range(3):
        for j in range(2):
            root = ot.gaussian.bures_wasserstein_distance(m[i].numpy(), n[j].numpy(), a[i].numpy(), b[j].numpy())
            assert ours[i, j].item() == pytest.approx(float(root) ** 2, rel=1e-8)


@pytest.mark.parametrize(("n", "d"), [(60, 4), (12, 4), (12, 30)])
def test_clouds_follow_the_definition_below_and_above_the_dimension(n: int, d: int):
    x, index, y, other = two_sets(n, d)
    ours = bures_wasserstein(gaussians(x, index), gaussians(y, other)).numpy()
    # roots of singular covariances are good to the root of the machine precision
    np.testing.assert_allclose(ours, by_definition(x, index, y, other), rtol=1e-6, atol=1e-6)


def test_factors_of_samples_and_moments_give_one_distance():
    x, index, y, other = two_sets(30, 3)
    p, q = gaussians(x, index), gaussians(y, other)
    by_moments = [Gaussians.of_moments(g.mean, g.factor.mT @ g.factor) for g in (p, q)]
    torch.testing.assert_close(bures_wasserstein(*by_moments), bures_wasserstein(p, q))


def test_compressed_factor_keeps_the_covariance():
    x = points(50, 3)
    p = gaussians(x, torch.zeros(50, dtype=torch.int64))
    assert p.factor.shape == (1, 3, 3)
    torch.testing.assert_close((p.factor.mT @ p.factor)[0], torch.cov(x.T, correction=0))
    torch.testing.assert_close(p.spread[0], torch.cov(x.T, correction=0).trace())


def test_diagonal_leaves_out_correlations():
    x, index, y, other = two_sets(40, 3)
    p, q = gaussians(x, index), gaussians(y, other)
    deviations = [
        torch.stack([z[i == c].std(0, correction=0) for c in range(int(i.max()) + 1)])
        for z, i in ((x, index), (y, other))
    ]
    expected = (p.mean[:, None] - q.mean).square().sum(-1) + (deviations[0][:, None] - deviations[1]).square().sum(-1)
    torch.testing.assert_close(bures_wasserstein(p, q, covariance="diagonal"), expected)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_a_set_with_itself_has_a_symmetric_table_with_zero_diagonal(covariance: str):
    x, index, _, _ = two_sets(30, 5)
    p = gaussians(x, index)
    table = bures_wasserstein(p, covariance=covariance)
    assert table.diagonal().abs().max() == 0
    torch.testing.assert_close(table, table.T)
    torch.testing.assert_close(table, bures_wasserstein(p, p, covariance=covariance), atol=1e-6, rtol=1e-6)


def test_one_class_with_itself_is_zero():
    assert bures_wasserstein(gaussians(points(4, 3), torch.zeros(4, dtype=torch.int64))).item() == 0


def test_moving_both_sets_changes_nothing_and_moving_one_adds_the_shift():
    x, index, _, _ = two_sets(24, 6)
    shift = torch.linspace(1, 2, 6).double()
    p, moved = gaussians(x, index), gaussians(x + shift, index)
    torch.testing.assert_close(bures_wasserstein(moved), bures_wasserstein(p), atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(
        bures_wasserstein(p, moved).diagonal(), shift.square().sum().expand(3), rtol=1e-6, atol=0
    )


def test_nuclear_norm_is_the_sum_of_singular_values():
    for shape in ((3, 4, 7), (3, 7, 4), (2, 2, 5, 5)):
        matrix = points(*shape)
        torch.testing.assert_close(nuclear_norm(matrix), torch.linalg.svdvals(matrix).sum(-1))
        torch.testing.assert_close(nuclear_norm(matrix.requires_grad_()), torch.linalg.svdvals(matrix).sum(-1))


def test_nuclear_norm_has_the_right_gradient():
    assert torch.autograd.gradcheck(nuclear_norm, (points(2, 3, 5).requires_grad_(),))
    assert torch.autograd.gradcheck(nuclear_norm, (points(2, 5, 3).requires_grad_(),))


def test_gradient_at_a_singular_matrix_is_the_least_subgradient():
    zero = torch.zeros(1, 3, 4, requires_grad=True)
    nuclear_norm(zero).sum().backward()
    assert zero.grad is not None
    assert zero.grad.abs().sum() == 0
    flat = torch.diag(torch.tensor([2.0, 0.0]))[None].requires_grad_()
    nuclear_norm(flat).sum().backward()
    torch.testing.assert_close(flat.grad, torch.diag(torch.tensor([1.0, 0.0]))[None])


@pytest.mark.parametrize(("covariance", "n", "d"), [("full", 14, 3), ("full", 8, 9), ("diagonal", 10, 3)])
def test_gradient_in_the_samples_agrees_with_finite_differences(covariance: str, n: int, d: int):
    x, index, y, other = two_sets(n, d)

    def tables(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        p, q = gaussians(x, index), gaussians(y, other)
        return bures_wasserstein(p, q, covariance=covariance), bures_wasserstein(p, covariance=covariance)

    assert torch.autograd.gradcheck(tables, (x.requires_grad_(), y.requires_grad_()), atol=1e-5, rtol=1e-3)


def test_gradient_in_the_moments_agrees_with_finite_differences():
    (m, a), (n, b) = moments(2, 3), moments(1, 3, seed=5)

    def table(m: Tensor, root: Tensor) -> Tensor:
        return bures_wasserstein(Gaussians.of_moments(m, root @ root.mT), Gaussians.of_moments(n, b))

    assert torch.autograd.gradcheck(table, (m.requires_grad_(), torch.linalg.cholesky(a).requires_grad_()))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("samples", [1, 4, 40])
def test_gradient_is_finite_where_gaussians_coincide(covariance: str, samples: int):
    x = points(samples, 6).repeat(2, 1).requires_grad_()
    index = torch.arange(2).repeat_interleave(samples)
    p, q = gaussians(x, index), gaussians(x.detach(), index)
    (bures_wasserstein(p, covariance=covariance) + bures_wasserstein(p, q, covariance=covariance)).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() < 1e-5


def test_equal_eigenvalues_have_a_finite_gradient():
    cov = torch.eye(4).double()[None].requires_grad_()
    zero = torch.zeros(1, 4).double()
    bures_wasserstein(Gaussians.of_moments(zero, cov), Gaussians.of_moments(zero, 4 * cov.detach())).sum().backward()
    # W^2 = tr (cov^1/2 - 2 I)^2, so the derivative is (I - 2 cov^-1/2) = -I
    torch.testing.assert_close(cov.grad, -torch.eye(4).double()[None])


def test_padding_and_order_change_nothing():
    x, index, y, other = two_sets(21, 5)
    table = bures_wasserstein(gaussians(x, index), gaussians(y, other))
    shuffled = torch.randperm(21, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(bures_wasserstein(gaussians(x[shuffled], index[shuffled]), gaussians(y, other)), table)
    extra = torch.cat([x, points(30, 5, seed=9)]), torch.cat([index, torch.full((30,), 3)])
    padded = bures_wasserstein(gaussians(*extra), gaussians(y, other))
    torch.testing.assert_close(padded[:3], table, rtol=1e-6, atol=1e-6)


def test_single_precision_is_near_double_precision():
    x, index, y, other = two_sets(40, 60)
    double = bures_wasserstein(gaussians(x, index), gaussians(y, other))
    single = bures_wasserstein(gaussians(x.float(), index), gaussians(y.float(), other))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-5)


def test_blocks_of_pairs_are_cut_and_put_back():
    table = torch.arange(24.0).reshape(4, 6)
    torch.testing.assert_close(pair_blocks(table, (2, 3), upper=False)[1], table[:2, 3:])
    torch.testing.assert_close(pair_blocks(table, (2, 3), upper=True), table[None, :2, 3:])
    assert from_upper(torch.tensor([1.0, 2.0, 3.0]), 3).tolist() == [[0, 1, 2], [1, 0, 3], [2, 3, 0]]


def test_distances_obey_the_triangle_inequality():
    mean, cov = moments(6, 3)
    distance = bures_wasserstein(Gaussians.of_moments(mean, cov)).sqrt()
    detours = distance[:, :, None] + distance[None]  # i to j to k
    assert (distance[:, None] <= detours + 1e-9).all()


def test_scaling_the_features_scales_the_squares():
    x, index, y, other = two_sets(30, 4)
    table = bures_wasserstein(gaussians(x, index), gaussians(y, other))
    for scale in (1e-6, 1e6):
        scaled = bures_wasserstein(gaussians(scale * x, index), gaussians(scale * y, other))
        torch.testing.assert_close(scaled / scale**2, table, rtol=1e-6, atol=1e-6)


def test_isotropic_gaussians_have_the_textbook_distance():
    mean, eye = torch.zeros(2, 5).double(), torch.eye(5).double()
    p = Gaussians.of_moments(mean, torch.stack([eye, 9 * eye]))
    torch.testing.assert_close(bures_wasserstein(p), 5 * 4 * (1 - torch.eye(2).double()))
