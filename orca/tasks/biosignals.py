"""Biosignals: heartbeats of the MIT-BIH database, between patients."""

from __future__ import annotations

import numpy as np

from orca.tasks.assemble import assemble
from orca.tasks.encodings import SequenceEncoding
from orca.tasks.files import data_fingerprint, data_missing, read_data
from orca.tasks.raw import Raw
from orca.tasks.shifts import noisy, scaled
from orca.tasks.spec import Archive, TaskSpec
from orca.types import Provenance, Splits

NAME = "mitbih_aami"
CLASSES = ("N", "S", "V", "F")
# Whole records, so that no patient is on both sides. These three have beats of all four classes and leave most S and F
# beats, which nearly all stem from one record each (209, 208), to train.
VALIDATION_RECORDS = (114, 124, 223)
UNITS = 200  # of the wave to the mV
ENCODING = SequenceEncoding(scale=1 / UNITS)
SHIFTS = {"noise": noisy(0.5, channels=1), "weak": scaled(0.5, channels=1)}  # of the wave
KEYS = tuple(f"{array}_{split}" for split in ("train", "test") for array in ("x", "y", "record", "rr"))
NOTES = (
    "split of de Chazal 2004: records DS1 train, DS2 test; the test set is itself a shift, to other patients, but for "
    "records 201 (train) and 202 (test), which are one person",
    "class Q (8 beats in train, 7 in test) is dropped; classes are N, S, V, F",
    "the wave of one lead less the median beat of the record, and the intervals to the beats before and after as log2 "
    "of their ratio to the median of the record: what a beat is for its patient, which needs the record but no label",
    f"validation: the whole records {', '.join(map(str, VALIDATION_RECORDS))} of train",
)


def against_record(wave: np.ndarray, interval: np.ndarray, record: np.ndarray) -> np.ndarray:
    """Beats as they differ from their record: wave, and the intervals around as two channels constant over a beat.

    An ectopic beat is unlike the others of its patient and comes early for it, which no single beat shows (de Chazal et
    al. 2004, IEEE TBME 51(7), section III.C, has the ratios of intervals among its features).

    Args:
        wave: (n, L), 200 units to the mV.
        interval: to the beat before and after, (n, 2), in any unit; not positive where there is none.
        record: number of the record of each beat, (n,); of most beats of a record, that its medians are the patient's.

    Returns:
        (n, 3, L) float32: the wave less the median over the beats of its record, and 200 log2 of each interval's ratio
        to the median before a beat of its record, within a factor of 4; 0 where there is none.
    """
    beat, ratio = np.zeros(wave.shape), np.ones(interval.shape)
    for number in np.unique(record):
        own = record == number
        beat[own] = wave[own] - np.median(wave[own], axis=0)
        known = interval[own, 0][interval[own, 0] > 0]
        ratio[own] = interval[own] / (np.median(known) if len(known) else 1)
    channels = UNITS * np.log2(np.clip(np.where(interval > 0, ratio, 1), 1 / 4, 4))
    return np.concatenate([beat[:, None], np.repeat(channels[:, :, None], wave.shape[1], 2)], 1).astype(np.float32)


def _load() -> Splits:
    arrays = read_data(NAME, KEYS)
    kept = {name: arrays[f"y_{name}"] < len(CLASSES) for name in ("train", "test")}
    raw = {
        name: Raw(against_record(*(arrays[f"{array}_{name}"] for array in ("x", "rr", "record"))), arrays[f"y_{name}"])
        for name in kept
    }
    raw = {name: part.subset(kept[name]) for name, part in raw.items()}
    val = np.isin(arrays["record_train"][kept["train"]], VALIDATION_RECORDS)
    parts = {"train": raw["train"].subset(~val), "val": raw["train"].subset(val), "test": raw["test"]}
    return assemble(parts, encoding=ENCODING, target="classes", classes=CLASSES, notes=NOTES, shifts=SHIFTS)


SPECS = (
    TaskSpec(
        name=NAME,
        title="heartbeats N, S, V, F from one ECG lead and intervals, other patients in test (MIT-BIH)",
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
        fingerprint=lambda: data_fingerprint(NAME, version=3, encoding=ENCODING, validation=VALIDATION_RECORDS),
        shifts=SHIFTS,
        missing=lambda: data_missing(NAME),
        archive=Archive(NAME, KEYS),
    ),
)
