"""The table of results: from records of runs to rows, from rows to Markdown, and into a page between its markers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orca.runs import built_seconds

BEGIN, END = "<!-- results -->", "<!-- /results -->"
STAGES = ("embed", "align", "finetune", "evaluate")
KEPT = (
    "run", "task", "body", "method", "align", "seed", "metric", "validation", "baselines", "shift", "parameters",
    "commit", "machine", "versions", "created", "peak_memory_mb",
)  # fmt: skip
Row = Mapping[str, Any]


def rows_of(records: Iterable[Mapping[str, Any]], store: Path) -> list[dict[str, Any]]:
    """Rows of the table from the contents of ``run.json``.

    A stage that the run found in the store is shown with the seconds that building it took, and named in ``shared``.
    """
    rows = []
    for record in records:
        stages = {stage["name"]: stage for stage in record["stages"]}
        shared = [name for name in STAGES if stages[name]["cached"]]
        rows.append(
            {
                **{key: record[key] for key in KEPT},
                "seconds": {name: built_seconds(stages[name], store) for name in STAGES},
                "shared": shared,
            }
        )
    return rows


def number(value: float | None) -> str:
    """Three significant digits; a dash for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _named(values: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in values.items()) or "-"


def _metric(row: Row) -> str:
    low, high = row["metric"]["ci95"]
    return f"{row['metric']['name']} {number(row['metric']['value'])} [{number(low)}, {number(high)}]"


def _stages(row: Row) -> str:
    cells = {name: number(row["seconds"][name]) for name in STAGES}
    return " / ".join(f"({cell})" if name in row["shared"] else cell for name, cell in cells.items())


def _memory(row: Row) -> str:
    return "-" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.0f} MiB"


def _trained(row: Row) -> str:
    return f"{row['parameters']['trained'] / 1e6:.2f} of {row['parameters']['total'] / 1e6:.2f} M"


def _columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Titles and contents; body, seed and shift are columns only where rows differ in them or have them."""

    def differ(key: str) -> bool:
        return len({row[key] for row in rows}) > 1

    columns: dict[str, tuple[bool, Callable[[Row], str]]] = {
        "task": (True, lambda row: row["task"]),
        "body": (differ("body"), lambda row: row["body"]),
        "method": (True, lambda row: row["method"]),
        "alignment": (True, lambda row: row["align"]),
        "seed": (differ("seed"), lambda row: str(row["seed"])),
        "test metric, 95 % interval": (True, _metric),
        "shift sets": (any(row["shift"] for row in rows), lambda row: _named(row["shift"])),
        "baselines": (True, lambda row: _named(row["baselines"])),
        "seconds: " + " / ".join(STAGES): (True, _stages),
        "peak memory": (True, _memory),
        "trained parameters": (True, _trained),
    }
    return {title: content for title, (shown, content) in columns.items() if shown}


def markdown(rows: Sequence[Row]) -> str:
    """The table, and under it a line on what made it."""
    columns = _columns(rows)
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[content(row).replace("|", "\\|") for content in columns.values()] for row in rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n{made_by(rows)}\n"


def made_by(rows: Sequence[Row]) -> str:
    """Which way is better, and seed, commit, versions, machine and threads of the rows; several where they differ."""

    def each(value: Callable[[Row], Any]) -> str:
        return "; ".join(dict.fromkeys(str(value(row)) for row in rows))

    better = {row["metric"]["name"]: "higher" if row["metric"]["higher_is_better"] else "lower" for row in rows}
    said = [
        ", ".join(f"{name}: {way} is better" for name, way in better.items()),
        f"body {each(lambda row: row['body'])}",
        f"seed {each(lambda row: row['seed'])}",
        f"commit {each(lambda row: _commit(row['commit']))}",
        each(lambda row: ", ".join(f"{name} {row['versions'].get(name, '?')}" for name in ("python", "torch"))),
        f"machine {each(lambda row: _machine(row['machine']))}",
        f"threads {each(lambda row: row['machine'].get('threads', 'not recorded'))}",
    ]
    brackets = " Seconds in brackets are of a stage shared with another run." if any(r["shared"] for r in rows) else ""
    return ". ".join(part[0].upper() + part[1:] for part in said) + "." + brackets


def _commit(commit: str | None) -> str:
    return f"{commit[:12]}{commit[40:]}" if commit else "unknown"  # 40 digits, then perhaps -dirty


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}"


def lacks_markers(path: Path) -> str | None:
    """What keeps a page from being filled, or None."""
    if not path.is_file():
        return f"there is no file {path}"
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) == 1 == text.count(END) and text.index(BEGIN) < text.index(END):
        return None
    return f"{path} must hold '{BEGIN}' and, after it, '{END}', once each: the table goes between them"


def fill(path: Path, table: str) -> None:
    """Puts the table between the markers, in place of what is there.

    Raises:
        ValueError: the page lacks a marker.
    """
    if lack := lacks_markers(path):
        raise ValueError(lack)
    text = path.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{table}{END}{after}", encoding="utf-8")
