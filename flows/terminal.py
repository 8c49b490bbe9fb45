"""What the command line shows: results on standard output, one progress line on standard error, plain tables."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orca.errors import InputError, TrainingError
from orca.runtime import number

CLEAR = "\r\033[K"  # empties the line that the cursor is on
STOPPED = 130  # the exit code of a command that Ctrl-C ended
# Faults of stages come to the command as exceptions, and Prefect's own account of them would be a second one; its
# workers tell at the end that they are not yet done, or again and again that the server is away.
UNHEARD = ("prefect.flow_runs", "prefect.task_runs", "EventsWorker", "APILogWorker", "prefect.events")


@contextlib.contextmanager
def exit_codes(on_stop: str = "stopped") -> Iterator[None]:
    """Turns bad input into a message and exit code 2, training that cannot go on into 1, Ctrl-C into 130."""
    try:
        yield
    except KeyboardInterrupt:
        leave(on_stop, STOPPED)
    except PermissionError as fault:
        leave(f"no permission for {fault.filename}; choose another place", 2)
    except InputError as fault:
        leave(str(fault), 2)
    except TrainingError as fault:
        leave(str(fault), 1)


def leave(message: str, code: int) -> None:
    """Ends the command with a message on standard error."""
    tell(f"orca: {message}")
    raise SystemExit(code)


def tell(message: str) -> None:
    """A line on standard error for a person, at once even where it goes into a file."""
    print(f"{start_of_line()}{message}", file=sys.stderr, flush=True)


def tell_for_now(text: str) -> None:
    """A line on standard error that the next one is written over; none without a terminal."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1  # a longer line would wrap, and could not be written over
        sys.stderr.write(CLEAR + text[:width])
        sys.stderr.flush()


def start_of_line() -> str:
    """What brings the cursor to an empty line of a terminal."""
    return CLEAR if sys.stderr.isatty() else ""


def log_to_stderr() -> None:
    """Warnings go to standard error in one line each; who sets ``PREFECT_LOGGING_LEVEL`` gets all of that level."""
    level = os.environ.get("PREFECT_LOGGING_LEVEL")
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level.upper() if level else logging.WARNING)
    handler.setFormatter(logging.Formatter(f"{start_of_line()}%(name)s: %(message)s"))
    if not level:
        handler.addFilter(lambda record: not record.name.startswith(UNHEARD))
    logging.getLogger().addHandler(handler)


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Aligned columns under a header."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows))
    return "\n".join(line.rstrip() for line in lines)


def print_json(value: Any) -> None:
    """One JSON document on standard output; numbers that are not finite become null."""
    from orca.runtime import finite

    print(json.dumps(finite(value), indent=2, ensure_ascii=False))


class ProgressLine:
    """A line on standard error that is written over, and one that stays for each finished stage.

    Without a terminal it tells of retries alone.
    """

    def __init__(self) -> None:
        self.active = sys.stderr.isatty()
        self.facts: dict[str, Any] = {}
        self.until: float | None = None  # when the stage will be done, on the clock of time.monotonic

    def __call__(self, facts: Mapping[str, Any]) -> None:
        """Shows the newest facts of a stage."""
        if "retry" in facts:
            tell(f"orca: {facts['stage']} failed, trying once more: {facts['retry']}")
        elif self.active and "done" in facts:
            tell(f"{facts['stage']:<9} {'reused' if facts['cached'] else format(facts['done'], '.1f') + ' s'}")
        elif self.active:
            tell_for_now(progress_text(self._merged(facts)))

    def _merged(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The facts, with what an earlier call told of the same stage: last validation, time left."""
        if facts["stage"] != self.facts.get("stage"):
            self.facts, self.until = {}, None
        if "left" in facts:
            self.until = time.monotonic() + facts["left"]
        left = {} if self.until is None else {"left": max(0.0, self.until - time.monotonic())}
        earlier = {key: self.facts[key] for key in ("val_metric", "probe") if self.facts.get(key) is not None}
        self.facts = {**earlier, **{key: value for key, value in facts.items() if value is not None}, **left}
        return self.facts


def progress_text(facts: Mapping[str, Any]) -> str:
    """One line from the facts of a stage: epoch, step, loss, validation, time left."""
    return "  ".join([f"{facts['stage']:<9}", *progress_words(facts)])


def progress_words(facts: Mapping[str, Any]) -> list[str]:
    """The facts of a stage, each in a few words."""
    parts = [f"{key} {facts[key]}/{facts[key + 's']}" for key in ("epoch", "step") if key in facts]
    labels = {"objective": "distance", "train_loss": "loss", "probe": "probe", "val_metric": "validation"}
    parts += [f"{label} {number(facts[key])}" for key, label in labels.items() if facts.get(key) is not None]
    if "left" in facts:
        parts.append(f"{duration(facts['left'])} left")
    return parts


def duration(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def summary(record: Mapping[str, Any]) -> str:
    """A run's result beside its baselines, its stages and where its report is."""
    metric, validation = record["metric"], record["validation"]
    low, high = metric["ci95"]
    better = "higher" if metric["higher_is_better"] else "lower"
    named = {"this run": metric["value"], **record["baselines"]}
    named |= {f"shift {name}": value for name, value in record["shift"].items()}
    width = max(len(name) for name in named)
    lines = [f"    {name:<{width}}  {number(value)}" for name, value in named.items()]
    lines[0] += f"  [{number(low)}, {number(high)}] 95 %"
    stages = ", ".join(
        f"{s['name']} {'reused' if s['cached'] else format(s['seconds'], '.1f') + ' s'}" for s in record["stages"]
    )
    counts = record["parameters"]
    return "\n".join(
        [
            naming(record),
            f"  test {metric['name']} ({better} is better), n = {metric['n']}",
            *lines,
            f"  validation  {number(validation['value'])} in epoch {validation['epoch']}, which was kept",
            f"  stages      {stages}",
            f"  parameters  {counts['trained']:,} of {counts['total']:,} trained",
            f"  report      {record['path']}/report.html",
        ]
    )


def standing(record: Mapping[str, Any]) -> str:
    """How a run that is not finished stands, and what to do."""
    advice = {
        "running": f"orca cancel {record['run']} stops it",
        "failed": f"orca resume {record['run']} tries again from the last checkpoint",
        "validated": f"orca resume {record['run']} opens it, and gathers the whole run",
    }.get(record["state"], f"orca resume {record['run']} goes on from the last checkpoint")
    lines = [f"{naming(record)}", f"  {record['state']} since it was started at {record['created']}"]
    if record["state"] != "running":
        lines[1] = f"  {record['state']}: {record['reason']}"
    if "validation" in record:
        lines.insert(1, f"  validation  {record['metric']['name']} {number(record['validation']['value'])}")
    return "\n".join([*lines, f"  {advice}"])


def naming(record: Mapping[str, Any]) -> str:
    """The run and what tells it from others, in one line."""
    return (
        f"{record['run']}: task {record['task']}, body {record['body']}, align {record['align']}, "
        f"method {record['method']}, seed {record['seed']}"
    )


def origin(record: Mapping[str, Any]) -> str:
    """When, where and with what a run was made."""
    machine = record["machine"]
    parts = [machine["cpu"], f"{machine['cores']} cores", machine["gpu"] or "no GPU", machine["platform"]]
    on_gpu = f", of the GPU {peak:,.0f} MiB" if (peak := record.get("peak_gpu_memory_mb")) else ""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        f"  made        {record['created']}, commit {record['commit'] or 'unknown'}",
        f"  machine     {', '.join(parts)}; peak memory {record['peak_memory_mb']:,.0f} MiB{on_gpu}",
        f"  versions    {versions}",
        f"  body        {record['body_revision']}, sha256 {record['body_sha256']}",
    ]
    return "\n".join([*lines, *(f"  note        {note}" for note in record["notes"])])
