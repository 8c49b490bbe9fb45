"""Output predictors: the body's features to the task's answer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 48  # channels of a field between the convolutions of its decoder


def pool(features: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of features (B, T, D) over the valid tokens: (B, D)."""
    if mask is None:
        return features.mean(1)
    weight = mask.to(features.dtype).unsqueeze(-1)
    return (features * weight).sum(1) / weight.sum(1)


class PooledLinear(nn.Module):
    """Mean over tokens, then linear: classes, labels or scalars.

    Args:
        width: D.
        outputs: K.
        mean: offset of the targets, (K,), zero for logits.
        std: scale of the targets, (K,), one for logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, outputs: int, *, mean: Tensor | None = None, std: Tensor | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.register_buffer("mean", torch.zeros(outputs) if mean is None else mean.detach().clone().float())
        self.register_buffer("std", torch.ones(outputs) if std is None else std.detach().clone().float())

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """Features (B, T, D) to (B, K)."""
        return self.linear(pool(features, mask)) * self.std + self.mean


class FieldDecoder(nn.Module):
    """Features on a token grid to a field of exactly the wanted shape, 1-D or 2-D.

    Each token becomes the ``hidden`` channels of its patch; two convolutions join the patches; what a padded last
    patch has too much is cut off, and a target of another resolution than the input is reached by interpolation.

    Args:
        width: D.
        channels: C of the target.
        patch: cells of the input per token, along each axis.
        axes: 1 or 2.
        mean: mean of each channel of the targets, (C,).
        std: standard deviation of each channel, (C,).
        hidden: channels between the convolutions.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, width: int, channels: int, *, patch: int, axes: int, mean: Tensor, std: Tensor, hidden: int = HIDDEN
    ) -> None:  # noqa: PLR0913
        super().__init__()
        self.patch, self.axes = patch, axes
        convolution = nn.Conv1d if axes == 1 else nn.Conv2d
        self.expand = nn.Linear(width, hidden * patch**axes)
        self.join = nn.Sequential(
            nn.GELU(),
            convolution(hidden, hidden, 3, padding=1),
            nn.GELU(),
            convolution(hidden, channels, 3, padding=1),
        )
        shape = (-1, *[1] * axes)
        self.register_buffer("mean", mean.detach().clone().float().view(shape))
        self.register_buffer("std", std.detach().clone().float().view(shape))

    def forward(
        self, features: Tensor, grid: tuple[int, ...], input_size: tuple[int, ...], size: tuple[int, ...]
    ) -> Tensor:
        """Features (B, T, D) on ``grid``, made from inputs of ``input_size``, to the field (B, C, *size)."""
        assert math.prod(grid) == features.shape[1]
        x = self.expand(features).transpose(1, 2).unflatten(2, grid)  # (B, hidden * patch^axes, *grid)
        if self.axes == 1:
            x = x.unflatten(1, (-1, self.patch)).permute(0, 1, 3, 2).flatten(2)  # (B, hidden, T * patch)
        else:
            x = F.pixel_shuffle(x, self.patch)  # (B, hidden, H, W)
        x = self.join(x)
        for axis, cells in enumerate(input_size):
            x = x.narrow(2 + axis, 0, cells)
        if tuple(x.shape[2:]) != tuple(size):
            x = F.interpolate(x, size=size, mode="linear" if self.axes == 1 else "bilinear", align_corners=True)
        return x * self.std + self.mean
