"""How long tests wait for what another process does: far more than it takes, since shared machines stall."""

from __future__ import annotations

PATIENCE = 900  # seconds for what takes ten on a quiet machine
