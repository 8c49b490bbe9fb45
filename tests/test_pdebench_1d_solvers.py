"""Solvers of PDEBench's one-dimensional equations against exact solutions, laws and their order of convergence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import erfc

from orca.tasks.pdebench import advection, burgers, cfd1d, diffsorp, gas, line, reacdiff1d
from orca.tasks.pdebench.initial import cells, random_waves, unit_range

seeds = st.integers(0, 10**6)
few = settings(max_examples=15, deadline=None)


def waves(points: int, count: int = 3, seed: int = 0) -> np.ndarray:
    return random_waves(points, count, np.random.default_rng(seed))


def assert_order(error: Callable[[int], float], sizes: tuple[int, ...], order: float) -> None:
    """The error falls with this power of the size, or faster."""
    errors = [error(size) for size in sizes]
    found = np.log2(np.divide(errors[:-1], errors[1:])) / np.log2(np.divide(sizes[1:], sizes[:-1]))
    assert found.min() > order, (errors, found)


# Initial states


@few
@given(seeds)
def test_initial_states_are_periodic_and_as_high_as_their_slots(seed: int) -> None:
    u = waves(64, 5, seed)
    assert np.abs(u).max() <= 4
    scaled = unit_range(u)
    np.testing.assert_array_equal([scaled.min(1), scaled.max(1)], [[0.0] * 5, [1.0] * 5])


def test_initial_states_of_the_gas_fade_outside_of_a_window_in_the_right_half() -> None:
    draw = np.random.default_rng(0)
    u = random_waves(512, 200, draw, low=-1.0, slots=3, window=1.0)
    x = cells(512, -1.0)
    assert np.abs(u[:, x < 0]).max() < 1e-6 * np.abs(u).max()
    assert np.abs(u[:, (x > 0.47) & (x < 0.53)]).max(1).min() > 1e-3
    assert (x[0], x[-1]) == (-1 + 1 / 512, 1 - 1 / 512)


# Advection


@few
@given(seeds, st.floats(-2, 2), st.floats(-2, 2))
def test_shifts_add_up_and_a_whole_turn_changes_nothing(seed: int, a: float, b: float) -> None:
    u = np.sin(2 * np.pi * np.outer([1, 2], cells(32))) + waves(1, 2, seed)
    np.testing.assert_allclose(advection.shifted(advection.shifted(u, a), b), advection.shifted(u, a + b), atol=1e-12)
    np.testing.assert_allclose(advection.shifted(u, 1.0), u, atol=1e-12)
    np.testing.assert_allclose(advection.shifted(u, 0.25), np.roll(u, 8, -1), atol=1e-12)


# Burgers


def travelling(points: int, nu: float, time: float, mean: float = 0.3) -> np.ndarray:
    """An exact solution: phi = 2 + cos(2 pi x) exp(-(2 pi)^2 a t) of Cole and Hopf, seen from a moving frame."""
    a, x = nu / np.pi, 2 * np.pi * (cells(points) - mean * time)
    fading = np.exp(-a * (2 * np.pi) ** 2 * time)
    return mean + 4 * np.pi * a * np.sin(x) * fading / (2 + np.cos(x) * fading)


def test_burgers_solutions_are_those_of_cole_and_hopf() -> None:
    times = np.array([0.0, 0.1, 0.7])
    found = burgers.viscous(travelling(64, 1.0, 0)[None], 1.0, times)[0]
    np.testing.assert_allclose(found, [travelling(64, 1.0, time) for time in times], atol=1e-13)
    for nu in (1.0, 0.01):
        np.testing.assert_allclose(
            burgers.cole_hopf(travelling(64, nu, 0), nu, 0.7), travelling(64, nu, 0.7), atol=1e-10
        )


def test_burgers_finite_volumes_are_of_second_order() -> None:
    def error(points: int) -> float:
        fine = burgers.viscous(travelling(8 * points, 0.3, 0)[None], 0.3, np.array([0, 0.5]))[:, -1]
        means = travelling(8 * points, 0.3, 0).reshape(1, points, 8).mean(2)
        found = burgers.shocks(means, 0.3, np.array([0, 0.5]))[:, -1]
        return float(np.abs(found - fine.reshape(1, points, 8).mean(2)).mean())

    assert_order(error, (32, 64, 128), 1.75)


def test_burgers_shocks_meet_the_quadrature_of_the_exact_solution() -> None:
    u = waves(128, 4, seed=3)
    found = burgers.shocks(u, 0.01, np.array([0, 2.0]))[:, -1]
    exact = np.array([burgers.cole_hopf(row, 0.01, 2.0) for row in u])
    assert (np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)).max() < 0.01


@settings(max_examples=4, deadline=None)
@given(seeds)
def test_burgers_keeps_the_mean_and_makes_no_new_extrema(seed: int) -> None:
    u, times = waves(32, 3, seed), np.array([0, 0.5, 2.0])
    for nu, solve in ((1.0, burgers.viscous), (0.01, burgers.shocks)):
        found = solve(u, nu, times)
        np.testing.assert_allclose(found.mean(2), np.broadcast_to(u.mean(1)[:, None], (3, 3)), atol=1e-10)
        if nu < 1:
            assert (np.diff(np.square(found).mean(2), axis=1) <= 1e-14).all()
            assert (found <= u.max(1)[:, None, None] + 1e-9).all()
            assert (found >= u.min(1)[:, None, None] - 1e-9).all()


def test_at_nu_1_the_last_state_is_the_mean_of_the_first() -> None:
    u = waves(256, 50)
    last, mean = burgers.viscous(u, 1.0, np.array([0, 2.0]))[:, -1], u.mean(1, keepdims=True)
    assert (np.abs(last - mean) / np.abs(mean)).mean() < 1e-10


# Reaction-diffusion


def test_a_uniform_state_grows_logistically() -> None:
    u = np.repeat([[0.0], [0.2], [1.0]], 16, axis=1)
    found = reacdiff1d.split_steps(u, np.array([0, 0.29, 1.0]))
    for at, time in ((1, 0.29), (2, 1.0)):
        np.testing.assert_allclose(found[:, at], reacdiff1d.logistic(u, time), atol=1e-13)


def test_the_splitting_is_of_second_order_and_meets_the_method_of_lines() -> None:
    u = 0.5 + 0.3 * np.sin(2 * np.pi * cells(32)) + 0.2 * np.cos(4 * np.pi * cells(32))
    wave = -((2 * np.pi * np.fft.rfftfreq(32, 1 / 32)) ** 2)

    def rate(time: float, v: np.ndarray) -> np.ndarray:
        bent = np.fft.irfft(wave * np.fft.rfft(v), 32)
        return reacdiff1d.NU * bent + reacdiff1d.RHO * v * (1 - v)

    exact = solve_ivp(rate, (0, 0.05), u, method="Radau", rtol=1e-11, atol=1e-12).y[:, -1]

    def error(steps: int) -> float:
        return float(np.abs(reacdiff1d.split_steps(u[None], np.array([0, 0.05]), 0.05 / steps)[0, -1] - exact).max())

    assert_order(error, (8, 16, 32), 1.9)
    assert error(20) < 1e-5  # the step of the generator


@few
@given(seeds)
def test_reaction_and_diffusion_stay_between_0_and_1_and_the_mean_grows(seed: int) -> None:
    found = reacdiff1d.split_steps(unit_range(waves(64, 3, seed)), np.array([0, 0.05, 0.29]), 0.01)
    assert found.min() >= -1e-12
    assert found.max() <= 1 + 1e-12
    assert (np.diff(found.mean(2), axis=1) > 0).all()


# Diffusion-sorption


def test_a_linear_isotherm_gives_the_error_function_with_second_order() -> None:
    constant = float(diffsorp.retardation(np.array(0.5), exponent=1.0))

    def error(points: int) -> float:
        times = np.array([0, 20.0])  # short: the right end is not felt on the left half
        found = diffsorp.solve(0.1, points, times, exponent=1.0)[-1]
        distance = cells(points) + 0.5 / points  # from the centre of the cell outside
        exact = 0.1 + 0.9 * erfc(distance / np.sqrt(4 * diffsorp.DIFFUSION / constant * times[-1]))
        return float(np.abs(found - exact)[: points // 2].max())

    assert_order(error, (32, 64, 128), 1.8)


def test_the_banded_integrator_meets_an_implicit_one() -> None:
    points, width = 32, 1 / 32

    def rate(time: float, u: np.ndarray) -> np.ndarray:
        padded = np.concatenate([[1.0], u, [diffsorp.DIFFUSION * (u[-2] - u[-1]) / width]])
        return diffsorp.DIFFUSION / diffsorp.retardation(u) * np.diff(padded, 2) / width**2

    exact = solve_ivp(rate, (0, 500), np.full(points, 0.07), method="Radau", rtol=1e-9, atol=1e-11).y[:, -1]
    np.testing.assert_allclose(diffsorp.solve(0.07, points, np.array([0, 500.0]))[-1], exact, atol=2e-5)


@few
@given(st.floats(0, 0.2), st.floats(0, 0.2))
def test_sorption_keeps_bounds_and_order(first: float, second: float) -> None:
    low, high = (diffsorp.solve(u, 32, np.array([0, 250.0, 500.0])) for u in sorted((first, second)))
    assert low.min() >= -1e-6
    assert high.max() <= 1
    assert (np.diff(high[1:], axis=1) <= 1e-5).all()
    assert (high - low).min() >= -1e-5  # a maximum principle


# Compressible flow


def star(left: tuple[float, float], right: tuple[float, float]) -> tuple[float, float]:
    """Pressure and velocity between two states (density, pressure) at rest (Toro 2009, section 4.2)."""
    g = gas.GAMMA

    def speed(p: float, rho: float, given: float) -> float:
        if p > given:  # a shock
            return (p - given) * np.sqrt(2 / (rho * ((g + 1) * p + (g - 1) * given)))
        sound = np.sqrt(g * given / rho)
        return 2 * sound / (g - 1) * ((p / given) ** ((g - 1) / (2 * g)) - 1)

    pressure = float(brentq(lambda p: speed(p, *left) + speed(p, *right), 1e-6, 10))  # type: ignore[arg-type]
    return pressure, 0.5 * (speed(pressure, *right) - speed(pressure, *left))


def test_a_shock_tube_has_the_exact_middle_state() -> None:
    x = cells(400)
    high = np.abs(x - 0.5) < 0.25  # two diaphragms, a mirrored tube
    state = np.where(high, [[1.0], [0.0], [1.0]], [[0.125], [0.0], [0.1]])[:, None]
    density, velocity, pressure = gas.flow(state, np.array([0, 0.1]), length=1.0, viscosity=0.0)[-1, :, 0]
    p, v = star((1.0, 1.0), (0.125, 0.1))
    between = (x > 0.75 + 0.25 * v * 0.1) & (x < 0.75 + 0.9 * v * 0.1)
    np.testing.assert_allclose(pressure[between], p, rtol=0.01)
    np.testing.assert_allclose(velocity[between], v, rtol=0.01)
    for field, sign in ((density, 1), (velocity, -1), (pressure, 1)):
        np.testing.assert_allclose(field, sign * field[::-1], atol=1e-10)  # what was symmetric stays so


def test_a_contact_moves_without_waves() -> None:
    state = np.stack([1 + unit_range(waves(64, 1)), np.full((1, 64), 0.7), np.full((1, 64), 3.0)])
    density, velocity, pressure = gas.flow(state, np.array([0, 0.5]), length=1.0, viscosity=0.2)[-1]
    np.testing.assert_allclose(velocity, 0.7, atol=1e-11)
    np.testing.assert_allclose(pressure, 3.0, atol=1e-11)
    assert density.min() >= 1
    assert density.max() <= 2


def test_sound_is_carried_and_damped_with_second_order() -> None:
    """rho = 1 + e r(t) cos kx, v = e w(t) sin kx: r' = -k w, w' = c^2 k r - mu k^2 w, for small e."""
    k, mu, small, sound = 2 * np.pi, 0.02, 1e-6, gas.GAMMA
    rate = np.array([[0, -k], [sound * k, -mu * k**2]])
    values, vectors = np.linalg.eig(rate)
    r, w = (vectors @ (np.exp(0.3 * values) * np.linalg.solve(vectors, [1, 0]))).real

    def error(points: int) -> float:
        mean = np.sinc(1 / points) * np.cos(k * cells(points))[None] * small  # over cells
        state = np.stack([1 + mean, 0 * mean, 1 + gas.GAMMA * mean])
        density, velocity, _ = gas.flow(state, np.array([0, 0.3]), length=1.0, viscosity=mu)[-1] / small
        exact = w * np.sinc(1 / points) * np.sin(k * cells(points))
        return float(np.abs(density - 1 / small - r * mean / small).mean() + np.abs(velocity - exact).mean())

    assert_order(error, (16, 32, 64), 1.6)


@settings(max_examples=5, deadline=None)
@given(seeds)
def test_flow_keeps_mass_momentum_and_energy_and_stays_positive(seed: int) -> None:
    first = cfd1d.first_state(32, 4, np.random.default_rng(seed))
    found = gas.flow(first, np.array([0, 0.1, 0.2]), length=2.0, viscosity=cfd1d.VISCOSITY)
    totals = np.stack([gas.conserved(state).sum(-1) for state in found])  # (T, 3, n)
    np.testing.assert_allclose(totals, np.broadcast_to(totals[0], totals.shape), rtol=1e-10, atol=1e-9)
    assert found[:, [0, 2]].min() > 0


@few
@given(seeds, st.floats(1e-6, 10), st.floats(0, 1))
def test_viscosity_turns_motion_into_heat_and_never_back(seed: int, step: float, viscosity: float) -> None:
    first = cfd1d.first_state(16, 3, np.random.default_rng(seed))
    whole = gas.conserved(first)
    later = gas.rub(whole, step, width=1 / 8, viscosity=viscosity)
    np.testing.assert_allclose(later.sum(-1), whole.sum(-1), rtol=1e-10, atol=1e-8)
    assert (gas.primitive(later)[2] >= first[2] - 1e-8).all()


def test_gas_that_is_torn_apart_stays_positive() -> None:
    x = cells(64)
    state = np.stack([np.ones(64), np.where(np.abs(x - 0.5) < 0.25, -1, 1) * np.sign(x - 0.5) * -3, np.ones(64)])
    found = gas.flow(state[:, None], np.array([0, 0.05]), length=1.0, viscosity=0.0)[-1, :, 0]
    assert found[[0, 2]].min() > 0


# Limited slopes


@few
@given(st.lists(st.floats(-5, 5), min_size=4, max_size=12))
def test_states_at_faces_lie_between_their_cells(values: list[float]) -> None:
    u = np.array(values)
    left, right = line.faces(u)
    ahead = np.roll(u, -1)
    for state in (left, right):
        assert (state >= np.minimum(u, ahead) - 1e-12).all()
        assert (state <= np.maximum(u, ahead) + 1e-12).all()


def test_slopes_of_a_straight_line_are_its_own() -> None:
    assert line.slopes(np.arange(8.0))[1:-1].tolist() == [1.0] * 6
    assert pytest.approx(0) == line.slopes(np.array([0.0, 1, 0, 1])).max()
