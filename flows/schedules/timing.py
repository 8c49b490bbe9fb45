"""When a schedule falls due: from what the user types to a schedule of Prefect, its next times, and back to words."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import zoneinfo
from pathlib import Path
from typing import Any

from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.server.schemas import schedules as calculating

from orca.errors import InputError

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds
Schedule = CronSchedule | IntervalSchedule | RRuleSchedule


def seconds(text: str) -> int:
    """The seconds of a period such as ``20``, ``5m``, ``2h`` or ``1d``.

    Raises:
        InputError: it is none.
    """
    found = re.fullmatch(r"(\d+)([smhd]?)", text.strip())
    if not found or not int(found[1]):
        raise InputError(
            f"--every is a whole number of seconds, or one with m, h or d, such as 20, 5m, 2h; got '{text}'"
        )
    return int(found[1]) * UNITS[found[2]]


def zone(name: str | None) -> str:
    """The timezone of that name; this machine's if None, and UTC where that has no name.

    Raises:
        InputError: there is no such timezone.
    """
    known = zoneinfo.available_timezones()
    if name is None:
        places = Path("/etc/localtime").resolve().as_posix()
        here = [os.environ.get("TZ", ""), places.partition("/zoneinfo/")[2]]
        return next((place for place in here if place in known), "UTC")
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, sorted(known), n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else "it is written like Europe/Berlin or UTC"
        raise InputError(f"there is no timezone '{name}'; {hint}")
    return name


def schedule(
    *, cron: str | None = None, every: str | None = None, at: str | None = None, timezone: str | None = None
) -> Schedule:
    """The schedule that exactly one of the three describes.

    Args:
        cron: minute, hour, day, month, weekday.
        every: a period, see ``seconds``; the first time is one period from now.
        at: one time, ISO 8601; without an offset it is that of the timezone.
        timezone: where clocks are read; None for this machine's.

    Raises:
        InputError: there is not one of them, or it cannot be read, or the time has passed.
    """
    if sum(given is not None for given in (cron, every, at)) != 1:
        raise InputError("give one of --cron, --every, --at and --on-change, which alone may have --every beside it")
    place = zone(timezone)
    if every is not None:
        begun = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        return IntervalSchedule(interval=datetime.timedelta(seconds=seconds(every)), anchor_date=begun, timezone=place)
    if cron is not None:
        return _cron(cron, place)
    return _once(str(at), place)


def _cron(cron: str, place: str) -> CronSchedule:
    try:
        return CronSchedule(cron=cron, timezone=place)
    except ValueError as fault:
        raise InputError(
            f'--cron is minute, hour, day, month and weekday, such as "0 3 * * *" for three o\'clock each night; '
            f"got '{cron}'"
        ) from fault


def _once(at: str, place: str) -> RRuleSchedule:
    try:
        when = datetime.datetime.fromisoformat(at)
    except ValueError as fault:
        raise InputError(f"--at is a time such as 2026-12-01T03:00; got '{at}'") from fault
    clock = zoneinfo.ZoneInfo(place)
    when = when.astimezone(clock) if when.tzinfo else when.replace(tzinfo=clock)
    now = datetime.datetime.now(clock)
    if when <= now:
        raise InputError(f"--at {at} has passed: in {place} it is {now:%Y-%m-%d %H:%M}")
    return RRuleSchedule(rrule=f"DTSTART:{when:%Y%m%dT%H%M%S}\nRRULE:FREQ=DAILY;COUNT=1", timezone=place)


def next_times(given: Any, count: int) -> list[datetime.datetime]:
    """The next times of a schedule, in its timezone; the server makes its runs by the same calculation."""
    kind = getattr(calculating, type(given).__name__)
    return asyncio.run(kind.model_validate(given.model_dump()).get_dates(count))


def in_words(given: Any) -> str:
    """What a schedule says: ``every 5 min``, ``cron 0 3 * * *``, ``once at 2026-12-01 03:00``."""
    if isinstance(given, CronSchedule):
        return f"cron {given.cron}"
    if isinstance(given, IntervalSchedule):
        return f"every {period(round(given.interval.total_seconds()))}"
    once = re.fullmatch(r"DTSTART:(\d{8}T\d{6})\nRRULE:FREQ=DAILY;COUNT=1", given.rrule)
    return f"once at {datetime.datetime.fromisoformat(once[1]):%Y-%m-%d %H:%M}" if once else given.rrule


def period(length: int) -> str:
    """Seconds in the largest unit that divides them."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if length % size == 0:
            return f"{length // size} {unit}"
    return f"{length} s"
