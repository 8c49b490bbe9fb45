"""Optimal transport: entropic solvers, distances of Gaussians, and the dataset distances made of them."""

from orca.transport.distance import otdd
from orca.transport.divergence import DivergenceResult, sinkhorn_divergence
from orca.transport.engines import ENGINES
from orca.transport.gaussian import Gaussians, bures_wasserstein
from orca.transport.gromov import GromovResult
from orca.transport.labels import LABEL_DISTANCES
from orca.transport.mapping import barycentric_projection, label_mass
from orca.transport.options import OTDDOptions
from orca.transport.otdd import ClasswiseResult, OTDDResult, otdd_classwise
from orca.transport.sinkhorn import SinkhornResult, envelope, sinkhorn, sinkhorn_self
from orca.transport.sliced import SlicedOptions, SlicedResult, SlicedStatistics
from orca.transport.statistics import SourceStatistics

__all__ = [
    "ENGINES",
    "LABEL_DISTANCES",
    "ClasswiseResult",
    "DivergenceResult",
    "Gaussians",
    "GromovResult",
    "OTDDOptions",
    "OTDDResult",
    "SinkhornResult",
    "SlicedOptions",
    "SlicedResult",
    "SlicedStatistics",
    "SourceStatistics",
    "barycentric_projection",
    "bures_wasserstein",
    "envelope",
    "label_mass",
    "otdd",
    "otdd_classwise",
    "sinkhorn",
    "sinkhorn_divergence",
    "sinkhorn_self",
]
