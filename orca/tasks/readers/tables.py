"""Tables of named columns, each as one structured array: CSV, Parquet, ARFF, FASTA, folders, Hugging Face data sets.

A column is float64 with NaN where a number is missing, or text, empty where it is missing.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orca.errors import InputError
from orca.tasks.readers.arff import read_arff
from orca.tasks.readers.fasta import read_fasta
from orca.tasks.readers.folders import read_folder
from orca.tasks.readers.hub import HUB, is_hub, read_dataset

NUMBER, DIGITS = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d\d?)?"), 15  # as many as float64 keeps
MISSING = "?"  # besides what pandas takes for missing: nothing, NA, NaN, null and the like


def read_table(path: Path) -> np.ndarray:
    """The rows of a table, (n,), a structured array with a field for each column.

    Args:
        path: ``.csv``, ``.tsv`` (both may end in ``.gz``), ``.parquet``, ``.arff``, ``.fasta``, a folder of sounds or
            images by class, or ``hf:FOLDER``.

    Raises:
        InputError: the file is not there, broken, empty, of another kind, or holds columns that are neither numbers nor
            text; the message names the column.
    """
    suffix = table_suffix(path)
    if suffix != HUB and not (path.is_file() if suffix else path.is_dir()):
        raise InputError(f"there is no {'file' if suffix else 'folder'} {path}; expected a table: {TABLE_NAMES}")
    columns = TABLES[suffix](path)
    if not columns or not len(next(iter(columns.values()))):
        raise InputError(f"{path} has no rows")
    return stacked({name: _column(values, f"column {name} of {path}") for name, values in columns.items()})


def table_suffix(path: Path) -> str:
    """What says which table it is: an ending, ``.csv`` of ``a.csv.gz``, or ``hf:``; nothing of a folder."""
    if is_hub(path):
        return HUB
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes and not path.is_dir() else ""


def stacked(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Columns of one length (n,) as a structured array (n,)."""
    rows = np.empty(len(next(iter(columns.values()))), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    return rows


def _separated(separator: str) -> Callable[[Path], dict[str, Any]]:
    def read(path: Path) -> dict[str, Any]:
        import pandas as pd

        try:
            _distinct(_header(path, separator), path)
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the names would be dropped
                frame = pd.read_csv(
                    path, sep=separator, na_values=[MISSING], skipinitialspace=True, low_memory=False, index_col=False
                )
        except pd.errors.ParserWarning as fault:
            raise InputError(
                f"{path} has rows with more cells than there are column names; name every column"
            ) from fault
        except pd.errors.EmptyDataError as fault:
            raise InputError(f"{path} is empty; expected a line of column names, then rows") from fault
        except pd.errors.ParserError as fault:
            raise InputError(f"{path} has rows that do not fit its columns: {str(fault).strip()}") from fault
        except (UnicodeDecodeError, csv.Error) as fault:
            raise InputError(f"{path} is no text in UTF-8 ({fault}); save it so") from fault
        except (OSError, EOFError) as fault:
            raise InputError(f"{path} cannot be read ({fault}); get it again") from fault
        return _columns(frame, path)

    return read


def _header(path: Path, separator: str) -> list[str]:
    """The names in the first line; pandas would rename those that come twice."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as stream:
        lines: Any = stream
        return [name.strip() for name in next(csv.reader(lines, delimiter=separator), [])]


def _parquet(path: Path) -> dict[str, Any]:
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{path}: Parquet needs the package pyarrow; install it with pip install 'orca[parquet]'")
    import pandas as pd
    import pyarrow

    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (pyarrow.ArrowException, OSError, ValueError) as fault:
        raise InputError(f"{path} is no Parquet file, or it is damaged ({fault})") from fault
    return _columns(frame, path)


def _columns(frame: Any, path: Path) -> dict[str, Any]:
    """The columns of a data frame: numbers as float64, the rest as lists with None where a value is missing."""
    import pandas as pd

    names = [str(name) for name in frame.columns]
    _distinct(names, path)
    found: dict[str, Any] = {}
    for name, (_, values) in zip(names, frame.items(), strict=True):
        if pd.api.types.is_bool_dtype(values.dtype):
            found[name] = [None if pd.isna(v) else str(bool(v)) for v in values]
        elif pd.api.types.is_numeric_dtype(values.dtype):
            found[name] = values.to_numpy(np.float64, na_value=np.nan)
        elif pd.api.types.is_datetime64_any_dtype(values.dtype) or pd.api.types.is_timedelta64_dtype(values.dtype):
            raise InputError(
                f"column {name} of {path} holds dates; make numbers of them, such as days, or leave it out"
            )
        else:
            found[name] = [None if _gone(v) else v for v in values.astype(object)]
    return found


def _gone(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _distinct(names: Sequence[str], path: Path) -> None:
    if twice := next(_repeated(names), None):
        raise InputError(f"{path} has two columns called {twice}; give them different names")
    if "" in names:
        raise InputError(f"{path} has a column without a name, column {list(names).index('') + 1}; name every column")


def _repeated(names: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen and name:
            yield name
        seen.add(name)


def _column(values: Any, where: str) -> np.ndarray:
    """Float64 with NaN, or text with nothing, where a value is missing."""
    if isinstance(values, np.ndarray) and values.dtype == np.float64:
        if np.isinf(values).any():
            raise InputError(f"{where} has an infinite number in row {int(np.isinf(values).argmax())}; mend it")
        return values
    texts = ["" if value is None else as_text(value, where, row) for row, value in enumerate(values)]
    return np.array(texts, dtype=f"U{max(1, *map(len, texts))}")


def as_text(value: Any, where: str, row: int) -> str:
    """A cell as text; 3.0 is 3.

    Raises:
        InputError: it is neither text nor number.
    """
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.0f}" if float(value).is_integer() else repr(float(value))
    if isinstance(value, str | int | bool | np.integer | np.bool_):
        return str(value).strip()
    raise InputError(f"{where} holds a {type(value).__name__} in row {row}; expected text or numbers")


def spelled(text: str) -> str:
    """The one spelling of a category or class: 01 and 1.0 are 1, TRUE is True, as in a column of such alone."""
    if text.lower() in ("true", "false"):
        return text.capitalize()
    plain = NUMBER.fullmatch(text) and len(text) <= DIGITS
    return as_text(float(text), "", 0) if plain else text


TABLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".csv": _separated(","), ".tsv": _separated("\t"), ".parquet": _parquet, ".arff": read_arff,
    "": read_folder, ".fasta": read_fasta, ".fa": read_fasta, HUB: read_dataset,
}  # fmt: skip
TABLE_NAMES = ", ".join({"": "a folder", HUB: "hf:NAME"}.get(suffix, suffix) for suffix in TABLES)
