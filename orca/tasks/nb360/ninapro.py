"""NinaPro DB5: hand gestures from 0.26 s of the electromyogram of two armbands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import GridEncoding
from orca.tasks.nb360.emg import CHANNELS, GESTURES, RATE, SECONDS, SUBJECTS, repetitions
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.tasks.readers.arrays import labels, paired, read_npy
from orca.tasks.shifts import noisy, scaled
from orca.types import Examples, Provenance

SPLITS = ("train", "val", "test")
WINDOW, STEP = 52, 5  # samples at 200 Hz
KEPT = 12  # windows of a repetition, of those that a step of 5 gives
CLASSES = tuple(f"gesture {k}" for k in range(GESTURES))


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Windows of ``points`` samples, x (count, points, 16) float16 and y (count,), of repetitions of this split."""
    if points > (most := round(SECONDS * RATE) - STEP * KEPT):
        raise InputError(f"a repetition has windows of at most {most} samples; got {points}")
    number = -(-count // KEPT)
    rounds = -(-number // GESTURES)
    gesture = np.concatenate([generator.permutation(GESTURES) for _ in range(rounds)])[:number]
    signal = repetitions(gesture, generator.integers(0, SUBJECTS, number), generator)
    starts = STEP * np.stack([
        generator.choice((signal.shape[1] - points) // STEP + 1, KEPT, replace=False) for _ in range(number)
    ])  # fmt: skip
    at = starts[:, :, None] + np.arange(points)  # (number, KEPT, points)
    x = signal[np.arange(number)[:, None, None], at].reshape(-1, points, CHANNELS)
    return {"x": x[:count].astype(np.float16), "y": np.repeat(gesture, KEPT)[:count]}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes two files for each split."""
    for name, part in parts.items():
        np.save(folder / f"ninapro_{name}.npy", part["x"])
        np.save(folder / f"label_{name}.npy", part["y"])


def read(folder: Path) -> dict[str, Raw]:
    """The splits as published, as images of 16 electrodes by samples."""
    parts = {name: _read(folder, name) for name in SPLITS}
    if len({part.x.shape[2] for part in parts.values()}) > 1:
        sizes = ", ".join(f"{name} {part.x.shape[2]}" for name, part in parts.items())
        raise InputError(f"windows in {folder} differ in their number of samples: {sizes}; they must agree")
    return parts


def _read(folder: Path, name: str) -> Raw:
    x = read_npy(folder / f"ninapro_{name}.npy", ("windows", "samples", CHANNELS))
    path = folder / f"label_{name}.npy"
    y = labels(read_npy(path, ("windows",)), 0, GESTURES - 1, str(path))
    paired(x, y, f"split {name} in {folder}")
    return Raw(x.transpose(0, 2, 1), y)


def amplitudes(x: np.ndarray) -> np.ndarray:
    """Mean absolute value of each electrode, (n, 1, 16, L) or (n, 16, L) to (n, 16)."""
    return np.abs(x.reshape(len(x), CHANNELS, -1)).mean(2)


def amplitude_lda(train: Examples) -> Callable[[Examples], np.ndarray]:
    """Linear discriminant analysis on the electrodes' mean absolute values."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    model = LinearDiscriminantAnalysis().fit(amplitudes(train.x), train.y)
    return lambda data: model.decision_function(amplitudes(data.x))


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Linear discriminant analysis on amplitudes does well, and badly once each window's electrodes are shuffled."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    train, test = (
        (amplitudes(parts[name]["x"].astype(np.float32).transpose(0, 2, 1)), parts[name]["y"])
        for name in ("train", "test")
    )
    model = LinearDiscriminantAnalysis().fit(*train)
    shuffled = np.random.default_rng(0).permuted(test[0], axis=1)
    return [Check("accuracy of LDA on mean absolute values", float(model.score(*test)), 0.6, 0.85),
            Check("the same with electrodes shuffled", float(model.score(shuffled, test[1])), high=0.3)]  # fmt: skip


NINAPRO = Published(
    name="ninapro",
    files=tuple(f"{kind}_{name}.npy" for name in SPLITS for kind in ("ninapro", "label")),
    read=read,
    maker=Maker(
        version=1, small=Size(2638, 659, 659, WINDOW), published=Size(2638, 659, 659, WINDOW), draw=draw, write=write,
        accept=accept, block=18 * KEPT,
    ),
)  # fmt: skip
SPECS = (
    published_task(
        NINAPRO,
        Frame(
            "classes", "error", GridEncoding(channels="none"), classes=CLASSES,
            predictors={"LDA": amplitude_lda}, shift={"noise": noisy(0.2), "weak": scaled(0.5)},
            notes=(
                "published splits; the reference trains on train and val together and selects on test",
                "values as published: rectified, high-pass at 2 Hz, not standardised",
                "windows of a repetition overlap, so they are alike and the interval is too narrow",
            ),
        ),
        title="18 hand gestures from 0.26 s of 16 electrodes (NinaPro DB5)",
        provenance=Provenance(
            "https://ninapro.hevs.ch/instructions/DB5.html",
            "free for research, to be cited; see the source",
            "S. Pizzolato et al., Comparison of six electromyography acquisition setups on hand movement "
            "classification tasks, PLoS ONE 12(10), 2017",
        ),
    ),
)  # fmt: skip
