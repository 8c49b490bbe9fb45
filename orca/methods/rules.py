"""Methods that choose among the parameters that are there."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from orca.errors import InputError
from orca.methods.method import METHODS, Method, Options, Phase, Place, Rule


def everything(at: Place) -> bool:
    """All parameters."""
    return True


def predictor(at: Place) -> bool:
    """The predictor alone."""
    return at.group == "head"


class PartialOptions(Options):
    """Which blocks train."""

    last: int = Field(default=2, ge=1, description="How many blocks, counted from the last.")
    blocks: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="Numbers of blocks, from 0; unset takes the last."
    )


class HeadFirstOptions(Options):
    """How long the predictor trains alone."""

    share: float = Field(default=0.5, gt=0, lt=1, description="Share of the epochs for the predictor alone.")


def some_blocks(options: PartialOptions) -> Rule:
    """The chosen blocks, the final norm if the last is one of them, embedder and predictor."""

    def trains(at: Place) -> bool:
        blocks = options.blocks if options.blocks is not None else range(at.blocks - options.last, at.blocks)
        if not all(0 <= block < at.blocks for block in blocks):
            given = f"last {options.last}" if options.blocks is None else f"blocks {list(options.blocks)}"
            raise InputError(f"finetune.options: {given}, but the body has {at.blocks} blocks, numbered from 0")
        return at.outside or at.block in blocks or (at.group == "norm" and at.blocks - 1 in blocks)

    return trains


METHODS.add(Method("full", "everything", "Shen et al. 2023, arXiv 2302.05738", lambda options: (Phase(everything),)))
METHODS.add(
    Method(
        "layernorm",
        "layer norms, embedder and predictor (frozen pretrained transformer)",
        "Lu et al. 2021, arXiv 2103.05247",
        lambda options: (Phase(lambda at: at.outside or isinstance(at.module, nn.LayerNorm)),),
    )
)
METHODS.add(
    Method(
        "head",
        "the predictor on frozen features",
        "linear probing",
        lambda options: (Phase(predictor, body=False),),
        version=2,  # the frozen part drops nothing out
    )
)
METHODS.add(
    Method(
        "scratch",
        "everything, from random weights, without alignment",
        "the control of Shen et al. 2023, section 4",
        lambda options: (Phase(everything),),
        pretrained=False,
        aligned=False,
    )
)
METHODS.add(
    Method(
        "partial",
        "the last or chosen blocks, embedder and predictor",
        "Shen, Z. et al. 2021, arXiv 2102.03983",
        lambda options: (Phase(some_blocks(options)),),
        options=PartialOptions,
        demanding=True,
    )
)
METHODS.add(
    Method(
        "bitfit",
        "biases, embedder and predictor",
        "Ben Zaken et al. 2021, arXiv 2106.10199",
        lambda options: (Phase(lambda at: at.outside or at.name == "bias"),),
        demanding=True,
    )
)
METHODS.add(
    Method(
        "lp-ft",
        "the predictor first, then everything",
        "Kumar et al. 2022, arXiv 2202.10054",
        lambda options: (Phase(predictor, options.share, body=False), Phase(everything, 1 - options.share)),
        options=HeadFirstOptions,
    )
)
