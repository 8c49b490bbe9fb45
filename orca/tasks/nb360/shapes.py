"""Small colour images of a hundred classes: ten shapes in ten textures, before a random background."""

from __future__ import annotations

import numpy as np

SIDE, CLASSES = 32, 100
SHAPES = ("disc", "ring", "bar", "cross", "triangle", "square", "polygon", "blob", "two discs", "checker")
SMOOTH = 0.06  # width of a shape's edge, where half the image is 1
NOISE = 0.05  # of a pixel, of a range of 1


def draw_labels(count: int, generator: np.random.Generator) -> np.ndarray:
    """Classes (count,) int64, each once in every hundred."""
    rounds = -(-count // CLASSES)
    return np.concatenate([generator.permutation(CLASSES) for _ in range(rounds)])[:count].astype(np.int64)


def draw_images(labels: np.ndarray, generator: np.random.Generator, *, side: int = SIDE) -> np.ndarray:
    """Images (n, side, side, 3) uint8: class 10 s + t is shape s in texture t.

    Position (+-6 of 32 pixels), scale (0.6 to 1.2), rotation, contrast, background (a random field whose amplitude
    falls as 1/f) and pixel noise vary.
    """
    n, (shape, texture) = len(labels), np.divmod(labels, 10)
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    shift, scale = generator.uniform(-0.375, 0.375, (2, n, 1, 1)), generator.uniform(0.6, 1.2, (n, 1, 1)) * 0.8
    turn = generator.uniform(0, 2 * np.pi, (n, 1, 1))
    x, y = (axis - shift[0]) / scale, (axis[:, None] - shift[1]) / scale
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    level = np.empty((n, side, side))
    for number in range(len(SHAPES)):
        rows = shape == number
        level[rows] = _level(number, u[rows], v[rows], generator)
    inside = (1 / (1 + np.exp(-np.clip(level / SMOOTH, -50, 50))))[..., None]  # (n, side, side, 1)
    pattern = _pattern(texture, axis, generator)[..., None]
    hue = texture / 10
    front = _colour(hue)[:, None, None] * pattern + _colour(hue + 0.4)[:, None, None] * (1 - pattern)
    back = 0.5 + 0.18 * random_field(n, side, generator)[..., None] * generator.normal(1, 0.3, (n, 1, 1, 3))
    contrast = generator.uniform(0.6, 1, (n, 1, 1, 1))
    image = (inside * front + (1 - inside) * back - 0.5) * contrast + 0.5 + NOISE * generator.normal(size=back.shape)
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def random_field(n: int, side: int, generator: np.random.Generator) -> np.ndarray:
    """Gaussian fields (n, side, side) with mean 0, variance 1 and an amplitude that falls as 1/f."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(generator.normal(size=(n, side, side))) / frequency, (side, side))
    return field / field.std((1, 2), keepdims=True)


def _level(number: int, u: np.ndarray, v: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A function that is positive inside of the shape, in units of its size; u, v (n, side, side)."""
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    name = SHAPES[number]
    sides = {"triangle": np.full(len(u), 3), "square": np.full(len(u), 4)}
    if name in (*sides, "polygon"):
        k = sides.get(name, generator.integers(5, 7, len(u)))[:, None, None]
        sector = np.mod(angle, 2 * np.pi / k) - np.pi / k
        return 0.8 * np.cos(np.pi / k) - r * np.cos(sector) + 0.15 / k
    if name == "blob":
        coarse = random_field(len(u), u.shape[-1], generator)
        return 0.6 - r + 0.3 * coarse
    levels = {
        "disc": lambda: 0.7 - r,
        "ring": lambda: 0.2 - np.abs(r - 0.6),
        "bar": lambda: np.minimum(0.85 - np.abs(u), 0.22 - np.abs(v)),
        "cross": lambda: np.maximum(
            np.minimum(0.8 - np.abs(u), 0.2 - np.abs(v)), np.minimum(0.8 - np.abs(v), 0.2 - np.abs(u))
        ),
        "two discs": lambda: np.maximum(0.38 - np.hypot(u - 0.5, v), 0.38 - np.hypot(u + 0.5, v)),
        "checker": lambda: np.minimum(0.75 - np.maximum(np.abs(u), np.abs(v)), 0.1 * np.sin(4 * u) * np.sin(4 * v)),
    }
    return levels[name]()


def _pattern(texture: np.ndarray, axis: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Waves, stripes or dots of a law's own direction and frequency at any phase, (n, side, side) in 0..1."""
    n = len(texture)
    angle, cycles = (texture * np.pi / 10)[:, None, None], (2 + texture % 4)[:, None, None]
    phase = generator.uniform(0, 2 * np.pi, (2, n, 1, 1))
    along = axis * np.cos(angle) + axis[:, None] * np.sin(angle)
    across = axis[:, None] * np.cos(angle) - axis * np.sin(angle)
    wave, other = (np.sin(np.pi * cycles * part + p) for part, p in zip((along, across), phase, strict=True))
    kinds = np.stack([(1 + wave) / 2, (wave > 0).astype(float), ((wave > 0) & (other > 0)).astype(float)])
    return kinds[texture % 3, np.arange(n)]


def _colour(hue: np.ndarray) -> np.ndarray:
    """Colours (n, 3) in 0..1 of hues in turns."""
    return 0.5 + 0.4 * np.cos(2 * np.pi * (hue[:, None] - np.arange(3) / 3))
