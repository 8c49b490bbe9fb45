"""Handwritten digits that come with scikit-learn: small, real, always there."""

from __future__ import annotations

import hashlib

import numpy as np

from orca.runtime import digest
from orca.tasks.assemble import assemble, hold_out, same_rows
from orca.tasks.corruptions import corruptions
from orca.tasks.encodings import GridEncoding
from orca.tasks.raw import Raw
from orca.tasks.spec import TaskSpec
from orca.types import Provenance, Splits

ENCODING = GridEncoding(channels="none", scale=1 / 16)
SHIFTS = corruptions(ENCODING)
NOTES = (
    "no official split: a fixed random fifth of each class is test, so that writers may be on both sides",
    "validation: a fixed random 12 % of each class of the rest",
)


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return np.asarray(x).reshape(-1, 8, 8), np.asarray(y)  # (1797, 8, 8) in 0..16, (1797,)


def _load() -> Splits:
    x, y = _arrays()
    groups = same_rows(x)
    test = hold_out(y, groups=groups, fraction=0.2, seed="digits test")
    whole = Raw(x, y)
    rest = whole.subset(~test)
    val = hold_out(rest.y, groups=groups[~test])
    parts = {"train": rest.subset(~val), "val": rest.subset(val), "test": whole.subset(test)}
    names = [str(digit) for digit in range(10)]
    return assemble(parts, encoding=ENCODING, target="classes", classes=names, notes=NOTES, shifts=SHIFTS)


def _fingerprint() -> str:
    x, y = _arrays()
    content = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    return digest({"task": "digits", "version": 1, "content": content, "encoding": ENCODING})


SPECS = (
    TaskSpec(
        name="digits",
        title="handwritten digits, 8 x 8 (scikit-learn)",
        input="grid",
        target="classes",
        metric="error",
        provenance=Provenance(
            source="scikit-learn load_digits: test part of UCI Optical Recognition of Handwritten Digits",
            licence="CC BY 4.0 (UCI Machine Learning Repository)",
            citation="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        ),
        encoding=ENCODING,
        load=_load,
        fingerprint=_fingerprint,
        shifts=SHIFTS,
    ),
)
