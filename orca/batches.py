"""Batches of examples on a device, and a model's answers over a whole set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from orca.types import Examples


def to_batch(data: Examples, index: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """The examples at ``index`` as (x, y, length) on a device, cut behind the longest sequence of the batch."""
    x, length = data.x[index], None
    if data.length is not None:
        valid = data.length[index]
        x, length = x[..., : int(valid.max())], torch.from_numpy(valid).to(device)
    y = torch.from_numpy(np.ascontiguousarray(data.y[index]))
    return torch.from_numpy(np.ascontiguousarray(x)).to(device), y.to(device), length


def batches(
    data: Examples, batch_size: int, device: torch.device
) -> Iterator[tuple[np.ndarray, Tensor, Tensor | None]]:
    """All examples once, as (index, x, length); sequences sorted by length, so that little is padding."""
    order = np.arange(len(data)) if data.length is None else np.argsort(data.length, kind="stable")
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        x, _, length = to_batch(data, index, device)
        yield index, x, length


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Mixed precision in ``dtype``, or nothing where it is None."""
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


@torch.no_grad()
def answers(
    model: nn.Module,
    data: Examples,
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    batch_size: int = 128,
    call: Callable[[Tensor, Tensor | None], Tensor] | None = None,
) -> np.ndarray:
    """A model's float32 answers over a whole set, in the set's order: (n, ...), or (G, ...) where rows are grouped.

    Args:
        model: put into evaluation mode, and back.
        data: the set.
        device: where the model is.
        dtype: precision of autocast, None for float32.
        batch_size: examples at once.
        call: what to call instead of the model's forward.
    """
    call = call or model
    was_training = model.training
    model.eval()
    rows: dict[int, np.ndarray] = {}
    for index, x, length in batches(data, batch_size, device):
        with autocast(device, dtype):
            out = call(x, length)
        for row, value in zip(index, out.float().cpu().numpy(), strict=True):
            rows[int(row)] = value
    model.train(was_training)
    return data.answered(np.stack([rows[i] for i in range(len(data))]))
