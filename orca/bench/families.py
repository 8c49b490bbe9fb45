"""Families of tasks with the numbers that are published on them.

A dash of the source is None. The numbers are errors, lower is better, in the unit of the publication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orca.registry import Registry

Row = tuple[float | None, ...]


@dataclass(frozen=True)
class Column:
    """One task of a family, in the unit of the publication.

    Attributes:
        task: name of the task and of its configuration.
        title: the publication's name.
        metric: ours that the published number compares with.
        scale: of the publication, such as 100 for per cent.
        complement: whether one minus the metric is published.
        caution: how the published number was made otherwise; empty where it was not.
        further: whether it is a harder or more honest frame, of which nothing is published.
    """

    task: str
    title: str
    metric: str
    scale: float = 1.0
    complement: bool = False
    caution: str = ""
    further: bool = False

    def published(self, value: float) -> float:
        """A value of our metric as the publication would print it."""
        return self.scale * (1 - value if self.complement else value)


@dataclass(frozen=True)
class Family:
    """Tasks that are reported together.

    Attributes:
        name: for the command line.
        title: for people.
        columns: its tasks.
        rows: published numbers by method, in the order of the columns that are not ``further``.
        source: where these are from.
        caution: what a reader of the published rows must know.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Mapping[str, Row] = field(default_factory=dict)
    source: str = ""
    caution: str = ""


SELECTED = "The ORCA row was selected on the test set (its validation loader is its test loader)."
FAMILIES: Registry[Family] = Registry("benchmark")
FAMILIES.add(
    Family(
        "nb360",
        "NAS-Bench-360",
        (
            Column("cifar100", "CIFAR-100", "error", 100),
            Column("spherical", "Spherical", "error", 100),
            Column("darcy-flow", "Darcy Flow", "relative_l2"),
            Column(
                "psicov",
                "PSICOV",
                "mae8",
                caution="every protein was cut to the length of the first, here to 118 residues: they do not compare",
            ),
            Column("cosmic", "Cosmic", "mask_balanced_error", caution="test skies were drawn anew; called 1 - AUROC"),
            Column("ninapro", "NinaPro", "error", 100),
            Column("fsd50k", "FSD50K", "map", complement=True),
            Column("ecg-nb360", "ECG", "macro_f1", complement=True),
            Column("satellite", "Satellite", "error", 100),
            Column("deepsea", "DeepSEA", "macro_auroc", complement=True, caution="a mean over chunks of the test set"),
            Column("ecg", "ECG, test windows that do not overlap", "macro_f1", complement=True, further=True),
        ),
        {
            "hand-designed": (19.39, 67.41, 8e-3, 3.35, 0.127, 8.73, 0.62, 0.28, 19.80, 0.30),
            "NAS-Bench-360 best": (23.39, 48.23, 2.6e-2, 2.94, 0.229, 7.34, 0.60, 0.34, 12.51, 0.32),
            "DASH": (24.37, 71.28, 7.9e-3, 3.30, 0.19, 6.60, 0.60, 0.32, 12.28, 0.28),
            "Perceiver IO": (70.04, 82.57, 2.4e-2, 8.06, 0.485, 22.22, 0.72, 0.66, 15.93, 0.38),
            "FPT": (10.11, 76.38, 2.1e-2, 4.66, 0.233, 15.69, 0.67, 0.50, 20.83, 0.37),
            "ORCA": (6.53, 29.85, 7.28e-3, 1.91, 0.152, 7.54, 0.56, 0.28, 11.59, 0.29),
        },
        "the table of the ORCA project page (Shen et al. 2023, arXiv 2302.05738)",
        SELECTED,
    )
)
FAMILIES.add(
    Family(
        "pdebench",
        "PDEBench",
        (
            Column("advection", "Advection", "nrmse"),
            Column("burgers", "Burgers", "nrmse"),
            Column("reacdiff1d", "Diff.-Reaction 1-D", "nrmse"),
            Column("diffsorp", "Diff.-Sorption", "nrmse"),
            Column("cfd1d", "Navier-Stokes 1-D", "nrmse", caution="measured in normalised space"),
            Column("darcy-pdebench", "Darcy", "nrmse"),
            Column("shallow-water", "Shallow Water", "nrmse"),
            Column("reacdiff2d", "Diff.-Reaction 2-D", "nrmse"),
            Column("burgers-nu0.01", "Burgers, little viscosity", "nrmse", further=True),
            Column("reacdiff1d-early", "Diff.-Reaction 1-D, early", "nrmse", further=True),
            Column("shallow-water-hard", "Shallow Water, any dam", "nrmse", further=True),
            Column("reacdiff2d-full", "Diff.-Reaction 2-D, both fields", "nrmse", further=True),
            Column("cfd2d", "Navier-Stokes 2-D", "nrmse", further=True),
        ),
        {
            "U-Net": (1.1, 0.99, 0.080, 0.22, None, None, 0.017, 1.6),
            "PINN": (0.67, 0.36, 0.0060, 0.15, 0.72, 0.18, 0.083, 0.84),
            "FNO": (0.011, 0.0031, 0.0014, 0.0017, 0.068, 0.22, 0.0044, 0.12),
            "ORCA": (0.0098, 0.012, 0.0030, 0.0016, 0.062, 0.081, 0.0060, 0.82),
        },
        "read off a bar chart with a logarithmic scale on the ORCA project page, about 2 % of reading error",
        f"{SELECTED} U-Net, PINN and FNO step through time or are given a history; ORCA maps one field to a later one.",
    )
)
FAMILIES.add(
    Family(
        "tabular",
        "tables",
        (
            Column("table-mixed", "two classes", "auroc", complement=True),
            Column("table-small", "four classes", "auroc_ovo", complement=True),
        ),
    )
)
