from __future__ import annotations

import gzip
import itertools
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from orca import runtime
from orca.errors import InputError
from orca.sources import SOURCES, Corpus, SourceConfig
from orca.sources.conll import own_columns, read_columns
from orca.sources.grammar import make_corpus, parse_grammar

NER_SHA256 = "983d3fd12e30544733fe359acd5694710ce640e62d83b8dbaab6efc04112e0b6"


@pytest.fixture(scope="module")
def ner() -> Corpus:
    return make_corpus()


def write(path: Path, text: str, *, packed: bool = False) -> str:
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return str(path)


# ---- the corpus of our own


def test_default_corpus_is_the_same_everywhere(ner: Corpus) -> None:
    assert runtime.digest([ner.sentences, ner.tags]) == NER_SHA256


def test_corpus_is_varied(ner: Corpus) -> None:
    lengths = [len(words) for words in ner.sentences]
    assert len(lengths) >= 4000
    assert 12 <= sum(lengths) / len(lengths) <= 20
    assert len({tuple(words) for words in ner.sentences}) > 0.99 * len(lengths)
    assert len({tuple(tags) for tags in ner.tags}) > 3000
    assert len({tuple(kind for kind, _ in itertools.groupby(tags)) for tags in ner.tags}) > 2000
    assert 0.03 < sum(set(tags) == {"O"} for tags in ner.tags) / len(lengths) < 0.2


def test_corpus_tags_are_iob2_of_four_types(ner: Corpus) -> None:
    assert {tag for tags in ner.tags for tag in tags} == {"O"} | {
        f"{place}-{kind}" for place in "BI" for kind in ("PER", "LOC", "ORG", "MISC")
    }
    for words, tags in zip(ner.sentences, ner.tags, strict=True):
        assert len(words) == len(tags)
        for before, tag in itertools.pairwise(["O", *tags]):
            assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_corpus_leaves_no_marks_of_the_grammar_in_its_words(ner: Corpus) -> None:
    words = {word for sentence in ner.sentences for word in sentence}
    assert not [word for word in words if re.search(r"[~^*_\s]|\$.", word)]
    assert all(not sentence[0][0].islower() for sentence in ner.sentences)
    text = "\n".join(" ".join(sentence) for sentence in ner.sentences)
    assert not re.search(r"(?<!\S)(a [aio]|an [bcdfgjklmnpqrstvwxyz]|the the |, [.;?!])", text)


def test_another_seed_makes_another_corpus_and_a_longer_one_starts_alike() -> None:
    assert make_corpus(seed=1, sentences=50) != make_corpus(seed=0, sentences=50)
    assert make_corpus(sentences=80).sentences[:50] == make_corpus(sentences=50).sentences


def test_grammar_makes_regular_forms_and_joins_tokens() -> None:
    rules = parse_grammar("S = $go.d\ngo : carry see:saw:seen Wolf::::Wolves watch French:_ go_to:went_to\n")
    words = {form: [" ".join(word) for word in rules["go"].alternatives[form]] for form in "bdngs"}
    assert words["d"] == ["carried", "saw", "Wolfed", "watched", "French", "went to"]
    assert words["n"][1] == "seen"
    assert words["g"][:2] == ["carrying", "seeing"]
    assert words["s"][:5] == ["carries", "sees", "Wolves", "watches", "French"]


@pytest.mark.parametrize("text", ["S = $nowhere", "S = a\nS = b", "no rule at all"])
def test_grammar_with_a_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nowhere|name of its own"):
        parse_grammar(text)


# ---- column files


@pytest.mark.parametrize("packed", [False, True])
def test_conll_2003_file_is_read(tmp_path: Path, *, packed: bool) -> None:
    text = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\n# NN B-NP O\n1 CD  B-NP O\n# NN B-NP O"
    corpus = read_columns(own_columns(write(tmp_path / "eng.train", text, packed=packed), 0, -1))
    # A first "# " cannot be told from a comment where spaces part the columns; later ones are words.
    assert corpus.sentences == [["EU", "rejects"], ["1", "#"]]
    assert corpus.tags == [["B-ORG", "O"], ["O", "O"]]


def test_conll_u_file_is_read_by_its_columns(tmp_path: Path) -> None:
    rows = [
        "# text = don't",
        "1-2\tdon't\t_\t_",
        "1\tdo\tdo\tAUX",
        "2\tn't\tnot\tPART",
        "2.1\tgo\tgo\tVERB",
        "3\t\u2028\tx\tX",
    ]
    path = write(tmp_path / "en.conllu", "\ufeff" + "\r\n".join(rows) + "\r\n\r\n#\t#\t#\tSYM\r\n")
    corpus = read_columns(own_columns(path, 1, 3))
    assert corpus == Corpus([["do", "n't", "\u2028"], ["#"]], [["AUX", "PART", "X"], ["SYM"]])
    assert read_columns(own_columns(path, 1, 2)).tags[0] == ["do", "not", "x"]


def test_conll_u_with_the_columns_of_conll_2003_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "en.conll", "1\tdo\tdo\tAUX\n2\tgo\tgo\tVERB\n")
    with pytest.raises(
        InputError, match=r"numbers alone, as in CoNLL-U.*source\.token_column: 1 and source\.tag_column: 3"
    ):
        read_columns(own_columns(path, 0, -1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Rome\tB-LOC\nis\n", r"bad\.conll, line 2: .* has 1, parted by tabs: 'is'; set source\.token_column"),
        (b"Rome\tB-LOC\nis\t\n", r"line 2: .* has 2"),
        (b"Rome B-LOC\nis\n", r"line 2: .* has 1, parted by spaces"),
        (b"", r"holds no sentences; set source\.path"),
        (b"-DOCSTART- O\n\n# nothing\n", "holds no sentences"),
        (b"\x1f\x8b\x08broken", "is damaged"),
        (b"Z\xfcrich\tB-LOC\n", "not UTF-8"),
    ],
)
def test_bad_conll_file_is_refused_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.conll").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_columns(own_columns(str(tmp_path / "bad.conll"), 0, -1))


def test_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 1: columns 0 \(word\) and 3 \(tag\) are asked for"):
        read_columns(own_columns(write(tmp_path / "a.conll", "Rome B-LOC\n"), 0, 3))


# ---- specs and configuration


def test_missing_data_says_what_to_set(tmp_path: Path) -> None:
    spec = SOURCES.get("conll")
    assert SOURCES.get("ner").missing(SourceConfig()) is None
    for path in (None, str(tmp_path), str(tmp_path / "nothing.conll")):
        config = SourceConfig(name="conll", path=path)
        assert "set source.path" in (spec.missing(config) or "")
        for act in (spec.load, spec.fingerprint):
            with pytest.raises(InputError, match="set source.path"):
                act(config)
    assert spec.missing(SourceConfig(name="conll", path=write(tmp_path / "a", "x O\n"))) is None


@pytest.mark.parametrize(
    ("name", "file", "text", "words", "tags"),
    [
        ("wnut17", "wnut17train.conll", "Hi\tO\nParis\tB-location\n", ["Hi", "Paris"], ["O", "B-location"]),
        ("ud_ewt", "ud_ewt.train.conll.gz", "dogs\tNOUN\tNNS\nrun\tVERB\tVBP\n", ["dogs", "run"], ["NOUN", "VERB"]),
        (
            "ud_ewt",
            "en_ewt-ud-train.conllu",
            "1\tdogs\tdog\tNOUN\n2\trun\trun\tVERB\n",
            ["dogs", "run"],
            ["NOUN", "VERB"],
        ),
    ],
)
def test_published_corpora_are_found_by_the_names_of_their_files(
    name: str, file: str, text: str, words: list[str], tags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, config = SOURCES.get(name), SourceConfig(name=name)
    monkeypatch.delenv("ORCA_DATA", raising=False)
    assert "but ORCA_DATA is not set" in str(spec.missing(config))
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    assert f"needs one of {name}" in str(spec.missing(config))
    write(tmp_path / file, text, packed=file.endswith(".gz"))
    assert spec.missing(config) is None
    corpus = spec.load(config)
    assert isinstance(corpus, Corpus)
    assert (corpus.sentences, corpus.tags) == ([words], [tags])
    first = spec.fingerprint(config)
    write(tmp_path / file, text + "\n" + text, packed=file.endswith(".gz"))
    assert spec.fingerprint(config) != first


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    def mark(**given: object) -> str:
        config = SourceConfig.model_validate(given)
        return SOURCES.get(config.name).fingerprint(config)

    one, same = (write(tmp_path / name, "Rome X LOC\n") for name in ("one", "same"))
    other = write(tmp_path / "other", "Rome X ORG\n")
    assert mark(name="conll", path=one) == mark(name="conll", path=same, seed=3, n=5)
    assert mark(name="conll", path=one) != mark(name="conll", path=other)
    assert mark(name="conll", path=one) != mark(name="conll", path=one, tag_column=1)
    assert mark() == mark(n=5) != mark(seed=1)


def test_bad_configuration_is_refused_with_all_faults() -> None:
    with pytest.raises(ValidationError) as caught:
        SourceConfig.model_validate({"name": "nerr", "n": 1, "feature": "token"})
    assert {fault["loc"] for fault in caught.value.errors()} == {("name",), ("n",), ("feature",)}
    assert "did you mean ner?" in str(caught.value)
