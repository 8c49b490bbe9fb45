"""The tasks of PDEBench (Takamoto et al. 2022, arXiv 2210.07182) as ORCA poses them: one field in, a later one out."""

from __future__ import annotations

from orca.tasks.pdebench import advection, darcy, reacdiff2d, shallow_water

SPECS = (*advection.SPECS,)
SPECS += (*darcy.SPECS, *reacdiff2d.SPECS, *shallow_water.SPECS)
