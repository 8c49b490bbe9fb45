"""Sliced dataset distance, s-OTDD: linear in samples up to sorting, independent of the number of classes.

    s-OTDD(S, T) = mean over l = 1..L of  size**p W_p(DP_l(S), DP_l(T))**p

(Nguyen et al. 2025, arXiv 2501.18901.) A random projection DP_l sends each labelled sample to one number that mixes a
projection of its features with moments of the same projection of its class (``slices.py``); W_p is transport on the
line (``line.py``). No root is taken, as in ``otdd``; unit of the features to the power p. The value is smaller than
that of ``otdd``, as a slice sees one direction of d: it ranks pairs much as ``otdd`` does, it does not approximate its
number. ``standard_error`` says how far the mean over the drawn projections is from its limit.

**Frame.** The paper takes features as they come. A moment of order lambda has the unit to the power lambda: of unscaled
features the highest order drowns the rest, or overflows. So both sets are moved and divided by one common frame,
z = (x - centre) / size, size**2 the mean of |x - centre|**2 / d, which makes the mean square of a random projection of
z one; the value is multiplied by size**p. Moving both sets together then changes nothing, and scaling both by c scales
the value by c**p. All directions are divided by one number, so distances keep their proportions. What the frame is
taken from (``scale``) decides the rest:

- ``both``: the mixture of both sets in equal parts. Symmetric, 0 between equal sets; the triangle inequality is not
  promised, as each pair has a frame of its own. The gradient flows through the frame too.
- ``source``: the first set. The frame is the same towards any target, as ``SlicedStatistics`` and alignment need, and
  has no gradient to the target. 0 between equal sets, not symmetric. A target many sizes away has large moments and a
  steep gradient.
- ``none``: centre 0, size 1, the paper's formula. The p-th root of the value is a pseudometric for any projections:
  symmetric, with the triangle inequality. For features that are in one frame already, such as many sets to be compared.

Heavy tails: the moments grow as exp(z), so that a few samples at tens of sizes decide the value. Clip them, or take
fewer moments; ``moments=0`` is the sliced Wasserstein distance of the features alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from orca.errors import InputError
from orca.transport.sliced.frame import Cloud, Frame, common_frame, place, weighted
from orca.transport.sliced.line import Line, equal_steps, ordered, wasserstein
from orca.transport.sliced.slices import SlicedOptions, Slices, draw_slices, project
from orca.transport.statistics import check_given, checked, same_space
from orca.types import LabeledSet

CHUNK = 2**24  # numbers in one temporary: 64 MiB in float32


@dataclass(frozen=True)
class SlicedResult:
    """A sliced dataset distance.

    Attributes:
        value: mean over the projections, scalar, differentiable in both feature sets; unit of the features to the
            power p.
        standard_error: of the value over the draw of projections, for these samples; NaN with one projection.
        per_projection: the L distances that were averaged, (L,), without gradient.
    """

    value: Tensor
    standard_error: float
    per_projection: Tensor


@dataclass(frozen=True)
class SlicedStatistics:
    """What depends on the source alone: its frame, the projections, and itself projected and sorted.

    Attributes:
        x: features, (n, d).
        y: labels, (n,).
        options: what it was computed for; ``scale`` is ``source`` or ``none``.
        frame: of the source.
        slices: the L projections.
        line: the source on the line, (L, n); L n numbers stay in memory.
    """

    x: Tensor
    y: Tensor
    options: SlicedOptions
    frame: Frame
    slices: Slices
    line: Line

    @classmethod
    def of(
        cls, source: LabeledSet, options: SlicedOptions | None = None, *, weights: Tensor | None = None
    ) -> SlicedStatistics:
        """Statistics of a set that stays constant: they carry no gradient.

        Args:
            source: the set.
            options: None takes the defaults with ``scale="source"``.
            weights: of the samples, (n,), at least 0; None: equal.

        Raises:
            InputError: as ``sliced_otdd``; options with ``scale="both"``.
        """
        options = options or SlicedOptions(scale="source")
        if options.scale == "both":
            raise InputError("sliced_otdd: statistics of the source alone need scale source or none; got both")
        x, y = checked(source.x, source.y, "source")
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            given = weighted(x, y, weights, "source")
            frame = common_frame([given], options.scale)
            cloud = place(given, frame, options.scale)
            slices = draw_slices(options, x.shape[1], like=x)
            on_line = _projector(cloud, slices, options)
            lines = [on_line(rows) for rows in _chunks(options, len(cloud.z))]
        shares = [line.weight for line in lines if line.weight is not None]
        line = Line(torch.cat([line.values for line in lines]), torch.cat(shares) if shares else None)
        return cls(x, y, options, frame, slices, line)


def _chunks(options: SlicedOptions, samples: int) -> list[slice]:
    """The projections in parts."""
    step = options.chunk or max(1, CHUNK // samples)
    return [slice(start, start + step) for start in range(0, options.projections, step)]


def _projector(cloud: Cloud, slices: Slices, options: SlicedOptions) -> Callable[[slice], Line]:
    """From a range of the projections to the set on these lines."""

    def on_line(rows: slice) -> Line:
        return ordered(project(cloud, slices[rows], label_gradient=options.label_gradient), cloud.weight)

    return on_line


def _averaged(
    near: Callable[[slice], Line], far: Callable[[slice], Line], frame: Frame, counts: tuple[int, int],
    options: SlicedOptions,
) -> SlicedResult:  # fmt: skip
    """The result, chunk by chunk. The backward pass does each chunk anew, so that it needs no more memory."""
    chunks = _chunks(options, sum(counts))
    steps = equal_steps(*counts, like=frame.size) if counts[0] != counts[1] else None

    def compare(rows: slice) -> Tensor:
        return wasserstein(near(rows), far(rows), p=options.p, steps=steps)

    if len(chunks) > 1 and torch.is_grad_enabled():
        parts = [checkpoint(compare, rows, use_reentrant=False, preserve_rng_state=False) for rows in chunks]
    else:
        parts = [compare(rows) for rows in chunks]
    distances = torch.cat(parts) * frame.size**options.p  # (L,)
    plain = distances.detach()
    if not bool(torch.isfinite(plain).all()):
        raise InputError(
            "sliced_otdd: the moments are not finite; expected features within some tens of the common size "
            f"{float(frame.size):g}; clip outliers, take fewer moments or another scale"
        )
    error = float(plain.std() / len(plain) ** 0.5) if len(plain) > 1 else math.nan
    return SlicedResult(distances.mean(), error, plain)


def sliced_otdd(
    xs: Tensor, ys: Tensor, xt: Tensor, yt: Tensor, *, options: SlicedOptions | None = None,
    a: Tensor | None = None, b: Tensor | None = None, source: SlicedStatistics | None = None,
) -> SlicedResult:  # fmt: skip
    """Sliced dataset distance of two labelled sets of any sizes, in O(L (n + m) (d + log(n + m))) time.

    Memory is that of the sets in their frame and of one chunk of projections, with the gradient too. On CUDA sums over
    a class may differ in the last bits from run to run.

    Args:
        xs: source features, (n, d), floating point.
        ys: source labels, (n,), integers of at least 0, not necessarily contiguous.
        xt: target features, (m, d).
        yt: target labels, (m,); they share no names with the source's.
        options: None takes the defaults, or those of ``source``.
        a: weights of the source's samples, (n,); None: equal. Only their proportions count.
        b: weights of the target's samples, (m,).
        source: statistics of the source, computed once by ``SlicedStatistics.of``; their options and weights hold.

    Returns:
        The value, differentiable in ``xs`` (without ``source``) and ``xt``, with its error over the projections.

    Raises:
        InputError: sets that are empty, not finite, of different dimensions or devices; wrong labels, weights or
            options; moments that overflow.
    """
    xt, yt = checked(xt, yt, "target")
    if source is not None:
        if a is not None:
            raise InputError("weights of the source are part of its statistics; give them to SlicedStatistics.of")
        check_given((source.x, source.y), xs, ys, made_for=source.options, options=options or source.options)
        return _towards(source, xt, yt, b)
    options = options or SlicedOptions()
    xs, ys = checked(xs, ys, "source")
    same_space(xs, xt)
    wider = torch.promote_types(xs.dtype, xt.dtype)
    with torch.autocast(xs.device.type, enabled=False):
        sets = [weighted(xs.to(wider), ys, a, "source"), weighted(xt.to(wider), yt, b, "target")]
        frame = common_frame(sets if options.scale == "both" else sets[:1], options.scale)
        slices = draw_slices(options, xs.shape[1], like=frame.size)
        clouds = [place(each, frame, options.scale) for each in sets]
        near, far = (_projector(cloud, slices, options) for cloud in clouds)
        return _averaged(near, far, frame, (len(clouds[0].z), len(clouds[1].z)), options)


def _towards(source: SlicedStatistics, xt: Tensor, yt: Tensor, b: Tensor | None) -> SlicedResult:
    """The distance of a checked target to a source that stays constant."""
    same_space(source.x, xt)
    options = source.options
    with torch.autocast(xt.device.type, enabled=False):
        cloud = place(weighted(xt.to(source.x.dtype), yt, b, "target"), source.frame, options.scale)
        far = _projector(cloud, source.slices, options)
        counts = source.line.values.shape[1], len(cloud.z)
        return _averaged(source.line.__getitem__, far, source.frame, counts, options)
