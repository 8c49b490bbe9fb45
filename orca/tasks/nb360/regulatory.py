"""Made-up regulatory DNA: motifs planted in a random background, labels by logic on what a scanner then finds.

What counts is in the middle of a sequence; copies of the motifs at its sides, and weakened ones, mislead.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from orca.runtime import rng
from orca.tasks.letters import BASES, IUPAC

# Textbook consensus sequences of transcription factors' binding sites.
MOTIFS = {
    "CTCF": "CCGCGNGGNGGCAG", "GATA": "WGATAA", "AP1": "TGASTCA", "MYC": "CACGTG", "ETS": "CCGGAAGT",
    "SP1": "GGGGCGGGG", "NRF1": "GCGCATGCGC", "CREB": "TGACGTCA", "NFY": "CCAAT", "YY1": "AAGATGGCGGC",
    "REST": "TTCAGCACCNNGGACAGCGCC", "P53": "RRRCWWGYYY", "OCT": "ATGCAAAT", "SOX": "CATTGTT", "STAT": "TTCCNGGAA",
    "IRF": "GAAANNGAAA", "HNF4": "CAAAGTCCA", "FOXA": "TGTTTAC", "CEBP": "TTGCGCAAT", "NFKB": "GGGRNNYYCC",
    "RUNX": "TGTGGT", "MEF2": "CTAWWWATAG", "SRF": "CCWWWWWWGG", "TEAD": "GGAATG", "EBF": "TCCCNNGGGA",
    "E2F": "TTTSGCGC",
}  # fmt: skip
LONGEST = max(map(len, MOTIFS.values()))
PIONEER, COPIES = "FOXA", 3  # what opens chromatin, and how often it stands where it is open
LABELS: tuple[tuple[str, ...], ...] = (
    ("one", "ETS"), ("one", "CREB"), ("one", "CTCF"), ("one", "SP1"), ("one", "NRF1"), ("one", "YY1"), ("one", "REST"),
    ("one", "HNF4"), ("one", "CEBP"), ("one", "OCT"), ("one", "MEF2"), ("one", "STAT"),
    ("and", "GATA", "AP1"), ("and", "MYC", "E2F"), ("and", "SOX", "RUNX"), ("and", "TEAD", "NFY"),
    ("and", "SOX", "GATA"), ("and", "AP1", "TEAD"), ("and", "RUNX", "MYC"), ("and", "NFY", "E2F"),
    ("or", "STAT", "IRF"), ("or", "NFKB", "EBF"), ("or", "YY1", "REST"), ("or", "P53", "CTCF"),
    ("or", "HNF4", "OCT"), ("or", "MEF2", "SRF"),
    ("not", "EBF", "REST"), ("not", "IRF", "YY1"), ("not", "NRF1", "CTCF"), ("not", "CREB", "CEBP"),
    ("gc", "SP1"), ("gc", "IRF"), ("gc", "CEBP"), ("gc", "NFKB"),
    ("open",), ("open",),
)  # fmt: skip
FEW = (0, 1, 12, 13, 20, 26, 30, 34)  # labels of sequences that are shorter than published
LENGTH = 1000

CONSENSUS = 0.9  # probability of the consensus base, or of its bases together
MIDDLE = 0.4  # share of the sequence that counts
OPEN = 0.12  # share of sequences with open chromatin
# Probability that a label's motifs are planted where chromatin is open, and where not; and what is left of it for 36
# labels, which share motifs.
PLANTED = {
    "one": (0.6, 0.14, 0.3), "and": (0.9, 0.4, 0.6), "or": (0.6, 0.1, 0.3), "not": (0.8, 0.2, 0.3),
    "gc": (0.7, 0.25, 0.3), "open": (0, 0, 0),
}  # fmt: skip
DECOY = 0.3  # probability of a motif at the sides
ALONE = 0.06  # and of one of a pair in the middle
APART = (10, 60)  # bases between the beginnings of a pair
BLOCK = 1000  # sequences that are scanned together
NOISE = 0.01  # share of labels that are turned over
CHANCE = 0.02  # tolerated probability of a hit in the middle of random DNA, if a mismatch is to count as one


def labels_of(points: int) -> list[tuple[str, ...]]:
    """The labels of sequences of that length: 36 as published, 8 of shorter ones."""
    return list(LABELS) if points >= LENGTH else [LABELS[k] for k in FEW]


@cache
def matrix(name: str) -> np.ndarray:
    """The probabilities of the four bases at each position of a motif, (m, 4)."""
    rows = []
    for letter in MOTIFS[name]:
        bases = IUPAC[letter]
        rest = (1 - CONSENSUS) / (4 - len(bases)) if len(bases) < 4 else 0
        rows.append([CONSENSUS / len(bases) if b in bases else rest for b in BASES] if rest else [0.25] * 4)
    return np.array(rows)


def markov(points: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Sequences of an order-2 Markov chain, each with its own share of G and C in 35..65 %, (count, points) int8."""
    context = np.exp(0.25 * rng("deepsea", "context").standard_normal((4, 4, 4)))
    gc = generator.uniform(0.35, 0.65, (count, 1)) / 2
    share = np.concatenate([0.5 - gc, gc, gc, 0.5 - gc], axis=1)  # (count, 4)
    x = generator.integers(0, 4, (count, points)).astype(np.int8)
    for i in range(2, points):
        p = np.cumsum(share * context[x[:, i - 2], x[:, i - 1]], axis=1)
        x[:, i] = (generator.random((count, 1)) * p[:, -1:] > p[:, :3]).sum(1)
    return x


def middle(points: int) -> tuple[int, int]:
    """Beginning and end of what counts."""
    side = round(points * (1 - MIDDLE) / 2)
    return side, points - side


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Sequences ``x`` (count, points, 4) uint8 one-hot and their labels ``y`` (count, K) uint8."""
    x, access = markov(points, count, generator), generator.random(count) < OPEN
    labels = labels_of(points)
    for _, *names in labels:
        for name in names:
            _decoys(x, name, generator)
    for kind, *names in labels:
        opened, closed, shared = PLANTED[kind]
        rate = np.where(access, opened, closed) * (shared if points >= LENGTH else 1)
        chosen = generator.random(count) < rate
        _sites(x, kind, names, np.flatnonzero(chosen), generator)
    for _ in range(COPIES):
        rows = np.flatnonzero(access)
        _plant(x, PIONEER, rows, _in_middle(x, rows, generator), generator)
    truth = _truth(x, labels, access)
    noisy = truth ^ (generator.random(truth.shape) < NOISE)
    return {"x": np.eye(4, dtype=np.uint8)[x], "y": noisy.astype(np.uint8)}


def _plant(x: np.ndarray, name: str, rows: np.ndarray, at: np.ndarray, generator: np.random.Generator) -> None:
    """Writes samples of a motif, on either strand, into rows (r,) of x from the places (r,) on."""
    bases = (generator.random((len(rows), len(MOTIFS[name]), 1)) > matrix(name).cumsum(1)[:, :3]).sum(2)  # (r, m)
    turned = generator.random((len(rows), 1)) < 0.5
    x[rows[:, None], at[:, None] + np.arange(bases.shape[1])] = np.where(turned, 3 - bases[:, ::-1], bases)


def _in_middle(x: np.ndarray, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    low, high = middle(x.shape[1])
    return generator.integers(low, high - LONGEST, len(rows))


def _decoys(x: np.ndarray, name: str, generator: np.random.Generator) -> None:
    """Copies of a motif at the sides."""
    rows = np.flatnonzero(generator.random(len(x)) < DECOY)
    low, high = middle(x.shape[1])
    left = generator.integers(0, low - LONGEST, len(rows))
    right = generator.integers(high, x.shape[1] - LONGEST, len(rows))
    _plant(x, name, rows, np.where(generator.random(len(rows)) < 0.5, left, right), generator)


def _sites(x: np.ndarray, kind: str, names: list[str], rows: np.ndarray, generator: np.random.Generator) -> None:
    """Motifs of a label in the middle of these rows; of pairs, one alone in some others."""
    at, first = _in_middle(x, rows, generator), generator.random(len(rows)) < 0.5
    if kind == "and":
        low, high = middle(x.shape[1])
        gap = generator.integers(APART[0] + 4, min(APART[1], (high - low) // 2), len(rows))
        at = np.clip(at, low, high - LONGEST - gap)
        _plant(x, names[1], rows, at + gap, generator)
        alone = np.flatnonzero(generator.random(len(x)) < ALONE)
        _plant(x, names[generator.integers(2)], alone, _in_middle(x, alone, generator), generator)
    if kind == "not":
        _plant(x, names[1], rows[first], _in_middle(x, rows[first], generator), generator)
    if kind == "or":
        _plant(x, names[1], rows[~first], at[~first], generator)
        rows, at = rows[first], at[first]
    if names:
        _plant(x, names[0], rows, at, generator)


def hits(x: np.ndarray, name: str) -> np.ndarray:
    """How far a motif's log-likelihood ratio lies above its threshold, at each place of the middle, (n, P).

    The better of both strands. The threshold is that of the consensus or, for motifs that are rare enough by chance, of
    one mismatch.

    Args:
        x: base numbers (n, L).
        name: of the motif.
    """
    ratio = np.log(matrix(name) / 0.25)
    low, high = middle(x.shape[1])
    size = len(ratio)
    part = x[:, low:high]
    both = np.stack([ratio, ratio[::-1, ::-1]])  # (2, m, 4): the motif and its reverse complement
    score = np.full((len(x), part.shape[1] - size + 1), -np.inf)
    for strand in both:
        total = sum(strand[j][part[:, j : j + score.shape[1]]] for j in range(size))
        score = np.maximum(score, total)
    return score - _threshold(name, x.shape[1])


def _threshold(name: str, points: int) -> float:
    letters = MOTIFS[name]
    ratio = np.log(matrix(name) / 0.25)
    fixed = sum(len(IUPAC[letter]) < 4 for letter in letters)
    exact = np.prod([len(IUPAC[letter]) / 4 for letter in letters])
    near = exact * (1 + 3 * fixed) * 2 * MIDDLE * points < CHANCE
    step = np.log(CONSENSUS / ((1 - CONSENSUS) / 3))  # what a mismatch costs
    return float(ratio.max(1).sum() - step * (1.1 if near else 0.1))


def _near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether a hit of one stands 10 to 60 bases from a hit of the other, on either side, (n,)."""
    size = min(a.shape[1], b.shape[1])
    a, b = a[:, :size] >= 0, b[:, :size] >= 0
    total = np.pad(np.cumsum(b, axis=1), ((0, 0), (1, 0)))
    at = np.arange(size)

    def between(first: np.ndarray, last: np.ndarray) -> np.ndarray:
        return total[:, np.clip(last + 1, 0, size)] - total[:, np.clip(first, 0, size)]

    found = between(at + APART[0], at + APART[1]) + between(at - APART[1], at - APART[0])
    return np.any(a & (found > 0), axis=1)


def _margins(x: np.ndarray, labels: list[tuple[str, ...]], found: Mapping[str, np.ndarray]) -> np.ndarray:
    """How far each label's condition is met, (n, K), positive where it is, pairs at any distance."""
    gc = np.isin(x, (1, 2)).mean(1)
    best = {name: places.max(1) for name, places in found.items()}
    out = np.zeros((len(x), len(labels)))
    for k, (kind, *names) in enumerate(labels):
        first, *second = (best[name] for name in names) if names else (best[PIONEER],)
        other = second[0] if second else first
        out[:, k] = {
            "one": lambda first, other: first,
            "and": np.minimum,
            "or": np.maximum,
            "not": lambda first, other: np.minimum(first, -other),
            "gc": lambda first, other: np.minimum(first, 20 * (gc - 0.5)),
            "open": lambda first, other: np.sort(found[PIONEER], axis=1)[:, -COPIES:].sum(1),
        }[kind](first, other)
    return out


def _found(x: np.ndarray, labels: list[tuple[str, ...]]) -> dict[str, np.ndarray]:
    """The hits of every motif that the labels need."""
    return {name: hits(x, name) for name in sorted({name for _, *names in labels for name in names} | {PIONEER})}


def _truth(x: np.ndarray, labels: list[tuple[str, ...]], access: np.ndarray) -> np.ndarray:
    found = _found(x, labels)
    truth = _margins(x, labels, found) >= 0
    for k, (kind, *names) in enumerate(labels):
        if kind == "and":
            truth[:, k] = _near(*(found[name] for name in names))
        if kind == "open":
            truth[:, k] = access
    return truth


def scan(onehot: np.ndarray, points: int) -> np.ndarray:
    """Scores of an oracle that knows motifs and logic, but neither noise nor spacing: (n, L, 4) -> (n, K)."""
    labels = labels_of(points)
    blocks = (onehot[i : i + BLOCK].argmax(2).astype(np.int8) for i in range(0, len(onehot), BLOCK))
    return np.concatenate([_margins(x, labels, _found(x, labels)) for x in blocks])
