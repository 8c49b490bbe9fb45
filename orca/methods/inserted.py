"""Prompt, prefix and adapter: modules of our own beside a body's, tied to it by hooks, so that its names stay.

peft has prompt and prefix too, as wrappers of whole models that are fed token ids or their embeddings and hand them on;
bodies are entered behind that, at the encoder. Of adapters it has the prompts of LLaMA-Adapter alone.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from orca.bodies import AnyEncoder, Body, Encoder
from orca.errors import InputError
from orca.methods.method import METHODS, Insertion, Options, Origin, inserting, parts
from orca.types import Layout

SPREAD = 0.02  # of random starts


class PromptOptions(Options):
    """How many tokens, and what they are at first."""

    tokens: int = Field(default=16, ge=1, le=1024, description="Learned tokens before those of the input.")
    start: Literal["words", "labels", "noise"] = Field(
        default="words", description="Random words of the body's, names of the task's classes, or noise."
    )

    def check_task(self, layout: Layout) -> None:
        """Tokens may start from the names of classes where there are such."""
        if self.start == "labels" and not layout.classes:
            raise InputError("finetune.options.start is labels, but the task names no classes; choose words or noise")


class PrefixOptions(Options):
    """How many keys and values."""

    tokens: int = Field(default=16, ge=1, le=1024, description="Learned keys and values in each block.")


class AdapterOptions(Options):
    """The width between the two maps."""

    width: int = Field(default=32, ge=1, description="Width of the bottleneck.")


class Prompt(nn.Module):
    """Learned tokens (k, D), which stand before those of the input and are cut off its features."""

    inserted = True

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = nn.Parameter(tokens)


def prompt(encoder: Encoder, options: PromptOptions, origin: Origin | None) -> None:
    """Puts tokens in front of every input of the encoder."""
    tokens = torch.randn(options.tokens, encoder.config.hidden_size) * SPREAD
    if origin is not None and options.start != "noise":
        tokens = first_words(options, origin)
    encoder.inserted = nn.ModuleDict({"prompt": Prompt(tokens.to(next(encoder.parameters())))})
    encoder.register_forward_pre_hook(_put_before)
    encoder.register_forward_hook(_cut_off)


@torch.no_grad()
def first_words(options: PromptOptions, origin: Origin) -> Tensor:
    """Embedded words (k, D): one for each class, the mean over its name's tokens, if asked for; the rest random ones.

    Raises:
        InputError: names are asked for, but the body has no tokenizer to read them.
    """
    body = origin.body()
    assert isinstance(body, Body)  # bodies of vision take nothing in

    def embedded(rows: list[list[int]]) -> Tensor:
        ids = torch.tensor(rows)
        return body.embed(ids, torch.ones_like(ids, dtype=torch.bool))  # (rows, T, D)

    special = set(body.tokenizer.all_special_ids) if body.tokenizer is not None else set()
    words = [i for i in torch.randperm(body.embeddings.words.num_embeddings).tolist() if i not in special]
    chosen = itertools.islice(itertools.cycle(words), options.tokens)
    tokens = embedded([[word] for word in chosen])[:, 0]  # each by itself, so at the first position
    if options.start == "labels":
        if body.tokenizer is None:
            raise InputError("finetune.options.start is labels, but the body has no tokenizer; choose words or noise")
        names = [body.tokenizer(name, add_special_tokens=False)["input_ids"] for name in origin.classes]
        for place, ids in enumerate([ids for ids in names if ids][: options.tokens]):
            tokens[place] = embedded([ids])[0].mean(0)
    return tokens


def _put_before(encoder: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    x, mask, *rest = (*given, None) if len(given) == 1 else given
    rows = encoder.inserted["prompt"].tokens.to(x.dtype).expand(len(x), -1, -1)
    if mask is not None:
        mask = torch.cat([mask.new_ones(rows.shape[:2]), mask], 1)
    return torch.cat([rows, x], 1), mask, *rest


def _cut_off(encoder: Any, given: tuple[Any, ...], features: Tensor) -> Tensor:
    return features[:, len(encoder.inserted["prompt"].tokens) :]


class Prefix(nn.Module):
    """Learned keys and values (H, k, D / H) of one block, which every token sees beside those of the input."""

    inserted = True

    def __init__(self, heads: int, tokens: int, width: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(heads, tokens, width) * SPREAD)
        self.values = nn.Parameter(torch.randn(heads, tokens, width) * SPREAD)


def prefix(encoder: Encoder, options: PrefixOptions, origin: Origin | None) -> None:
    """Gives the attention of every block keys and values of its own, by an attention function of transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_PREFIXED, _prefixed_attention)
    AttentionMaskInterface.register(_PREFIXED, sdpa_mask)
    heads, width = encoder.config.num_attention_heads, encoder.config.hidden_size
    for attention in parts(encoder, ("attention",)).values():
        own = Prefix(heads, options.tokens, width // heads)
        attention.add_module("prefix", own.to(next(attention.parameters())))
    encoder.config._attn_implementation = _PREFIXED


_PREFIXED = "orca_prefix"


def _prefixed_attention(  # noqa: PLR0913 - as transformers calls it
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given: Any
) -> tuple[Tensor, None]:
    """Attention (B, H, T, D / H) over the module's own keys and values too, which no mask hides."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    batch, more = len(key), module.prefix.keys.shape[1]
    key, value = (
        torch.cat([own.to(x.dtype).expand(batch, -1, -1, -1), x], 2)
        for own, x in ((module.prefix.keys, key), (module.prefix.values, value))
    )
    if attention_mask is not None:
        fill = attention_mask.new_ones if attention_mask.dtype == torch.bool else attention_mask.new_zeros
        attention_mask = torch.cat([fill((*attention_mask.shape[:-1], more)), attention_mask], -1)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **given)


class Adapter(nn.Module):
    """x + U gelu(V x) with V to a small width and U back; U is zero at first."""

    inserted = True

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)
        nn.init.normal_(self.down.weight, std=SPREAD)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, T, D) to features (B, T, D)."""
        return x + self.up(nn.functional.gelu(self.down(x)))


def adapter(encoder: AnyEncoder, options: AdapterOptions, origin: Origin | None) -> None:
    """Puts an adapter behind the projection that ends each sublayer, before its residual is added."""
    for last in parts(encoder, ("output", "down")).values():
        own = Adapter(_width(last), options.width)
        last.add_module("adapter", own.to(next(last.parameters())))
        last.register_forward_hook(_adapted)


def _width(projection: Any) -> int:
    """Of what comes out: a linear layer, or the transposed one of GPT-2."""
    return projection.out_features if isinstance(projection, nn.Linear) else projection.nf


def _adapted(module: Any, given: tuple[Any, ...], features: Tensor) -> Tensor:
    return module.adapter(features)


METHODS.add(
    inserting(
        "prompt", "tokens before the input, embedder and predictor", "Lester et al. 2021, arXiv 2104.08691",
        Insertion(prompt, vision=False), PromptOptions, version=2,  # words are embedded each by itself
    )
)  # fmt: skip
METHODS.add(
    inserting(
        "prefix", "keys and values in every block, embedder and predictor", "Li and Liang 2021, arXiv 2101.00190",
        Insertion(prefix, vision=False), PrefixOptions,
    )
)  # fmt: skip
METHODS.add(
    inserting(
        "adapter", "a bottleneck behind every sublayer, embedder and predictor",
        "Houlsby et al. 2019, arXiv 1902.00751", Insertion(adapter), AdapterOptions,
    )
)  # fmt: skip
