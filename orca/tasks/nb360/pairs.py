"""Proteins as maps over pairs of residues: 57 channels in, distances out, on a canvas of fixed size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orca.tasks.files import read_npz
from orca.types import InputError

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
        features = {name: _rows(found[name], count, length, name, self.features) for name, count in ROWS.items()}
        for name in MAPS:
            _checked(found[name], (length, length), name, self.features)
            features[name] = found[name].astype(np.float32)
        for name, values in features.items():
            if not np.abs(values).max() < LIMIT:
                raise InputError(
                    f"{name} in {self.features} reaches {np.abs(values).max()}; expected less than {LIMIT}"
                )
        distance = read_npz(self.distance, ["dist"])["dist"]
        _checked(distance, (length, length), "dist", self.distance)
        distance = np.nan_to_num(distance.astype(np.float32), nan=np.inf)
        if not distance.max() <= FARTHEST:
            raise InputError(f"dist in {self.distance} reaches {distance.max()}; expected at most {FARTHEST} Angstrom")
        return features, with_diagonal(np.maximum(distance, LEAST))


def _rows(values: np.ndarray, count: int, length: int, name: str, path: Path) -> np.ndarray:
    """(count, L); one-channel features are (L,), ``pssm`` (L, 22), ``ss`` (3, L) in the files."""
    shape = {1: (length,), 3: (3, length)}.get(count, (length, count))
    _checked(values, shape, name, path)
    return np.reshape(values.T if shape == (length, count) else values, (count, length)).astype(np.float32)


def _checked(values: np.ndarray, shape: tuple[int, ...], name: str, path: Path) -> None:
    if values.shape != shape or values.dtype.kind not in "fiu":
        raise InputError(
            f"{name} in {path} is {values.dtype} of shape {values.shape}; expected numbers {shape}, as seq has "
            f"{max(shape)} residues"
        )


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
