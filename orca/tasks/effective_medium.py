"""A baseline of Darcy flow: the pressure in a homogeneous medium that conducts as much as the given one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orca.dense import relative_errors
from orca.tasks.spec import Predictor
from orca.types import Examples

POWERS = np.linspace(-1, 1, 41)  # from the harmonic mean, conductors in series, to the arithmetic one, in parallel


def homogeneous(unit: Callable[[int], np.ndarray]) -> Predictor:
    """A predictor with one parameter: ``u = unit / mean(a^p)^(1/p)``, p fitted on train.

    Args:
        unit: N -> the pressure (N, N) where the permeability is 1.
    """

    def fit(train: Examples) -> Callable[[Examples], np.ndarray]:
        shape = unit(train.x.shape[-1]).astype(np.float32)
        errors = [relative_errors(shape / power_mean(train.x, p), train.y).mean() for p in POWERS]
        best = float(POWERS[int(np.argmin(errors))])
        return lambda data: unit(data.x.shape[-1]).astype(np.float32) / power_mean(data.x, best)

    return fit


def power_mean(a: np.ndarray, p: float) -> np.ndarray:
    """mean(a^p)^(1/p) over the grid of each sample, the geometric mean for p = 0: (n, 1, H, W) to (n, 1, 1, 1)."""
    a = a.astype(np.float64)
    if abs(p) < 1e-9:
        return np.exp(np.log(a).mean((2, 3), keepdims=True))
    return (a**p).mean((2, 3), keepdims=True) ** (1 / p)
