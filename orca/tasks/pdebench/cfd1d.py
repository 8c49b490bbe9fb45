"""Compressible Navier-Stokes in one dimension, eta = zeta = 0.1, periodic on [-1, 1], from t = 0 to 1: three fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import SequenceEncoding
from orca.tasks.pdebench.gas import GAMMA, conserved, flow
from orca.tasks.pdebench.initial import cells, random_waves, unit_range
from orca.tasks.pdebench.merged import LOOKED_AT, ORIGIN, frame_times, read_pair, write_merged
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.types import Examples

FILE, KEYS = "1D_CFD_Rand_Eta0.1_Zeta0.1_periodic_Train.hdf5", ("density", "Vx", "pressure")
END, LEFT, LENGTH = 1.0, -1.0, 2.0
ETA = ZETA = 0.1
VISCOSITY = ZETA + 4 / 3 * ETA
WAVES = {"low": LEFT, "slots": 3, "window": 0.5}


def first_state(points: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Random density, velocity and pressure, (3, count, points)."""
    density, velocity, pressure = (random_waves(points, count, generator, **WAVES) for _ in range(3))

    def scaled(u: np.ndarray, low: float, high: float) -> np.ndarray:
        factor, least = np.exp(generator.uniform(np.log(low), np.log(high), (2, count, 1)))
        return unit_range(u) * factor + least

    return np.stack([scaled(density, 1, 10), velocity, scaled(pressure, 10, 100)])


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Density, velocity and pressure, (count, T, points) float32 each."""
    first = first_state(points, count, generator)
    found = flow(first, frame_times(END, points), length=LENGTH, viscosity=VISCOSITY)  # (T, 3, count, points)
    return {key: np.moveaxis(found[:, row], 0, 1).astype(np.float32) for row, key in enumerate(KEYS)}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the published file."""
    write_merged(folder / FILE, parts, times=frame_times(END, points), points=cells(points, LEFT))


def read(folder: Path) -> dict[str, Raw]:
    """First and last state, density, velocity and pressure (n, 3, X) in their own units."""
    return read_pair(folder / FILE, KEYS, time=END)


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Mass, momentum and energy are kept (relative to their scale, of float32 numbers), and nothing is negative."""
    u = np.stack([parts["train"][key][:LOOKED_AT] for key in KEYS]).astype(np.float64)  # (3, n, T, X)
    mass, momentum, energy = conserved(u).mean(-1)  # (n, T)
    scale = np.sqrt(2 * mass[:, 0] * energy[:, 0])[:, None]  # no flow of this energy has more momentum
    drift = {"mass": (mass - mass[:, :1]) / mass[:, :1], "momentum": (momentum - momentum[:, :1]) / scale,
             "energy": (energy - energy[:, :1]) / energy[:, :1]}  # fmt: skip
    return [
        *(Check(f"largest change of {name}", float(np.abs(found).max()), high=1e-6) for name, found in drift.items()),
        Check("least density", float(u[0].min()), low=1e-6),
        Check("least pressure", float(u[2].min()), low=1e-6),
    ]


def relaxed(train: Examples) -> Callable[[Examples], np.ndarray]:
    """What viscosity would leave: uniform velocity and pressure of this momentum and energy, the density carried."""

    def answer(data: Examples) -> np.ndarray:
        state = np.moveaxis(data.x.astype(np.float64), 1, 0)  # (3, n, X)
        mass, momentum, energy = conserved(state).mean(-1)
        velocity = momentum / mass
        pressure = (GAMMA - 1) * (energy - 0.5 * momentum * velocity)
        places = state.shape[-1]
        moved = (np.arange(places) - velocity[:, None] * END * places / LENGTH) % places  # (n, X), where it came from
        density = np.array(
            [
                np.interp(at, np.arange(places + 1), np.append(row, row[0]))
                for at, row in zip(moved, state[0], strict=True)
            ]
        )
        uniform = np.broadcast_to(np.stack([velocity, pressure], 1)[:, :, None], (len(mass), 2, places))
        return np.concatenate([density[:, None], uniform], 1).astype(np.float32)

    return answer


def unchanged(train: Examples) -> Callable[[Examples], np.ndarray]:
    """The first state."""
    return lambda data: data.x


CFD = Published(
    name="cfd1d",
    files=(FILE,),
    read=read,
    maker=Maker(1, Size(540, 0, 60, 64), Size(9000, 0, 1000, 1024), draw, write, accept, block=60),
)
SPECS = (
    published_task(
        CFD,
        Frame(
            "field", "nrmse", SequenceEncoding(),
            predictors={"relaxed state": relaxed, "first state": unchanged},
            notes=("ORCA's one-shot map: density, velocity and pressure at t = 1 from those at t = 0",
                   "nRMSE of each field in its own units, mean over the three; ORCA's number is of fields normalised "
                   "point by point with statistics of the input, all in one norm: the two do not compare"),
        ),
        title="compressible Navier-Stokes in one dimension, the state at t = 1 from the one at t = 0 (PDEBench)",
        provenance=ORIGIN,
    ),
)  # fmt: skip
