"""The tasks of NAS-Bench-360 (Tu et al. 2022, arXiv 2110.05668) as ORCA poses them."""

from __future__ import annotations

from orca.tasks.nb360 import cifar100, cosmic, psicov, spherical

SPECS = (
    *cifar100.SPECS,
    *cosmic.SPECS,
    *psicov.SPECS,
    *spherical.SPECS,
)
