"""A pretrained language transformer as two modules: its embedding layer and its encoder.

The embedding layer serves the source features and the calibration of an embedder; the encoder, which is the blocks and
the final norm, becomes part of the adapted model. ``model(inputs_embeds=...)`` of Hugging Face would add positions and
a norm a second time to complete embeddings, so the blocks are entered directly.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from orca.bodies.specs import FAMILIES, BodyConfig, Family
from orca.bodies.weights import BodyFiles, locate_body
from orca.errors import InputError


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

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeds token ids (B, T) with right padding, mask (B, T) true where valid, to (B, T, D)."""
        x = self.words(ids)
        if self.types is not None:
            x = x + self.types.weight[0]
        if self.positions is not None:
            x = x + self.positions((mask.long().cumsum(1) - 1).clamp(min=0) + self.first_position)
        return x if self.norm is None else self.norm(x)


class Encoder(nn.Module):
    """The transformer's blocks and final norm: tokens (B, T, D) to features (B, T, D)."""

    def __init__(self, model: nn.Module, family: Family, *, causal: bool | None = None) -> None:
        super().__init__()
        self.config: Any = model.config
        self.causal = family.causal if causal is None else causal
        self.blocks: nn.ModuleList = attrgetter(family.blocks)(model)
        self.norm: nn.Module | None = attrgetter(family.final_norm)(model) if family.final_norm else None
        self.rotary: nn.Module | None = attrgetter(family.rotary)(model) if family.rotary else None

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Runs the blocks; ``mask`` (B, T) is true where a token is valid. Nothing is added to the tokens."""
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
    """

    def __init__(self, model: nn.Module, tokenizer: Any = None, *, causal: bool | None = None) -> None:
        super().__init__()
        family = FAMILIES[model.config.model_type]  # type: ignore[union-attr,index]
        self.embeddings = Embeddings(model, family)
        self.encoder = Encoder(model, family, causal=causal)
        self.tokenizer = tokenizer
        self.width: int = self.embeddings.words.embedding_dim

    def encode(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens (B, T, D), complete embeddings, through the transformer's blocks: features (B, T, D)."""
        return self.encoder(tokens, mask)

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (B, T) through the body's own embedding layer: (B, T, D)."""
        return self.embeddings(ids, mask)

    def layer_groups(self) -> list[LayerGroup]:
        """Ordered, complete partition: embeddings, block.0 .. block.n, norm."""
        return [LayerGroup("embeddings", (self.embeddings,)), *self.encoder.layer_groups()]


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keeps the loading report and bars of transformers off the user's screen."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def build_encoder(hf_config: dict[str, Any], *, causal: bool | None = None) -> Encoder:
    """An encoder of random weights from a Hugging Face configuration, for loading a saved model into."""
    return Body(_random_model(hf_config), causal=causal).encoder


def _random_model(hf_config: dict[str, Any]) -> nn.Module:
    from transformers import AutoConfig, AutoModel

    values = dict(hf_config)
    return AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values), attn_implementation="sdpa")


def _with_dropout(hf_config: dict[str, Any], dropout: float | None) -> dict[str, Any]:
    """Sets every dropout rate of a configuration, whatever a family calls it."""
    rates = {k for k in hf_config if k.endswith(("dropout", "dropout_prob", "_pdrop")) and k != "classifier_dropout"}
    return hf_config if dropout is None else {**hf_config, **dict.fromkeys(rates, dropout)}


def load_body(
    config: BodyConfig | None = None,
    *,
    files: BodyFiles | None = None,
    random_seed: int | None = None,
    online: bool = False,
) -> Body:
    """Loads a body, in evaluation mode.

    Args:
        config: which body; the offline default if None.
        files: the located files, found by :func:`locate_body` if None.
        random_seed: if given, random weights of the same architecture, drawn from this seed.
        online: whether the hub may be asked.

    Raises:
        InputError: the weights cannot be had, or do not belong to the architecture.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = config or BodyConfig()
    files = files or locate_body(config, online=online)
    raw = json.loads((files.path / "config.json").read_text())
    hf_config = AutoConfig.for_model(raw.pop("model_type"), **_with_dropout(raw, config.dropout))
    hf_config.dtype = torch.float32
    family = FAMILIES[hf_config.model_type]
    no_pooler = {"add_pooling_layer": False} if family.pooler else {}
    with _quiet_transformers():
        if random_seed is not None:
            with torch.random.fork_rng():
                torch.manual_seed(random_seed)
                model = AutoModel.from_config(hf_config, attn_implementation="sdpa", **no_pooler)
        else:
            model, report = AutoModel.from_pretrained(
                files.path, config=hf_config, attn_implementation="sdpa", local_files_only=True, use_safetensors=True,
                output_loading_info=True, ignore_mismatched_sizes=True, **no_pooler,
            )  # fmt: skip
            faults = sorted(report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"])
            if faults:
                raise InputError(
                    f"the weights in {files.path} belong to another model than its config.json says: "
                    f"{len(faults)} tensors are missing or of another shape, first {faults[0]}"
                )
        has_tokenizer = any((files.path / name).is_file() for name in ("tokenizer.json", "vocab.txt", "vocab.json"))
        tokenizer = AutoTokenizer.from_pretrained(files.path, local_files_only=True) if has_tokenizer else None
    return Body(model, tokenizer, causal=config.causal).eval()
