"""The one door to the dataset distances: ``orca.otdd``."""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

from torch import Tensor

from orca.transport.gromov import GromovResult, gromov_otdd
from orca.transport.options import OTDDChanges
from orca.transport.otdd import OTDDResult, sinkhorn_otdd
from orca.transport.sliced import SlicedOptions, SlicedResult, SlicedStatistics, sliced_otdd
from orca.transport.statistics import SourceStatistics
from orca.types import InputError


@overload
def otdd(
    xs: Tensor, ys: Tensor, xt: Tensor, yt: Tensor, *, method: Literal["sinkhorn"] = "sinkhorn",
    geometry: Literal["shared"] = "shared", a: Tensor | None = None, b: Tensor | None = None,
    source: SourceStatistics | None = None, **options: Unpack[OTDDChanges],
) -> OTDDResult: ...  # fmt: skip


@overload
def otdd(
    xs: Tensor, ys: Tensor, xt: Tensor, yt: Tensor, *, method: Literal["sliced"], a: Tensor | None = None,
    b: Tensor | None = None, source: SlicedStatistics | None = None, **options: Any,
) -> SlicedResult: ...  # fmt: skip


@overload
def otdd(
    xs: Tensor, ys: Tensor, xt: Tensor, yt: Tensor, *, geometry: Literal["gromov"], alpha: float = 0.5,
    **options: Unpack[OTDDChanges],
) -> GromovResult: ...  # fmt: skip


def otdd(
    xs: Tensor, ys: Tensor, xt: Tensor, yt: Tensor, *, method: str = "sinkhorn", geometry: str = "shared",
    **options: Any,
) -> OTDDResult | SlicedResult | GromovResult:  # fmt: skip
    """Dataset distance of two labelled sets, classes matched to classes.

    Not halved, no root: for p = 2 one point against one point at distance 5 gives 25 with ``label_distance="none"``,
    and 50 with label distances, which are 25 as well.

    Args:
        xs: source features, (n, d), floating point.
        ys: source labels, (n,), integers of at least 0, not necessarily contiguous.
        xt: target features, (m, d).
        yt: target labels, (m,); they share no names with the source's.
        method: ``sinkhorn``, the dataset distance of Alvarez-Melis and Fusi (2020, arXiv 2002.02923), or ``sliced``,
            that of Nguyen et al. (2025, arXiv 2501.18901), linear in samples and on a scale of its own.
        geometry: ``shared``, or ``gromov`` for features of different dimensions (experimental, small sets).
        **options: for ``sinkhorn`` the weights ``a`` and ``b`` of the samples, ``source`` (``SourceStatistics``) and
            the fields of ``OTDDOptions``; for ``sliced`` the same with ``SlicedStatistics`` and ``SlicedOptions``; for
            ``gromov`` ``alpha`` and the fields of ``OTDDOptions``.

    Returns:
        A result with ``value``, differentiable in both sets (not for ``gromov``), and what the method knows beside it.

    Raises:
        InputError: sets that are empty, not finite or of different dimensions; wrong labels, weights or options.
    """
    if geometry == "gromov" and method == "sinkhorn":
        return gromov_otdd(xs, ys, xt, yt, **options)
    if geometry != "shared":
        raise InputError(f"geometry: expected shared, or gromov with method sinkhorn; got {geometry!r} with {method}")
    if method == "sinkhorn":
        return sinkhorn_otdd(xs, ys, xt, yt, **options)
    if method != "sliced":
        raise InputError(f"method: expected sinkhorn or sliced, got {method!r}")
    named = {key: options.pop(key) for key in ("a", "b", "source") if key in options}
    return sliced_otdd(xs, ys, xt, yt, options=SlicedOptions(**options) if options else None, **named)
