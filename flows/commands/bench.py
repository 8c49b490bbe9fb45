"""The command ``orca bench``: a family of tasks as one sweep, and its table in the form of the paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.options import (
    AddressOption,
    AlignsOption,
    JsonOption,
    MethodsOption,
    OnlineOption,
    RunnerOption,
    SeedsOption,
    StoreOption,
    WorkersOption,
    open_store,
)
from flows.commands.sweep import STOP, names, run_grid, seeds_of
from flows.terminal import exit_codes, print_json, tell
from orca.errors import InputError

Family = Annotated[str, typer.Argument(metavar="FAMILY", help="nb360, pdebench or tabular.")]
Tasks = Annotated[str | None, typer.Option(metavar="A,B", help="Of the family's tasks. [all]")]
Output = Annotated[Path | None, typer.Option(metavar="FOLDER", help="For the tables. [benches/FAMILY of the store]")]


def bench(  # noqa: PLR0913 - each argument is an option of the command
    family: Family, tasks: Tasks = None, methods: MethodsOption = "full,layernorm", aligns: AlignsOption = "otdd",
    seeds: SeedsOption = "0", runner: RunnerOption = "local", workers: WorkersOption = None,
    address: AddressOption = None, output: Output = None, online: OnlineOption = False, store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Run a whole benchmark on the data that is there, and table it beside what is published.

    A task whose published files are in ORCA_DATA/TASK reads these, else generated ones; the two never share a table.
    The same command again does what is missing.
    """
    with exit_codes(STOP):

        def grid() -> Any:
            from orca.bench import FAMILIES
            from orca.sweeps.grid import check_grid

            chosen = [column.task for column in FAMILIES.get(family).columns]
            if (wanted := names(tasks)) is not None:
                _check(wanted, chosen, family)
                chosen = wanted
            axes = {"methods": names(methods), "aligns": names(aligns), "seeds": seeds_of(seeds)}
            return check_grid({"tasks": chosen, **axes}, origin="the benchmark")

        document = run_grid(
            grid, f"bench-{family}", runner=runner, workers=workers, address=address, online=online, store=store
        )
        assert document is not None
        place = (output or open_store(store).root / "benches" / family).absolute()
        found = _write(family, document, place)
    print_json(found) if as_json else typer.echo("\n".join(found["markdown"]))
    failed = [row for row in document["runs"] if row["state"] == "failed"]
    for row in failed:
        tell(f"failed: {row['task']}, {row['method']}, seed {row['seed']}: {row['reason']}")
    tell(f"tables: {place}/{family}.md, .csv, .json")
    if failed:
        raise SystemExit(1)


def _check(wanted: list[str], there: list[str], family: str) -> None:
    if unknown := [task for task in wanted if task not in there]:
        raise InputError(f"{family} has no task {unknown[0]}; it has: {', '.join(there)}")


def _write(family: str, document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The tables of the finished runs, as Markdown, CSV and JSON; returns what the JSON holds."""
    from orca import runtime
    from orca.bench import FAMILIES, measured, tables, to_csv, to_markdown
    from orca.runs import read_part

    paths = [Path(row["path"]) for row in document["runs"] if row["state"] == "completed"]
    records = [read_part(path, "run.json") for path in paths]
    runs = [measured(record, read_part(path, "metrics.json")) for record, path in zip(records, paths, strict=True)]
    made = tables(FAMILIES.get(family), runs)
    origins = [{key: record[key] for key in ("commit", "machine", "versions")} for record in records]
    found = {
        "family": family, "markdown": [to_markdown(table) for table in made],
        "runs": [{**run.document(), **origin} for run, origin in zip(runs, origins, strict=True)],
    }  # fmt: skip
    runtime.write_json(folder / f"{family}.json", found)
    said = [f"Commit {origin['commit'] or 'unknown'}, {json.dumps(origin['machine'])}." for origin in origins]
    footer = "\n".join(dict.fromkeys(said)) + "\n"
    runtime.atomic_write(folder / f"{family}.md", "\n".join([f"# {family}\n", *found["markdown"], footer]))
    runtime.atomic_write(folder / f"{family}.csv", to_csv(made))
    return found
