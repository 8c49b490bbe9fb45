"""The sliced dataset distance s-OTDD (Nguyen et al. 2025, arXiv 2501.18901), linear in samples."""

from orca.transport.sliced.distance import SlicedResult, SlicedStatistics, sliced_otdd
from orca.transport.sliced.slices import SlicedOptions

__all__ = ["SlicedOptions", "SlicedResult", "SlicedStatistics", "sliced_otdd"]
