"""Images of a hundred classes, flat and on the sphere: quadrature, rotations, projection, checks and broken files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orca.errors import InputError
from orca.tasks import TASKS
from orca.tasks.making import make
from orca.tasks.nb360 import cifar100, spherical
from orca.tasks.nb360.shapes import CLASSES, SHAPES, draw_images, draw_labels, random_field
from orca.tasks.nb360.sphere import grid, project, random_rotations, weights
from orca.tasks.published import Published, Size


@pytest.mark.parametrize("bandwidth", [4, 15, 30])
def test_the_quadrature_is_exact_below_twice_the_bandwidth(bandwidth: int) -> None:
    z = grid(bandwidth)[:, :, 2]
    whole = weights(bandwidth)[:, None] / (4 * np.pi)
    for degree in range(2 * bandwidth):
        wanted = 0 if degree % 2 else 1 / (degree + 1)
        assert (whole * z**degree).sum() == pytest.approx(wanted, abs=1e-12)


def test_the_quadrature_ends_at_twice_the_bandwidth() -> None:
    z = grid(2)[:, :, 2]
    assert (weights(2)[:, None] / (4 * np.pi) * z**4).sum() != pytest.approx(1 / 5, rel=1e-3)


def test_the_integral_of_a_band_limited_function_does_not_see_a_rotation() -> None:
    draw, points, whole = np.random.default_rng(0), grid(8), weights(8)[:, None]
    towards, amount = draw.normal(size=(5, 3)), draw.normal(size=5)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    values = [
        (whole[..., None] * ((points @ turn.T @ towards.T) ** 6 * amount)).sum()
        for turn in (np.eye(3), *random_rotations(4, draw))
    ]
    np.testing.assert_allclose(values, values[0], atol=1e-6)


def test_rotations_are_proper_and_uniform() -> None:
    turns = random_rotations(4000, np.random.default_rng(0))
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    np.testing.assert_allclose(turns.mean(0), 0, atol=0.04)  # each row and column is uniform on the sphere
    np.testing.assert_allclose((turns**2).mean(0), 1 / 3, atol=0.02)


def test_an_unrotated_image_lies_about_the_lower_pole() -> None:
    image = np.zeros((1, 32, 32, 3))
    image[:, 14:18, 14:18] = 1  # the middle of the plane touches the sphere at its lower pole, polar angle pi
    on_sphere = project(image, np.eye(3)[None], 30)[0]
    assert on_sphere.shape == (3, 60, 60)
    assert on_sphere[:, -1].min() > 200
    assert on_sphere[:, :45].max() == 0
    white = project(np.ones((1, 32, 32, 1)), np.eye(3)[None], 30)[0, 0]
    assert white[:30].max() == 0  # nothing on the upper half


def test_a_rotation_only_moves_what_is_on_the_sphere() -> None:
    draw = np.random.default_rng(1)
    image = np.repeat(np.outer(np.hanning(32), np.hanning(32))[None, ..., None], 6, 0)
    shown = project(image, np.concatenate([np.eye(3)[None], random_rotations(5, draw)]), 30)[:, 0]
    masses = (weights(30)[:, None] * shown).sum((1, 2))
    np.testing.assert_allclose(masses, masses[0], rtol=0.02)


def test_each_class_is_there_once_in_a_hundred() -> None:
    labels = draw_labels(250, np.random.default_rng(0))
    assert (np.bincount(labels[:100], minlength=CLASSES) == 1).all()
    assert len(labels) == 250
    assert len(SHAPES) == 10


def test_images_of_a_class_vary_and_backgrounds_have_their_spectrum() -> None:
    images = draw_images(np.repeat(np.arange(0, 100, 7), 2), np.random.default_rng(0))
    assert images.dtype == np.uint8
    assert images.shape == (30, 32, 32, 3)
    assert all(not np.array_equal(a, b) for a, b in zip(images[::2], images[1::2], strict=True))
    power = (np.abs(np.fft.fft2(random_field(400, 32, np.random.default_rng(0)))) ** 2).mean(0)
    assert power[0, 2] / power[0, 8] == pytest.approx(16, rel=0.25)


SIZES: dict[str, tuple[Published, Size]] = {
    "cifar100": (cifar100.CIFAR100, Size(1000, 0, 100, 32)),
    "spherical": (spherical.SPHERICAL, Size(300, 0, 100, 16)),
}


@pytest.mark.parametrize("name", SIZES)
def test_generated_files_meet_their_checks_and_load(name: str, tmp_path: Path, monkeypatch) -> None:
    published, size = SIZES[name]
    checks = make(published, tmp_path / name, size)
    assert [check for check in checks if not check.passed] == []
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    splits = TASKS.get(name).load()
    assert splits.layout.target_shape == (100,)
    assert splits.train.x.shape[1:] == (3, size.points, size.points)
    assert 0 <= splits.train.x.min() < splits.train.x.max() <= 1
    assert len(splits.train) + len(splits.val) == size.train
    assert "synthetic" in splits.notes[0]


def files(folder: Path, name: str, **changes: np.ndarray) -> Path:
    """Eight images of four classes, with labels of another type."""
    shapes = {"cifar100": (8, 4, 4, 3), "spherical": (8, 3, 4, 4)}
    images = np.random.default_rng(0).integers(0, 256, shapes[name])
    keys = {"cifar100": ("x_train", "y_train", "x_test", "y_test"),
            "spherical": ("train_images", "train_labels", "test_images", "test_labels")}[name]  # fmt: skip
    values = (images, np.arange(8.0) % 4, images, np.arange(8, dtype=np.int32) % 4)
    arrays = {
        key: changes.get(key, value) for key, value in zip(keys, values, strict=True) if key not in changes.get("-", ())
    }
    np.savez(folder / SIZES[name][0].files[0], **arrays)  # pyright: ignore[reportArgumentType]
    return folder


@pytest.mark.parametrize("name", SIZES)
def test_files_made_by_hand_load_whatever_their_type(name: str, tmp_path: Path) -> None:
    parts = SIZES[name][0].read(files(tmp_path, name))
    assert [parts[part].y.dtype for part in ("train", "test")] == [np.int64, np.int64]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cifar100", {"-": np.array(["x_test"])}, "cifar-100.npz lacks x_test; it has x_train"),
        ("cifar100", {"x_train": np.zeros((8, 3, 4, 4))}, r"x_train .* has shape \(8, 3, 4, 4\); expected \(n, H"),
        ("cifar100", {"x_test": np.full((8, 4, 4, 3), 0.5)}, r"x_test .* has values 0.5..0.5; expected 8-bit images"),
        ("cifar100", {"y_train": np.arange(7)}, "train in .* has 8 inputs and 7 labels"),
        ("cifar100", {"y_train": np.full(8, 100)}, r"y_train .* has label 100 in row 0; expected whole numbers 0..99"),
        ("spherical", {"-": np.array(["test_labels"])}, "s2_cifar100.npz lacks test_labels"),
        ("spherical", {"train_images": np.zeros((8, 3, 4, 6))}, r"has shape \(8, 3, 4, 6\); expected \(n, 3, 2b, 2b\)"),
        ("spherical", {"test_images": np.full((8, 3, 4, 4), -1)}, "has values -1..-1; expected 8-bit images"),
        ("spherical", {"train_labels": np.full(8, 0.5)}, "train_labels .* has label 0.5 in row 0"),
    ],
)  # fmt: skip
def test_each_way_to_break_the_files_has_its_message(name: str, changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        SIZES[name][0].read(files(tmp_path, name, **changes))
