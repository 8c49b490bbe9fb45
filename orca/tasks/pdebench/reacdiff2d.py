"""Diffusion and reaction in two dimensions (FitzHugh-Nagumo) from white noise: the state at t = 5 from that at t = 0.

ORCA asks for v at the end from u at the beginning alone. The independent v at the beginning is withheld, so a part of
the answer cannot be known; the task ``reacdiff2d-full`` gives both and asks for both, from the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import GridEncoding
from orca.tasks.pdebench.fitzhugh_nagumo import SIDE, evolve
from orca.tasks.pdebench.groups import CELLS, KEY, frame_times, read_groups, write_groups
from orca.tasks.pdebench.merged import LOOKED_AT, ORIGIN
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.types import Examples

FILE = "2D_diff-react_NA_NA.h5"
END, STEPS = 5.0, 100
RMS = {"u": 0.32, "v": 0.18}  # at the end, on 128 x 128 cells; noise of a value per cell is smoother on fewer cells


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Solutions (count, T, points, points, 2) float32 from independent normal numbers in every cell."""
    noise = generator.standard_normal((count, 2, points, points))
    frames = evolve(np.moveaxis(noise, 1, 0), end=END, times=frame_times(END, points, steps=STEPS))
    return {KEY: frames.transpose(2, 0, 3, 4, 1).astype(np.float32)}  # from (T, 2, n, X, Y)


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the published file."""
    centres = SIDE * ((np.arange(points) + 0.5) / points - 0.5)
    write_groups(folder / FILE, parts, times=frame_times(END, points, steps=STEPS), axes=dict.fromkeys("xy", centres))


def read(folder: Path) -> dict[str, Raw]:
    """Only u at the beginning and v at the end, (n, X, Y)."""
    raw = read_groups(folder / FILE, channels=2, axes=("x", "y"), time=END, end=END)
    return {name: Raw(part.x[:, 0], part.y[:, 1]) for name, part in raw.items()}


def read_full(folder: Path) -> dict[str, Raw]:
    """Both u and v at the beginning and at the end, (n, 2, X, Y)."""
    return read_groups(folder / FILE, channels=2, axes=("x", "y"), time=END, end=END)


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Standard normal at the beginning; at the end the root mean square of the equations."""
    data = parts["train"][KEY][:LOOKED_AT].astype(np.float64)
    room = 0.1 if points == CELLS else 0.4
    ends = [
        Check(f"rms of {name} at the end", float(np.sqrt((data[:, -1, ..., channel] ** 2).mean())),
              (1 - room) * RMS[name], (1 + room) * RMS[name])
        for channel, name in enumerate(RMS)
    ]  # fmt: skip
    return [Check("standard deviation at the beginning", float(data[:, 0].std()), 0.97, 1.03), *ends]


def radial_gains(train: Examples) -> Callable[[Examples], np.ndarray]:
    """The best linear map that commutes with translation and turning: a gain for each radius of the wave number.

    For C channels in and D out each gain is a matrix (C, D), fitted by least squares to the coefficients of the cosine
    transform (DCT-II, no flux) whose wave number rounds to that radius.
    """
    from scipy.fft import idctn

    points = np.arange(train.x.shape[-1])
    radius = np.rint(np.hypot(points[:, None], points)).astype(int)  # (N, N)
    x, y = _modes(train.x), _modes(train.y)
    gains = np.stack([_fit(x[..., ring], y[..., ring]) for ring in (radius == r for r in range(radius.max() + 1))])

    def answer(data: Examples) -> np.ndarray:
        found = np.einsum("ncxy,xycd->ndxy", _modes(data.x), gains[radius])
        return np.asarray(idctn(found, axes=(-2, -1), norm="ortho"), np.float32)

    return answer


def _modes(x: np.ndarray) -> np.ndarray:
    from scipy.fft import dctn

    return np.asarray(dctn(x.astype(np.float64), axes=(-2, -1), norm="ortho"))


def _fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The matrix (C, D) that brings coefficients (n, C, m) nearest to (n, D, m)."""
    rows, wanted = (np.moveaxis(a, 1, -1).reshape(-1, a.shape[1]) for a in (x, y))
    return np.linalg.lstsq(rows, wanted, rcond=None)[0]


NOISE = Published(
    name="reacdiff2d",
    files=(FILE,),
    read=read,
    maker=Maker(
        version=1, small=Size(270, 0, 30, 48), published=Size(900, 0, 100, CELLS), draw=draw, write=write,
        accept=accept, block=10,
    ),
)  # fmt: skip
_GAIN = "one gain per radial wave number"
SPECS = (
    published_task(
        NOISE,
        Frame(
            "field", "nrmse", GridEncoding(channels="none"), predictors={_GAIN: radial_gains},
            notes=(
                "ORCA's one-shot map: v at t = 5 from u at t = 0; v at t = 0, as random, is withheld, so no answer can "
                "be right (reacdiff2d-full gives both)",
            ),
        ),
        title="FitzHugh-Nagumo in 2-D, v at t = 5 from u at t = 0 (PDEBench, as ORCA poses it)",
        provenance=ORIGIN,
    ),
    published_task(
        replace(NOISE, read=read_full),
        Frame(
            "field", "nrmse", GridEncoding(channels="first"), predictors={_GAIN: radial_gains},
            notes=("u and v at t = 5 from u and v at t = 0; nRMSE is the mean over both",),
        ),
        name="reacdiff2d-full",
        title="FitzHugh-Nagumo in 2-D, u and v at t = 5 from u and v at t = 0 (PDEBench)",
        provenance=ORIGIN,
    ),
)  # fmt: skip
