"""DNA: splice junctions and enhancers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orca.tasks.assemble import assemble, hold_out, same_rows
from orca.tasks.encodings import DnaEncoding
from orca.tasks.files import data_fingerprint, data_missing, read_data
from orca.tasks.raw import Raw
from orca.tasks.shifts import gc_third
from orca.tasks.spec import Archive, TaskSpec
from orca.types import Provenance, Splits

ENCODING = DnaEncoding()
SHIFTS = {"gc-low": gc_third("low"), "gc-high": gc_third("high")}
KEYS = ("x_train", "y_train", "x_test", "y_test")


def _splits(train: Raw, test: Raw, *, classes: tuple[str, ...], note: str) -> Splits:
    val = hold_out(train.y, groups=same_rows(train.x))
    parts = {"train": train.subset(~val), "val": train.subset(val), "test": test}
    notes = (note, "validation: a fixed random 12 % of each class of train, identical sequences together")
    return assemble(parts, encoding=ENCODING, target="classes", classes=classes, notes=notes, shifts=SHIFTS)


def _load_splice() -> Splits:
    arrays = read_data("splice", KEYS)
    return _splits(
        Raw(arrays["x_train"], arrays["y_train"]),
        Raw(arrays["x_test"], arrays["y_test"]),
        classes=("EI", "IE", "N"),
        note="no official split: a fifth of the unique sequences of each class, by their hash, is test",
    )


def _load_ienhancer() -> Splits:
    arrays = read_data("ienhancer", KEYS)
    leaked = np.isin(arrays["x_train"], arrays["x_test"])
    return _splits(
        Raw(arrays["x_train"], arrays["y_train"]).subset(~leaked),
        Raw(arrays["x_test"], arrays["y_test"]),
        classes=("non-enhancer", "enhancer"),
        note=f"official test set; its {int(leaked.sum())} sequences that are in the official training set too are left "
        "out of training; published scores had them and do not compare",
    )


def _spec(name: str, title: str, provenance: Provenance, load: Callable[[], Splits]) -> TaskSpec:
    return TaskSpec(
        name=name,
        title=title,
        input="sequence",
        target="classes",
        metric="error",
        provenance=provenance,
        encoding=ENCODING,
        load=load,
        fingerprint=lambda: data_fingerprint(name, version=1, encoding=ENCODING),
        shifts=SHIFTS,
        missing=lambda: data_missing(name),
        archive=Archive(name, KEYS),
    )


SPECS = (
    _spec(
        "splice",
        "splice junctions in 60 bases of primate DNA (UCI)",
        Provenance(
            source="https://archive.ics.uci.edu/dataset/69",
            licence="CC BY 4.0",
            citation="G. Towell, M. Noordewier, J. Shavlik (donors), UCI Machine Learning Repository",
        ),
        _load_splice,
    ),
    _spec(
        "ienhancer",
        "enhancers in 200 bases of human DNA (iEnhancer-2L), without the leaked sequences",
        Provenance(
            source="https://github.com/lhy0322/iEnhancer-BERT",
            licence="MIT (source repository)",
            citation="B. Liu et al., Bioinformatics 32(3), 2016 (iEnhancer-2L) and 34(22), 2018 (iEnhancer-EL)",
        ),
        _load_ienhancer,
    ),
)
