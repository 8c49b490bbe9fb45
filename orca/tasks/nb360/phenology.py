"""Vegetation index over a year for 24 land covers: double logistic curves, with weather, fields and clouds.

``v(t) = w + (m - w) (1 / (1 + e^{-k1 (t - s)}) + 1 / (1 + e^{k2 (t - a)}) - 1)``: winter level w, maximum m, green-up s
and senescence a in days of the year, slopes k1 and k2 per day (Y. Julien, J. A. Sobrino, Global land surface phenology
trends, Int. J. Remote Sensing 30(13), 2009). The covers' numbers are plausible ones, of Orca's choice.
"""

from __future__ import annotations

import numpy as np

from orca.runtime import rng

# name: group, w, m, s, a, k1, k2
COVERS = {
    "wheat": ("winter crop", 0.22, 0.82, 75, 178, 0.075, 0.12),
    "barley": ("winter crop", 0.22, 0.78, 68, 164, 0.075, 0.12),
    "rapeseed": ("winter crop", 0.30, 0.86, 62, 172, 0.09, 0.10),
    "pea": ("winter crop", 0.16, 0.76, 92, 170, 0.10, 0.15),
    "irrigated maize": ("summer crop", 0.14, 0.86, 150, 268, 0.10, 0.08),
    "maize": ("summer crop", 0.14, 0.74, 147, 248, 0.10, 0.08),
    "sunflower": ("summer crop", 0.13, 0.72, 158, 236, 0.12, 0.10),
    "soy": ("summer crop", 0.15, 0.85, 164, 258, 0.10, 0.13),
    "sorghum": ("summer crop", 0.13, 0.68, 165, 264, 0.08, 0.06),
    "hemp": ("summer crop", 0.14, 0.80, 132, 236, 0.12, 0.14),
    "two crops": ("double crop", 0.18, 0.70, 70, 165, 0.08, 0.14),
    "temporary grass": ("grass", 0.38, 0.76, 72, 300, 0.06, 0.04),
    "permanent grass": ("grass", 0.42, 0.72, 82, 292, 0.04, 0.03),
    "broadleaf wood": ("wood", 0.40, 0.86, 105, 300, 0.10, 0.07),
    "conifers": ("wood", 0.58, 0.66, 100, 290, 0.03, 0.03),
    "eucalyptus": ("wood", 0.62, 0.74, 130, 320, 0.03, 0.03),
    "poplar": ("wood", 0.28, 0.82, 115, 288, 0.11, 0.08),
    "vineyard": ("perennial", 0.22, 0.50, 122, 290, 0.06, 0.06),
    "orchard": ("perennial", 0.28, 0.60, 105, 295, 0.06, 0.06),
    "fallow": ("perennial", 0.28, 0.52, 85, 215, 0.05, 0.03),
    "water": ("bare", -0.10, -0.06, 120, 260, 0.05, 0.05),
    "gravel": ("bare", 0.04, 0.09, 110, 260, 0.05, 0.05),
    "dense town": ("bare", 0.11, 0.15, 105, 280, 0.05, 0.05),
    "scattered town": ("bare", 0.20, 0.32, 100, 285, 0.05, 0.05),
}
CURVES = np.array([row[1:] for row in COVERS.values()])  # (24, 6)
GROUPS = np.unique([row[0] for row in COVERS.values()], return_inverse=True)[1]  # (24,)
SECOND = np.array([0.18, 0.66, 205, 285, 0.10, 0.09])  # the later crop of "two crops"
MOWN = ("temporary grass", "permanent grass")
FIELD = 4  # series of a field
DAYS, LEVELS = 8.0, 0.12  # spread of s and a; of m, w and the slopes, relative
BETWEEN = 0.8  # share of the variance that lies between fields
REGION, SIGMA, MEMORY = 0.02, 0.02, 0.5  # spread of a field's offset; noise of a series, and its AR(1) coefficient
CLOUDS, MIXED = 6, 0.1  # most clouded dates; share of mixed pixels


def dates(count: int) -> np.ndarray:
    """Irregular days of the year on which the satellite looked, (count,); the same in every set."""
    wait = rng("satellite dates", count).uniform(0.3, 1.7, count + 1)
    return 365 * np.cumsum(wait)[:-1] / wait.sum()


def shares() -> np.ndarray:
    """How frequent each cover is, (24,), log-normal weights; the same in every set."""
    weight = np.exp(0.6 * rng("satellite shares", 1).standard_normal(len(COVERS)))
    return weight / weight.sum()


def double_logistic(t: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """The index at days t (T,) of curves (..., 6) in the order w, m, s, a, k1, k2: (..., T)."""
    w, m, s, a, k1, k2 = np.moveaxis(curve[..., None], -2, 0)  # each (..., 1)
    with np.errstate(over="ignore"):
        return w + (m - w) * (1 / (1 + np.exp(-k1 * (t - s))) + 1 / (1 + np.exp(k2 * (t - a))) - 1)


def series(cover: np.ndarray, days: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One series for each pixel, (n, T). Runs of FIELD pixels of one cover are a field, and share most of its fortune.

    Args:
        cover: indices of COVERS, (n,).
        days: (T,).
        generator: of everything else.
    """
    n = len(cover)
    value = _grown(cover, days, generator)
    mixed, other = generator.random(n) < MIXED, generator.integers(0, len(COVERS), n)
    weight = np.where(mixed, generator.uniform(0.6, 0.9, n), 1.0)[:, None]
    value = weight * value + (1 - weight) * _grown(other, days, generator)
    field = np.arange(n) // FIELD
    value = value + REGION * generator.standard_normal(n)[field][:, None] + _coloured(value.shape, generator)
    return _clouded(value, days, generator)


def _grown(cover: np.ndarray, days: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Curves with the luck of field and pixel, (n, T)."""
    value = double_logistic(days, _jittered(CURVES[cover], generator))
    names = list(COVERS)
    twice = cover == names.index("two crops")
    later = double_logistic(days, _jittered(np.broadcast_to(SECOND, (int(twice.sum()), 6)), generator))
    value[twice] += later - SECOND[0]
    mown = np.isin(cover, [names.index(name) for name in MOWN])
    value[mown] -= _mowing(int(mown.sum()), days, generator)
    return value


def _jittered(curve: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Curves (n, 6) with spread: days of s and a by DAYS, the others by LEVELS."""
    n = len(curve)
    field = np.arange(n) // FIELD
    luck = np.sqrt(BETWEEN) * generator.standard_normal((n, 6))[field]
    luck = luck + np.sqrt(1 - BETWEEN) * generator.standard_normal((n, 6))
    added = curve + DAYS * luck
    scaled = curve * np.maximum(1 + LEVELS * luck, 0.3)
    return np.where(np.isin(np.arange(6), (2, 3)), added, scaled)


def _mowing(n: int, days: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """What one to three cuts take away, (n, T): a drop that grows back within about three weeks."""
    day = generator.uniform(130, 270, (n, 3, 1))
    depth = generator.uniform(0.1, 0.25, (n, 3, 1)) * (np.arange(3)[:, None] < generator.integers(1, 4, (n, 1, 1)))
    since = days - day
    return (depth * np.exp(-np.maximum(since, 0) / 20) * (since >= 0)).sum(1)


def _coloured(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """AR(1) noise of standard deviation SIGMA along the last axis."""
    white = generator.standard_normal(shape)
    out = white.copy()
    for i in range(1, shape[1]):
        out[:, i] = MEMORY * out[:, i - 1] + np.sqrt(1 - MEMORY**2) * white[:, i]
    return SIGMA * out


def _clouded(value: np.ndarray, days: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Up to six dates under clouds: in half of the series the values fall, in the others they were interpolated."""
    n, count = value.shape
    hit = generator.random((n, count)).argsort(1) < generator.integers(0, min(CLOUDS, count - 2) + 1, (n, 1))
    dark = value * np.where(hit, generator.uniform(0.2, 0.7, (n, count)), 1.0)
    rows = generator.random(n) < 0.5
    for i in np.flatnonzero(rows & hit.any(1)):
        dark[i] = np.interp(days, days[~hit[i]], value[i, ~hit[i]])
    return dark
