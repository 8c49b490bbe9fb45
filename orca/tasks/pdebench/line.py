"""Finite volumes on a periodic line: limited slopes, states at the faces, and a march through the wanted times."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def slopes(u: np.ndarray) -> np.ndarray:
    """Limited differences over a cell of u (..., X): monotonised central (van Leer 1977), 0 at extrema."""
    ahead = np.roll(u, -1, -1) - u
    behind = np.roll(ahead, 1, -1)
    least = np.minimum(2 * np.minimum(np.abs(ahead), np.abs(behind)), 0.5 * np.abs(ahead + behind))
    return np.where(ahead * behind > 0, np.copysign(least, ahead), 0.0)


def faces(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States left and right of the face between each cell of u (..., X) and the next."""
    half = 0.5 * slopes(u)
    return u + half, np.roll(u - half, -1, -1)


def divergence(flux: np.ndarray, width: float) -> np.ndarray:
    """What leaves each cell, from the flux (..., X) through the face to the next cell."""
    return (flux - np.roll(flux, 1, -1)) / width


def heun(u: np.ndarray, rate: Callable[[np.ndarray], np.ndarray], step: float) -> np.ndarray:
    """One step of the strong-stability-preserving Runge-Kutta method of second order (Shu and Osher 1988)."""
    first = u + step * rate(u)
    return 0.5 * (u + first + step * rate(first))


def march(
    u: np.ndarray,
    times: np.ndarray,
    advance: Callable[[np.ndarray, float], np.ndarray],
    longest: Callable[[np.ndarray], float],
) -> np.ndarray:
    """The state at each time, (T, ...).

    Args:
        u: at the first time.
        times: increasing, (T,).
        advance: (state, step) -> state.
        longest: the longest step that is stable from a state.
    """
    kept = [u]
    for span in np.diff(times):
        left = float(span)
        while left > 0:
            step = left / np.ceil(left / longest(u))
            u = advance(u, step)
            left = left - step if left - step > 1e-9 * span else 0.0
        kept.append(u)
    return np.stack(kept)
