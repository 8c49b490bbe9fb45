"""ARFF, the form of OpenML's tables: a header of attributes, then rows. scipy's reader knows no text attributes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from orca.errors import InputError

NUMBERS = ("numeric", "real", "integer")
_CELL = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,]*?))\s*(?:,|$)""")
_ATTRIBUTE = re.compile(r"""@attribute\s+(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(\S+))\s+(.+)""", re.IGNORECASE)


def read_arff(path: Path) -> dict[str, np.ndarray | list[str | None]]:
    """The columns by name: numbers as float64 with NaN, nominal and text ones as lists with None, for ``?``.

    Raises:
        InputError: no ARFF, dates, relations or sparse rows, a row that does not fit, a number that is none, or a value
            that its attribute does not have; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as fault:
        raise InputError(f"{path} is no text in UTF-8 ({fault}); save it so") from fault
    told = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    told = [(number, line) for number, line in told if line and not line.startswith("%")]
    start = next((at for at, (_, line) in enumerate(told) if line.lower().startswith("@data")), None)
    if start is None:
        raise InputError(f"{path} is no ARFF file: it has no line @data")
    kinds = dict(_attribute(line, number, path) for number, line in told[:start] if _declares(line))
    if not kinds:
        raise InputError(f"{path} declares no attributes before its line @data")
    if len(kinds) < sum(_declares(line) for _, line in told[:start]):
        raise InputError(f"{path} has two attributes of one name; give them different names")
    rows = [_row(line, number, len(kinds), path) for number, line in told[start + 1 :]]
    numbers = [number for number, _ in told[start + 1 :]]
    return {
        name: _values([row[at] for row in rows], numbers, name, kind, path)
        for at, (name, kind) in enumerate(kinds.items())
    }


def _declares(line: str) -> bool:
    return line.lower().startswith("@attribute")


def _attribute(line: str, number: int, path: Path) -> tuple[str, frozenset[str] | str]:
    """Name and kind: ``number``, ``text``, or the set of a nominal attribute's values."""
    found = _ATTRIBUTE.fullmatch(line)
    if found is None:
        raise InputError(f"line {number} of {path} declares no attribute: {line}; expected @attribute NAME TYPE")
    name = _unescaped(next(part for part in found.groups()[:3] if part is not None))
    kind = found[4].strip()
    if kind.startswith("{") and kind.endswith("}"):
        return name, frozenset(value for value in _cells(kind[1:-1]) if value is not None)
    word = kind.split()[0].lower()
    if word not in (*NUMBERS, "string"):
        raise InputError(
            f"line {number} of {path}: attribute {name} is of type {word}; expected numbers, text or {{...}}"
        )
    return name, "text" if word == "string" else "number"


def _row(line: str, number: int, width: int, path: Path) -> list[str | None]:
    if line.startswith("{"):
        raise InputError(f"line {number} of {path} is a sparse row; write every value of it")
    cells = list(_cells(line))
    if len(cells) != width:
        raise InputError(f"line {number} of {path} has {len(cells)} values; there are {width} attributes")
    return cells


def _cells(line: str) -> Iterator[str | None]:
    """The values of a line, None for ``?``."""
    at = 0
    while at <= len(line):
        found = _CELL.match(line, at)
        if found is None:
            yield line[at:]
            return
        one, two, bare = found.groups()
        quoted = one if one is not None else two
        yield _unescaped(quoted) if quoted is not None else None if bare in ("?", "") else bare
        if found.end() >= len(line) and not line[: found.end()].rstrip().endswith(","):
            return
        at = found.end() if found.end() > at else len(line) + 1


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _values(
    cells: list[str | None], numbers: list[int], name: str, kind: frozenset[str] | str, path: Path
) -> np.ndarray | list[str | None]:
    if kind == "number":
        return np.array(
            [_number(cell, line, name, path) for cell, line in zip(cells, numbers, strict=True)], np.float64
        )
    if isinstance(kind, frozenset):
        for cell, line in zip(cells, numbers, strict=True):
            if cell is not None and cell not in kind:
                raise InputError(f"line {line} of {path}: {name} is {cell!r}, which is none of its declared values")
    return cells


def _number(cell: str | None, line: int, name: str, path: Path) -> float:
    try:
        return np.nan if cell is None else float(cell)
    except ValueError as fault:
        raise InputError(f"line {line} of {path}: {name} is {cell!r}; expected a number") from fault
