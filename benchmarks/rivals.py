"""The two things that a user would otherwise do for one alignment epoch, at the same eps, on the same numbers.

Both take one target class after the other against the whole source, as the ORCA reference does, and sum the values with
the classes' shares; the gradient goes to the target's features. Both are given the label distances, found by Orca and
not timed, so that only the outer problem is compared.

``geomloss``: ``SamplesLoss("sinkhorn", p=2, debias=True, backend="tensorized")`` with the label-augmented cost
|x - z|^2 / 2 + W / 2 and blur^2 = eps / 2; its value is half of Orca's and is doubled here. It knows no tolerance: the
annealing's ``scaling`` decides how near it comes. It is timed at the library's default, 1/2, and as ``geomloss-equal``
at the first of ``SCALINGS`` that gives every class Orca's value to ``EQUAL``; the marginal error says how near the
solutions are. Every call solves the source's self term anew, as it cannot be told that it is constant.

``pot``: ``ot.solve(reg_type="KL", grad="envelope")`` on torch tensors, for the class against the source, with the cost
|x - z|^2 + W, and for the class against itself. It stops at an L2 marginal error, which is set so that the L1 error is
within the tolerance. The source's self term, a constant, is Orca's, and not timed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import geomloss
import ot
import torch
from torch import Tensor

from benchmarks.clock import spread, timed
from orca.transport import ClasswiseResult, SourceStatistics, otdd_classwise
from orca.types import LabeledSet

SCALINGS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
POT_UPDATES = 10_000  # POT does not anneal, and so needs more of them
EQUAL = 1e-3  # of the values, relative


@dataclass(frozen=True)
class Setting:
    """Source, target classes and label distances, as both rivals need them.

    Attributes:
        source: statistics of the source.
        index: class of each source sample, (n,).
        ours: what Orca found, with the label distances (K_s, K_t).
        members: rows of the target in each class.
    """

    source: SourceStatistics
    index: Tensor
    ours: ClasswiseResult
    members: list[Tensor]

    @classmethod
    def of(cls, source: SourceStatistics, target: LabeledSet) -> Setting:
        """Solves with Orca, so that the rivals' values have something to agree with."""
        members = [torch.nonzero(target.y == c)[:, 0] for c in torch.unique(target.y)]
        with torch.no_grad():
            ours = otdd_classwise(source, target.x, target.y)
        return cls(source, torch.searchsorted(source.labels, source.y), ours, members)


def _geomloss(setting: Setting, c: int, z: Tensor, *, scaling: float, error: bool = False) -> Any:
    """The doubled loss of target class c with features z (r, d), or with ``error`` its largest L1 marginal error."""
    source, last = setting.source, len(setting.source.labels)
    across = setting.ours.label_distances[:, c : c + 1]
    table = torch.cat([torch.cat([source.within, across], 1), torch.cat([across.T, across.new_zeros(1, 1)], 1)])

    def cost(x: Tensor, y: Tensor) -> Tensor:
        """(B, n, d + 1) and (B, m, d + 1), the label last, to (B, n, m)."""
        u, v = x[..., :-1], y[..., :-1]
        squared = u.square().sum(-1)[:, :, None] + v.square().sum(-1)[:, None] - 2 * u @ v.mT
        return (squared.clamp(min=0) + table[x[0, :, -1].long()][:, y[0, :, -1].long()]) / 2

    x = torch.cat([source.x, setting.index[:, None].to(source.x)], 1)
    y = torch.cat([z, z.new_full((len(z), 1), last)], 1)
    eps = source.options.reg / 2
    choices: dict[str, Any] = {"p": 2, "blur": math.sqrt(eps), "scaling": scaling, "cost": cost}
    if not error:
        return 2 * geomloss.SamplesLoss("sinkhorn", debias=True, backend="tensorized", **choices)(x, y)
    loss = geomloss.SamplesLoss("sinkhorn", debias=False, potentials=True, backend="tensorized", **choices)
    with torch.no_grad():
        f, g = loss(x, y)
        plan = ((f.view(-1, 1) + g.view(1, -1) - cost(x[None], y[None])[0]) / eps).exp() / (len(x) * len(y))
    return _marginal_error(plan)


def _marginal_error(plan: Tensor) -> float:
    """The larger L1 violation of the two uniform marginals of a plan (n, m)."""
    n, m = plan.shape
    return max(float((plan.sum(1) - 1 / n).abs().sum()), float((plan.sum(0) - 1 / m).abs().sum()))


def _geomloss_error(setting: Setting, x: Tensor, scaling: float) -> float:
    rows = enumerate(setting.members)
    return max(_geomloss(setting, c, x[members], scaling=scaling, error=True) for c, members in rows)


def _pot(setting: Setting, c: int, z: Tensor, errors: list[float]) -> Tensor:
    """The value of target class c with features z (r, d); its marginal error goes to ``errors``."""
    source, options = setting.source, setting.source.options
    label = setting.ours.label_distances[setting.index, c]
    stopping: dict[str, Any] = {"max_iter": POT_UPDATES, "tol": options.tolerance / math.sqrt(len(z))}
    values = []
    for cost in (ot.dist(source.x, z) + label[:, None], ot.dist(z, z)):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sinkhorn did not converge")  # the marginal error says so
            solved = ot.solve(cost, reg=options.reg, reg_type="KL", grad="envelope", **stopping)
        errors.append(_marginal_error(solved.plan.detach()))
        values.append(solved.value)
    return values[0] - source.own / 2 - values[1] / 2


def _epochs(
    setting: Setting, target: LabeledSet, one_class: Callable[[int, Tensor], Tensor], repeats: int
) -> dict[str, Any]:
    """Times whole epochs and compares their values with Orca's; with the last one's gradient (m, d)."""
    times, values, gradient = [], [], torch.zeros(0)
    for _ in range(repeats):
        x = target.x.clone().requires_grad_()

        def epoch(x: Tensor = x) -> list[float]:
            found = []
            for c, members in enumerate(setting.members):
                value = one_class(c, x[members])
                (value * setting.ours.weights[c]).backward()
                found.append(float(value.detach()))
            return found

        seconds, values = timed(epoch, target.x.device)
        times.append(seconds)
        assert x.grad is not None
        gradient = x.grad
    found = torch.tensor(values, dtype=torch.float64)
    ours = setting.ours.classes.double().cpu()
    total = float((found * setting.ours.weights.double().cpu()).sum())
    off = float(((found - ours) / ours).abs().max())
    return {
        **spread(times), "value": total, "off": abs(total / float(setting.ours.value) - 1), "off_classes": off,
        "agrees": off <= EQUAL, "gradient": gradient,
    }  # fmt: skip


def _time_geomloss(setting: Setting, target: LabeledSet, repeats: int) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for scaling in SCALINGS:

        def one_class(c: int, z: Tensor, scaling: float = scaling) -> Tensor:
            return _geomloss(setting, c, z, scaling=scaling)

        name = "geomloss-equal" if made else "geomloss"
        error = _geomloss_error(setting, target.x, scaling)
        made[name] = _epochs(setting, target, one_class, repeats) | {"scaling": scaling, "marginal_error": error}
        if made[name]["agrees"]:
            break
    return made


def time_rivals(source: SourceStatistics, target: LabeledSet, gradient: Tensor, repeats: int = 1) -> dict[str, Any]:
    """Times both rivals.

    Args:
        source: statistics of the source, p = 2, debiased, with the eps and the tolerance to solve at.
        target: gets the gradient.
        gradient: Orca's, of the class-wise objective, (m, d).
        repeats: number of timed epochs of each.

    Returns:
        For each rival its seconds, value, relative difference of the value (``off``), of the class that differs most
        (``off_classes``) and of the gradient (``off_gradient``) from Orca's, and its largest L1 marginal error.
    """
    setting = Setting.of(source, target)
    made = _time_geomloss(setting, target, repeats)
    errors: list[float] = []
    made["pot"] = _epochs(setting, target, lambda c, z: _pot(setting, c, z, errors), repeats)
    made["pot"]["marginal_error"] = max(errors)
    for each in made.values():
        each["converged"] = each["marginal_error"] <= source.options.tolerance
        each["off_gradient"] = float((each.pop("gradient") - gradient).norm() / gradient.norm())
    return made
