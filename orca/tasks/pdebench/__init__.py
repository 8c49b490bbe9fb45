"""The tasks of PDEBench (Takamoto et al. 2022, arXiv 2210.07182) as ORCA poses them: one field in, a later one out."""

from __future__ import annotations

from orca.tasks.pdebench import advection, burgers, cfd1d, diffsorp, reacdiff1d

SPECS = (*advection.SPECS, *burgers.SPECS, *reacdiff1d.SPECS, *diffsorp.SPECS, *cfd1d.SPECS)
