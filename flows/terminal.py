"""What the command line shows: results on standard output, one progress line on standard error, plain tables."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any


def number(value: float | None) -> str:
    """Four significant digits; a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Aligned columns under a header."""
    widths = [max(len(str(row[i])) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def print_json(value: Any) -> None:
    """One JSON document on standard output; numbers that are not finite become null."""
    from orca.runtime import finite

    print(json.dumps(finite(value), indent=2, ensure_ascii=False))


class ProgressLine:
    """One line on standard error that is written over; nothing at all where that is no terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.active = sys.stderr.isatty() and not quiet
        self.stage = ""
        self.since = time.perf_counter()

    def __call__(self, facts: dict[str, Any]) -> None:
        """Shows the newest facts of a stage; a new stage begins a new line."""
        if not self.active:
            return
        if facts["stage"] != self.stage:
            self.end()
            self.stage, self.since = facts["stage"], time.perf_counter()
        sys.stderr.write("\r\033[K" + progress_text(facts))
        sys.stderr.flush()

    def end(self) -> None:
        """Ends the line of the stage that was shown, with its seconds."""
        if self.active and self.stage:
            sys.stderr.write(f"\r\033[K{self.stage:<9} {time.perf_counter() - self.since:6.1f} s\n")
            sys.stderr.flush()
        self.stage = ""


def progress_text(facts: Mapping[str, Any]) -> str:
    """One line from the facts of a stage: epoch, step, loss, validation, time left."""
    parts = [f"{facts['stage']:<9}"]
    if "epoch" in facts:
        parts.append(f"epoch {facts['epoch']}/{facts['epochs']}")
    if "step" in facts:
        parts.append(f"step {facts['step']}/{facts['steps']}")
    for key, label in (
        ("objective", "distance"),
        ("train_loss", "loss"),
        ("probe", "probe"),
        ("val_metric", "validation"),
    ):
        if facts.get(key) is not None:
            parts.append(f"{label} {number(facts[key])}")
    if "left" in facts:
        parts.append(f"{int(facts['left']) // 60}:{int(facts['left']) % 60:02d} left")
    return "  ".join(parts)


def summary(record: Mapping[str, Any]) -> str:
    """A run's result beside its baselines, its stages and where its report is."""
    metric = record["metric"]
    low, high = metric["ci95"]
    better = "higher" if metric["higher_is_better"] else "lower"
    lines = [
        f"{record['run']}: task {record['task']}, body {record['body']}, align {record['align']}, {record['method']}",
        f"  test {metric['name']} ({better} is better), n = {metric['n']}",
    ]
    named = {"this run": metric["value"], **record["baselines"]}
    width = max(len(name) for name in (*named, *record["shift"])) + 6
    interval = f"  [{number(low)}, {number(high)}] 95 %"
    for name, value in named.items():
        lines.append(f"    {name:<{width}} {number(value)}{interval if name == 'this run' else ''}")
    lines += [f"    shift {name:<{width - 6}} {number(value)}" for name, value in record["shift"].items()]
    stages = ", ".join(
        f"{s['name']} {'reused' if s['cached'] else format(s['seconds'], '.1f') + ' s'}" for s in record["stages"]
    )
    counts = record["parameters"]
    lines.append(f"  stages      {stages}")
    lines.append(f"  parameters  {counts['trained']:,} of {counts['total']:,} trained")
    lines.append(f"  report      {record['path']}/report.html")
    return "\n".join(lines)
