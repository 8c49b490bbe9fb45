"""Discrepancies that the align stage can minimise: from source features to a function of target features.

``prepare`` does all work that depends on the source alone; the objective it returns is a pure function of target
features and labels, so that a resumed run repeats the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from orca.errors import InputError
from orca.registry import Registry
from orca.transport.cost import pairwise_cost
from orca.transport.options import OTDDOptions
from orca.transport.otdd import otdd_classwise, sinkhorn_otdd
from orca.transport.sliced import SlicedOptions, SlicedStatistics, sliced_otdd
from orca.transport.statistics import SourceStatistics, checked
from orca.types import LabeledSet

Objective = Callable[[Tensor, Tensor], Tensor]
"""Target features (m, d) and labels (m,) int64 to a scalar, differentiable in the features."""

OTHERS = ("kernels", "projections", "moments")  # fields of the settings that are no fields of OTDDOptions


class Prepare(Protocol):
    """See :class:`Discrepancy`."""

    def __call__(
        self, source: LabeledSet, config: DiscrepancyConfig, frequencies: Tensor | None = None, /
    ) -> Objective:
        """The objective towards this source."""
        ...


class DiscrepancyConfig(BaseModel):
    """Settings of the discrepancies; those of transport are read by ``otdd`` and ``otdd-classwise`` alone.

    ``otdd-sliced`` reads ``projections``, ``moments`` and ``label_gradient``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", title="Discrepancy")

    label_distance: Literal["gaussian", "exact", "means", "none"] = Field(
        default="gaussian",
        description="How labels compare: by Gaussians, exactly, by class means, or not at all.",
    )
    covariance: Literal["full", "diagonal"] = Field(
        default="full", description="Covariances of the label distance gaussian."
    )
    reg: float = Field(
        default=0.05,
        gt=0,
        title="Regularisation",
        description="Entropic, in the unit that the next setting names.",
    )
    reg_unit: Literal["source", "absolute"] = Field(
        default="source",
        title="Unit of Regularisation",
        description="source: times the mean squared distance of two source samples; absolute: squared features.",
    )
    debias: bool = Field(default=True, description="Subtract the self terms.")
    lambda_x: float = Field(default=1.0, ge=0, title="Weight of Features", description="Of the feature distance.")
    lambda_y: float = Field(default=1.0, ge=0, title="Weight of Labels", description="Of the label distance.")
    label_gradient: bool = Field(default=True, description="Whether the gradient flows through the label distances.")
    class_cap: int | None = Field(
        default=None, ge=1, description="Most samples of a class that its label distance sees; unset takes all."
    )
    tolerance: float = Field(default=1e-3, gt=0, description="Largest L1 marginal error of the solver, in mass.")
    max_iterations: int = Field(default=500, ge=1, title="Most Iterations", description="Most updates of the solver.")
    kernels: int = Field(
        default=5, ge=1, description="mmd: number of Gaussian kernels, each twice as wide as the one before."
    )
    projections: int = Field(
        default=2000,
        ge=1,
        description="otdd-sliced: random projections, drawn once; take several times the dimension of the features.",
    )
    moments: int = Field(
        default=5,
        ge=0,
        le=10,
        description="otdd-sliced: moments of each class that a projection sees; 0: features only.",
    )

    def options(self, source: LabeledSet) -> OTDDOptions:
        """The options of transport, with ``reg`` made absolute by the scale of this source."""
        scale = _mean_cost(source.x) if self.reg_unit == "source" else 1.0
        own = set(DiscrepancyConfig.model_fields) - {"reg", "reg_unit", *OTHERS}  # a subclass may have more
        shared = self.model_dump(include=own)
        return OTDDOptions(reg=self.reg * scale, **shared)


@dataclass(frozen=True)
class Discrepancy:
    """A discrepancy between the source and a target.

    Attributes:
        name: how it is chosen.
        summary: one line on what it is.
        prepare: source, settings and the target's class frequencies (K_t,) or None to the objective; all source terms
            are computed here.
    """

    name: str
    summary: str
    prepare: Prepare


DISCREPANCIES: Registry[Discrepancy] = Registry("discrepancy")


def _mean_cost(x: Tensor) -> float:
    """Mean squared distance of two samples: twice the trace of their covariance (n, d), at least a tiny number."""
    x = x.detach() if x.dtype == torch.float64 else x.detach().float()
    spread = 2 * float((x - x.mean(0)).square().sum(1).mean())
    if not 0 < spread < float("inf"):
        raise InputError(
            f"source features: expected finite numbers that differ; got a mean squared distance of {spread}"
        )
    return spread


def _prepare_otdd(source: LabeledSet, config: DiscrepancyConfig, frequencies: Tensor | None = None) -> Objective:
    statistics = SourceStatistics.of(source, config.options(source))
    return lambda x, y: sinkhorn_otdd(statistics.x, statistics.y, x, y, source=statistics).value


def _prepare_classwise(source: LabeledSet, config: DiscrepancyConfig, frequencies: Tensor | None = None) -> Objective:
    statistics = SourceStatistics.of(source, config.options(source))

    def value(x: Tensor, y: Tensor) -> Tensor:
        """The sum over classes, weighted by how frequent they are in the data, not in this sample of it."""
        weights = None
        if frequencies is not None:
            share = frequencies.to(x)[torch.unique(y)]
            weights = share / share.sum()
        return otdd_classwise(statistics, x, y, weights=weights).value

    return value


def _prepare_sliced(source: LabeledSet, config: DiscrepancyConfig, frequencies: Tensor | None = None) -> Objective:
    """Projections and frame are fixed: the objective stays a pure function, and the source is projected once."""
    options = SlicedOptions(
        projections=config.projections, moments=config.moments, label_gradient=config.label_gradient, scale="source"
    )
    statistics = SlicedStatistics.of(source, options)
    return lambda x, y: sliced_otdd(statistics.x, statistics.y, x, y, source=statistics).value


def _features(summary: Callable[[Tensor], Callable[[Tensor], Tensor]]) -> Callable[..., Objective]:
    """A discrepancy that looks at features alone, from a function of the source's (n, d) to one of the target's."""

    def prepare(source: LabeledSet, config: DiscrepancyConfig, frequencies: Tensor | None = None) -> Objective:
        xs, _ = checked(source.x, source.y, "source")
        with torch.autocast(xs.device.type, enabled=False):
            compare = summary(xs.detach())

        def objective(x: Tensor, y: Tensor) -> Tensor:
            xt, _ = checked(x, y, "target")
            if xt.shape[1] != xs.shape[1]:
                raise InputError(
                    f"both sets must have one feature dimension; got source {xs.shape[1]}, target {xt.shape[1]}"
                )
            with torch.autocast(xt.device.type, enabled=False):
                return compare(xt.to(xs.dtype))

        return objective

    return prepare


def _coral(xs: Tensor) -> Callable[[Tensor], Tensor]:
    source, scale = torch.cov(xs.T, correction=0), 4 * xs.shape[1] ** 2
    return lambda x: (torch.cov(x.T, correction=0) - source).square().sum() / scale


def _means(xs: Tensor) -> Callable[[Tensor], Tensor]:
    source = xs.mean(0)
    return lambda x: (x.mean(0) - source).square().sum()


def _prepare_mmd(source: LabeledSet, config: DiscrepancyConfig, frequencies: Tensor | None = None) -> Objective:
    """Bandwidths are the source's mean squared distance times 2**k, k about 0, so that its own term is constant."""
    width = _mean_cost(source.x)
    rates = [1 / (width * 2.0 ** (k - config.kernels // 2)) for k in range(config.kernels)]

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        cost = pairwise_cost(x, y)
        return torch.stack([torch.exp(-rate * cost).mean() for rate in rates]).sum()

    def compare(xs: Tensor) -> Callable[[Tensor], Tensor]:
        own = kernel(xs, xs)
        return lambda x: own + kernel(x, x) - 2 * kernel(xs, x)

    return _features(compare)(source, config)


DISCREPANCIES.add(Discrepancy("otdd", "dataset distance, labels matched to labels, all classes jointly", _prepare_otdd))
DISCREPANCIES.add(
    Discrepancy(
        "otdd-classwise", "the ORCA reference's loop: each target class to the whole source", _prepare_classwise
    )
)
DISCREPANCIES.add(
    Discrepancy("otdd-sliced", "dataset distance over random projections, in linear time (s-OTDD)", _prepare_sliced)
)
DISCREPANCIES.add(Discrepancy("mmd", "squared maximum mean discrepancy, sum of Gaussian kernels", _prepare_mmd))
DISCREPANCIES.add(
    Discrepancy("coral", "squared distance of covariances over 4 d^2 (Sun and Saenko 2016, eq. 1)", _features(_coral))
)
DISCREPANCIES.add(Discrepancy("means", "squared distance of the means", _features(_means)))
