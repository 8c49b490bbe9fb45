"""Features of an embedder and a body that stay as they are: computed once, kept on the disk, read by the predictor."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from embedders import Tokens
from orca.batches import autocast, batches
from orca.model import AdaptedModel
from orca.types import DENSE, Examples


class FrozenFeatures:
    """A model's features of whole sets, in a folder that is removed at the end of the block.

    For a dense target the features of every token are kept, else their mean, which is all that the predictor reads.

    Args:
        model: whose embedder and body stay as they are for as long as this lives.
        folder: where the features lie.
        device: where the model is.
        dtype: precision of autocast, None for float32.
    """

    def __init__(self, model: AdaptedModel, folder: Path, *, device: torch.device, dtype: torch.dtype | None) -> None:
        self.model, self.folder, self.device, self.dtype = model, folder, device, dtype
        self.dense, self.size = model.layout.target in DENSE, model.layout.input_shape[1:]

    def __enter__(self) -> FrozenFeatures:
        shutil.rmtree(self.folder, ignore_errors=True)  # what a stopped process has left
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @torch.no_grad()
    def of(self, name: str, data: Examples) -> Examples:
        """The same examples with their features, float32, as inputs: (n, D), or (n, T, D) for a dense target."""
        file, found, was_training = self.folder / f"{name}.npy", None, self.model.training
        self.model.eval()
        for index, x, length in batches(data, 128, self.device):
            with autocast(self.device, self.dtype):
                values = self.model.encode(x, length).x if self.dense else self.model.pooled(x, length)
            if found is None:
                shape = (len(data), *values.shape[1:])
                found = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
            found[index] = values.float().cpu().numpy()
        self.model.train(was_training)
        assert found is not None
        return Examples(found, data.y, group=data.group)

    def answer(self, features: Tensor, length: Tensor | None = None) -> Tensor:
        """The model's answer from features as :meth:`of` gives them."""
        if self.dense:
            return self.model.read(Tokens(features, None, self.model.grid), self.size)
        return self.model.read(Tokens(features[:, None], None, (1,)), self.size)


def pays(data: Examples, rows: int, *, dense: bool) -> bool:
    """Whether features of a set are worth keeping for so many rows of training, and are all of one shape."""
    return rows >= len(data) and not (dense and data.length is not None)
