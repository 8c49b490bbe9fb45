"""The tasks of NAS-Bench-360 (Tu et al. 2022, arXiv 2110.05668) as ORCA poses them."""

from __future__ import annotations

from orca.tasks.nb360 import (
    cifar100,
    cosmic,
    darcy_flow,
    deepsea,
    ecg,
    fsd50k,
    ninapro,
    psicov,
    satellite,
    spherical,
)

SPECS = (
    *cifar100.SPECS,
    *spherical.SPECS,
    *darcy_flow.SPECS,
    *psicov.SPECS,
    *cosmic.SPECS,
    *ninapro.SPECS,
    *fsd50k.SPECS,
    *ecg.SPECS,
    *satellite.SPECS,
    *deepsea.SPECS,
)
