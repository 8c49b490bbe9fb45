"""A parameter-efficient method first, then everything."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from orca.bodies import AnyEncoder
from orca.methods.choice import MethodChoice
from orca.methods.method import METHODS, Insertion, Method, Options, Origin, Phase
from orca.methods.rules import everything
from orca.types import Layout


class FirstOptions(Options):
    """What comes first, and for how long."""

    first: Literal["lora", "ia3", "adapter", "prompt", "prefix", "bitfit"] = Field(
        default="lora", description="The method of the first phase."
    )
    share: float = Field(default=0.5, gt=0, lt=1, description="Share of the epochs for the first phase.")
    options: dict[str, Any] = Field(default={}, description="Options of the first method.")

    @model_validator(mode="after")
    def _checked(self) -> FirstOptions:
        self.begins_with.given  # noqa: B018 - raises where they do not fit
        return self

    def check_task(self, layout: Layout) -> None:
        """Whether a task has what the first method's options ask for."""
        self.begins_with.check_task(layout)

    @property
    def begins_with(self) -> MethodChoice:
        """The first method with its options."""
        return MethodChoice(name=self.first, options=self.options)


def phases(options: FirstOptions) -> tuple[Phase, ...]:
    """The phase of the first method, then everything, what it inserted included."""
    (first,) = options.begins_with.phases
    begin = f"{options.begins_with.method.summary} first"
    return Phase(first.trains, options.share, summary=begin), Phase(everything, 1 - options.share)


def insert(encoder: AnyEncoder, options: FirstOptions, origin: Origin | None) -> None:
    """Puts in what the first method inserts."""
    options.begins_with.insert(encoder, origin)


def merge(encoder: AnyEncoder, options: FirstOptions) -> None:
    """Folds in what the first method inserted, where it can."""
    options.begins_with.merge(encoder)


METHODS.add(
    Method(
        "peft-ft",
        "a parameter-efficient method first, then everything",
        "after Kumar et al. 2022, arXiv 2202.10054",
        phases,
        options=FirstOptions,
        insertion=Insertion(insert, merge),
        demanding=True,
    )
)
