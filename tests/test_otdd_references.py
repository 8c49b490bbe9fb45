"""The dataset distance against computations that share no code with it: POT, geomloss, NumPy and closed forms."""

from __future__ import annotations

import math
from typing import Any

import geomloss
import numpy as np
import ot
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from orca.transport import OTDDOptions, SourceStatistics, otdd, otdd_classwise
from orca.types import LabeledSet

Array = NDArray[np.float64]
TIGHT: dict[str, Any] = {"tolerance": 1e-11, "max_iterations": 20_000}
KINDS = ("gaussian", "exact", "means", "none")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_sets() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Classes of 8, 6, 4 and of 9, 5 samples in 3 dimensions: every class has a covariance of full rank."""
    ys, yt = (torch.repeat_interleave(torch.arange(len(n)), torch.tensor(n)) for n in ((8, 6, 4), (9, 5)))
    return normal(3, 3)[ys] + 0.5 * normal(18, 3, seed=1), ys, normal(2, 3, seed=2)[yt] + normal(14, 3, seed=3), yt


# ---- the same quantities, written apart


def ground(x: Array, z: Array, p: int) -> Array:
    return ((x[:, None] - z[None]) ** 2).sum(-1) ** (p / 2)


def entropic(cost: Array, eps: float) -> float:
    """<P, C> + eps KL(P | a x b) at POT's plan P between uniform measures."""
    a, b = (np.full(size, 1 / size) for size in cost.shape)
    plan = ot.sinkhorn(a, b, cost, eps, method="sinkhorn_log", stopThr=1e-10, numItermax=10_000)
    return float((plan * cost).sum() + eps * (plan * np.log(plan / (a[:, None] * b))).sum())


def divergence(costs: tuple[Array, Array, Array], eps: float) -> float:
    cross, first, second = (entropic(cost, eps) for cost in costs)
    return cross - first / 2 - second / 2


def gaussian(x: Array, z: Array, p: int, eps: float) -> float:
    covariances = (np.cov(c.T, bias=True) for c in (x, z))
    return float(ot.gaussian.bures_wasserstein_distance(x.mean(0), z.mean(0), *covariances)) ** p


def exact(x: Array, z: Array, p: int, eps: float) -> float:
    return divergence((ground(x, z, p), ground(x, x, p), ground(z, z, p)), eps)


def means(x: Array, z: Array, p: int, eps: float) -> float:
    return float(np.linalg.norm(x.mean(0) - z.mean(0)) ** p)


def none(x: Array, z: Array, p: int, eps: float) -> float:
    return 0.0


BETWEEN_CLASSES = {"gaussian": gaussian, "exact": exact, "means": means, "none": none}


def tables(sets: tuple[Tensor, ...], kind: str, p: int, eps: float) -> list[Array]:
    """W**p between the classes of both sets and within each, by POT or NumPy, one pair after the other."""
    xs, ys, xt, yt = (t.numpy() for t in sets)
    classes = [[x[y == c] for c in np.unique(y)] for x, y in ((xs, ys), (xt, yt))]
    pairs = ((classes[0], classes[1]), (classes[0], classes[0]), (classes[1], classes[1]))

    def value(c: Array, k: Array) -> float:
        return 0.0 if c is k else BETWEEN_CLASSES[kind](c, k, p, eps)

    return [np.array([[value(c, k) for k in second] for c in first]) for first, second in pairs]


def augmented(sets: tuple[Tensor, ...], labels: list[Array], p: int) -> tuple[Array, Array, Array]:
    """d(x, x')**p + W(y, y')**p between the sets and within each; labels count from 0."""
    xs, ys, xt, yt = (t.numpy() for t in sets)
    sides = ((xs, ys, xt, yt), (xs, ys, xs, ys), (xt, yt, xt, yt))
    made = [ground(x, z, p) + w[y][:, v] for (x, y, z, v), w in zip(sides, labels, strict=True)]
    return made[0], made[1], made[2]


# ---- POT


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_label_distances_are_those_of_pot(kind: str, p: int):
    sets = two_sets()
    labels = tables(sets, kind, p, eps=2.0)
    costs = augmented(sets, labels, p)
    result = otdd(*sets, label_distance=kind, p=p, reg=3.0, label_reg=2.0, **TIGHT)
    np.testing.assert_allclose(result.label_distances.numpy(), labels[0], rtol=1e-7, atol=1e-9)
    assert result.value.item() == pytest.approx(divergence(costs, 3.0), rel=1e-7)
    biased = otdd(*sets, label_distance=kind, p=p, reg=3.0, label_reg=2.0, debias=False, **TIGHT)
    assert biased.value.item() == pytest.approx(entropic(costs[0], 3.0), rel=1e-7)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_small_regularisation_is_between_the_exact_cost_of_pot_and_that_plus_its_entropy(kind: str, p: int):
    """OT <= OT_eps <= OT + eps log min(n, m), as KL(P | a x b) is between 0 and the entropy of either marginal."""
    sets, eps = two_sets(), 0.02
    cost = augmented(sets, tables(sets, kind, p, eps=2.0), p)[0]
    exactly = float(ot.emd2(np.full(18, 1 / 18), np.full(14, 1 / 14), cost))
    stopping: dict[str, Any] = {"tolerance": 1e-6, "max_iterations": 20_000}
    result = otdd(*sets, label_distance=kind, p=p, reg=eps, label_reg=2.0, debias=False, **stopping)
    assert exactly - 1e-5 <= result.value.item() <= exactly + eps * math.log(14) + 1e-5
    moved = float((result.plan().numpy() * cost).sum())
    assert exactly - 1e-5 <= moved <= result.value.item() + 1e-5
    assert moved == pytest.approx(exactly, rel=1e-2)


def test_label_distances_are_the_squares_of_the_distances_of_gaussians_in_pot():
    sets = two_sets()
    expected = tables(sets, "gaussian", 2, eps=1.0)
    np.testing.assert_allclose(otdd(*sets).label_distances.numpy(), expected[0], rtol=1e-8)
    np.testing.assert_allclose(SourceStatistics.of(LabeledSet(*sets[:2])).within.numpy(), expected[1], atol=1e-9)


def test_gradient_is_that_of_pot_with_the_envelope_theorem():
    xs, ys, xt, yt = sets = two_sets()
    label = torch.from_numpy(tables(sets, "gaussian", 2, eps=1.0)[0])[ys][:, yt]
    there = xt.clone().requires_grad_()
    cost = (xs[:, None] - there[None]).square().sum(-1) + label
    ot.solve(cost, reg=1.0, reg_type="KL", grad="envelope", tol=1e-12, max_iter=20_000).value.backward()
    ours = xt.clone().requires_grad_()
    otdd(xs, ys, ours, yt, reg=1.0, debias=False, label_gradient=False, **TIGHT).value.backward()
    torch.testing.assert_close(ours.grad, there.grad, rtol=1e-6, atol=1e-9)


# ---- the convention of the ORCA reference: cost |x - z|^2 / 2 + W / 2, eps 0.1, W and distance debiased


def written_down() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    xs = torch.tensor([[0.0, 0.0], [0.5, 0.1], [0.1, 0.4], [0.8, 0.4], [0.5, 0.9], [1.0, 0.7]]).double()
    xt = torch.tensor([[0.3, -0.2], [0.6, 0.1], [0.7, 0.5], [0.4, 0.7], [0.9, 0.3]]).double()
    return xs, torch.tensor([0, 0, 0, 1, 1, 1]), xt, torch.tensor([0, 0, 1, 1, 1])


def by_geomloss(sets: tuple[Tensor, ...], labels: list[Array]) -> Tensor:
    """The reference's own solver, geomloss's tensorised SamplesLoss with blur sqrt(0.1), but close to convergence."""
    xs, ys, xt, yt = sets
    block = torch.from_numpy(np.block([[labels[1], labels[0]], [labels[0].T, labels[2]]]))

    def cost(x: Tensor, z: Tensor) -> Tensor:
        features = (x[..., :-1][:, :, None] - z[..., :-1][:, None]).square().sum(-1)
        return features / 2 + block[x[0, :, -1].long()][:, z[0, :, -1].long()] / 2

    options: dict[str, Any] = {"blur": math.sqrt(0.1), "diameter": 0.35, "scaling": 0.9999}  # 1,000 updates
    loss = geomloss.SamplesLoss(p=2, debias=True, cost=cost, backend="tensorized", **options)
    return loss(*(torch.cat([x, y[:, None].double()], 1) for x, y in ((xs, ys), (xt, yt + len(labels[1])))))


JOINT, CLASSWISE = 0.0780738703, 0.2253635996


def test_value_is_twice_that_of_the_reference_at_twice_its_regularisation():
    """The reference: inner cost |x - x'|^2 with eps 0.1, outer cost half of both parts with eps 0.1."""
    sets = written_down()
    labels = tables(sets, "exact", 2, eps=0.1)
    ours = otdd(*sets, label_distance="exact", label_reg=0.1, reg=0.2, **TIGHT)
    assert ours.value.item() / 2 == pytest.approx(JOINT, rel=1e-6)
    halves = augmented(sets, labels, 2)
    assert divergence((halves[0] / 2, halves[1] / 2, halves[2] / 2), 0.1) == pytest.approx(JOINT, rel=1e-6)
    assert by_geomloss(sets, labels).item() == pytest.approx(JOINT, rel=1e-4)


def one_class(sets: tuple[Tensor, ...], c: int) -> tuple[Tensor, ...]:
    xs, ys, xt, yt = sets
    return xs, ys, xt[yt == c], 0 * yt[yt == c]


def test_loop_over_classes_is_twice_that_of_the_reference_at_twice_its_regularisation():
    sets = written_down()
    options = OTDDOptions(label_distance="exact", label_reg=0.1, reg=0.2, **TIGHT)
    ours = otdd_classwise(SourceStatistics.of(LabeledSet(*sets[:2]), options), *sets[2:])
    assert ours.value.item() / 2 == pytest.approx(CLASSWISE, rel=1e-6)
    alone = [one_class(sets, c) for c in (0, 1)]
    values = [by_geomloss(one, tables(one, "exact", 2, eps=0.1)).item() for one in alone]
    assert 0.4 * values[0] + 0.6 * values[1] == pytest.approx(CLASSWISE, rel=1e-4)


def gradient_by_geomloss(sets: tuple[Tensor, ...], labels: list[Array]) -> Tensor:
    moving = sets[2].clone().requires_grad_()
    by_geomloss((sets[0], sets[1], moving, sets[3]), labels).backward()
    assert moving.grad is not None
    return 2 * moving.grad


def swapped(labels: list[Array]) -> list[Array]:
    """Wrong label distances between the sets: those of the other source class."""
    return [labels[0][::-1], *labels[1:]]


def test_classwise_gradient_is_that_of_the_reference_whatever_its_label_distances():
    sets = written_down()
    options = OTDDOptions(label_distance="exact", label_reg=0.1, reg=0.2, **TIGHT)
    moving = sets[2].clone().requires_grad_()
    otdd_classwise(SourceStatistics.of(LabeledSet(*sets[:2]), options), moving, sets[3]).value.backward()
    assert moving.grad is not None
    for c, share in ((0, 0.4), (1, 0.6)):
        one = one_class(sets, c)
        labels = tables(one, "exact", 2, eps=0.1)
        for given in (labels, swapped(labels)):
            theirs = share * gradient_by_geomloss(one, given)
            torch.testing.assert_close(moving.grad[sets[3] == c], theirs, rtol=1e-3, atol=1e-4)


def test_joint_gradient_is_that_of_the_reference_solver_and_depends_on_the_label_distances():
    sets = written_down()
    labels = tables(sets, "exact", 2, eps=0.1)
    moving = sets[2].clone().requires_grad_()
    options: dict[str, Any] = {"label_distance": "exact", "label_reg": 0.1, "label_gradient": False}
    otdd(sets[0], sets[1], moving, sets[3], reg=0.2, **options, **TIGHT).value.backward()
    torch.testing.assert_close(moving.grad, gradient_by_geomloss(sets, labels), rtol=1e-3, atol=1e-4)
    other = gradient_by_geomloss(sets, swapped(labels))
    assert (other - moving.grad).norm() > 0.01 * other.norm()


# ---- Gaussians in closed form


def whitened(n: int, d: int, seed: int = 0) -> Tensor:
    """Samples (n, d) of mean 0 and covariance I (over n), up to rounding."""
    x = normal(n, d, seed=seed)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / n)).T


def root(matrix: Tensor) -> Tensor:
    squares, vectors = torch.linalg.eigh(matrix)
    return (vectors * squares.sqrt()) @ vectors.T


def between_gaussians(m: Tensor, a: Tensor, n: Tensor, b: Tensor) -> float:
    mixed = root(root(a) @ b @ root(a))
    return ((m - n).square().sum() + (a + b - 2 * mixed).trace()).item()


def random_covariance(d: int, seed: int) -> Tensor:
    factor = normal(d, d + 2, seed=seed)
    return factor @ factor.T / d


def test_label_distances_of_commuting_gaussians_are_the_differences_of_their_deviations():
    turn, z = torch.linalg.qr(normal(3, 3)).Q, torch.zeros(40, dtype=torch.int64)
    shift = torch.tensor([3.0, 0.0, -4.0]).double()
    deviations = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([4.0, 2.0, 0.5]).double()
    xs, xt = ((whitened(40, 3, seed) * s) @ turn.T for seed, s in enumerate(deviations))
    expected = 25 + 9 + 0 + 6.25
    assert otdd(xs, z, xt + shift, z).label_distances.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d", [2, 5])
def test_label_distances_of_general_gaussians_are_their_closed_form_for_every_pair_of_classes(d: int):
    moments = [(normal(d, seed=10 + k), random_covariance(d, 20 + k)) for k in range(5)]
    clouds = [m + whitened(8 * d, d, seed=k) @ root(a) for k, (m, a) in enumerate(moments)]
    y = torch.arange(5).repeat_interleave(8 * d)
    x, cut = torch.cat(clouds), 3 * 8 * d
    table = otdd(x[:cut], y[:cut], x[cut:], y[cut:], reg=5.0).label_distances
    for c in range(3):
        for k in (3, 4):
            expected = between_gaussians(*moments[c], *moments[k])
            assert table[c, k - 3].item() == pytest.approx(expected, rel=1e-8)
