"""Tiny random bodies of every family, made here: no weights, no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    SwinConfig,
    ViTConfig,
)

from orca.bodies import FAMILIES, Body, VisionBody, make_body
from orca.build import EmbedConfig, training_statistics
from orca.model import AdaptedModel
from orca.tasks.encodings import GridEncoding, SequenceEncoding, TableEncoding
from orca.types import Examples, Layout

_COMMON = {"vocab_size": 64, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}


def tiny_config(family: str) -> PreTrainedConfig:
    """Two blocks of width 16 with 2 heads, 40 positions; of vision four blocks of 8 and 16, or two of 16."""
    bert = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, **_COMMON}
    configs = {
        "bert": lambda: BertConfig(**bert, max_position_embeddings=40),
        "roberta": lambda: RobertaConfig(**bert, max_position_embeddings=42, type_vocab_size=1),
        "distilbert": lambda: DistilBertConfig(
            dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=40, **_COMMON
        ),
        "modernbert": lambda: ModernBertConfig(
            **bert,
            max_position_embeddings=40,
            local_attention=8,
            global_attn_every_n_layers=2,
            cls_token_id=2,
            sep_token_id=3,
        ),
        "swin": lambda: SwinConfig(
            image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4, mlp_ratio=2
        ),
        "vit": lambda: ViTConfig(
            image_size=12,
            patch_size=3,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
        ),
        "gpt2": lambda: GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=40, **_COMMON),
    }
    return configs[family]()


def tiny_model(family: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    pooler = {"add_pooling_layer": False} if family not in FAMILIES or FAMILIES[family].pooler else {}
    return AutoModel.from_config(tiny_config(family), attn_implementation="sdpa", **pooler).eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(60))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def tiny_body(family: str = "bert", *, causal: bool | None = None) -> Body:
    return Body(tiny_model(family), tiny_tokenizer(), causal=causal).eval()


def tiny_vision(family: str) -> VisionBody:
    body = make_body(tiny_model(family)).eval()
    assert isinstance(body, VisionBody)
    return body


def save_tiny_body(folder: Path, family: str = "bert", seed: int = 0) -> Path:
    """A local folder in Hugging Face format."""
    tiny_model(family, seed).save_pretrained(folder)
    if family in FAMILIES:
        tiny_tokenizer().save_pretrained(folder)
    return folder


LAYOUTS = {
    "classes": Layout("sequence", "classes", (2, 12), (3,)),
    "multilabel": Layout("sequence", "multilabel", (2, 12), (3,)),
    "scalar": Layout("table", "scalar", (4,), (2,), (0, 3, 0, 2)),
    "field": Layout("grid", "field", (1, 6, 6), (1, 6, 6)),
    "mask": Layout("grid", "mask", (1, 6, 6), (1, 6, 6)),
}


def tiny_examples(target: str, count: int, seed: int = 0) -> Examples:
    """Data of the layout that can be learned: the target follows from the input."""
    layout, draw = LAYOUTS[target], np.random.default_rng(seed)
    if layout.input == "table":
        x = np.stack(
            [draw.normal(size=count), draw.integers(0, 3, count), draw.normal(size=count), draw.integers(0, 2, count)]
        )
        x = x.T.astype(np.float32)
        return Examples(x, np.stack([5 + 3 * x[:, 0] + x[:, 1], x[:, 2] - x[:, 3]], 1).astype(np.float32))
    x = draw.normal(size=(count, *layout.input_shape)).astype(np.float32)
    if target == "field":
        return Examples(x, (2 * x + 1).astype(np.float32))
    if target == "mask":
        return Examples(x, np.where(x < -2, -1, x > 0.5).astype(np.float32))
    y = np.arange(count) % 3
    x[np.arange(count), 0] += 3 * (y - 1)[:, None]
    return Examples(x, y.astype(np.int64) if target == "classes" else np.eye(3, dtype=np.int64)[y])


def tiny_adapted(target: str = "classes", family: str = "bert", *, tokens: int = 36, seed: int = 0) -> AdaptedModel:
    """An adapted model of the layout around a tiny body."""
    layout = LAYOUTS[target]
    encodings = {
        "sequence": SequenceEncoding(),
        "table": TableEncoding(cardinalities=layout.cardinalities or (0,)),
        "grid": GridEncoding(channels="first"),
    }
    statistics = training_statistics(tiny_examples(target, 32), layout)
    body = tiny_body(family)
    torch.manual_seed(seed)
    return AdaptedModel.build(
        body,
        statistics,
        task="tiny",
        layout=layout,
        encoding=encodings[layout.input],
        config=EmbedConfig(tokens=tokens),
    )
