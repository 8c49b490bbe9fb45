"""Random projections of labelled samples to the line, for the sliced dataset distance (see ``orca.transport.sliced``).

    DP(x, y) = psi_0 theta.x + sum_i psi_i E[(theta.x')**lambda_i | y'=y] / lambda_i!        i = 1..k

(Nguyen et al. 2025, arXiv 2501.18901: the data point projection, with linear feature projections and one theta for
features and labels.) theta is uniform on the unit sphere of the feature space, psi on that of R^(k+1), and lambda_i has
the zero-truncated Poisson law of rate i. The sum is made of moment transform projections of the label y, as scaled
moments; together they are the class mean of one polynomial of theta.x', found at the same cost for any number of
classes.
"""

# torch types once_differentiable loosely; it makes a second derivative, which would be wrong, an error.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from orca.errors import InputError
from orca.runtime import rng
from orca.transport.sliced.frame import SCALES, Cloud

MAX_ORDER = 20  # of a moment; the Poisson law of rate 5 passes it with probability 1e-7, and is cut there


@dataclass(frozen=True)
class SlicedOptions:
    """What is projected and how often.

    Attributes:
        projections: L; the error falls as its square root.
        moments: k, of each label; 0 leaves the labels out.
        p: power of the distance on the line, 2 or 1.
        scale: what the common frame is taken from: ``both``, ``source`` or ``none``.
        label_gradient: whether the gradient also flows through the moments of the classes.
        chunk: projections held at once; None keeps a temporary under 64 MiB. It does not change the value.
        seed: of the projections; equal seeds give equal projections on every device.
    """

    projections: int = 500
    moments: int = 5
    p: int = 2
    scale: str = "both"
    label_gradient: bool = True
    chunk: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises one InputError that lists all faults."""
        rules = (
            (self.projections >= 1, f"projections: expected at least 1, got {self.projections}"),
            (0 <= self.moments <= 10, f"moments: expected 0 to 10, got {self.moments}"),
            (self.p in (1, 2), f"p: expected 1 or 2, got {self.p}"),
            (self.scale in SCALES, f"scale: expected {' or '.join(SCALES)}, got {self.scale!r}"),
            (self.chunk is None or self.chunk >= 1, f"chunk: expected None or 1 and up, got {self.chunk}"),
        )
        faults = [text for kept, text in rules if not kept]
        if faults:
            raise InputError("sliced_otdd: " + "; ".join(faults))


@dataclass(frozen=True)
class Slices:
    """L projections.

    Attributes:
        directions: theta, unit vectors, (L, d).
        feature: psi_0, (L,).
        polynomial: psi_i / lambda_i! at the power lambda_i, (L, MAX_ORDER + 1).
    """

    directions: Tensor
    feature: Tensor
    polynomial: Tensor

    def __getitem__(self, rows: slice) -> Slices:
        """Some of the projections."""
        return Slices(self.directions[rows], self.feature[rows], self.polynomial[rows])

    def __len__(self) -> int:
        return len(self.directions)


def _on_sphere(draw: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Uniform on the unit sphere of R^dim, (count, dim)."""
    normal = draw.standard_normal((count, dim))
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def moment_orders(options: SlicedOptions) -> np.ndarray:
    """Zero-truncated Poisson draws of rates 1..k, cut at ``MAX_ORDER``, by inversion: (L, k), int64."""
    count, moments = options.projections, options.moments
    order = np.arange(1, MAX_ORDER + 1)
    factorial = np.array([math.factorial(j) for j in order], dtype=np.float64)
    uniform = rng("sliced-otdd", "orders", options.seed).random((count, moments))
    drawn = np.empty((count, moments), dtype=np.int64)
    for i in range(moments):
        law = np.cumsum((i + 1.0) ** order / factorial)
        drawn[:, i] = 1 + np.searchsorted(law / law[-1], uniform[:, i], side="right")
    return drawn


def draw_slices(options: SlicedOptions, dim: int, *, like: Tensor) -> Slices:
    """The projections of a seed: the same on every device; more of them begin with the same.

    Args:
        options: how many, with how many moments, and the seed. Without moments psi_0 is 1 or -1.
        dim: of the features, d.
        like: gives device and dtype.
    """
    count, moments = options.projections, options.moments
    theta = _on_sphere(rng("sliced-otdd", "directions", options.seed), count, dim)
    psi = _on_sphere(rng("sliced-otdd", "weights", options.seed), count, moments + 1)
    orders = moment_orders(options)
    polynomial = np.zeros((count, MAX_ORDER + 1))
    for i in range(moments):  # two moments of one order add up
        polynomial[np.arange(count), orders[:, i]] += psi[:, i + 1] / [math.factorial(j) for j in orders[:, i]]
    parts = (torch.from_numpy(part).to(like.dtype).to(like.device) for part in (theta, psi[:, 0], polynomial))
    return Slices(*parts)


class _Polynomial(Function):
    """sum_j c_j u**j along rows by Horner's rule: keeps u alone for the gradient, not every power."""

    @staticmethod
    def forward(ctx, u: Tensor, coefficients: Tensor) -> Tensor:  # (L, n), (L, D + 1) -> (L, n)
        ctx.save_for_backward(u, coefficients)
        return _horner(u, coefficients)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        u, coefficients = ctx.saved_tensors
        power = torch.arange(1, coefficients.shape[1]).to(coefficients)
        return grads[0] * _horner(u, coefficients[:, 1:] * power), None


def _horner(u: Tensor, coefficients: Tensor) -> Tensor:
    """The polynomials of (L, D + 1) coefficients, ascending, at u (L, n)."""
    used = coefficients.abs().amax(0).nonzero()
    degree = int(used[-1]) if len(used) else 0  # rows draw low orders mostly
    out = coefficients[:, degree : degree + 1].expand_as(u).clone()
    for j in reversed(range(degree)):
        torch.addcmul(coefficients[:, j : j + 1], out, u, out=out)
    return out


def project(cloud: Cloud, slices: Slices, *, label_gradient: bool) -> Tensor:
    """DP of every sample under every projection, (L, n).

    Args:
        cloud: the set in its frame.
        slices: L projections.
        label_gradient: whether the moments have a gradient.
    """
    u = slices.directions @ cloud.z.T  # (L, n)
    values = slices.feature[:, None] * u
    if not bool(slices.polynomial.any()):
        return values
    with torch.set_grad_enabled(torch.is_grad_enabled() and label_gradient):
        wide = torch.float32 if u.device.type == "mps" else torch.float64  # MPS has no float64
        terms = _Polynomial.apply(u, slices.polynomial)  # (L, n)
        terms = terms.to(wide) if cloud.weight is None else terms.to(wide) * cloud.weight
        index = cloud.index.expand(len(slices), -1)
        sums = terms.new_zeros(len(slices), len(cloud.mass)).scatter_add(1, index, terms)
        means = (sums / cloud.mass).to(u.dtype)  # (L, K)
    return values + means.gather(1, index)
