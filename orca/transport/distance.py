"""The one door to the dataset distances: ``orca.otdd``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, Unpack, overload

from torch import Tensor

from orca.errors import InputError
from orca.transport.gromov import GromovResult, gromov_otdd
from orca.transport.options import OTDDChanges, OTDDOptions
from orca.transport.otdd import OTDDResult, sinkhorn_otdd
from orca.transport.sliced import SlicedOptions, SlicedResult, SlicedStatistics, sliced_otdd
from orca.transport.statistics import SourceStatistics

NAMED = ("a", "b", "source")  # keywords beside the options


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
        Computed in float32 or float64 under autocast too; call ``backward`` outside it, as PyTorch advises.

    Raises:
        InputError: sets that are empty, not finite or of different dimensions; wrong labels, weights or options.
    """
    if geometry not in ("shared", "gromov") or (geometry == "gromov" and method != "sinkhorn"):
        raise InputError(f"geometry: expected shared, or gromov with method sinkhorn; got {geometry!r} with {method}")
    if method not in ("sinkhorn", "sliced"):
        raise InputError(f"method: expected sinkhorn or sliced, got {method!r}")
    if geometry == "gromov":
        return gromov_otdd(xs, ys, xt, yt, **_known(options, OTDDOptions, ("alpha",), "geometry gromov"))
    if method == "sinkhorn":
        return sinkhorn_otdd(xs, ys, xt, yt, **_known(options, OTDDOptions, NAMED, "method sinkhorn"))
    options = _known(options, SlicedOptions, NAMED, "method sliced")
    named = {key: options.pop(key) for key in NAMED if key in options}
    return sliced_otdd(xs, ys, xt, yt, options=SlicedOptions(**options) if options else None, **named)


def _known(options: dict[str, Any], kind: type, named: Sequence[str], what: str) -> dict[str, Any]:
    """The options, or an error that names those that are neither ``named`` nor fields of their kind."""
    known = [*named, *(field.name for field in fields(kind))]
    if unknown := [name for name in options if name not in known]:
        raise InputError(f"otdd: {what} has no option {', '.join(unknown)}; it takes {', '.join(known)}")
    return options
