"""The letters of DNA."""

from __future__ import annotations

import numpy as np

BASES = "ACGT"
IUPAC = {
    **{base: base for base in BASES},
    **{"U": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"},
    **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT"},
}


def letter_table() -> np.ndarray:
    """The one-hot row of each ASCII code, (128, 4); zero for what stands for no base."""
    table = np.zeros((128, 4), np.float32)
    for letter, bases in IUPAC.items():
        row = [1 / len(bases) if base in bases else 0.0 for base in BASES]
        table[ord(letter)] = table[ord(letter.lower())] = row
    return table
