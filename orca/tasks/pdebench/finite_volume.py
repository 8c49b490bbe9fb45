"""Conservation laws of a fluid on square cells: HLL fluxes, MC limiter, two-stage Runge-Kutta, many samples at once.

    q_t + div(q v) + P-terms = 0,    q = (density, momentum x, momentum y[, energy])

HLL: Harten, Lax, van Leer 1983, SIAM Review 25, with the signal speeds of Davis 1988. MC limiter: van Leer 1977.
Strong-stability-preserving time step: Gottlieb, Shu, Tadmor 2001, SIAM Review 43, eq. 4.1. Second order in space and
time where the solution is smooth; extrema are clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Boundary = Literal["edge", "wrap"]  # extrapolation of the outermost cell, or periodic
Field = Callable[[np.ndarray], np.ndarray]
GHOSTS = 2
CFL = 0.4  # stable up to 1/2: both directions act in one step
DIFFUSION = 0.25  # of the cell's square over the diffusivity: stable alone, like CFL


@dataclass(frozen=True)
class Fluid:
    """A conservation law, by its primitive variables w = (density, velocity x, velocity y[, pressure]), (V, n, X, Y).

    Attributes:
        conserved: w -> q, (V, n, X, Y).
        primitive: q -> w.
        pressure: w -> what presses on a face, (n, X, Y).
        sound: w -> speed of waves against the fluid, (n, X, Y).
        viscous: (w, cell size) -> further rates of q; None for an ideal fluid.
        viscosity: largest kinematic diffusivity, which limits the time step.
    """

    conserved: Field
    primitive: Field
    pressure: Field
    sound: Field
    viscous: Callable[[np.ndarray, float], np.ndarray] | None = None
    viscosity: float = 0.0


def shallow_water(gravity: float = 1.0) -> Fluid:
    """h_t + div(h v) = 0, (h v)_t + div(h v v + g h^2 / 2) = 0 over a flat bottom; w = (h, v_x, v_y)."""
    return Fluid(
        conserved=lambda w: np.stack([w[0], w[0] * w[1], w[0] * w[2]]),
        primitive=lambda q: np.stack([q[0], q[1] / q[0], q[2] / q[0]]),
        pressure=lambda w: gravity / 2 * w[0] ** 2,
        sound=lambda w: np.sqrt(gravity * w[0]),
    )


def evolve(w: np.ndarray, fluid: Fluid, *, size: float, end: float, boundary: Boundary) -> np.ndarray:
    """The state after a time.

    Args:
        w: primitive variables at the beginning, (V, n, X, Y).
        fluid: the law.
        size: of a cell, in the unit of length.
        end: the time.
        boundary: what lies outside.

    Returns:
        Primitive variables, (V, n, X, Y).
    """
    q, time = fluid.conserved(w), 0.0
    while end - time > 1e-12 * end:
        dt = min(_stable_step(w, fluid, size), end - time)
        ahead = q + dt * rates(w, fluid, size=size, boundary=boundary)
        w = fluid.primitive(ahead)
        q = (q + ahead + dt * rates(w, fluid, size=size, boundary=boundary)) / 2
        w, time = fluid.primitive(q), time + dt
    return w


def rates(w: np.ndarray, fluid: Fluid, *, size: float, boundary: Boundary) -> np.ndarray:
    """dq/dt in each cell, (V, n, X, Y)."""
    change = -(_divergence(w, fluid, boundary, 1) + _divergence(w, fluid, boundary, 2)) / size
    return change if fluid.viscous is None else change + fluid.viscous(w, size)


def _stable_step(w: np.ndarray, fluid: Fluid, size: float) -> float:
    """The longest time step that waves and viscosity allow together."""
    sound = fluid.sound(w)
    fastest = max(float((np.abs(w[1]) + sound).max()), float((np.abs(w[2]) + sound).max()))
    return 1 / (fastest / (CFL * size) + fluid.viscosity / (DIFFUSION * size**2))


def _divergence(w: np.ndarray, fluid: Fluid, boundary: Boundary, normal: int) -> np.ndarray:
    """Differences of the fluxes through the faces across one axis, 1 for x and 2 for y, (V, n, X, Y)."""
    flip = normal == 2
    w = np.swapaxes(w, -1, -2) if flip else w  # the normal axis is the last but one
    w = np.pad(w, [(0, 0), (0, 0), (GHOSTS, GHOSTS), (0, 0)], mode=boundary)
    half = _limited(np.diff(w, axis=-2)) / 2  # (V, n, X + 2, Y)
    inner = w[:, :, 1:-1]
    flux = _hll((inner + half)[:, :, :-1], (inner - half)[:, :, 1:], fluid, normal)  # (V, n, X + 1, Y)
    change = np.diff(flux, axis=-2)
    return np.swapaxes(change, -1, -2) if flip else change


def _limited(difference: np.ndarray) -> np.ndarray:
    """The slope of each inner cell by the monotonised central limiter; zero at extrema."""
    back, forth = difference[:, :, :-1], difference[:, :, 1:]
    least = np.minimum(np.abs(back + forth) / 2, 2 * np.minimum(np.abs(back), np.abs(forth)))
    return np.where(back * forth > 0, np.copysign(least, back), 0.0)


def _hll(left: np.ndarray, right: np.ndarray, fluid: Fluid, normal: int) -> np.ndarray:
    """The flux through faces between two states (V, n, X, Y): the mean over the fan between the outermost waves."""
    sound_left, sound_right = fluid.sound(left), fluid.sound(right)
    low = np.minimum(np.minimum(left[normal] - sound_left, right[normal] - sound_right), 0.0)
    high = np.maximum(np.maximum(left[normal] + sound_left, right[normal] + sound_right), 0.0)
    q_left, q_right = fluid.conserved(left), fluid.conserved(right)
    f_left, f_right = _flux(left, q_left, fluid, normal), _flux(right, q_right, fluid, normal)
    return (high * f_left - low * f_right + low * high * (q_right - q_left)) / (high - low)


def _flux(w: np.ndarray, q: np.ndarray, fluid: Fluid, normal: int) -> np.ndarray:
    speed, pressure = w[normal], fluid.pressure(w)
    flux = speed * q
    flux[normal] += pressure
    if len(q) > 3:
        flux[3] += speed * pressure
    return flux
