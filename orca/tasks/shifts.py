"""Test sets from another distribution than training: the test inputs of a task, changed as use may change them.

Each change draws from a fixed seed. Answers stay, but for fields, which are thinned with their inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from orca.runtime import rng
from orca.tasks.assemble import Raw

MOST = 2000  # rows of test that are changed
Shift = Callable[[Raw], Raw]


def shifted(test: Raw, shift: Shift) -> Raw:
    """A shift set from the test set, or from its first rows where it is large."""
    return shift(test.subset(np.arange(min(len(test.y), MOST))))


def thinned(axes: int) -> Shift:
    """Every second cell along each of the last ``axes`` axes of inputs and fields: a grid half as fine.

    That a model of fields should not depend on the grid is the claim of neural operators (Li et al. 2021, arXiv
    2010.08895, section 1).
    """
    each = (..., *[slice(None, None, 2)] * axes)
    return lambda raw: replace(raw, x=raw.x[each], y=raw.y[each])


def noisy(share: float) -> Shift:
    """White noise of ``share`` times the standard deviation of all inputs; whole numbers stay whole and in range.

    As in CIFAR-10-C (Hendrycks and Dietterich 2019, arXiv 1903.12261, appendix B).
    """

    def add(raw: Raw) -> Raw:
        noise = share * raw.x.std(dtype=np.float64) * rng("shift", "noise").standard_normal(raw.x.shape, np.float32)
        x = raw.x + noise
        if raw.x.dtype.kind in "iu":
            limits = np.iinfo(raw.x.dtype)
            x = np.clip(np.round(x), limits.min, limits.max)
        return replace(raw, x=x.astype(raw.x.dtype))

    return add


def scaled(gain: float) -> Shift:
    """All inputs times ``gain``: an amplifier or a contact that is another one."""
    return lambda raw: replace(raw, x=raw.x * np.asarray(gain, raw.x.dtype))


def held(share: float) -> Shift:
    """In series (n, T) each value behind the first is, with probability ``share``, the one before: clouds, say."""

    def hold(raw: Raw) -> Raw:
        gone = rng("shift", "held").random(raw.x.shape) < share
        gone[:, 0] = False
        last = np.maximum.accumulate(np.where(gone, 0, np.arange(raw.x.shape[1])), axis=1)
        return replace(raw, x=np.take_along_axis(raw.x, last, axis=1))

    return hold


def mutated(share: float) -> Shift:
    """In one-hot DNA (n, L, 4) each base is, with probability ``share``, another one."""

    def mutate(raw: Raw) -> Raw:
        draw = rng("shift", "mutated")
        places = draw.random(raw.x.shape[:2]) < share
        x = raw.x.copy()
        turns = draw.integers(1, 4, raw.x.shape[:2])
        for turn in (1, 2, 3):
            here = places & (turns == turn)
            x[here] = np.roll(raw.x[here], turn, axis=1)
        return replace(raw, x=x)

    return mutate


def emptied(share: float) -> Shift:
    """In rows of named columns (n,) each cell is, with probability ``share``, missing."""

    def empty(raw: Raw) -> Raw:
        x = raw.x.copy()
        for name in x.dtype.names or ():
            gone = rng("shift", "emptied", name).random(len(x)) < share
            x[name][gone] = np.nan if x[name].dtype.kind == "f" else ""
        return replace(raw, x=x)

    return empty
