"""Source features: what a body's own embedding layer makes of labelled words, the set that an embedder is aligned to.

After Shen et al. 2023 (ORCA, section 3.2), whose text source is CoNLL-2003 through RoBERTa's embedding layer.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from orca import runtime
from orca.errors import InputError
from orca.sources.corpus import Corpus
from orca.sources.images import Images, image_features
from orca.sources.spec import SOURCES, SourceConfig
from orca.types import LabeledSet

log = logging.getLogger(__name__)

BATCH = 64  # sentences embedded at once
OUTSIDE = "O"
LONGEST = 512  # no sentence is embedded further, even where tokenizer and position table would allow it
_PREFIX = re.compile(r"([BIESLU])-(.+)")


class SourceBody(Protocol):
    """What source features need of a body."""

    tokenizer: Any

    @property
    def embed(self) -> Callable[..., Tensor]:
        """Token ids (B, T) and mask (B, T), or images (B, 3, H, W), to embeddings (B, T, D)."""
        ...


@dataclass(frozen=True)
class _Pieces:
    """A sentence as the body's tokens: ids, the first token of each word, and the tokens that are not special."""

    ids: list[int]
    first: dict[int, int]
    inside: list[int]


@dataclass(frozen=True)
class _Candidate:
    """A possible feature: the mean over some tokens of a sentence, with its label."""

    sentence: int
    tokens: list[int]
    label: str


def entity_type(tag: str) -> str:
    """The tag without its place in the entity: PER for B-PER and I-PER, anything else as it is."""
    match = _PREFIX.fullmatch(tag)
    return match[2] if match else tag


def sentence_label(tags: Sequence[str]) -> str:
    """The most frequent entity's type, the first of them where several are as frequent, O where there is none.

    An entity counts once, however many words it has; tags without a prefix count by word.
    """
    begins = [
        entity_type(tag)
        for before, tag in zip([OUTSIDE, *tags], tags, strict=False)
        if tag != OUTSIDE and not (tag[:2] in ("I-", "E-", "L-") and entity_type(before) == entity_type(tag))
    ]
    return Counter(begins).most_common(1)[0][0] if begins else OUTSIDE


def _limit(body: SourceBody) -> int:
    """The longest sentence in tokens: the tokenizer's limit and the body's position table both hold."""
    table = getattr(getattr(body, "embeddings", None), "position_table", None)
    declared = min(body.tokenizer.model_max_length, LONGEST)  # a tokenizer without a limit declares 1e30
    return declared if table is None else min(declared, len(table))


def _tokenize(sentences: list[list[str]], body: SourceBody) -> list[_Pieces]:
    """Cuts sentences into the body's tokens and finds each word's first one by its place in the text.

    The words are joined by spaces: given one by one, a byte-level tokenizer (RoBERTa, GPT-2) would take each for the
    start of a text and leave out the space that it learned as part of a word.
    """
    texts = [" ".join(words) for words in sentences]
    coded = body.tokenizer(
        texts, truncation=True, max_length=_limit(body), padding=False, return_offsets_mapping=True,
        return_special_tokens_mask=True, return_attention_mask=False,
    )  # fmt: skip
    found = []
    for k, words in enumerate(sentences):
        owner = np.repeat(np.arange(len(words)), [len(word) + 1 for word in words])  # character -> word, with its space
        special = coded["special_tokens_mask"][k]
        inside = [t for t, is_special in enumerate(special) if not is_special]
        first: dict[int, int] = {}
        for t in inside:
            start, end = coded["offset_mapping"][k][t]
            if end > start:  # a leading space may belong to the token: its last character tells the word
                first.setdefault(int(owner[end - 1]), t)
        found.append(_Pieces(coded["input_ids"][k], first, inside))
    return found


def _candidates(corpus: Corpus, pieces: list[_Pieces], config: SourceConfig) -> list[_Candidate]:
    if config.features == "sentence":
        return [
            _Candidate(k, piece.inside, sentence_label(tags))
            for k, (piece, tags) in enumerate(zip(pieces, corpus.tags, strict=True))
            if piece.inside
        ]
    # One feature a word, its first sub-word, as is usual in tagging: the pieces that follow are shared by all types,
    # and would weigh rare names by their number of pieces.
    return [
        _Candidate(k, [token], entity_type(tags[word]) if config.merge_prefix else tags[word])
        for k, (piece, tags) in enumerate(zip(pieces, corpus.tags, strict=True))
        for word, token in piece.first.items()
    ]


def choose_features(labels: Sequence[str], n: int, *, seed: int) -> np.ndarray:
    """Draws up to ``n`` of the labelled features, at random but for two rules.

    At most half of those chosen are O, and never a greater part than in the data; a label that would be there only
    once is left out, because one point has no spread.

    Args:
        labels: the label of each feature.
        n: how many are wanted.
        seed: decides the draw.

    Returns:
        Indices into ``labels``, increasing; fewer than ``n`` where the rules leave no more.
    """
    outside = np.array([label == OUTSIDE for label in labels], dtype=bool)
    order = runtime.rng(seed, "source features").permutation(len(outside))
    share = float(outside.mean()) if len(outside) else 0.0
    while True:
        rest, entities = order[outside[order]], order[~outside[order]]
        some = min(n // 2, len(rest), len(entities), round(n * share))
        chosen = np.concatenate([rest[:some], entities[: n - some]])
        counts = Counter(labels[i] for i in chosen)
        rare = {label for label, count in counts.items() if count < 2}
        if not rare:
            return np.sort(chosen)
        order = np.array([i for i in order if labels[i] not in rare], dtype=np.int64)


@contextlib.contextmanager
def _evaluating(body: SourceBody) -> Iterator[torch.device]:
    """Evaluation mode without gradients; gives the body's device and puts every module's mode back."""
    modules = list(body.modules()) if isinstance(body, nn.Module) else []
    trained = [module for module in modules if module.training]
    weights = next((weight for module in modules for weight in module.parameters()), None)
    try:
        for module in trained:
            module.training = False
        with torch.no_grad():
            yield torch.device("cpu") if weights is None else weights.device
    finally:
        for module in trained:
            module.training = True


def _embed(chosen: list[_Candidate], pieces: list[_Pieces], body: SourceBody) -> Tensor:
    """The chosen features, (n, D) float32, in their order; only sentences that hold one are embedded."""
    wanted: dict[int, list[int]] = {}  # sentence -> rows of the result
    for row, candidate in enumerate(chosen):
        wanted.setdefault(candidate.sentence, []).append(row)
    sentences, pad = list(wanted), body.tokenizer.pad_token_id or 0  # the mask hides the padding
    parts: dict[int, Tensor] = {}
    with _evaluating(body) as device:
        for start in range(0, len(sentences), BATCH):
            batch = sentences[start : start + BATCH]
            lengths = [len(pieces[k].ids) for k in batch]
            ids = torch.full((len(batch), max(lengths)), pad, dtype=torch.int64)  # (B, T)
            for i, k in enumerate(batch):
                ids[i, : lengths[i]] = torch.tensor(pieces[k].ids)
            mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # (B, T)
            embedded = body.embed(ids.to(device), mask.to(device)).float()  # (B, T, D)
            parts |= {row: embedded[i, chosen[row].tokens].mean(0) for i, k in enumerate(batch) for row in wanted[k]}
    return torch.stack([parts[row] for row in range(len(chosen))])  # (n, D)


def wrong_source(name: str, *, vision: bool) -> str | None:
    """None where a source fits a body of vision or of language, else which sources do."""
    if SOURCES.get(name).images == vision:
        return None
    fitting = [spec.name for spec in SOURCES if spec.images == vision]
    wanted = "images, for a vision body" if vision else "text, for a body of language"
    return f"source '{name}' is not {wanted}; set source.name to one of {', '.join(fitting)}"


def source_features(config: SourceConfig, body: SourceBody) -> LabeledSet:
    """Passes a labelled corpus, or labelled images, through the body's own embedding layer, its norm included.

    Args:
        config: which corpus, which features and how many.
        body: gives ``tokenizer`` (a fast one of Hugging Face) and ``embed``; of vision where the source is images.

    Returns:
        x (n, D) float32 on the body's device, y (n,) with labels 0..K-1 and their names, O first, then by alphabet.

    Raises:
        InputError: the corpus cannot be had, holds no tag but O, or the body has no tokenizer.
    """
    spec = SOURCES.get(config.name)
    vision = getattr(body, "images", False)
    if fault := wrong_source(spec.name, vision=vision):
        raise InputError(fault)
    if vision:
        images = spec.load(config)
        assert isinstance(images, Images)
        with _evaluating(body) as device:
            return image_features(images, body.embed, n=config.n, seed=config.seed, device=device)
    if getattr(body, "tokenizer", None) is None:
        raise InputError(
            "source features need the body's tokenizer and it has none; put tokenizer.json into its folder"
        )
    corpus = spec.load(config)
    assert isinstance(corpus, Corpus)
    pieces = _tokenize(corpus.sentences, body)
    candidates = _candidates(corpus, pieces, config)
    index = choose_features([candidate.label for candidate in candidates], config.n, seed=config.seed)
    if not len(index):
        seen = sorted({candidate.label for candidate in candidates})[:5]
        raise InputError(
            f"source '{config.name}' gives no features: it needs a tag other than O that occurs twice; got {seen}. "
            "Set source.tag_column to the column of the tags"
        )
    if len(index) < config.n:
        log.warning(
            "source '%s' gives %d features, not %d: all that may be used are", config.name, len(index), config.n
        )
    chosen = [candidates[i] for i in index]
    names = sorted({candidate.label for candidate in chosen}, key=lambda label: (label != OUTSIDE, label))
    x = _embed(chosen, pieces, body)
    y = torch.tensor([names.index(candidate.label) for candidate in chosen], device=x.device)
    return LabeledSet(x, y, tuple(names))
