"""The commands that work on runs: ``orca run``, ``orca resume`` and ``orca cancel``."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.options import (
    ConfigArgument,
    JsonOption,
    OnlineOption,
    RunArgument,
    SeedOption,
    SettingsOption,
    StoreOption,
    open_store,
    prepare_prefect,
)
from flows.servers.connect import prepare_environment
from flows.terminal import exit_codes
from orca.errors import InputError

PATIENCE = 30  # seconds that a cancelled run has to end
STOPPED = "stopped; orca resume, or the same command, goes on from the last checkpoint"


def run(  # noqa: PLR0913 - each argument is an option of the command
    config: ConfigArgument,
    settings: SettingsOption = None,
    seed: SeedOption = None,
    fresh: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE", help="Do again, with all that follow: embed, align, finetune or evaluate."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="The last stage to run: embed, align, finetune or evaluate.")
    ] = None,
    online: OnlineOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Adapt a body to a task, through all stages, as a Prefect flow."""
    chosen = {"overrides": settings or (), "seed": seed}
    _adapt(config, chosen, fresh=tuple(fresh or ()), until=until, online=online, store=store, as_json=as_json)


def resume(
    run: RunArgument, online: OnlineOption = False, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Go on with a run that failed, was cancelled or crashed, from its last checkpoint.

    Of a validated run, which a grid with `until: finetune` leaves, it opens the test set.

    The new flow run has the tag resumes-ID, with the first digits of the one before.
    """
    with exit_codes():
        from orca.runs import FINISHED, read_run

        record = read_run(open_store(store), run)
        if record["state"] in (FINISHED, "running"):
            advice = "orca run does stages again with --fresh" if record["state"] == FINISHED else "wait for its end"
            raise InputError(f"the run {record['run']} is {record['state']}; there is nothing to resume: {advice}")
    before = str(record["flow_run"] or "")[:8]
    labels = (f"resumes-{before}",) if before else ()
    path = str(Path(record["path"]) / "config.yaml")
    _adapt(path, {}, online=online, store=store, as_json=as_json, labels=labels)


def _adapt(
    config: str, chosen: dict[str, Any], *, fresh: tuple[str, ...] = (), until: str | None = None, online: bool,
    store: Path | None, as_json: bool, labels: tuple[str, ...] = (),
) -> None:  # fmt: skip
    from flows.terminal import ProgressLine, print_json, summary

    with exit_codes(STOPPED):
        line = ProgressLine()
        line({"stage": "starting"})
        server = prepare_prefect()  # comes up while the core is imported and the input is checked
        from orca.config import load_config
        from orca.plan import check_stage, plan

        place = open_store(store)
        checked = load_config(config, **chosen)
        check_stage(until)
        plan(checked, online=online, fresh=fresh)  # bad input ends here, before a flow is started
        place.make()
        from flows.adapt import launch

        result: Any = launch(
            checked, store=place.root, online=online, fresh=fresh, until=until, more=labels, watched_by=line,
            server=server,
        )  # fmt: skip
    if until is not None:
        found = {"stage": result.name, "key": result.key, "cached": result.cached, "path": str(result.path)}
        if as_json:
            print_json({**found, "seconds": result.seconds})
        else:
            typer.echo(f"{result.name} {'was in the store already' if result.cached else 'is done'}: {result.path}")
        return
    record = result.record
    if as_json:
        print_json({key: value for key, value in record.items() if key not in ("versions", "machine", "notes")})
        return
    typer.echo(summary(record))
    if result.unchanged:
        typer.echo("\nnothing was to be done: every stage was there already (--fresh STAGE does one again)")
    where = "" if store is None else f" --store {shlex.quote(str(store))}"
    typer.echo(f"\nnext: orca show {record['run']}{where}   orca runs{where}   orca ui")


def cancel(run: RunArgument, store: StoreOption = None) -> None:
    """Stop a running run; orca resume goes on with it from its last checkpoint.

    It is asked to end by the Prefect server where one knows it, else by a signal to its process on this machine.
    """
    with exit_codes():
        from orca.runs import read_run

        place = open_store(store)
        record = read_run(place, run)
        if record["state"] != "running":
            raise InputError(f"the run {record['run']} is {record['state']}; there is nothing to cancel")
        how = _ask_to_end(record)
        typer.echo(f"asked {record['run']} to end, {how}", err=True)
        begun = time.monotonic()
        while (now := read_run(place, record["run"]))["state"] == "running":
            if time.monotonic() - begun > PATIENCE:
                raise InputError(f"{record['run']} has not ended in {PATIENCE} s; it is at work in {record['process']}")
            time.sleep(0.2)
        typer.echo(f"{record['run']} is {now['state']}; go on with: orca resume {record['run']}")


def _ask_to_end(record: dict[str, Any]) -> str:
    """Asks for the end of a run; says how."""
    prepare_environment()
    if api := os.environ.get("PREFECT_API_URL"):
        import httpx
        from prefect.client.orchestration import get_client
        from prefect.exceptions import PrefectException
        from prefect.states import Cancelling

        try:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(record["flow_run"], Cancelling())
        except (httpx.HTTPError, PrefectException):  # it was recorded by another server
            pass
        else:
            return f"by the server at {api}"
    process = record["process"]
    if process["host"] != socket.gethostname():
        raise InputError(f"{record['run']} runs on {process['host']}, and no server here knows it; cancel it there")
    # A flow listens to SIGUSR1, also where a shell had it started deaf to Ctrl-C; `orca.adapt` in a notebook does not.
    os.kill(process["pid"], signal.SIGUSR1 if record["flow_run"] else signal.SIGINT)
    return "by a signal"
