"""Labelled sets by name, and the distance between any two of them: what ``orca otdd`` shows."""

from orca.labelled.compare import CompareOptions, compare, rank
from orca.labelled.methods import COMPARISONS, Comparison, Outcome
from orca.labelled.sets import ComparedSet, SetOptions, load_set
from orca.subsets import stratified

__all__ = [
    "COMPARISONS",
    "CompareOptions",
    "ComparedSet",
    "Comparison",
    "Outcome",
    "SetOptions",
    "compare",
    "load_set",
    "rank",
    "stratified",
]
