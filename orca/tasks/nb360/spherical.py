"""CIFAR-100 on a randomly rotated sphere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.tasks.benchmark import Frame, published_task
from orca.tasks.converting import Conversion, as_dict, as_numbers, same_length
from orca.tasks.corruptions import corruptions
from orca.tasks.encodings import GridEncoding
from orca.tasks.files import read_npz
from orca.tasks.nb360.shapes import CLASSES, draw_images, draw_labels
from orca.tasks.nb360.sphere import grid, project, random_rotations, weights
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.tasks.readers.arrays import labels, numbers, paired
from orca.tasks.readers.pickles import read_pickle
from orca.types import Provenance

FILE = "s2_cifar100.npz"
PARTS = ("train", "test")
ENCODING = GridEncoding(channels="first", scale=1 / 255)
NAMES = tuple(str(number) for number in range(CLASSES))


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Spherical images (count, 3, points, points) uint8 and their classes (count,)."""
    classes = draw_labels(count, generator)
    plane = draw_images(classes, generator)
    return {"images": project(plane, random_rotations(count, generator), points // 2), "labels": classes}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the arrays that the published pickle holds."""
    arrays = {f"{part}_{name}": values for part, held in parts.items() for name, values in held.items()}
    np.savez(folder / FILE, **arrays)  # pyright: ignore[reportArgumentType]


def read(folder: Path) -> dict[str, Raw]:
    """Images and classes of both parts."""
    path = folder / FILE
    keys = [f"{part}_{name}" for part in PARTS for name in ("images", "labels")]
    found = read_npz(path, keys)
    parts = {}
    for part in PARTS:
        images, key = found[f"{part}_images"], f"{part}_images in {path}"
        numbers(images, ("n", 3, "2b", "2b"), key)
        if images.shape[2] != images.shape[3] or images.shape[2] % 2:
            raise InputError(f"{key} has shape {images.shape}; expected (n, 3, 2b, 2b), 2b = 60 as published")
        if images.min() < 0 or images.max() > 255:
            raise InputError(f"{key} has values {images.min()}..{images.max()}; expected 8-bit images, 0..255")
        classes = labels(found[f"{part}_labels"], 0, CLASSES - 1, f"{part}_labels in {path}")
        paired(images, classes, f"{part} in {path}")
        parts[part] = Raw(images, classes)
    return parts


def safe_arrays(path: Path) -> Arrays:
    """Of the gzipped pickle: images and labels of both parts."""
    found, arrays = as_dict(read_pickle(path), path, PARTS), {}
    for part in PARTS:
        inner = as_dict(found[part], f"{path}[{part}]", ("images", "labels"))
        images = as_numbers(inner["images"], f"{part}.images", path, ("n", 3, "H", "W"))
        labels = as_numbers(inner["labels"], f"{part}.labels", path, ("n",))
        same_length(path, **{f"{part}.images": len(images), f"{part}.labels": len(labels)})
        arrays |= {f"{part}_images": images, f"{part}_labels": labels}
    return arrays


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """The rotated grid integrates what the grid does, and images cover about half of the sphere."""
    bandwidth = points // 2
    there = parts["train"]["images"].any(1).mean((0, 2))  # (2b,)
    rotation = random_rotations(1, np.random.default_rng(0))[0]
    whole = [_integral(grid(bandwidth) @ turn.T, bandwidth) for turn in (np.eye(3), rotation)]
    return [
        Check("difference of the integrals over the grid and over the rotated grid", abs(whole[0] - whole[1]), 0, 1e-6),
        Check(
            "share of the sphere that images cover", float(weights(bandwidth) @ there * points / (4 * np.pi)), 0.3, 0.55
        ),
    ]


def _integral(points: np.ndarray, bandwidth: int) -> float:
    """Of (v . a)^b, a function of degree b, over the sphere."""
    towards = np.array([0.36, 0.48, 0.8])
    return float((weights(bandwidth)[:, None] * (points @ towards) ** bandwidth).sum())


SPHERICAL = Published(
    name="spherical",
    files=(FILE,),
    read=read,
    maker=Maker(
        version=1, small=Size(3000, 0, 500, 60), published=Size(50_000, 0, 10_000, 60), draw=draw, write=write,
        accept=accept, block=100,
    ),
    conversion=Conversion("spherical CIFAR-100", ("s2_cifar100.gz",), safe_arrays),
)  # fmt: skip
SPECS = (
    published_task(
        SPHERICAL,
        Frame(
            "classes", "error", ENCODING, classes=NAMES,
            shift=corruptions(ENCODING),
            notes=(
                "the axes are polar angle and azimuth: neither is periodic to the model, and the reference's is alike",
                "generated images have a rotation each; the published ones share one among 500",
            ),
        ),
        title="a hundred classes on a rotated sphere (NAS-Bench-360)",
        provenance=Provenance(
            "https://nb360.ml.cmu.edu", "not stated; check the set's page",
            "R. Tu et al., NAS-Bench-360, NeurIPS 2022; A. Krizhevsky, Learning Multiple Layers of Features, 2009",
        ),
    ),
)  # fmt: skip
