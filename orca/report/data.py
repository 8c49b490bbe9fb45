"""Reads a run directory into plain values for the page. Only run.json must be there; other sections may be left out."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from orca.errors import InputError
from orca.metrics import METRICS
from orca.types import Layout


@dataclass(frozen=True)
class RunData:
    """What the page shows.

    Attributes:
        run: run.json.
        metrics: metrics.json, or {}.
        align: one record per epoch of alignment; ``kept``: its closing record, or {}.
        finetune: one record per epoch of training.
        config: text of config.yaml.
        layout: of the task, or None.
        arrays: predictions.npz by name.
    """

    run: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    align: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)
    finetune: list[dict[str, Any]] = field(default_factory=list)
    config: str = ""
    layout: Layout | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def metric(self) -> dict[str, Any]:
        """The test metric's record."""
        return self.run.get("metric") or self.metrics.get("test") or {}

    def class_name(self, index: int) -> str:
        """Name of a class or target column, its number where it has none."""
        names = self.layout.classes if self.layout else ()
        return names[index] if index < len(names) else str(index)


def read_run(run_dir: Path, *, arrays: bool = True) -> RunData:
    """Reads the files of a run.

    Args:
        run_dir: the run's folder.
        arrays: whether to read predictions.npz, which may be large.

    Raises:
        InputError: there is no run.json.
    """
    if not (run_dir / "run.json").is_file():
        raise InputError(f"'{run_dir}' is not a finished run: it has no run.json; see `orca runs` for those there are")
    lines = _text(run_dir / "history.jsonl").splitlines()
    history = [json.loads(line) for line in lines if line.strip()]
    align = [h for h in history if h.get("stage") == "align"]
    layout = _json(run_dir / "layout.json")
    return RunData(
        run=_json(run_dir / "run.json"),
        metrics=_json(run_dir / "metrics.json"),
        align=[h for h in align if "epoch" in h],
        kept=next((h for h in align if "kept" in h), {}),
        finetune=[h for h in history if h.get("stage") == "finetune" and "epoch" in h],
        config=_text(run_dir / "config.yaml"),
        layout=_layout(layout) if layout else None,
        arrays=_arrays(run_dir / "predictions.npz") if arrays else {},
    )


def _layout(stored: dict[str, Any]) -> Layout:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return Layout(**values)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _json(path: Path) -> dict[str, Any]:
    return json.loads(_text(path) or "{}")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def number(value: Any) -> float:
    """A value of a record as a float; NaN for what is missing."""
    return float(value) if isinstance(value, int | float) else math.nan


def column(records: list[dict[str, Any]], key: str) -> np.ndarray:
    """One key of all records, (len,), NaN where it is missing."""
    return np.array([number(r.get(key)) for r in records], dtype=np.float64)


def show(value: Any) -> str:
    """A number as text: three significant digits, whole numbers with thin groups, a dash for none or NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, int) or (isinstance(value, float) and abs(value) >= 1000 and math.isfinite(value)):
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:#.3g}".rstrip(".") if isinstance(value, float) else str(value)


def metric_title(name: str) -> str:
    """The metric's words, the bare name for one that is not registered."""
    return (METRICS.get(name).title or name) if name in METRICS else name


def metric_label(name: str) -> str:
    """The metric's words with its unit, for axes."""
    return f"{metric_title(name)} ({METRICS.get(name).unit})" if name in METRICS else name


def short(name: str) -> str:
    """A set's name without the folders of its path."""
    return name.rpartition("/")[2]
