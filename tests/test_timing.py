"""When schedules fall due: what users type, the next times, the words; across a change of clocks, too."""

from __future__ import annotations

import datetime

import pytest
from prefect.client.schemas.schedules import CronSchedule, RRuleSchedule

from flows.schedules import timing
from orca.errors import InputError

BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(("text", "expected"), [("20", 20), ("45s", 45), ("5m", 300), ("2h", 7200), ("1d", 86400)])
def test_a_period_is_seconds_or_has_a_unit(text: str, expected: int) -> None:
    assert timing.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0m", "-5", "5 minutes", "1.5h", "m"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="such as 20, 5m, 2h; got"):
        timing.seconds(text)


def test_a_period_begins_one_period_from_now() -> None:
    period, begun = datetime.timedelta(minutes=5), datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    first, second = timing.next_times(timing.schedule(every="5m", timezone="UTC"), 2)
    assert begun <= first - period <= datetime.datetime.now(datetime.UTC)  # to the second
    assert second - first == period


def test_cron_keeps_the_hour_of_its_timezone_when_clocks_change() -> None:
    times = timing.next_times(timing.schedule(cron="0 3 * * *", timezone=BERLIN), 400)
    assert {time.hour for time in times} == {3}
    assert len({time.utcoffset() for time in times}) == 2


def test_at_is_one_time_of_the_timezone_and_then_none() -> None:
    once = timing.schedule(at="2036-07-01T03:00", timezone=BERLIN)
    (time,) = timing.next_times(once, 3)
    assert time == datetime.datetime(2036, 7, 1, 1, 0, tzinfo=datetime.UTC)
    assert timing.in_words(once) == "once at 2036-07-01 03:00"
    (same,) = timing.next_times(timing.schedule(at="2036-07-01T01:00+00:00", timezone=BERLIN), 3)
    assert same == time


def test_words() -> None:
    assert timing.in_words(timing.schedule(cron="0 3 * * 1")) == "cron 0 3 * * 1"
    periods = {"20": "20 s", "90": "90 s", "300": "5 min", "2h": "2 h", "48h": "2 d"}
    assert {text: timing.in_words(timing.schedule(every=text)) for text in periods} == {
        text: f"every {words}" for text, words in periods.items()
    }
    assert timing.in_words(RRuleSchedule(rrule="FREQ=WEEKLY;BYDAY=MO")) == "FREQ=WEEKLY;BYDAY=MO"


def test_the_timezone_is_this_machines_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert timing.zone(None) == "Asia/Tokyo"
    assert timing.zone(BERLIN) == BERLIN
    made = timing.schedule(cron="0 3 * * *")
    assert isinstance(made, CronSchedule)
    assert made.timezone == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give one of --cron, --every, --at and --on-change"),
        ({"cron": "0 3 * * *", "every": "20"}, "give one of --cron"),
        ({"cron": "0 3 * *"}, "minute, hour, day, month and weekday.*got '0 3 \\* \\*'"),
        ({"cron": "61 * * * *"}, "got '61"),
        ({"at": "tomorrow"}, "a time such as 2026-12-01T03:00; got 'tomorrow'"),
        ({"at": "2020-01-01T03:00", "timezone": BERLIN}, "has passed: in Europe/Berlin it is 20"),
        ({"every": "20", "timezone": "Europe/Berlinn"}, "no timezone 'Europe/Berlinn'; did you mean Europe/Berlin"),
        ({"every": "20", "timezone": "??"}, "it is written like Europe/Berlin or UTC"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        timing.schedule(**given)
