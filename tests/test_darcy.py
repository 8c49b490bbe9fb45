from __future__ import annotations

import json

import numpy as np
import pytest

from orca.runtime import rng
from orca.tasks.darcy_solver import HIGH, LOW, gaussian_field, lognormal, permeability, solve, solve_cells
from orca.tasks.effective_medium import homogeneous, power_mean
from orca.tasks.pde import DarcySettings, cache_folder, cached_darcy, darcy_task, generate_darcy
from orca.types import Examples

SMALL = DarcySettings(size=9, n_train=6, n_val=2, n_test=3)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCA_CACHE", str(tmp_path))


def test_constant_permeability_has_the_known_maximum():
    # -Laplace u = 1 on the unit square: u(1/2, 1/2) = 0.07367 (Fourier series)
    assert solve(np.ones((85, 85))).max() == pytest.approx(0.07367, rel=1e-3)


def _manufactured(size: int) -> float:
    """Largest error against u = sin(pi x) sin(2 pi y) with a = 1 + x y."""
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size), indexing="ij")
    p = np.pi
    u = np.sin(p * x) * np.sin(2 * p * y)
    u_x, u_y = p * np.cos(p * x) * np.sin(2 * p * y), 2 * p * np.sin(p * x) * np.cos(2 * p * y)
    f = 5 * p**2 * (1 + x * y) * u - y * u_x - x * u_y
    return float(np.abs(solve(1 + x * y, f) - u).max())


def test_the_error_falls_with_the_square_of_the_step():
    errors = [_manufactured(size) for size in (11, 21, 41)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_cells_are_solved_on_a_square_that_is_one_cell_wider():
    wide = 1 + 1 / 64
    assert solve_cells(np.ones((64, 64))).max() == pytest.approx(0.07367 * wide**2, rel=1e-3)


def test_cells_give_off_what_the_source_gives_and_their_pressure_is_proportional_to_it():
    a = np.where(gaussian_field(24, generator=rng("cells")) > 0, 1.0, 0.1)
    u = solve_cells(a, 0.1)
    out = sum(
        (side * value).sum() for side, value in zip(*([x[0], x[-1], x[:, 0], x[:, -1]] for x in (a, u)), strict=True)
    )
    assert out == pytest.approx(0.1, rel=1e-10)  # fluxes a u / h over faces of h: the source over the whole square
    np.testing.assert_allclose(solve_cells(a, 1.0), 10 * u, rtol=1e-12)


def test_the_homogeneous_medium_is_exact_where_the_medium_is_one():
    a = np.array([1.0, 2.0, 5.0])[:, None, None, None] * np.ones((3, 1, 15, 15))
    y = np.stack([solve(sample[0])[None] for sample in a])
    data = Examples(a.astype(np.float32), y.astype(np.float32), None)
    found = homogeneous(lambda n: solve(np.ones((n, n))))(data)(data)
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-9)
    mixed = np.array([1.0, 4.0]).reshape(1, 1, 1, 2)
    assert [power_mean(mixed, p).item() for p in (-1, 0, 1)] == pytest.approx([1.6, 2.0, 2.5])


def test_pressure_is_zero_on_the_boundary_and_positive_inside():
    u = solve(permeability(29, generator=rng("boundary")))
    assert not any(edge.any() for edge in (u[0], u[-1], u[:, 0], u[:, -1]))
    assert (u[1:-1, 1:-1] > 0).all()


def test_pressure_is_linear_in_the_source_and_inverse_in_the_permeability():
    a = permeability(17, generator=rng("linear"))
    f, g = np.random.default_rng(0).standard_normal((2, 17, 17))
    np.testing.assert_allclose(solve(a, 2 * f - g), 2 * solve(a, f) - solve(a, g), atol=1e-12)
    np.testing.assert_allclose(solve(3 * a, f), solve(a, f) / 3, atol=1e-12)


@pytest.mark.parametrize("turn", [np.transpose, np.flipud, np.fliplr, np.rot90])
def test_turning_the_permeability_turns_the_pressure(turn):
    a = permeability(17, generator=rng("turn"))
    np.testing.assert_allclose(solve(turn(a)), turn(solve(a)), atol=1e-13)


def test_the_solution_operator_is_symmetric():
    a = permeability(17, generator=rng("symmetric"))
    f, g = np.random.default_rng(1).standard_normal((2, 17, 17))
    f[[0, -1]] = g[[0, -1]] = 0
    f[:, [0, -1]] = g[:, [0, -1]] = 0
    assert (solve(a, f) * g).sum() == pytest.approx((f * solve(a, g)).sum(), rel=1e-10)


def test_statistics_at_85_nodes_are_those_of_the_published_law():
    fields = [permeability(85, generator=stream) for stream in [rng("statistics")] for _ in range(24)]
    pressures = np.array([solve(a) for a in fields])
    assert set(np.unique(fields)) == {LOW, HIGH}
    assert np.mean(np.array(fields) == HIGH) == pytest.approx(0.5, abs=0.12)
    assert pressures.mean() == pytest.approx(5.5e-3, rel=0.2)
    assert pressures.max((1, 2)).mean() == pytest.approx(1.3e-2, rel=0.2)


def test_the_field_has_mean_zero_and_the_same_law_at_every_size():
    # its variance: the sum over k of (2 - [k1=0]) (2 - [k2=0]) tau^2 / (pi^2 |k|^2 + tau^2)^2 averaged over the square
    def variance(size: int) -> float:
        stream = rng("law", size)
        return float(np.mean([gaussian_field(size, generator=stream).var() for _ in range(400)]))

    k = np.arange(200)
    weights = 9 / (np.pi**2 * (k[:, None] ** 2 + k[None] ** 2) + 9) ** 2
    expected = weights.sum() - weights[0, 0]
    assert abs(gaussian_field(16, generator=rng("mean")).mean()) < 1e-12
    assert variance(16) == pytest.approx(expected, rel=0.15)
    assert variance(48) == pytest.approx(expected, rel=0.15)


def test_generation_is_deterministic_and_its_splits_are_independent():
    first, again = generate_darcy(SMALL), generate_darcy(SMALL)
    assert all((first[key] == again[key]).all() for key in first)
    assert first["x_train"].shape == (6, 9, 9)
    assert not (first["x_train"][:2] == first["x_val"]).all()
    assert not (first["x_train"] == generate_darcy(DarcySettings(9, 6, 2, 3, seed=1))["x_train"]).all()


def test_shift_sets_have_a_finer_grid_and_another_law():
    made = generate_darcy(SMALL)
    assert made["x_shift_fine"].shape == made["y_shift_fine"].shape == (3, 17, 17)
    assert set(np.unique(made["x_shift_fine"])) == {3, 12}
    smooth = made["x_shift_lognormal"]
    assert smooth.shape == (3, 9, 9)
    assert len(np.unique(smooth)) == smooth.size
    np.testing.assert_allclose(made["y_shift_lognormal"][1], solve(smooth[1].astype(float)), rtol=1e-5, atol=1e-9)


def test_the_other_law_has_the_two_of_the_first_as_its_middle_and_is_smooth():
    drawn = np.log([lognormal(24, generator=rng("lognormal", i)) for i in range(400)])
    assert np.exp(np.median(drawn)) == pytest.approx(np.sqrt(HIGH * LOW), rel=0.05)
    steps, apart = np.diff(drawn, axis=-1).std(), (drawn[:200] - drawn[200:]).std()
    assert steps < apart / 5


def test_more_problems_keep_the_first_ones():
    more = generate_darcy(DarcySettings(size=9, n_train=8, n_val=2, n_test=3))
    assert (more["y_train"][:6] == generate_darcy(SMALL)["y_train"]).all()


def test_generated_data_is_kept_with_a_side_file_that_calls_it_synthetic(monkeypatch):
    made = cached_darcy(SMALL)
    (side,) = cache_folder().glob("*.json")
    facts = json.loads(side.read_text())
    assert facts["synthetic"] is True
    assert facts["parameters"] == {"size": 9, "n_train": 6, "n_val": 2, "n_test": 3, "seed": 0}
    monkeypatch.setattr("orca.tasks.pde.generate_darcy", lambda settings: pytest.fail("the kept data was not used"))
    kept = cached_darcy(SMALL)
    assert all((kept[key] == made[key]).all() for key in made)


@pytest.mark.parametrize("damage", [lambda d: d[:-20], lambda d: b"", lambda d: d[:60] + b"?" + d[61:]])
def test_damaged_data_is_made_again(damage):
    made = cached_darcy(SMALL)
    (path,) = cache_folder().glob("*.npz")
    path.write_bytes(damage(path.read_bytes()))
    again = cached_darcy(SMALL)
    assert (again["y_test"] == made["y_test"]).all()
    assert (np.load(path)["y_test"] == made["y_test"]).all()


def test_the_task_is_a_field_to_field_map_marked_as_synthetic():
    task = darcy_task("small", SMALL)
    splits = task.load()
    assert splits.train.x.shape == splits.train.y.shape == (6, 1, 9, 9)
    assert splits.layout.target_shape == (1, 9, 9)
    assert task.provenance.synthetic
    assert any("synthetic" in note for note in splits.notes)
    assert task.fingerprint() != darcy_task("small", DarcySettings(size=9, n_train=6, n_val=2, n_test=4)).fingerprint()
