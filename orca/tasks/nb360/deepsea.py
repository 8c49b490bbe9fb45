"""DeepSEA: which of 36 chromatin features a window of DNA has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.metrics import label_aurocs
from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import DnaEncoding
from orca.tasks.files import read_npz
from orca.tasks.kmers import codes, word_regression, word_scores
from orca.tasks.nb360.regulatory import draw, scan
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.tasks.shifts import gc_third, mutated
from orca.types import Provenance

FILE = "deepsea_filtered.npz"
PARTS = ("train", "val", "test")
BLOCK = 4096  # sequences looked at together
SCORED = 10_000  # sequences that the acceptance checks look at
CHUNK = 1000  # in which the reference scores


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the published file."""
    arrays = {f"{name}_{part}": values for part, drawn in parts.items() for name, values in drawn.items()}
    np.savez_compressed(folder / FILE, **arrays)  # pyright: ignore[reportArgumentType]


def read(folder: Path) -> dict[str, Raw]:
    """One-hot sequences (n, L, 4) and labels (n, K) of the splits that the file has."""
    path = folder / FILE
    arrays = read_npz(path, ("x_train", "y_train", "x_test", "y_test"))
    found = {part: (f"x_{part}", f"y_{part}") for part in PARTS if f"x_{part}" in arrays or f"y_{part}" in arrays}
    for pair in found.values():
        if lacking := [key for key in pair if key not in arrays]:
            raise InputError(f"{path} lacks {lacking[0]}, which belongs to {next(k for k in pair if k in arrays)}")
    return {part: _split(path, x, arrays.pop(x), y, arrays.pop(y)) for part, (x, y) in found.items()}


def _split(path: Path, x_key: str, x: np.ndarray, y_key: str, y: np.ndarray) -> Raw:
    if x.ndim == 3 and x.shape[2] != 4 and x.shape[1] == 4:
        x = x.transpose(0, 2, 1)  # as models take it
    if x.ndim != 3 or x.shape[2] != 4 or x.dtype.kind not in "iufb":
        raise InputError(f"{x_key} in {path} is {x.dtype} of shape {x.shape}; expected one-hot numbers (n, L, 4)")
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        wrong = ~((block >= 0).all((1, 2)) & (block.sum(2, dtype=np.float32) <= 1.001).all(1))
        if wrong.any():
            raise InputError(
                f"{x_key} in {path} is not one-hot in row {start + int(wrong.argmax())}: the four values of a position "
                "must be 0 or more and add to 1, or to 0 for an unknown base"
            )
    if y.ndim != 2 or len(y) != len(x) or y.dtype.kind not in "iufb":
        raise InputError(f"{y_key} in {path} is {y.dtype} of shape {y.shape}; expected 0 and 1, ({len(x)}, labels)")
    return Raw(x, y)


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Labels can be found by who knows the rules, and less by counting words; each chunk of 1000 can be scored."""
    train, test = ({name: values[:SCORED] for name, values in parts[part].items()} for part in ("train", "test"))
    oracle = float(np.nanmean(label_aurocs(scan(test["x"], points), test["y"])))
    bases = [codes(part["x"].transpose(0, 2, 1)) for part in (train, test)]
    words = float(np.nanmean(label_aurocs(word_scores(bases[0], train["y"])(bases[1]), test["y"])))
    y = parts["test"]["y"]
    chunks = [y[i : i + CHUNK].sum(0) for i in range(0, max(1, len(y) - CHUNK + 1), CHUNK)]
    rate = parts["train"]["y"].mean(0)
    return [
        Check("macro AUROC of a scanner that knows the rules", oracle, 0.9, 0.97),
        Check("what word counts lack of it", oracle - words, low=0.05),
        Check("share of the rarest label", float(rate.min()), low=0.01),
        Check("share of the commonest label", float(rate.max()), high=0.2),
        Check("least count of a label in 1000 sequences", float(np.min(chunks)), low=1),
    ]


DEEPSEA = Published(
    name="deepsea",
    files=(FILE,),
    read=read,
    maker=Maker(
        version=1, small=Size(1400, 200, 400, 200), published=Size(71_753, 2_490, 149_400, 1000), draw=draw,
        write=write, accept=accept, block=500,
    ),
)  # fmt: skip
SPECS = (
    published_task(
        DEEPSEA,
        Frame(
            "multilabel", "macro_auroc", DnaEncoding(),
            predictors={"5-mer logistic regression": word_regression},
            shift={"mutated": mutated(0.05), "gc-low": gc_third("low"), "gc-high": gc_third("high")},
            notes=(
                "validation: as published",
                "AUROC over the whole set; published numbers are 1 - AUROC, a mean over chunks of 1000, chosen on the "
                "test set",
            ),
        ),
        title="36 chromatin features of 1000 bases of DNA (DeepSEA)",
        provenance=Provenance(
            "https://nb360.ml.cmu.edu", "not stated",
            "J. Zhou, O. Troyanskaya, Nature Methods 12, 2015; filtered by NAS-Bench-360",
        ),
    ),
)  # fmt: skip
