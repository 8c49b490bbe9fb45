"""What a labelled set contributes to a dataset distance by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from orca.errors import InputError
from orca.transport.cost import Products, class_clouds
from orca.transport.engines import ENGINES, choose
from orca.transport.labels import LABEL_DISTANCES
from orca.transport.options import OTDDOptions
from orca.transport.problem import Problem, Side
from orca.transport.sinkhorn import SinkhornResult
from orca.types import LabeledSet


@dataclass(frozen=True)
class SourceStatistics:
    """What depends on one set alone: computed once, passed to every comparison with it.

    Attributes:
        x: features, (n, d).
        y: labels, (n,).
        labels: the labels that occur, ascending, (K,).
        options: what they were computed for.
        side: the samples class by class.
        order: row of ``x`` that each sample of ``side`` is, (n,).
        description: classes as the label distance sees them.
        within: label distances W**p inside the set, (K, K).
        label_error: largest L1 marginal error of the problems behind ``within``; 0 where none are solved.
        own: OT_eps of the set with itself, scalar; 0 without debiasing.
        solution: the self term's solution, None without debiasing; its plan is dropped.
    """

    x: Tensor
    y: Tensor
    labels: Tensor
    options: OTDDOptions
    side: Side
    order: Tensor
    description: Any
    within: Tensor
    label_error: float
    own: Tensor
    solution: SinkhornResult | None

    @classmethod
    def of(
        cls, source: LabeledSet, options: OTDDOptions | None = None, *, weights: Tensor | None = None
    ) -> SourceStatistics:
        """Statistics of a set that stays constant: they carry no gradient.

        Args:
            source: the set.
            options: of the distance.
            weights: of the samples, (n,), at least 0; None is uniform.

        Raises:
            InputError: the set is empty, not finite, or its labels or weights are not what they should be.
        """
        x, y = checked(source.x, source.y, "source")
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return statistics(x, y, options or OTDDOptions(), checked_weights(weights, x, "source"))


def checked(x: Tensor, y: Tensor, which: str) -> tuple[Tensor, Tensor]:
    """Features in float32 or float64 and labels in int64, or an error that says what is wrong with this set."""
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise InputError(f"{which}: expected tensors; got {type(x).__name__}, {type(y).__name__}; use torch.as_tensor")
    if not x.is_floating_point() or x.ndim != 2 or not x.numel():
        raise InputError(f"{which} features: expected floating point (n, d), not empty; got {x.dtype} {tuple(x.shape)}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or y.shape != x.shape[:1]:
        raise InputError(
            f"{which} labels: expected integers ({len(x)},), one for each row of x; got {y.dtype} {tuple(y.shape)}"
        )
    if int(y.min()) < 0:
        raise InputError(
            f"{which} labels: expected integers of at least 0; got {int(y.min())}; number the classes from 0"
        )
    x = x if x.dtype == torch.float64 else x.float()
    if not bool(torch.isfinite(x.detach().square().sum())):
        bad = (~torch.isfinite(x.detach()).all(1)).nonzero()[:, 0].tolist()
        if bad:
            raise InputError(
                f"{which} features: expected finite numbers; {len(bad)} of {len(x)} rows have NaN or infinity, the "
                f"first is row {bad[0]}; drop or impute them"
            )
        raise InputError(f"{which} features: expected a finite sum of squares; got one beyond {x.dtype}; scale them")
    return x, y.to(x.device, torch.int64)


def checked_weights(weights: Tensor | None, x: Tensor, which: str) -> Tensor:
    """Weights of the samples of x (n, d) with sum 1, (n,); uniform ones for None."""
    if weights is None:
        return x.new_full((len(x),), 1 / len(x))
    shape = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
    if shape != (len(x),):
        raise InputError(f"{which} weights: expected a tensor ({len(x)},), one for each row of x; got {shape}")
    weights = weights.detach().to(x)
    if not bool(torch.isfinite(weights).all() & (weights >= 0).all() & (weights.sum() > 0)):
        raise InputError(f"{which} weights: expected finite numbers of at least 0, not all 0; they are scaled to sum 1")
    return weights / weights.sum()


def check_given(given: tuple[Tensor, Tensor], xs: Tensor, ys: Tensor, *, made_for: object, options: object) -> None:
    """Whether statistics of ``given`` features and labels, made for some options, are those of this source.

    Raises:
        InputError: the source or the options are others, or the source is to have a gradient.
    """
    x, y = given
    if made_for != options:
        raise InputError(f"source statistics were made for {made_for}; got {options}; make them anew")
    if xs.requires_grad:
        raise InputError("source statistics hold the source constant; leave them out for a gradient to the source")
    same = x is xs or (x.shape == xs.shape and torch.equal(x, xs.to(x)))
    if not same or not (y is ys or torch.equal(y, ys.to(y))):
        raise InputError("source statistics belong to another source; make them anew")


def same_space(xs: Tensor, xt: Tensor) -> None:
    """Whether both sets (n, d), (m, d) can be compared point by point, or an error that says why not."""
    if xs.shape[1] != xt.shape[1]:
        raise InputError(
            f"both sets must have one feature dimension; got source {xs.shape[1]}, target {xt.shape[1]}; embed both "
            "with one body, project them to a common dimension, or compare them with geometry='gromov'"
        )
    if xs.device != xt.device:
        raise InputError(
            f"both sets must be on one device; got source {xs.device}, target {xt.device}; move one of them"
        )


def outer(s: Side, t: Side, table: Tensor | None, options: OTDDOptions) -> Problem:
    """The outer problem of two sides with the label distances ``table`` (K, L)."""
    if table is not None:
        table = None if options.label_distance == "none" or not options.lambda_y else table * options.lambda_y
    return Problem(s, t, table, options.lambda_x, options.p, options.reg, options.stopping)


def statistics(x: Tensor, y: Tensor, options: OTDDOptions, weight: Tensor) -> SourceStatistics:
    """Statistics of checked features (n, d), labels (n,) and weights (n,), with the gradient to the features."""
    labels, index = torch.unique(y, return_inverse=True)
    order = torch.argsort(index, stable=True)
    if bool((index[1:] >= index[:-1]).all()):
        side = Side(x, index, weight)
    else:
        side = Side(x[order], index[order], weight[order])
    problem = outer(side, side, None, options)
    engine = choose(problem, options.engine, options.memory)
    products = Products.of(side.centred) if options.debias and engine == "dense" else None
    kind = LABEL_DISTANCES.get(options.label_distance)
    with torch.set_grad_enabled(torch.is_grad_enabled() and options.label_gradient):
        clouds = class_clouds(side.x, side.index, len(labels), cap=options.class_cap, weight=side.weight)
        description = kind.describe(clouds, options.labels)
        within, error = kind.between(description, None, options.labels, products)
    own, solution = x.new_zeros(()), None
    if options.debias:
        own, solution = ENGINES[engine](outer(side, side, within, options), products)
        solution = replace(solution, coupling=x.new_zeros(0))
    return SourceStatistics(x, y, labels, options, side, order, description, within, error, own, solution)
