"""Diffusion retarded by sorption, u_t = D / R(u) u_xx on [0, 1] from t = 0 to 500.

The first state is one random constant, so the solutions are a family of one parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import SequenceEncoding
from orca.tasks.pdebench.groups import FRAMES, KEY, read_groups, write_groups
from orca.tasks.pdebench.initial import cells
from orca.tasks.pdebench.merged import GRID, LOOKED_AT, ORIGIN
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.types import Examples

FILE = "1D_diff-sorp_NA_NA.h5"
DIFFUSION, END = 5e-4, 500.0
POROSITY, DENSITY, FREUNDLICH, EXPONENT = 0.29, 2880.0, 3.5e-4, 0.874
HIGHEST = 0.2  # of the first state
NODES = 21  # of the interpolation


def retardation(u: np.ndarray, exponent: float = EXPONENT) -> np.ndarray:
    """R(u) = 1 + (1 - phi) / phi rho_s k_f n_f (u + 1e-6)^(n_f - 1), Freundlich's isotherm."""
    factor = (1 - POROSITY) / POROSITY * DENSITY * FREUNDLICH * exponent
    return 1 + factor * (np.maximum(u, 0) + 1e-6) ** (exponent - 1)


def solve(first: float, points: int, times: np.ndarray, *, exponent: float = EXPONENT) -> np.ndarray:
    """The solution (T, points) from a constant first state; LSODA with a banded Jacobian.

    Central differences on cell centres. As in the published files the ends are cells outside, whose centres lie half a
    cell beyond: u = 1 on the left, and on the right u = -D u_x (what flows out is what is there) with the difference of
    the last two cells.
    """
    from scipy.integrate import odeint

    width = 1 / points
    padded = np.ones(points + 2)

    def rate(u: np.ndarray, time: float) -> np.ndarray:
        padded[1:-1] = u
        padded[-1] = DIFFUSION * (u[-2] - u[-1]) / width
        curved = (padded[2:] - 2 * u + padded[:-2]) / width**2
        return DIFFUSION / retardation(u, exponent) * curved

    return odeint(rate, np.full(points, first), times, ml=1, mu=1, rtol=1e-6, atol=1e-8)


def times_of(points: int) -> np.ndarray:
    """Times of the frames of a file, (T,): as published, and fewer where the grid is smaller."""
    return np.linspace(0, END, FRAMES if points == GRID else 11)


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Solutions (count, T, points, 1) float32."""
    firsts, times = generator.uniform(0, HIGHEST, count), times_of(points)
    return {KEY: np.array([solve(first, points, times) for first in firsts], np.float32)[..., None]}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the published file."""
    write_groups(folder / FILE, parts, times=times_of(points), axes={"x": cells(points)})


def read(folder: Path) -> dict[str, Raw]:
    """First and last state."""
    return read_groups(folder / FILE, time=END, end=END)


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """The first state is constant, all values lie in [0, 1], and what is kept falls with the distance."""
    u = parts["train"][KEY][:LOOKED_AT][..., 0].astype(np.float64)
    return [Check("largest spread of a first state", float(np.ptp(u[:, 0], axis=1).max()), high=0.0),
            Check("greatest first state", float(u[:, 0].max()), 0.0, HIGHEST),
            Check("least value", float(u.min()), low=0.0), Check("greatest value", float(u.max()), high=1.0),
            Check("largest rise along x", float(np.diff(u[:, -1], axis=1).max()), high=1e-6)]  # fmt: skip


def one_parameter(train: Examples) -> Callable[[Examples], np.ndarray]:
    """Linear interpolation, in the one number of the input, between the training targets at 21 nodes."""
    known, order = np.unique(train.x.mean((1, 2), dtype=np.float64), return_index=True)
    nodes = np.unique(np.abs(known - np.linspace(known[0], known[-1], NODES)[:, None]).argmin(1))
    place, fields = known[nodes], train.y[order[nodes]]  # (K,), (K, 1, X)

    def answer(data: Examples) -> np.ndarray:
        at = np.interp(data.x.mean((1, 2), dtype=np.float64), place, np.arange(len(place)))
        low = np.minimum(at.astype(int), max(0, len(place) - 2))
        share = (at - low)[:, None, None].astype(np.float32)
        return fields[low] * (1 - share) + fields[np.minimum(low + 1, len(place) - 1)] * share

    return answer


DIFFSORP = Published(
    name="diffsorp",
    files=(FILE,),
    read=read,
    maker=Maker(1, Size(450, 0, 50, 128), Size(9000, 0, 1000, 1024), draw, write, accept),
)
SPECS = (
    published_task(
        DIFFSORP,
        Frame(
            "field", "nrmse", SequenceEncoding(), predictors={"one parameter": one_parameter},
            notes=("ORCA's one-shot map: the state at t = 500 from the one at t = 0; the last tenth is test",
                   "nearly trivial: the input is one random number, and interpolation in it answers"),
        ),
        title="diffusion-sorption, the state at t = 500 from the one at t = 0 (PDEBench)",
        provenance=ORIGIN,
    ),
)  # fmt: skip
