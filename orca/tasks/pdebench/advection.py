"""Advection at constant speed, u_t + 0.4 u_x = 0, from t = 0 to 2: a cyclic shift by 0.8 of the domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import SequenceEncoding
from orca.tasks.pdebench.initial import cells, random_waves
from orca.tasks.pdebench.merged import LOOKED_AT, ORIGIN, frame_times, read_pair, write_merged
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.types import Examples

FILE, KEY = "1D_Advection_Sols_beta0.4.hdf5", "tensor"
SPEED, END = 0.4, 2.0
POINTS = 256  # that ORCA reads of 1024


def shifted(u: np.ndarray, distance: np.ndarray | float) -> np.ndarray:
    """Periodic u (..., X) on [0, 1] moved to the right by distance (...,), exactly for its Fourier modes."""
    modes = np.fft.rfftfreq(u.shape[-1], 1 / u.shape[-1])
    phase = np.exp(-2j * np.pi * modes * np.asarray(distance)[..., None])
    return np.fft.irfft(np.fft.rfft(u) * phase, u.shape[-1])


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Solutions (count, T, points) float32."""
    first = random_waves(points, count, generator)
    return {KEY: shifted(first[:, None], SPEED * frame_times(END, points)).astype(np.float32)}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the published file."""
    write_merged(folder / FILE, parts, times=frame_times(END, points), points=cells(points))


def read(folder: Path) -> dict[str, Raw]:
    """First and last state."""
    return read_pair(folder / FILE, (KEY,), time=END, points=POINTS)


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """The norm is kept."""
    u = parts["train"][KEY][:LOOKED_AT]
    ratio = np.linalg.norm(u[:, -1], axis=1) / np.linalg.norm(u[:, 0], axis=1)
    return [Check("least norm of the end over that of the beginning", float(ratio.min()), 0.98, 1.02),
            Check("greatest norm of the end over that of the beginning", float(ratio.max()), 0.98, 1.02)]  # fmt: skip


def closed_form(train: Examples) -> Callable[[Examples], np.ndarray]:
    """The shift itself."""
    return lambda data: shifted(data.x.astype(np.float64), SPEED * END).astype(np.float32)


ADVECTION = Published(
    name="advection",
    files=(FILE,),
    read=read,
    maker=Maker(
        version=1, small=Size(900, 0, 100, 256), published=Size(9000, 0, 1000, 1024), draw=draw, write=write,
        accept=accept,
    ),
)  # fmt: skip
SPECS = (
    published_task(
        ADVECTION,
        Frame(
            "field", "nrmse", SequenceEncoding(), predictors={"closed form": closed_form},
            notes=("ORCA's one-shot map: the state at t = 2 from the one at t = 0, every fourth point",),
        ),
        title="advection, the state at t = 2 from the one at t = 0 (PDEBench)",
        provenance=ORIGIN,
    ),
)  # fmt: skip
