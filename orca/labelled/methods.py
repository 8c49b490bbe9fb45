"""The ways to compare two labelled sets, by name: the methods of ``orca otdd``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from orca.registry import Registry
from orca.transport.gromov import GromovResult, gromov_otdd
from orca.transport.options import OTDDOptions
from orca.transport.otdd import OTDDResult, sinkhorn_otdd
from orca.transport.sliced import SlicedOptions, sliced_otdd
from orca.transport.statistics import SourceStatistics
from orca.types import LabeledSet


@dataclass(frozen=True)
class Outcome:
    """One distance, as far as its method tells of it.

    Attributes:
        value: the distance.
        label_distances: between labels, (K_s, K_t), or None.
        plan: mass moved between samples, (n, m), or None.
        facts: convergence and whatever else the method says, as JSON.
        notes: what a reader of the number must know.
    """

    value: float
    label_distances: Tensor | None = None
    plan: Tensor | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A way to compare two labelled sets.

    Attributes:
        name: how it is chosen.
        summary: one line on what it is.
        one_space: whether both sets need features of one dimension.
        debiasable: whether ``debias`` changes it.
        prepare: the first set and the options to a function of the second; what depends on the first alone is done
            once.
    """

    name: str
    summary: str
    one_space: bool
    debiasable: bool
    prepare: Callable[[LabeledSet, OTDDOptions], Callable[[LabeledSet], Outcome]]


COMPARISONS: Registry[Comparison] = Registry("method")


def _solved(result: OTDDResult | GromovResult) -> Outcome:
    facts = {key: getattr(result, key) for key in ("converged", "marginal_error", "iterations")}
    late = () if result.converged else ("the solver stopped before it converged: take a larger reg",)
    return Outcome(float(result.value), result.label_distances, result.plan(), facts, late)


def _sinkhorn(source: LabeledSet, options: OTDDOptions) -> Callable[[LabeledSet], Outcome]:
    statistics = SourceStatistics.of(source, options)

    def compared(target: LabeledSet) -> Outcome:
        found = _solved(sinkhorn_otdd(source.x, source.y, target.x.to(source.x), target.y, source=statistics))
        return replace(found, facts={**found.facts, "between_means": _between_means(source, target, options)})

    return compared


def _between_means(source: LabeledSet, target: LabeledSet, options: OTDDOptions) -> float | None:
    """What the distance of the two means contributes for p = 2; the rest is that of the sets moved onto one mean.

    Moving one set changes the cost of each pair by terms that any coupling sums to the same: the squared distance of
    the means enters once for the features and once for the labels, if they are compared.
    """
    if options.p != 2:
        return None
    gap = source.x.cpu().double().mean(0) - target.x.cpu().double().mean(0)
    labels = options.lambda_y if options.label_distance != "none" else 0.0
    return (options.lambda_x + labels) * float(gap.square().sum())


def _gromov(source: LabeledSet, options: OTDDOptions) -> Callable[[LabeledSet], Outcome]:
    note = "gromov is experimental: the value is a local minimum, and the global one may be as low as lower_bound"

    def compared(target: LabeledSet) -> Outcome:
        result = gromov_otdd(source.x, source.y, target.x, target.y, **asdict(options))
        found = _solved(result)
        return replace(found, facts={**found.facts, "lower_bound": result.lower_bound}, notes=(*found.notes, note))

    return compared


def _sliced(source: LabeledSet, options: OTDDOptions) -> Callable[[LabeledSet], Outcome]:
    note = "sliced is another number than that of sinkhorn, without a plan; it takes no label distance, lambdas or reg"

    def compared(target: LabeledSet) -> Outcome:
        result = sliced_otdd(source.x, source.y, target.x, target.y, options=SlicedOptions(p=options.p))
        return Outcome(float(result.value), facts={"standard_error": result.standard_error}, notes=(note,))

    return compared


# The one place to add a method; `orca otdd --method` takes what is here.
COMPARISONS.add(Comparison("sinkhorn", "entropic transport, labels matched to labels", True, True, _sinkhorn))
COMPARISONS.add(Comparison("sliced", "mean over projections to the line; linear in time", True, False, _sliced))
COMPARISONS.add(Comparison("gromov", "relations inside each set, for different spaces", False, False, _gromov))
