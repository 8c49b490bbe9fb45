"""The viscous gas of PDEBench: its solver against exact solutions, its initial states against their law."""

from __future__ import annotations

import numpy as np
import pytest

from orca.tasks.pdebench import cfd2d, gas2d
from orca.tasks.pdebench.finite_volume import evolve


def test_a_wave_of_density_is_carried_on_with_second_order() -> None:
    errors = []
    for points in (16, 32, 64):
        x = (np.arange(points) + 0.5) / points
        wave = np.sin(2 * np.pi * (x[:, None] + x))
        ones = np.ones_like(wave)
        state = np.stack([1 + 0.3 * wave, 0.5 * ones, 0.5 * ones, 2 * ones])[:, None]
        found = evolve(state, gas2d.viscous_gas(0.0, 0.0), size=1 / points, end=1.0, boundary="wrap")  # once around
        np.testing.assert_allclose(found[1:], state[1:], atol=1e-10)
        errors.append(np.abs(found[0] - state[0]).mean())
    assert (np.log2(np.array(errors[:-1]) / errors[1:]) > 1.7).all()


def test_a_shear_flow_dies_away_as_in_the_exact_solution() -> None:
    y, eta, end = (np.arange(24) + 0.5) / 24, 0.1, 0.1
    flow = 0.01 * np.sin(2 * np.pi * y) * np.ones((24, 1))
    ones = np.ones_like(flow)
    state = np.stack([ones, flow, 0 * flow, ones])[:, None]
    found = evolve(state, gas2d.viscous_gas(eta, 0.1), size=1 / 24, end=end, boundary="wrap")
    np.testing.assert_allclose(found[1, 0], flow * np.exp(-eta * 4 * np.pi**2 * end), atol=2e-4)


def test_the_stress_is_that_of_its_equations() -> None:
    def slope(f: np.ndarray, axis: int) -> np.ndarray:  # exact for what the grid resolves
        k = 2j * np.pi * np.fft.fftfreq(len(f), 1 / len(f))
        return np.fft.ifft(np.fft.fft(f, axis=axis) * (k[:, None] if axis == 0 else k), axis=axis).real

    errors, eta, zeta = [], 0.3, 0.2
    for points in (32, 64):
        x, y = np.meshgrid(*2 * [(np.arange(points) + 0.5) / points], indexing="ij")
        p = 2 * np.pi
        density, v = 2 + np.sin(p * x) * np.cos(p * y), (np.sin(p * x) * np.cos(p * y), np.cos(p * (x - 2 * y)))
        spread = slope(v[0], 0) + slope(v[1], 1)
        s = [[density * (eta * (slope(v[i], j) + slope(v[j], i)) + (i == j) * (zeta - 2 / 3 * eta) * spread)
              for j in range(2)] for i in range(2)]  # fmt: skip
        work = [s[0][j] * v[0] + s[1][j] * v[1] for j in range(2)]
        answer = [0 * x, *(slope(row[0], 0) + slope(row[1], 1) for row in (s[0], s[1], work))]
        state = np.stack([density, *v, 0 * x])[:, None]
        fluid = gas2d.viscous_gas(eta, zeta)
        assert fluid.viscous is not None
        errors.append(np.abs(fluid.viscous(state, 1 / points)[:, 0] - np.stack(answer)).max((1, 2)))
    assert (errors[0][1:] / errors[1][1:] > 3.8).all()


def test_the_gas_begins_as_published() -> None:
    density, across, along, pressure = cfd2d.initial(32, 40, np.random.default_rng(0))
    temperature = (pressure / density).mean((1, 2))
    assert density.min() > 0
    assert pressure.min() > 0
    assert temperature.max() < 11
    mach = np.hypot(across, along).mean((1, 2)) / np.sqrt(gas2d.GAMMA * temperature)
    free = np.abs(across[:, 0]).max(1) > 0.05 * np.abs(across).max((1, 2))  # no window
    assert 0.2 < free.mean() < 0.8
    assert mach[free] == pytest.approx(np.ones(free.sum()), abs=0.1)
    assert (mach[~free] < 0.9).all()


def test_random_fields_have_no_mean_and_only_short_waves() -> None:
    spectrum = np.abs(np.fft.fft2(cfd2d.random_fields(16, 3, np.random.default_rng(0))))
    high = np.minimum(np.arange(16), 16 - np.arange(16)) > 4
    assert spectrum[:, 0].max() < 1e-9
    assert spectrum[:, high].max() < 1e-9
    assert spectrum[:, 1:5, 1:5].min() > 0
