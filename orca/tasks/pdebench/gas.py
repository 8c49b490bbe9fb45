"""The compressible Navier-Stokes equations on a periodic line, without conduction of heat.

``rho_t + (rho v)_x = 0``, ``(rho v)_t + (rho v^2 + p)_x = (mu rho v_x)_x``,
``E_t + ((E + p) v)_x = (mu rho v v_x)_x`` with ``E = p / (gamma - 1) + rho v^2 / 2`` and mu a kinematic viscosity.

States are stacked: density, velocity, pressure (3, n, X), or what is conserved, density, momentum, energy (3, n, X).
"""

from __future__ import annotations

import numpy as np

from orca.tasks.pdebench.line import divergence, faces, heun, march

GAMMA = 5 / 3
COURANT = 0.4


def conserved(state: np.ndarray) -> np.ndarray:
    """Density, momentum and energy of density, velocity and pressure."""
    density, velocity, pressure = state
    return np.stack([density, density * velocity, pressure / (GAMMA - 1) + 0.5 * density * velocity**2])


def primitive(whole: np.ndarray) -> np.ndarray:
    """Density, velocity and pressure of density, momentum and energy."""
    density, momentum, energy = whole
    velocity = momentum / density
    return np.stack([density, velocity, (GAMMA - 1) * (energy - 0.5 * momentum * velocity)])


def hllc(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The flux (3, ...) between two states, by the approximate Riemann solver HLLC (Toro 2009, section 10.4)."""
    (rho_l, v_l, p_l), (rho_r, v_r, p_r) = left, right
    c_l, c_r = np.sqrt(GAMMA * p_l / rho_l), np.sqrt(GAMMA * p_r / rho_r)
    slowest, fastest = np.minimum(v_l - c_l, v_r - c_r), np.maximum(v_l + c_l, v_r + c_r)
    flow_l, flow_r = rho_l * (slowest - v_l), rho_r * (fastest - v_r)
    middle = (p_r - p_l + v_l * flow_l - v_r * flow_r) / (flow_l - flow_r)
    lefty = middle >= 0
    rho, v, p = np.where(lefty, left, right)
    edge = np.where(lefty, slowest, fastest)  # speed of the wave on this side of the contact
    energy = p / (GAMMA - 1) + 0.5 * rho * v**2
    flux = np.stack([rho * v, rho * v**2 + p, (energy + p) * v])
    share = rho * (edge - v) / (edge - middle)
    between = share * np.stack(
        [np.ones_like(v), middle, energy / rho + (middle - v) * (middle + p / (rho * (edge - v)))]
    )
    return flux + np.where(lefty, np.minimum(edge, 0), np.maximum(edge, 0)) * (
        between - np.stack([rho, rho * v, energy])
    )


def rub(whole: np.ndarray, step: float, *, width: float, viscosity: float) -> np.ndarray:
    """Viscosity alone for one step, by the trapezoidal rule: unconditionally stable, of second order.

    Momentum and energy pass through the faces, so both are conserved; the density does not change. With the stress and
    the velocity of the middle of the step, what motion loses is found again as heat, cell by cell and never negative.
    """
    density, momentum, energy = whole
    velocity = momentum / density
    stiff = viscosity * 0.5 * (density + np.roll(density, -1, -1)) / width  # (n, X) at the face to the next cell
    middle = _solve_periodic(density, stiff * 0.5 * step / width, momentum)  # velocity of the middle of the step
    stress = stiff * (np.roll(middle, -1, -1) - middle)
    work = stress * 0.5 * (np.roll(middle, -1, -1) + middle)
    return np.stack([density, density * (2 * middle - velocity), energy + step * divergence(work, width)])


def _solve_periodic(density: np.ndarray, stiff: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solves for v (n, X) with ``density v - stiff (v_next - v) + stiff_before (v - v_before) = right``, periodic.

    One tridiagonal system for all rows; the corners by the formula of Sherman and Morrison.
    """
    from scipy.linalg import solve_banded

    before = np.roll(stiff, 1, -1)
    corner = before[:, :1]  # (n, 1), the face between the last cell and the first
    main = density + stiff + before
    main[:, [0, -1]] -= corner  # the matrix is this T and corner * e e^T with e = (1, 0, ..., 0, -1)
    upper, lower = -before, -stiff
    upper[:, 0] = lower[:, -1] = 0
    bands = np.stack([upper.ravel(), main.ravel(), lower.ravel()])
    split = np.zeros_like(right)
    split[:, 0], split[:, -1] = 1, -1
    solved = solve_banded((1, 1), bands, np.stack([right.ravel(), split.ravel()], 1), check_finite=False)
    plain, shift = np.moveaxis(solved.reshape(*right.shape, 2), -1, 0)
    ends = (plain[:, :1] - plain[:, -1:]) / (1 + corner * (shift[:, :1] - shift[:, -1:]))
    return plain - corner * ends * shift


def flow(state: np.ndarray, times: np.ndarray, *, length: float, viscosity: float) -> np.ndarray:
    """Density, velocity and pressure (T, 3, n, X) from those at the first time (3, n, X).

    Half a step of viscosity, one without it, half a step of viscosity (Strang 1968); the middle one has limited slopes,
    the HLLC flux and Heun's method. Of second order where the flow is smooth.
    """
    width = length / state.shape[-1]

    def rate(whole: np.ndarray) -> np.ndarray:
        return -divergence(hllc(*faces(primitive(whole))), width)

    def advance(whole: np.ndarray, step: float) -> np.ndarray:
        whole = rub(whole, step / 2, width=width, viscosity=viscosity)
        return rub(heun(whole, rate, step), step / 2, width=width, viscosity=viscosity)

    def longest(whole: np.ndarray) -> float:
        density, velocity, pressure = primitive(whole)
        return COURANT * width / float((np.abs(velocity) + np.sqrt(GAMMA * pressure / density)).max())

    return np.stack([primitive(whole) for whole in march(conserved(state), times, advance, longest)])
