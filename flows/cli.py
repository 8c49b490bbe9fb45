"""The command ``orca``. Heavy packages are imported by the command that needs them, so that help answers at once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.bench import bench
from flows.commands.data import data
from flows.commands.options import JsonOption, RunArgument, StoreOption, open_store
from flows.commands.otdd import otdd
from flows.commands.run import cancel, resume, run
from flows.commands.schedule import schedule, schedules, serve
from flows.commands.sweep import compare, sweep
from flows.servers.ui import ui
from flows.terminal import exit_codes, log_to_stderr
from orca.errors import InputError
from orca.runtime import sleeping_threads

app = typer.Typer(
    name="orca", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Adapt a transformer that was pretrained on language to data that is not language.",
)  # fmt: skip


for command in (run, resume, cancel):
    app.command()(command)


app.add_typer(data, name="data")


@app.command()
def runs(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List what was run, newest first."""
    from flows.terminal import print_json, table
    from orca.runtime import number

    with exit_codes():
        from orca.runs import list_runs

        entries = list_runs(open_store(store))
    if as_json:
        print_json(entries)
        return
    if not entries:
        typer.echo(f"no runs in {open_store(store).runs_dir}; make one with: orca run demo", err=True)
        return
    rows = []
    for entry in entries:
        if "fault" in entry:
            rows.append([entry["run"], f"unreadable: {entry['fault']}", "", "", "", ""])
            continue
        metric = entry.get("metric", {"name": "", "value": None})  # none as long as it is not finished
        cells = [entry["align"], metric["name"], number(metric["value"]), entry["created"]]
        rows.append([entry["run"], entry["state"], *cells])
    typer.echo(table(rows, ["run", "state", "align", "metric", "test", "made"]))


@app.command()
def show(run: RunArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show a run: result, baselines, stages, settings."""
    from flows.terminal import origin, print_json, standing, summary

    with exit_codes():
        from orca.runs import FINISHED, read_part, read_run

        record = read_run(open_store(store), run)
        path, finished = Path(record["path"]), record["state"] == FINISHED
        if as_json:
            print_json({**record, "metrics": read_part(path, "metrics.json") if finished else None})
            return
    typer.echo(f"{summary(record)}\n{origin(record)}" if finished else standing(record))
    typer.echo("  settings")
    typer.echo("\n".join(f"    {line}" for line in (path / "config.yaml").read_text(encoding="utf-8").splitlines()))


@app.command()
def report(run: RunArgument, store: StoreOption = None) -> None:
    """Write a run's HTML report anew and print its path."""
    with exit_codes():
        from orca.report import write_report
        from orca.runs import finished_path

        typer.echo(str(write_report(finished_path(open_store(store), run)).absolute()))


@app.command()
def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, or a folder that holds an adapted model.")],
    input: Annotated[
        Path, typer.Argument(metavar="INPUT", help="An .npz file with x, in the form of the task's data, or a table.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The .npz file to write.")],
    store: StoreOption = None,
) -> None:
    """Predict with a run's model: raw inputs in, an .npz out.

    INPUT holds x, in the form of the task's raw data, and length (n,) where sequences differ in length. OUTPUT gets
    prediction, and probability where the task has classes.
    """
    with exit_codes():
        from orca.model import load
        from orca.predict import predict_file
        from orca.runs import finished_path

        folder = Path(run) if (Path(run) / "config.json").is_file() else finished_path(open_store(store), run)
        arrays = predict_file(load(folder), input, output)
    shapes = ", ".join(f"{name} {value.shape}" for name, value in arrays.items())
    typer.echo(f"{output}: {shapes}", err=True)


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; it is made, or empty.")],
    trained_only: Annotated[
        bool, typer.Option("--trained-only", help="Leave out the body's weights that did not train.")
    ] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Fold what lora or ia3 inserted into the body's weights.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Copy a run's model to a folder of its own, from which orca.load and orca predict take it.

    With --trained-only the folder is small where the method leaves most of the body as it is, and the body must be
    there where the model is loaded.
    """
    with exit_codes():
        from orca.model import load
        from orca.runs import finished_path

        if trained_only and merge:
            raise InputError("a merged model has no weights that did not train; choose --merge or --trained-only")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there already; name a new folder, or an empty one")
        model = load(finished_path(open_store(store), run))
        if merge:
            model.merge()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as work:
                model.save_pretrained(Path(work) / "model", trained_only=trained_only)
                os.replace(Path(work) / "model", folder)
        except OSError as fault:
            raise InputError(f"{folder} cannot be written: {fault.strerror}; name another folder") from fault
        size = sum(file.stat().st_size for file in folder.iterdir())
    typer.echo(
        f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}, {size / 2**20:.1f} MiB", err=True
    )


for command in (compare, sweep, bench, otdd, schedule, schedules, serve, ui):
    app.command()(command)


@app.command()
def clean(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Remove what stopped work has left in the store, checkpoints included; what is at work or finished stays.

    A run that was stopped begins its unfinished stage anew after it; so does a trial of a search that was pruned.
    """
    with exit_codes():
        from flows.terminal import print_json

        freed = open_store(store).clean()
    print_json({"freed_bytes": freed}) if as_json else typer.echo(f"{freed:,} bytes freed")


def _listing(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from flows.terminal import print_json, table

    if as_json:
        print_json(rows)
        return
    shown = {True: "yes", False: "no"}
    cells = [[shown[v] if isinstance(v, bool) else str(v) for v in row.values()] for row in rows]
    typer.echo(table(cells, list(rows[0])))


@app.command()
def tasks(as_json: JsonOption = False) -> None:
    """List the tasks, and whether their data is here."""
    with exit_codes():
        from orca.tasks import TASKS

        rows = [
            {"task": t.name, "kind": f"{t.input} to {t.target}", "metric": t.metric, "here": t.missing() is None,
             "generated": t.synthetic, "title": t.title}
            for t in TASKS
        ]  # fmt: skip
    _listing(rows, as_json=as_json)
    if not as_json and not all(row["here"] for row in rows):
        typer.echo(
            "\nORCA_DATA names the folder with NAME.npz, or NAME/, of tasks that are not here or generated", err=True
        )


@app.command()
def bodies(as_json: JsonOption = False) -> None:
    """List the pretrained bodies, and whether their weights are here."""
    with exit_codes():
        from orca.bodies import BODIES, body_is_here

        rows = [
            {"body": b.name, "here": body_is_here(b), "licence": b.licence, "hub": b.hub_id, "summary": b.summary}
            for b in BODIES
        ]
    _listing(rows, as_json=as_json)


@app.command()
def methods(as_json: JsonOption = False) -> None:
    """List the ways to finetune."""
    with exit_codes():
        from orca.methods import METHODS
    rows = [
        {"method": m.name, "trains": m.summary, "options": m.options.defaults(), "source": m.source} for m in METHODS
    ]
    _listing(rows, as_json=as_json)


@app.command()
def sources(as_json: JsonOption = False) -> None:
    """List the labelled language data that alignment can aim at."""
    with exit_codes():
        from orca.sources import SOURCES
    _listing([{"source": s.name, "licence": s.licence, "title": s.title} for s in SOURCES], as_json=as_json)


def main() -> None:
    """The entry point."""
    sleeping_threads()
    log_to_stderr()
    app()
