"""What a method is: data. Phases with a rule over parameters, options, and what it puts into the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import nn

from orca.bodies import FAMILIES, VISION, AnyEncoder, Body, LayerGroup, VisionBody
from orca.errors import InputError
from orca.registry import Registry
from orca.types import Layout, TargetKind

INSERTED = "inserted"  # marks modules that a method puts into a body


class Options(BaseModel):
    """What can be chosen of a method, in ``finetune.options``; the base has nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def begins_with(self) -> Any:
        """The choice of the method that comes first, of a method that has another one begin; else None."""
        return None

    def check_task(self, layout: Layout) -> None:
        """Whether a task has what these options ask for.

        Raises:
            InputError: it has not.
        """

    @classmethod
    def defaults(cls) -> str:
        """Every option with its default, in a line; empty where there is none."""

        def shown(value: Any) -> str:
            return (
                " ".join(map(str, value))
                if isinstance(value, tuple)
                else "unset"
                if value in (None, {})
                else str(value)
            )

        return ", ".join(f"{name} ({shown(field.default)})" for name, field in cls.model_fields.items())


@dataclass(frozen=True)
class Place:
    """Where a parameter is, as rules see it.

    Attributes:
        group: its layer group: embedder, inserted, block.0 .. block.n, norm, head.
        blocks: how many blocks the body has.
        module: the module that owns it.
        name: its own name there, such as weight or bias.
        inserted: whether the method put it there.
    """

    group: str
    blocks: int
    module: nn.Module
    name: str
    inserted: bool

    @property
    def outside(self) -> bool:
        """Whether it belongs to the embedder or the predictor, which are no part of the body."""
        return self.group in ("embedder", "head")

    @property
    def block(self) -> int | None:
        """The number of its block."""
        return int(self.group.removeprefix("block.")) if self.group.startswith("block.") else None


Rule = Callable[[Place], bool]


@dataclass(frozen=True)
class Origin:
    """What the start of inserted modules may be taken from; not needed where their weights are loaded afterwards.

    Attributes:
        body: loads the body, with its words.
        classes: names of the task's classes.
    """

    body: Callable[[], Body | VisionBody]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Insertion:
    """What a method puts into a body.

    Attributes:
        insert: puts modules into an encoder, by the method's options.
        merge: folds them into the encoder's weights and takes them out; None where that cannot be.
        vision: whether bodies of vision take them too.
        decays: whether weight decay pulls their matrices to zero; scales, whose neutral value is one, have none.
    """

    insert: Callable[[Any, Any, Origin | None], None]
    merge: Callable[[AnyEncoder, Any], None] | None = None
    vision: bool = True
    decays: bool = True


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    Attributes:
        trains: whether a parameter trains.
        share: of the epochs.
        body: whether something in the body trains, so that it is a fault if a body has nothing to train.
        summary: what trains, in a line, where that is not what the method's own says.
    """

    trains: Rule
    share: float = 1.0
    body: bool = True
    summary: str = ""


@dataclass(frozen=True)
class Method:
    """A way to adapt.

    Attributes:
        name: the name in configurations.
        summary: what trains, in a line.
        source: the paper.
        phases: what trains when, by the options; none where nothing trains.
        options: what can be chosen.
        pretrained: whether the body starts from its pretrained weights, or from random ones.
        aligned: whether the align stage comes before it.
        insertion: what it puts into the body.
        predictor: makes what stands for the predictor and remembers the training set, from options, layout, width of
            the features and number of training examples; None leaves the predictor.
        targets: the kinds of target it can answer; none for all.
        demanding: whether a body may lack what it needs; it is then tried on the body's shape before any work.
        version: raised when the meaning of its result changes; part of the key of stored work.
    """

    name: str
    summary: str
    source: str
    phases: Callable[[Any], tuple[Phase, ...]]
    options: type[Options] = Options
    pretrained: bool = True
    aligned: bool = True
    insertion: Insertion | None = None
    predictor: Callable[[Any, Layout, int, int], nn.Module] | None = None
    targets: tuple[TargetKind, ...] = ()
    demanding: bool = False
    version: int = 1


METHODS: Registry[Method] = Registry("method")


def inserting(
    name: str, summary: str, source: str, insertion: Insertion, options: type[Options] = Options, version: int = 1
) -> Method:  # fmt: skip
    """A method that puts modules into the body and trains these, embedder and predictor."""
    return Method(
        name, summary, source, lambda options: (Phase(lambda at: at.outside or at.inserted),), options=options,
        insertion=insertion, demanding=True, version=version,
    )  # fmt: skip


def places(groups: list[LayerGroup]) -> Iterator[tuple[Place, nn.Parameter]]:
    """Every parameter of the groups, in order, with its place."""
    blocks = sum(group.name.startswith("block.") for group in groups)
    for group in groups:
        for root in group.modules:
            for module, inserted in _walk(root, inserted=False):
                for name, parameter in module.named_parameters(recurse=False):
                    yield Place(group.name, blocks, module, name, inserted), parameter


def _walk(module: nn.Module, *, inserted: bool) -> Iterator[tuple[nn.Module, bool]]:
    """A module and all inside it, with whether each is part of something that a method marked as inserted."""
    inserted = inserted or getattr(module, INSERTED, False)
    yield module, inserted
    for child in module.children():
        yield from _walk(child, inserted=inserted)


def body_groups(encoder: AnyEncoder) -> list[LayerGroup]:
    """The layer groups of an encoder, after a group for what a method put before its blocks, if anything."""
    before = tuple(LayerGroup(name, (child,)) for name, child in encoder.named_children() if name == INSERTED)
    return [*before, *encoder.layer_groups()]


def parts(encoder: AnyEncoder, roles: tuple[str, ...]) -> dict[str, nn.Module]:
    """The modules of these roles in every block, by their names in the encoder: attention, query, output, down ...

    Raises:
        InputError: the body's family does not say where it has them.
    """
    kind = encoder.config.model_type
    where = FAMILIES.get(kind) or VISION[kind]
    if unknown := [role for role in roles if not getattr(where, role)]:
        raise InputError(f"bodies of the family {kind} have no {unknown[0]} that a method can use")
    called = {module: name for name, module in encoder.named_modules()}
    blocks = [group.modules[0] for group in encoder.layer_groups() if group.name.startswith("block.")]
    inside = dict.fromkeys(getattr(where, role) for role in roles)
    return {f"{called[block]}.{name}": block.get_submodule(name) for block in blocks for name in inside}
