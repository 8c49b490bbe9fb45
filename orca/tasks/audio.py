"""Sound: spoken digits, as raw waveforms that the encoding turns into log-mel spectrograms."""

from __future__ import annotations

from functools import partial

import numpy as np

from orca.tasks.assemble import assemble, hold_out, same_rows
from orca.tasks.encodings import WaveformEncoding
from orca.tasks.files import data_fingerprint, data_missing, read_data
from orca.tasks.raw import Raw
from orca.tasks.shifts import noisy, scaled
from orca.tasks.spec import Archive, TaskSpec
from orca.types import Provenance, Splits

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
LEFT_OUT = ("theo", "yweweler")
# One clip in 150 is longer than a second, the longest 2.3 s: kept whole they would make most of every input padding.
ENCODING = WaveformEncoding(sample_rate=8000, max_seconds=1.0)
SHIFTS = {"noise": noisy(0.1, each=True), "weak": scaled(0.1)}  # noise 20 dB below each clip; 20 dB quieter
KEYS = tuple(f"{array}_{split}" for split in ("train", "test") for array in ("x", "y", "len", "speaker"))
NOTES = ("clips are cut to their first second", "validation: a fixed random 12 % of each digit of train")


def pad_ragged(flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Clips that lie end to end in ``flat`` as rows (n, longest), zero after their end."""
    inside = np.arange(lengths.max()) < lengths[:, None]
    rows = np.zeros(inside.shape, flat.dtype)
    rows[inside] = flat
    return rows


def _read() -> tuple[dict[str, Raw], dict[str, np.ndarray]]:
    """The official splits and the speakers of their clips."""
    arrays = read_data("fsdd", KEYS)
    splits = {
        name: Raw(pad_ragged(arrays[f"x_{name}"], arrays[f"len_{name}"]), arrays[f"y_{name}"], arrays[f"len_{name}"])
        for name in ("train", "test")
    }
    return splits, {name: arrays[f"speaker_{name}"] for name in splits}


def _load(left_out: tuple[str, ...]) -> Splits:
    splits, speakers = _read()
    away = {name: np.isin(speaker, [SPEAKERS.index(s) for s in left_out]) for name, speaker in speakers.items()}
    train = splits["train"].subset(~away["train"])
    val = hold_out(train.y, groups=same_rows(train.x))
    parts = {"train": train.subset(~val), "val": train.subset(val), "test": splits["test"].subset(~away["test"])}
    notes = ("official split: takes 0-4 of every speaker and digit are test, the same six speakers on both sides",)
    if left_out:
        parts["shift_speaker"] = splits["test"].subset(away["test"])
        notes = (
            f"speakers {' and '.join(left_out)} are left out of train, validation and test; their test clips are the "
            "shift set 'speaker'; the test set has the four others, and its numbers do not compare with those of fsdd",
        )
    return assemble(
        parts, encoding=ENCODING, target="classes", classes=[str(digit) for digit in range(10)], notes=notes + NOTES,
        shifts=SHIFTS,
    )  # fmt: skip


def _spec(name: str, title: str, left_out: tuple[str, ...]) -> TaskSpec:
    return TaskSpec(
        name=name,
        title=title,
        input="sequence",
        target="classes",
        metric="error",
        provenance=Provenance(
            source="https://github.com/Jakobovski/free-spoken-digit-dataset",
            licence="CC BY-SA 4.0",
            citation="Z. Jackson and contributors, Free Spoken Digit Dataset",
        ),
        encoding=ENCODING,
        load=partial(_load, left_out),
        fingerprint=lambda: data_fingerprint("fsdd", version=1, left_out=left_out, encoding=ENCODING),
        shifts=SHIFTS,
        missing=lambda: data_missing("fsdd"),
        archive=Archive("fsdd", KEYS),
    )


SPECS = (
    _spec("fsdd", "spoken digits, raw audio at 8 kHz (FSDD)", ()),
    _spec("fsdd-speakers", "spoken digits, two of six speakers left out of training (FSDD)", LEFT_OUT),
)
