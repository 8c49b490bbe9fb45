"""Frames of a space telescope: stars and galaxies behind a point-spread function, and cosmic rays that saw none."""

from __future__ import annotations

import numpy as np

SIDE = 256  # pixels of a published frame; smaller ones have fewer sources
SATURATION = 8e4  # electrons
PITCH, DEPTH = 15.0, 1.5  # of a pixel, micrometres; of the detector, pixels
ENERGY, SPREAD = 85.0, 9.0  # most probable charge of a track and its scale, electrons per micrometre
LONGEST = 40.0  # pixels
PIXELS_PER_RAY = 6.0  # on average, by which the number of rays follows from the share of pixels
CLEAR, DOUBTFUL = 3.0, 1.0  # charge in units of the local noise


def frame(points: int, generator: np.random.Generator) -> tuple[np.ndarray, float]:
    """One exposure and its sky level.

    Returns:
        (3, points, points) float32: image in electrons, mask of the rays, pixels that do not count; electrons.
    """
    from scipy.ndimage import binary_dilation

    sky = float(np.exp(generator.uniform(np.log(20), np.log(200))))
    psf = moffat(33, fwhm=2.0, beta=generator.uniform(3, 4.5))
    scene = sky + stars(points, psf, generator) + galaxies(points, psf, generator)
    rays = tracks(points, generator.uniform(0.005, 0.02), generator)
    read = generator.uniform(4, 5)
    image = generator.poisson(scene + rays) + generator.normal(0, read, scene.shape)
    ratio = rays / np.sqrt(scene + read**2)
    mask = ratio > CLEAR
    ignore = image > SATURATION
    rim = np.asarray(binary_dilation(mask, np.ones((3, 3))), bool) & ~mask
    ignore |= rim & (ratio > DOUBTFUL)
    if generator.random() < 0.5:
        column = generator.integers(points)
        image[:, column], ignore[:, column] = SATURATION, True
    image = np.minimum(image, SATURATION)
    return np.stack([image, mask, ignore]).astype(np.float32), sky


def moffat(size: int, *, fwhm: float, beta: float) -> np.ndarray:
    """The point-spread function (1 + r^2 / a^2)^-beta on size x size pixels, summing to 1 (Moffat 1969)."""
    r2 = (np.arange(size) - size // 2) ** 2
    core = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    profile = (1 + (r2[:, None] + r2) / core**2) ** -beta
    return profile / profile.sum()


def fluxes(count: int, low: float, high: float, generator: np.random.Generator) -> np.ndarray:
    """Electrons of sources whose density falls as F^-1.5, (count,)."""
    share = generator.random(count)
    return (low**-0.5 + share * (high**-0.5 - low**-0.5)) ** -2


def stars(points: int, psf: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Points at any place, (points, points) electrons."""
    from scipy.signal import fftconvolve

    count = generator.poisson(generator.uniform(5, 40) * (points / SIDE) ** 2)
    place = generator.uniform(0, points - 1, (count, 2))
    light = _deposit(place, fluxes(count, 300, 2e5, generator), points)
    return np.clip(fftconvolve(light, psf, mode="same"), 0, None)


def galaxies(points: int, psf: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Sersic profiles exp(-b (r / R_e)^(1/n)), b = 2n - 1/3 (Ciotti & Bertin 1999), as blurred as the stars."""
    from scipy.signal import fftconvolve

    light = np.zeros((points, points))
    rows, columns = np.mgrid[:points, :points]
    for _ in range(generator.poisson(generator.uniform(3, 15) * (points / SIDE) ** 2)):
        index, radius, ratio = generator.uniform(0.5, 4), generator.uniform(2, 15), generator.uniform(0.3, 1)
        angle, (row, column) = generator.uniform(0, np.pi), generator.uniform(0, points, 2)
        along = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
        across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
        r = np.maximum(np.hypot(along, across / ratio), 0.3)
        profile = np.exp(-(2 * index - 1 / 3) * (r / radius) ** (1 / index))
        light += profile / profile.sum() * fluxes(1, 2e3, 3e5, generator)
    return np.clip(fftconvolve(light, psf, mode="same"), 0, None)


def tracks(points: int, share: float, generator: np.random.Generator) -> np.ndarray:
    """Charge of cosmic rays, (points, points) electrons, in about that share of the pixels.

    A ray enters anywhere, at an angle t from the vertical with density ~ cos^2 t through a flat surface, so cos t is
    U^(1/4); it crosses depth * tan t pixels and leaves Moyal-distributed charge for each micrometre of its path, which
    diffuses by 0.3 to 0.5 pixels.
    """
    from scipy.ndimage import gaussian_filter

    count = generator.poisson(share * points**2 / PIXELS_PER_RAY)
    upright = generator.random(count) ** 0.25
    length = np.clip(DEPTH * np.sqrt(1 / upright**2 - 1), 0, LONGEST)
    azimuth = generator.uniform(0, 2 * np.pi, count)
    entry = generator.uniform(0, points - 1, (count, 2))
    path = np.hypot(length, DEPTH) * PITCH
    charge = path * np.maximum(ENERGY + SPREAD * moyal(count, generator), 0)
    steps = np.linspace(0, 1, int(4 * LONGEST) + 1)
    heading = np.stack([np.sin(azimuth), np.cos(azimuth)], 1) * length[:, None]
    place = entry[:, None] + steps[:, None] * heading[:, None]  # (count, steps, 2)
    inside = ((place >= 0) & (place <= points - 1)).all(-1)
    each = np.broadcast_to(charge[:, None] / len(steps), inside.shape)
    return gaussian_filter(_deposit(place[inside], each[inside], points), generator.uniform(0.3, 0.5))


def moyal(count: int, generator: np.random.Generator) -> np.ndarray:
    """Draws of Moyal's density ~ exp(-(x + e^-x) / 2), near Landau's: x = -ln Z^2 of a normal Z."""
    return -np.log(generator.standard_normal(count) ** 2)


def _deposit(place: np.ndarray, amount: np.ndarray, points: int) -> np.ndarray:
    """Shares each amount (m,) at places (m, 2) among the four pixels around it."""
    low = np.clip(np.floor(place).astype(int), 0, points - 2)
    rest = place - low
    out = np.zeros((points, points))
    for row in (0, 1):
        for column in (0, 1):
            weight = np.abs(1 - row - rest[:, 0]) * np.abs(1 - column - rest[:, 1])
            np.add.at(out, (low[:, 0] + row, low[:, 1] + column), amount * weight)
    return out
