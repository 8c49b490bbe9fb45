"""Labelled language data and images, and their features in a body's embedding space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from orca import runtime
from orca.errors import InputError
from orca.sources.conll import columns_fingerprint, own_columns, published_file, read_columns
from orca.sources.corpus import Corpus
from orca.sources.features import source_features, wrong_source
from orca.sources.grammar import grammar_fingerprint, make_corpus
from orca.sources.images import Images, cifar10_files, own_file, read_cifar10, read_own
from orca.sources.spec import SOURCES, SourceConfig, SourceSpec

__all__ = ["SOURCES", "Corpus", "Images", "SourceConfig", "SourceSpec", "source_features", "wrong_source"]


T = TypeVar("T")


def _of_files(
    find: Callable[[SourceConfig], T], read: Callable[[T], Corpus | Images], fingerprint: Callable[[T], str],
    *, name: str, title: str, licence: str, takes: str = "", images: bool = False,
) -> SourceSpec:  # fmt: skip
    """A source of files, from how they are found, read and told from others; not to find them is what is missing."""

    def missing(config: SourceConfig) -> str | None:
        try:
            find(config)
        except InputError as fault:
            return str(fault)
        return None

    return SourceSpec(
        name, title, licence, lambda config: read(find(config)), missing, lambda config: fingerprint(find(config)),
        takes=takes, images=images,
    )  # fmt: skip


def _published(name: str, title: str, licence: str, files: dict[str, tuple[int, int]]) -> SourceSpec:
    """A published corpus, from its files in ORCA_DATA, each with the columns of words and tags."""
    return _of_files(
        lambda config: published_file(name, files), read_columns, columns_fingerprint,
        name=name, title=title, licence=licence,
    )  # fmt: skip


def _of_images(
    find: Callable[[str | None], list[Path]], read: Callable[[list[Path]], Images], **about: Any
) -> SourceSpec:
    def fingerprint(files: list[Path]) -> str:
        return runtime.digest({"source": about["name"], "files": [runtime.known_digest(file) for file in files]})

    return _of_files(lambda config: find(config.path), read, fingerprint, images=True, **about)


for _spec in (
    SourceSpec(
        name="ner",
        title="English sentences from a grammar of our own, entities PER, LOC, ORG, MISC",
        licence="Apache-2.0, part of Orca; synthetic",
        load=lambda config: make_corpus(seed=config.seed),
        missing=lambda config: None,
        fingerprint=lambda config: grammar_fingerprint(config.seed),
    ),
    _of_files(
        lambda config: own_columns(config.path, config.token_column, config.tag_column),
        read_columns,
        columns_fingerprint,
        name="conll",
        title="your own CoNLL column file (source.path), plain or gzip",
        licence="that of the file",
        takes="FILE",
    ),
    _published(
        "wnut17", "WNUT-17, entities of six types in messages and comments (Derczynski et al. 2017)", "CC BY 4.0",
        {"wnut17.train.conll.gz": (0, 1), "wnut17train.conll": (0, 1)},
    ),
    _published(
        "ud_ewt", "English Web Treebank, 17 parts of speech (Silveira et al. 2014)", "CC BY-SA 4.0",
        {"ud_ewt.train.conll.gz": (0, 1), "en_ewt-ud-train.conllu": (1, 3)},
    ),
    _of_images(
        cifar10_files, read_cifar10, name="cifar10", licence="not stated by its authors; to be got from them",
        title="CIFAR-10, 50,000 photographs of ten things, for vision bodies", takes="FOLDER",
    ),
    _of_images(
        own_file, read_own, name="images", licence="that of the file",
        title="your own images (source.path, .npz), for vision bodies", takes="FILE",
    ),
):  # fmt: skip
    SOURCES.add(_spec)
