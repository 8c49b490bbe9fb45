"""Cosmic rays in exposures of a space telescope: which pixels were hit (deepCR, Zhang & Bloom 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import GridEncoding
from orca.tasks.nb360.sky import frame
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.tasks.readers.arrays import read_npy
from orca.types import Examples, Provenance

LISTS = {"train": "train_dirs.npy", "test": "test_dirs.npy"}
STRETCH, READ_NOISE = 50.0, 4.5  # electrons
ENCODING = GridEncoding(channels="none", stretch=STRETCH)


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Frames (count, 3, points, points) and sky levels (count,), float32."""
    frames, sky = zip(*(frame(points, generator) for _ in range(count)), strict=True)
    return {"frames": np.stack(frames), "sky": np.array(sky, np.float32)}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes one file for each frame, the sky levels beside them, and the lists that name the frames."""
    for part, arrays in parts.items():
        (folder / part).mkdir(exist_ok=True)
        names = [f"{k}_frame.npy" for k in range(1, len(arrays["frames"]) + 1)]
        for name, values in zip(names, arrays["frames"], strict=True):
            np.save(folder / part / name, values)
        np.save(folder / part / "sky.npy", arrays["sky"])
        np.save(folder / LISTS[part], np.array([f"./cosmic/{part}/{name}" for name in names]))


def read(folder: Path) -> dict[str, Raw]:
    """The middle half of each frame, and the mask of the rays, -1 where a pixel is to be ignored."""
    return {part: _middle(list(_listed(folder, name))) for part, name in LISTS.items()}


def _listed(folder: Path, name: str) -> Iterator[Path]:
    """The frames of a list; its entries begin with ``./`` and start at the folder that holds all data sets."""
    path = folder / name
    try:
        with path.open("rb") as stream:
            entries = np.load(stream, allow_pickle=False)
    except (OSError, EOFError, ValueError) as fault:
        raise InputError(
            f"{path} is no .npy file of plain text ({fault}); save the names of the frames with np.save(path, "
            "np.array(list_of_str))"
        ) from fault
    if entries.dtype.kind not in "SU" or entries.ndim != 1 or not len(entries):
        raise InputError(
            f"{path} holds {entries.dtype} of shape {entries.shape}; expected the names of frames, text of shape (n,)"
        )
    for entry in entries.astype(str):
        relative = Path(entry)
        places = [folder.parent / relative, folder / relative, folder / Path(*relative.parts[1:])]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise InputError(f"{path} names {entry}, which is not there; looked for {', '.join(map(str, places))}")
        yield found


def _middle(paths: list[Path]) -> Raw:
    images: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for path in paths:
        found = read_npy(path, ("2 or 3", "H", "W"))
        side = found.shape[1]
        if found.shape[0] not in (2, 3) or found.shape[2] != side or (images and side // 2 != len(images[0])):
            like = f"({2 * len(images[0])}, {2 * len(images[0])})" if images else "(H, H)"
            raise InputError(
                f"{path} has shape {found.shape}; expected image, mask and where there is one the pixels to ignore, "
                f"each {like}"
            )
        cut = slice(side // 4, side // 4 + side // 2)
        image, mask = found[:2, cut, cut]
        ignore = found[2, cut, cut] if len(found) == 3 else np.zeros_like(mask)
        for what, values in (("mask", mask), ("pixels to ignore", ignore)):
            if (other := values[(values != 0) & (values != 1)]).size:
                raise InputError(f"the {what} in {path} has {other[0]}; expected 0 and 1")
        images.append(image.astype(np.float32))
        masks.append(np.where(ignore > 0, -1, mask).astype(np.float32))
    return Raw(np.stack(images), np.stack(masks))


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Enough rays in the middle of every frame, and stars that a threshold takes for rays."""
    image, mask, ignore = np.moveaxis(parts["train"]["frames"], 1, 0)
    cut = slice(points // 4, points // 4 + points // 2)
    bright = image > np.median(image[mask > 0])
    return [
        Check("share of frames with rays in their middle", float(mask[:, cut, cut].any((1, 2)).mean()), 0.95),
        Check("share of pixels hit", float(mask.mean()), 0.005, 0.02),
        Check("share of pixels ignored", float(ignore.mean()), 0.001, 0.1),
        Check("other pixels among those above the median ray", float((mask[bright] == 0).mean()), 0.1),
    ]


def _calibrated(score: Callable[[np.ndarray], np.ndarray]) -> Callable[[Examples], Callable[[Examples], np.ndarray]]:
    """Answers with a score of the frames, less the threshold that has the least balanced error on train."""

    def fitted(train: Examples) -> Callable[[Examples], np.ndarray]:
        there = train.y >= 0
        values, true = score(train.x)[there], train.y[there] > 0
        order = np.argsort(values)
        missed = np.cumsum(true[order]) / max(true.sum(), 1)
        false = 1 - np.cumsum(~true[order]) / max((~true).sum(), 1)
        threshold = values[order[int((missed + false).argmin())]]
        return lambda data: score(data.x) - threshold

    return fitted


def brightness(x: np.ndarray) -> np.ndarray:
    """The encoded image itself."""
    return x


def excess(x: np.ndarray) -> np.ndarray:
    """What a pixel has above the median of the 5 x 5 around it, in units of the noise that this median has."""
    from scipy.ndimage import median_filter

    electrons = STRETCH * np.sinh(x)
    around = median_filter(electrons, (1, 1, 5, 5))
    return (electrons - around) / np.sqrt(np.clip(around, 0, None) + READ_NOISE**2)


COSMIC = Published(
    name="cosmic",
    files=(*LISTS.values(), "**/[0-9]*_*.npy"),
    read=read,
    maker=Maker(
        version=1, small=Size(200, 0, 50, 128), published=Size(4830, 0, 420, 256), draw=draw, write=write,
        accept=accept, block=25,
    ),
)  # fmt: skip
SPECS = (
    published_task(
        COSMIC,
        Frame(
            "mask", "mask_balanced_error", ENCODING,
            predictors={"threshold": _calibrated(brightness), "median": _calibrated(excess)},
            notes=(
                "the middle half of each frame, as in ORCA; electrons as asinh(e / 50), which ORCA does not do",
                "no background is added, neither to train nor to test; the reference adds U(-0.9, 3) of the sky level "
                "at each access, to test too",
                "published scores named 1 - AUROC are mask_balanced_error, and some are mask_fnr in percent; "
                "mask_auroc is the area under the curve of all pixels that count",
            ),
        ),
        title="cosmic rays in telescope frames, which pixels were hit (NAS-Bench-360)",
        provenance=Provenance(
            "https://github.com/profjsb/deepCR", "not stated for the frames; check the set's page",
            "K. Zhang, J. S. Bloom, deepCR: Cosmic Ray Rejection with Deep Learning, ApJ 889, 2020",
        ),
    ),
)  # fmt: skip
