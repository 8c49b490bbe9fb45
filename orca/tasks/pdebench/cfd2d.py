"""A viscous gas in two dimensions from random fields: density, pressure and velocity at t = 1 from those at t = 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import GridEncoding
from orca.tasks.pdebench.finite_volume import evolve
from orca.tasks.pdebench.gas2d import GAMMA, viscous_gas
from orca.tasks.pdebench.groups import CELLS, frame_times
from orca.tasks.pdebench.initial import cells
from orca.tasks.pdebench.merged import LOOKED_AT, ORIGIN
from orca.tasks.pdebench.stacks import read_evolution, write_stacks
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.types import Examples

FILE = "2D_CFD_Rand_M1.0_Eta0.1_Zeta0.1_periodic_128_Train.hdf5"
KEYS = ("density", "pressure", "Vx", "Vy")
ETA = ZETA = 0.1
MACH, WAVES = 1.0, 4
END, STEPS = 1.0, 20
POINTS = 64  # that ORCA reads of 128
LEAST = 0.05  # of the mean density or pressure: what a perturbation leaves
EDGE = 0.01  # steepness of the window


def random_fields(points: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Sums of sin(k x + phi) / sqrt(|k|) over k = 2 pi (i, j), 0 < |i|, |j| <= 4: (count, points, points)."""
    number = np.array([*range(-WAVES, 0), *range(1, WAVES + 1)])
    turn = np.exp(2j * np.pi * number[:, None] * cells(points))  # (8, points)
    length = 2 * np.pi * np.hypot(number[:, None], number)
    phase = np.exp(1j * generator.uniform(0, 2 * np.pi, (count, *length.shape)))
    return np.einsum("nij,ix,jy->nxy", phase / np.sqrt(length), turn, turn, optimize=True).imag


def window(points: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """One everywhere, or with probability one half in a rectangle only, fading to zero: (count, points, points)."""
    x, sides = cells(points), []
    for _ in range(2):
        low, high = generator.uniform(0.1, 0.45, (count, 1)), generator.uniform(0.55, 0.9, (count, 1))
        sides.append((np.tanh((x - low) / EDGE) - np.tanh((x - high) / EDGE)) / 2)
    box = sides[0][:, :, None] * sides[1][:, None]
    return np.where(generator.random((count, 1, 1)) < 0.5, box, 1.0)


def initial(points: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Density, velocity along x and y, and pressure: (4, count, points, points).

    Mean density and temperature are uniform in [0.1, 10], the mean speed is that of sound times the Mach number, and
    density and pressure vary by 1 to 20 % (Takamoto et al. 2022, appendix D), less where that would leave nothing.
    """
    density, temperature = generator.uniform(0.1, 10, (2, count, 1, 1))
    velocity = np.stack([random_fields(points, count, generator) for _ in range(2)])
    speed = np.hypot(*velocity).mean((1, 2), keepdims=True)
    velocity *= MACH * np.sqrt(GAMMA * temperature) / speed
    inside = window(points, count, generator)
    factors = []
    for _ in range(2):
        change = random_fields(points, count, generator)
        change *= generator.uniform(0.01, 0.2, (count, 1, 1)) / np.abs(change).mean((1, 2), keepdims=True)
        change *= np.minimum(1, (LEAST - 1) / change.min((1, 2), keepdims=True))
        factors.append(1 + inside * change)
    return np.stack([density * factors[0], *(inside * velocity), density * temperature * factors[1]])


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Solutions by field, (count, T, points, points) float32."""
    w = initial(points, count, generator)
    frames = [w]
    for gap in np.diff(frame_times(END, points, steps=STEPS)):
        frames.append(evolve(frames[-1], viscous_gas(ETA, ZETA), size=1 / points, end=float(gap), boundary="wrap"))
    states = dict(zip(("density", "Vx", "Vy", "pressure"), np.stack(frames, axis=2), strict=True))
    return {key: states[key].astype(np.float32) for key in KEYS}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the published file, test samples last."""
    stacks = {key: [parts["train"][key], parts["test"][key]] for key in KEYS}
    centres = cells(points)
    times = frame_times(END, points, steps=STEPS)
    write_stacks(folder / FILE, stacks, {"x": centres, "y": centres, "t": times})


def read(folder: Path) -> dict[str, Raw]:
    """Density, pressure and velocity at the beginning and the end, (n, 4, X, Y)."""
    return read_evolution(folder / FILE, KEYS, time=END, points=POINTS)


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Mass, momentum and energy are kept; density and pressure stay positive; the Mach number is 1."""
    density, pressure, across, along = (parts["train"][key][:LOOKED_AT].astype(np.float64) for key in KEYS)
    energy = pressure / (GAMMA - 1) + density * (across**2 + along**2) / 2
    force = np.abs(density * np.hypot(across, along)).mean((2, 3))[:, 0]
    lost = [np.abs(q.mean((2, 3))[:, -1] / q.mean((2, 3))[:, 0] - 1).max() for q in (density, energy)]
    push = [np.abs(np.diff((density * v).mean((2, 3))[:, [0, -1]])[:, 0]) / force for v in (across, along)]
    speed = np.hypot(across, along)[:, 0].mean((1, 2)) / np.sqrt(GAMMA * (pressure / density)[:, 0].mean((1, 2)))
    return [Check("largest relative change of the mass", float(lost[0]), 0, 1e-5),
            Check("largest relative change of the energy", float(lost[1]), 0, 1e-5),
            Check("largest relative change of the momentum", float(np.max(push)), 0, 1e-5),
            Check("least density", float(density.min()), 1e-6),
            Check("least pressure", float(pressure.min()), 1e-6),
            Check("greatest mean speed over that of sound", float(speed.max()), 0.8, 1.1)]  # fmt: skip


def at_rest(train: Examples) -> Callable[[Examples], np.ndarray]:
    """The uniform state of the same mass, momentum and energy: what viscosity leads to."""

    def answer(data: Examples) -> np.ndarray:
        density, pressure, across, along = (data.x[:, row].astype(np.float64) for row in range(4))
        mass = density.mean((1, 2))
        drift = [(density * v).mean((1, 2)) / mass for v in (across, along)]
        energy = (pressure / (GAMMA - 1) + density * (across**2 + along**2) / 2).mean((1, 2))
        rest = (GAMMA - 1) * (energy - mass * (drift[0] ** 2 + drift[1] ** 2) / 2)
        uniform = np.stack([mass, rest, *drift], axis=1)[:, :, None, None]
        return np.broadcast_to(uniform, data.x.shape).astype(np.float32)

    return answer


GAS = Published(
    name="cfd2d",
    files=(FILE,),
    read=read,
    maker=Maker(
        version=1, small=Size(135, 0, 15, 16), published=Size(9000, 0, 1000, CELLS), draw=draw, write=write,
        accept=accept, block=50,
    ),
)  # fmt: skip
SPECS = (
    published_task(
        GAS,
        Frame(
            "field", "nrmse", GridEncoding(channels="first"), predictors={"uniform state": at_rest},
            notes=(
                "nRMSE in physical units, the mean over the four fields; ORCA's code normalises them point by point "
                "and reports the error of that",
                "viscosity has stopped the gas by t = 1: pressure is nearly uniform, and what is left of the velocity "
                "is its mean, which the kept momentum gives",
            ),
        ),
        title="viscous gas in 2-D at Mach 1, density, pressure and velocity at t = 1 from those at t = 0 (PDEBench)",
        provenance=ORIGIN,
    ),
)  # fmt: skip
