"""The command ``orca``. Heavy packages are imported by the command that needs them, so that help answers at once."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="orca", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Adapt a transformer that was pretrained on language to data that is not language.",
)  # fmt: skip

StoreOption = Annotated[Path | None, typer.Option("--store", help="Folder of stages and runs [ORCA_STORE, ./runs].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turns bad input into a message and exit code 2, failed training into exit code 1."""
    from orca.types import InputError

    try:
        yield
    except InputError as fault:
        typer.echo(f"orca: {fault}", err=True)
        raise typer.Exit(2) from None


def _store(path: Path | None) -> Any:
    from orca.store import Store, default_root

    return Store(path or default_root())


def _prefect_defaults() -> None:
    """Quiet and local, unless the user's own settings say otherwise. Must come before Prefect is imported."""
    defaults = {
        "PREFECT_LOGGING_LEVEL": "WARNING", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json", "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }  # fmt: skip
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@app.command()
def run(  # noqa: PLR0913 - each argument is an option of the command
    config: Annotated[
        str, typer.Argument(help="A configuration: the name of one that ships with Orca, or a YAML file.")
    ],
    settings: Annotated[list[str] | None, typer.Option("-s", "--set", help="key=value, like finetune.lr=1e-4.")] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the configuration's seed.")] = None,
    fresh: Annotated[list[str] | None, typer.Option(help="A stage to do again, or all.")] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Allow the model hub for weights that are not here.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Adapt: one run through embed, align, finetune and evaluate, as a Prefect flow."""
    from flows.terminal import ProgressLine, print_json, summary

    with _errors():
        from orca.config import load_config
        from orca.plan import plan
        from orca.run import RunResult

        checked = load_config(config, overrides=settings or (), seed=seed)
        place = _store(store)
        plan(checked, online=online, fresh=tuple(fresh or ()))  # bad input ends here, before a flow is started
        _prefect_defaults()
        from flows.adapt import adapt_flow

        line = ProgressLine(quiet=as_json)
        result: RunResult = adapt_flow(checked, str(place.root), online, tuple(fresh or ()), line)
        line.end()
    if as_json:
        print_json({key: value for key, value in result.record.items() if key not in ("versions", "machine", "notes")})
        return
    typer.echo(summary(result.record))
    if result.unchanged:
        typer.echo("  nothing to do: every stage was there already (--fresh STAGE does one again)")
    typer.echo(f"\nnext: orca show {result.record['run']}   orca report {result.record['run']}   orca tasks")


@app.command()
def runs(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List what was run, newest first."""
    from flows.terminal import number, print_json, table

    with _errors():
        entries = _store(store).list_runs()
    if as_json:
        print_json(entries)
        return
    if not entries:
        typer.echo(f"no runs in {_store(store).runs_dir}; make one with: orca run demo")
        return
    rows = []
    for entry in entries:
        if "fault" in entry:
            rows.append([entry["run"], f"unreadable: {entry['fault']}", "", "", ""])
            continue
        metric = entry["metric"]
        rows.append([entry["run"], entry["align"], metric["name"], number(metric["value"]), entry["created"]])
    typer.echo(table(rows, ["run", "align", "metric", "test", "made"]))


@app.command()
def show(run: str, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show one run: its result beside the baselines, stages and settings."""
    from flows.terminal import print_json, summary
    from orca.runtime import read_json

    with _errors():
        path = _store(store).run_path(run)
        record = read_json(path / "run.json")
    if as_json:
        print_json({**record, "metrics": read_json(path / "metrics.json")})
        return
    typer.echo(summary(record))
    typer.echo(f"  made        {record['created']}, commit {record['commit'] or 'unknown'}, on {record['machine']}")
    typer.echo("  settings")
    typer.echo("".join(f"    {line}\n" for line in (path / "config.yaml").read_text().splitlines()), nl=False)


@app.command()
def report(run: str, store: StoreOption = None) -> None:
    """Write a run's report anew and print its path: one HTML page that holds everything."""
    with _errors():
        from orca.report import write_report

        typer.echo(str(write_report(_store(store).run_path(run)).absolute()))


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="A run's name, or a folder that holds an adapted model.")],
    input: Annotated[Path, typer.Argument(help="An .npz file with x, and length for sequences of different lengths.")],
    output: Annotated[Path, typer.Argument(help="The .npz file to write.")],
    store: StoreOption = None,
) -> None:
    """Use an adapted model: read raw inputs, write its predictions."""
    with _errors():
        from orca.model import load
        from orca.predict import predict_file

        folder = Path(run) if (Path(run) / "config.json").is_file() else _store(store).run_path(run)
        arrays = predict_file(load(folder), input, output)
    shapes = ", ".join(f"{name} {value.shape}" for name, value in arrays.items())
    typer.echo(f"{output}: {shapes}", err=True)


def _listing(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from flows.terminal import print_json, table

    if as_json:
        print_json(rows)
        return
    typer.echo(table([[str(v) for v in row.values()] for row in rows], list(rows[0])))


@app.command()
def tasks(as_json: JsonOption = False) -> None:
    """List the tasks, and whether their data is here."""
    with _errors():
        from orca.tasks import TASKS

        rows = [
            {"task": t.name, "kind": f"{t.input} to {t.target}", "metric": t.metric, "here": "no" if t.missing() else
            "yes",
             "title": t.title}
            for t in TASKS
        ]  # fmt: skip
        absent = {reason for t in TASKS if (reason := t.missing())}
    _listing(rows, as_json=as_json)
    if absent and not as_json:
        typer.echo("\n" + "\n".join(sorted(absent)[:1]), err=True)


@app.command()
def bodies(as_json: JsonOption = False) -> None:
    """List the pretrained bodies, and whether their weights are here."""
    with _errors():
        from orca.bodies import BODIES, body_is_here

        rows = [
            {"body": b.name, "here": "yes" if body_is_here(b) else "no", "licence": b.licence, "hub": b.hub_id,
             "summary": b.summary}
            for b in BODIES
        ]  # fmt: skip
    _listing(rows, as_json=as_json)


@app.command()
def methods(as_json: JsonOption = False) -> None:
    """List the ways to finetune."""
    from orca.methods import METHODS

    _listing([{"method": m.name, "trains": m.summary, "source": m.source} for m in METHODS], as_json=as_json)


@app.command()
def sources(as_json: JsonOption = False) -> None:
    """List the labelled language data that alignment can aim at."""
    from orca.sources import SOURCES

    _listing([{"source": s.name, "licence": s.licence, "title": s.title} for s in SOURCES], as_json=as_json)


def main() -> None:
    """The entry point."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    app()
