"""CIFAR-100: photographs of a hundred things (Krizhevsky 2009)."""

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
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.tasks.readers.arrays import labels, numbers, paired
from orca.tasks.readers.pickles import read_pickle
from orca.types import Provenance

FILE = "cifar-100.npz"
PARTS = ("train", "test")
ENCODING = GridEncoding(channels="last", scale=1 / 255)
SIDE = 32
NEIGHBOURS = 1000  # images that the acceptance check looks at


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Images (count, points, points, 3) uint8 and their classes (count,)."""
    classes = draw_labels(count, generator)
    return {"x": draw_images(classes, generator, side=points), "y": classes}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the arrays that the published pickles hold."""
    arrays = {f"{name}_{part}": values for part, held in parts.items() for name, values in held.items()}
    np.savez(folder / FILE, **arrays)  # pyright: ignore[reportArgumentType]


def read(folder: Path) -> dict[str, Raw]:
    """Images and fine labels of both parts."""
    path = folder / FILE
    found = read_npz(path, [f"{name}_{part}" for part in PARTS for name in "xy"])
    parts = {}
    for part in PARTS:
        images, key = found[f"x_{part}"], f"x_{part} in {path}"
        numbers(images, ("n", "H", "W", 3), key)
        if images.min() < 0 or images.max() > 255 or images.max() <= 1:
            raise InputError(f"{key} has values {images.min()}..{images.max()}; expected 8-bit images, 0..255")
        classes = labels(found[f"y_{part}"], 0, CLASSES - 1, f"y_{part} in {path}")
        paired(images, classes, f"{part} in {path}")
        parts[part] = Raw(images, classes)
    return parts


def names(folder: Path) -> tuple[str, ...]:
    """What the fine labels mean, which the published files tell and generated ones do not."""
    path = folder / FILE
    found = read_npz(path, prefix="classes").get("classes", np.zeros(0))
    if len(found) not in (0, CLASSES):
        raise InputError(f"classes in {path} has {len(found)} names; expected {CLASSES}")
    return tuple(map(str, found))


def safe_arrays(path: Path) -> Arrays:
    """Of the pickles beside ``meta``: images (n, 32, 32, 3) of rows channel by channel, fine labels, their names."""
    arrays = {}
    for part in PARTS:
        file = path.parent / part
        found = as_dict(read_pickle(file), file, ("data", "fine_labels"))
        data = as_numbers(found["data"], "data", file, ("n", 3 * SIDE * SIDE))
        fine = as_numbers(found["fine_labels"], "fine_labels", file, ("n",))
        same_length(file, data=len(data), fine_labels=len(fine))
        images = data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)  # (n, 32, 32, 3)
        arrays |= {f"x_{part}": np.ascontiguousarray(images, dtype=np.uint8), f"y_{part}": fine.astype(np.int64)}
    names = as_dict(read_pickle(path), path, ("fine_label_names",))["fine_label_names"]
    return arrays | {"classes": np.array([str(name) for name in names])}


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Neighbours in pixels know more than chance and less than a network should."""
    (x, y), (x_test, y_test) = ((parts[part]["x"], parts[part]["y"]) for part in PARTS)
    some, rows = (
        x_test[:NEIGHBOURS].reshape(-1, x[0].size).astype(np.float32),
        x.reshape(len(x), -1).astype(np.float32),
    )
    distance = (rows**2).sum(1) - 2 * some @ rows.T  # up to a constant for each row
    right = y[distance.argmin(1)] == y_test[: len(some)]
    return [
        Check("accuracy of the nearest neighbour in pixels", float(right.mean()), 3 / CLASSES, 0.5),
        Check("share of the classes in train", len(np.unique(y)) / CLASSES, 1),
    ]


CIFAR100 = Published(
    name="cifar100",
    files=(FILE,),
    read=read,
    maker=Maker(
        version=1, small=Size(3000, 0, 1000, SIDE), published=Size(50_000, 0, 10_000, SIDE), draw=draw, write=write,
        accept=accept, block=500,
    ),
    conversion=Conversion(
        "CIFAR-100", ("cifar-100-python/meta",), safe_arrays, lambda path: path.parents[1] / FILE
    ),
    names=names,
)  # fmt: skip
SPECS = (
    published_task(
        CIFAR100,
        Frame(
            "classes", "error", ENCODING,
            classes=tuple(str(number) for number in range(CLASSES)), shift=corruptions(ENCODING),
            notes=(
                "no augmentation; the reference crops, mirrors and enlarges to 224 x 224",
                "the reference chooses by the test set, here validation chooses",
            ),
        ),
        title="CIFAR-100, a hundred classes (NAS-Bench-360)",
        provenance=Provenance(
            "https://www.cs.toronto.edu/~kriz/cifar.html", "not stated; check the set's page",
            "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        ),
    ),
)  # fmt: skip
