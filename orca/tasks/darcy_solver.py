"""Darcy flow by finite differences: random permeability and its pressure, after Li et al. 2021 (arXiv 2010.08895)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

LOW, HIGH = 3.0, 12.0  # permeability of the published set
ALPHA, TAU = 2.0, 3.0


def gaussian_field(size: int, *, generator: np.random.Generator) -> np.ndarray:
    """One draw of N(0, tau^(2 alpha - 2) (-Laplace + tau^2)^-alpha), zero Neumann, alpha 2, tau 3, on (size, size).

    The cosine coefficients are size * tau^(alpha-1) (pi^2 |k|^2 + tau^2)^(-alpha/2) * N(0, 1), the mean's is 0; the
    field is their orthonormal inverse cosine transform. Its values belong to cell centres; like the small published
    variants we use them as values at the nodes.
    """
    from scipy.fft import idctn

    k = np.arange(size)
    power = np.pi**2 * (k[:, None] ** 2 + k[None] ** 2) + TAU**2
    coefficients = size * TAU ** (ALPHA - 1) * power ** (-ALPHA / 2) * generator.standard_normal((size, size))
    coefficients[0, 0] = 0.0
    return np.asarray(idctn(coefficients, norm="ortho"))


def permeability(size: int, *, generator: np.random.Generator) -> np.ndarray:
    """One coefficient (size, size): 12 where the Gaussian field is at least 0, else 3."""
    return np.where(gaussian_field(size, generator=generator) >= 0, HIGH, LOW)


def lognormal(size: int, *, generator: np.random.Generator) -> np.ndarray:
    """One smooth coefficient (size, size): 6, the geometric mean of 12 and 3, times exp of the Gaussian field.

    exp of a Gaussian field is the other law of Bhattacharya et al. 2021 (arXiv 2005.03180) beside that of 12 and 3.
    """
    return np.sqrt(LOW * HIGH) * np.exp(gaussian_field(size, generator=generator))


def solve(a: np.ndarray, f: np.ndarray | float = 1.0, *, per_unit: int | None = None) -> np.ndarray:
    """The pressure u with -div(a grad u) = f on a square and u = 0 on its boundary.

    Five-point differences on K x K nodes; a cell face has the mean of its two nodes' coefficients.

    Args:
        a: coefficient at the nodes, (K, K), positive.
        f: right-hand side, a number or (K, K).
        per_unit: node distances in a unit of length; unset takes K - 1, which is the unit square.

    Returns:
        u at the nodes, (K, K), float64.
    """
    from scipy import sparse
    from scipy.sparse.linalg import splu

    size = len(a)
    inner = slice(1, -1)
    down = (a[1:, inner] + a[:-1, inner]) / 2  # (K-1, K-2) faces between rows
    right = (a[inner, 1:] + a[inner, :-1]) / 2  # (K-2, K-1) faces between columns
    middle = down[1:] + down[:-1] + right[:, 1:] + right[:, :-1]  # (K-2, K-2)
    rows, columns = _pattern(size - 2)
    below, beside = -down[1:-1].ravel(), -right[:, 1:-1].ravel()
    values = np.concatenate([middle.ravel(), below, below, beside, beside])
    count = (size - 2) ** 2
    matrix = sparse.csc_array((values, (rows, columns)), shape=(count, count))
    load = np.broadcast_to(np.asarray(f, float), a.shape)[inner, inner].ravel() / (per_unit or size - 1) ** 2
    factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    u = np.zeros(a.shape)
    u[inner, inner] = factor.solve(load).reshape(size - 2, size - 2)
    return u


def solve_cells(a: np.ndarray, f: float = 1.0) -> np.ndarray:
    """The same with values in the middle of K x K cells of the unit square, and u = 0 half a cell outside.

    So PDEBench closes its grid, with cells of u = 0 around it; the coefficient there is that of the neighbour.
    """
    return solve(np.pad(a, 1, mode="edge"), f, per_unit=len(a))[1:-1, 1:-1]


@lru_cache(maxsize=8)
def _pattern(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each matrix entry on n x n inner nodes: middle, down and up, right and left."""
    node = np.arange(n * n).reshape(n, n)
    upper, lower = node[:-1].ravel(), node[1:].ravel()
    left, right = node[:, :-1].ravel(), node[:, 1:].ravel()
    rows = np.concatenate([node.ravel(), upper, lower, left, right])
    columns = np.concatenate([node.ravel(), lower, upper, right, left])
    return rows, columns
