"""Sounds and images that a table names by file, or that lie in folders by class, and sequences in FASTA files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orca.errors import InputError
from orca.tasks.readers.wav import read_wav

SOUNDS = (".wav",)
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
SPLITS = ("train", "val", "valid", "validation", "test")


def read_folder(path: Path) -> dict[str, Any]:
    """Files in folders by class: ``file``, ``label`` and, of PART/CLASS/FILE with train, val or test, ``split``.

    Raises:
        InputError: there are no sounds or images in folders.
    """
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in (*SOUNDS, *IMAGES) and p.parent != path)
    if not found:
        raise InputError(
            f"{path} has no folders with {', '.join((*SOUNDS, *IMAGES))}; expected CLASS/FILE or train/CLASS/FILE"
        )
    inner = [p.relative_to(path).parts for p in found]
    parted = [parts[0].lower() in SPLITS for parts in inner]
    if any(parted) and not all(parted):
        raise InputError(f"{path} has {found[parted.index(False)]} beside folders {', '.join(SPLITS[:2])} or test")
    columns: dict[str, Any] = {"file": ["/".join(parts) for parts in inner], "label": [parts[-2] for parts in inner]}
    if not any(parted):
        return columns
    if short := [p for p, parts in zip(found, inner, strict=True) if len(parts) < 3]:
        raise InputError(f"{short[0]} lies in no folder of a class; expected train/CLASS/FILE")
    return columns | {"split": [parts[0] for parts in inner]}


def read_fasta(path: Path) -> dict[str, Any]:
    """Sequences with what their header lines say: ``id``, ``label`` and ``split`` where these are there, ``sequence``.

    A header is ``>id``, ``>id|label``, ``>id|label|training`` (or testing), or ``>id key=value ...``.

    Raises:
        InputError: no FASTA, a sequence without letters, or headers of different form; the message names the line.
    """
    rows: list[dict[str, str]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as fault:
        raise InputError(f"{path} is no text in UTF-8 ({fault}); unpack it first if it is compressed") from fault
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.startswith(">"):
            _closed(rows, number, path)
            rows.append(_header(line[1:]) | {"sequence": ""})
            if list(rows[-1]) != list(rows[0]):
                has, first = ", ".join(rows[-1]), ", ".join(rows[0])
                raise InputError(f"line {number} of {path} tells {has}, the first header {first}; they must agree")
        elif line and not line.startswith(";"):
            if not rows:
                raise InputError(f"{path} is no FASTA file: line {number} comes before a header line >NAME")
            rows[-1]["sequence"] += line
    if not rows:
        raise InputError(f"{path} is no FASTA file: it has no header line >NAME")
    _closed(rows, len(lines) + 1, path)
    return {key: [row[key] for row in rows] for key in rows[0]}


def _closed(rows: Sequence[dict[str, str]], number: int, path: Path) -> None:
    if rows and not rows[-1]["sequence"]:
        raise InputError(f"the sequence before line {number} of {path} has no letters")


def _header(text: str) -> dict[str, str]:
    if "|" in text:
        parts = [part.strip() for part in text.split("|")]
        words = dict(zip(("id", "label", "split"), parts, strict=False))
        ending = {"training": "train", "testing": "test"}
        return words | ({"split": ending.get(words["split"], words["split"])} if "split" in words else {})
    name, *rest = text.split() or [""]
    return {"id": name} | dict(part.split("=", 1) for part in rest if "=" in part)


def read_sounds(files: Sequence[Path], rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips of WAV files as rows (n, T) float32 in [-1, 1], zero after their end, and the length of each.

    Args:
        files: paths.
        rate: in Hz, of every one of them.

    Raises:
        InputError: as ``read_wav``.
    """
    clips = [read_wav(file, rate) for file in files]
    length = np.array([len(clip) for clip in clips], dtype=np.int64)
    rows = np.zeros((len(clips), int(length.max())), np.float32)
    for row, clip in zip(rows, clips, strict=True):
        row[: len(clip)] = clip
    return rows, length


GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L")


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
    from PIL import Image, UnidentifiedImageError

    for file in files:
        try:
            with Image.open(file) as image:
                if image.mode not in GREY:
                    return True
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
            continue
    return False


def _image(file: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    _there(file)
    try:
        with Image.open(file) as image:
            if image.mode in ("I", "F"):
                raise InputError(
                    f"{file} has pixels of 32 bits; expected 8 or 16 bits a channel: convert it, or give arrays (.npz)"
                )
            if image.mode.startswith("I;16"):
                return np.asarray(image).astype(np.uint16)
            return np.asarray(image.convert("L" if image.mode in GREY else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as fault:
        raise InputError(f"{file} is no image, or it is damaged ({fault})") from fault


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _there(file: Path) -> None:
    if not file.is_file():
        raise InputError(f"there is no file {file}, which the table names")


LISTS: dict[str, Callable[[Path], dict[str, Any]]] = {"": read_folder, ".fasta": read_fasta, ".fa": read_fasta}
