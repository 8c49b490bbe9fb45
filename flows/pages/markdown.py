"""What Prefect's pages show of a run, as Markdown: its result and its alignment, with the figures of the report.

Both of Prefect's sets of pages read Markdown in descriptions and in the cells of tables as well, so every name that
comes from a user goes through :func:`plain`.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca.finishing import read_history
from orca.runtime import finite, read_json

if TYPE_CHECKING:
    from markupsafe import Markup

    from orca.report.data import RunData

NAME = 40  # letters of a name that a table shows
DIGITS = 4  # significant ones of a number in the table of metrics


def artifact_key(labels: Sequence[str], *what: str) -> str:
    """The key under which Prefect keeps the history of an artifact: one for all seeds of a task, body and method.

    Args:
        labels: task, body, method and seed of a run, as its tags.
        what: what the artifact shows.
    """
    return "-".join([*(_slug(label) for label in labels[:-1]), *what])


def _slug(name: str) -> str:
    """Lower case letters, digits and dashes; a digest of a name that has neither letters nor digits of ASCII."""
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    found = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")
    return found or hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]


def title(labels: Sequence[str]) -> str:
    """Task, body, method and seed as Markdown."""
    return ", ".join([*(plain(label) for label in labels[:-1]), seed(labels)])


def seed(labels: Sequence[str]) -> str:
    """The seed, which the key leaves out."""
    return f"seed {plain(labels[-1].removeprefix('s'))}"


def plain(text: str, most: int = NAME) -> str:
    """A name as Markdown that shows it as it is, on one line, cut where it is long; never markup, never HTML."""
    return re.sub(r"([!-+.-/:-@\[-`{-~])", r"\\\1", one_line(text, most))  # all of ASCII's signs but comma and dash


def one_line(text: str, most: int = NAME) -> str:
    """A name on one line, without what cannot be printed, cut where it is long."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, of cells in Markdown; all columns but the first hold numbers."""
    rule = [":---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def block(text: str) -> str:
    """Text to be copied, on one line, in a block of its own."""
    one_line = "".join(sign if sign.isprintable() else "?" for sign in text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", one_line)), default=0))
    return f"{fence}\n{one_line}\n{fence}"


def image(figure: Markup) -> str:
    """A figure of the report as a picture within the text, with its description."""
    from orca.report.alone import description, picture

    return f"![{plain(description(figure), 400)}]({picture(figure)})"


def align_page(folder: Path, labels: Sequence[str]) -> tuple[str, str]:
    """What alignment did to the embedder: a page, and the same in a few words.

    Args:
        folder: of the finished stage.
        labels: of the run.
    """
    from orca.report.curves import alignment, choice, kept_epoch  # matplotlib takes a second: only when a page is made
    from orca.report.data import RunData, show

    report = finite(read_json(folder / "report.json"))
    if report["objective"] == "none":
        page = f"### {title(labels)}: not aligned\n\nThe embedder goes on to training as it was calibrated."
        return page, f"{seed(labels)}: not aligned"
    epochs = [record for record in read_history(folder) if "epoch" in record]
    kept, before, after = kept_epoch(report), show(report["probe_unaligned"]), show(report["probe_kept"])
    words = "the embedder as it was before" if kept is None else f"the embedder of epoch {kept} of {report['epochs']}"
    drawn = alignment(RunData({}, align=epochs, kept=report))
    parts = [
        f"### {title(labels)}: aligned with {plain(report['objective'])}",
        f"Kept: {words}. {choice(report)}",
        *(["**It diverged**, and ended there: lower `align.lr`."] if report.get("diverged") else []),
        table(["embedder", "probe, lower is better"], [["before alignment", before], ["kept", after]]),
        *([image(drawn)] if drawn else []),
    ]
    return "\n\n".join(parts), f"{seed(labels)}: probe {before} before, {after} kept"


def result_page(path: Path, record: Mapping[str, Any], labels: Sequence[str]) -> str:
    """The result of a run beside its baselines, its stages, its curves, and where its report is.

    Args:
        path: the run's folder.
        record: as ``orca run --json`` prints it.
        labels: of the run.
    """
    from orca.report.curves import training
    from orca.report.data import show

    data = _run_data(path, record)
    metric, validation, counts = data.run["metric"], data.run["validation"], data.run["parameters"]
    drawn = training(data)
    stages = [
        [plain(s["name"]), "in the store already" if s["cached"] else f"{s['seconds']:.1f} s"]
        for s in data.run["stages"]
    ]
    parts = [
        f"### {title(labels)}: {result_words(record)}",
        _result_table(data),
        f"In brackets: 95 % interval; {show(metric['n'])} test samples. Validation {show(validation['value'])} in "
        f"epoch {validation['epoch']}, which was kept. Alignment: {plain(data.run['align'])}. Trained: "
        f"{counts['trained']:,} of {counts['total']:,} parameters.",
        *([image(drawn)] if drawn else []),
        table(["stage", "time"], stages),
        "**Report** with predictions, examples, settings and versions. Web pages may not link to files, so open it by "
        "its path:",
        block(str(path.absolute() / "report.html")),
        "`orca report` writes it anew and prints its path:",
        block(shlex.join(["orca", "report", path.name, "--store", str(path.absolute().parent.parent)])),
    ]
    if data.run.get("notes"):
        parts += ["**Notes**", "\n".join(f"- {plain(note, 400)}" for note in data.run["notes"])]
    return "\n\n".join(parts)


def result_words(record: Mapping[str, Any]) -> str:
    """The test metric in a few words."""
    from orca.report.data import metric_title, show

    metric = finite(record["metric"])
    return f"{metric_title(metric['name'])} {show(metric['value'])}"


def metric_row(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a run and of its baselines as a row of a table; None where there is no number."""
    from orca.report.page import result_columns

    data = _run_data(path, record)
    run, *baselines = result_columns(data)
    low, high = run["sets"]["test"].get("ci95") or (None, None)
    numbers = {data.run["metric"]["name"]: run["sets"]["test"].get("value"), "from": low, "to": high}
    numbers["validation"] = data.run["validation"]["value"]
    # The pages show the header of a table artifact as it is, and its cells as Markdown.
    numbers |= {f"shift {one_line(k)}": cell["value"] for k, cell in run["sets"].items() if k != "test"}
    numbers |= {one_line(model["name"]): model["sets"]["test"]["value"] for model in baselines}
    told = {"run": plain(data.run["run"], 80), "seed": data.run["seed"]}
    return told | {name: _rounded(value) for name, value in numbers.items()} | {"made": data.run["created"]}


def _run_data(path: Path, record: Mapping[str, Any]) -> RunData:
    """The run's files without its predictions, beside the record of this very run; no number that is not finite."""
    from orca.report.data import read_run

    data = read_run(path, arrays=False)
    return replace(data, run=finite(record), metrics=finite(data.metrics))


def _result_table(data: RunData) -> str:
    from orca.report.data import metric_title, show
    from orca.report.page import result_columns

    def cell(found: Mapping[str, Any]) -> str:
        low, high = found.get("ci95") or (None, None)
        return show(found.get("value")) + (f" ({show(low)} to {show(high)})" if None not in (low, high) else "")

    models = result_columns(data)
    better = "higher" if data.metric["higher_is_better"] else "lower"
    rows = []
    for name in models[0]["sets"]:
        ours, *theirs = (cell(model["sets"].get(name, {})) for model in models)
        rows.append([name if name == "test" else f"shift {plain(name)}", f"**{ours}**", *theirs])
    header = [f"{plain(metric_title(data.metric['name']))}, {better} is better"]
    return table([*header, *(plain(model["name"]) for model in models)], rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
