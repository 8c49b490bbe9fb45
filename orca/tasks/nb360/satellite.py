"""Satellite: land cover from one year of a pixel's vegetation index, 46 dates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.tasks.benchmark import Frame, published_task
from orca.tasks.converting import Conversion, as_dict, as_numbers, same_length
from orca.tasks.encodings import SequenceEncoding
from orca.tasks.files import read_npz
from orca.tasks.nb360.phenology import COVERS, FIELD, GROUPS, dates, series, shares
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.tasks.readers.arrays import labels, numbers, paired
from orca.tasks.readers.pickles import read_npy
from orca.tasks.shifts import held, noisy, scaled
from orca.types import Provenance

SPLITS = ("train", "test")
DATES = 46
CLASSES = tuple(f"cover {k}" for k in range(1, len(COVERS) + 1))


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Series data (count, points) float32 and label (count,) 1..24; fields lie in one split."""
    fields = -(-count // FIELD)
    rounds = np.arange(len(COVERS)) if fields >= 4 * len(COVERS) else np.arange(0)  # rare covers are in every block
    others = generator.choice(len(COVERS), fields - len(rounds), p=shares())
    cover = np.repeat(generator.permutation(np.concatenate([rounds, others])), FIELD)[:count]
    return {"data": series(cover, dates(points), generator).astype(np.float32), "label": cover + 1}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes a file for each split."""
    for name, part in parts.items():
        np.savez(folder / f"satellite_{name}.npz", data=part["data"], label=part["label"])


def read(folder: Path) -> dict[str, Raw]:
    """The splits as published."""
    parts = {name: _read(folder / f"satellite_{name}.npz") for name in SPLITS}
    train, test = (part.x.shape[1] for part in parts.values())
    if train != test:
        raise InputError(f"series in {folder} have {train} dates in train and {test} in test; they must agree")
    return parts


def _read(path: Path) -> Raw:
    found = read_npz(path, ("data", "label"))
    x = numbers(found["data"], ("series", "dates"), f"data in {path}")
    y = labels(found["label"], 1, len(COVERS), f"label in {path}")
    paired(x, y, str(path))
    return Raw(x, y - 1)


def safe_arrays(path: Path) -> Arrays:
    """Of a pickle: data and labels as they are."""
    found = as_dict(read_npy(path), path, ("data", "label"))
    data = as_numbers(found["data"], "data", path, ("n", DATES))
    label = as_numbers(found["label"], "label", path, ("n",))
    same_length(path, data=len(data), label=len(label))
    return {"data": data, "label": label}


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """One nearest neighbour does well but not too well, and confuses covers of one group."""
    from sklearn.metrics import confusion_matrix
    from sklearn.neighbors import KNeighborsClassifier

    train, test = parts["train"], parts["test"]
    answers = KNeighborsClassifier(1).fit(train["data"], train["label"]).predict(test["data"])
    found = confusion_matrix(test["label"], answers, labels=np.arange(1, len(COVERS) + 1))
    wrong = found - np.diag(np.diag(found))
    alike = GROUPS[:, None] == GROUPS
    within = float(wrong[alike].sum() / max(1, wrong.sum()))
    return [Check("accuracy of one nearest neighbour", float((answers == test["label"]).mean()), 0.6, 0.9),
            Check("share of its errors within a group of covers", within, 0.5)]  # fmt: skip


SATELLITE = Published(
    name="satellite",
    files=tuple(f"satellite_{name}.npz" for name in SPLITS),
    read=read,
    maker=Maker(
        version=1, small=Size(4000, 0, 800, DATES), published=Size(900_000, 0, 100_000, DATES), draw=draw, write=write,
        accept=accept, block=1000,
    ),
    conversion=Conversion("Satellite", tuple(f"satellite_{name}.npy" for name in SPLITS), safe_arrays),
)  # fmt: skip
SPECS = (
    published_task(
        SATELLITE,
        Frame(
            "classes", "error", SequenceEncoding(), classes=CLASSES,
            shift={"clouds": held(0.25), "noise": noisy(0.2), "weak": scaled(0.9)},
            notes=(
                "values as published, as ORCA reads them; NAS-Bench-360 standardises each series, which takes away the "
                "level that tells water, towns and evergreen woods apart",
                "pixels of one field are alike, and the files do not say which are: validation, and on the published "
                "files test, may have neighbours of training pixels",
            ),
        ),
        title="24 land covers from one year of a vegetation index, 46 dates",
        provenance=Provenance(
            "https://nb360.ml.cmu.edu",
            "not stated with the files",
            "F. Petitjean, J. Inglada, P. Gancarski, Satellite Image Time Series Analysis Under Time Warping, IEEE "
            "Trans. Geoscience and Remote Sensing 50(8), 2012",
        ),
    ),
)  # fmt: skip
