"""The random initial states of PDEBench's one-dimensional tasks."""

from __future__ import annotations

import numpy as np

SLOTS, DRAWS = 4, 2
RARE = 0.1  # probability of the absolute value, and of the window
STEEPNESS = 0.01  # of the window's ends, in units of the domain


def cells(points: int, low: float = 0.0) -> np.ndarray:
    """Centres of so many equal cells of [low, 1], (points,)."""
    return low + (1 - low) * (np.arange(points) + 0.5) / points


def random_waves(
    points: int, count: int, generator: np.random.Generator, *, low: float = 0.0, slots: int = SLOTS,
    window: float = RARE,
) -> np.ndarray:  # fmt: skip
    """Sums of sines: (count, points) float64, periodic on [low, 1], of length L = 1 - low.

    ``u = sum_n A_n sin(2 pi n c_n x / L + phi_n)`` over slots n, where c_n counts how often n came in two draws: a slot
    that was not drawn adds a constant, one that was drawn twice has twice the wave number. With probability 0.1 the
    absolute value is taken; the sign is random; with probability ``window`` all outside of an interval of [0.1, 0.9]
    fades to zero (Takamoto et al. 2022, appendix D, and the published generator).
    """
    x = cells(points, low)
    drawn = generator.integers(1, slots + 1, size=(count, DRAWS))
    number = np.arange(1, slots + 1)
    waves = number * (drawn[:, :, None] == number).sum(1)  # (count, slots)
    height = generator.uniform(0, 1, (count, slots, 1))
    phase = generator.uniform(0, 2 * np.pi, (count, slots, 1))
    u = (height * np.sin(2 * np.pi * waves[:, :, None] * x / (1 - low) + phase)).sum(1)
    u = np.where(generator.random((count, 1)) < RARE, np.abs(u), u)
    u *= generator.choice([-1.0, 1.0], (count, 1))
    left, right = generator.uniform(0.1, 0.45, (count, 1)), generator.uniform(0.55, 0.9, (count, 1))
    inside = 0.5 * (np.tanh((x - left) / STEEPNESS) - np.tanh((x - right) / STEEPNESS))
    return np.where(generator.random((count, 1)) < window, u * inside, u)


def unit_range(u: np.ndarray) -> np.ndarray:
    """Each row of u (n, X) brought to [0, 1] by its least and greatest value."""
    least, most = u.min(1, keepdims=True), u.max(1, keepdims=True)
    return (u - least) / (most - least)
