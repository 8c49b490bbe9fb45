"""Folders of sounds or images by class, as tables that name the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orca.errors import InputError

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
