"""Input embedders: raw arrays to the tokens that a transformer's encoder expects.

Each embedder standardises its input with statistics of the training set, cuts it into tokens, projects them to the
body's width, and finishes like the body's own embedding layer: positions and token type are added, then the body's
embedding norm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tokens(NamedTuple):
    """Tokens (B, T, D), the mask (B, T) of valid ones or None where all are, and the token grid, of product T."""

    x: Tensor
    mask: Tensor | None
    grid: tuple[int, ...]


class EmbeddingLaw(NamedTuple):
    """What an embedder copies from a body's own embedding layer; None where the body has no such part.

    Attributes:
        mean: mean of the word table over words, (D,).
        std: standard deviation of the word table over words, (D,).
        positions: position table, (P, D).
        token_type: the row of token type 0, (D,).
        norm_weight: weight of the embedding norm, (D,).
        norm_bias: bias of the embedding norm, (D,).
        norm_eps: its epsilon.
    """

    mean: Tensor
    std: Tensor
    positions: Tensor | None = None
    token_type: Tensor | None = None
    norm_weight: Tensor | None = None
    norm_bias: Tensor | None = None
    norm_eps: float = 1e-12


def resample_positions(table: Tensor, grid: tuple[int, ...], new_grid: tuple[int, ...]) -> Tensor:
    """Resamples a position table (prod(grid), D) laid out on ``grid`` to ``new_grid``, (bi)linearly, corners kept."""
    if grid == new_grid:
        return table
    field = table.T.reshape(1, -1, *grid)  # (1, D, *grid)
    mode = "linear" if len(grid) == 1 else "bilinear"
    return F.interpolate(field, size=new_grid, mode=mode, align_corners=True).flatten(2)[0].T


class LawTail(nn.Module):
    """The end of an embedding layer: adds positions and token type, then the norm, all copied from the body.

    A token grid longer than the body's position table gets the table resampled to its length; a grid other than the one
    that the embedder was made for gets the positions of that one, resampled.
    """

    def __init__(self, law: EmbeddingLaw, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = grid
        count, width = math.prod(grid), len(law.mean)
        self.positions = None
        if law.positions is not None:
            table = law.positions[:count] if count <= len(law.positions) else resample_positions(
                law.positions, (len(law.positions),), (count,)
            )  # fmt: skip
            self.positions = nn.Parameter(table.detach().clone())  # (T, D)
        self.token_type = None if law.token_type is None else nn.Parameter(law.token_type.detach().clone())  # (D,)
        self.norm: nn.LayerNorm | None = None
        if law.norm_weight is not None:
            self.norm = nn.LayerNorm(width, eps=law.norm_eps, bias=law.norm_bias is not None)
            with torch.no_grad():
                self.norm.weight.copy_(law.norm_weight)
                if law.norm_bias is not None:
                    self.norm.bias.copy_(law.norm_bias)

    def forward(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Projected tokens (B, T, D) on ``grid`` to complete embeddings (B, T, D)."""
        if self.positions is not None:
            shorter = len(grid) == 1 and grid[0] <= self.grid[0]
            x = x + (self.positions[: grid[0]] if shorter else resample_positions(self.positions, self.grid, grid))
        if self.token_type is not None:
            x = x + self.token_type
        return x if self.norm is None else self.norm(x)


class InputEmbedder(nn.Module):
    """Base of all embedders: ``patches`` is theirs; calibration and the end of the embedding layer are shared.

    The projection keeps its usual scale and a constant ``gain`` and ``shift`` bring its output to the body's. A
    projection with weights as small as word embeddings would be torn apart by the first steps of Adam, whose length is
    the rate's.

    Args:
        law: what to copy from the body.
        grid: token grid for an input of the layout's shape.
    """

    gain: Tensor
    shift: Tensor

    def __init__(self, law: EmbeddingLaw, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.tail = LawTail(law, grid)
        self.width = len(law.mean)
        self.register_buffer("gain", torch.ones(self.width))
        self.register_buffer("shift", torch.zeros(self.width))

    def patches(self, x: Tensor, length: Tensor | None) -> Tokens:
        """Inputs to projected patches, in the projection's own scale."""
        raise TypeError(f"{type(self).__name__} must define patches")

    def project(self, x: Tensor, length: Tensor | None) -> Tokens:
        """Inputs to projected tokens in the body's scale, before positions and norm."""
        tokens = self.patches(x, length)
        return tokens._replace(x=tokens.x * self.gain + self.shift)

    @torch.no_grad()
    def rescale(self, scale: Tensor, shift: Tensor) -> None:
        """Makes the output z of ``project`` z * scale + shift, both (D,)."""
        self.gain.mul_(scale)
        self.shift.mul_(scale).add_(shift)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tokens:
        """Inputs (B, C, *S) or (B, F), and valid lengths (B,) of sequences, to complete tokens."""
        tokens = self.project(x, length)
        return Tokens(self.tail(tokens.x, tokens.grid), tokens.mask, tokens.grid)


class Standardize(nn.Module):
    """(x - mean) / std per channel, with constants in buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, axes: int) -> None:
        super().__init__()
        shape = (-1, *[1] * axes)
        self.register_buffer("mean", mean.detach().clone().float().view(shape))
        self.register_buffer("std", std.detach().clone().float().clamp(min=1e-6).view(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Standardises x (B, C, *S)."""
        return (x - self.mean) / self.std


class SequenceEmbedder(InputEmbedder):
    """1-D patches: a convolution over (B, C, L), kernels may overlap.

    Args:
        law: what to copy from the body.
        mean: mean of each channel over the training set, (C,).
        std: standard deviation of each channel, (C,).
        length: L of the layout.
        patch: samples per token, the convolution's stride.
        overlap: kernel size in strides; 1 is disjoint patches, 2 overlaps each patch with half of its neighbours.
    """

    def __init__(
        self, law: EmbeddingLaw, mean: Tensor, std: Tensor, *, length: int, patch: int, overlap: int = 1
    ) -> None:
        super().__init__(law, (math.ceil(length / patch),))
        self.patch, self.kernel = patch, patch * overlap
        self.scale = Standardize(mean, std, 1)
        self.conv = nn.Conv1d(len(mean), len(law.mean), self.kernel, patch)

    def patches(self, x: Tensor, length: Tensor | None) -> Tokens:
        """X (B, C, L) of any length to ceil(L / patch) tokens; padding is zero, the mean of the training set."""
        total = x.shape[-1]
        count = math.ceil(total / self.patch)
        x = self.scale(x)
        mask = None
        if length is not None:
            positions = torch.arange(total, device=x.device)
            x = x * (positions < length[:, None]).unsqueeze(1)
            mask = torch.arange(count, device=x.device) < torch.ceil(length / self.patch).clamp(min=1)[:, None]
        missing = (count - 1) * self.patch + self.kernel - total
        left = (self.kernel - self.patch) // 2  # an overlapping kernel is centred on its patch
        x = F.pad(x, (left, missing - left))
        windows = x.unfold(2, self.kernel, self.patch).permute(0, 2, 1, 3).flatten(2)  # (B, T, C * kernel)
        # The convolution as one product: its tokens come out in order, a third faster, forward and back.
        return Tokens(F.linear(windows, self.conv.weight.flatten(1), self.conv.bias), mask, (count,))


class GridEmbedder(InputEmbedder):
    """2-D patches: a convolution over (B, C, H, W); the last patches of a row or column are padded where they must be.

    Args:
        law: what to copy from the body.
        mean: mean of each channel over the training set, (C,).
        std: standard deviation of each channel, (C,).
        size: (H, W) of the layout.
        patch: cells per token along each axis, the convolution's stride.
        overlap: kernel size in strides.
    """

    def __init__(
        self, law: EmbeddingLaw, mean: Tensor, std: Tensor, *, size: tuple[int, int], patch: int, overlap: int = 1
    ) -> None:
        super().__init__(law, (math.ceil(size[0] / patch), math.ceil(size[1] / patch)))
        self.patch, self.kernel = patch, patch * overlap
        self.scale = Standardize(mean, std, 2)
        self.conv = nn.Conv2d(len(mean), len(law.mean), self.kernel, patch)

    def patches(self, x: Tensor, length: Tensor | None) -> Tokens:
        """X (B, C, H, W) of any size to the tokens of its patches, row by row."""
        grid = (math.ceil(x.shape[-2] / self.patch), math.ceil(x.shape[-1] / self.patch))
        pads = []
        for count, total in zip(reversed(grid), reversed(x.shape[-2:]), strict=True):
            missing = (count - 1) * self.patch + self.kernel - total
            left = (self.kernel - self.patch) // 2
            pads += [left, missing - left]
        x = F.pad(self.scale(x), pads)
        return Tokens(self.conv(x).flatten(2).transpose(1, 2), None, grid)


def smallest_patch(size: tuple[int, ...], tokens: int) -> int:
    """The smallest patch, equal along all axes, that cuts an input of ``size`` into at most ``tokens`` tokens."""
    patch = max(1, int((math.prod(size) / tokens) ** (1 / len(size))))
    while math.prod(math.ceil(cells / patch) for cells in size) > tokens:
        patch += 1
    return patch


class TableEmbedder(InputEmbedder):
    """One token per column: numeric ones by piecewise linear encoding, categorical ones by a table.

    The encoding of a number is its position in each of the column's quantile bins, between 0 and 1 (Gorishniy et al.
    2022, arXiv 2203.05556, section 3.2), which makes it robust to skewed columns and outliers.

    Args:
        law: what to copy from the body.
        edges: bin edges of the numeric columns, (F_numeric, n_bins + 1), increasing.
        cardinalities: number of categories of each column, 0 for a numeric one, (F,).
    """

    edges: Tensor
    numeric: Tensor
    categorical: Tensor
    last: Tensor
    starts: Tensor

    def __init__(self, law: EmbeddingLaw, edges: Tensor, cardinalities: tuple[int, ...]) -> None:
        super().__init__(law, (len(cardinalities),))
        width = len(law.mean)
        numeric = [i for i, k in enumerate(cardinalities) if k == 0]
        categorical = [i for i, k in enumerate(cardinalities) if k > 0]
        sizes = [cardinalities[i] + 1 for i in categorical]  # one row more, for a category that training lacks
        self.register_buffer("edges", edges.detach().clone().float())
        self.register_buffer("numeric", torch.tensor(numeric, dtype=torch.long), persistent=False)
        self.register_buffer("categorical", torch.tensor(categorical, dtype=torch.long), persistent=False)
        self.register_buffer("last", torch.tensor(sizes, dtype=torch.long) - 1, persistent=False)
        starts = torch.tensor([0, *sizes], dtype=torch.long).cumsum(0)[:-1]
        self.register_buffer("starts", starts[: len(sizes)], persistent=False)
        self.weight = nn.Parameter(torch.randn(len(numeric), edges.shape[1] - 1, width) if numeric else torch.zeros(0))
        self.table = nn.Parameter(torch.randn(sum(sizes), width))
        self.bias = nn.Parameter(torch.zeros(len(cardinalities), width))

    def patches(self, x: Tensor, length: Tensor | None) -> Tokens:
        """X (B, F) to one token per column."""
        tokens = x.new_zeros(len(x), x.shape[1], self.bias.shape[1])
        if len(self.numeric):
            values = x[:, self.numeric].unsqueeze(-1)  # (B, Fn, 1)
            low, high = self.edges[:, :-1], self.edges[:, 1:]
            bins = ((values - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)  # (B, Fn, bins)
            tokens = tokens.index_copy(
                1, self.numeric, torch.einsum("bfk,fkd->bfd", bins, self.weight).to(tokens.dtype)
            )
        if len(self.categorical):
            codes = x[:, self.categorical].long()
            codes = torch.where((codes >= 0) & (codes < self.last), codes, self.last)
            tokens = tokens.index_copy(1, self.categorical, self.table[codes + self.starts].to(tokens.dtype))
        return Tokens(tokens + self.bias, None, (x.shape[1],))
