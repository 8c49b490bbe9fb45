"""Radial dam break in shallow water: the height at t = 1 from the one at t = 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import GridEncoding
from orca.tasks.pdebench.finite_volume import evolve, shallow_water
from orca.tasks.pdebench.groups import CELLS, KEY, frame_times, read_groups, write_groups
from orca.tasks.pdebench.merged import CITATION, LOOKED_AT, ORIGIN
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.types import Examples, Provenance

FILE, HARD_FILE = "2D_rdb_NA_NA.h5", "2D_rdb_random.h5"
SIDE, END, STEPS = 5.0, 1.0, 100
RADII = (0.3, 0.7)
HEIGHTS, SHIFT = (1.5, 2.5), 0.3  # of the harder set: height of the dam, and of its centre along each axis


def centres(points: int) -> np.ndarray:
    """Of so many cells of [-2.5, 2.5], (points,)."""
    return SIDE * ((np.arange(points) + 0.5) / points - 0.5)


def dam(points: int, radius: np.ndarray, height: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Water as high as ``height`` (n,) in cells whose middle lies within ``radius`` (n,) of ``centre`` (n, 2), else 1.

    Returns:
        (n, points, points).
    """
    x = centres(points)
    across = (x[:, None] - centre[:, :1, None]) ** 2 + (x - centre[:, 1:, None]) ** 2
    return np.where(across <= radius[:, None, None] ** 2, height[:, None, None], 1.0)


def heights(first: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The height from water at rest: (n, N, N) at time 0 to (n, T, N, N) float32 at ``times``, by finite volumes."""
    w = np.stack([first, np.zeros_like(first), np.zeros_like(first)])
    frames = [first]
    for gap in np.diff(times):
        w = evolve(w, shallow_water(), size=SIDE / first.shape[-1], end=float(gap), boundary="edge")
        frames.append(w[0])
    return np.stack(frames, axis=1).astype(np.float32)


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Solutions (count, T, points, points, 1) float32; the same disc of cells is solved once."""
    first = dam(points, generator.uniform(*RADII, count), np.full(count, 2.0), np.zeros((count, 2)))
    distinct, which = np.unique(first, axis=0, return_inverse=True)
    return {KEY: heights(distinct, frame_times(END, points, steps=STEPS))[which.reshape(-1), ..., None]}


def draw_hard(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """The same with a random height and centre, 1.5 to 2.5 and within 0.3 of the middle along each axis."""
    radius, height = generator.uniform(*RADII, count), generator.uniform(*HEIGHTS, count)
    first = dam(points, radius, height, generator.uniform(-SHIFT, SHIFT, (count, 2)))
    return {KEY: heights(first, frame_times(END, points, steps=STEPS))[..., None]}


def write(folder: Path, parts: Mapping[str, Arrays], points: int, *, file: str) -> None:
    """Writes the file of a set."""
    write_groups(
        folder / file, parts, times=frame_times(END, points, steps=STEPS), axes=dict.fromkeys("xy", centres(points))
    )


def read(folder: Path, *, file: str) -> dict[str, Raw]:
    """Heights at both times, (n, X, Y)."""
    raw = read_groups(folder / file, channels=1, axes=("x", "y"), time=END, end=END)
    return {name: Raw(part.x[:, 0], part.y[:, 0]) for name, part in raw.items()}


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Mass is kept, and no water is higher than the dam or lower than the ground."""
    h = parts["train"][KEY][:LOOKED_AT][..., 0].astype(np.float64)
    mass = h.sum((2, 3))
    lost = np.abs(mass[:, -1] / mass[:, 0] - 1)
    highest = h.max((1, 2, 3)) / h[:, 0].max((1, 2))
    return [Check("largest relative change of the mass", float(lost.max()), 0, 1e-4),
            Check("least height", float(h.min()), 1e-3, 1),
            Check("greatest height over that of the dam", float(highest.max()), 1, 1)]  # fmt: skip


def accept_radial(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """The same, and turned by a quarter or mirrored it stays as it is."""
    h = parts["train"][KEY][:LOOKED_AT][:, -1, ..., 0]
    turned = max(float(np.abs(h - other).max()) for other in (np.rot90(h, axes=(1, 2)), h.transpose(0, 2, 1)))
    return [*accept(parts, points), Check("largest change by a quarter turn or mirror", turned, 0, 1e-4)]


def still_water(train: Examples) -> Callable[[Examples], np.ndarray]:
    """A height of 1 everywhere."""
    return lambda data: np.ones_like(data.x)


def nearest_by_volume(train: Examples) -> Callable[[Examples], np.ndarray]:
    """The answer of the training sample whose dam holds the most similar volume of water."""
    volumes = train.x.sum((1, 2, 3), dtype=np.float64)
    return lambda data: train.y[np.abs(data.x.sum((1, 2, 3), dtype=np.float64)[:, None] - volumes).argmin(1)]


RADIAL = Published(
    name="shallow-water",
    files=(FILE,),
    read=partial(read, file=FILE),
    maker=Maker(
        version=1, small=Size(450, 0, 50, 64), published=Size(900, 0, 100, CELLS), draw=draw,
        write=partial(write, file=FILE),
        accept=accept_radial, block=450,
    ),
)  # fmt: skip
HARD = Published(
    name="shallow-water-hard",
    files=(HARD_FILE,),
    read=partial(read, file=HARD_FILE),
    maker=Maker(
        version=1, small=Size(270, 0, 30, 48), published=Size(900, 0, 100, CELLS), draw=draw_hard,
        write=partial(write, file=HARD_FILE),
        accept=accept, block=10,
    ),
)  # fmt: skip
_FRAME = Frame(
    "field", "nrmse", GridEncoding(channels="none"), repeats=True,
    predictors={"h = 1": still_water, "nearest by volume": nearest_by_volume},
    notes=(
        "ORCA's one-shot map: the height at t = 1 from the one at t = 0",
        "only the dam's radius is random, and a cell is in the dam or not: 128 x 128 cells allow 81 inputs, so the "
        "test problems are also in train; a table look-up answers them, and shallow-water-hard is the honest task",
    ),
)  # fmt: skip
SPECS = (
    published_task(
        RADIAL, _FRAME,
        title="shallow water, radial dam break, height at t = 1 from the one at t = 0 (PDEBench)",
        provenance=ORIGIN,
    ),
    published_task(
        HARD,
        replace(_FRAME, repeats=False, notes=("the dam has a random radius, height and centre; no published numbers",)),
        title="shallow water, dams of random height and centre, height at t = 1 from the one at t = 0",
        provenance=Provenance(
            "generated by finite volumes", "Apache-2.0 (generated)", f"after {CITATION}", synthetic=True
        ),
    ),
)  # fmt: skip
