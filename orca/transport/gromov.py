"""Dataset distance between sets whose features live in different spaces: experimental.

Without a common space there is no distance between a source sample and a target sample. What remains are the relations
inside each set, and these are what fused Gromov-Wasserstein compares (Vayer et al. 2019, arXiv 1805.09114):

    FGW(S, T) = min_P (1 - alpha) sum_ij P_ij lambda_y V(y_i, y'_j)**p + alpha sum_ijkl P_ij P_kl (D_ik - D'_jl)**2
    D_ik**2 = lambda_x d(x_i, x_k)**p + lambda_y W(y_i, y_k)**p        (inside one set; D' likewise inside the other)

over couplings P of uniform weights. D is the root of the joint cost of ``otdd``: for p = 2 the metric whose transport
``otdd`` is. With the root both terms have the unit of that cost, so features that are scaled by c give a value scaled
by c**p; with the cost itself the second term would grow by c**(2 p), and alpha would mean something else at each scale.

V compares two labels of different spaces by shape alone. For ``gaussian`` it is the Bures distance of the class
covariances minimised over the isometries that bring one into the space of the other (the embedded Wasserstein distance
of Gaussians, Salmona, Delon and Desolneux 2024, arXiv 2310.11256). By von Neumann's trace inequality the minimum is
taken where the axes match in order of their spread:

    V**2 = sum_i (sqrt(lambda_i) - sqrt(mu_i))**2        eigenvalues in descending order, padded with zeros

(``covariance="diagonal"``: over permutations of the axes, with standard deviations in descending order.) The other
label distances have no such form: there V = 0, and labels count inside each set alone.

FGW is zero for sets that are equal up to an isometry and up to the names of their labels; it says nothing about *where*
a set lies. The problem is not convex: the value returned is that of a local minimum, the lower of two starts, and
``lower_bound`` says how much lower the global one could be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from orca.errors import InputError
from orca.transport.cost import pairwise_cost
from orca.transport.gaussian import Gaussians
from orca.transport.options import OTDDChanges, OTDDOptions
from orca.transport.statistics import SourceStatistics, checked, checked_weights, outer, statistics

LIMIT = 2000  # samples a side: memory grows with n^2, time with n^3
PIVOTS = 2_000_000  # most steps of the network simplex, which POT warns of when they do not suffice
GAIN = 1e-9  # a step that lowers the objective by a smaller share is the last


@dataclass(frozen=True)
class GromovResult:
    """A distance between sets of different spaces; the fields of ``OTDDResult``, as far as they make sense here.

    Attributes:
        value: FGW at the plan, scalar, unit of the features to the power p. Differentiable in both sets: the plan is
            held constant, which is exact wherever it is the minimum also for features nearby.
        lower_bound: no plan has a lower value than this; without gradient.
        label_distances: V**p between the labels of the sets, (K_s, K_t); zeros where V is not defined.
        source_labels: label of each row of ``label_distances``, (K_s,).
        target_labels: label of each column, (K_t,).
        marginal_error: largest L1 violation of the weights by the plan.
        iterations: steps of the conditional gradient.
        converged: whether it stopped by itself, at a local minimum.
        coupling: mass moved from each source sample to each target sample, (n, m).
    """

    value: Tensor
    lower_bound: float
    label_distances: Tensor
    source_labels: Tensor
    target_labels: Tensor
    marginal_error: float
    iterations: int
    converged: bool
    coupling: Tensor

    def plan(self) -> Tensor:
        """Mass moved from each source sample to each target sample, (n, m), without gradient; sums to 1."""
        return self.coupling


def gromov_otdd(
    xs: Tensor, ys: Tensor, xt: Tensor, yt: Tensor, *, alpha: float = 0.5, **options: Unpack[OTDDChanges]
) -> GromovResult:
    """Fused Gromov-Wasserstein distance of two labelled sets whose feature dimensions may differ; see the module.

    Computed on the CPU in float64, by POT's conditional gradient. Nothing is regularised, so there is nothing to
    debias: of ``options``, ``debias`` has no effect, ``reg`` and ``tolerance`` serve the label distance ``exact``
    inside the sets alone, and ``max_iterations`` limits the steps of the conditional gradient.

    Args:
        xs: source features, (n, d), floating point, at most 2,000 rows.
        ys: source labels, (n,), integers of at least 0.
        xt: target features, (m, e), at most 2,000 rows; e need not be d.
        yt: target labels, (m,).
        alpha: weight of the structure inside the sets, in (0, 1]; 1 - alpha is that of V between their labels.
        **options: fields of ``OTDDOptions``.

    Returns:
        Value, bound, label distances and plan, on the source's device and in its type.

    Raises:
        InputError: sets that are empty, not finite or too large; wrong labels, options or alpha.
    """
    chosen = replace(OTDDOptions(**options), debias=False)
    if not 0 < alpha <= 1:
        raise InputError(f"alpha: expected a number above 0 and at most 1, got {alpha}")
    source, target = _side(xs, ys, chosen, "source"), _side(xt, yt, chosen, "target")
    device, dtype = xs.device, xs.dtype
    table = _between(source, target, chosen)
    fused = chosen.lambda_y * table[source.side.index][:, target.side.index]  # (n, m), samples class by class
    inner = _structure(source), _structure(target)
    plan, bound, steps, done = _solve(fused, inner, alpha, chosen.max_iterations)
    value = _objective(fused, inner, alpha, plan)
    error = max(float((plan.sum(k) - 1 / plan.shape[1 - k]).abs().sum()) for k in (0, 1))
    plan = plan[torch.argsort(source.order)][:, torch.argsort(target.order)]
    return GromovResult(
        value.to(device, dtype), min(bound, float(value.detach())), table.to(device, dtype),
        source.labels.to(device), target.labels.to(device), error, steps, done, plan.to(device, dtype),
    )  # fmt: skip


def _side(x: Tensor, y: Tensor, options: OTDDOptions, which: str) -> SourceStatistics:
    x, y = checked(x, y, which)
    if len(x) > LIMIT:
        raise InputError(
            f"{which}: Gromov-Wasserstein takes at most {LIMIT} samples a side, its time grows with their cube; got "
            f"{len(x)}; draw fewer, or bring both sets into one space for the usual distance"
        )
    x = x.cpu().double()
    return statistics(x, y.cpu(), options, checked_weights(None, x, which))


def _structure(side: SourceStatistics) -> Tensor:
    """D inside one set, samples class by class, (n, n); derivative 0 where it is 0."""
    cost = outer(side.side, side.side, side.within, side.options).cost()
    apart = (cost > 0) & ~torch.eye(len(cost), dtype=torch.bool)
    return torch.where(apart, torch.where(apart, cost, 1).sqrt(), 0)


def _spread(g: Gaussians) -> Tensor:
    """Roots of the eigenvalues of each covariance, descending, (K, r)."""
    return torch.linalg.svdvals(g.factor)


def _axes(g: Gaussians) -> Tensor:
    """Standard deviations along the axes, descending, (K, d)."""
    return torch.linalg.vector_norm(g.factor, dim=1).sort(-1, descending=True).values


SHAPES: dict[tuple[str, str], Callable[[Gaussians], Tensor]] = {
    ("gaussian", "full"): _spread,
    ("gaussian", "diagonal"): _axes,
}


def _between(source: SourceStatistics, target: SourceStatistics, options: OTDDOptions) -> Tensor:
    """V**p between the labels of both sets, (K, L)."""
    shape = SHAPES.get((options.label_distance, options.covariance))
    if shape is None:
        return source.x.new_zeros(len(source.labels), len(target.labels))
    with torch.set_grad_enabled(torch.is_grad_enabled() and options.label_gradient):
        s, t = shape(source.description), shape(target.description)
        width = max(s.shape[1], t.shape[1])
        s, t = (torch.nn.functional.pad(v, (0, width - v.shape[1])) for v in (s, t))
        return pairwise_cost(s, t, options.p)


def _objective(fused: Tensor, inner: tuple[Tensor, Tensor], alpha: float, plan: Tensor) -> Tensor:
    """The function that is minimised, at a plan (n, m) held constant; its derivative is that of the minimum."""
    s, t = inner
    squares = (plan.sum(1) @ s.square() @ plan.sum(1)) + (plan.sum(0) @ t.square() @ plan.sum(0))
    return (1 - alpha) * (fused * plan).sum() + alpha * (squares - 2 * ((s @ plan @ t) * plan).sum())


@torch.no_grad()
def _solve(
    fused: Tensor, inner: tuple[Tensor, Tensor], alpha: float, max_iterations: int
) -> tuple[Tensor, float, int, bool]:
    """The better of the plans from two starts, with the lower bound, the steps taken and whether it converged."""
    import ot  # takes a second, and no other part of transport needs it

    scale = max(float(d.max()) for d in inner) or 1.0  # POT's stopping rule is absolute as well
    s, t = (d / scale for d in inner)
    m = fused / scale**2
    a, b = (np.full(len(d), 1 / len(d)) for d in inner)
    rows = (1 - alpha) * m + alpha * _profiles(s, t)
    start = ot.emd(a, b, rows.numpy(), numItermax=PIVOTS)
    bound = float((rows.numpy() * start).sum()) * scale**2
    found: list[tuple[float, Any, int]] = []
    for guess in (start, np.outer(a, b)):
        plan, log = ot.gromov.fused_gromov_wasserstein(
            m.numpy(), s.numpy(), t.numpy(), a, b, alpha=alpha, symmetric=True, G0=guess, log=True,
            max_iter=max_iterations, tol_rel=GAIN, tol_abs=GAIN, numItermaxEmd=PIVOTS,
        )  # fmt: skip
        found.append((float(log["loss"][-1]), plan, len(log["loss"]) - 1))
    _, plan, steps = min(found, key=lambda each: each[0])
    return torch.from_numpy(np.ascontiguousarray(plan)), bound, steps, steps < max_iterations


def _profiles(s: Tensor, t: Tensor) -> Tensor:
    """Squared 1-Wasserstein-2 distances between the rows of D (n, n) and of D' (m, m) as distributions, (n, m).

    The transport cost with these is a lower bound of the structure term (Memoli 2011, Foundations of Computational
    Mathematics 11, "third lower bound"), and its plan a start that finds isometric copies. Quantile functions are
    steps; they are compared on the common refinement of 1/n, 2/n, ... and 1/m, 2/m, ...
    """
    n, m = len(s), len(t)
    ends = torch.unique(torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]))  # in units of 1 / (n m)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    width = ((ends - starts).double() / (n * m)).sqrt()
    left = s.sort(1).values[:, torch.div(starts, m, rounding_mode="floor")] * width  # (n, steps)
    right = t.sort(1).values[:, torch.div(starts, n, rounding_mode="floor")] * width
    return pairwise_cost(left, right)
