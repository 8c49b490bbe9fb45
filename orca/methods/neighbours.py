"""Nearest neighbours on frozen features: nothing trains, the predictor remembers the training set."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from embedders import pool
from orca.methods.method import METHODS, Method, Options
from orca.types import Layout

RARE = 1e-6  # a share of votes is not taken for smaller, so that its logarithm is finite


class NeighboursOptions(Options):
    """How many neighbours have a say, and how much."""

    neighbours: int = Field(default=10, ge=1, description="How many of the nearest training examples vote.")
    temperature: float = Field(
        default=0.07, gt=0, description="A vote weighs exp(similarity / temperature); large gives all the same."
    )


class Neighbours(nn.Module):
    """The mean target of the nearest training examples by cosine similarity around the training mean, weighted.

    Args:
        options: of the method.
        layout: of the task.
        width: D.
        rows: N, the number of training examples.
    """

    features: Tensor
    targets: Tensor
    centre: Tensor

    def __init__(self, options: NeighboursOptions, layout: Layout, width: int, rows: int) -> None:
        super().__init__()
        self.options, self.target, self.outputs = options, layout.target, layout.target_shape[0]
        self.register_buffer("features", torch.zeros(rows, width))  # of length one, around the centre
        self.register_buffer("targets", torch.zeros(rows, self.outputs))
        self.register_buffer("centre", torch.zeros(width))

    @torch.no_grad()
    def remember(self, features: Tensor, targets: Tensor) -> None:
        """Keeps the features (N, D) and targets, (N,) of classes or (N, K), of the training set."""
        self.centre.copy_(features.mean(0))
        self.features.copy_(F.normalize(features - self.centre, dim=1))
        self.targets.copy_(F.one_hot(targets, self.outputs) if self.target == "classes" else targets)

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """Features (B, T, D) to logits of shares (B, K), or values; in float32, as similarities and numbers need it."""
        with torch.autocast(features.device.type, enabled=False):
            return self._vote(pool(features, mask).float())

    def _vote(self, pooled: Tensor) -> Tensor:
        query = F.normalize(pooled - self.centre, dim=1)
        count = min(self.options.neighbours, len(self.features))
        near, rows = (query @ self.features.T).topk(count, dim=1)  # (B, k)
        weight = (near / self.options.temperature).softmax(1)
        mean = torch.einsum("bk,bko->bo", weight, self.targets[rows])
        if self.target == "scalar":
            return mean
        share = mean.clamp(RARE, 1 - RARE)
        return share.log() if self.target == "classes" else share.logit()


METHODS.add(
    Method(
        "knn",
        "nothing: the nearest training examples vote, on frozen features",
        "Wu et al. 2018, arXiv 1805.01978",
        lambda options: (),
        options=NeighboursOptions,
        predictor=Neighbours,
        targets=("classes", "multilabel", "scalar"),
        version=2,  # answers in float32 in mixed precision too
    )
)
