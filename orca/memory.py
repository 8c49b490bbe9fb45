"""The most memory that a process has held, its own and that of GPUs."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import Any

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux alone has them


def peak_memory_mb() -> float:
    """The most memory this process has held since :func:`reset_peak_memory`, or since it began, MiB."""
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text()):
            return int(found[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, others KiB


def peak_gpu_memory_mb() -> float | None:
    """The most memory of one CUDA device that tensors of this process have held since then, MiB; None without a GPU."""
    cuda = _cuda()
    if cuda is None:
        return None
    return max(cuda.max_memory_allocated(device) for device in range(cuda.device_count())) / 2**20


def reset_peak_memory() -> None:
    """From now on the peaks are counted anew; where the system cannot, its own stays that of the whole process."""
    with contextlib.suppress(OSError):
        _RESET.write_text("5")
    if (cuda := _cuda()) is not None:
        for device in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(device)


def _cuda() -> Any:
    """Torch's CUDA module where this process computes there; nothing is imported for that."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
