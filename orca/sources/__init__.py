"""Labelled language data and images, and their features in a body's embedding space."""

from __future__ import annotations

from orca.sources.conll import file_fingerprint, missing_file, read_conll
from orca.sources.corpus import Corpus
from orca.sources.features import source_features, wrong_source
from orca.sources.grammar import grammar_fingerprint, make_corpus
from orca.sources.images import (
    Images,
    images_fingerprint,
    missing_cifar10,
    missing_images,
    read_cifar10,
    read_images,
)
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
SOURCES.add(
    SourceSpec(
        name="cifar10",
        title="CIFAR-10, 50,000 photographs of ten things, for vision bodies",
        licence="not stated by its authors; to be got from them",
        load=lambda config: read_cifar10(config.path),
        missing=lambda config: missing_cifar10(config.path),
        fingerprint=lambda config: images_fingerprint("cifar10", config.path),
        images=True,
    )
)
SOURCES.add(
    SourceSpec(
        name="images",
        title="your own images (source.path, .npz), for vision bodies",
        licence="that of the file",
        load=lambda config: read_images(config.path),
        missing=lambda config: missing_images(config.path),
        fingerprint=lambda config: images_fingerprint("images", config.path),
        images=True,
    )
)
