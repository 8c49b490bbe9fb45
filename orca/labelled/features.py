"""Features of tasks and of language data in a body's space, by the embedder that the align stage starts from."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from embedders import pool
from orca import runtime
from orca.batches import answers
from orca.bodies import Body, VisionBody
from orca.build import training_statistics
from orca.plan import Plan
from orca.stages import CALIBRATION_SAMPLES
from orca.types import Examples

FEATURES = {"embedder": "embedding space", "body": "output of the frozen encoder"}


def task_features(made: Plan, chosen: Examples, *, kind: str) -> Tensor:
    """Features of some training samples through a fresh embedder, that of the embed stage with this seed.

    Args:
        made: the plan of the task; its training split gives scaling and calibration.
        chosen: the samples, n of them.
        kind: ``embedder``, the mean over the embedded tokens, or ``body``, over the frozen encoder's output.

    Returns:
        (n, D), float32, on the plan's device.
    """
    config, data = made.config, made.data()
    some = runtime.rng("calibrate", config.seed).permutation(len(data.train))[:CALIBRATION_SAMPLES]
    model = made.build_model(
        training_statistics(data.train, data.layout, config.embed),
        calibrate_on=data.train.subset(some) if config.embed.calibrated else None,
    )

    def mean_token(x: Tensor, length: Tensor | None) -> Tensor:
        tokens = model.embedder(x, length)
        return pool(tokens.x, tokens.mask)

    call = {"embedder": mean_token, "body": model.pooled}[kind]
    alone = dataclasses.replace(chosen, group=None)
    return torch.from_numpy(answers(model, alone, device=made.device, call=call)).to(made.device)


class Encoded(nn.Module):
    """A body whose embedding layer is followed by its encoder, in the form that source features need."""

    def __init__(self, body: Body | VisionBody) -> None:
        super().__init__()
        self.body, self.tokenizer, self.embeddings = body, body.tokenizer, body.embeddings
        self.images = body.images

    def embed(self, inputs: Tensor, *mask: Tensor) -> Tensor:
        """What the body's embedding layer takes, ids and mask (B, T) or images, to the encoder's features (B, T, D)."""
        return self.body.encode(self.body.embed(inputs, *mask), *mask)
