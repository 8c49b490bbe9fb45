"""Samples that come twice: compared by value, up to their length, text in upper case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from orca.tasks.assemble import row_digest
from orca.tasks.checks import Finding
from orca.tasks.raw import Raw

BLOCK = 2**26  # bytes looked at at once


def blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of an array, so many at once as ``BLOCK`` has room for, with the number of the first."""
    step = max(1, BLOCK // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        yield start, np.asarray(array[start : start + step])


def repeated(parts: Mapping[str, Raw], *, excuse: str = "") -> Iterator[Finding]:
    """Samples that come twice: in two splits, which is wrong, or in one, which is worth knowing.

    Args:
        parts: the raw splits.
        excuse: why splits may share samples, with which nothing is wrong; empty where they may not.
    """
    usable = {name: raw for name, raw in parts.items() if np.ndim(raw.x) and len(raw.x) == len(raw.y)}
    kinds = {raw.x.dtype.kind for raw in usable.values()}
    common = np.result_type(*(raw.x.dtype for raw in usable.values())) if kinds and kinds <= set("iufb") else None
    keys = {name: _keys(raw, common) for name, raw in usable.items()}
    first: dict[str, dict[bytes, int]] = {}
    for name, found in keys.items():
        places = first[name] = {}
        again = [row for row, key in enumerate(found) if places.setdefault(key, row) != row]
        if again:
            y = usable[name].y
            other = sum(not np.array_equal(y[row], y[places[found[row]]]) for row in again)
            words = f"; {other} of them have another target" if other else ""
            what = f"{len(again)} of {len(found)} rows repeat an earlier one, first row {again[0]}{words}"
            yield Finding(name, what, wrong=False)
    for one, other in _pairs(list(keys)):
        if common_keys := first[one].keys() & first[other].keys():
            rows = [[row for row, key in enumerate(keys[name]) if key in common_keys] for name in (one, other)]
            at = first[one][keys[other][rows[1][0]]]
            what = (
                f"{len(rows[0])} of {len(keys[one])} rows of {one} are also in {other} ({len(rows[1])} of its "
                f"{len(keys[other])} rows): row {rows[1][0]} of {other} is row {at} of {one}{excuse and '; '}{excuse}"
            )
            yield Finding(f"{one} and {other}", what, wrong=not excuse)


def _pairs(names: list[str]) -> Iterator[tuple[str, str]]:
    """Splits that must not share a sample: what is learned or chosen from, and what is tested on."""
    learned = [name for name in ("train", "val") if name in names]
    yield from ((one, other) for one in learned for other in names if other not in learned)
    if len(learned) == 2:
        yield "train", "val"


def _keys(raw: Raw, common: np.dtype | None) -> list[bytes]:
    """What tells the inputs apart: their values up to their length, text in upper case."""
    found: list[bytes] = []
    for start, block in blocks(raw.x):
        if block.dtype.kind in "SU":
            found += [str(text).upper().encode() for text in block.astype(str)]
            continue
        values = block.astype(common) + 0 if common is not None else block  # + 0: -0.0 is 0.0
        for row, value in enumerate(values):
            valid = value if raw.length is None else value[..., : int(raw.length[start + row])]
            found.append(row_digest(valid))
    return found
