"""`kitelake capture` before it starts anything: whether the day has something to capture, and what it says if not."""

import asyncio
import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import time_machine

from ingest.instruments.listing import parse_instruments
from ingest.simulator.universe import HEADER
from kitelake.config.config import load_config
from kitelake.plan.today import TodaysPlan
from kitelake.processes.source import Source
from kitelake.service.one_day import Nothing, OneDay
from kitelake.service.service import Service
from storage.clock import IST
from storage.layout import DataLayout
from storage.tables.symbols import write_instruments
from tests.support.command import DAY, INDICES, Run, command, write_config

__all__ = ["command"]  # the fixture

LATE = INDICES | {"name": "late", "window": "11:00-12:00"}
EQ = INDICES | {"name": "eq", "window": "02:02-03:00"}
TWICE = {"date": DAY, "hours": ["09:15-10:00", "11:30-12:30"], "note": "two sessions"}


def at(clock: str) -> dt.datetime:
    return dt.datetime.combine(DAY, dt.time.fromisoformat(clock), IST)


def nothing(folder: Path, now: str, until: str | None, *lists: dict[str, Any], **changes: Any) -> Nothing | None:
    config = load_config(write_config(folder, *lists, **changes))
    return OneDay(DAY).nothing_to_do(config, at(now), None if until is None else at(until))


@pytest.mark.parametrize(
    ("now", "until", "said"),
    [
        ("01:58", "01:59", "no list starts before 01:59: the first, eq, starts at 02:02"),
        ("01:58", "02:02", "no list starts before 02:02: the first, eq, starts at 02:02"),
        ("01:58", "02:01:30", "no list starts before 02:01:30: the first, eq, starts at 02:02"),
        ("03:00", "10:00", "no list starts before 10:00: the first, late, starts at 11:00"),
        ("02:30", "02:20", "it is 02:30, and today's session ended at 02:20: nothing was captured"),
        ("13:00", None, "it is 13:00, and today's session ended at 12:00: nothing was captured"),
    ],
)
def test_where_no_list_is_in_its_hours_before_the_end_nothing_is_started(
    tmp_path: Path, now: str, until: str | None, said: str
) -> None:
    assert nothing(tmp_path, now, until, LATE, EQ) == Nothing(said, 1)


@pytest.mark.parametrize(
    ("now", "until"), [("01:58", None), ("01:58", "02:03"), ("02:30", "02:40"), ("02:59", "10:00")]
)
def test_a_list_that_starts_before_the_end_or_has_started_is_captured(
    tmp_path: Path, now: str, until: str | None
) -> None:
    assert nothing(tmp_path, now, until, LATE, EQ) is None


@pytest.mark.parametrize(
    ("now", "until", "first"),
    [
        ("09:30", "09:45", None),
        ("10:50", "11:00", "11:10"),
        ("10:50", "11:11", None),
        ("11:45", "12:00", None),
        ("08:45", "08:50", "08:55"),
    ],
)
def test_each_of_a_lists_spans_counts(tmp_path: Path, now: str, until: str, first: str | None) -> None:
    said = first and Nothing(f"no list starts before {until}: the first, indices, starts at {first}", 1)
    assert nothing(tmp_path, now, until, INDICES, calendar={"special_days": [TWICE]}) == said


def test_the_session_is_not_over_before_the_service_knows_what_its_lists_mean(tmp_path: Path) -> None:
    """On a Sunday by a token alone: the stored list says that it is of an exchange that trades around the clock."""
    sunday = dt.date(2026, 11, 22)
    path = write_config(tmp_path, {"name": "gift", "instruments": [291849]})
    config = load_config(path)
    csv = HEADER + "\n291849,1140,GIFT NIFTY,GIFT NIFTY,0,,0,0,0,EQ,INDICES,NSEIX\n"
    layout = DataLayout(config.data)
    saturday = sunday - dt.timedelta(days=1)
    write_instruments(layout, saturday, parse_instruments(csv.encode(), date=saturday))
    session, stop = OneDay(sunday), asyncio.Event()
    stop.set()

    async def nothing_more(*_: object) -> None:
        """What the service does once the session is over."""

    with time_machine.travel(dt.datetime.combine(sunday, dt.time(12), IST)):
        assert session.nothing_to_do(config, dt.datetime.now(IST), None) is None
        today = TodaysPlan(config, layout, "http://127.0.0.1:1", [])
        cycle = SimpleNamespace(reconcile=nothing_more, end_of_day=nothing_more, reports=[])
        service = SimpleNamespace(today=today, cycle=cycle)
        asyncio.run(session.watch(cast("Service", service), Source("", ""), stop))
    assert session.stopped


def test_a_day_without_a_list_says_why_of_each(command: Run, tmp_path: Path) -> None:
    equities = {"name": "eq", "instruments": ["NSE:INFY"], "days": [dt.date(2026, 11, 26)]}
    weekly = {"name": "weekly", "instruments": ["CDS:USDINR26NOVFUT"]}
    closed = {"date": DAY, "exchanges": ["CDS"], "hours": "closed", "note": "a wedding"}
    write_config(tmp_path, equities, weekly, weekly | {"name": "other"}, calendar={"special_days": [closed]})
    with time_machine.travel(at("08:00")):
        result = command("capture")
    assert (result.status, result.out) == (0, "")
    assert result.err == (
        "no list is captured on Wed 25 Nov 2026 (eq: its days: 2026-11-26; CDS: config.yaml: a wedding)\n"
    )


def test_where_no_list_starts_in_time_the_status_is_1(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kitelake.service.runner.capture", None)
    write_config(tmp_path, EQ)
    with time_machine.travel(at("01:58")):
        result = command("capture", "--until", "01:59")
    assert (result.status, result.out) == (1, "")
    assert result.err == "no list starts before 01:59: the first, eq, starts at 02:02\n"
