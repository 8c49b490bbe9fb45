"""Distances between the residues of proteins from their sequence families (PDNET, Adhikari 2020)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from orca.dense import SEPARATION
from orca.errors import InputError
from orca.runtime import rng
from orca.tasks.benchmark import Frame, published_task
from orca.tasks.converting import Conversion, as_dict, as_numbers
from orca.tasks.encodings import GridEncoding
from orca.tasks.nb360.chain import distances
from orca.tasks.nb360.pairs import CHANNELS, MAPS, PAD, ROWS, Protein, channels, on_canvas, stored_shapes, window
from orca.tasks.nb360.protein import CONTACT, proteins
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.tasks.readers.pickles import read_npy, read_pickle
from orca.types import Examples, Provenance

LISTS = {"train": "deepcov.lst", "test": "psicov.lst"}
CANVASES = (64, 128)  # the least that holds all; what does not fit the last is cut
CLIP = 16.0  # of distances to be learned, Angstrom
SHORTEST, LONGEST = 32, 250  # residues of a generated protein


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Proteins of 32 to points - 10 residues (at most 250), each array padded with zeros to that."""
    most = min(points - 2 * PAD, LONGEST)
    if most < SHORTEST:
        raise InputError(f"proteins need a canvas of {SHORTEST + 2 * PAD} points or more; got {points}")
    lengths = generator.integers(SHORTEST, most + 1, count)
    made = proteins(lengths, generator)
    arrays = {name: np.stack([_padded(p[name], n, most) for p, n in zip(made, lengths, strict=True)])
              for name in made[0] if name != "seq"}  # fmt: skip
    return arrays | {"seq": np.array([str(p["seq"]) for p in made], f"U{most}"), "length": lengths}


def _padded(values: np.ndarray, length: int, most: int) -> np.ndarray:
    return np.pad(values, [(0, most - length if size == length else 0) for size in values.shape])


def _trimmed(arrays: Arrays, row: int, name: str) -> np.ndarray:
    """One array of one protein, without its padding."""
    values, length, most = arrays[name][row], int(arrays["length"][row]), arrays["dist"].shape[-1]
    return values[tuple(slice(length if size == most else None) for size in values.shape)]


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the lists, and for each protein its features and its distances."""
    root = folder / "protein"
    for part, arrays in parts.items():
        base = root / LISTS[part].removesuffix(".lst")
        for kind in ("features", "distance"):
            (base / kind).mkdir(parents=True, exist_ok=True)
        names = [f"{part}{row:04d}" for row in range(len(arrays["length"]))]
        for row, name in enumerate(names):
            features = {key: _trimmed(arrays, row, key) for key in (*ROWS, *MAPS)} | {"seq": arrays["seq"][row]}
            np.savez(base / "features" / f"{name}.npz", **features)  # pyright: ignore[reportArgumentType]
            np.savez(base / "distance" / f"{name}-cb.npz", dist=_trimmed(arrays, row, "dist"))
        (root / LISTS[part]).write_text("\n".join(names) + "\n")


def read(folder: Path) -> dict[str, Raw]:
    """Channels (n, 57, S, S) and distances (n, S, S), NaN beyond the protein; those to be learned end at 16 A."""
    files = {path.name: path for pattern in ("features/*.npz", "distance/*.npz") for path in folder.rglob(pattern)}
    listed = {part: _listed(folder, name, files) for part, name in LISTS.items()}
    longest = max(protein.length() for part in listed.values() for protein in part.values())
    canvas = next((size for size in CANVASES if size >= longest + 2 * PAD), CANVASES[-1])
    return {part: _mapped(found, canvas, train=part == "train") for part, found in listed.items()}


def _listed(folder: Path, name: str, files: Mapping[str, Path]) -> dict[str, Protein]:
    paths = sorted(folder.rglob(name))
    if not paths:
        raise InputError(f"{folder} lacks {name}; expected the names of proteins, one a line")
    try:
        lines = paths[0].read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as fault:
        raise InputError(f"{paths[0]} is no text in UTF-8 ({fault}); expected the names of proteins") from fault
    names = [line.split()[0] for line in lines if line.strip()]  # lengths may stand beside them
    if not names:
        raise InputError(f"{paths[0]} names no protein; expected one a line")
    for protein in names:
        if lacking := [f for f in (f"{protein}.npz", f"{protein}-cb.npz") if f not in files]:
            raise InputError(
                f"{paths[0]} names {protein}, but {lacking[0]} is in no folder features or distance of {folder}; where "
                f"there are .pkl and .npy files, convert them with `orca data convert psicov {folder}`"
            )
    return {protein: Protein(files[f"{protein}.npz"], files[f"{protein}-cb.npz"]) for protein in names}


def safe_arrays(path: Path) -> Arrays:
    """Of a pickle: the features of a protein by name with its sequence, or the distances of its residues (L, L)."""
    if path.suffix == ".npy":
        found = read_npy(path)
        parts = list(found.flat) if isinstance(found, np.ndarray) else []
        if len(parts) != 3:
            raise InputError(f"{path} holds something else than length, sequence and distances")
        length = len(parts[1]) if isinstance(parts[1], str) else parts[0]
        return {"dist": as_numbers(parts[2], "the third part", path, (length, length))}
    found = as_dict(read_pickle(path), path, ("seq", *ROWS, *MAPS))
    shapes = stored_shapes(len(found["seq"]))
    return {"seq": np.array(str(found["seq"]))} | {
        name: as_numbers(found[name], name, path, shape) for name, shape in shapes.items()
    }


def _mapped(found: Mapping[str, Protein], canvas: int, *, train: bool) -> Raw:
    x = np.empty((len(found), CHANNELS, canvas, canvas), np.float32)
    y = np.empty((len(found), canvas, canvas), np.float32)
    for row, (name, protein) in enumerate(found.items()):
        features, distance = protein.read()
        kept = window(len(distance), canvas, rng("psicov", name) if train else None)
        cut = {key: f[..., kept] if key in ROWS else f[kept, kept] for key, f in features.items()}
        x[row] = on_canvas(channels(cut), canvas, 0)
        target = distance[kept, kept]
        y[row] = on_canvas((np.minimum(target, CLIP) if train else target)[None], canvas, np.nan)[0]
    return Raw(x, y)


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """No residues on top of each other, contacts to be predicted, couplings that say some of them."""
    arrays = parts["train"]
    nearest, contacts, precision, largest = [], [], [], 0.0
    for row, length in enumerate(arrays["length"]):
        trace = distances(_trimmed(arrays, row, "trace").astype(np.float64))
        nearest.append(trace[np.triu_indices(length, 2)].min())
        far = np.triu_indices(length, SEPARATION)
        touching = _trimmed(arrays, row, "dist")[far] <= CONTACT
        best = np.argsort(-_trimmed(arrays, row, "ccmpred")[far])[: touching.sum()]
        contacts.append(touching.sum())
        precision += [touching[best].mean()] if len(best) else []
        largest = max(largest, *(float(np.abs(arrays[name][row]).max()) for name in (*ROWS, *MAPS)))
    return [
        Check("least distance of residues that are no neighbours, Angstrom", float(min(nearest)), 3.8 - 1e-3),
        Check("share of proteins with 5 or more long-range contacts", float(np.mean(np.array(contacts) >= 5)), 0.6),
        Check("precision of as many top couplings as there are such contacts", float(np.mean(precision)), 0.3, 0.7),
        Check("largest feature", largest, 0, 100),
    ]


def separation(train: Examples) -> Callable[[Examples], np.ndarray]:
    """The mean distance of pairs so far apart along the chain."""
    profile = _profile(train.y)
    return lambda data: np.broadcast_to(profile[_apart(data.x)], (len(data.x), 1, *data.x.shape[2:]))


def pairwise(train: Examples) -> Callable[[Examples], np.ndarray]:
    """Least squares on the channels of the pair alone, with the mean by separation as one more."""
    profile = _profile(train.y)

    def columns(x: np.ndarray) -> np.ndarray:  # (57, S, S) -> (S, S, 59)
        return np.concatenate([np.moveaxis(x, 0, -1), profile[_apart(x)][..., None], np.ones((*x.shape[1:], 1))], -1)

    gram, moment = np.zeros((CHANNELS + 2,) * 2), np.zeros(CHANNELS + 2)
    for x, y in zip(train.x, train.y[:, 0], strict=True):
        rows, there = columns(x), ~np.isnan(y)
        gram += rows[there].T @ rows[there]
        moment += rows[there].T @ y[there]
    weight = np.linalg.solve(gram + 1e-3 * np.eye(len(gram)), moment)
    return lambda data: np.stack([columns(x) @ weight for x in data.x])[:, None].astype(np.float32)


def _apart(y: np.ndarray) -> np.ndarray:
    place = np.arange(y.shape[-1])
    return np.abs(np.subtract.outer(place, place))


def _profile(y: np.ndarray) -> np.ndarray:
    """Mean distance by separation, (S,); of separations that never occur, the mean of all."""
    there = ~np.isnan(y)
    apart = np.broadcast_to(_apart(y), y.shape)[there]
    count = np.bincount(apart, minlength=y.shape[-1])
    total = np.bincount(apart, y[there], minlength=y.shape[-1])
    return np.where(count > 0, total / np.maximum(count, 1), y[there].mean()).astype(np.float32)


PSICOV = Published(
    name="psicov",
    files=tuple(f"**/{name}" for name in LISTS.values()) + ("**/features/*.npz", "**/distance/*.npz"),
    read=read,
    maker=Maker(
        version=1, small=Size(100, 0, 30, 64), published=Size(3456, 0, 150, 512), draw=draw, write=write,
        accept=accept, block=25,
    ),
    conversion=Conversion("PSICOV", ("**/features/*.pkl", "**/distance/*-cb.npy"), safe_arrays),
)  # fmt: skip
SPECS = (
    published_task(
        PSICOV,
        Frame(
            "field", "mae8", GridEncoding(channels="first"), gaps=True,
            predictors={"separation": separation, "pairwise": pairwise},
            notes=(
                "mae8 has each protein's own length; the reference takes the first test protein's for all",
                "loss: relative L2 over the protein's pairs, target clipped at 16 A in train and validation; the "
                "reference's is the squared error over the whole canvas, padding included",
                "canvas 64 or 128 instead of 512: of a longer protein a stretch of 118 residues is kept (random in "
                "train, the middle one in test), so pairs further apart along the chain are neither learned nor scored",
            ),
        ),
        title="distances between residues of proteins (NAS-Bench-360)",
        provenance=Provenance(
            "https://github.com/ba-lab/pdnet", "not stated; check the set's page",
            "B. Adhikari, A fully open-source framework for deep learning protein real-valued distances, "
            "Scientific Reports 10, 2020",
        ),
    ),
)  # fmt: skip
