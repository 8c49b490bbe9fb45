"""LoRA and IA3, as Hugging Face's peft has them: their layers take the place of a body's own projections."""

from __future__ import annotations

import warnings
from typing import Any, Literal

from pydantic import Field

from orca.bodies import AnyEncoder
from orca.methods.method import INSERTED, METHODS, Insertion, Options, Origin, inserting, parts

Role = Literal["query", "key", "value", "output", "up", "down"]


class LoraOptions(Options):
    """The rank of the updates, and which projections have one."""

    rank: int = Field(default=8, ge=1, description="Rank of each update.")
    alpha: float = Field(default=16, gt=0, description="An update counts alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout of an update's input.")
    targets: tuple[Role, ...] = Field(
        default=("query", "value"),
        min_length=1,
        description="Which projections: of the attention and its output, up and down of the feed-forward layer.",
    )


def lora(encoder: AnyEncoder, options: LoraOptions, origin: Origin | None) -> None:
    """W x becomes W x + alpha / rank B A x with B zero at first."""
    from peft import LoraConfig

    given = {"r": options.rank, "lora_alpha": options.alpha, "lora_dropout": options.dropout}
    _inject(encoder, LoraConfig(**given, target_modules=list(parts(encoder, options.targets))))


def ia3(encoder: AnyEncoder, options: Options, origin: Origin | None) -> None:
    """Keys, values and the inner activations of the feed-forward layer are scaled by vectors, ones at first."""
    from peft import IA3Config

    inner = list(parts(encoder, ("down",)))  # scaled where they come in
    names = [*parts(encoder, ("key", "value")), *inner]
    _inject(encoder, IA3Config(target_modules=names, feedforward_modules=inner))


def _inject(encoder: AnyEncoder, config: Any) -> None:
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():  # peft says that it sees to the transposed weights of GPT-2
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
        inject_adapter_in_model(config, encoder)
    for _, layer in _layers(encoder):
        for part in layer.adapter_layer_names:
            setattr(getattr(layer, part), INSERTED, True)


def _layers(encoder: AnyEncoder) -> list[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in encoder.named_modules() if isinstance(module, BaseTunerLayer)]


def merge(encoder: AnyEncoder, options: Options) -> None:
    """Adds the updates to the weights, or multiplies them by the scales, and puts the plain projections back."""
    for name, layer in _layers(encoder):
        layer.merge()
        above, _, own = name.rpartition(".")
        setattr(encoder.get_submodule(above), own, layer.get_base_layer())


METHODS.add(
    inserting(
        "lora", "updates of low rank to projections, embedder and predictor", "Hu et al. 2021, arXiv 2106.09685",
        Insertion(lora, merge), LoraOptions,
    )
)  # fmt: skip
METHODS.add(
    inserting(
        "ia3", "scales of keys, values and feed-forward activations, embedder and predictor",
        "Liu et al. 2022, arXiv 2205.05638", Insertion(ia3, merge, decays=False), version=2,  # scales no longer decay
    )
)  # fmt: skip
