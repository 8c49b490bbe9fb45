"""Builds embedder and predictor for a task's layout: statistics of the training set, the body's law, the modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from embedders import (
    HIDDEN,
    EmbeddingLaw,
    FieldDecoder,
    GridEmbedder,
    InputEmbedder,
    KmerEmbedder,
    PooledLinear,
    SequenceEmbedder,
    TableEmbedder,
    smallest_patch,
)
from orca.bodies import Body, Encoder, VisionBody, VisionEncoder
from orca.types import DENSE, Examples, Layout


class EmbedConfig(BaseModel):
    """How data becomes tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Embed")

    tokens: int = Field(
        default=64, ge=1, le=8192, description="Largest number of tokens of one sample (tables: columns)."
    )
    patch: int | None = Field(
        default=None, ge=1, description="Cells per token along each axis; unset takes the smallest in budget."
    )
    overlap: int = Field(default=1, ge=1, le=8, description="Kernel size in strides; 1 gives disjoint patches.")
    bins: int = Field(default=16, ge=1, le=256, description="Bins of a numeric column of a table.")
    binning: Literal["quantile", "tree"] = Field(
        default="quantile",
        description="How a numeric column is cut: into equal counts, or where a decision tree cuts it for the target.",
    )
    kmer: int | None = Field(
        default=None,
        ge=1,
        le=8,
        description="Bases of a word: DNA is embedded by the words of each patch; unset projects its bases.",
    )
    resize: int | None = Field(
        default=None, ge=1, le=2048, description="Side of the square that grids are stretched to; unset leaves them."
    )
    pretrained: bool = Field(
        default=False,
        title="Pretrained Patches",
        description="Start from the patches of a vision body, its colours repeated, instead of calibrating new ones.",
    )
    calibrate: bool = Field(default=True, description="Start the embedder inside the law of the body's own embeddings.")

    @property
    def calibrated(self) -> bool:
        """Whether fresh weights are brought into the body's law; the body's own are there already."""
        return self.calibrate and not self.pretrained

    def document(self) -> dict[str, Any]:
        """What decides the embedder; what is unset and came later is left out, so that keys of stored work hold."""
        later = {"kmer": self.kmer, "resize": self.resize, "pretrained": self.pretrained}
        unset = {name for name, value in later.items() if not value}
        return self.model_dump(exclude=unset | ({"binning"} if self.binning == "quantile" else set()))


LEAST_IN_BIN = 20  # training samples of a bin that a tree cuts, where there are enough


@dataclass(frozen=True)
class Statistics:
    """Statistics of the training set that scaling needs; computed in blocks, never of validation or test data.

    Attributes:
        x_mean, x_std: per channel of sequences and grids, (C,).
        y_mean, y_std: per channel of fields or per scalar, (C,) or (K,); empty for labels and masks.
        edges: bin edges of the numeric columns of a table, (F_numeric, bins + 1).
    """

    x_mean: Tensor
    x_std: Tensor
    y_mean: Tensor
    y_std: Tensor
    edges: Tensor


def channel_moments(x: np.ndarray, length: np.ndarray | None = None, block: int = 512) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of x (n, C, *S), over valid positions, in float64 blocks; NaN is none."""
    axes = (0, *range(2, x.ndim))
    count, total, square = np.zeros(x.shape[1]), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for start in range(0, len(x), block):
        part = np.asarray(x[start : start + block], dtype=np.float64)
        valid = None if length is None else length[start : start + block]
        if valid is None:
            there = ~np.isnan(part)
            count += there.sum(axes)
            part = np.where(there, part, 0)
        else:  # what lies behind the valid length is zero and adds nothing to the sums
            count += float(valid.sum())
        total += part.sum(axes)
        square += np.square(part).sum(axes)
    count = np.maximum(count, 1)
    mean = total / count
    variance = square / count - mean**2
    alike = variance <= np.minimum(1e-12, 1e-13 * mean**2)  # rounding of a constant; small units alone are none
    return torch.from_numpy(mean), torch.from_numpy(np.sqrt(np.where(alike, 1e-12, variance)))


def bin_edges(x: np.ndarray, y: np.ndarray, *, bins: int, binning: str, classes: bool) -> np.ndarray:
    """Edges of the bins of numeric columns (Gorishniy et al. 2022, arXiv 2203.05556, section 3.2), (F, bins + 1).

    Args:
        x: numbers, (n, F).
        y: targets, (n,) or (n, K); only a tree reads them.
        bins: of each column; one that needs fewer ends in bins of no width.
        binning: ``quantile`` for equal counts; ``tree`` for the thresholds of a decision tree that predicts the target
            from the column alone, which also cuts the tail of a column that is mostly zero.
        classes: whether the targets are classes, else numbers.
    """
    if binning == "quantile":
        return np.quantile(x, np.linspace(0, 1, bins + 1), axis=0).T.reshape(x.shape[1], bins + 1)
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    kind = DecisionTreeClassifier if classes else DecisionTreeRegressor
    edges = np.repeat(x.max(0)[:, None], bins + 1, axis=1)
    for column, place in zip(x.T, edges, strict=True):
        fewest = max(1, min(LEAST_IN_BIN, len(column) // (4 * bins)))
        tree = kind(max_leaf_nodes=max(2, bins), min_samples_leaf=fewest, random_state=0).fit(column[:, None], y).tree_
        cuts = np.sort(tree.threshold[tree.feature >= 0])[: bins - 1]
        place[: len(cuts) + 1] = [column.min(), *cuts]
    return edges


def training_statistics(train: Examples, layout: Layout, config: EmbedConfig | None = None) -> Statistics:
    """Computes the statistics that a model's scaling needs from the training set."""
    config = config or EmbedConfig()
    none = torch.zeros(0)
    edges, x_mean, x_std = none, none, none
    if layout.input == "table":
        numeric = [i for i, k in enumerate(layout.cardinalities) if k == 0]
        found = bin_edges(
            train.x[:, numeric].astype(np.float64), train.y, bins=config.bins, binning=config.binning,
            classes=layout.target == "classes",
        )  # fmt: skip
        edges = torch.from_numpy(found)
    else:
        x_mean, x_std = channel_moments(train.x, train.length)
    y_mean, y_std = none, none
    if layout.target in ("scalar", "field"):
        y_mean, y_std = channel_moments(train.y)
    return Statistics(x_mean, x_std, y_mean, y_std, edges)


def blank_statistics(layout: Layout, config: EmbedConfig) -> Statistics:
    """Statistics of the right shapes, for rebuilding a model whose state is loaded afterwards."""
    channels, outputs = torch.zeros(layout.input_shape[0]), torch.zeros(layout.target_shape[0])
    numeric = sum(k == 0 for k in layout.cardinalities)
    return Statistics(channels, channels, outputs, outputs, torch.zeros(numeric, config.bins + 1))


def embedding_law(body: Body | VisionBody) -> EmbeddingLaw:
    """What an embedder copies from a body's embedding layer."""
    parts = body.embeddings
    mean, std = parts.moments()
    return EmbeddingLaw(
        mean=mean,
        std=std,
        positions=None if parts.position_table is None else parts.position_table.detach(),
        position_grid=parts.grid,
        token_type=None if parts.types is None else parts.types.weight[0].detach(),
        norm_weight=None if parts.norm is None else parts.norm.weight.detach(),
        norm_bias=None if parts.norm is None or parts.norm.bias is None else parts.norm.bias.detach(),
        norm_eps=1e-12 if parts.norm is None else parts.norm.eps,
    )


def blank_law(like: dict[str, Any]) -> EmbeddingLaw:
    """A law of the right shapes and zero values, for rebuilding an embedder whose state is loaded afterwards."""
    width = like["width"]
    zeros = torch.zeros(width)
    return EmbeddingLaw(
        zeros,
        torch.ones(width),
        positions=torch.zeros(like["positions"], width) if like["positions"] else None,
        token_type=zeros if like["token_type"] else None,
        norm_weight=zeros if like["norm"] else None,
        norm_bias=zeros if like["norm_bias"] else None,
        norm_eps=like["norm_eps"],
    )


def law_shape(law: EmbeddingLaw) -> dict[str, Any]:
    """What :func:`blank_law` needs, as JSON."""
    return {
        "width": len(law.mean),
        "positions": 0 if law.positions is None else len(law.positions),
        "token_type": law.token_type is not None,
        "norm": law.norm_weight is not None,
        "norm_bias": law.norm_bias is not None,
        "norm_eps": law.norm_eps,
    }


def build_embedder(layout: Layout, law: EmbeddingLaw, statistics: Statistics, config: EmbedConfig) -> InputEmbedder:
    """The embedder for a layout: its patch is the given one, or the smallest that keeps the token budget."""
    if layout.input == "table":
        return TableEmbedder(law, statistics.edges, layout.cardinalities)
    scaling, size = (law, statistics.x_mean, statistics.x_std), layout.input_shape[1:]
    patch = config.patch or smallest_patch((config.resize,) * len(size) if config.resize else size, config.tokens)
    if config.kmer is not None:
        return KmerEmbedder(law, length=size[0], patch=patch, k=config.kmer)
    if layout.input == "sequence":
        return SequenceEmbedder(*scaling, length=size[0], patch=patch, overlap=config.overlap)
    return GridEmbedder(*scaling, size=(size[0], size[1]), patch=patch, overlap=config.overlap, resize=config.resize)


@torch.no_grad()
def copy_patches(embedder: InputEmbedder, body: Body | VisionBody) -> None:
    """Starts a grid's projection from a vision body's own, whose colours are repeated over the channels.

    Each channel counts for 3 / C of a colour, so that tokens keep their scale.
    """
    assert isinstance(embedder, GridEmbedder)
    assert isinstance(body, VisionBody)
    own, conv = body.embeddings.patches, embedder.conv
    channels = conv.weight.shape[1]
    colour = torch.arange(channels) % own.weight.shape[1]
    conv.weight.copy_(own.weight[:, colour] * (own.weight.shape[1] / channels))
    if own.bias is not None and conv.bias is not None:
        conv.bias.copy_(own.bias)


def build_predictor(
    layout: Layout, embedder: InputEmbedder, encoder: Encoder | VisionEncoder, statistics: Statistics
) -> nn.Module:
    """The predictor for a layout; a field or mask must have the input's number of axes."""
    width = encoder.width
    if layout.target == "scalar":
        return PooledLinear(width, layout.target_shape[0], mean=statistics.y_mean, std=statistics.y_std)
    if layout.target not in DENSE:
        return PooledLinear(width, layout.target_shape[0])
    axes = len(layout.target_shape) - 1
    assert isinstance(embedder, SequenceEmbedder | GridEmbedder)
    assert axes == len(layout.input_shape) - 1
    channels = layout.target_shape[0]
    plain = torch.zeros(channels), torch.ones(channels)  # logits have no unit
    mean, std = plain if layout.target == "mask" else (statistics.y_mean, statistics.y_std)
    # A feature that stands for many tokens has a large patch, which fewer channels keep payable.
    patch, hidden = embedder.patch * encoder.shrink, max(3, HIDDEN // encoder.shrink)
    return FieldDecoder(width, channels, patch=patch, axes=axes, mean=mean, std=std, hidden=hidden)
