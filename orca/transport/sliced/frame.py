"""Labelled sets with weights, moved and scaled into one common frame (see ``orca.transport.sliced``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from orca.errors import InputError
from orca.transport.statistics import checked_weights

SCALES = ("both", "source", "none")


class Weighted(NamedTuple):
    """Features (n, d), labels (n,) and weights (n,) with sum 1, or None where all are equal."""

    x: Tensor
    y: Tensor
    weight: Tensor | None


@dataclass(frozen=True)
class Frame:
    """z = (x - centre) / size.

    Attributes:
        centre: (d,).
        size: scalar, unit of the features.
    """

    centre: Tensor
    size: Tensor


@dataclass(frozen=True)
class Cloud:
    """A labelled set in its frame.

    Attributes:
        z: features, (n, d).
        index: class of each sample, 0..K-1, (n,).
        mass: weight of each class, or its number of samples where ``weight`` is None, (K,).
        weight: weight of a sample within the set, (n,), sum to 1; None: all 1 / n.
    """

    z: Tensor
    index: Tensor
    mass: Tensor
    weight: Tensor | None


def weighted(x: Tensor, y: Tensor, weight: Tensor | None, which: str) -> Weighted:
    """The samples of positive weight: one of weight 0 is as if it were not there. Weights have no gradient.

    Args:
        x: features, (n, d).
        y: labels, (n,).
        weight: (n,), of any sum; None: equal.
        which: name of the set in messages.

    Raises:
        InputError: weights of the wrong shape, negative, not finite, or all 0.
    """
    if weight is None:
        return Weighted(x, y, None)
    weight = checked_weights(weight, x, which)
    kept = weight > 0
    return Weighted(x[kept], y[kept], weight[kept])


def _mean(x: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over the samples of (n, ...)."""
    return x.mean(0) if weight is None else torch.tensordot(weight, x, dims=1)


def common_frame(sets: list[Weighted], scale: str) -> Frame:
    """The frame of the sets' mixture in equal parts: its mean, and the root mean square of a coordinate about it.

    Args:
        sets: one or two.
        scale: ``none`` gives centre 0 and size 1.

    Raises:
        InputError: one set alone, all of whose points are the same; features too large to be squared.
    """
    origin = torch.zeros_like(sets[0].x[0])
    if scale == "none":
        return Frame(origin, torch.ones_like(origin[0]))
    centre = torch.stack([_mean(each.x, each.weight) for each in sets]).mean(0)
    square = torch.stack([_mean((each.x - centre).square().mean(1), each.weight) for each in sets]).mean()
    spread = float(square.detach())
    if not math.isfinite(spread) or (scale == "source" and spread == 0):
        raise InputError(
            f"source features: expected finite numbers that differ; got a mean squared spread of {spread}; take "
            "scale='none', or features that can be squared"
        )
    return Frame(centre, square.sqrt() if spread > 0 else torch.ones_like(square))  # one point in all: distance 0


def place(given: Weighted, frame: Frame, scale: str) -> Cloud:
    """The set in the frame."""
    z = given.x if scale == "none" else (given.x - frame.centre) / frame.size
    labels, index, count = torch.unique(given.y, return_inverse=True, return_counts=True)
    if given.weight is None:
        return Cloud(z, index, count.to(z.dtype), None)
    mass = z.new_zeros(len(labels)).scatter_add_(0, index, given.weight)
    return Cloud(z, index, mass, given.weight)
