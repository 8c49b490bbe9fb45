"""A pretrained language transformer as two modules: its embedding layer and its encoder.

The embedding layer serves the source features and the calibration of an embedder; the encoder, which is the blocks and
the final norm, becomes part of the adapted model. ``model(inputs_embeds=...)`` of Hugging Face would add positions and
a norm a second time to complete embeddings, so the blocks are entered directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from orca.bodies.specs import FAMILIES, Family


@dataclass(frozen=True)
class LayerGroup:
    """A named part of a network, in the order of the computation; the unit that methods and learning rates choose."""

    name: str
    modules: tuple[nn.Module, ...]

    def parameters(self) -> Iterator[nn.Parameter]:
        """Every parameter of the group."""
        for module in self.modules:
            yield from module.parameters()


class Embeddings(nn.Module):
    """A body's own embedding layer: words, positions, token type and norm, each None where the family has none."""

    grid: tuple[int, ...] | None = None  # positions are in a line

    def __init__(self, model: nn.Module, family: Family) -> None:
        super().__init__()
        self.words: nn.Embedding = attrgetter(family.words)(model)
        self.positions: nn.Embedding | None = attrgetter(family.positions)(model) if family.positions else None
        self.types: nn.Embedding | None = attrgetter(family.types)(model) if family.types else None
        self.norm: nn.LayerNorm | None = attrgetter(family.norm)(model) if family.norm else None
        padding = self.positions.padding_idx if self.positions is not None else None
        self.first_position = 0 if padding is None else padding + 1  # RoBERTa counts from behind its padding row

    @property
    def position_table(self) -> Tensor | None:
        """The rows that stand for positions 0, 1, ...: (P, D)."""
        return None if self.positions is None else self.positions.weight[self.first_position :]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each dimension over the word table, (D,) each."""
        words = self.words.weight.detach()
        return words.mean(0), words.std(0)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeds token ids (B, T) with right padding, mask (B, T) true where valid, to (B, T, D)."""
        x = self.words(ids)
        if self.types is not None:
            x = x + self.types.weight[0]
        if self.positions is not None:
            x = x + self.positions((mask.long().cumsum(1) - 1).clamp(min=0) + self.first_position)
        return x if self.norm is None else self.norm(x)


class Encoder(nn.Module):
    """The transformer's blocks and final norm: tokens (B, T, D) to features (B, T, D).

    Attributes:
        width: D.
        shrink: tokens that a feature stands for along each axis, one in all families of language.
    """

    shrink = 1

    def __init__(self, model: nn.Module, family: Family, *, causal: bool | None = None) -> None:
        super().__init__()
        self.config: Any = model.config
        self.width: int = attrgetter(family.words)(model).embedding_dim
        self.causal = family.causal if causal is None else causal
        self.blocks: nn.ModuleList = attrgetter(family.blocks)(model)
        self.norm: nn.Module | None = attrgetter(family.final_norm)(model) if family.final_norm else None
        self.rotary: nn.Module | None = attrgetter(family.rotary)(model) if family.rotary else None

    def grid(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The grid of the features of tokens on a grid: the same."""
        return tokens

    def forward(self, tokens: Tensor, mask: Tensor | None = None, grid: tuple[int, ...] | None = None) -> Tensor:
        """Runs the blocks; ``mask`` (B, T) is true where a token is valid. Nothing is added to the tokens.

        Language has no use for the ``grid`` on which tokens lie.
        """
        keys = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if mask is None else mask.bool()
        if self.rotary is not None:
            return self._rotary_forward(tokens, keys)
        attend = keys[:, None, None, :].expand(-1, 1, tokens.shape[1], -1)  # (B, 1, T, T), true where allowed
        if self.causal:
            attend = attend & torch.ones(attend.shape[-2:], dtype=torch.bool, device=tokens.device).tril()
        elif mask is None and self.config.model_type != "gpt2":  # GPT-2's blocks read no mask as a causal one
            attend = None
        for block in self.blocks:
            tokens = block(tokens, attention_mask=attend)
        return tokens if self.norm is None else self.norm(tokens)

    def _rotary_forward(self, tokens: Tensor, keys: Tensor) -> Tensor:
        from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

        given = {"config": self.config, "inputs_embeds": tokens, "attention_mask": keys}
        masks = {
            "full_attention": create_bidirectional_mask(**given),
            "sliding_attention": create_bidirectional_sliding_window_mask(**given),
        }
        rows = torch.arange(tokens.shape[1], device=tokens.device)[None]
        turns = {kind: self.rotary(tokens, rows, kind) for kind in set(self.config.layer_types)}  # type: ignore[misc]
        for block in self.blocks:
            kind = str(block.attention_type)
            tokens = block(tokens, attention_mask=masks[kind], position_embeddings=turns[kind])
        return tokens if self.norm is None else self.norm(tokens)

    def layer_groups(self) -> list[LayerGroup]:
        """Ordered, complete partition: block.0 .. block.n, then norm where there is one."""
        groups = [LayerGroup(f"block.{i}", (block,)) for i, block in enumerate(self.blocks)]
        return groups if self.norm is None else [*groups, LayerGroup("norm", (self.norm,))]


class Body(nn.Module):
    """A language transformer as embedding layer, encoder and tokenizer.

    Attributes:
        embeddings: the body's own embedding layer; not part of an adapted model.
        encoder: the blocks and the final norm.
        tokenizer: the Hugging Face tokenizer, or None where the folder has none.
        width: D, the width of a token.
        images: false; it reads text.
    """

    images = False

    def __init__(self, model: nn.Module, tokenizer: Any = None, *, causal: bool | None = None) -> None:
        super().__init__()
        family = FAMILIES[model.config.model_type]  # type: ignore[union-attr,index]
        self.embeddings = Embeddings(model, family)
        self.encoder = Encoder(model, family, causal=causal)
        self.tokenizer = tokenizer
        self.width = self.encoder.width

    def encode(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens (B, T, D), complete embeddings, through the transformer's blocks: features (B, T, D)."""
        return self.encoder(tokens, mask)

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (B, T) through the body's own embedding layer: (B, T, D)."""
        return self.embeddings(ids, mask)

    def layer_groups(self) -> list[LayerGroup]:
        """Ordered, complete partition: embeddings, block.0 .. block.n, norm."""
        return [LayerGroup("embeddings", (self.embeddings,)), *self.encoder.layer_groups()]
