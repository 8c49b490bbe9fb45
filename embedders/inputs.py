"""Input embedders: raw arrays to the tokens that a transformer's encoder expects."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedders.base import EmbeddingLaw, InputEmbedder, Tokens, valid_tokens


class Standardize(nn.Module):
    """(x - mean) / std per channel, with constants in buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, axes: int) -> None:
        super().__init__()
        shape = (-1, *[1] * axes)
        self.register_buffer("mean", mean.detach().clone().float().view(shape))
        self.register_buffer("std", std.detach().clone().float().clamp(min=torch.finfo(torch.float32).tiny).view(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Standardises x (B, C, *S)."""
        return (x - self.mean) / self.std


def _convolved(windows: Tensor, conv: nn.Conv1d | nn.Conv2d) -> Tensor:
    """A convolution's answer (B, T, D) to its windows (B, T, C * cells) as one product.

    The tokens come out in order, a third faster forward and back, of grids in bfloat16 on a CPU four times.
    """
    return F.linear(windows, conv.weight.flatten(1), conv.bias)


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
            mask = valid_tokens(length, self.patch, count)
        missing = (count - 1) * self.patch + self.kernel - total
        left = (self.kernel - self.patch) // 2  # an overlapping kernel is centred on its patch
        x = F.pad(x, (left, missing - left))
        windows = x.unfold(2, self.kernel, self.patch)  # (B, C, T, kernel)
        return Tokens(_convolved(windows.permute(0, 2, 1, 3).flatten(2), self.conv), mask, (count,))


class KmerEmbedder(InputEmbedder):
    """DNA by its words: a token is the mean over the k-mers that begin in its patch, each a row of a table.

    Words overlap, as in DNABERT (Ji et al. 2021, doi 10.1093/bioinformatics/btab083). One that holds an ambiguous base
    does not count; a patch without any is zero.

    Args:
        law: what to copy from the body.
        length: L of the layout.
        patch: bases per token.
        k: bases of a word.
    """

    def __init__(self, law: EmbeddingLaw, *, length: int, patch: int, k: int) -> None:
        super().__init__(law, (math.ceil(length / patch),))
        self.patch, self.k = patch, k
        self.table = nn.Parameter(torch.randn(4**k, len(law.mean)))

    def patches(self, x: Tensor, length: Tensor | None) -> Tokens:
        """One-hot X (B, 4, L) of any length to ceil(L / patch) tokens."""
        total = x.shape[-1]
        count = math.ceil(total / self.patch)
        largest, base = x.max(1)  # (B, L) each
        known = largest > 0.5
        mask = None
        if length is not None:
            known &= torch.arange(total, device=x.device) < length[:, None]
            mask = valid_tokens(length, self.patch, count)
        if total < self.k:  # no word fits in
            base, known = F.pad(base, (0, self.k - total)), F.pad(known, (0, self.k - total))
        places = 4 ** torch.arange(self.k - 1, -1, -1, device=x.device)
        word = (base.unfold(1, self.k, 1) * places).sum(2)  # (B, L - k + 1)
        counts = known.unfold(1, self.k, 1).all(2)
        missing = count * self.patch - word.shape[1]
        word, counts = F.pad(word, (0, missing)), F.pad(counts, (0, missing))
        bags = word.view(-1, self.patch)
        weight = counts.view_as(bags).to(self.table.dtype)
        tokens = F.embedding_bag(bags, self.table, mode="sum", per_sample_weights=weight)
        tokens = tokens / weight.sum(1, keepdim=True).clamp(min=1)
        return Tokens(tokens.view(len(x), count, -1), mask, (count,))


class GridEmbedder(InputEmbedder):
    """2-D patches: a convolution over (B, C, H, W); the last patches of a row or column are padded where they must be.

    Args:
        law: what to copy from the body.
        mean: mean of each channel over the training set, (C,).
        std: standard deviation of each channel, (C,).
        size: (H, W) of the layout.
        patch: cells per token along each axis, the convolution's stride.
        overlap: kernel size in strides.
        resize: side of the square that inputs are stretched to, bilinearly, before they are cut; None leaves them.
    """

    def __init__(
        self,
        law: EmbeddingLaw,
        mean: Tensor,
        std: Tensor,
        *,
        size: tuple[int, int],
        patch: int,
        overlap: int = 1,
        resize: int | None = None,
    ) -> None:  # noqa: PLR0913
        height, width = (resize, resize) if resize else size
        super().__init__(law, (math.ceil(height / patch), math.ceil(width / patch)))
        self.patch, self.kernel, self.resize = patch, patch * overlap, resize
        self.scale = Standardize(mean, std, 2)
        self.conv = nn.Conv2d(len(mean), len(law.mean), self.kernel, patch)

    def covered(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The cells along each axis that the tokens of an input of ``size`` cover, but for padding."""
        return (self.resize, self.resize) if self.resize else size

    def patches(self, x: Tensor, length: Tensor | None) -> Tokens:
        """X (B, C, H, W) of any size to the tokens of its patches, row by row."""
        if self.resize:
            x = F.interpolate(x, self.covered(()), mode="bilinear", align_corners=False)
        grid = (math.ceil(x.shape[-2] / self.patch), math.ceil(x.shape[-1] / self.patch))
        pads = []
        for count, total in zip(reversed(grid), reversed(x.shape[-2:]), strict=True):
            missing = (count - 1) * self.patch + self.kernel - total
            left = (self.kernel - self.patch) // 2
            pads += [left, missing - left]
        x = F.pad(self.scale(x), pads)
        windows = x.unfold(2, self.kernel, self.patch).unfold(3, self.kernel, self.patch)  # (B, C, *grid, k, k)
        return Tokens(_convolved(windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2), self.conv), None, grid)


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
            width = torch.where(high > low, high - low, torch.finfo(low.dtype).tiny)  # bins of no width are steps
            bins = ((values - low) / width).clamp(0, 1)  # (B, Fn, bins)
            tokens = tokens.index_copy(
                1, self.numeric, torch.einsum("bfk,fkd->bfd", bins, self.weight).to(tokens.dtype)
            )
        if len(self.categorical):
            codes = x[:, self.categorical].long()
            codes = torch.where((codes >= 0) & (codes < self.last), codes, self.last)
            tokens = tokens.index_copy(1, self.categorical, self.table[codes + self.starts].to(tokens.dtype))
        return Tokens(tokens + self.bias, None, (x.shape[1],))
