"""What a source set is, and how one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from orca.registry import Registry
from orca.sources.corpus import Corpus


@dataclass(frozen=True)
class SourceSpec:
    """A set of labelled language data.

    Attributes:
        name: its name in a configuration.
        title: one line for a list.
        licence: terms of the text.
        load: reads or makes the corpus; raises InputError where it cannot.
        missing: None when the data is here, else a sentence on how to get it.
        fingerprint: names the content; the same for the same corpus and no other. Raises InputError if it is missing.
    """

    name: str
    title: str
    licence: str
    load: Callable[[SourceConfig], Corpus]
    missing: Callable[[SourceConfig], str | None]
    fingerprint: Callable[[SourceConfig], str]


SOURCES: Registry[SourceSpec] = Registry("source")


class SourceConfig(BaseModel):
    """Which language data the embedder is aligned to, and which features are taken from it.

    Attributes:
        name: a source set.
        path: for `conll`: the file, plain or gzip.
        token_column: for `conll`: column of the word, counted from 0; negative counts from the end.
        tag_column: for `conll`: column of the tag, likewise.
        features: `token` takes the first sub-word of single words, `sentence` the mean over a sentence.
        merge_prefix: for tokens: whether B-PER and I-PER become one class PER. Sentences always have plain types.
        n: number of features in all.
        seed: decides the corpus of `ner`, and which features are taken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "ner"
    path: str | None = None
    token_column: int = 0
    tag_column: int = -1
    features: Literal["token", "sentence"] = "token"
    merge_prefix: bool = False
    n: int = Field(default=2000, ge=2)
    seed: int = 0

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return SOURCES.get(name).name
