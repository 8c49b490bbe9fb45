"""Input embedders and output predictors: torch only, plain numbers in, modules out."""

from embedders.base import EmbeddingLaw, InputEmbedder, Tokens
from embedders.calibrate import calibrate
from embedders.inputs import (
    GridEmbedder,
    KmerEmbedder,
    SequenceEmbedder,
    TableEmbedder,
    smallest_patch,
)
from embedders.outputs import HIDDEN, FieldDecoder, PooledLinear, pool

__all__ = [
    "HIDDEN",
    "EmbeddingLaw",
    "FieldDecoder",
    "GridEmbedder",
    "InputEmbedder",
    "KmerEmbedder",
    "PooledLinear",
    "SequenceEmbedder",
    "TableEmbedder",
    "Tokens",
    "calibrate",
    "pool",
    "smallest_patch",
]
