"""The source sets of vision bodies: CIFAR-10 as it is published, or your own labelled images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from orca import runtime
from orca.errors import InputError
from orca.types import LabeledSet

BATCH = 32  # images embedded at once
SIDE = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")  # by label
PARTS = tuple(f"data_batch_{part}" for part in range(1, 6))  # the training images


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Attributes:
        x: colours from 0 to 255, (n, H, W, 3) uint8.
        y: the class of each, (n,) int64.
        names: of the classes.
    """

    x: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]


def cifar10_files(path: str | None) -> list[Path]:
    """The files of the training images of CIFAR-10, in this folder or in ``cifar10`` of ORCA_DATA.

    Raises:
        InputError: they are not there; says how to get them.
    """
    data = os.environ.get("ORCA_DATA")
    root = Path(path).expanduser() if path else Path(data) / "cifar10" if data else None
    for folder in (root, root / "cifar-10-batches-py") if root else ():
        if all((folder / part).is_file() for part in PARTS):
            return [folder / part for part in PARTS]
    raise InputError(
        "source 'cifar10' needs the Python version of CIFAR-10: unpack cifar-10-python.tar.gz "
        "(https://www.cs.toronto.edu/~kriz/cifar.html) in the folder cifar10 of ORCA_DATA, or set source.path to its "
        f"folder; it holds {PARTS[0]} to {PARTS[-1]}"
    )


def read_cifar10(files: list[Path]) -> Images:
    """The training images of CIFAR-10 (Krizhevsky 2009), whose pickles are read without running them.

    Raises:
        InputError: files are damaged, or hold something else.
    """
    from orca.tasks.converting import as_dict, as_numbers, same_length
    from orca.tasks.readers.arrays import labels
    from orca.tasks.readers.pickles import read_pickle

    images, classes = [], []
    for file in files:
        found = as_dict(read_pickle(file), file, ("data", "labels"))
        data = as_numbers(found["data"], "data", file, ("n", 3 * SIDE * SIDE))
        wanted = as_numbers(found["labels"], "labels", file, ("n",))
        same_length(file, data=len(data), labels=len(wanted))
        images.append(data.astype(np.uint8).reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        classes.append(labels(wanted, 0, len(CLASSES) - 1, f"labels in {file}"))
    return Images(np.concatenate(images), np.concatenate(classes), CLASSES)


def own_file(path: str | None) -> list[Path]:
    """The one file of your own images.

    Raises:
        InputError: none is named, or it is not there.
    """
    if path and Path(path).expanduser().is_file():
        return [Path(path).expanduser()]
    state = f": there is no file {path}" if path else " needs a file"
    raise InputError(f"source 'images'{state}; set source.path to an .npz file with x (n, H, W, 3) uint8 and y (n,)")


def read_own(files: list[Path]) -> Images:
    """Your own images: ``x`` (n, H, W, 3) uint8 and ``y`` (n,), integers or names.

    Raises:
        InputError: the file is damaged, or holds something else.
    """
    from orca.tasks.files import read_npz

    (file,) = files
    found = read_npz(file, ("x", "y"))
    x, y = found["x"], found["y"]
    if x.ndim != 4 or x.shape[-1] != 3 or x.dtype != np.uint8 or y.shape != x.shape[:1] or y.dtype.kind not in "iuU":
        raise InputError(
            f"{file}: expected images x (n, H, W, 3) of type uint8 and one label each, y (n,), integers or strings; "
            f"got x {x.dtype} {x.shape} and y {y.dtype} {y.shape}"
        )
    names, classes = np.unique(y, return_inverse=True)
    return Images(x, classes.astype(np.int64), tuple(map(str, names)))


def image_features(
    images: Images, embed: Callable[[Tensor], Tensor], *, n: int, seed: int, device: torch.device
) -> LabeledSet:
    """Some of the images through the body's own embedding layer, each as the mean over its tokens.

    As the ORCA reference does with 5,000 images of CIFAR-10. A class that would be there only once is left out, because
    one point has no spread.

    Args:
        images: labelled images.
        embed: images (B, 3, H, W), 0 to 255, to embeddings (B, T, D).
        n: how many are wanted.
        seed: decides the draw.
        device: where images are embedded.

    Returns:
        x (n, D) float32 on the device, y (n,) and the names of its classes.

    Raises:
        InputError: no class is there twice.
    """
    drawn = runtime.rng(seed, "source features").permutation(len(images.y))[:n]
    count = np.bincount(images.y[drawn], minlength=len(images.names))
    rows = np.sort(drawn[count[images.y[drawn]] > 1])
    if not len(rows):
        raise InputError(f"{n} of the source's images have no class twice; raise source.n, or give more images")
    parts: list[Tensor] = []
    for start in range(0, len(rows), BATCH):
        batch = torch.from_numpy(images.x[rows[start : start + BATCH]]).permute(0, 3, 1, 2).to(device)
        parts.append(embed(batch).float().mean(1))
    kept, y = np.unique(images.y[rows], return_inverse=True)
    return LabeledSet(torch.cat(parts), torch.from_numpy(y).to(device), tuple(images.names[k] for k in kept))
