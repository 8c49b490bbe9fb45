"""The most memory that a process has held."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux alone has them


def peak_memory_mb() -> float:
    """The most memory this process has held since :func:`reset_peak_memory`, or since it began, MiB."""
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text()):
            return int(found[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, others KiB


def reset_peak_memory() -> None:
    """From now on the peak is counted anew; where the system cannot, it stays that of the whole process."""
    with contextlib.suppress(OSError):
        _RESET.write_text("5")
