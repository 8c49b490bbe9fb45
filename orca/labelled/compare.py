"""The distance of one labelled set to others, as records that are JSON already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from orca import runtime
from orca.discrepancies import DiscrepancyConfig
from orca.errors import InputError
from orca.labelled.methods import COMPARISONS, Comparison, Outcome
from orca.labelled.sets import ComparedSet, SetOptions, load_set
from orca.transport.mapping import label_mass
from orca.transport.options import OTDDOptions

UNITS = ("source", "absolute")
FACTS = ("converged", "marginal_error", "iterations", "between_means")  # in every record, null where not known


@dataclass(frozen=True)
class CompareOptions:
    """What is computed.

    Attributes:
        method: a name in ``COMPARISONS``.
        label_distance: how labels compare.
        reg: eps, in the unit that ``reg_unit`` names.
        reg_unit: ``source``: times the mean squared distance of two samples of the first set (for p = 1 its root);
            ``absolute``: the unit of the cost.
        p: power of the distances, 2 or 1.
        debias: subtract the self terms.
        lambda_x: weight of the features.
        lambda_y: weight of the labels.
    """

    method: str = "sinkhorn"
    label_distance: str = "gaussian"
    reg: float = 0.05
    reg_unit: str = "source"
    p: int = 2
    debias: bool = True
    lambda_x: float = 1.0
    lambda_y: float = 1.0

    def __post_init__(self) -> None:
        """Raises InputError for what is wrong already without the data."""
        COMPARISONS.get(self.method)
        self.transport(1.0)
        if self.reg_unit not in UNITS:
            raise InputError(f"reg-unit: expected {' or '.join(UNITS)}, got '{self.reg_unit}'")

    def transport(self, spread: float) -> OTDDOptions:
        """The options of transport, for a first set of this mean squared distance of two samples."""
        unit = spread ** (self.p / 2) if self.reg_unit == "source" else 1.0
        given = {key: value for key, value in asdict(self).items() if key not in ("method", "reg_unit")}
        return OTDDOptions(**{**given, "reg": self.reg * unit})


def compare(
    a: ComparedSet, others: Sequence[ComparedSet], options: CompareOptions | None = None
) -> list[dict[str, Any]]:
    """Distances of one set to others, nearest first.

    Args:
        a: the first set; it gives the unit of ``reg`` to all.
        others: the sets to rank.
        options: what is computed.

    Returns:
        One record each: names, value, its share of the first set's spread, label distances and mass moved between
        labels with the labels' names, convergence, samples, settings, versions, notes.

    Raises:
        InputError: dimensions differ where they must not, or the transport refuses the data.
    """
    options = options or CompareOptions()
    method = COMPARISONS.get(options.method)
    for b in others:
        _check_spaces(a, b, method)
    spread = DiscrepancyConfig(reg=1.0).options(a.data).reg
    transport = options.transport(spread)
    with torch.no_grad():
        towards = method.prepare(a.data, transport)
        records = [_record(a, b, towards(b.data), options, spread) for b in others]
    return sorted(records, key=lambda record: record["value"])


def rank(
    names: Sequence[str],
    sets: SetOptions | None = None,
    options: CompareOptions | None = None,
    *,
    progress: Callable[[str], None] = lambda name: None,
) -> list[dict[str, Any]]:
    """Distances of the first named set to all others, nearest first: ``load_set`` and ``compare`` in one.

    Args:
        names: two or more, as ``load_set`` takes them.
        sets: how names become features; part of each record's settings.
        options: what is computed.
        progress: called with each name before it is read, and with an empty text at last.

    Raises:
        InputError: as ``load_set`` and ``compare``.
    """
    sets = sets or SetOptions()
    loaded = []
    for name in names:
        progress(name)
        loaded.append(load_set(name, sets))
    progress("")
    records = compare(loaded[0], loaded[1:], options)
    return [{**record, "settings": {**asdict(sets), **record["settings"]}} for record in records]


def _check_spaces(a: ComparedSet, b: ComparedSet, method: Comparison) -> None:
    wide, other = a.data.x.shape[1], b.data.x.shape[1]
    if method.one_space and wide != other:
        raise InputError(
            f"'{a.name}' has {wide} features ({a.space}) and '{b.name}' {other} ({b.space}): one distance needs one "
            "space. Embed both with one body (--body NAME, without --raw), or project both to a common dimension and "
            "give them as .npz files, or compare relations inside each set (--method gromov, experimental)"
        )


def _record(a: ComparedSet, b: ComparedSet, found: Outcome, options: CompareOptions, spread: float) -> dict[str, Any]:
    method = COMPARISONS.get(options.method)
    labels = [[s.data.names[int(k)] for k in torch.unique(s.data.y)] for s in (a, b)]
    mass = None if found.plan is None else label_mass(found.plan, a.data.y, b.data.y)
    sets = {side: _facts(each) for side, each in (("a", a), ("b", b))}
    return {
        "a": a.name, "b": b.name, "value": found.value, "relative": found.value / spread ** (options.p / 2),
        "label_distances": _plain(found.label_distances), "source_labels": labels[0], "target_labels": labels[1],
        "label_mass": _plain(mass), **dict.fromkeys(FACTS), **found.facts,
        "samples": {side: facts["samples"] for side, facts in sets.items()}, "sets": sets,
        "settings": {**asdict(options), "absolute_reg": options.transport(spread).reg, "spread": spread},
        "notes": [*_notes(a, b, debias=options.debias and method.debiasable, one_space=method.one_space), *found.notes],
        "versions": runtime.versions(),
    }  # fmt: skip


def _plain(table: Tensor | None) -> list[list[float]] | None:
    return None if table is None else table.tolist()


def _facts(each: ComparedSet) -> dict[str, Any]:
    x = each.data.x.double() if each.data.x.device.type != "mps" else each.data.x
    n, d = x.shape
    classes = len(torch.unique(each.data.y))
    return {
        "samples": n, "available": each.available, "dimension": d, "classes": classes, "space": each.space,
        "labels": each.labels, "spread": 2 * float((x - x.mean(0)).square().sum(1).mean()),
    }  # fmt: skip


def _notes(a: ComparedSet, b: ComparedSet, *, debias: bool, one_space: bool) -> list[str]:
    n, m = len(a.data.x), len(b.data.x)
    notes = []
    if n != m:
        kind = "debiased values" if debias else "values"
        notes.append(f"{a.name} has {n} samples and {b.name} {m}: {kind} of small samples compare at equal sizes only")
    if one_space and a.space != b.space:
        notes.append(f"{a.name} is {a.space}, {b.name} is {b.space}: a distance means something within one space only")
    return notes
