"""Whole runs over tasks, methods, alignments and seeds, as one table.

``python -m benchmarks.tasks --tasks digits,fsdd --methods full,layernorm --aligns otdd,none --seeds 0``

The runs go through ``orca.run.adapt`` one after another, each in a process of its own, so that its peak memory is its
own. What is in the store already is not done again. ``--collect STORE`` makes the table of the runs that a store holds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.table import fill, lacks_markers, markdown, rows_of

TASKS = "digits,darcy,fsdd,splice,ienhancer,darcy2d,mitbih_aami,signdigits,adult"


class Cell(NamedTuple):
    """One run: a configuration by name or path, and what is changed in it."""

    config: str
    method: str
    align: str
    seed: int
    settings: tuple[str, ...] = ()

    @property
    def overrides(self) -> tuple[str, ...]:
        """For ``load_config``."""
        return (*self.settings, f"finetune.method={self.method}", f"align.objective={self.align}")


def find_faults(cells: Sequence[Cell]) -> list[str]:
    """What keeps these runs from starting: wrong names, faulty settings, data that is not here. No data is read."""
    from orca.config import load_config
    from orca.errors import InputError
    from orca.tasks import resolve_task

    found: dict[str, None] = {}
    for cell in cells:
        try:
            config = load_config(cell.config, overrides=cell.overrides, seed=cell.seed)
            missing = resolve_task(config.task).missing()
        except InputError as fault:
            missing = str(fault)
        if missing:
            found[missing] = None
    return list(found)


def run_cell(cell: Cell, store: str) -> dict[str, Any]:
    """Does one run and returns its record, or its ``fault``."""
    import torch

    from orca.config import load_config
    from orca.errors import InputError, TrainingError
    from orca.run import adapt
    from orca.runtime import read_json

    try:
        result = adapt(load_config(cell.config, overrides=cell.overrides, seed=cell.seed), store=store)
    except (InputError, TrainingError) as fault:
        return {"fault": str(fault)}
    record = read_json(result.path / "run.json")  # of when it was made, not of a second look at it
    if not result.unchanged:
        record["machine"].setdefault("threads", torch.get_num_threads())
    return record


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a fresh process. This one imports nothing heavy: a child starts from its parent's peak."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run_all(cells: Sequence[Cell], store: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Does the runs in order; a run that fails is named and the others go on.

    Returns:
        The records, each run once, and the faults.
    """
    records: dict[str, dict[str, Any]] = {}
    faults = []
    for number, cell in enumerate(cells, 1):
        name = f"{cell.config} {cell.method} {cell.align} seed {cell.seed}"
        record: dict[str, Any]
        try:
            record = alone(run_cell, cell, store)
        except BrokenProcessPool:
            record = {"fault": "its process was ended from outside; was there enough memory?"}
        if "fault" in record:
            said = f"{name}: {record['fault']}"
            faults.append(said)
        else:
            said = f"{name}: {record['metric']['name']} {record['metric']['value']}"
            records[record["run"]] = record  # scratch is never aligned: with every alignment it is one run
        print(f"[{number}/{len(cells)}] {said}", file=sys.stderr, flush=True)
    return list(records.values()), faults


def collect(store: Path, *, wanted: dict[str, Iterable[str] | None]) -> list[dict[str, Any]]:
    """The newest run of each task, body, method, alignment and seed in a store, sorted by these.

    Args:
        store: the store's folder.
        wanted: values to keep, by key of the record; None keeps all.
    """
    from orca.runs import FINISHED, list_runs
    from orca.store import Store

    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for record in list_runs(Store(store)):  # newest first
        if "fault" in record:
            print(f"left out {record['run']}: {record['fault']}", file=sys.stderr)
            continue
        if record["state"] != FINISHED:
            print(f"left out {record['run']}: it is {record['state']}", file=sys.stderr)
            continue
        if any(values is not None and str(record[key]) not in values for key, values in wanted.items()):
            continue
        key = tuple(str(record[k]) for k in ("task", "body", "method", "align", "seed"))
        if key in found:
            print(f"left out {record['run']}: {found[key]['run']} is newer", file=sys.stderr)
        found.setdefault(key, record)
    return [found[key] for key in sorted(found)]


def _parser() -> argparse.ArgumentParser:
    def names(text: str) -> list[str]:
        return [name.strip() for name in text.split(",") if name.strip()]

    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--tasks", type=names, help=f"names of configurations [{TASKS}]")
    parser.add_argument("--methods", type=names, help="names from `orca methods` [full,layernorm]")
    parser.add_argument("--aligns", type=names, help="alignment objectives [otdd,none]")
    parser.add_argument("--seeds", type=names, help="[0]")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    default = os.environ.get("ORCA_STORE") or "runs"
    parser.add_argument("--store", default=default, help="folder of stages and runs [ORCA_STORE, ./runs]")
    parser.add_argument("--collect", type=Path, metavar="STORE", help="run nothing; the table of the runs in STORE")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers of a page")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _cells(given: argparse.Namespace) -> list[Cell]:
    grid = product(
        given.tasks or TASKS.split(","),
        given.methods or ["full", "layernorm"],
        given.aligns or ["otdd", "none"],
        given.seeds or ["0"],
    )
    return [Cell(task, method, align, int(seed), tuple(given.set)) for task, method, align, seed in grid]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; bad input ends it before any work with code 2, a run that failed with code 1."""
    parser = _parser()
    given = parser.parse_args(argv)
    if [seed for seed in given.seeds or [] if not seed.isdecimal()]:
        parser.error(f"--seeds takes whole numbers, like 0,1,2; got {','.join(given.seeds)}")
    if given.write and (lack := lacks_markers(given.write)):
        parser.error(lack)
    faults: list[str] = []
    if given.collect:
        wanted = {"task": given.tasks, "method": given.methods, "align": given.aligns, "seed": given.seeds}
        store, records = given.collect, collect(given.collect, wanted=wanted)
    else:
        cells = _cells(given)
        if lacks := alone(find_faults, cells):
            parser.error("\n".join(lacks))
        store = Path(given.store)
        records, faults = run_all(cells, given.store)
    if not records:
        parser.exit(1 if faults else 2, "no runs to make a table of\n")
    rows = rows_of(records, store)
    if given.write:
        fill(given.write, markdown(rows))
    print(
        json.dumps({"benchmark": "tasks", "rows": rows, "faults": faults}, indent=2) if given.json else markdown(rows)
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
