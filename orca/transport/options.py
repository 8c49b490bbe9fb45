"""The choices of a dataset distance, checked as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

from orca.errors import InputError
from orca.transport.divergence import Stopping
from orca.transport.gaussian import COVARIANCES
from orca.transport.labels import LABEL_DISTANCES, LabelOptions

NAMES = ("auto", "dense", "streaming", "flash", "exact")


@dataclass(frozen=True)
class OTDDOptions:
    """What is compared and how it is solved.

    Attributes:
        label_distance: ``gaussian``, ``exact`` (Sinkhorn divergence between class clouds), ``means`` or ``none``.
        covariance: of ``gaussian``: ``full`` or ``diagonal``.
        reg: eps of the outer problem, absolute, unit of the cost; 0 solves it exactly.
        label_reg: eps of ``exact``; None is ``reg``.
        p: power of the distances, 2 or 1. With 1, ``gaussian`` is the root of the squared Bures-Wasserstein distance.
        debias: subtract the self terms.
        lambda_x: weight of the features.
        lambda_y: weight of the labels.
        label_gradient: whether the gradient also flows through the label distances; False holds them constant.
        class_cap: most samples of a class that its label distance sees, evenly spaced; None takes all.
        tolerance: largest L1 marginal error.
        max_iterations: most updates at the final eps.
        engine: ``auto``, ``dense``, ``streaming``, ``flash`` or ``exact``; see ``orca.transport.engines``.
        memory: most memory that ``auto`` lets the dense engine take, GiB.
    """

    label_distance: str = "gaussian"
    covariance: str = "full"
    reg: float = 0.1
    label_reg: float | None = None
    p: int = 2
    debias: bool = True
    lambda_x: float = 1.0
    lambda_y: float = 1.0
    label_gradient: bool = True
    class_cap: int | None = None
    tolerance: float = 1e-3
    max_iterations: int = 500
    engine: str = "auto"
    memory: float = 4.0

    def __post_init__(self) -> None:
        """Raises one InputError that lists all faults."""
        LABEL_DISTANCES.get(self.label_distance)
        rules = (
            (
                self.covariance in COVARIANCES,
                f"covariance: expected {' or '.join(COVARIANCES)}, got {self.covariance!r}",
            ),
            (0 <= self.reg < math.inf, f"reg: expected a number of at least 0, got {self.reg}"),
            (
                self.reg > 0 or self.engine in ("auto", "exact"),
                f"reg: expected a positive number for engine {self.engine!r}; 0 is solved by 'exact'",
            ),
            (self.reg == 0 or self.engine != "exact", f"reg: expected 0 for engine 'exact', got {self.reg}"),
            (self.engine in NAMES, f"engine: expected one of {', '.join(NAMES)}; got {self.engine!r}"),
            (self.memory > 0, f"memory: expected a positive number of GiB, got {self.memory}"),
            (
                self.reg > 0 or self.label_distance != "exact" or self.label_reg is not None,
                "label_reg: expected a positive number where reg is 0 and label distances are 'exact'; got None",
            ),
            (
                self.label_reg is None or self.label_reg > 0,
                f"label_reg: expected None or positive, got {self.label_reg}",
            ),
            (self.p in (1, 2), f"p: expected 1 or 2, got {self.p}"),
            (0 <= self.lambda_x < math.inf, f"lambda_x: expected a number of at least 0, got {self.lambda_x}"),
            (0 <= self.lambda_y < math.inf, f"lambda_y: expected a number of at least 0, got {self.lambda_y}"),
            (
                self.class_cap is None or self.class_cap >= 1,
                f"class_cap: expected None or 1 and up, got {self.class_cap}",
            ),
            (self.tolerance > 0, f"tolerance: expected a positive number, got {self.tolerance}"),
            (self.max_iterations > 0, f"max_iterations: expected a positive number, got {self.max_iterations}"),
        )
        faults = [text for kept, text in rules if not kept]
        if faults:
            raise InputError("otdd: " + "; ".join(faults))

    @property
    def labels(self) -> LabelOptions:
        """What the label distance sees of these."""
        reg = self.reg if self.label_reg is None else self.label_reg
        return LabelOptions(self.p, self.covariance, reg, self.tolerance, self.max_iterations)

    @property
    def stopping(self) -> Stopping:
        """Stopping rule of the outer solver."""
        return {"tolerance": self.tolerance, "max_iterations": self.max_iterations}


class OTDDChanges(TypedDict, total=False):
    """The fields of ``OTDDOptions`` as keywords."""

    label_distance: str
    covariance: str
    reg: float
    label_reg: float | None
    p: int
    debias: bool
    lambda_x: float
    lambda_y: float
    label_gradient: bool
    class_cap: int | None
    tolerance: float
    max_iterations: int
    engine: str
    memory: float
