"""Optimal transport: entropic solver, distances of Gaussians, and the dataset distance made of both."""

from orca.transport.divergence import DivergenceResult, sinkhorn_divergence
from orca.transport.gaussian import Gaussians, bures_wasserstein
from orca.transport.labels import LABEL_DISTANCES
from orca.transport.options import OTDDOptions
from orca.transport.otdd import ClasswiseResult, OTDDResult, otdd, otdd_classwise
from orca.transport.sinkhorn import SinkhornResult, envelope, sinkhorn, sinkhorn_self
from orca.transport.statistics import SourceStatistics

__all__ = [
    "LABEL_DISTANCES",
    "ClasswiseResult",
    "DivergenceResult",
    "Gaussians",
    "OTDDOptions",
    "OTDDResult",
    "SinkhornResult",
    "SourceStatistics",
    "bures_wasserstein",
    "envelope",
    "otdd",
    "otdd_classwise",
    "sinkhorn",
    "sinkhorn_divergence",
    "sinkhorn_self",
]
