"""A pretrained vision transformer as two modules, like a language transformer's: patch embeddings and an encoder.

Its tokens lie on a grid. ViT keeps the grid; Swin halves both of its sides after each stage but the last, so that a
feature stands for a block of tokens.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orca.bodies.body import Encoder, LayerGroup

Grid = tuple[int, ...]


class PixelLaw(NamedTuple):
    """Mean and standard deviation of each colour, from 0 to 1, by which a body's images are normalised."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of ImageNet, which nearly all take
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


def pixel_law(folder: Path) -> PixelLaw:
    """What ``preprocessor_config.json`` of a folder says, that of ImageNet where it says nothing."""
    file = folder / "preprocessor_config.json"
    said = json.loads(file.read_text()) if file.is_file() else {}
    plain = PixelLaw()
    return PixelLaw(tuple(said.get("image_mean", plain.mean)), tuple(said.get("image_std", plain.std)))


class PatchEmbeddings(nn.Module):
    """A vision body's own embedding layer: patches, positions and norm, the last two None where the family has none."""

    types = None

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        own: Any = model.embeddings
        self.patches: nn.Conv2d = own.patch_embeddings.projection
        self.norm: nn.LayerNorm | None = getattr(own, "norm", None)
        size = model.config.image_size  # type: ignore[union-attr]
        self.image_size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)  # type: ignore[arg-type]
        self.patch: int = self.patches.stride[0]
        self.grid: Grid = tuple(cells // self.patch for cells in self.image_size)
        table = own.position_embeddings  # (1, P, D), that of a class token first where there is one
        self.positions = None if table is None else nn.Parameter(table.detach()[0, -math.prod(self.grid) :].clone())

    @property
    def position_table(self) -> Tensor | None:
        """The positions of ``grid``, row by row: (P, D)."""
        return self.positions

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each dimension over patches of white noise, (D,) each."""
        weight, bias = self.patches.weight.detach(), self.patches.bias
        spread = weight.flatten(1).norm(dim=1)
        return torch.zeros_like(spread) if bias is None else bias.detach(), spread

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) of the body's own size to (B, T, D)."""
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.positions is None else x + self.positions


class VisionEncoder(nn.Module):
    """What the encoders of vision have in common.

    Attributes:
        width: of a feature.
        shrink: tokens that a feature stands for along each axis.
    """

    causal = False
    width: int
    shrink = 1

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.config: Any = model.config
        self.norm: nn.Module = model.layernorm  # type: ignore[assignment]

    def grid(self, tokens: Grid) -> Grid:
        """The grid of the features of tokens on a grid."""
        return tuple(math.ceil(cells / self.shrink) for cells in tokens)

    def parts(self) -> list[LayerGroup]:
        """All that comes before the norm, in order."""
        raise TypeError(f"{type(self).__name__} must define parts")

    def layer_groups(self) -> list[LayerGroup]:
        """Ordered, complete partition: what the family has, block.0 .. block.n, norm."""
        return [*self.parts(), LayerGroup("norm", (self.norm,))]


class _First(nn.Module):
    """A class token with its position, (1, 1, D)."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())


class ViTEncoder(VisionEncoder):
    """ViT (Dosovitskiy et al. 2021, arXiv 2010.11929). Its class token goes along, and is no feature."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        own: Any = model.embeddings
        self.first = _First(own.cls_token + own.position_embeddings[:, :1])
        self.blocks: nn.ModuleList = model.layers  # type: ignore[assignment]
        self.width = self.config.hidden_size

    def parts(self) -> list[LayerGroup]:
        """The class token, then the blocks."""
        blocks = [LayerGroup(f"block.{i}", (block,)) for i, block in enumerate(self.blocks)]
        return [LayerGroup("class", (self.first,)), *blocks]

    def forward(self, tokens: Tensor, mask: Tensor | None = None, grid: Grid | None = None) -> Tensor:
        """Tokens (B, T, D), all of them valid, to features (B, T, D)."""
        x = torch.cat([self.first.value.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 1:]


class SwinEncoder(VisionEncoder):
    """Swin (Liu et al. 2021, arXiv 2103.14030): attention in windows, shifted in every second block."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.stages: nn.ModuleList = model.encoder.layers  # type: ignore[union-attr,assignment]
        self.shrink = 2 ** (len(self.stages) - 1)
        self.width = self.config.embed_dim * self.shrink

    def parts(self) -> list[LayerGroup]:
        """The blocks; the merging of patches after a stage belongs to the stage's last block."""
        groups: list[LayerGroup] = []
        for stage in self.stages:
            *inner, last = stage.blocks  # type: ignore[misc]
            ends = (last,) if stage.downsample is None else (last, stage.downsample)
            for modules in [*((block,) for block in inner), ends]:
                groups.append(LayerGroup(f"block.{len(groups)}", modules))  # type: ignore[arg-type]
        return groups

    def forward(self, tokens: Tensor, mask: Tensor | None = None, grid: Grid | None = None) -> Tensor:
        """Tokens (B, H * W, D), row by row on ``grid`` (H, W), a square where it is not given, to features.

        Windows are set at each pass: transformers would shrink them for good at the first small grid, and their
        position bias does not fit smaller ones.
        """
        side = math.isqrt(tokens.shape[1])
        height, width = grid or (side, side)
        window = self.config.window_size
        for stage in self.stages:
            for i, block in enumerate(stage.blocks):  # type: ignore[arg-type]
                block.window_size = window
                block.shift_size = window // 2 if i % 2 and min(height, width) > window else 0
                tokens, _ = block(tokens, (height, width), always_partition=True)
            if stage.downsample is not None:
                tokens = stage.downsample(tokens, (height, width))  # type: ignore[operator]
                height, width = (height + 1) // 2, (width + 1) // 2
        return self.norm(tokens)


AnyEncoder = Encoder | VisionEncoder
ENCODERS = {"swin": SwinEncoder, "vit": ViTEncoder}


class VisionBody(nn.Module):
    """A vision transformer as patch embeddings and encoder.

    Attributes:
        embeddings: the body's own embedding layer; not part of an adapted model.
        encoder: the blocks and the final norm.
        tokenizer: None; it reads no text.
        images: true; it reads images.
        width: D, the width of a token.
        law: how its images are normalised.
    """

    tokenizer = None
    images = True

    def __init__(self, model: nn.Module, law: PixelLaw | None = None) -> None:
        super().__init__()
        self.embeddings = PatchEmbeddings(model)
        self.encoder = ENCODERS[model.config.model_type](model)  # type: ignore[union-attr,index]
        self.width: int = self.embeddings.patches.out_channels
        self.law = law or PixelLaw()

    def encode(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens (B, T, D), complete embeddings on the body's own grid, to the encoder's features."""
        return self.encoder(tokens, mask, self.embeddings.grid)

    def pixels(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), 0 to 255, stretched to the body's size and normalised by its law."""
        x = F.interpolate(images.float() / 255, self.embeddings.image_size, mode="bilinear", align_corners=False)
        mean, std = (torch.tensor(values, device=x.device).view(-1, 1, 1) for values in self.law)
        return (x - mean) / std

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), 0 to 255, through the body's own embedding layer: (B, T, D)."""
        return self.embeddings(self.pixels(images))

    def layer_groups(self) -> list[LayerGroup]:
        """Ordered, complete partition: embeddings, then the encoder's."""
        return [LayerGroup("embeddings", (self.embeddings,)), *self.encoder.layer_groups()]
