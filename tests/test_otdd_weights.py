"""Weights of samples in the dataset distance: at least 0, scaled to sum 1, and nothing but repeated samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orca.errors import InputError
from orca.transport import LABEL_DISTANCES, OTDDOptions, SourceStatistics, otdd
from orca.types import LabeledSet

KINDS = LABEL_DISTANCES.names()
TIGHT: dict[str, Any] = {"tolerance": 1e-11, "max_iterations": 20_000}
Sets = tuple[Tensor, Tensor, Tensor, Tensor]


def labelled(n: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    means = torch.randn(classes, 3, generator=generator, dtype=torch.float64)
    return means[y] + 0.5 * torch.randn(n, 3, generator=generator, dtype=torch.float64), y


def two_sets() -> Sets:
    return *labelled(17, 3, 0), *labelled(14, 2, 1)


def drawn(n: int, seed: int = 0) -> Tensor:
    return 0.2 + torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def solved(sets: Sets, a: Tensor | None, b: Tensor | None, **options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, label distances and the gradients to both sets."""
    xs, xt = sets[0].clone().requires_grad_(), sets[2].clone().requires_grad_()
    result = otdd(xs, sets[1], xt, sets[3], a=a, b=b, **{"reg": 2.0, **TIGHT, **options})
    assert result.converged
    result.value.backward()
    assert xs.grad is not None
    assert xt.grad is not None
    return result.value.detach(), result.label_distances.detach(), xs.grad, xt.grad


@st.composite
def counts(draw: st.DrawFn, n: int) -> Tensor:
    """How often each of n samples occurs: some never, not all of them never."""
    made = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(any))
    return torch.tensor(made)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    data=st.data(), n=st.integers(1, 20), m=st.integers(1, 20), kind=st.sampled_from(KINDS), p=st.sampled_from([1, 2]),
    debias=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_weights_are_repeated_samples(data: st.DataObject, n: int, m: int, kind: str, p: int, debias: bool, seed: int):  # noqa: FBT001, PLR0913
    sets = *labelled(n, 3, seed), *labelled(m, 2, seed + 1)
    a, b = data.draw(counts(n)), data.draw(counts(m))
    options: dict[str, Any] = {"label_distance": kind, "p": p, "debias": debias, "reg": 3.0, **TIGHT}
    repeated = tuple(t.repeat_interleave(c, 0) for t, c in zip(sets, (a, a, b, b), strict=True))
    expected = otdd(*repeated, **options)
    result = otdd(*sets, a=a, b=b, **options)
    torch.testing.assert_close(result.value, expected.value, rtol=1e-7, atol=1e-7)
    here = [torch.isin(result.source_labels, repeated[1]), torch.isin(result.target_labels, repeated[3])]
    torch.testing.assert_close(
        result.label_distances[here[0]][:, here[1]], expected.label_distances, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_equal_weights_are_as_none(kind: str):
    sets = two_sets()
    plain = solved(sets, None, None, label_distance=kind)
    equal = solved(sets, torch.ones(17), torch.full((14,), 0.3), label_distance=kind)
    for got, expected in zip(equal, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)


def test_weights_are_scaled_to_sum_one_whatever_their_type():
    sets, a, b = two_sets(), torch.arange(17) + 1, torch.arange(14) + 1
    whole = solved(sets, a, b)
    scaled = solved(sets, 1e6 * a.double(), 1e-6 * b.double())
    for got, expected in zip(scaled, whole, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_weight_zero_changes_nothing_and_feels_nothing(kind: str, p: int):
    xs, ys, xt, yt = two_sets()
    a, b, zero = drawn(17), drawn(14, 1), torch.zeros(2).double()
    bare = solved((xs, ys, xt, yt), a, b, label_distance=kind, p=p)
    far = torch.tensor([[30.0, 0.0, 0.0], [0.0, -20.0, 5.0]]).double()
    more = torch.cat([xs, far]), torch.cat([ys, ys[:2]]), torch.cat([far, xt]), torch.cat([yt[:2], yt])
    value, table, to_source, to_target = solved(
        more, torch.cat([a, zero]), torch.cat([zero, b]), label_distance=kind, p=p
    )
    torch.testing.assert_close(value, bare[0], rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(table, bare[1], rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(to_source[:17], bare[2], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(to_target[2:], bare[3], rtol=1e-5, atol=1e-7)
    assert to_source[17:].abs().max() == 0
    assert to_target[:2].abs().max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_of_weight_zero_changes_nothing(kind: str):
    sets = xs, ys, xt, yt = two_sets()
    a, b = drawn(17) * (ys != 1), drawn(14, 1)
    value, _, to_source, to_target = solved(sets, a, b, label_distance=kind)
    without = solved((xs[ys != 1], ys[ys != 1], xt, yt), a[ys != 1], b, label_distance=kind)
    torch.testing.assert_close(value, without[0], rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(to_target, without[3], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(to_source[ys != 1], without[2], rtol=1e-5, atol=1e-7)
    assert to_source[ys == 1].abs().max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_all_weight_on_two_samples_at_distance_five_gives_the_two_points(kind: str):
    xs, ys, xt, yt = two_sets()
    xt[3] = xs[5] + torch.tensor([3.0, 0.0, 4.0])
    a, b = torch.zeros(17).index_fill(0, torch.tensor(5), 1.0), torch.zeros(14).index_fill(0, torch.tensor(3), 1.0)
    value = otdd(xs, ys, xt, yt, a=a, b=b, label_distance=kind, reg=1.0).value.item()
    assert value == pytest.approx(25 if kind == "none" else 50, rel=1e-9)


@pytest.mark.parametrize("kind", ["gaussian", "means", "none"])
def test_small_regularisation_agrees_with_the_exact_solver_of_pot(kind: str):
    """OT <= OT_eps <= OT + eps times the entropy of a marginal, with class moments from NumPy."""
    sets, a, b, eps = two_sets(), drawn(17), drawn(14, 1), 0.02
    xs, ys, xt, yt = (t.numpy() for t in sets)
    u, v = (a / a.sum()).numpy(), (b / b.sum()).numpy()

    def moments(x: Any, w: Any) -> tuple[Any, Any]:
        return np.average(x, 0, w), np.cov(x.T, aweights=w, bias=True)

    def between(c: int, k: int) -> float:
        (m, s), (n, t) = moments(xs[ys == c], u[ys == c]), moments(xt[yt == k], v[yt == k])
        gaussian = float(ot.gaussian.bures_wasserstein_distance(m, n, s, t)) ** 2
        return {"gaussian": gaussian, "means": float(((m - n) ** 2).sum()), "none": 0.0}[kind]

    table = np.array([[between(c, k) for k in range(2)] for c in range(3)])
    cost = ((xs[:, None] - xt[None]) ** 2).sum(-1) + table[ys][:, yt]
    result = otdd(*sets, a=a, b=b, label_distance=kind, reg=eps, debias=False, tolerance=1e-6, max_iterations=20_000)
    np.testing.assert_allclose(result.label_distances.numpy(), table, rtol=1e-7, atol=1e-12)
    exactly = float(ot.emd2(u, v, cost))
    assert exactly - 1e-5 <= result.value.item() <= exactly - eps * float((v * np.log(v)).sum()) + 1e-5
    assert float((result.plan().numpy() * cost).sum()) == pytest.approx(exactly, rel=1e-2)


def test_the_plan_couples_the_two_weighted_measures():
    sets, a, b = two_sets(), drawn(17), drawn(14, 1)
    a[4] = b[7] = 0
    plan = otdd(*sets, a=a, b=b, reg=1.0, **TIGHT).plan()
    torch.testing.assert_close(plan.sum(1), a / a.sum())
    torch.testing.assert_close(plan.sum(0), b / b.sum())
    assert plan[4].abs().sum() == plan[:, 7].abs().sum() == 0


@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_slope_agrees_with_the_central_difference(kind: str, debias: bool):  # noqa: FBT001
    sets, a, b, step = two_sets(), drawn(17), drawn(14, 1), 1e-5
    along = [torch.randn(x.shape, generator=torch.Generator().manual_seed(7)).double() for x in (sets[0], sets[2])]

    def moved(t: float) -> Sets:
        return sets[0] + t * along[0], sets[1], sets[2] + t * along[1], sets[3]

    _, _, to_source, to_target = solved(sets, a, b, label_distance=kind, debias=debias)
    slope = ((to_source * along[0]).sum() + (to_target * along[1]).sum()).item()
    values = [solved(moved(t), a, b, label_distance=kind, debias=debias)[0].item() for t in (step, -step)]
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-6)


def test_statistics_of_a_weighted_source_equal_a_fresh_computation():
    xs, ys, xt, yt = two_sets()
    a, b = drawn(17), drawn(14, 1)
    source = SourceStatistics.of(LabeledSet(xs, ys), OTDDOptions(reg=2.0), weights=a)
    torch.testing.assert_close(
        otdd(xs, ys, xt, yt, b=b, source=source).value, otdd(xs, ys, xt, yt, a=a, b=b, reg=2.0).value
    )
    with pytest.raises(InputError, match="hold the weights of the source"):
        otdd(xs, ys, xt, yt, a=a, source=source)


def root(matrix: Tensor) -> Tensor:
    squares, vectors = torch.linalg.eigh(matrix)
    return (vectors * squares.sqrt()) @ vectors.T


def quadrature(nodes: int, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Points (nodes^2, 2) and weights that integrate against a Gaussian as Gauss and Hermite do."""
    point, weight = np.polynomial.hermite_e.hermegauss(nodes)
    x, w = torch.from_numpy(point), torch.from_numpy(weight)
    return mean + torch.cartesian_prod(x, x) @ root(covariance), torch.cartesian_prod(w, w).prod(1)


def entropic(m: Tensor, a: Tensor, n: Tensor, b: Tensor, eps: float) -> float:
    """OT_eps of N(m, a) and N(n, b) for the cost |x - y|^2 (Janati et al. 2020, arXiv 2006.02572, theorem 1)."""
    s, eye = eps / 2, torch.eye(len(a)).double()
    d = root(4 * root(a) @ b @ root(a) + s**2 * eye)
    value = (m - n).square().sum() + (a + b - d).trace() + len(a) * s * (1 - math.log(2 * s))
    return (value + s * torch.logdet(d + s * eye)).item()


@pytest.mark.parametrize("eps", [1.0, 4.0])
@pytest.mark.parametrize("commuting", [True, False])
def test_two_gaussian_classes_have_their_closed_form_for_features_and_labels(eps: float, commuting: bool):  # noqa: FBT001
    m, n = torch.tensor([0.5, -1.0]).double(), torch.tensor([-0.5, 0.0]).double()
    a, b = torch.tensor([[1.0, 0.0], [0.0, 0.4]]).double(), torch.tensor([[0.5, 0.3], [0.3, 0.8]]).double()
    b = torch.diag(b.diagonal()) if commuting else b
    (x, u), (z, v) = quadrature(14, m, a), quadrature(14, n, b)
    one = torch.zeros(len(x), dtype=torch.int64)
    result = otdd(x, one, z, one, a=u, b=v, reg=eps, **TIGHT)
    label = ((m - n).square().sum() + (a + b - 2 * root(root(a) @ b @ root(a))).trace()).item()
    assert result.label_distances.item() == pytest.approx(label, rel=1e-9)
    features = entropic(m, a, n, b, eps) - entropic(m, a, m, a, eps) / 2 - entropic(n, b, n, b, eps) / 2
    assert result.value.item() == pytest.approx(features + label, rel=1e-4)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (torch.ones(13), r"weights: expected a tensor \(14,\)"),
        (torch.ones(14, 1), r"weights: expected a tensor \(14,\)"),
        ([1.0] * 14, "weights: expected a tensor"),
        (torch.arange(14) - 1.0, "of at least 0"),
        (torch.zeros(14), "not all 0"),
        (torch.full((14,), math.nan), "finite"),
        (torch.full((14,), math.inf), "finite"),
    ],
)
def test_wrong_weights_are_an_error_that_names_their_set(weights: Any, said: str):
    xs, ys, xt, yt = two_sets()
    with pytest.raises(InputError, match=f"target {said}" if said.startswith("weights") else said):
        otdd(xs, ys, xt, yt, b=weights)
    with pytest.raises(InputError, match="source weights"):
        otdd(xt, yt, xs, ys, a=weights)
