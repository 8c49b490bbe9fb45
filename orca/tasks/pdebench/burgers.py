"""Burgers' equation, u_t + (u^2 / 2)_x = (nu / pi) u_xx, periodic on [0, 1], from t = 0 to 2.

With nu = 1 the first mode decays by e^-25, and the target is the mean of the input; with nu = 0.01 it has shocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import SequenceEncoding
from orca.tasks.pdebench.initial import cells, random_waves
from orca.tasks.pdebench.line import divergence, faces, heun, march
from orca.tasks.pdebench.merged import LOOKED_AT, ORIGIN, frame_times, read_pair, write_merged
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.types import Examples

KEY, END = "tensor", 2.0
COURANT = 0.45
SMOOTH = 0.1  # from this nu on, the transform of Cole and Hopf can be done with Fourier series
FINE = 1024  # least points of a quadrature


def viscous(u: np.ndarray, nu: float, times: np.ndarray) -> np.ndarray:
    """Solutions (n, T, X) of u (n, X) for large nu, exact for its Fourier modes (Hopf 1950, Cole 1951).

    In the frame of the mean m, u - m = -2 a phi_x / phi with a = nu / pi and phi_t = a phi_xx.
    """
    a, mean = nu / np.pi, u.mean(-1, keepdims=True)
    waves = 2j * np.pi * np.fft.rfftfreq(u.shape[-1], 1 / u.shape[-1])
    phi = np.fft.rfft(np.exp(-_potential(u - mean) / (2 * a)))  # (n, K)
    later = times[1:, None]
    moved = phi[:, None] * np.exp(a * (waves**2).real * later - waves * mean[:, None] * later)  # (n, T - 1, K)
    bent = np.fft.irfft(waves * moved, u.shape[-1]) / np.fft.irfft(moved, u.shape[-1])
    return np.concatenate([u[:, None], mean[:, None] - 2 * a * bent], 1)


def _potential(u: np.ndarray) -> np.ndarray:
    """The periodic antiderivative of u (..., X), whose mean is zero."""
    waves = 2j * np.pi * np.fft.rfftfreq(u.shape[-1], 1 / u.shape[-1])
    modes = np.fft.rfft(u)
    modes[..., 1:] /= waves[1:]
    modes[..., 0] = 0
    if u.shape[-1] % 2 == 0:
        modes[..., -1] = 0  # its antiderivative vanishes at the points
    return np.fft.irfft(modes, u.shape[-1])


def cole_hopf(u: np.ndarray, nu: float, time: float) -> np.ndarray:
    """The solution (X,) at one time of u (X,) for any nu, by quadrature of the formula of Cole and Hopf.

    In the frame of the mean, u is the mean of (x - y) / t under the weight exp(-(theta(y) + (x - y)^2 / (2 t)) / 2 a),
    with theta the antiderivative of the initial state.
    """
    a, mean, count = nu / np.pi, u.mean(), len(u)
    times = max(1, -(-FINE // count))
    theta = _potential(u - mean)
    modes = np.fft.rfft(theta) * times
    fine = np.fft.irfft(np.pad(modes, (0, count * times // 2 + 1 - len(modes))), count * times)
    reach = np.sqrt(2 * time * np.ptp(theta)) + 8 * np.sqrt(2 * a * time)
    periods = int(np.ceil(reach)) + 1
    offset = -0.5 / count  # the first point of the fine grid is the centre of the first cell
    y = np.arange(-periods * len(fine), (periods + 1) * len(fine)) / len(fine)
    x = ((cells(count) + offset - mean * time) % 1)[:, None]  # (X, 1)
    weight = -(np.tile(fine, 2 * periods + 1) + (x - y) ** 2 / (2 * time)) / (2 * a)  # (X, Y)
    weight = np.exp(weight - weight.max(1, keepdims=True))
    return mean + (weight * (x - y)).sum(1) / weight.sum(1) / time


def shocks(u: np.ndarray, nu: float, times: np.ndarray) -> np.ndarray:
    """Solutions (n, T, X) of u (n, X) for any nu, by finite volumes.

    Limited slopes, Godunov's flux, central diffusion, Heun's method: of second order where the solution is smooth.
    """
    a, width = nu / np.pi, 1 / u.shape[-1]

    def rate(state: np.ndarray) -> np.ndarray:
        left, right = faces(state)
        carried = 0.5 * np.maximum(np.maximum(left, 0) ** 2, np.minimum(right, 0) ** 2)
        return -divergence(carried - a / width * (np.roll(state, -1, -1) - state), width)

    def longest(state: np.ndarray) -> float:
        return COURANT / (float(np.abs(state).max()) / width + 2 * a / width**2)

    return np.moveaxis(march(u, times, lambda state, step: heun(state, rate, step), longest), 0, 1)


def draw(points: int, count: int, generator: np.random.Generator, part: str, *, nu: float) -> dict[str, np.ndarray]:
    """Solutions (count, T, points) float32."""
    first = random_waves(points, count, generator)
    solve = viscous if nu >= SMOOTH else shocks
    return {KEY: solve(first, nu, frame_times(END, points)).astype(np.float32)}


def write(folder: Path, parts: Mapping[str, Arrays], points: int, *, file: str) -> None:
    """Writes the published file."""
    write_merged(folder / file, parts, times=frame_times(END, points), points=cells(points))


def read(folder: Path, *, file: str) -> dict[str, Raw]:
    """First and last state."""
    return read_pair(folder / file, (KEY,), time=END)


def accept(parts: Mapping[str, Arrays], points: int, *, nu: float) -> list[Check]:
    """The mean is kept (of float32 numbers: to 1e-6), no value leaves the first range, and energy only falls."""
    u = parts["train"][KEY][:LOOKED_AT].astype(np.float64)
    means, squares = u.mean(2), np.square(u).mean(2)
    beyond = np.maximum(u.max(2) - u[:, :1].max(2), u[:, :1].min(2) - u.min(2))
    fluctuation = np.sqrt((squares - means**2)[:, -1] / squares[:, 0])
    return [Check("largest change of the mean", float(np.abs(means - means[:, :1]).max()), high=1e-6),
            Check("farthest beyond the first range", float(beyond.max()), high=1e-5),
            Check("largest growth of the mean square", float(np.diff(squares, axis=1).max()), high=1e-6),
            Check("last fluctuation over first rms", float(np.median(fluctuation)),
                  *((0.0, 1e-4) if nu >= 1 else (0.01, 1.0)))]  # fmt: skip


def mean_of_input(train: Examples) -> Callable[[Examples], np.ndarray]:
    """Everywhere the mean of the input, which the equation keeps."""
    return lambda data: np.broadcast_to(data.x.mean(2, keepdims=True, dtype=np.float64), data.x.shape).astype("f4")


def closed_form(train: Examples, *, nu: float) -> Callable[[Examples], np.ndarray]:
    """The formula of Cole and Hopf."""
    return lambda data: np.array([cole_hopf(row, nu, END) for row in data.x[:, 0].astype(float)], np.float32)[:, None]


def published(name: str, nu: float, small: Size) -> Published:
    """The files for one nu."""
    file = f"1D_Burgers_Sols_Nu{nu}.hdf5"
    return Published(
        name, (file,), partial(read, file=file),
        Maker(1, small, Size(9000, 0, 1000, 1024), partial(draw, nu=nu), partial(write, file=file),
              partial(accept, nu=nu)),
    )  # fmt: skip


BURGERS = published("burgers", 1.0, Size(900, 0, 100, 256))
BURGERS_001 = published("burgers-nu0.01", 0.01, Size(900, 0, 100, 128))
SPECS = (
    published_task(
        BURGERS,
        Frame(
            "field", "nrmse", SequenceEncoding(), predictors={"mean of the input": mean_of_input},
            notes=("ORCA's one-shot map: the state at t = 2 from the one at t = 0",
                   "nearly trivial: with nu = 1 the target is the mean of the input; report burgers-nu0.01"),
        ),
        title="Burgers, nu = 1, the state at t = 2 from the one at t = 0 (PDEBench)",
        provenance=ORIGIN,
    ),
    published_task(
        BURGERS_001,
        Frame(
            "field", "nrmse", SequenceEncoding(),
            predictors={"mean of the input": mean_of_input, "closed form": partial(closed_form, nu=0.01)},
            notes=("the frame of ORCA with nu = 0.01, where shocks form; no score of it is published for ORCA",),
        ),
        title="Burgers, nu = 0.01, the state at t = 2 from the one at t = 0 (PDEBench)",
        provenance=ORIGIN,
    ),
)  # fmt: skip
