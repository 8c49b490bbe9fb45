"""Cosmic: generated frames meet their checks, files as published or made by hand load, broken ones are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orca.errors import InputError
from orca.metrics import METRICS
from orca.tasks import TASKS
from orca.tasks.benchmark import Frame, load_folder
from orca.tasks.making import make
from orca.tasks.nb360 import sky
from orca.tasks.nb360.cosmic import COSMIC, STRETCH, read
from orca.tasks.published import Size

TASK = TASKS.get("cosmic")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "cosmic"
    checks = make(COSMIC, folder, Size(24, 0, 8, 128))
    assert [check.name for check in checks if not check.passed] == []
    return folder


def test_a_bright_or_an_inclined_ray_hits_more_pixels_than_a_star_is_wide() -> None:
    draw = np.random.default_rng(0)
    rays = sky.tracks(256, 0.01, draw)
    assert rays.min() >= 0
    assert 0.005 < (rays > 20).mean() < 0.02
    psf = sky.moffat(33, fwhm=2.0, beta=3.5)
    assert psf.sum() == pytest.approx(1)
    assert (psf >= psf.max() / 2).sum() == pytest.approx(np.pi, abs=2)  # pixels within a radius of 1


def test_the_median_of_moyals_density_and_the_law_of_fluxes_are_known() -> None:
    draw = np.random.default_rng(1)
    assert np.median(sky.moyal(20_000, draw)) == pytest.approx(
        0.7876, abs=0.03
    )  # -ln of the median of chi square, 1 d.f.
    flux = sky.fluxes(20_000, 100, 1e12, draw)
    assert np.median(flux) == pytest.approx(400, rel=0.05)  # P(F > f) = (100 / f)^(1/2)


def test_the_middle_half_comes_with_ignored_pixels_marked(made: Path) -> None:
    parts = read(made)
    assert parts["train"].x.shape == (24, 64, 64)
    raw = np.load(made / "train" / "3_frame.npy")[:, 32:96, 32:96]
    np.testing.assert_array_equal(parts["train"].x[2], raw[0])
    np.testing.assert_array_equal(parts["train"].y[2], np.where(raw[2] > 0, -1, raw[1]))
    assert len(np.load(made / "train" / "sky.npy")) == 24
    assert np.load(made / "train_dirs.npy")[0] == "./cosmic/train/1_frame.npy"


def test_the_task_stretches_light_and_beats_chance_by_its_predictors(made: Path) -> None:
    encoding, own = TASK.encoding, TASK.predictors
    splits = load_folder(COSMIC, Frame("mask", "mask_auroc", encoding), made)
    assert splits.layout.target_shape == (1, 64, 64)
    assert (len(splits.train), len(splits.val)) == (21, 3)
    x, _ = encoding.encode(np.array([[[0.0, STRETCH, 1e5]]]))
    np.testing.assert_allclose(x, np.arcsinh([[[[0.0, 1, 1e5 / STRETCH]]]]), rtol=1e-6)
    area, error = METRICS.get("mask_auroc"), METRICS.get("mask_balanced_error")
    found = {name: fitted(splits.train)(splits.test) for name, fitted in own.items()}
    areas = {name: area.fn(scores, splits.test.y) for name, scores in found.items()}
    assert 1 > areas["median"] > areas["threshold"] > 0.6
    assert error.fn(found["median"], splits.test.y) < error.fn(found["threshold"], splits.test.y) < 0.5


def by_hand(folder: Path, **changes: np.ndarray) -> Path:
    """Four frames of another type and without pixels to ignore, by names from the folder itself."""
    draw = np.random.default_rng(0)
    (folder / "night").mkdir(parents=True)
    for k in range(1, 5):
        image, mask = draw.normal(50, 5, (8, 8)), (draw.random((8, 8)) < 0.5).astype(float)
        np.save(folder / "night" / f"{k}_x.npy", changes.get(f"frame{k}", np.stack([image, mask])))
    names = np.array([f"./night/{k}_x.npy" for k in range(1, 5)])
    for part in ("train", "test"):
        np.save(folder / f"{part}_dirs.npy", changes.get(part, names))
    return folder


def test_frames_without_pixels_to_ignore_load(tmp_path: Path) -> None:
    parts = read(by_hand(tmp_path / "cosmic"))
    assert parts["test"].x.shape == (4, 4, 4)
    assert set(np.unique(parts["test"].y)) == {0, 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": np.arange(3)}, r"train_dirs.npy holds int64 of shape \(3,\); expected the names of frames"),
        (
            {"test": np.array(["./night/9_x.npy"])},
            "test_dirs.npy names ./night/9_x.npy, which is not there; looked for",
        ),
        ({"frame2": np.zeros((2, 8))}, r"2_x.npy has shape \(2, 8\); expected"),
        ({"frame2": np.zeros((4, 8, 8))}, r"2_x.npy has shape \(4, 8, 8\); expected image, mask .* each \(8, 8\)"),
        ({"frame3": np.zeros((2, 16, 16))}, r"3_x.npy has shape \(2, 16, 16\); expected .* each \(8, 8\)"),
        ({"frame1": np.full((2, 8, 8), 0.5)}, "the mask in .*1_x.npy has 0.5; expected 0 and 1"),
        ({"frame1": np.array([{}], object)}, "1_x.npy holds pickled objects"),
    ],
)
def test_each_way_to_break_the_files_has_its_message(changes: dict[str, np.ndarray], message: str, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        read(by_hand(tmp_path / "cosmic", **changes))


def test_a_list_of_pickled_names_is_refused(tmp_path: Path) -> None:
    names = np.array(["./night/1_x.npy"], dtype=object)
    with pytest.raises(InputError, match="train_dirs.npy is no .npy file of plain text"):
        read(by_hand(tmp_path / "cosmic", train=names))


def test_the_generator_makes_the_same_frames_again() -> None:
    one: Callable[[], np.ndarray] = lambda: sky.frame(32, np.random.default_rng(5))[0]  # noqa: E731
    np.testing.assert_array_equal(one(), one())
