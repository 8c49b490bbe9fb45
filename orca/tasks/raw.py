"""Data as it is read, before it is encoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHIFT = "shift_"  # begins the names of splits that are shift sets


@dataclass(frozen=True)
class Raw:
    """Arrays of one split before encoding.

    Attributes:
        x: inputs in the form that the task's encoding expects, (n, ...).
        y: targets, (n,) or (n, ...).
        length: valid positions or samples, (n,), or None.
        group: rows with one answer share a number, (n,) int64, or None.
    """

    x: np.ndarray
    y: np.ndarray
    length: np.ndarray | None = None
    group: np.ndarray | None = None

    def subset(self, index: np.ndarray) -> Raw:
        """The rows at ``index``, a mask or positions."""
        return Raw(self.x[index], self.y[index], *(None if a is None else a[index] for a in (self.length, self.group)))
