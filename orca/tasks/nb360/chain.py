"""Chains of residues: helices, strands and coils folded to a compact, self-avoiding trace of C-alpha atoms.

All chains of a block fold at once, padded to the longest. Lengths are in Angstrom.
"""

from __future__ import annotations

import numpy as np

BOND, LEAST = 3.8, 3.8  # between neighbours along the chain; between all others, at the least
SIDE_CHAIN = 2.4  # from C-alpha to C-beta
HELIX, STRAND, COIL = 0, 1, 2
SEGMENTS = ((8, 18), (4, 9), (3, 8))  # residues of a helix, a strand, a coil
ANGLES = {HELIX: (91.0, 50.0), STRAND: (123.0, -170.0)}  # between bonds, about them, degrees: 1.5 and 3.3 A rise
SHEET, NEAR = (4.3, 5.5), 8.0  # neighbours in a sheet; any contact
STEPS, PER_STEPS, HOT, COLD = 1500, 50, 3.0, 0.2  # turns, for so many residues; temperatures


def segments(length: int, generator: np.random.Generator) -> np.ndarray:
    """Kinds of the residues (length,): coils between helices and strands."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < length:
        kind = COIL if len(parts) % 2 == 0 else int(generator.integers(2))
        low, high = SEGMENTS[kind]
        parts.append(np.full(generator.integers(low, high + 1), kind))
    return np.concatenate(parts)[:length]


def fold(kinds: np.ndarray, lengths: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Folds extended chains by turns about the bonds of coils, accepted after Metropolis while it grows colder.

    Energy: the square of what the radius of gyration has above 2.2 L^0.38 (in A), less 0.7 for each pair of residues of
    strands that lie as neighbours in a sheet do, less 0.3 for each other contact. No turn may bring two residues that
    are no neighbours nearer than 3.8 A.

    Args:
        kinds: of the residues, (n, L).
        lengths: residues of each chain, (n,).
        generator: draws turns.

    Returns:
        Places (n, L, 3); those behind a chain's end mean nothing.
    """
    n, longest = kinds.shape
    inside = np.arange(longest) < lengths[:, None]
    x = _extended(kinds, generator)
    apart = np.abs(np.subtract.outer(np.arange(longest), np.arange(longest)))
    pairs = inside[:, :, None] & inside[:, None] & (apart >= 2)
    strands = (kinds == STRAND)[:, :, None] & (kinds == STRAND)[:, None] & (apart > 3)
    free = ((kinds[:, :-1] == COIL) | (kinds[:, 1:] == COIL)) & inside[:, 1:]
    free[:, 0] = False
    energy = _energy(x, inside, pairs, strands, lengths)
    steps = STEPS * max(1, longest // PER_STEPS)
    for step in range(steps):
        moved = _turned(x, free, generator, 60 if step < steps // 2 else 20)
        new = _energy(moved, inside, pairs, strands, lengths)
        heat = HOT * (COLD / HOT) ** (step / steps)
        taken = generator.random(n) < np.exp(np.clip((energy - new) / heat, -50, 0))
        x, energy = np.where(taken[:, None, None], moved, x), np.where(taken, new, energy)
    return x


def c_beta(x: np.ndarray) -> np.ndarray:
    """Places of the C-beta atoms of one chain (L, 3): opposite to the bisector of the bonds of a C-alpha."""
    bonds = np.diff(x, axis=0) / BOND
    before, after = np.vstack([-bonds[:1] * 0, -bonds]), np.vstack([bonds, bonds[:1] * 0])
    away = -(before + after)
    return x + SIDE_CHAIN * away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)


def distances(x: np.ndarray) -> np.ndarray:
    """Between all places (..., L, 3), (..., L, L)."""
    square = (x**2).sum(-1)
    return np.sqrt(np.maximum(square[..., :, None] + square[..., None, :] - 2 * x @ np.swapaxes(x, -1, -2), 0))


def _extended(kinds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Chains with the angles of their segments, coils stretched: each residue from the three before it."""
    n, longest = kinds.shape
    angle = np.where(kinds == COIL, generator.uniform(90, 150, kinds.shape), 0.0)
    twist = np.where(kinds == COIL, generator.uniform(165, 195, kinds.shape), 0.0)
    for kind, (between, about) in ANGLES.items():
        angle[kinds == kind], twist[kinds == kind] = between, about
    angle, twist = np.radians(angle), np.radians(twist)
    x = np.zeros((n, longest, 3))
    x[:, 1, 0] = BOND
    x[:, 2] = x[:, 1] + BOND * np.stack([-np.cos(angle[:, 1]), np.sin(angle[:, 1]), np.zeros(n)], 1)
    for i in range(3, longest):
        b, c = x[:, i - 1] - x[:, i - 2], x[:, i - 2] - x[:, i - 3]
        b = b / np.linalg.norm(b, axis=1, keepdims=True)
        normal = np.cross(c, b)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        third = np.cross(normal, b)
        bend, turn = angle[:, i - 1, None], twist[:, i - 1, None]
        step = -np.cos(bend) * b + np.sin(bend) * (np.cos(turn) * third + np.sin(turn) * normal)
        x[:, i] = x[:, i - 1] + BOND * step
    return x


def _turned(x: np.ndarray, free: np.ndarray, generator: np.random.Generator, degrees: float) -> np.ndarray:
    """Each chain with all behind one free bond turned about it (Rodrigues' formula)."""
    n = len(x)
    at = np.argmax(free * generator.random(free.shape), axis=1)
    rows = np.arange(n)
    origin = x[rows, at + 1][:, None]
    axis = (origin - x[rows, at][:, None]) / BOND
    turn = np.radians(generator.normal(0, degrees, (n, 1, 1)))
    v = x - origin
    turned = v * np.cos(turn) + np.cross(axis, v) * np.sin(turn)
    turned += axis * (axis * v).sum(-1, keepdims=True) * (1 - np.cos(turn)) + origin
    return np.where((np.arange(x.shape[1]) > at[:, None] + 1)[..., None], turned, x)


def _energy(
    x: np.ndarray, inside: np.ndarray, pairs: np.ndarray, strands: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    d = np.where(pairs, distances(x), 1e3)
    weight = inside[..., None] / lengths[:, None, None]
    centre = (x * weight).sum(1, keepdims=True)
    radius = np.sqrt((((x - centre) ** 2).sum(-1, keepdims=True) * weight).sum((1, 2)))
    excess = np.maximum(radius - 2.2 * lengths**0.38, 0) ** 2
    sheet = (strands & (d > SHEET[0]) & (d < SHEET[1])).sum((1, 2)) / 2
    contacts = (d < NEAR).sum((1, 2)) / 2
    clash = (d < LEAST).sum((1, 2))
    return excess - 0.7 * sheet - 0.3 * contacts + 1e3 * clash
