"""Proteins as maps over pairs of residues: 57 channels in, distances out, on a canvas of fixed size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.tasks.files import read_npz
from orca.tasks.readers.arrays import numbers

ROWS = {"ss": 3, "pssm": 22, "sa": 1, "entropy": 1}  # channels of one residue, each tiled along rows and columns
MAPS = ("ccmpred", "freecon", "potential")
CHANNELS = 2 * sum(ROWS.values()) + len(MAPS)
PAD = 5  # cells before the first and behind the last residue
LIMIT, FARTHEST, LEAST = 100.0, 500.0, 1.0  # of features; of distances, Angstrom


@dataclass(frozen=True)
class Protein:
    """The files of one protein.

    Attributes:
        features: with ``seq`` and the arrays of ``ROWS`` and ``MAPS``.
        distance: with ``dist`` (L, L).
    """

    features: Path
    distance: Path

    def length(self) -> int:
        """Its residues."""
        return len(str(read_npz(self.features, ["seq"], prefix="seq")["seq"]))

    def read(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Features by name, residues last, and distances (L, L) in Angstrom.

        Raises:
            InputError: a file lacks an array, or holds one of another shape or with other values than were published.
        """
        found = read_npz(self.features, ["seq", *ROWS, *MAPS])
        length = len(str(found["seq"]))
        features = {}
        for name, shape in stored_shapes(length).items():
            values = numbers(found[name], shape, _place(name, self.features, length)).astype(np.float32)
            turned = values.T if name == "pssm" else values
            features[name] = turned if name in MAPS else turned.reshape(ROWS[name], length)
        for name, values in features.items():
            if not np.abs(values).max() < LIMIT:
                raise InputError(
                    f"{name} in {self.features} reaches {np.abs(values).max()}; expected less than {LIMIT}"
                )
        distance = read_npz(self.distance, ["dist"])["dist"]
        numbers(distance, (length, length), _place("dist", self.distance, length))
        distance = np.nan_to_num(distance.astype(np.float32), nan=np.inf)
        if not distance.max() <= FARTHEST:
            raise InputError(f"dist in {self.distance} reaches {distance.max()}; expected at most {FARTHEST} Angstrom")
        return features, with_diagonal(np.maximum(distance, LEAST))


def stored_shapes(length: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the features in the files of a protein of so many residues, by name."""
    square = dict.fromkeys(MAPS, (length, length))
    return {"ss": (3, length), "pssm": (length, 22), "sa": (length,), "entropy": (length,), **square}


def _place(name: str, path: Path, length: int) -> str:
    return f"{name} in {path}, of {length} residues by seq,"


def with_diagonal(distance: np.ndarray) -> np.ndarray:
    """Distances (L, L) whose diagonal is the mean of its neighbours in the row, at the ends of the one there is."""
    out, n = distance.copy(), np.arange(len(distance))
    if len(n) > 1:
        left, right = np.maximum(n - 1, 0), np.minimum(n + 1, len(n) - 1)
        left, right = np.where(n == 0, right, left), np.where(n == len(n) - 1, left, right)
        out[n, n] = (distance[n, left] + distance[n, right]) / 2
    return out


def channels(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """The 57 maps (57, L, L): of each row its value at j in (i, j), then its value at i; then the three maps."""
    out = []
    for name in ROWS:
        for row in features[name]:
            tiled = np.broadcast_to(row, (len(row), len(row)))
            out += [tiled, tiled.T]
    return np.stack([*out, *(features[name] for name in MAPS)])


def window(length: int, canvas: int, generator: np.random.Generator | None) -> slice:
    """The residues that fit: all, or of a longer protein a random stretch, the middle one without a generator."""
    room = canvas - 2 * PAD
    spare = max(0, length - room)
    start = spare // 2 if generator is None else int(generator.integers(spare + 1))
    return slice(start, start + min(length, room))


def on_canvas(maps: np.ndarray, canvas: int, fill: float) -> np.ndarray:
    """Maps (C, l, l) on (C, canvas, canvas), five cells from the upper left corner."""
    out = np.full((len(maps), canvas, canvas), fill, np.float32)
    out[:, PAD : PAD + maps.shape[1], PAD : PAD + maps.shape[2]] = maps
    return out
