"""A viscous gas in two dimensions, as a fluid for the finite volumes.

    rho_t + div(rho v) = 0
    (rho v)_t + div(rho v v + p I) = div s,    s = rho (eta (grad v + grad v^T) + (zeta - 2/3 eta) div v I)
    E_t + div((E + p) v) = div(s v),           E = p / (gamma - 1) + rho |v|^2 / 2

Like PDEBench's, its viscosities are kinematic: they are multiplied by the density (Takamoto et al. 2022, appendix D).
There is no conduction of heat.
"""

from __future__ import annotations

import numpy as np

from orca.tasks.pdebench.finite_volume import Fluid

GAMMA = 5 / 3


def viscous_gas(eta: float, zeta: float) -> Fluid:
    """The law of w = (rho, v_x, v_y, p), periodic; ``eta`` and ``zeta`` are shear and bulk viscosity over density."""

    def conserved(w: np.ndarray) -> np.ndarray:
        density, across, along, pressure = w
        energy = pressure / (GAMMA - 1) + density * (across**2 + along**2) / 2
        return np.stack([density, density * across, density * along, energy])

    def primitive(q: np.ndarray) -> np.ndarray:
        density, across, along = q[0], q[1] / q[0], q[2] / q[0]
        pressure = (GAMMA - 1) * (q[3] - density * (across**2 + along**2) / 2)
        return np.stack([density, across, along, pressure])

    return Fluid(
        conserved=conserved,
        primitive=primitive,
        pressure=lambda w: w[3],
        sound=lambda w: np.sqrt(GAMMA * w[3] / w[0]),
        viscous=lambda w, size: _stress_rates(w, size, eta, zeta),
        viscosity=4 / 3 * eta + zeta,
    )


def _stress_rates(w: np.ndarray, size: float, eta: float, zeta: float) -> np.ndarray:
    """What the stress adds to the conserved quantities, (4, n, X, Y): differences of its flux through the faces."""
    out = np.zeros_like(w)
    for normal, axis, other in ((1, -2, -1), (2, -1, -2)):
        tangent = 3 - normal
        velocity = w[1:3]
        straight = (np.roll(velocity, -1, axis) - velocity) / size  # (2, n, X, Y): along the normal, at the upper face
        aside = (np.roll(velocity, -1, other) - np.roll(velocity, 1, other)) / (2 * size)
        aside = (aside + np.roll(aside, -1, axis)) / 2  # along the face
        density = (w[0] + np.roll(w[0], -1, axis)) / 2
        spread = straight[normal - 1] + aside[tangent - 1]
        press = density * (2 * eta * straight[normal - 1] + (zeta - 2 / 3 * eta) * spread)
        shear = density * eta * (straight[tangent - 1] + aside[normal - 1])
        mean = (velocity + np.roll(velocity, -1, axis)) / 2
        work = press * mean[normal - 1] + shear * mean[tangent - 1]
        for row, flux in ((normal, press), (tangent, shear), (3, work)):
            out[row] += (flux - np.roll(flux, 1, axis)) / size
    return out
