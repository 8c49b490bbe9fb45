"""What all input embedders share: tokens, and the end of the body's own embedding layer.

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
        position_grid: the grid on which positions lie, row by row; None for positions in a line.
        token_type: the row of token type 0, (D,).
        norm_weight: weight of the embedding norm, (D,).
        norm_bias: bias of the embedding norm, (D,).
        norm_eps: its epsilon.
    """

    mean: Tensor
    std: Tensor
    positions: Tensor | None = None
    position_grid: tuple[int, ...] | None = None
    token_type: Tensor | None = None
    norm_weight: Tensor | None = None
    norm_bias: Tensor | None = None
    norm_eps: float = 1e-12


def valid_tokens(length: Tensor, patch: int, count: int) -> Tensor:
    """The mask (B, count) of tokens whose patch begins inside of the lengths (B,); the first always is valid."""
    return torch.arange(count, device=length.device) < torch.ceil(length / patch).clamp(min=1)[:, None]


def resample_positions(table: Tensor, grid: tuple[int, ...], new_grid: tuple[int, ...]) -> Tensor:
    """Resamples a position table (prod(grid), D) laid out on ``grid`` to ``new_grid``, (bi)linearly, corners kept."""
    if grid == new_grid:
        return table
    field = table.T.reshape(1, -1, *grid)  # (1, D, *grid)
    mode = "linear" if len(grid) == 1 else "bilinear"
    return F.interpolate(field, size=new_grid, mode=mode, align_corners=True).flatten(2)[0].T


class LawTail(nn.Module):
    """The end of an embedding layer: adds positions and token type, then the norm, all copied from the body.

    A token grid longer than the body's position table, or other than its grid, gets the table resampled; a grid other
    than the one that the embedder was made for gets the positions of that one, resampled. A row that is longer than
    that gets those of its own length, whatever else is in the batch.
    """

    def __init__(self, law: EmbeddingLaw, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = grid
        count, width = math.prod(grid), len(law.mean)
        self.positions = None
        if law.positions is not None:
            if law.position_grid is not None:
                table = resample_positions(law.positions, law.position_grid, grid)
            elif count <= len(law.positions):
                table = law.positions[:count]
            else:
                table = resample_positions(law.positions, (len(law.positions),), (count,))
            self.positions = nn.Parameter(table.detach().clone())  # (T, D)
        self.token_type = None if law.token_type is None else nn.Parameter(law.token_type.detach().clone())  # (D,)
        self.norm: nn.LayerNorm | None = None
        if law.norm_weight is not None:
            self.norm = nn.LayerNorm(width, eps=law.norm_eps, bias=law.norm_bias is not None)
            with torch.no_grad():
                self.norm.weight.copy_(law.norm_weight)
                if law.norm_bias is not None:
                    self.norm.bias.copy_(law.norm_bias)

    def forward(self, x: Tensor, grid: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
        """Projected tokens (B, T, D) on ``grid``, with the mask (B, T) of valid ones, to complete embeddings."""
        if self.positions is not None:
            x = x + self._at(self.positions, grid, mask)
        if self.token_type is not None:
            x = x + self.token_type
        return x if self.norm is None else self.norm(x)

    def _at(self, positions: Tensor, grid: tuple[int, ...], mask: Tensor | None) -> Tensor:
        """Positions (T, D), or (B, T, D) where rows of a line longer than the embedder's end at different places."""
        if len(grid) == 1 and grid[0] <= self.grid[0]:
            return positions[: grid[0]]
        if len(grid) != 1 or mask is None:
            return resample_positions(positions, self.grid, grid)
        counts = mask.sum(1).tolist()
        rows = {count: F.pad(self._at(positions, (count,), None), (0, 0, 0, grid[0] - count)) for count in set(counts)}
        return torch.stack([rows[count] for count in counts])


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

    def covered(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The cells along each axis that the tokens of an input of ``size`` cover, but for padding."""
        return size

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
        return tokens._replace(x=self.tail(tokens.x, tokens.grid, tokens.mask))
