"""Starts an embedder inside the law of the body's own embeddings.

A projection of another scale than the body's word embeddings is fatal under alignment. So the projection of each
dimension is rescaled to have, over tokens of real data, the mean and standard deviation of that dimension over the
word table; what follows (positions, token type, norm) is the body's own.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from embedders.base import EmbeddingLaw, InputEmbedder


@torch.no_grad()
def calibrate(embedder: InputEmbedder, batches: Iterable[tuple[Tensor, Tensor | None]], law: EmbeddingLaw) -> None:
    """Rescales the embedder's projection in place to the law of the body's word embeddings.

    Args:
        embedder: the embedder.
        batches: pairs of inputs (B, ...) and lengths (B,) or None, a sample of the training set.
        law: mean and std of the word table, (D,) each.

    Raises:
        ValueError: the sample is empty, or the projection of some dimension is constant.
    """
    count = 0.0
    total = square = torch.zeros_like(law.mean, dtype=torch.float64)
    for x, length in batches:
        tokens = embedder.project(x, length)
        valid = tokens.x if tokens.mask is None else tokens.x[tokens.mask]
        flat = valid.reshape(-1, valid.shape[-1]).double()  # (tokens, D)
        count += len(flat)
        total = total + flat.sum(0)
        square = square + flat.square().sum(0)
    if count < 2:
        raise ValueError("calibration needs at least two tokens of data")
    mean = total / count
    std = (square / count - mean.square()).clamp(min=0).sqrt()
    if not bool((std > 1e-12).all()):
        raise ValueError("the projection does not vary over the data: all inputs of the sample are equal")
    scale = law.std.double() / std
    embedder.rescale(scale.float(), (law.mean.double() - mean * scale).float())
