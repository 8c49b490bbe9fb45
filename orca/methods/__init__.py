"""What trains in the third stage, and what is put into the model for it: methods by name, all of them data."""

from orca.methods import chained, inserted, low_rank, neighbours, rules  # noqa: F401 - they register their methods
from orca.methods.choice import MethodChoice, check_options
from orca.methods.method import INSERTED, METHODS, Insertion, Method, Options, Origin, Phase, Place, body_groups, places
from orca.methods.neighbours import Neighbours

__all__ = [
    "INSERTED",
    "METHODS",
    "Insertion",
    "Method",
    "MethodChoice",
    "Options",
    "Neighbours",
    "Origin",
    "Phase",
    "Place",
    "body_groups",
    "check_options",
    "places",
]
