"""The third stage's settings, and the rates that they give each layer group."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from orca.augment import AUGMENTATIONS
from orca.errors import InputError
from orca.methods import INSERTED, METHODS, MethodChoice
from orca.registry import Choices


class FinetuneConfig(BaseModel):
    """The third stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Finetune")

    method: Annotated[str, Choices(METHODS.names)] = Field(
        default="full", description="What trains: a name from `orca methods`."
    )
    options: dict[str, Any] = Field(
        default={}, description="What can be chosen of the method, such as rank for lora: see `orca methods`."
    )
    train_embedder: bool | None = Field(
        default=None, description="Whether the embedder trains too; unset is as the method has it."
    )
    train_predictor: bool | None = Field(
        default=None, description="Whether the predictor trains too; unset is as the method has it."
    )
    epochs: int = Field(default=10, ge=1, description="Passes over the training set.")
    batch_size: int = Field(default=32, ge=1, description="Samples per optimiser step.")
    accumulate: int = Field(default=1, ge=1, description="Micro-batches that a step is computed in, to save memory.")
    lr: float = Field(default=1e-4, gt=0, title="Learning Rate", description="Peak, of the body's blocks.")
    embedder_lr: float = Field(
        default=1e-3, gt=0, title="Learning Rate of the Embedder", description="Peak, of the input embedder."
    )
    head_lr: float = Field(
        default=1e-3, gt=0, title="Learning Rate of the Head", description="Peak, of the output predictor."
    )
    inserted_lr: float = Field(
        default=1e-3, gt=0, title="Learning Rate of What Is Inserted", description="Peak, of what the method inserts."
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Rate of a block as a share of the next one's; the last that trains has all. "
        "What the method inserts has inserted_lr.",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Decoupled weight decay of matrices; vectors get none.")
    warmup: float = Field(
        default=0.1, ge=0, lt=1, description="Share of all steps in which the rates rise linearly from zero."
    )
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient of one step.")
    patience: int = Field(default=5, ge=1, description="Epochs without a better validation before training stops.")
    epoch_samples: int | None = Field(
        default=None, ge=1, description="Samples per epoch; unset takes the whole training set."
    )
    balanced: bool = Field(default=False, description="Draw classes equally often (classes only).")
    validation_samples: int | None = Field(
        default=None, ge=2, description="Cap on the validation samples used each epoch; unset takes all."
    )
    augment: tuple[Annotated[str, Choices(AUGMENTATIONS.names)], ...] = Field(
        default=(), description="How training samples are varied anew each epoch, in this order."
    )
    positive_weight: float | None = Field(
        default=None, gt=0, description="Weight of a label that is there against one that is not (multi-label only)."
    )

    # Settings that came later: stored work of runs that leave them alone keeps its key.
    LATER: ClassVar = ("augment", "positive_weight", "inserted_lr", "layer_decay")

    @property
    def choice(self) -> MethodChoice:
        """The method with what is chosen of it."""
        switches = {"train_embedder": self.train_embedder, "train_predictor": self.train_predictor}
        return MethodChoice(name=self.method, options=self.options, **switches)

    @model_validator(mode="after")
    def _method_can_do_it(self) -> FinetuneConfig:
        if self.method in METHODS:  # a wrong name is told by who knows the near ones
            try:
                self.choice.lengths(self.epochs)
            except InputError as fault:
                raise ValueError(fault) from fault
        return self

    def document(self) -> dict[str, Any]:
        """What the result of the stage depends on."""
        fields = type(self).model_fields
        alone = {name for name in self.LATER if getattr(self, name) == fields[name].default}
        told = {"options", "train_embedder", "train_predictor"}  # as the method tells them
        return self.model_dump(exclude=alone | told) | self.choice.document()


def rate_factor(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over the first share of steps, then cosine decay to zero at the last."""
    rising = max(1, round(total * warmup)) if warmup > 0 else 0
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def make_optimizer(chosen: dict[str, list[nn.Parameter]], config: FinetuneConfig) -> torch.optim.AdamW:
    """AdamW with the rate of each layer group; weight decay for matrices only, of what is inserted if it decays."""
    blocks = {name: int(name.removeprefix("block.")) for name in chosen if name.startswith("block.")}
    last = max(blocks.values(), default=0)
    rates = {name: config.lr * config.layer_decay ** (last - number) for name, number in blocks.items()}
    rates |= {"embedder": config.embedder_lr, "head": config.head_lr, INSERTED: config.inserted_lr}
    groups = []
    for name, parameters in chosen.items():
        rate, may = rates.get(name, config.lr), name != INSERTED or config.choice.decays
        for decays in (True, False):
            part = [p for p in parameters if (p.ndim > 1 and may) == decays]
            if part:
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": part, "lr": rate, "peak": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
