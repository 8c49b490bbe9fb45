"""Corruptions of images: their sizes as stated, damage that grows with severity, types and ranges that stay."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from orca.tasks import corruptions
from orca.tasks.corruptions import KINDS, ROWS, SEVERITIES
from orca.tasks.encodings import GridEncoding
from orca.tasks.raw import Raw

DRAW = np.random.default_rng(0)
SETS = {  # raw images as tasks have them: grey floats up to 16, colours last, colours first
    "grey": (DRAW.integers(0, 17, (60, 8, 8)).astype(float), GridEncoding(channels="none", scale=1 / 16), 16),
    "last": (
        DRAW.integers(0, 256, (60, 32, 32, 3)).astype(np.uint8),
        GridEncoding(channels="last", scale=1 / 255),
        255,
    ),
    "first": (
        DRAW.integers(0, 256, (60, 3, 16, 16)).astype(np.uint8),
        GridEncoding(channels="first", scale=1 / 255),
        255,
    ),
}


@pytest.mark.parametrize("form", SETS)
def test_images_keep_shape_type_range_and_answers(form: str) -> None:
    x, encoding, top = SETS[form]
    before = x.copy()
    for name, shift in corruptions.corruptions(encoding).items():
        found, again = shift(Raw(x, np.arange(60))), shift(Raw(x, np.arange(60)))
        assert (found.x.dtype, found.x.shape) == (x.dtype, x.shape)
        assert found.x.min() >= 0
        assert found.x.max() <= top
        assert found.x.tobytes() == again.x.tobytes()
        assert (found.x != x).any(), name
        np.testing.assert_array_equal(found.y, np.arange(60))
    np.testing.assert_array_equal(x, before)


def test_there_is_a_set_for_each_of_five_severities() -> None:
    assert list(corruptions.corruptions(SETS["grey"][1])) == [f"corrupted-{k}" for k in (1, 2, 3, 4, 5)]
    assert all(len(sizes) == len(SEVERITIES) for _, sizes in KINDS)


def test_channels_are_found_wherever_they_are() -> None:
    x = SETS["last"][0]
    last, first = (
        shift(Raw(images, np.zeros(60))).x
        for shift, images in zip(
            (corruptions.corrupted(5, GridEncoding(channels=c, scale=1 / 255)) for c in ("last", "first")),
            (x, np.moveaxis(x, -1, 1)),
            strict=True,
        )
    )
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), last)


def smooth(n: int) -> np.ndarray:
    """Images (n, 32, 32, 3) like photographs in [0, 1]: smooth, of all brightnesses."""
    x = gaussian_filter(np.random.default_rng(1).standard_normal((n, 32, 32, 3)), (0, 1.5, 1.5, 0))
    return (0.5 + 0.25 * x / x.std()).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[change.__name__ for change, _ in KINDS])
def test_the_damage_of_each_kind_grows_with_severity(kind: int) -> None:
    (change, sizes), x = KINDS[kind], smooth(40)
    damage = [float(((change(x, size, np.random.default_rng(2)).clip(0, 1) - x) ** 2).mean()) for size in sizes]
    assert damage[0] > 0
    assert damage == sorted(damage)
    assert damage[-1] > 2 * damage[0]


def test_each_row_has_one_kind_at_all_severities_and_kinds_have_equal_shares() -> None:
    x = np.full((120, 16, 16), 120, np.uint8)
    x[:, ::2, 1::2] = 140  # all kinds change it
    encoding = GridEncoding(channels="none", scale=1 / 255)
    sets = [shift(Raw(x, np.zeros(120))).x.astype(int) for shift in corruptions.corruptions(encoding).values()]
    salt = [np.isin(found, (0, 255)).any((1, 2)) for found in sets]  # impulses alone reach black and white
    assert salt[-1].sum() == 120 / len(KINDS)
    assert (salt[0] <= salt[-1]).all()
    flat = [found.std((1, 2)) < 0.2 * x[0].std() for found in sets]  # contrast at 0.15, and the blur of a pixel
    assert flat[-1].sum() == 2 * 120 / len(KINDS)


def test_noise_and_impulses_have_the_stated_size() -> None:
    x = np.full((50, 32, 32, 3), 0.5, np.float32)
    (gauss, deviations), (impulse, shares) = KINDS[:2]
    for deviation, share in zip(deviations, shares, strict=True):
        assert (gauss(x, deviation, np.random.default_rng(0)) - x).std() == pytest.approx(deviation, rel=0.02)
        struck = impulse(x, share, np.random.default_rng(0))
        assert (struck != x).mean() == pytest.approx(share, rel=0.1)
        assert (struck == 1).mean() == pytest.approx(share / 2, rel=0.1)


def test_blur_keeps_the_mean_and_contrast_the_mean_of_each_channel() -> None:
    x = smooth(10)
    blurred = corruptions.gaussian_blur(x, 1.0, DRAW)
    np.testing.assert_allclose(blurred.mean((1, 2)), x.mean((1, 2)), atol=0.02)
    assert np.abs(np.diff(blurred, axis=1)).mean() < np.abs(np.diff(x, axis=1)).mean()
    faint = corruptions.contrast(x, 0.4, DRAW)
    np.testing.assert_allclose(faint.mean((1, 2)), x.mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(faint.std((1, 2)), 0.4 * x.std((1, 2)), rtol=1e-3)


def test_brightness_raises_the_value_and_keeps_hue_and_saturation() -> None:
    x = np.array([[[[0.2, 0.1, 0.4], [0.0, 0.0, 0.0], [0.9, 0.45, 0.0]]]], np.float32)
    found = corruptions.brightness(x, 0.2, DRAW)[0, 0]
    np.testing.assert_allclose(found, [[0.3, 0.15, 0.6], [0.2, 0.2, 0.2], [1.0, 0.5, 0.0]], rtol=1e-6)
    grey = np.array([[[[0.3]], [[0.0]]]], np.float32)
    np.testing.assert_allclose(corruptions.brightness(grey, 0.2, DRAW).ravel(), [0.5, 0.2], rtol=1e-6)


def test_pixels_of_a_cell_become_their_mean() -> None:
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1) / 16
    found = corruptions.pixelate(x, 0.5, DRAW)[0, :, :, 0] * 16
    np.testing.assert_allclose(found, [[2.5, 2.5, 4.5, 4.5]] * 2 + [[10.5, 10.5, 12.5, 12.5]] * 2)
    for factor, cells in ((0.95, 30), (0.65, 20)):
        row = corruptions.pixelate(np.random.default_rng(0).random((1, 32, 32, 1)).astype(np.float32), factor, DRAW)
        assert len(np.unique(row[0, 0, :, 0])) == cells


def test_of_a_large_test_set_a_thousand_rows_are_corrupted() -> None:
    x, encoding = np.zeros((ROWS + 500, 4, 4), np.uint8), GridEncoding(channels="none", scale=1 / 255)
    sets = [s.of(Raw(x, np.arange(ROWS + 500))).y for s in corruptions.corruptions(encoding).values()]
    assert all(len(y) == ROWS for y in sets)
    assert all((y == sets[0]).all() for y in sets)
