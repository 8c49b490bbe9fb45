"""NAS-Bench-360's Darcy flow: from a permeability of 12 and 3 to the pressure, on 85 x 85 of 421 x 421 nodes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.tasks.benchmark import Frame, published_task
from orca.tasks.darcy_solver import HIGH, LOW, permeability, solve
from orca.tasks.effective_medium import homogeneous
from orca.tasks.encodings import GridEncoding
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import SHIFT, Raw
from orca.tasks.readers.matlab import matlab_array
from orca.types import Provenance

FILES = {"train": "piececonst_r421_N1024_smooth1.mat", "test": "piececonst_r421_N1024_smooth2.mat"}
COUNT = {"train": 1000, "test": 100}  # rows that are used, the first of each file
COEFFICIENT, SOLUTION = "coeff", "sol"
NODES, FINE = 85, 141  # per side, of 421 every fifth, and every third


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Permeabilities and pressures at the nodes, (count, points, points) float64."""
    fields = np.stack([permeability(points, generator=generator) for _ in range(count)])
    return {COEFFICIENT: fields, SOLUTION: np.stack([solve(a) for a in fields])}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the two files, in MATLAB's version 5."""
    from scipy.io import savemat

    for part, name in FILES.items():
        savemat(str(folder / name), dict(parts[part]), do_compression=True)


def read(folder: Path) -> dict[str, Raw]:
    """The first 1000 and 100 samples of the files, (n, s, s) with s at most 85.

    Where the files have more nodes, the shift set ``fine`` is the test samples on at most 141 of them per side.

    Raises:
        InputError: a file is not as published.
    """
    parts = {part: _read(folder / name, COUNT[part]) for part, name in FILES.items()}
    shapes = {part: raw.x.shape[1:] for part, raw in parts.items()}
    if shapes["train"] != shapes["test"]:
        raise InputError(
            f"{folder}: {FILES['train']} gives {shapes['train']} nodes and {FILES['test']} {shapes['test']}; they must "
            "agree"
        )
    fine = _read(folder / FILES["test"], COUNT["test"], FINE)
    return parts if fine.x.shape[1:] == shapes["test"] else {**parts, f"{SHIFT}fine": fine}


def _read(path: Path, count: int, nodes: int = NODES) -> Raw:
    coefficient = matlab_array(path, COEFFICIENT, ("samples", "s", "s"))
    side = coefficient.shape[1]
    if coefficient.shape[2] != side:
        raise InputError(f"{COEFFICIENT} in {path} has shape {coefficient.shape}; expected (samples, s, s)")
    solution = matlab_array(path, SOLUTION, coefficient.shape)
    kept = slice(None, None, max(1, -(-(side - 1) // (nodes - 1))))  # the nodes on both ends stay, where they can
    index = (slice(0, count), kept, kept)
    return Raw(coefficient.read(*index), solution.read(*index))


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """The statistics of the published law; no pressure on the boundary."""
    a, u = (parts["train"][key] for key in (COEFFICIENT, SOLUTION))
    edges = np.stack([u[:, 0], u[:, -1], u[:, :, 0], u[:, :, -1]])
    errors = np.linalg.norm(u - u.mean(0), axis=(1, 2)) / np.linalg.norm(u, axis=(1, 2))
    return [Check("permeability is 3 or 12", float(set(np.unique(a)) <= {LOW, HIGH}), 1, 1),
            Check("share of 12", float((a == HIGH).mean()), 0.4, 0.6),
            Check("mean pressure", float(u.mean()), 4.5e-3, 6.5e-3),
            Check("mean over samples of the greatest pressure", float(u.max((1, 2)).mean()), 1.1e-2, 1.5e-2),
            Check("greatest pressure on the boundary", float(np.abs(edges).max()), 0, 0),
            Check("relative L2 of the mean pressure", float(errors.mean()), 0.17, 0.31)]  # fmt: skip


def _unit(points: int) -> np.ndarray:
    return solve(np.ones((points, points)))


DARCY_FLOW = Published(
    name="darcy-flow",
    files=tuple(FILES.values()),
    read=read,
    maker=Maker(
        version=1, small=Size(500, 0, 100, 43), published=Size(1024, 0, 1024, 421), draw=draw, write=write,
        accept=accept,
    ),
)  # fmt: skip
SPECS = (
    published_task(
        DARCY_FLOW,
        Frame(
            "field", "relative_l2", GridEncoding(channels="none"),
            version=2, predictors={"homogeneous medium": homogeneous(lru_cache(maxsize=4)(_unit))},
            notes=(
                "relative L2 in physical units, the mean over samples, as published; the published numbers chose the "
                "epoch on test, and scaled each node by itself, where here one scale serves all",
            ),
        ),
        title="Darcy flow, permeability to pressure on 85 x 85 nodes (NAS-Bench-360)",
        provenance=Provenance(
            "https://github.com/rtu715/NAS-Bench-360", "not stated with the files",
            "Z. Li et al., Fourier Neural Operator for Parametric PDEs, ICLR 2021",
        ),
    ),
)  # fmt: skip
