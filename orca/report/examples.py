"""Some inputs of the test set beside what is true and what was predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from orca.dense import outcomes, relative_errors
from orca.report.data import RunData, show
from orca.report.style import png, strip

CARDS, COLUMNS, LINES = 12, 8, 3


@dataclass(frozen=True)
class Example:
    """One test sample.

    Attributes:
        true: words for the truth, empty for fields.
        predicted: words for the prediction.
        right: whether they agree, None where that has no sense.
        image: a data address for a picture, or empty.
        drawing: an SVG, or None.
        values: the first columns of a table's row.
        alt: the picture in words.
    """

    true: str
    predicted: str
    right: bool | None
    image: str = ""
    drawing: Markup | None = None
    values: tuple[str, ...] = ()
    alt: str = ""


def examples(data: RunData) -> list[Example]:
    """At most twelve test samples, in the order of the test set."""
    x, layout = data.arrays.get("examples_x"), data.layout
    scores, y = data.arrays.get("test_scores"), data.arrays.get("test_y")
    if x is None or layout is None or scores is None or y is None:
        return []
    lengths = data.arrays.get("examples_length")
    out = []
    for i in range(min(CARDS, len(x), len(y))):
        words = _words(data, scores[i], y[i])
        sample = x[i] if lengths is None else x[i, ..., : int(lengths[i])]
        if layout.input == "table":
            out.append(Example(*words, values=tuple(show(float(v)) for v in sample[:COLUMNS])))
        else:
            out.append(_picture(sample, words, i))
    return out


def _words(data: RunData, scores: np.ndarray, y: np.ndarray) -> tuple[str, str, bool | None]:
    kinds = {"classes": _class_words, "multilabel": _label_words, "scalar": _scalar_words, "field": _field_words,
             "mask": _mask_words}  # fmt: skip
    return kinds[data.layout.target](data, scores, y)  # type: ignore[union-attr]


def _class_words(data: RunData, scores: np.ndarray, y: np.ndarray) -> tuple[str, str, bool | None]:
    predicted = int(scores.argmax())
    return data.class_name(int(y)), data.class_name(predicted), predicted == int(y)


def _label_words(data: RunData, scores: np.ndarray, y: np.ndarray) -> tuple[str, str, bool | None]:
    def names(there: np.ndarray) -> str:
        some = [data.class_name(int(k)) for k in np.flatnonzero(there)]
        return ", ".join(some[:5]) + (f" and {len(some) - 5} more" if len(some) > 5 else "") if some else "none"

    return names(y > 0), names(scores > 0), bool(((scores > 0) == (y > 0)).all())


def _scalar_words(data: RunData, scores: np.ndarray, y: np.ndarray) -> tuple[str, str, bool | None]:
    def values(row: np.ndarray) -> str:
        return ", ".join(show(float(v)) for v in np.atleast_1d(row)[:4])

    return values(y), values(scores), None


def _field_words(data: RunData, scores: np.ndarray, y: np.ndarray) -> tuple[str, str, bool | None]:
    return "", f"relative error {show(float(relative_errors(scores[None], y[None])[0]))}", None


def _mask_words(data: RunData, scores: np.ndarray, y: np.ndarray) -> tuple[str, str, bool | None]:
    hit, missed, _, false = (int(count) for count in outcomes(scores[None], y[None])[0])
    return f"{hit + missed} cells", f"{hit} of them found, {false} others", None


def _picture(x: np.ndarray, words: tuple[str, str, bool | None], number: int) -> Example:
    """Images as they are, few channels as lines, many as a heat map (channels upwards, time to the right)."""
    kind = "image" if x.ndim == 3 else "signal"
    alt = f"Input {kind} of test sample {number + 1}"
    if x.ndim == 3:
        return Example(*words, image=png(_levels(x) if x.shape[0] == 3 else x[0]), alt=alt)
    if x.shape[0] > LINES:
        return Example(*words, image=png(x[::-1], cmap="cividis"), alt=alt)
    return Example(*words, drawing=strip(x, alt), alt=alt)


def _levels(x: np.ndarray) -> np.ndarray:
    """Three channels (3, H, W) of any unit as colours (H, W, 3) in 0..1."""
    low, high = float(x.min()), float(x.max())
    return np.moveaxis((x - low) / ((high - low) or 1.0), 0, -1)
