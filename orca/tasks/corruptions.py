"""Common corruptions of images at five severities, after Hendrycks and Dietterich 2019 (arXiv 1903.12261).

Six of their nineteen kinds, at least one of each of their four groups: Gaussian and impulse noise; Gaussian blur;
brightness, which they count as weather; contrast and pixelation. These need no pictures of frost and no codec, and make
sense on grey images and on 8 x 8 pixels too. The numbers are those of CIFAR-10-C, whose images are 32 x 32
(``make_cifar_c.py`` in github.com/hendrycks/robustness at ca36008); they are per pixel, so on smaller images blur and
pixelation weigh more.

A set has one severity and all kinds in equal shares, instead of a set for each of the thirty pairs: five columns in a
table can be read, and a rise along them is what the severities are for. Each row has the same kind and the same draw of
noise at each severity, so the five differ in nothing else. They are of 1,000 rows at most: five of them cost half of
what a test set of 10,000 does, and an error of a half is known to within 0.03.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orca.runtime import rng
from orca.tasks.encodings import GridEncoding
from orca.tasks.raw import Raw
from orca.tasks.shifts import Shift, as_type, declared

ROWS = 1000
SEVERITIES = (1, 2, 3, 4, 5)
Corruption = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]  # images (n, H, W, C) in [0, 1]


def corruptions(encoding: GridEncoding) -> dict[str, Shift]:
    """A shift for each severity, of images that the encoding brings to [0, 1]."""
    return {f"corrupted-{severity}": corrupted(severity, encoding) for severity in SEVERITIES}


@declared(most=ROWS)
def corrupted(raw: Raw, severity: int, encoding: GridEncoding) -> Raw:
    """Each image with one of the kinds, which are in equal shares; whole numbers stay whole, and all in their range."""
    x = _channels_last(raw.x, encoding).astype(np.float32) * np.float32(encoding.scale)
    kind = rng("shift", "kinds").permutation(np.arange(len(x)) % len(KINDS))
    for number, (change, sizes) in enumerate(KINDS):
        rows = kind == number
        x[rows] = np.clip(change(x[rows], sizes[severity - 1], rng("shift", change.__name__)), 0, 1)
    found = as_type(x / np.float32(encoding.scale), raw.x)
    return Raw(_as_given(found, encoding), raw.y, raw.length, raw.group)


def gaussian_noise(x: np.ndarray, deviation: float, draw: np.random.Generator) -> np.ndarray:
    """White noise of that standard deviation."""
    return x + np.float32(deviation) * draw.standard_normal(x.shape, np.float32)


def impulse_noise(x: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """That share of the values, channel by channel, is 0 or 1, as often the one as the other."""
    chance = draw.random(x.shape)
    return np.where(chance < share / 2, np.float32(0), np.where(chance > 1 - share / 2, np.float32(1), x))


def gaussian_blur(x: np.ndarray, deviation: float, draw: np.random.Generator) -> np.ndarray:
    """The mean over a Gaussian of that many pixels; beyond the edge lies its nearest value."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(x, (0, deviation, deviation, 0), mode="nearest")


def brightness(x: np.ndarray, rise: float, draw: np.random.Generator) -> np.ndarray:
    """Value, the largest channel, raised by so much up to 1; hue and saturation stay, and black becomes grey."""
    value = x.max(-1, keepdims=True)
    raised = np.minimum(value + np.float32(rise), 1)
    return np.where(value > 0, x * (raised / np.where(value > 0, value, 1)), raised)


def contrast(x: np.ndarray, factor: float, draw: np.random.Generator) -> np.ndarray:
    """The distance from the mean of each channel of the image, times the factor."""
    mean = x.mean((1, 2), keepdims=True)
    return mean + np.float32(factor) * (x - mean)


def pixelate(x: np.ndarray, factor: float, draw: np.random.Generator) -> np.ndarray:
    """Means over the cells of a grid of int(factor * side) per side, enlarged again by the nearest cell."""
    down, along = (_cells(side, int(factor * side)) for side in x.shape[1:3])
    return np.einsum("ih,jw,nhwc->nijc", down, along, x, optimize=True)


def _cells(side: int, fewer: int) -> np.ndarray:
    """The matrix (side, side) that gives each pixel the mean of those with their middles in the same of some cells."""
    cell = ((np.arange(side) + 0.5) * fewer / side).astype(int)
    same = (cell[:, None] == cell).astype(np.float32)
    return same / same.sum(1, keepdims=True)


KINDS: tuple[tuple[Corruption, tuple[float, ...]], ...] = (
    (gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    (impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    (gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    (brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
)


def _channels_last(x: np.ndarray, encoding: GridEncoding) -> np.ndarray:
    if encoding.channels == "none":
        return x[..., None]
    return np.moveaxis(x, 1, -1) if encoding.channels == "first" else x


def _as_given(x: np.ndarray, encoding: GridEncoding) -> np.ndarray:
    if encoding.channels == "none":
        return x[..., 0]
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if encoding.channels == "first" else x
