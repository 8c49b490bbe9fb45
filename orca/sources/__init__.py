"""Labelled language data and images, and their features in a body's embedding space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orca import runtime
from orca.errors import InputError
from orca.sources.conll import file_fingerprint, missing_file, read_conll
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
    )
)


def _of_images(
    name: str, title: str, licence: str, find: Callable[[str | None], list[Path]], read: Callable[[list[Path]], Images]
) -> SourceSpec:
    """A source of images, from how its files are found and read."""

    def missing(config: SourceConfig) -> str | None:
        try:
            find(config.path)
        except InputError as fault:
            return str(fault)
        return None

    def fingerprint(config: SourceConfig) -> str:
        return runtime.digest({"source": name, "files": [runtime.known_digest(file) for file in find(config.path)]})

    return SourceSpec(name, title, licence, lambda config: read(find(config.path)), missing, fingerprint, images=True)


SOURCES.add(
    _of_images(
        "cifar10", "CIFAR-10, 50,000 photographs of ten things, for vision bodies",
        "not stated by its authors; to be got from them", cifar10_files, read_cifar10,
    )
)  # fmt: skip
SOURCES.add(
    _of_images(
        "images", "your own images (source.path, .npz), for vision bodies", "that of the file", own_file, read_own
    )
)
