"""Images on the sphere: the Driscoll-Healy grid, random rotations, and the projection of a plane image.

The grid of bandwidth b has 2b polar angles beta_j = pi j / (2b) and 2b azimuths alpha_k = pi k / b (Driscoll & Healy
1994); the projection is that of the spherical digits of Cohen et al. (2018, arXiv 1801.10130).
"""

from __future__ import annotations

import numpy as np

POLE = 2.001  # height that the image is projected from; the sphere of radius 1 stands on the image's plane
REACH = 1.5  # half the side of the image in that plane


def grid(bandwidth: int) -> np.ndarray:
    """Unit vectors (2b, 2b, 3), polar angle first."""
    beta = np.pi * np.arange(2 * bandwidth)[:, None] / (2 * bandwidth)
    alpha = np.pi * np.arange(2 * bandwidth) / bandwidth
    return np.stack([np.sin(beta) * np.cos(alpha), np.sin(beta) * np.sin(alpha), np.cos(beta) + 0 * alpha], -1)


def weights(bandwidth: int) -> np.ndarray:
    """Weights (2b,) of the polar angles: sum_jk w_j f(beta_j, alpha_k) is the integral over the sphere.

    Exact for functions of a degree below 2b: w_j = (pi / b) (2 / b) sin(beta_j) sum_l sin((2l + 1) beta_j) / (2l + 1)
    with l from 0 to b - 1 (Driscoll & Healy 1994, theorem 3, scaled to the area 4 pi).
    """
    beta = np.pi * np.arange(2 * bandwidth) / (2 * bandwidth)
    odd = 2 * np.arange(bandwidth)[:, None] + 1
    return np.pi / bandwidth * 2 / bandwidth * np.sin(beta) * (np.sin(odd * beta) / odd).sum(0)


def random_rotations(count: int, generator: np.random.Generator) -> np.ndarray:
    """Uniform rotations (count, 3, 3): a turn about z, then the reflection -(I - V V^T), |V|^2 = 2 (Arvo 1992)."""
    turn, azimuth, height = generator.random((3, count)) * np.array([[2 * np.pi], [2 * np.pi], [2.0]])
    v = np.stack([np.sin(azimuth) * np.sqrt(height), np.cos(azimuth) * np.sqrt(height), np.sqrt(2 - height)], -1)
    about = np.zeros((count, 3, 3))
    about[:, 0, 0] = about[:, 1, 1] = np.cos(turn)
    about[:, 0, 1], about[:, 1, 0], about[:, 2, 2] = np.sin(turn), -np.sin(turn), 1
    return (v[:, :, None] * v[:, None] - np.eye(3)) @ about


def project(images: np.ndarray, rotations: np.ndarray, bandwidth: int) -> np.ndarray:
    """Images on the lower half of a rotated sphere, seen from above its upper pole.

    A value is interpolated between the pixels before and after its own, as the digits' generator does, so images are
    a little smoothed. Each is then brought to 0..255.

    Args:
        images: (n, H, H, C).
        rotations: (n, 3, 3).
        bandwidth: b.

    Returns:
        (n, C, 2b, 2b) uint8.
    """
    points = np.einsum("nij,bkj->nbki", rotations, grid(bandwidth))
    height = points[..., 2] + 1
    stretch = 1 - height / (height - POLE)  # to where the ray from the pole through the point meets the plane
    side = images.shape[1]
    place = (stretch[..., None] * points[..., :2] + REACH) / (2 * REACH) * side  # (n, 2b, 2b, 2) in pixels
    own = np.floor(place).astype(np.int64)
    out = np.zeros((*own.shape[:3], images.shape[3]))
    number = np.arange(len(images))[:, None, None]
    for row in (-1, 1):
        for column in (-1, 1):
            at = own + (row, column)
            there = ((at >= 0) & (at < side)).all(-1) & (height <= 1)
            at = np.clip(at, 0, side - 1)
            weight = np.abs(place - own + (row, column)) / 2  # of the pixel one before: (own + 1 - place) / 2
            part = images[number, at[..., 0], at[..., 1]] * (weight.prod(-1) * there)[..., None]
            out += part
    low, high = (f(out, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    return np.moveaxis(np.round(255 * (out - low) / np.maximum(high - low, 1e-12)), -1, 1).astype(np.uint8)
