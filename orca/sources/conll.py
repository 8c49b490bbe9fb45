"""Column files: one word a line, columns parted by tabs or spaces, a blank line after a sentence.

CoNLL-2003 and its relatives read as they are; for CoNLL-U set ``token_column: 1`` and the ``tag_column`` (3 is UPOS).
"""

from __future__ import annotations

import gzip
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from orca import runtime
from orca.errors import InputError
from orca.sources.corpus import Corpus

READER = 1  # raise it when this file changes what a corpus holds
GZIP = b"\x1f\x8b"
# CoNLL-U gives a contraction a line of its own, 3-4, above its two words, and an elided word a number like 8.1.
_NOT_A_WORD = re.compile(r"\d+[-.]\d+")


class Columns(NamedTuple):
    """A column file, and where its words and tags are; negative numbers count from the end."""

    file: Path
    word: int
    tag: int


def published_file(name: str, files: Mapping[str, tuple[int, int]]) -> Columns:
    """The first of a published set's files that ORCA_DATA holds, each given with its columns of words and tags.

    Raises:
        InputError: it holds none of them; says how to get one.
    """
    data = os.environ.get("ORCA_DATA")
    for file, columns in files.items():
        if data and (Path(data) / file).is_file():
            return Columns(Path(data) / file, *columns)
    held = f"{data} holds none" if data else "ORCA_DATA is not set"
    raise InputError(f"source '{name}' needs one of {', '.join(files)} in the folder ORCA_DATA, but {held}")


def own_columns(path: str | None, word: int, tag: int) -> Columns:
    """A column file of one's own.

    Raises:
        InputError: it is not there; says what to set.
    """
    if not path:
        raise InputError("source 'conll' needs a file: set source.path to a CoNLL column file, plain or .gz")
    if (file := Path(path).expanduser()).is_file():
        return Columns(file, word, tag)
    raise InputError(f"source 'conll': there is no file {path}; set source.path to a CoNLL column file, plain or .gz")


def _lines(path: Path) -> list[str]:
    """The file's lines; only a newline ends one, because words may hold the other separators that Unicode knows.

    Raises:
        InputError: the file is a damaged archive or is not UTF-8.
    """
    raw = path.read_bytes()
    try:
        raw = gzip.decompress(raw) if raw.startswith(GZIP) else raw
        return list(io.StringIO(raw.decode("utf-8-sig"), newline=None))
    except (OSError, EOFError) as error:
        raise InputError(f"{path} starts as a gzip archive but is damaged ({error}); get it again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _is_comment(line: str, *, tabs: bool, inside: bool) -> bool:
    """Whether a line is a comment of CoNLL-U; where spaces part the columns, ``# O`` inside a sentence is a word."""
    return line.startswith("# ") and ("\t" not in line if tabs else not inside)


def _split(line: str, *, tabs: bool) -> list[str]:
    return line.split("\t") if tabs else [column for column in line.split(" ") if column]


def _pair(columns: list[str], token_column: int, tag_column: int) -> tuple[str, str] | None:
    """Word and tag of a line; None if it has no such columns, or they are empty."""
    have = range(-len(columns), len(columns))
    if len(columns) < 2 or token_column not in have or tag_column not in have:
        return None
    word, tag = columns[token_column], columns[tag_column]
    return (word, tag) if word and tag else None


def read_columns(columns: Columns) -> Corpus:
    """Reads a column file, plain or gzip (told by its first bytes).

    Lines that start with ``-DOCSTART-`` and comments (``# ``) are left out.

    Raises:
        InputError: the file is damaged, without sentences, or a line has too few columns.
    """
    file, word, tag = columns
    lines = _lines(file)
    tabs = any("\t" in line for line in lines)
    sentences: list[list[tuple[str, str]]] = [[]]
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\n")
        if not line.strip():
            sentences.append([])
        elif not line.startswith("-DOCSTART-") and not _is_comment(line, tabs=tabs, inside=bool(sentences[-1])):
            cells = _split(line, tabs=tabs)
            pair = _pair(cells, word, tag)
            if pair is None:
                raise InputError(
                    f"{file}, line {number}: columns {word} (word) and {tag} (tag) are asked for; "
                    f"the line has {len(cells)}, parted by {'tabs' if tabs else 'spaces'}: {line[:60]!r}; "
                    "set source.token_column and source.tag_column, or mend the line"
                )
            if word == 0 or not _NOT_A_WORD.fullmatch(cells[0]):
                sentences[-1].append(pair)
    full = [sentence for sentence in sentences if sentence]
    if not full:
        raise InputError(f"{file} holds no sentences; set source.path to a file with a word and its tag on each line")
    if word == 0 and all(text.isdecimal() for one in full for text, _ in one):
        raise InputError(
            f"{file}: column 0 holds numbers alone, as in CoNLL-U, where words are in column 1 and tags in 3; set "
            "source.token_column: 1 and source.tag_column: 3"
        )
    return Corpus([[word for word, _ in one] for one in full], [[tag for _, tag in one] for one in full])


def columns_fingerprint(columns: Columns) -> str:
    """Names the corpus by the file's content and the columns taken, whatever the file is called."""
    content = runtime.known_digest(columns.file)
    return runtime.digest(
        {"source": "conll", "reader": READER, "file": content, "token_column": columns.word, "tag_column": columns.tag}
    )
