"""The commands ``orca sweep`` and ``orca compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.options import (
    AddressOption,
    AlignsOption,
    JsonOption,
    MethodsOption,
    OnlineOption,
    RunnerOption,
    SeedsOption,
    SettingsOption,
    StoreOption,
    WorkersOption,
    open_store,
    prepare_prefect,
)
from flows.terminal import exit_codes, print_json, tell, tell_for_now

if TYPE_CHECKING:
    from flows.sweeps.table import SweepTable
    from orca.sweeps.grid import Grid

STOP = "stopped; the same command does what is missing"
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Of the sweep. [that of the file]")]
Configs = Annotated[list[str], typer.Argument(metavar="CONFIG...", help="YAML files, or names of configurations.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what there is to do, and do nothing.")]
Status = Annotated[bool, typer.Option("--status", help="Show how far it is, and do nothing.")]


def sweep(  # noqa: PLR0913 - each argument is an option of the command
    grid: Annotated[Path, typer.Argument(metavar="GRID", help="A YAML file; docs/sweeps.md says what it holds.")],
    runner: RunnerOption = "local", workers: WorkersOption = None, address: AddressOption = None, name: Name = None,
    dry_run: DryRun = False, status: Status = False, online: OnlineOption = False, store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Run a grid: tasks x bodies x aligns x methods x seeds x settings.

    GRID holds tasks (configurations) and what is to vary: bodies, aligns, methods, seeds (0..4), settings
    (finetune.lr: [1e-4, 3e-4]), variants (sets of keys by name), exclude; `search: random` and `search: optuna` draw
    the settings. Stages that runs share run once; a run that fails does not stop the others; the same command again
    does what is missing.
    """
    from flows.sweeps.text import rows_text

    called = name or grid.stem
    with exit_codes(STOP):
        if status:
            _show_status(called, store, as_json=as_json)
            return
        from orca.sweeps.grid import load_grid

        document = run_grid(
            lambda: load_grid(grid), called, runner=runner, workers=workers, address=address, online=online,
            store=store, dry_run=dry_run,
        )  # fmt: skip
    _print(document, rows_text, store, as_json=as_json)


def compare(  # noqa: PLR0913 - each argument is an option of the command
    configs: Configs,
    methods: MethodsOption = None, aligns: AlignsOption = None, seeds: SeedsOption = None,
    settings: SettingsOption = None, workers: WorkersOption = None, online: OnlineOption = False,
    store: StoreOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Compare methods and alignments over seeds, on one configuration or several; as these have them if not given.

    Prints a table and writes it beside the runs, with a figure: test metric, shift sets, the difference to the first
    row, trained parameters, seconds and memory, and the mean rank where there are several configurations.
    """
    with exit_codes(STOP):

        def grid() -> Grid:
            from orca.config import parse_override
            from orca.sweeps.grid import check_grid

            given = {"methods": names(methods), "aligns": names(aligns), "seeds": seeds_of(seeds)}
            fixed = {key: [value] for key, value in map(parse_override, settings or ())}
            wanted = {key: value for key, value in given.items() if value is not None}
            return check_grid({"tasks": configs, **wanted, "settings": fixed}, origin="the comparison")

        document = run_grid(grid, None, workers=workers, online=online, store=store)
    _print(document, _failures, store, as_json=as_json)


def names(text: str | None) -> list[str] | None:
    """What stands between commas; None where nothing was given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def seeds_of(text: str | None) -> list[Any] | None:
    """Seeds between commas, ranges as they are."""
    return None if text is None else [int(seed) if seed.isdecimal() else seed for seed in names(text) or [text]]


def run_grid(  # noqa: PLR0913 - options of the commands
    read: Any, name: str | None, *, runner: str = "local", workers: int | None = None, address: str | None = None,
    online: bool = False, store: Path | None = None, dry_run: bool = False,
) -> dict[str, Any] | None:  # fmt: skip
    """Plans the runs, says what there is to do, does it, and gives the table; None of a dry run."""
    from flows.sweeps.runners import check_runner

    check_runner(runner, address)
    server = None if dry_run else prepare_prefect()  # comes up while the core is imported and the runs are planned
    from flows.sweeps.search_table import plan_table
    from orca.runtime import digest

    grid, place = read(), open_store(store)
    kind = "compare" if name is None else "sweep"
    called = name or f"compare-{Path(grid.label(grid.tasks[0])).name}-{digest(grid)[:8]}"
    table = plan_table(grid, place, called, online=online, kind=kind, watcher=_tell)
    tell(table.plan)
    if dry_run:
        return None
    from flows.sweeps.flow import launch

    place.make()
    launch(table, grid, online=online, runner=runner, workers=workers, address=address, server=server)
    return table.document()


def _tell(table: SweepTable, row: dict[str, Any] | None) -> None:
    """One line on standard error for a run, or a trial of a search, that has ended; until then how many stages have."""
    from flows.sweeps.text import ended_text

    if row is None:
        tell_for_now("{} of {} stages done".format(*table.stages()))
        return
    ended, all_of_them = table.progress(row)
    tell(f"[{ended}/{all_of_them}] {ended_text(row)}")


def _show_status(name: str, store: Path | None, *, as_json: bool) -> None:
    from flows.sweeps.table import read_sweep
    from flows.sweeps.text import rows_text

    document = read_sweep(open_store(store), name)
    if as_json:
        print_json(document)
        return
    typer.echo(f"{name}: {document['state']}; {document['plan']}\n\n{rows_text(document)}")


def _failures(document: dict[str, Any]) -> str:
    """The runs of a comparison that failed."""
    failed = [row for row in document["runs"] if row["state"] == "failed"]
    return "\n".join(f"{row['run'] or row['method']}: {row['reason']}" for row in failed)


def _print(document: dict[str, Any] | None, more: Any, store: Path | None, *, as_json: bool) -> None:
    """The tables on standard output, and in the sweep's folder; exit code 1 if a run failed."""
    if document is None:
        return
    from flows.sweeps.text import means_text
    from orca.sweeps.comparison import write_comparison

    folder = open_store(store).root / "sweeps" / document.get("sweep", document.get("compare", ""))
    rows = write_comparison(folder, document)
    if as_json:
        print_json({**document, "means": rows})
    else:
        typer.echo("\n\n".join(text for text in (more(document), means_text(document, rows)) if text))
    drawn = (folder / "comparison.svg").is_file()
    tell(f"tables{' and figure' * drawn}: {folder.absolute()}/comparison.md, .csv, .json{', .svg' * drawn}")
    if document["state"] == "failed":
        raise SystemExit(1)
