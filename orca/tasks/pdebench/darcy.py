"""Darcy flow with a source of 0.1: from a permeability of blobs, 1 or 0.1, to the pressure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from orca.tasks.benchmark import Frame, published_task
from orca.tasks.darcy_solver import solve_cells
from orca.tasks.effective_medium import homogeneous
from orca.tasks.encodings import GridEncoding
from orca.tasks.pdebench.groups import CELLS
from orca.tasks.pdebench.initial import cells
from orca.tasks.pdebench.merged import LOOKED_AT, ORIGIN
from orca.tasks.pdebench.stacks import read_steady, write_stacks
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw

FILE, NU, SOLUTION = "2D_DarcyFlow_beta0.1_Train.hdf5", "nu", "tensor"
BETA = 0.1  # the source
LOW, HIGH = 0.1, 1.0
BLOBS, WIDEST = 5, 0.5  # exp(-|x - c|^2 / w), w up to 0.5
POINTS = 64  # that ORCA reads of 128


def blobs(points: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Sums of five Gaussian bells of random centre in the unit square and random width, (count, points, points)."""
    x = cells(points)
    centre = generator.uniform(0, 1, (count, BLOBS, 2, 1))
    width = WIDEST * generator.uniform(0, 1, (count, BLOBS, 1))
    across, along = (np.exp(-((x - centre[:, :, axis]) ** 2) / width) for axis in (0, 1))  # (count, BLOBS, points)
    return np.einsum("nbx,nby->nxy", across, along)


@lru_cache(maxsize=1)
def threshold() -> float:
    """The mean of ``blobs`` over the square and all draws, 1.852.

    The published generator takes the mean over a batch; its limit for large ones makes the samples independent. Over
    the square and all centres, a bell has the mean g(w)^2, g = sqrt(pi w) erf(1 / sqrt(w)) - w (1 - exp(-1 / w)).
    """
    from scipy.special import erf

    width = WIDEST * (np.arange(4096) + 0.5) / 4096
    g = np.sqrt(np.pi * width) * erf(1 / np.sqrt(width)) - width * (1 - np.exp(-1 / width))
    return float(BLOBS * (g**2).mean())


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Permeabilities (count, points, points) and pressures (count, 1, points, points), float32."""
    nu = np.where(blobs(points, count, generator) > threshold(), HIGH, LOW)
    solution = np.stack([solve_cells(a, BETA) for a in nu])
    return {NU: nu.astype(np.float32), SOLUTION: solution[:, None].astype(np.float32)}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the published file."""
    stacks = {key: [parts["test"][key], parts["train"][key]] for key in (NU, SOLUTION)}
    centres = cells(points)
    write_stacks(folder / FILE, stacks, {"x": centres, "y": centres, "t": np.ones(1)})


def read(folder: Path) -> dict[str, Raw]:
    """Permeability and pressure, (n, X, Y); the shift set ``fine`` has the cells that the others leave out."""
    return read_steady(folder / FILE, NU, SOLUTION, points=POINTS)


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Two values, each over a fair share of the square; a positive pressure, between those of the extreme media."""
    nu, u = (parts["train"][key][:LOOKED_AT].astype(np.float64) for key in (NU, SOLUTION))
    most = BETA * solve_cells(np.ones((points, points))).max()
    values = set(np.unique(parts["train"][NU][:LOOKED_AT])) <= {np.float32(LOW), np.float32(HIGH)}
    return [Check("permeability is 0.1 or 1", float(values), 1, 1),
            Check("share of high permeability", float((nu > 0.5).mean()), 0.3, 0.6),
            Check("least pressure", float(u.min()), 1e-12, most),
            Check("least maximum over that in the medium of 1", float(u.max((1, 2, 3)).min() / most), 1, 10),
            Check("greatest pressure over that maximum", float(u.max() / most), 1, 10 * (1 + 1e-6))]  # fmt: skip


def _unit(points: int) -> np.ndarray:
    return BETA * solve_cells(np.ones((points, points)))


DARCY = Published(
    name="darcy-pdebench",
    files=(FILE,),
    read=read,
    maker=Maker(
        version=1, small=Size(450, 0, 50, 48), published=Size(9000, 0, 1000, CELLS), draw=draw, write=write,
        accept=accept,
    ),
)  # fmt: skip
SPECS = (
    published_task(
        DARCY,
        Frame(
            "field", "nrmse", GridEncoding(channels="none"), repeats=True, version=2,
            predictors={"homogeneous medium": homogeneous(lru_cache(maxsize=4)(_unit))},
            notes=("as in ORCA every second cell along each axis; PDEBench's own rows in its paper use all",
                   "some media have the low permeability everywhere, so that a few samples are in train and test"),
        ),
        title="Darcy flow, permeability to pressure, source 0.1 (PDEBench)",
        provenance=ORIGIN,
    ),
)  # fmt: skip
