"""A method as a configuration chooses it: with its options, applied to a model's layer groups."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from orca.bodies import AnyEncoder, Encoder, LayerGroup, build_encoder
from orca.errors import InputError
from orca.methods.method import INSERTED, METHODS, Method, Options, Origin, Phase, body_groups, places
from orca.types import Layout


class MethodChoice(BaseModel):
    """A method and what is chosen of it; is stored with a model.

    Attributes:
        name: the method's name.
        options: those of the method that differ from its defaults.
        train_embedder: whether the embedder trains, None for as the method has it.
        train_predictor: the same of the predictor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    options: dict[str, Any] = {}
    train_embedder: bool | None = None
    train_predictor: bool | None = None

    @property
    def method(self) -> Method:
        """The method.

        Raises:
            InputError: there is none of this name.
        """
        return METHODS.get(self.name)

    @property
    def given(self) -> Options:
        """All options, checked.

        Raises:
            InputError: the method has no such option, or it has another form.
        """
        return check_options(self.method, self.options)

    @property
    def held(self) -> dict[str, bool]:
        """The layer groups of which the configuration says whether they train, whatever the method says."""
        said = {"embedder": self.train_embedder, "head": self.train_predictor}
        return {group: trains for group, trains in said.items() if trains is not None}

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What trains when."""
        return self.method.phases(self.given)

    @property
    def decays(self) -> bool:
        """Whether matrices that the method inserts have weight decay."""
        insertion = (self.given.begins_with or self).method.insertion
        return insertion is None or insertion.decays

    def insert(self, encoder: AnyEncoder, origin: Origin | None = None) -> None:
        """Puts into an encoder what the method inserts; random numbers come from torch's global generator.

        Raises:
            InputError: the body is one of vision, and takes none of this.
        """
        insertion = self.method.insertion
        if insertion is None:
            return
        if not (insertion.vision or isinstance(encoder, Encoder)):
            able = [method.name for method in METHODS if method.insertion is None or method.insertion.vision]
            raise InputError(f"'{self.name}' is for bodies of language; for one of vision choose {', '.join(able)}")
        insertion.insert(encoder, self.given, origin)

    def predictor(self, layout: Layout, width: int, rows: int) -> nn.Module | None:
        """What stands for the predictor of a task, for features of this width and so many training examples, if any."""
        make = self.method.predictor
        return None if make is None else make(self.given, layout, width, rows)

    def merge(self, encoder: AnyEncoder) -> None:
        """Folds what the method inserted into the encoder's weights; the function stays the same but for rounding.

        Raises:
            InputError: it cannot be folded.
        """
        insertion = self.method.insertion
        if insertion is not None:
            if insertion.merge is None:
                raise InputError(f"what '{self.name}' inserts cannot be folded into the body's weights")
            insertion.merge(encoder, self.given)

    def lengths(self, epochs: int) -> list[int]:
        """The epochs of each phase, at least one.

        Raises:
            InputError: there are fewer epochs than phases, embedder or predictor are to train where nothing does, or a
                phase has nothing left to train.
        """
        phases = self.phases
        if not phases and self.held:
            raise InputError(
                f"nothing trains in '{self.name}'; leave finetune.train_embedder and finetune.train_predictor out"
            )
        if self.train_predictor is False and not self.train_embedder and not all(phase.body for phase in phases):
            raise InputError(f"nothing is left to train in '{self.name}': finetune.train_predictor is off")
        if epochs < len(phases):
            raise InputError(f"'{self.name}' trains in {len(phases)} phases; finetune.epochs is {epochs}, give more")
        ends, done = [0], 0.0
        for number, phase in enumerate(phases, 1):
            done += phase.share
            ends.append(min(max(round(epochs * done), ends[-1] + 1), epochs - len(phases) + number))
        return [end - start for start, end in zip(ends, ends[1:], strict=False)]

    def parameters(self, groups: list[LayerGroup], phase: int) -> dict[str, list[nn.Parameter]]:
        """The parameters that train in a phase, by layer group, in order; what the method inserted is one group.

        Raises:
            InputError: the phase trains part of the body, and this body has nothing of the kind.
        """
        chosen: dict[str, list[nn.Parameter]] = {}
        wanted, inside = self.phases[phase], False
        for place, parameter in places(groups):
            if self.held.get(place.group, wanted.trains(place)):
                chosen.setdefault(INSERTED if place.inserted else place.group, []).append(parameter)
                inside = inside or not place.outside
        if wanted.body and not inside:
            told = wanted.summary or self.method.summary
            raise InputError(f"'{self.name}' finds nothing in this body to train: it trains {told}")
        return chosen

    def apply(self, groups: list[LayerGroup], phase: int = 0) -> dict[str, list[nn.Parameter]]:
        """Sets ``requires_grad`` on every parameter for a phase; returns those that train, as :meth:`parameters`."""
        chosen = self.parameters(groups, phase)
        training = {id(parameter) for part in chosen.values() for parameter in part}
        for group in groups:
            for parameter in group.parameters():
                parameter.requires_grad_(id(parameter) in training)
        return chosen

    def check_task(self, layout: Layout) -> None:
        """Whether the method can answer the targets of a task, and finds there what its options ask for.

        Raises:
            InputError: it cannot, or does not.
        """
        if (able := self.method.targets) and layout.target not in able:
            raise InputError(
                f"'{self.name}' answers {', '.join(able)}; the target is {layout.target}; choose another method"
            )
        self.given.check_task(layout)

    def try_on(self, hf_config: dict[str, Any]) -> None:
        """Whether a body of this Hugging Face configuration has what the method needs, found without its weights.

        Raises:
            InputError: it has not.
        """
        with torch.device("meta"):
            encoder = build_encoder(hf_config)
            self.insert(encoder)
        for phase in range(len(self.phases)):
            self.parameters(body_groups(encoder), phase)

    def document(self) -> dict[str, Any]:
        """What the result of the third stage depends on beyond the method's name; defaults are written out."""
        parts = {"options": self.given.model_dump(mode="json")}
        parts |= {"train_embedder": self.train_embedder, "train_predictor": self.train_predictor}
        first = self.given.begins_with
        numbers = {"method_version": self.method.version, "first_version": 1 if first is None else first.method.version}
        version = {name: number for name, number in numbers.items() if number > 1}
        return {name: value for name, value in parts.items() if value not in ({}, None)} | version


def check_options(method: Method, options: dict[str, Any]) -> Options:
    """The options of a method with its defaults.

    Raises:
        InputError: lists all faults, and the options that there are.
    """
    try:
        return method.options.model_validate(options)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {_said(fault)}" for fault in error.errors()]
        there = method.options.defaults()
        hint = f"it has {there}" if there else "it has none"
        raise InputError(f"finetune.options of '{method.name}': {'; '.join(dict.fromkeys(faults))}; {hint}") from error


def _said(fault: Any) -> str:
    """A fault of pydantic in words."""
    if fault["type"] == "extra_forbidden":
        return "there is no such option"
    if fault["type"] == "tuple_type":
        return f"expected a list, as in [a, b]; got {fault['input']!r}"
    return f"{fault['msg'][0].lower()}{fault['msg'][1:]}; got {fault['input']!r}"
