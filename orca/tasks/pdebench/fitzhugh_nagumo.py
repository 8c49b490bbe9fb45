"""The FitzHugh-Nagumo equations on a square that nothing leaves, by Strang splitting, many samples at once.

    u_t = 1e-3 Laplace u + u - u^3 - 5e-3 - v,    v_t = 5e-3 Laplace v + u - v    on [-1, 1]^2, no flux

(Takamoto et al. 2022, appendix D.) The diffusion of five-point differences is solved exactly by a cosine transform
(DCT-II), the reaction by the classical Runge-Kutta method, in turn (Strang 1968).
"""

from __future__ import annotations

import numpy as np

DIFFUSION = (1e-3, 5e-3)  # of u and v
THRESHOLD = 5e-3
SIDE = 2.0
STEPS = 120  # of them the first are short: white noise decays fast


def eigenvalues(points: int, size: float) -> np.ndarray:
    """Of minus the five-point Laplace operator with no flux, (points, points), for the modes of the DCT-II."""
    line = (2 - 2 * np.cos(np.pi * np.arange(points) / points)) / size**2
    return line[:, None] + line


def evolve(state: np.ndarray, *, end: float, times: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """The states at some times.

    Args:
        state: u and v at time 0, (2, n, N, N) on N x N cells.
        end: of the evolution.
        times: rising, the last at most ``end``, (T,).
        steps: to the end; step i ends at end (i / steps)^2, or earlier at one of ``times``.

    Returns:
        (T, 2, n, N, N) float64.
    """
    points = state.shape[-1]
    damping = np.array(DIFFUSION)[:, None, None] * eigenvalues(points, SIDE / points)
    marks = np.union1d(end * (np.arange(steps + 1) / steps) ** 2, times)
    frames, time = [], 0.0
    for mark in marks[marks <= times[-1]]:
        if dt := mark - time:
            factor = np.exp(-dt / 2 * damping)[:, None]  # (2, 1, N, N)
            state = _smoothed(_reacted(_smoothed(state, factor), dt), factor)
        time = mark
        if mark in times:
            frames.append(state)
    return np.stack(frames)


def reaction(state: np.ndarray) -> np.ndarray:
    """What the equations add to diffusion, shaped as the state (2, ...)."""
    u, v = state
    return np.stack([u - u * u * u - THRESHOLD - v, u - v])


def _smoothed(state: np.ndarray, factor: np.ndarray) -> np.ndarray:
    from scipy.fft import dctn, idctn

    return np.asarray(idctn(dctn(state, axes=(-2, -1)) * factor, axes=(-2, -1)))


def _reacted(state: np.ndarray, dt: float) -> np.ndarray:
    first = reaction(state)
    second = reaction(state + dt / 2 * first)
    third = reaction(state + dt / 2 * second)
    fourth = reaction(state + dt * third)
    return state + dt / 6 * (first + 2 * (second + third) + fourth)
