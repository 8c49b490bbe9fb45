"""Image files as arrays of one size, depth and number of channels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from orca.errors import InputError

# Pillow's modes with one channel: of 8 bits at most, of 16, and of 32.
GREY, DEEP, WIDE = ("1", "L", "LA"), ("I;16", "I;16B", "I;16L"), ("I", "F")
FAULTS = (OSError, ValueError, SyntaxError)  # what Pillow raises where a file is no image


def read_images(files: Sequence[Path], *, colour: bool = False) -> np.ndarray:
    """Images of one size as (n, H, W, 3), or (n, H, W) where all are grey, uint8 (uint16 kept where all have it).

    Args:
        files: paths.
        colour: (n, H, W, 3) where all are grey too.

    Raises:
        InputError: a file is not there, no image, or of another size or depth than the first.
    """
    found = [_image(file) for file in files]
    grey = not colour and all(image.ndim == 2 for image in found)
    alike = [image if grey or image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2) for image in found]
    for file, image in zip(files, alike, strict=True):
        if image.shape != alike[0].shape:
            raise InputError(
                f"{file} is {_size(image)}, and {files[0]} {_size(alike[0])}; bring all images to one size"
            )
        if image.dtype != alike[0].dtype:
            raise InputError(
                f"{file} has {image.dtype} pixels, and {files[0]} {alike[0].dtype}; bring all to one depth"
            )
    return np.stack(alike)


def any_colour(files: Iterable[Path]) -> bool:
    """Whether one of these images is not grey; their headers are read alone, and what is no image is left to others."""
    from PIL import Image

    for file in files:
        with contextlib.suppress(*FAULTS), Image.open(file) as image:
            if image.mode not in (*GREY, *DEEP, *WIDE):
                return True
    return False


def _image(file: Path) -> np.ndarray:
    from PIL import Image

    if not file.is_file():
        raise InputError(f"there is no file {file}, which the table names")
    try:
        with Image.open(file) as image:
            mode = image.mode
            pixels = np.asarray(image if mode in (*DEEP, *WIDE) else image.convert("L" if mode in GREY else "RGB"))
    except FAULTS as fault:
        raise InputError(f"{file} is no image, or it is damaged ({fault})") from fault
    if mode in WIDE:
        raise InputError(
            f"{file} has pixels of 32 bits; expected 8 or 16 bits a channel: convert it, or give arrays (.npz)"
        )
    return pixels.astype(np.uint16) if mode in DEEP else pixels


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
