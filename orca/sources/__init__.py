"""Labelled language data and images, and their features in a body's embedding space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orca import runtime
from orca.errors import InputError
from orca.sources.conll import file_fingerprint, missing_file, published_file, read_conll
from orca.sources.corpus import Corpus
from orca.sources.features import source_features, wrong_source
from orca.sources.grammar import grammar_fingerprint, make_corpus
from orca.sources.images import Images, cifar10_files, own_file, read_cifar10, read_own
from orca.sources.spec import SOURCES, SourceConfig, SourceSpec

__all__ = ["SOURCES", "Corpus", "Images", "SourceConfig", "SourceSpec", "source_features", "wrong_source"]


def _columns(config: SourceConfig) -> dict[str, int]:
    return {"token_column": config.token_column, "tag_column": config.tag_column}


SOURCES.add(
    SourceSpec(
        name="ner",
        title="English sentences from a grammar of our own, entities PER, LOC, ORG, MISC",
        licence="Apache-2.0, part of Orca; synthetic",
        load=lambda config: make_corpus(seed=config.seed),
        missing=lambda config: None,
        fingerprint=lambda config: grammar_fingerprint(config.seed),
    )
)
SOURCES.add(
    SourceSpec(
        name="conll",
        title="your own CoNLL column file (source.path), plain or gzip",
        licence="that of the file",
        load=lambda config: read_conll(config.path, **_columns(config)),
        missing=lambda config: missing_file(config.path),
        fingerprint=lambda config: file_fingerprint(config.path, **_columns(config)),
        takes="FILE",
    )
)


def _fault(find: Callable[..., object], *given: Any) -> str | None:
    """What is wrong with the files of a source; None where they are found."""
    try:
        find(*given)
    except InputError as fault:
        return str(fault)
    return None


def _published(name: str, title: str, licence: str, files: dict[str, tuple[int, int]]) -> SourceSpec:
    """A published corpus, from its files in ORCA_DATA, each with the columns of words and tags."""

    def load(config: SourceConfig) -> Corpus:
        file, (word, tag) = published_file(name, files)
        return read_conll(str(file), token_column=word, tag_column=tag)

    def fingerprint(config: SourceConfig) -> str:
        file, (word, tag) = published_file(name, files)
        return file_fingerprint(str(file), token_column=word, tag_column=tag)

    return SourceSpec(name, title, licence, load, lambda config: _fault(published_file, name, files), fingerprint)


SOURCES.add(
    _published(
        "wnut17", "WNUT-17, entities of six types in messages and comments (Derczynski et al. 2017)", "CC BY 4.0",
        {"wnut17.train.conll.gz": (0, 1), "wnut17train.conll": (0, 1)},
    )
)  # fmt: skip
SOURCES.add(
    _published(
        "ud_ewt", "English Web Treebank, 17 parts of speech (Silveira et al. 2014)", "CC BY-SA 4.0",
        {"ud_ewt.train.conll.gz": (0, 1), "en_ewt-ud-train.conllu": (1, 3)},
    )
)  # fmt: skip


def _of_images(
    name: str, title: str, licence: str, find: Callable[[str | None], list[Path]],
    read: Callable[[list[Path]], Images], takes: str,
) -> SourceSpec:  # fmt: skip
    """A source of images, from how its files are found and read."""

    def fingerprint(config: SourceConfig) -> str:
        return runtime.digest({"source": name, "files": [runtime.known_digest(file) for file in find(config.path)]})

    return SourceSpec(
        name, title, licence, lambda config: read(find(config.path)), lambda config: _fault(find, config.path),
        fingerprint, takes=takes, images=True,
    )  # fmt: skip


SOURCES.add(
    _of_images(
        "cifar10", "CIFAR-10, 50,000 photographs of ten things, for vision bodies",
        "not stated by its authors; to be got from them", cifar10_files, read_cifar10, "FOLDER",
    )
)  # fmt: skip
SOURCES.add(
    _of_images(
        "images",
        "your own images (source.path, .npz), for vision bodies",
        "that of the file",
        own_file,
        read_own,
        "FILE",
    )
)
