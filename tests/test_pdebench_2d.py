"""PDEBench in two dimensions: solvers against exact solutions and laws, generated files against their checks."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from scipy.fft import dctn, idctn
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from orca.metrics import METRICS
from orca.runtime import read_json
from orca.tasks import TASKS
from orca.tasks.benchmark import load_folder
from orca.tasks.making import make
from orca.tasks.pdebench import darcy, fitzhugh_nagumo, reacdiff2d
from orca.tasks.pdebench.finite_volume import evolve, shallow_water
from orca.tasks.pdebench.shallow_water import centres, dam, heights
from orca.tasks.published import SIDE, Published, Size
from orca.types import Examples

TINY = {
    "shallow-water": Size(27, 0, 3, 32),
    "shallow-water-hard": Size(9, 0, 1, 24),
    "reacdiff2d": Size(18, 0, 2, 24),
    "reacdiff2d-full": Size(18, 0, 2, 24),
    "darcy-pdebench": Size(45, 0, 5, 24),
    "cfd2d": Size(9, 0, 1, 12),
}


def published(name: str) -> Published:
    found = TASKS.get(name).published
    assert found is not None
    return found


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("pdebench-2d")

    @functools.cache
    def folder(name: str) -> Path:
        make(published(name), root / name, TINY[name])
        return root / name

    return folder


# Generated sets


@pytest.mark.parametrize("name", TINY)
def test_a_generated_set_meets_its_acceptance_checks(name: str, made) -> None:
    checks = read_json(made(name) / SIDE)["checks"]
    assert len(checks) >= 3
    assert not [check for check in checks if not check["passed"]]


@pytest.mark.parametrize("name", TINY)
def test_a_generated_set_loads_and_its_own_baselines_answer(name: str, made) -> None:
    spec, size = TASKS.get(name), TINY[name]
    parts = published(name).read(made(name))
    assert (len(parts["train"].x), len(parts["test"].x)) == (size.train, size.test)
    train, test = (Examples(*_channels(part.x, part.y), None) for part in (parts["train"], parts["test"]))
    metric = METRICS.get(spec.metric)
    mean = metric.fn(np.repeat(train.y.mean(0, keepdims=True), len(test), 0), test.y)
    for title, predictor in spec.predictors.items():
        value = metric.fn(predictor(train)(test), test.y)
        assert np.isfinite(value)
        if title != "h = 1" and name != "shallow-water-hard":
            assert value < mean, title


def _channels(*arrays: np.ndarray) -> list[np.ndarray]:
    """(n, X, Y) as (n, 1, X, Y)."""
    return [a[:, None] if a.ndim == 3 else a for a in arrays]


def test_both_tasks_of_one_file_agree(made) -> None:
    folder = made("reacdiff2d")
    alone, full = published("reacdiff2d").read(folder), published("reacdiff2d-full").read(folder)
    np.testing.assert_array_equal(alone["test"].x, full["test"].x[:, 0])
    np.testing.assert_array_equal(alone["test"].y, full["test"].y[:, 1])
    assert TASKS.get("reacdiff2d").fingerprint() != TASKS.get("reacdiff2d-full").fingerprint()


def test_equal_dams_never_lie_in_train_and_validation(made) -> None:
    found = published("shallow-water")
    spec = TASKS.get("shallow-water")
    splits = load_folder(found, spec.load.args[1], made("shallow-water"))  # type: ignore[attr-defined]
    assert not {row.tobytes() for row in splits.train.x} & {row.tobytes() for row in splits.val.x}


# Shallow water


def _vortex(points: int) -> tuple[np.ndarray, np.ndarray, float]:
    """A vortex that drifts unchanged, h = 1 - c^2 / (4 a g) exp(-2 a r^2), after a time of 1: state, answer, cell."""
    size = 8 / points
    x = (np.arange(points) + 0.5) * size - 4
    drift, turn = (0.3, 0.2), 0.5

    def state(shift: float) -> np.ndarray:
        across, along = np.meshgrid(x - drift[0] * shift, x - drift[1] * shift, indexing="ij")
        bell = np.exp(-(across**2 + along**2))
        velocity = [drift[0] - turn * bell * along, drift[1] + turn * bell * across]
        return np.stack([1 - turn**2 / 4 * bell**2, *velocity])[:, None]

    return state(0), state(1), size


def test_a_smooth_flow_converges_with_the_square_of_the_cell() -> None:
    errors = []
    for points in (24, 48, 96):
        state, answer, size = _vortex(points)
        found = evolve(state, shallow_water(), size=size, end=1.0, boundary="wrap")
        errors.append(np.abs(found - answer).mean())
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (order > 1.8).all()


def _stoker(x: np.ndarray, time: float) -> np.ndarray:
    """Height behind and before a broken dam, 2 for x < 0 and 1 beyond (Stoker 1957, chapter 10.8), g = 1."""
    left, right = 2.0, 1.0

    def fan(h: float) -> float:
        return 2 * (np.sqrt(left) - np.sqrt(h))

    middle = brentq(lambda h: fan(h) - (h - right) * np.sqrt((h + right) / (2 * h * right)), right, left)
    shock = middle * fan(middle) / (middle - right)
    in_fan = (2 * np.sqrt(left) - x / time) ** 2 / 9
    tail = fan(middle) - np.sqrt(middle)
    return np.select([x / time < -np.sqrt(left), x / time < tail, x / time < shock], [left, in_fan, middle], right)


@pytest.mark.parametrize("axis", [2, 3])
def test_a_straight_dam_breaks_as_in_the_exact_solution(axis: int) -> None:
    errors = []
    for points in (100, 200):
        x = 4 * ((np.arange(points) + 0.5) / points - 0.5)
        h = np.where(x < 0, 2.0, 1.0)[:, None] * np.ones(3)
        state = np.stack([h, 0 * h, 0 * h])[:, None]
        state = state.swapaxes(2, 3) if axis == 3 else state
        found = evolve(state, shallow_water(), size=4 / points, end=0.8, boundary="edge")[0, 0]
        found = found.T if axis == 3 else found
        assert (np.ptp(found, axis=1) == 0).all()
        errors.append(np.abs(found[:, 0] - _stoker(x, 0.8)).mean())
    assert errors[1] < 0.004
    assert errors[0] / errors[1] > 1.5


def test_a_round_dam_keeps_its_mass_and_looks_the_same_from_all_sides() -> None:
    first = dam(64, np.array([0.7, 0.35]), np.array([2.0, 2.0]), np.zeros((2, 2)))
    last = heights(first, np.array([0.0, 1.0]))[:, -1].astype(np.float64)
    np.testing.assert_allclose(last.sum((1, 2)), first.sum((1, 2)), rtol=1e-6)
    assert last.min() > 0
    assert last.max() <= 2
    for turned in (last[:, ::-1], last[:, :, ::-1], last.transpose(0, 2, 1)):
        np.testing.assert_allclose(last, turned, atol=1e-6)
    x = centres(64)
    radius = np.hypot(x[:, None], x)
    rings = [last[0][np.abs(radius - r) < 0.04].std() for r in np.arange(0.5, 2.4, 0.1)]
    assert max(rings) < 0.04  # of a wave 0.3 high; radii within a ring differ by a cell


def test_still_water_stays_and_a_high_dam_over_a_thin_film_stays_wet() -> None:
    still = np.stack([np.full((1, 8, 8), 1.3), np.zeros((1, 8, 8)), np.zeros((1, 8, 8))])
    np.testing.assert_array_equal(evolve(still, shallow_water(), size=0.1, end=1.0, boundary="edge"), still)
    film = np.full((1, 24, 24), 0.01)
    film[:, 8:16, 8:16] = 5.0
    state = evolve(np.stack([film, 0 * film, 0 * film]), shallow_water(), size=0.2, end=0.5, boundary="edge")
    assert state[0].min() > 0


def test_the_same_disc_of_cells_is_one_problem(made) -> None:
    parts = published("shallow-water").read(made("shallow-water"))
    whole = np.concatenate([parts["train"].x, parts["test"].x])
    assert len(np.unique(whole, axis=0)) < 20


# FitzHugh-Nagumo


def test_the_cosine_modes_are_those_of_five_points_without_flux() -> None:
    u, size = np.random.default_rng(0).standard_normal((12, 12)), 0.1
    wide = np.pad(u, 1, mode="edge")
    laplace = (wide[2:, 1:-1] + wide[:-2, 1:-1] + wide[1:-1, 2:] + wide[1:-1, :-2] - 4 * u) / size**2
    np.testing.assert_allclose(idctn(-fitzhugh_nagumo.eigenvalues(12, size) * dctn(u)), laplace, atol=1e-10)


def test_the_splitting_is_of_second_order() -> None:
    noise, end = np.random.default_rng(1).standard_normal((2, 2, 16, 16)), np.array([1.0])
    best, coarse, fine = (fitzhugh_nagumo.evolve(noise, end=1.0, times=end, steps=steps) for steps in (800, 50, 100))
    assert np.abs(coarse - best).max() / np.abs(fine - best).max() == pytest.approx(4, rel=0.1)


def test_a_uniform_state_follows_the_ordinary_equation() -> None:
    start = np.array([1.5, -0.5])
    answer = solve_ivp(lambda _, y: fitzhugh_nagumo.reaction(y), (0, 5), start, rtol=1e-10, atol=1e-12)
    state = start[:, None, None, None] * np.ones((2, 1, 4, 4))
    found = fitzhugh_nagumo.evolve(state, end=5.0, times=np.array([0.0, 5.0]))
    np.testing.assert_array_equal(found[0], state)
    np.testing.assert_allclose(found[1], answer.y[:, -1][:, None, None, None] * np.ones((2, 1, 4, 4)), atol=1e-5)


def test_a_mirrored_state_gives_the_mirrored_answer_and_frames_do_not_matter() -> None:
    noise = np.random.default_rng(2).standard_normal((2, 1, 16, 16))
    found = fitzhugh_nagumo.evolve(noise, end=5.0, times=np.array([5.0]))
    mirrored = fitzhugh_nagumo.evolve(noise[..., ::-1], end=5.0, times=np.array([5.0]))
    np.testing.assert_allclose(found[..., ::-1], mirrored, atol=1e-12)
    often = fitzhugh_nagumo.evolve(noise, end=5.0, times=np.linspace(0, 5, 11))
    np.testing.assert_allclose(often[-1], found[-1], atol=3e-3)


def test_at_the_published_size_the_end_has_the_known_size() -> None:
    noise = np.random.default_rng(3).standard_normal((2, 2, 128, 128))
    u, v = fitzhugh_nagumo.evolve(noise, end=5.0, times=np.array([5.0]), steps=60)[-1]
    assert np.sqrt((u**2).mean()) == pytest.approx(reacdiff2d.RMS["u"], abs=0.02)
    assert np.sqrt((v**2).mean()) == pytest.approx(reacdiff2d.RMS["v"], abs=0.02)


def test_gains_find_a_linear_map_that_depends_on_the_wave_number_alone() -> None:
    x = np.random.default_rng(4).standard_normal((8, 2, 12, 12))
    k = np.arange(12)
    radius = np.rint(np.hypot(k[:, None], k))
    u, v = dctn(x, axes=(-2, -1))[:, 0], dctn(x, axes=(-2, -1))[:, 1]
    y = idctn(np.stack([u / (1 + radius), 2 * u - radius * v], axis=1), axes=(-2, -1))
    data = Examples(x.astype(np.float32), y.astype(np.float32), None)
    np.testing.assert_allclose(reacdiff2d.radial_gains(data.subset(np.arange(6)))(data), y, atol=1e-3)


# Darcy


def test_the_threshold_is_the_mean_of_the_blobs() -> None:
    assert darcy.blobs(16, 4000, np.random.default_rng(0)).mean() == pytest.approx(darcy.threshold(), rel=0.02)


def test_the_published_darcy_set_is_read_at_every_second_cell(tmp_path: Path) -> None:
    parts = {part: darcy.draw(16, 4, np.random.default_rng(seed), part) for seed, part in enumerate(("train", "test"))}
    large = {part: {key: a.repeat(8, -1).repeat(8, -2) for key, a in arrays.items()} for part, arrays in parts.items()}
    darcy.write(tmp_path, large, 128)
    raw = darcy.read(tmp_path)
    assert raw["train"].x.shape[1:] == (64, 64)
    np.testing.assert_array_equal(raw["test"].x[0, ::4, ::4], parts["test"]["nu"][0])
    np.testing.assert_array_equal(raw["test"].y[0, ::4, ::4], parts["test"]["tensor"][0, 0])
