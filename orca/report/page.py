"""Puts numbers, figures and the template together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orca.report.data import RunData, metric_title, read_run, show
from orca.report.template import template
from orca.runtime import atomic_write


def render(run_dir: Path) -> str:
    """The report of a run as one HTML page that asks nothing of the network and needs no script.

    Args:
        run_dir: a finished run: run.json and, as far as they are there, config.yaml, metrics.json, history.jsonl,
            predictions.npz and layout.json.

    Returns:
        The page. The same files give the same page.

    Raises:
        InputError: the directory holds no run.json.
    """
    from orca.report import curves, examples, results  # matplotlib takes a second: only when a page is made

    data = read_run(Path(run_dir))
    models = result_columns(data)
    return template("page.html.j2", show=show, title=metric_title).render(
        run=data.run,
        metric=data.metric,
        config=data.config,
        layout=data.layout,
        results=models,
        set_names=list(models[0]["sets"]),
        others=data.metrics.get("others") or {},
        facts=_facts(data),
        kept=data.kept,
        choice=curves.choice(data.kept),
        epochs=(len(data.align), len(data.finetune)),
        headline=curves.headline(data),
        alignment=curves.alignment(data),
        training=curves.training(data),
        predictions=results.predictions(data),
        examples=examples.examples(data),
    )


def write_report(run_dir: Path) -> Path:
    """Writes ``run_dir/report.html`` in one step and returns its path.

    Raises:
        InputError: as for ``render``.
    """
    path = Path(run_dir) / "report.html"
    atomic_write(path, render(path.parent))
    return path


def result_columns(data: RunData) -> list[dict[str, Any]]:
    """This run and the baselines: {"name", "sets": {"test" or a shift set: {"value", "ci95"}}}."""
    shifts = data.metrics.get("shift") or {k: {"value": v} for k, v in (data.run.get("shift") or {}).items()}
    stored = data.metrics.get("baselines") or {k: {"test": v} for k, v in (data.run.get("baselines") or {}).items()}
    theirs = {name: {k: {"value": v} for k, v in values.items()} for name, values in stored.items()}
    whole = {"this run": {"test": data.metric, **shifts}} | theirs
    return [{"name": name, "sets": sets} for name, sets in whole.items()]


def _facts(data: RunData) -> dict[str, dict[str, str]]:
    """Small tables of the record: {title: {row: value}}, rows without a value left out."""
    run = data.run
    parameters = run.get("parameters") or {}
    peak, of_gpu = run.get("peak_memory_mb"), run.get("peak_gpu_memory_mb")
    about = {
        "run": run.get("run"),
        "created": str(run.get("created") or "").replace("T", " "),
        "seed": run.get("seed"),
        "commit": run.get("commit"),
        "flow run": run.get("flow_run"),
        "parameters, all": parameters.get("total"),
        "parameters, trained": parameters.get("trained"),
        "peak memory": f"{show(float(peak))} MiB" if peak else None,
        "peak memory of the GPU": f"{show(float(of_gpu))} MiB" if of_gpu else None,
    }
    tables = {"Run": about, "Machine": run.get("machine") or {}, "Versions": run.get("versions") or {}}
    shown = {k: {r: show(v) for r, v in t.items() if v not in (None, "")} for k, t in tables.items()}
    return {k: t for k, t in shown.items() if t}
