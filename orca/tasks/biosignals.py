"""Biosignals: heartbeats of the MIT-BIH database, between patients."""

from __future__ import annotations

import numpy as np

from orca.tasks.assemble import Raw, assemble
from orca.tasks.encodings import SequenceEncoding
from orca.tasks.files import data_fingerprint, data_missing, read_data
from orca.tasks.shifts import noisy, scaled
from orca.tasks.spec import Archive, TaskSpec
from orca.types import Provenance, Splits

NAME = "mitbih_aami"
CLASSES = ("N", "S", "V", "F")
# Whole records, so that no patient is on both sides. These three have beats of all four classes and leave most S and F
# beats, which nearly all stem from one record each (209, 208), to train.
VALIDATION_RECORDS = (114, 124, 223)
ENCODING = SequenceEncoding(scale=1 / 200)  # to mV
SHIFTS = {"noise": noisy(0.5), "weak": scaled(0.5)}
KEYS = ("x_train", "y_train", "record_train", "x_test", "y_test")
NOTES = (
    "split of de Chazal 2004: records DS1 train, DS2 test; the test set is itself a shift, to other patients, but for "
    "records 201 (train) and 202 (test), which are one person",
    "class Q (8 beats in train, 7 in test) is dropped; classes are N, S, V, F",
    "the wave of one lead alone; intervals between beats, which help with S, are not used",
    f"validation: the whole records {', '.join(map(str, VALIDATION_RECORDS))} of train",
)


def _load() -> Splits:
    arrays = read_data(NAME, KEYS)
    kept = {name: arrays[f"y_{name}"] < len(CLASSES) for name in ("train", "test")}
    raw = {name: Raw(arrays[f"x_{name}"], arrays[f"y_{name}"]).subset(keep) for name, keep in kept.items()}
    val = np.isin(arrays["record_train"][kept["train"]], VALIDATION_RECORDS)
    parts = {"train": raw["train"].subset(~val), "val": raw["train"].subset(val), "test": raw["test"]}
    return assemble(parts, encoding=ENCODING, target="classes", classes=CLASSES, notes=NOTES, shifts=SHIFTS)


SPECS = (
    TaskSpec(
        name=NAME,
        title="heartbeats N, S, V, F from one ECG lead, other patients in test (MIT-BIH)",
        input="sequence",
        target="classes",
        metric="macro_f1",
        provenance=Provenance(
            source="https://physionet.org/content/mitdb/1.0.0/",
            licence="ODC-By 1.0",
            citation="G.B. Moody, R.G. Mark, IEEE EMB Mag 20(3), 2001; PhysioNet, doi:10.13026/C2F305",
        ),
        encoding=ENCODING,
        load=_load,
        fingerprint=lambda: data_fingerprint(NAME, version=1, encoding=ENCODING, validation=VALIDATION_RECORDS),
        shifts=SHIFTS,
        missing=lambda: data_missing(NAME),
        archive=Archive(NAME, KEYS),
    ),
)
