"""The commands ``orca schedule``, ``orca schedules`` and ``orca serve``."""

from __future__ import annotations

import datetime
import enum
import os
import shlex
import zoneinfo
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.options import ConfigArgument, JsonOption, OnlineOption, SeedOption, SettingsOption, StoreOption
from flows.servers.connect import connected
from flows.terminal import exit_codes, print_json, table, tell
from orca.errors import InputError

LOOK = "60"  # seconds between two looks at a folder of data
POLL = 2  # seconds between two questions to the server about what is due; Prefect's own 10 make short schedules late

NAME = typer.Option(metavar="NAME", help="Of the schedule; one of that name is changed. [task-body-method-seed]")


class Overlap(enum.StrEnum):
    """What becomes of a time when the run before has not ended."""

    WAIT = "wait"
    SKIP = "skip"
    PARALLEL = "parallel"


class Action(enum.StrEnum):
    """What to do with schedules."""

    LIST = "list"
    PAUSE = "pause"
    RESUME = "resume"
    REMOVE = "remove"


def schedule(  # noqa: PLR0913 - each argument is an option of the command
    config: ConfigArgument,
    cron: Annotated[str | None, typer.Option(metavar="CRON", help='Such as "0 3 * * *".')] = None,
    every: Annotated[
        str | None, typer.Option(metavar="PERIOD", help="Seconds, or 5m, 2h, 1d. With --on-change, of looks. [60]")
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="Once, such as 2026-12-01T03:00.")] = None,
    on_change: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="When what lies in this folder has changed.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Such as Europe/Berlin. [this machine's]")
    ] = None,
    name: Annotated[str | None, NAME] = None,
    settings: SettingsOption = None,
    seed: SeedOption = None,
    store: StoreOption = None,
    online: OnlineOption = False,
    overlap: Annotated[
        Overlap, typer.Option(help="A time that comes while the run before goes on waits, is skipped, or runs too.")
    ] = Overlap.WAIT,
    as_json: JsonOption = False,
) -> None:
    """Run a configuration by the clock, or when data changes; `orca serve` runs it.

    Give one of --cron, --every, --at and --on-change.
    """
    with exit_codes(), connected() as client:
        from orca.config import load_config
        from orca.plan import plan
        from orca.store import Store, default_root

        checked = load_config(config, overrides=settings or (), seed=seed)
        plan(checked, online=online)  # bad input ends here, before anything is made
        from flows.schedules import deployments, timing
        from flows.stages import labels

        period = every or (LOOK if on_change else None)
        when = timing.schedule(cron=cron, every=period, at=at, timezone=timezone)
        place = Path(store or default_root()).absolute()
        folder = None if on_change is None else on_change.expanduser().absolute()
        wanted = deployments.Wanted(
            name or "-".join(labels(checked)), checked, place, online, overlap.value, when, folder
        )
        Store(place).make()
        changed = deployments.make(client, wanted)
        made = deployments.entry(client, wanted.name)
    if as_json:
        print_json({**made, "changed": changed})
        return
    typer.echo(f"{'changed the schedule' if changed else 'made the schedule'} {made['name']}")
    typer.echo(f"  when     {made['when']} ({made['timezone']})")
    typer.echo(f"  next     {', '.join(_clock(time, made['timezone']) for time in made['next'])}")
    typer.echo(f"  overlap  {made['overlap']}")
    typer.echo(f"  store    {made['store']}")
    typer.echo(f"\nnext: orca serve (runs it)   orca schedules   orca schedules pause {shlex.quote(made['name'])}")


def schedules(
    action: Annotated[Action, typer.Argument(metavar="[ACTION]", help="list, pause, resume or remove.")] = Action.LIST,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of the schedule, for all but list.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List, pause, resume or remove schedules."""
    with exit_codes(), connected() as client:
        from flows.schedules import deployments

        if (name is None) != (action is Action.LIST):
            raise InputError(f"orca schedules {action.value} {'takes no name' if name else 'needs the name of one'}")
        entries = []
        if action is Action.LIST:
            entries = deployments.listing(client)
        else:
            getattr(deployments, action.value)(client, str(name))
    if action is not Action.LIST:
        done = {Action.PAUSE: "paused", Action.RESUME: "resumed", Action.REMOVE: "removed"}[action]
        print_json({"name": name, "done": done}) if as_json else typer.echo(f"{done} {name}")
    elif as_json:
        print_json(entries)
    elif entries:
        header = ["schedule", "task", "method", "seed", "when", "timezone", "next", "overlap", "last run"]
        typer.echo(table([_row(entry) for entry in entries], header))
    else:
        typer.echo("no schedules; make one with: orca schedule demo --every 1h", err=True)


def serve(
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Of runs at once. [none]")] = None,
) -> None:
    """Run what is scheduled, until Ctrl-C.

    Of times that nobody could run, the newest of each schedule is made up for, the others are dropped.
    """
    with exit_codes():
        os.environ.setdefault("PREFECT_WORKER_QUERY_SECONDS", str(POLL))
        with connected():  # a server that answers
            from flows.schedules import worker

            worker.serve(limit)
    tell("stopped")


def _row(entry: dict[str, Any]) -> list[str]:
    upcoming = "paused" if entry["paused"] else _clock(entry["next"][0], entry["timezone"]) if entry["next"] else "-"
    last = (
        f"{entry['last']['state'].lower()} {_clock(entry['last']['time'], entry['timezone'])}" if entry["last"] else "-"
    )
    told = [entry["name"], entry["task"], entry["method"], entry["seed"], entry["when"], entry["timezone"]]
    return ["-" if cell is None else str(cell) for cell in [*told, upcoming, entry["overlap"], last]]


def _clock(time: str, timezone: str | None) -> str:
    """A time as a clock in the timezone shows it; in this machine's if None."""
    place = None if timezone is None else zoneinfo.ZoneInfo(timezone)
    return f"{datetime.datetime.fromisoformat(time).astimezone(place):%Y-%m-%d %H:%M:%S}"
