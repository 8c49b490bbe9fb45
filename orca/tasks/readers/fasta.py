"""FASTA files: sequences, and what their header lines say of label and split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orca.errors import InputError


def read_fasta(path: Path) -> dict[str, Any]:
    """Sequences with what their header lines say: ``id``, ``label`` and ``split`` where these are there, ``sequence``.

    A header is ``>id``, ``>id|label``, ``>id|label|training`` (or testing), or ``>id key=value ...``.

    Raises:
        InputError: no FASTA, a sequence without letters, or headers of different form; the message names the line.
    """
    rows: list[dict[str, str]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as fault:
        raise InputError(f"{path} is no text in UTF-8 ({fault}); unpack it first if it is compressed") from fault
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.startswith(">"):
            _closed(rows, number, path)
            rows.append(_header(line[1:]) | {"sequence": ""})
            if list(rows[-1]) != list(rows[0]):
                has, first = ", ".join(rows[-1]), ", ".join(rows[0])
                raise InputError(f"line {number} of {path} tells {has}, the first header {first}; they must agree")
        elif line and not line.startswith(";"):
            if not rows:
                raise InputError(f"{path} is no FASTA file: line {number} comes before a header line >NAME")
            rows[-1]["sequence"] += line
    if not rows:
        raise InputError(f"{path} is no FASTA file: it has no header line >NAME")
    _closed(rows, len(lines) + 1, path)
    return {key: [row[key] for row in rows] for key in rows[0]}


def _closed(rows: Sequence[dict[str, str]], number: int, path: Path) -> None:
    if rows and not rows[-1]["sequence"]:
        raise InputError(f"the sequence before line {number} of {path} has no letters")


def _header(text: str) -> dict[str, str]:
    if "|" in text:
        parts = [part.strip() for part in text.split("|")]
        words = dict(zip(("id", "label", "split"), parts, strict=False))
        ending = {"training": "train", "testing": "test"}
        return words | ({"split": ending.get(words["split"], words["split"])} if "split" in words else {})
    name, *rest = text.split() or [""]
    return {"id": name} | dict(part.split("=", 1) for part in rest if "=" in part)
