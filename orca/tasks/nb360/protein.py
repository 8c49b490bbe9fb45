"""What is told of a protein: sequence, conservation and couplings, made to fit a fold."""

from __future__ import annotations

import numpy as np

from orca.runtime import rng
from orca.tasks.nb360.chain import c_beta, distances, fold, segments

LETTERS = "ARNDCQEGHILKMFPSTWYV"
HYDROPHOBIC = np.array([1.8, -4.5, -3.5, -3.5, 2.5, -3.5, -3.5, -0.4, -3.2, 4.5, 3.8, -3.9, 1.9, 2.8, -1.6, -0.8, -0.7,
                        -0.9, -1.3, 4.2])  # fmt: skip
# Kyte & Doolittle 1982, in the order of LETTERS; below, letters that helices, strands and coils prefer
LIKED = ("ALEMQKR", "VIYFWT", "GPNSD")
CONTACT, LONG_RANGE = 8.0, 24
COUPLING_NOISE = 0.35


def preferences() -> np.ndarray:
    """How readily two kinds of residues touch, (20, 20) in 0.1..3: hydrophobic ones do, and each pair a little."""
    scale = (HYDROPHOBIC - HYDROPHOBIC.mean()) / HYDROPHOBIC.std()
    noise = rng("contact preferences").normal(0, 0.2, (20, 20))
    return np.clip(np.exp(0.4 * np.add.outer(scale, scale) / 2 + (noise + noise.T) / 2), 0.1, 3)


def proteins(lengths: np.ndarray, generator: np.random.Generator) -> list[dict[str, np.ndarray]]:
    """Features and distances of folded chains of these lengths, as ``describe`` gives them."""
    kinds = np.stack([segments(int(lengths.max()), generator) for _ in lengths])
    places = fold(kinds, lengths, generator)
    return [describe(kind[:n], x[:n], generator) for kind, x, n in zip(kinds, places, lengths, strict=True)]


def describe(kinds: np.ndarray, x: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """The arrays of one protein.

    Returns:
        ``seq`` text; ``ss`` (3, L); ``pssm`` (L, 22); ``sa``, ``entropy`` (L,); ``ccmpred``, ``freecon``, ``potential``
        (L, L); ``dist`` (L, L) between C-beta atoms in Angstrom; ``trace`` (L, 3). float32.
    """
    d = distances(c_beta(x))
    near = (d < 10).sum(1) - 1
    buried = near / max(near.max(), 1)
    secondary = np.full((3, len(x)), 0.1)
    secondary[kinds, np.arange(len(x))] = 0.8
    residues = _sequence(kinds, buried, generator)
    pssm, entropy = _profile(residues, buried, generator)
    couplings = _couplings(d, generator)
    noise = generator.normal(0, 0.1, d.shape)
    made = {
        "ss": secondary, "pssm": pssm, "sa": 1 - buried, "entropy": entropy, "ccmpred": couplings,
        "freecon": 0.7 * couplings + (noise + noise.T) / 2, "potential": -np.log(preferences()[residues][:, residues]),
        "dist": d, "trace": x,
    }  # fmt: skip
    text = "".join(LETTERS[r] for r in residues)
    return {"seq": np.array(text)} | {name: values.astype(np.float32) for name, values in made.items()}


def _sequence(kinds: np.ndarray, buried: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    liked = np.array([[letter in LIKED[kind] for letter in LETTERS] for kind in range(3)])
    odds = 0.5 * HYDROPHOBIC * (buried[:, None] - 0.5) * 2 + 0.8 * liked[kinds]  # (L, 20)
    return (odds + generator.gumbel(size=odds.shape)).argmax(1)


def _profile(residues: np.ndarray, buried: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of a Dirichlet about each residue beside gaps and information, (L, 22), and its entropy (L,)."""
    mass = np.full((len(residues), 20), 0.5)
    mass[np.arange(len(residues)), residues] += 2 + 10 * buried
    share = generator.standard_gamma(mass) + 1e-4
    share /= share.sum(1, keepdims=True)
    entropy = -(share * np.log(share)).sum(1)
    gaps = generator.beta(1, 9, len(residues))
    return np.column_stack([np.log(20 * share), gaps, np.log(20) - entropy]), entropy


def _couplings(d: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Scores that are high for contacts, with half-normal noise, less the average product (Dunn et al. 2008)."""
    length = len(d)
    strength = generator.uniform(0.3, 1, d.shape) / (1 + np.exp((d - CONTACT) / 1.5))
    raw = np.triu(strength + np.abs(generator.normal(0, COUPLING_NOISE, d.shape)), 3)
    raw += raw.T
    mean = raw.mean(0)
    corrected = raw - np.outer(mean, mean) / max(raw.mean(), 1e-9)
    return np.where(np.abs(np.subtract.outer(np.arange(length), np.arange(length))) < 3, 0, corrected)
