"""Labelled language data as plain lists."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Corpus:
    """Sentences as words, and one tag for each word.

    Attributes:
        sentences: the words of each sentence.
        tags: the tags of each sentence, as many as it has words; ``O`` marks a word outside all entities.
    """

    sentences: list[list[str]]
    tags: list[list[str]]
