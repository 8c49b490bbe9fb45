from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from orca.errors import InputError
from orca.sources import SourceConfig, source_features
from orca.sources.features import choose_features, entity_type, sentence_label
from orca.types import LabeledSet


@pytest.fixture(scope="module")
def wordpiece() -> PreTrainedTokenizerFast:
    pieces = [*"abcdefghijklmnopqrstuvwxyz0123456789.,?!:;'\"()-/&%$#@"]
    words = ["the", "in", "london", "visit", "##ed", "anna", "and", "of", "to"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *pieces, *(f"##{p}" for p in pieces), *words]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=48,
    )  # fmt: skip


class TinyBody(torch.nn.Module):
    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=48, hidden_dropout_prob=0.5,
        )  # fmt: skip
        self.embedding_layer = BertModel(config, add_pooling_layer=False).embeddings
        self.tokenizer, self.width, self.seen = tokenizer, 16, []

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert ids.shape == mask.shape
        assert ids.dtype == torch.int64
        assert mask.dtype == torch.bool
        self.seen.append((self.training, torch.is_grad_enabled(), ids.shape))
        return self.embedding_layer(ids)


@pytest.fixture(scope="module")
def body(wordpiece: PreTrainedTokenizerFast) -> TinyBody:
    return TinyBody(wordpiece).eval()


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def shares(found: LabeledSet) -> dict[str, float]:
    return {name: float((found.y == k).float().mean()) for k, name in enumerate(found.names)}


def test_labels_of_tags_and_sentences() -> None:
    assert [entity_type(tag) for tag in ("B-PER", "I-PER", "O", "NOUN", "-LRB-", "B-creative-work")] == [
        "PER", "PER", "O", "NOUN", "-LRB-", "creative-work",
    ]  # fmt: skip
    assert sentence_label(["O", "O"]) == "O"
    assert sentence_label(["B-PER", "I-PER", "I-PER", "O", "B-LOC", "B-LOC"]) == "LOC"
    assert sentence_label(["O", "B-ORG", "B-PER", "I-PER"]) == "ORG"
    assert sentence_label(["I-LOC", "I-LOC", "O", "I-PER", "O", "I-PER"]) == "PER"  # IOB1, as CoNLL-2003 was published


def test_choice_keeps_o_to_half_and_drops_lone_labels() -> None:
    labels = ["O"] * 900 + ["B-PER"] * 60 + ["B-LOC"] * 39 + ["B-X"]
    index = choose_features(labels, 100, seed=0)
    assert len(index) == 100
    assert sum(labels[i] == "O" for i in index) == 50
    everything = choose_features(labels, 1000, seed=0)
    assert sorted({labels[i] for i in everything}) == ["B-LOC", "B-PER", "O"]
    assert len(everything) == 2 * 99
    few = ["O"] * 10 + ["A"] * 90
    assert sum(few[i] == "O" for i in choose_features(few, 50, seed=0)) <= 5


def test_a_feature_is_the_first_subword_in_its_place(body: TinyBody, tmp_path: Path) -> None:
    text = "Anna B-PER\nvisited O\nLondon B-LOC\n\n" * 3
    found = source_features(SourceConfig(name="conll", path=write(tmp_path / "a.conll", text), n=9), body)
    ids = body.tokenizer("Anna visited London")["input_ids"]
    assert body.tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "anna", "visit", "##ed", "london", "[SEP]"]
    expected = body.embedding_layer(torch.tensor([ids]))[0].detach()
    assert found.names == ("O", "B-LOC", "B-PER")
    for name, place in (("B-PER", 1), ("O", 2), ("B-LOC", 4)):
        rows = found.x[found.y == found.names.index(name)]
        assert len(rows) == 3
        torch.testing.assert_close(rows, expected[place].expand(3, -1))


def test_a_sentence_is_the_mean_without_special_tokens(body: TinyBody, tmp_path: Path) -> None:
    text = "Anna B-PER\nvisited O\nLondon B-LOC\n\n" * 2 + "the O\n\nthe O\nthe O\n\n"
    config = SourceConfig(name="conll", path=write(tmp_path / "a.conll", text), n=4, features="sentence")
    found = source_features(config, body)
    expected = body.embedding_layer(torch.tensor([body.tokenizer("Anna visited London")["input_ids"]]))[0, 1:-1].mean(0)
    assert found.names == ("O", "PER")
    torch.testing.assert_close(found.x[found.y == 1], expected.detach().expand(2, -1))


@pytest.mark.parametrize(
    ("features", "merge", "classes"), [("token", False, 9), ("token", True, 5), ("sentence", False, 5)]
)
def test_features_of_the_default_source(body: TinyBody, *, features: str, merge: bool, classes: int) -> None:
    config = SourceConfig.model_validate({"features": features, "merge_prefix": merge, "n": 600})
    found = source_features(config, body)
    assert found.x.shape == (600, 16)
    assert found.x.dtype == torch.float32
    assert found.y.dtype == torch.int64
    assert not found.x.requires_grad
    assert sorted(set(found.y.tolist())) == list(range(classes))
    assert len(found.names) == classes
    assert found.names[0] == "O"
    assert shares(found)["O"] <= 0.5


def test_features_follow_the_seed(body: TinyBody) -> None:
    first, again, other = (source_features(SourceConfig(n=50, seed=seed), body) for seed in (0, 0, 1))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.x, other.x)


def test_embedding_runs_in_batches_in_eval_mode_without_gradients(wordpiece: PreTrainedTokenizerFast) -> None:
    body = TinyBody(wordpiece).train()
    body.embedding_layer.LayerNorm.eval()
    source_features(SourceConfig(n=300), body)
    assert {(training, grad) for training, grad, _ in body.seen} == {(False, False)}
    assert len(body.seen) > 1
    assert all(rows <= 64 and tokens <= 48 for _, _, (rows, tokens) in body.seen)
    assert body.training
    assert body.embedding_layer.dropout.training
    assert not body.embedding_layer.LayerNorm.training


def test_too_long_sentences_are_cut_to_the_body(body: TinyBody, tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "\n".join(f"the X{i // 40}" for i in range(100)))
    found = source_features(SourceConfig(name="conll", path=path, n=60), body)
    assert len(found.x) == 46  # 48 tokens less [CLS] and [SEP]
    short: Any = SimpleNamespace(
        tokenizer=body.tokenizer,
        embed=body.embed,
        width=16,
        embeddings=SimpleNamespace(position_table=torch.zeros(12, 16)),
    )
    assert len(source_features(SourceConfig(name="conll", path=path, n=60), short).x) == 10


def test_too_small_a_corpus_is_used_whole_and_said(
    body: TinyBody, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.conll", "Anna B-PER\nin O\nin O\nLondon B-LOC\n\n" * 2)
    found = source_features(SourceConfig(name="conll", path=path), body)
    assert len(found.x) == 8
    assert "gives 8 features, not 2000" in caplog.text


def test_a_source_without_tags_or_a_body_without_tokenizer_is_refused(body: TinyBody, tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Anna B-PER O\nvisited O O\n")
    with pytest.raises(InputError, match=r"a tag other than O .* Set source\.tag_column"):
        source_features(SourceConfig(name="conll", path=path), body)
    mute: Any = SimpleNamespace(tokenizer=None, embed=body.embed, width=16)
    with pytest.raises(InputError, match="has none"):
        source_features(SourceConfig(), mute)


@pytest.mark.parametrize("trim", [False, True])  # GPT-2 keeps a word's leading space in its offsets, RoBERTa does not
def test_byte_level_words_keep_their_leading_space(body: TinyBody, tmp_path: Path, *, trim: bool) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*alphabet, "\u0120L"])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[("\u0120", "L")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=trim)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    table = torch.eye(len(vocab))
    bare: Any = SimpleNamespace(tokenizer=tokenizer, embed=lambda ids, mask: table[ids], width=len(vocab))
    path = write(tmp_path / "a.conll", "in O\nLyon B-LOC\n\n" * 2)
    found = source_features(SourceConfig(name="conll", path=path, n=4), bare)
    assert set(found.x[found.y == 1].argmax(1).tolist()) == {vocab["\u0120L"]}
    assert set(found.x[found.y == 0].argmax(1).tolist()) == {vocab["i"]}
