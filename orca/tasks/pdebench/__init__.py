"""The tasks of PDEBench (Takamoto et al. 2022, arXiv 2210.07182) as ORCA poses them: one field in, a later one out."""

from __future__ import annotations

from orca.tasks.pdebench import (
    advection,
    burgers,
    cfd1d,
    cfd2d,
    darcy,
    diffsorp,
    reacdiff1d,
    reacdiff2d,
    shallow_water,
)

SPECS = (*advection.SPECS, *burgers.SPECS, *reacdiff1d.SPECS, *diffsorp.SPECS, *cfd1d.SPECS)
SPECS += (*darcy.SPECS, *shallow_water.SPECS, *reacdiff2d.SPECS, *cfd2d.SPECS)
