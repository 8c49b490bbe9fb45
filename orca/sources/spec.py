"""What a source set is, and how one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from orca.registry import Choices, Registry
from orca.sources.corpus import Corpus
from orca.sources.images import Images


@dataclass(frozen=True)
class SourceSpec:
    """A set of labelled language data, or of labelled images.

    Attributes:
        name: its name in a configuration.
        title: one line for a list.
        licence: terms of the text.
        load: reads or makes the corpus or the images; raises InputError where it cannot.
        missing: None when the data is here, else a sentence on how to get it.
        fingerprint: names the content; the same for the same corpus and no other. Raises InputError if it is missing.
        takes: what ``source.path`` names, a file or a folder; empty where it takes none.
        images: whether it is for vision bodies.
    """

    name: str
    title: str
    licence: str
    load: Callable[[SourceConfig], Corpus | Images]
    missing: Callable[[SourceConfig], str | None]
    fingerprint: Callable[[SourceConfig], str]
    takes: str = ""
    images: bool = False


SOURCES: Registry[SourceSpec] = Registry("source")


class SourceConfig(BaseModel):
    """Which language data the embedder is aligned to, and which features are taken from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Source")

    name: Annotated[str, Choices(SOURCES.names)] = Field(
        default="ner", description="A source set, from `orca sources`; decides the classes."
    )
    path: str | None = Field(default=None, title="File", description="conll, images: the file; cifar10: its folder.")
    token_column: int = Field(
        default=0, title="Column of the Word", description="conll: counted from 0; negative counts from the end."
    )
    tag_column: int = Field(
        default=-1, title="Column of the Tag", description="conll: counted from 0; negative counts from the end."
    )
    features: Literal["token", "sentence"] = Field(
        default="token",
        description="token: the first sub-word of single words; sentence: the mean over a sentence.",
    )
    merge_prefix: bool = Field(
        default=False,
        title="Merge Prefixes",
        description="token: B-PER and I-PER become one class PER. Sentences always have plain types.",
    )
    n: int = Field(default=2000, ge=2, title="Features in All", description="Number of labelled features taken.")
    seed: int = Field(default=0, description="Decides the corpus of ner, and which features are taken.")

    @property
    def by_token(self) -> bool:
        """Whether a feature is one token, and no mean over several."""
        return self.features == "token" and not SOURCES.get(self.name).images

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return SOURCES.get(name).name

    @model_validator(mode="after")
    def _takes_a_path(self) -> SourceConfig:
        if self.path is not None and not SOURCES.get(self.name).takes:
            raise ValueError(f"'{self.name}' takes no file, got '{self.path}'; leave path out, or choose conll")
        return self
