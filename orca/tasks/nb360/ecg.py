"""ECG: the rhythm of a short single-lead record (PhysioNet/CinC Challenge 2017), window by window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.tasks.assemble import hold_out
from orca.tasks.benchmark import Frame, published_task
from orca.tasks.converting import Conversion, as_dict, as_numbers, same_length
from orca.tasks.encodings import SequenceEncoding
from orca.tasks.files import read_npz
from orca.tasks.nb360.beats import FEATURES, beats_of, rhythm
from orca.tasks.nb360.rhythms import LETTERS, RATE, durations, letters, records
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.tasks.readers.arrays import numbers
from orca.tasks.readers.pickles import read_pickle
from orca.tasks.shifts import noisy
from orca.types import Examples, Provenance

FILE = "challenge2017.npz"
WINDOW = 1000  # samples, 3.33 s
CLASSES = ("normal rhythm", "atrial fibrillation", "other rhythm", "noise")  # of N, A, O, ~
STRIDES = (500, 83, 250, 25)  # of NAS-Bench-360, which so evens the classes out
TEST = 0.1


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Records end to end, the longest of ``points`` samples: data (sum,) float32 in mV, length, label (count,)."""
    which, length = letters(count, generator), durations(count, points, generator)
    x = records(which, int(length.max()), generator).astype(np.float32)
    data = np.concatenate([row[:size] for row, size in zip(x, length, strict=True)])
    return {"data": data, "length": length, "label": np.array(LETTERS)[which]}


def record_split(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the records of train and of test, as the reference draws them."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(count), test_size=TEST, random_state=0)
    return np.asarray(train), np.asarray(test)


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes one file of all records, so ordered that the reader's test records are those that were drawn for it."""
    parts = {name: parts[name] for name in ("test", "train", "val") if name in parts}
    rows = [row for part in parts.values() for row in split_up(part["data"], part["length"])]
    label = np.concatenate([part["label"] for part in parts.values()])
    train, test = record_split(len(rows))
    order = np.argsort(np.concatenate([test, train]))
    length = np.array([len(rows[i]) for i in order])
    np.savez(folder / FILE, data=np.concatenate([rows[i] for i in order]), length=length, label=label[order])


def split_up(data: np.ndarray, length: np.ndarray) -> list[np.ndarray]:
    """The records, which lie end to end."""
    return np.split(data, np.cumsum(length)[:-1])


def read_records(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """The records and the class index of each.

    Raises:
        InputError: the file is not as expected.
    """
    found = read_npz(path, ("data", "length", "label"))
    data, length, label = numbers(found["data"], ("samples",), f"data in {path}"), found["length"], found["label"]
    length = numbers(length, ("records",), f"length in {path}")
    if (wrong := ~((length > 0) & (length == np.round(length)))).any():
        at = int(wrong.argmax())
        raise InputError(f"length in {path} has {length[at]} in row {at}; expected the number of samples of a record")
    if length.sum() != len(data):
        raise InputError(f"data in {path} has {len(data)} samples; by length, its records have {int(length.sum())}")
    if label.shape != length.shape:
        raise InputError(f"{path} has {len(length)} records and label of shape {label.shape}; expected one label each")
    label = label.astype(str) if label.dtype.kind in "SU" else label
    if not (known := np.isin(label, LETTERS)).all():
        at = int(known.argmin())
        raise InputError(f"label in {path} has {str(label[at])!r} in row {at}; expected one of {', '.join(LETTERS)}")
    if not (finite := np.isfinite(data)).all():
        at = int(np.searchsorted(np.cumsum(length), finite.argmin(), side="right"))
        raise InputError(f"data in {path} has NaN or infinite samples, first in record {at}; drop it or mend it")
    return split_up(data, length.astype(np.int64)), np.array([LETTERS.index(one) for one in label])


def safe_arrays(path: Path) -> Arrays:
    """Of the pickle: records end to end (float32), the length of each, and its rhythm as text."""
    found = as_dict(read_pickle(path), path, ("data", "label"))
    rows = [as_numbers(row, f"data[{i}]", path, ("T",)).astype(np.float32) for i, row in enumerate(found["data"])]
    label = np.array([str(letter) for letter in found["label"]])
    same_length(path, data=len(rows), label=len(label))
    if not rows:
        raise InputError(f"{path} has no records")
    if other := sorted(set(label.tolist()) - set(LETTERS)):
        raise InputError(f"label in {path} has {other[0]!r}; expected {', '.join(LETTERS)}")
    return {"data": np.concatenate(rows), "length": np.array([len(row) for row in rows]), "label": label}


def standardised(record: np.ndarray) -> np.ndarray:
    """A record with mean 0 and standard deviation 1 (a flat one stays 0), float32."""
    record = record.astype(np.float64)
    return ((record - record.mean()) / (record.std() or 1.0)).astype(np.float32)


def apart(samples: int, which: int) -> range:
    """Windows that do not overlap."""
    return range(0, samples - WINDOW + 1, WINDOW)


def as_reference(samples: int, which: int) -> range:
    """The windows of NAS-Bench-360, which leaves out the one that would end with the record."""
    return range(0, samples - WINDOW, STRIDES[which])


def windows(rows: Sequence[np.ndarray], which: np.ndarray, starts: Callable[[int, int], range] = apart) -> Raw:
    """Whole windows (n, WINDOW) of standardised records.

    Args:
        rows: the records.
        which: their classes, (records,).
        starts: samples of a record and its class -> where its windows begin.
    """
    at = [starts(len(row), int(k)) for row, k in zip(rows, which, strict=True)]
    cut = [
        np.lib.stride_tricks.sliding_window_view(standardised(row), WINDOW)[found]
        for row, found in zip(rows, at, strict=True)
        if len(found)
    ]
    x = np.concatenate(cut) if cut else np.zeros((0, WINDOW), np.float32)
    return Raw(x, np.repeat(which, [len(found) for found in at]))


def read(folder: Path, *, starts: Callable[[int, int], range] = apart) -> dict[str, Raw]:
    """Windows of train, validation and test; all windows of a record are in one of them."""
    rows, which = read_records(folder / FILE)
    if len(rows) < 10:
        raise InputError(f"{folder / FILE} has {len(rows)} records; at least 10 are needed for train, val and test")
    train, test = record_split(len(rows))
    held = hold_out(which[train], groups=np.arange(len(train)))
    parts = {"train": train[~held], "val": train[held], "test": test}
    return {name: windows([rows[i] for i in part], which[part], starts) for name, part in parts.items()}


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Variation of RR and power of P waves tell N from A; a window has 2 to 6 beats, so that A is only partly seen.

    Of a set without records of N or A, or with records shorter than a window, a check is NaN, which does not pass.
    """
    from sklearn.metrics import roc_auc_score

    arrays = parts["train"]
    which = np.array([LETTERS.index(one) for one in arrays["label"]])
    rows = split_up(arrays["data"], arrays["length"])
    told = np.flatnonzero(which < 2)
    both = len(np.unique(which[told])) == 2
    found = np.concatenate([rhythm(rows[i][None], RATE) for i in told]) if both else np.zeros((0, len(FEATURES)))
    normal = windows([row for row, k in zip(rows, which, strict=True) if k == 0], which[which == 0])
    beats = [len(peaks) for peaks in beats_of(normal.x, RATE)] if len(normal.x) else []
    usual = float(np.mean([2 <= count <= 6 for count in beats])) if beats else np.nan

    def told_by(feature: str) -> float:
        return float(roc_auc_score(which[told], found[:, FEATURES.index(feature)])) if both else np.nan

    return [Check("AUROC of A against N by the variation of RR", told_by("RR variation"), 0.95),
            Check("AUROC of N against A by the power of P waves", 1 - told_by("P power"), 0.9),
            Check("share of N windows with 2 to 6 beats", usual, 0.95)]  # fmt: skip


def beat_features(train: Examples) -> Callable[[Examples], np.ndarray]:
    """Logistic regression, classes balanced, on features of the beats that are found in a window."""
    from sklearn.linear_model import LogisticRegression

    x = rhythm(train.x[:, 0], RATE)
    mean, std = x.mean(0), np.maximum(x.std(0), 1e-9)
    model = LogisticRegression(max_iter=1000, class_weight="balanced").fit((x - mean) / std, train.y)
    return lambda data: model.predict_log_proba((rhythm(data.x[:, 0], RATE) - mean) / std)


NOTES = (
    "test: the reference's tenth of the records (scikit-learn's train_test_split, random_state=0); validation: a fixed "
    "random 12 % of the other records, of each class; all windows of a record are in one split",
    "each record is standardised by its own mean and standard deviation, so that no gain changes it",
    "scores are of windows, not of records as in the challenge; windows of a record are alike, so the interval is too "
    "narrow",
)
SPLIT = (
    "windows do not overlap, in any class or split; the published 1 - macro F1 is of test windows whose stride falls "
    "with the frequency of the class, which evens classes out, and a mean over chunks: it does not compare",
)
SAME = (
    "windows as NAS-Bench-360 cuts them, on test too: strides 500 (N), 83 (A), 250 (O), 25 (~) even classes out and "
    "overlap; macro F1 is over the whole set, the published one a mean over chunks",
)
ECG = Published(
    name="ecg",
    files=(FILE,),
    read=read,
    maker=Maker(
        version=1, small=Size(270, 0, 30, 30 * RATE), published=Size(7675, 0, 853, 61 * RATE), draw=draw, write=write,
        accept=accept, block=100,
    ),
    conversion=Conversion("the PhysioNet challenge of 2017", ("challenge2017.pkl",), safe_arrays),
)  # fmt: skip
SOURCE = Provenance(
    "https://physionet.org/content/challenge-2017/1.0.0/",
    "ODC-By 1.0",
    "G. D. Clifford et al., AF Classification from a Short Single Lead ECG Recording, Computing in Cardiology 44, 2017",
)
FRAME = Frame(
    "classes", "macro_f1", SequenceEncoding(), classes=CLASSES, notes=NOTES + SPLIT,
    predictors={"beat features": beat_features}, shift={"noise": noisy(0.5)},
)  # fmt: skip
SPECS = (
    published_task(ECG, FRAME, title="rhythm of 3.3 s of a single-lead ECG, other records in test", provenance=SOURCE),
    published_task(
        replace(ECG, read=partial(read, starts=as_reference)),
        replace(FRAME, notes=NOTES + SAME),
        name="ecg-nb360",
        title="rhythm of 3.3 s of a single-lead ECG, windows as in NAS-Bench-360",
        provenance=SOURCE,
    ),
)
