"""Images: hand signs for the digits."""

from __future__ import annotations

import numpy as np

from orca.tasks.assemble import assemble, hold_out
from orca.tasks.corruptions import corruptions
from orca.tasks.encodings import GridEncoding
from orca.tasks.files import data_fingerprint, data_missing, read_data
from orca.tasks.raw import Raw
from orca.tasks.spec import Archive, TaskSpec
from orca.types import Provenance, Splits

NAME = "signdigits"
ENCODING = GridEncoding(channels="last", scale=1 / 255)
SHIFTS = corruptions(ENCODING)
KEYS = ("x_train", "y_train", "run_train", "x_test", "y_test")
NOTES = (
    "no official split: every fifth run of shots, about one student each, is test, so that the hands there are new",
    "validation: a fixed random 12 % of the runs of train, whole",
)


def _load() -> Splits:
    arrays = read_data(NAME, KEYS)
    train = Raw(arrays["x_train"], arrays["y_train"])
    val = hold_out(np.zeros(len(train.y), int), groups=arrays["run_train"])
    parts = {
        "train": train.subset(~val),
        "val": train.subset(val),
        "test": Raw(arrays["x_test"], arrays["y_test"]),
    }
    names = [str(digit) for digit in range(10)]
    return assemble(parts, encoding=ENCODING, target="classes", classes=names, notes=NOTES, shifts=SHIFTS)


SPECS = (
    TaskSpec(
        name=NAME,
        title="hand signs for the digits, 32 x 32 RGB",
        input="grid",
        target="classes",
        metric="error",
        provenance=Provenance(
            source="https://github.com/ardamavi/Sign-Language-Digits-Dataset",
            licence="Apache-2.0",
            citation="A. Mavi, arXiv:2011.08927, 2020",
        ),
        encoding=ENCODING,
        load=_load,
        fingerprint=lambda: data_fingerprint(NAME, version=1, encoding=ENCODING),
        shifts=SHIFTS,
        missing=lambda: data_missing(NAME),
        archive=Archive(NAME, KEYS),
    ),
)
