"""The commands ``orca data make``, ``check`` and ``convert``: a task's files generated, looked through, made safe."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.options import JsonOption
from flows.terminal import ProgressLine, exit_codes, print_json, table, tell
from orca.errors import InputError
from orca.runtime import cores, number

if TYPE_CHECKING:
    from orca.tasks.inspection import Inspection
    from orca.tasks.published import Check, Published, Size

STOP = "stopped; the same command goes on where it was"
MANY = 12  # classes up to which the samples of each are printed
SPARE = 3  # times the size of the files: blocks lie beside them, and these end to end, until they are written

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="A name from orca tasks.")]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of its files.")]

data = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Generate, check or convert the files of a task.",
)


@data.command()
def make(  # noqa: PLR0913 - each argument is an option of the command
    task: TaskArgument,
    folder: FolderArgument,
    n: Annotated[int | None, typer.Option("--n", metavar="N", min=1, help="Samples in all. [as published]")] = None,
    size: Annotated[
        int | None, typer.Option(metavar="POINTS", min=1, help="Points of a sample, per side. [as published]")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Of all random numbers.")] = 0,
    workers: Annotated[int | None, typer.Option(metavar="W", min=1, help="Processes. [as many as cores]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Generate a task's files in their published format.

    Without --n and --size it makes as much as was published. Stopped, the same command goes on where it was. The
    acceptance checks of the data are printed; one that fails leaves the files and ends with exit code 1.
    """
    with exit_codes(STOP):
        from orca.tasks import TASKS
        from orca.tasks.making import made_before, scaled

        published = TASKS.get(task).published
        if published is None:
            there = ", ".join(spec.name for spec in TASKS if spec.published is not None)
            raise InputError(f"{task} has no generator; there are: {there}")
        wanted = scaled(published.maker.published, samples=n, points=size)
        checks = made_before(published, folder, wanted, seed)
        if checks is None:
            checks = _make(published, folder, wanted, seed=seed, workers=workers or cores())
    if as_json:
        parameters = {"task": task, "folder": str(folder), "seed": seed, "parameters": asdict(wanted)}
        print_json({**parameters, "checks": [asdict(check) | {"passed": check.passed} for check in checks]})
    else:
        typer.echo(checks_text(checks))
    if not all(check.passed for check in checks):
        raise SystemExit(1)


def _make(published: Published, folder: Path, size: Size, *, seed: int, workers: int) -> Sequence[Check]:
    from orca.tasks import making

    check_room(folder, making.bytes_on_disk(published, size))
    line, began, first = ProgressLine(), time.monotonic(), []

    def progress(done: int, whole: int) -> None:
        first.append(done)  # blocks that were there before took no time
        fresh, passed = done - first[0], time.monotonic() - began
        left = {"left": passed / fresh * (whole - done)} if fresh else {}
        line({"stage": "make", "step": done, "steps": whole, **left})

    checks = making.make(published, folder, size, seed=seed, workers=workers, progress=progress)
    line({"stage": "make", "done": time.monotonic() - began, "cached": False})
    return checks


def check_room(folder: Path, size: int) -> None:
    """Says how large the files will be.

    Raises:
        InputError: the disk has too little room.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    begun = sum(path.stat().st_size for path in folder.glob(".making-*/*.npz"))
    free, needed = shutil.disk_usage(there).free, max(0, SPARE * size - begun)
    if needed > free:
        raise InputError(
            f"about {memory(size)} and, while they are made, twice as much again are needed in {folder}; the disk has "
            f"{memory(free)} free; give fewer samples by --n, a smaller --size, or another folder"
        )
    tell(f"about {memory(size)} in {folder}, three times that while it is made; {memory(free)} are free")


def memory(size: float) -> str:
    """Bytes in a fitting unit."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def checks_text(checks: Sequence[Check]) -> str:
    """The acceptance checks as a table."""
    if not checks:
        return "no acceptance checks"
    rows = [
        [check.name, number(check.value), number(check.low), number(check.high), "passed" if check.passed else "FAILED"]
        for check in checks
    ]
    return table(rows, ["check", "value", "least", "most", ""])


@data.command()
def check(task: TaskArgument, folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Look through a task's files, and say what is wrong.

    Names, keys, shapes, types, values that are not finite, labels, samples of each class, and samples that are in two
    splits. Ends with exit code 1 where something is wrong.
    """
    with exit_codes():
        from orca.tasks import TASKS
        from orca.tasks.inspection import inspect

        found = inspect(TASKS.get(task), folder)
    if as_json:
        print_json(asdict(found) | {"folder": str(folder), "passed": found.passed})
    else:
        typer.echo(inspection_text(found))
    if not found.passed:
        raise SystemExit(1)


def inspection_text(found: Inspection) -> str:
    """The splits as a table, samples of each class, and what was found."""
    blocks: list[str] = []
    if found.parts:
        rows = [[part.name, f"{part.samples:,}", part.inputs, part.targets] for part in found.parts]
        blocks.append(table(rows, ["split", "samples", "inputs", "targets"]))
    if counted := [part for part in found.parts if part.counts]:
        blocks.append(_counts([asdict(part) for part in counted]))
    lines = [f"{'wrong' if f.wrong else 'note':<5}  {f.where}: {f.what}" for f in found.findings]
    lines += ["nothing is wrong"] if found.passed else []
    blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + ("\n(generated data)" if found.synthetic else "")


def _counts(parts: Sequence[Mapping[str, Any]]) -> str:
    width = max(len(part["counts"]) for part in parts)
    if width > MANY:
        rows = [
            [p["name"], str(len(p["counts"])), f"{min(p['counts']):,}", f"{max(p['counts']):,}"] for p in parts
        ]  # fmt: skip
        return table(rows, ["split", "classes", "fewest", "most samples of one"])
    rows = [
        [p["name"], *(f"{c:,}" for c in p["counts"]), *[""] * (width - len(p["counts"]))] for p in parts
    ]  # fmt: skip
    return table(rows, ["class", *map(str, range(width))])


@data.command()
def convert(task: TaskArgument, folder: FolderArgument) -> None:
    """Write published pickles as safe .npz files beside them.

    Only arrays and plain containers are read; a pickle that asks for anything else could run code, and is refused and
    named. Stopped, the same command goes on where it was.
    """
    with exit_codes(STOP):
        from orca.tasks import converting

        line, began = ProgressLine(), time.monotonic()
        written = converting.convert(
            task, folder, progress=lambda done, whole: line({"stage": "convert", "step": done, "steps": whole})
        )
        line({"stage": "convert", "done": time.monotonic() - began, "cached": False})
    typer.echo("\n".join(map(str, written)))
