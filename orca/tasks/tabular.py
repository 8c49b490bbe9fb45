"""Tables like OpenML's: numbers and categories that hang together by a few hidden causes, some of them missing.

The files have the form of the reference's cache of an OpenML table: ``NAME_dev_test_split.npz`` with ``X_raw_dev``,
``y_dev``, ``X_raw_test``, ``y_test``, all cells as text. One table has a fixed set of columns: its maps and its labels'
tree are drawn once, from its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.runtime import rng
from orca.tasks.benchmark import Frame, published_task
from orca.tasks.boosting import boosting
from orca.tasks.files import read_npz
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import Raw
from orca.tasks.readers.tables import stacked
from orca.tasks.records import Column, RecordEncoding
from orca.tasks.shifts import column_third, emptied
from orca.tasks.spec import TaskSpec
from orca.types import Examples, Provenance

MAPS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (np.tanh, np.sin, np.square, np.exp, lambda v: v)
LETTERS = "abcdefgh"  # levels of a category
NOISE = 0.2  # of a number, beside the spread of its cause
DEPTH = 3  # of the tree of the labels


@dataclass(frozen=True)
class Sketch:
    """What a table is like.

    Attributes:
        name: of the task.
        numbers: how many columns hold numbers.
        levels: of each categorical column.
        classes: how many.
        causes: hidden numbers behind each row.
        missing: share of the cells that are empty.
        wrong: share of the labels that are drawn anew.
    """

    name: str
    numbers: int
    levels: tuple[int, ...]
    classes: int
    causes: int
    missing: float
    wrong: float

    @property
    def encoding(self) -> RecordEncoding:
        """Its columns; a missing number is 0, about the mean of each of them."""
        numbers = [Column(name=f"n{i}") for i in range(self.numbers)]
        coded = [Column(name=f"c{i}", categories=tuple(LETTERS[:k])) for i, k in enumerate(self.levels)]
        return RecordEncoding(columns=(*numbers, *coded))

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.numbers + len(self.levels)


def draw(sketch: Sketch, points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Rows ``X_raw`` (count, F) as text, empty cells as ``nan``, and classes ``y`` (count,).

    Raises:
        InputError: ``points`` is another number of columns than the table has.
    """
    if points != sketch.width:
        raise InputError(f"{sketch.name} has {sketch.width} columns, and its size cannot be set to {points}")
    world = rng(sketch.name, "world")
    z = generator.standard_normal((count, sketch.causes))
    columns = [_numbers(z, i, world, generator) for i in range(sketch.numbers)]
    columns += [_levels(z, k, world, generator) for k in sketch.levels]
    cells = np.stack(columns, axis=1)
    cells[generator.random(cells.shape) < sketch.missing] = "nan"
    y = _leaves(z, world) % sketch.classes
    again = generator.random(count) < sketch.wrong
    return {"X_raw": cells, "y": np.where(again, generator.integers(0, sketch.classes, count), y)}


def _mixed(z: np.ndarray, world: np.random.Generator) -> np.ndarray:
    """Two hidden causes, mixed, (count,), with unit spread."""
    picked, weights = world.permutation(z.shape[1])[:2], world.standard_normal(2)
    return z[:, picked] @ (weights / np.linalg.norm(weights))


def _numbers(z: np.ndarray, at: int, world: np.random.Generator, generator: np.random.Generator) -> np.ndarray:
    cause = _mixed(z, world)
    value = MAPS[at % len(MAPS)](cause)
    scale, offset = np.exp(world.standard_normal()), MAPS[at % len(MAPS)](np.linspace(-2, 2, 41)).mean()
    return (scale * (value - offset + NOISE * generator.standard_normal(len(z)))).round(4).astype("U12")


def _levels(z: np.ndarray, count: int, world: np.random.Generator, generator: np.random.Generator) -> np.ndarray:
    """Letters by thresholds on a cause, in an order that says nothing."""
    cause = _mixed(z, world) + NOISE * generator.standard_normal(len(z))
    cuts, names = np.sort(world.uniform(-1.5, 1.5, count - 1)), world.permutation(list(LETTERS[:count]))
    return names[np.searchsorted(cuts, cause)].astype("U12")


def _leaves(z: np.ndarray, world: np.random.Generator) -> np.ndarray:
    """The leaf of each row in a full tree over the hidden causes, (count,): one cause for each level of the tree."""
    leaf = np.zeros(len(z), int)
    for level in range(DEPTH):
        cause = z[:, level % z.shape[1]]
        cuts = world.uniform(-0.4, 0.4, 2**level)  # one for each node of the level
        leaf = 2 * leaf + (cause > cuts[leaf])
    return world.permutation(2**DEPTH)[leaf]


def write(sketch: Sketch, folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes the cache file."""
    named = {"dev": parts["train"], "test": parts["test"]}
    arrays = {f"{key}_{part}": found[key] for part, found in named.items() for key in ("X_raw", "y")}
    np.savez(folder / file_name(sketch), **arrays)  # pyright: ignore[reportArgumentType]


def file_name(sketch: Sketch) -> str:
    """The name of a table's file."""
    return f"{sketch.name}_dev_test_split.npz"


def read(sketch: Sketch, folder: Path) -> dict[str, Raw]:
    """The rows of dev and test, as columns.

    Raises:
        InputError: the file is not as described above.
    """
    path = folder / file_name(sketch)
    arrays = read_npz(path, ("X_raw_dev", "y_dev", "X_raw_test", "y_test"))
    return {
        "train": _raw(sketch, arrays, "dev", path),
        "test": _raw(sketch, arrays, "test", path),
    }


def _raw(sketch: Sketch, arrays: Arrays, part: str, path: Path) -> Raw:
    cells, y = arrays[f"X_raw_{part}"], arrays[f"y_{part}"]
    if cells.ndim != 2 or cells.shape[1] != sketch.width:
        raise InputError(f"X_raw_{part} in {path} has shape {cells.shape}; expected (n, {sketch.width})")
    if y.shape != cells.shape[:1]:
        raise InputError(f"y_{part} in {path} has shape {y.shape}; expected {cells.shape[:1]}, one class for each row")
    texts = cells.astype(str)
    columns: dict[str, np.ndarray] = {}
    for at, column in enumerate(sketch.encoding.columns):
        values = np.where(np.isin(texts[:, at], ("nan", "?", "None")), "", texts[:, at])
        columns[column.name] = values if column.categories else _floats(values, column.name, part, path)
    return Raw(stacked(columns), y)


def _floats(values: np.ndarray, name: str, part: str, path: Path) -> np.ndarray:
    try:
        return np.where(values == "", "nan", values).astype(np.float64)
    except ValueError as fault:
        raise InputError(f"X_raw_{part} in {path}: column {name} holds text ({fault}); expected numbers") from fault


def accept(sketch: Sketch, parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Boosted trees find more than logistic regression does, and that more than nothing."""
    from sklearn.linear_model import LogisticRegression

    from orca.metrics import METRICS

    sets = {name: _encoded(sketch, found) for name, found in parts.items()}
    train, test = sets["train"], sets["test"]
    metric = METRICS.get("auroc_ovo").fn
    hot = {name: _one_hot(data.x, sketch.encoding.cardinalities) for name, data in sets.items()}
    scale = hot["train"].std(0) + 1e-6
    linear = LogisticRegression(max_iter=1000, tol=1e-3).fit(hot["train"] / scale, train.y)
    low = metric(linear.predict_log_proba(hot["test"] / scale), test.y)
    high = metric(boosting(sketch.encoding.cardinalities, "classes")(train)(test), test.y)
    empty = float(np.mean(parts["train"]["X_raw"] == "nan"))
    return [
        Check("AUROC of logistic regression", low, 0.55),
        Check("AUROC of boosted trees above that of logistic regression", high - low, 0.01),
        Check("share of empty cells", empty, 0.7 * sketch.missing, 1.3 * sketch.missing),
        Check("share of the rarest class", float(np.bincount(train.y).min() / len(train.y)), 0.3 / sketch.classes),
    ]


def _encoded(sketch: Sketch, found: Arrays) -> Examples:
    raw = _raw(sketch, {"X_raw_drawn": found["X_raw"], "y_drawn": found["y"]}, "drawn", Path(file_name(sketch)))
    return Examples(sketch.encoding.encode(raw.x)[0], raw.y)


def _one_hot(x: np.ndarray, cardinalities: Sequence[int]) -> np.ndarray:
    parts = [x[:, [at]] == np.arange(k) if k else x[:, [at]] for at, k in enumerate(cardinalities)]
    return np.concatenate(parts, axis=1, dtype=np.float64)


def _spec(sketch: Sketch, rows: Size, metric: str, title: str) -> TaskSpec:
    published = Published(
        name=sketch.name,
        files=(file_name(sketch),),
        read=partial(read, sketch),
        maker=Maker(
            version=1, small=rows, published=rows, draw=partial(draw, sketch), write=partial(write, sketch),
            accept=partial(accept, sketch), block=1000,
        ),
    )  # fmt: skip
    frame = Frame(
        "classes", metric, sketch.encoding,
        classes=tuple(map(str, range(sketch.classes))),
        shift={
            "emptied": emptied(0.1), "n0-low": column_third("n0", "low"), "n0-high": column_third("n0", "high"),
        },
        predictors={"boosting": boosting(sketch.encoding.cardinalities, "classes")},
        notes=(
            "an invented table in the form of the reference's OpenML cache; a tenth is test, as there",
            "scaled by train alone and scored over the whole test set; the reference scales with test rows too, and "
            "averages the scores of chunks",
        ),
    )  # fmt: skip
    provenance = Provenance("made by Orca", "Apache-2.0 (made by Orca)", synthetic=True)
    return published_task(published, frame, title=title, provenance=provenance)


MIXED = Sketch("table-mixed", numbers=12, levels=(3, 4, 5, 8), classes=2, causes=4, missing=0.05, wrong=0.05)
SMALL = Sketch("table-small", numbers=8, levels=(3,), classes=4, causes=3, missing=0.02, wrong=0.05)
SPECS = (
    _spec(MIXED, Size(4500, 0, 500, MIXED.width), "auroc", "12 numbers and 4 categories to two classes, generated"),
    _spec(SMALL, Size(900, 0, 100, SMALL.width), "auroc_ovo", "8 numbers and a category to four classes, generated"),
)
