"""Input embedders and output predictors: torch only, plain numbers in, modules out."""

from embedders.calibrate import calibrate
from embedders.inputs import (
    EmbeddingLaw,
    GridEmbedder,
    InputEmbedder,
    SequenceEmbedder,
    TableEmbedder,
    Tokens,
    smallest_patch,
)
from embedders.outputs import FieldDecoder, PooledLinear, pool

__all__ = [
    "EmbeddingLaw",
    "FieldDecoder",
    "GridEmbedder",
    "InputEmbedder",
    "PooledLinear",
    "SequenceEmbedder",
    "TableEmbedder",
    "Tokens",
    "calibrate",
    "pool",
    "smallest_patch",
]
