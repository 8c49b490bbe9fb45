"""Test sets from another distribution than training: test inputs, changed or chosen as use may change or choose them.

Each change draws from a fixed seed. Answers stay, but for fields, which are thinned with their inputs. What is chosen,
such as the sequences that are richest in GC, is chosen of test alone; training has such rows too, in another share.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, Literal, ParamSpec

import numpy as np

from orca.runtime import rng
from orca.tasks.encodings import DnaEncoding
from orca.tasks.raw import Raw

VERSION = 1  # of all changes: raise it when the numbers of one of them change
MOST = 2000  # rows of a shift set
End = Literal["low", "high"]
P = ParamSpec("P")


@dataclass(frozen=True)
class Shift:
    """A change with its settings.

    Attributes:
        change: raw rows and the settings to raw rows.
        settings: by name.
        most: rows of test that are changed or chosen from, drawn once where there are more.
    """

    change: Callable[..., Raw]
    settings: Mapping[str, Any]
    most: int

    def __call__(self, raw: Raw) -> Raw:
        """The changed rows."""
        return self.change(raw, **self.settings)

    def of(self, test: Raw) -> Raw:
        """The shift set of a test set, or where that is large of rows of it: drawn, as files may be in some order."""
        return self(test.subset(drawn(test, self.most)))

    @property
    def facts(self) -> dict[str, Any]:
        """All that its numbers depend on beside the rows, for the keys of stored scores."""
        return {"change": self.change.__name__, "version": VERSION, "most": self.most, **self.settings}


def declared(most: int = MOST) -> Callable[[Callable[Concatenate[Raw, P], Raw]], Callable[P, Shift]]:
    """Makes of ``change(raw, ...)`` what gives its ``Shift`` for some settings."""

    def decorate(change: Callable[Concatenate[Raw, P], Raw]) -> Callable[P, Shift]:
        def make(*args: P.args, **kwargs: P.kwargs) -> Shift:
            bound = inspect.signature(change).bind(None, *args, **kwargs)
            bound.apply_defaults()
            return Shift(change, dict(list(bound.arguments.items())[1:]), most)

        make.__doc__ = change.__doc__
        return make

    return decorate


def drawn(raw: Raw, most: int) -> np.ndarray:
    """A mask (n,) of at most so many rows, always the same ones; rows with one answer stay together."""
    group = np.arange(len(raw.y)) if raw.group is None else raw.group
    names, place, count = np.unique(group, return_inverse=True, return_counts=True)
    order = rng("shift", "rows").permutation(len(names))
    kept = np.zeros(len(names), bool)
    kept[order] = np.cumsum(count[order]) <= most
    kept[order[:1]] = True
    return kept[place]


def as_type(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Numbers in the type of others: whole numbers are rounded and stay in range."""
    if like.dtype.kind in "iu":
        limits = np.iinfo(like.dtype)
        x = np.clip(np.round(x), limits.min, limits.max)
    return x.astype(like.dtype)


def _replaced(raw: Raw, x: np.ndarray) -> Raw:
    """The rows with other inputs; channels that these lack stay as they are."""
    whole = x if x.shape == raw.x.shape else np.concatenate([x, raw.x[:, x.shape[1] :]], 1)
    return Raw(whole, raw.y, raw.length, raw.group)


@declared()
def thinned(raw: Raw, axes: int) -> Raw:
    """Every second cell along each of the last ``axes`` axes of inputs and fields: a grid half as fine.

    That a model of fields should not depend on the grid is the claim of neural operators (Li et al. 2021, arXiv
    2010.08895, section 1).
    """
    each = (..., *[slice(None, None, 2)] * axes)
    return Raw(raw.x[each], raw.y[each], raw.length, raw.group)


@declared()
def noisy(raw: Raw, share: float, *, each: bool = False, channels: int | None = None) -> Raw:
    """White noise of ``share`` times the standard deviation of all inputs, or of ``each`` row's own.

    The first is a sensor's noise, which is the same for all rows; the second one signal-to-noise ratio for all rows,
    1 / share^2, as sound recorded at any level asks for. What lies after the end of a row neither counts nor is
    changed. Whole numbers stay whole and in range. ``channels`` are the first so many, all if None.
    """
    x = raw.x if channels is None else raw.x[:, :channels]
    inside = np.ones((1,) * x.ndim, bool)
    if raw.length is not None:
        inside = (np.arange(x.shape[-1]) < raw.length[:, None]).reshape(len(x), *(1,) * (x.ndim - 2), -1)
    inside = np.broadcast_to(inside, x.shape)
    axes = tuple(range(1, x.ndim)) if each else None
    level = x.std(axis=axes, dtype=np.float64, keepdims=True, where=inside)
    noise = share * level * rng("shift", "noise").standard_normal(x.shape, np.float32)
    return _replaced(raw, as_type(np.where(inside, x + noise, x), x))


@declared()
def scaled(raw: Raw, gain: float, *, channels: int | None = None) -> Raw:
    """Inputs, or their first ``channels``, times ``gain``: an amplifier or a contact that is another one."""
    x = raw.x if channels is None else raw.x[:, :channels]
    return _replaced(raw, as_type(x * np.float64(gain), x))


@declared()
def held(raw: Raw, share: float) -> Raw:
    """In series (n, T) each value behind the first is, with probability ``share``, the one before: clouds, say."""
    gone = rng("shift", "held").random(raw.x.shape) < share
    gone[:, 0] = False
    last = np.maximum.accumulate(np.where(gone, 0, np.arange(raw.x.shape[1])), axis=1)
    return _replaced(raw, np.take_along_axis(raw.x, last, axis=1))


@declared()
def mutated(raw: Raw, share: float) -> Raw:
    """In one-hot DNA (n, L, 4) each base is, with probability ``share``, another one."""
    draw = rng("shift", "mutated")
    places = draw.random(raw.x.shape[:2]) < share
    x = raw.x.copy()
    turns = draw.integers(1, 4, raw.x.shape[:2])
    for turn in (1, 2, 3):
        here = places & (turns == turn)
        x[here] = np.roll(raw.x[here], turn, axis=1)
    return _replaced(raw, x)


@declared()
def emptied(raw: Raw, share: float) -> Raw:
    """In rows of named columns (n,) each cell is, with probability ``share``, missing."""
    x = raw.x.copy()
    for name in x.dtype.names or ():
        gone = rng("shift", "emptied", name).random(len(x)) < share
        x[name][gone] = np.nan if x[name].dtype.kind == "f" else ""
    return _replaced(raw, x)


@declared(most=3 * MOST)
def gc_third(raw: Raw, end: End) -> Raw:
    """The third of the sequences, strings or one-hot rows, with the lowest or highest share of G and C."""
    x, _ = DnaEncoding().encode(raw.x, raw.length)  # (n, 4, L); G and C are in the middle, whichever comes first
    total = x.sum((1, 2), dtype=np.float64)
    return _third(raw, x[:, 1:3].sum((1, 2), dtype=np.float64) / np.maximum(total, 1), end)


@declared(most=3 * MOST)
def column_third(raw: Raw, column: str | int, end: End) -> Raw:
    """The third of the rows with the lowest or highest numbers in a column, by its name or place; empty cells leave."""
    return _third(raw, raw.x[column] if isinstance(column, str) else raw.x[:, column], end)


def _third(raw: Raw, values: np.ndarray, end: End) -> Raw:
    """The rows of the lowest or highest third of finite values (n,), in their order; of equal ones the first."""
    values = values.astype(np.float64)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known] if end == "low" else -values[known], kind="stable")]
    return raw.subset(np.sort(order[: max(1, len(order) // 3)]))
