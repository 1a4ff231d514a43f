"""Trading sessions by exchange, kind of instrument and date, and the hours of capture around them."""

import datetime as dt
import itertools

import pytest

from storage.market.exchanges import ROUND_THE_CLOCK, SCHEDULED
from storage.market.hours import END_OF_DAY, Hours, clock, shifted
from storage.market.sessions import (
    AFTER_TRADING,
    BEFORE_TRADING,
    InstrumentKind,
    Phase,
    capture_hours,
    trading_hours,
    usual_sessions,
)
from storage.market.special_days import ANNOUNCED, BY_DAY

BEFORE, AFTER = dt.date(2026, 7, 31), dt.date(2026, 8, 3)
YEARS = [dt.date(2024, 1, 1) + dt.timedelta(days=number) for number in range(3 * 365 + 1)]


def told(exchange: str, kind: InstrumentKind, date: dt.date) -> str:
    return ", ".join(f"{session.phase} {session.hours}" for session in usual_sessions(exchange, date)[kind])


@pytest.mark.parametrize(
    ("exchange", "kind", "date", "expected"),
    [
        ("NSE", InstrumentKind.SHARE, BEFORE, "pre-open 09:00-09:15, continuous 09:15-15:30, post-close 15:40-16:00"),
        ("NSE", InstrumentKind.SHARE, AFTER, "pre-open 09:00-09:15, continuous 09:15-15:30, post-close 15:40-16:00"),
        ("NSE", InstrumentKind.INDEX, AFTER, "pre-open 09:00-09:15, continuous 09:15-15:30, post-close 15:40-16:00"),
        (
            "NSE",
            InstrumentKind.UNDERLYING,
            BEFORE,
            "pre-open 09:00-09:15, continuous 09:15-15:30, post-close 15:40-16:00",
        ),
        (
            "NSE",
            InstrumentKind.UNDERLYING,
            AFTER,
            "pre-open 09:00-09:15, continuous 09:15-15:15, auction 15:15-15:35, post-close 15:40-16:00",
        ),
        ("NFO", InstrumentKind.FUTURE, dt.date(2025, 12, 5), "continuous 09:15-15:30"),
        ("NFO", InstrumentKind.FUTURE, dt.date(2025, 12, 8), "pre-open 09:00-09:15, continuous 09:15-15:30"),
        ("NFO", InstrumentKind.OPTION, dt.date(2025, 12, 8), "continuous 09:15-15:30"),
        ("NFO", InstrumentKind.OPTION, AFTER, "continuous 09:15-15:40"),
        ("BFO", InstrumentKind.FUTURE, AFTER, "pre-open 09:00-09:15, continuous 09:15-15:40"),
        ("CDS", InstrumentKind.FUTURE, AFTER, "continuous 09:00-17:00"),
        ("NSEIX", InstrumentKind.FUTURE, AFTER, "continuous 00:00-24:00"),
        ("GLOBAL", InstrumentKind.INDEX, AFTER, "continuous 00:00-24:00"),
        # New York's clock: 2026-03-08 to 2026-11-01, each a Sunday
        ("MCX", InstrumentKind.FUTURE, dt.date(2026, 3, 6), "continuous 09:00-23:55"),
        ("MCX", InstrumentKind.FUTURE, dt.date(2026, 3, 9), "continuous 09:00-23:30"),
        ("MCX", InstrumentKind.OPTION, dt.date(2026, 10, 30), "continuous 09:00-23:30"),
        ("NCO", InstrumentKind.OPTION, dt.date(2026, 11, 2), "continuous 09:00-23:55"),
        (
            "NSE",
            InstrumentKind.SHARE,
            dt.date(2001, 1, 1),
            "pre-open 09:00-09:15, continuous 09:15-15:30, post-close 15:40-16:00",
        ),
    ],
)
def test_sessions_have_dates_and_depend_on_the_kind(
    exchange: str, kind: InstrumentKind, date: dt.date, expected: str
) -> None:
    assert told(exchange, kind, date) == expected


@pytest.mark.parametrize("exchange", SCHEDULED)
def test_every_session_lies_within_the_hours_of_capture(exchange: str) -> None:
    for date in YEARS:
        listening = capture_hours(exchange, date)
        for sessions in usual_sessions(exchange, date).values():
            assert sessions
            assert all(listening.start < each.start and each.stop < listening.stop for _, each in sessions)
            assert [each.start for _, each in sessions] == sorted(each.start for _, each in sessions)
            assert all(a[1].stop <= b[1].start for a, b in itertools.pairwise(sessions))


@pytest.mark.parametrize(
    ("exchange", "start", "beyond"),
    [
        ("NSE", "08:55", "16:00"),
        ("BSE", "08:55", "16:00"),
        ("NFO", "08:55", "15:45"),
        ("BFO", "08:55", "15:45"),
        ("CDS", "08:55", "19:30"),
        ("BCD", "08:55", "19:30"),
        ("MCX", "08:55", "23:59"),
        ("NCO", "08:55", "23:59"),
    ],
)
def test_capture_is_generous(exchange: str, start: str, beyond: str) -> None:
    for date in YEARS:
        hours = capture_hours(exchange, date)
        assert hours.start <= dt.time.fromisoformat(start)
        assert hours.stop > dt.time.fromisoformat(beyond)


@pytest.mark.parametrize("exchange", ROUND_THE_CLOCK)
def test_what_has_no_sessions_is_captured_all_day(exchange: str) -> None:
    assert str(capture_hours(exchange, AFTER)) == "00:00-24:00"
    assert str(trading_hours(exchange, AFTER)) == "00:00-24:00"


def test_special_days_are_of_exchanges_that_have_sessions_and_one_each() -> None:
    assert {exchange for _, exchange in BY_DAY} <= set(SCHEDULED)
    assert sum(len(one.exchanges) for one in ANNOUNCED) == len(BY_DAY)
    for one in ANNOUNCED:
        assert one.note
        assert one.source
        assert one.trading != () or one.date.weekday() < 5  # weekends are closed anyway


def test_a_time_is_moved_within_its_day() -> None:
    assert clock(shifted(dt.time(9, 15), -BEFORE_TRADING)) == "08:55"
    assert clock(shifted(dt.time(15, 30), AFTER_TRADING)) == "16:15"
    assert clock(shifted(dt.time(0, 5), -BEFORE_TRADING)) == "00:00"
    assert clock(shifted(dt.time(23, 30), AFTER_TRADING)) == "24:00"
    assert clock(shifted(END_OF_DAY, -BEFORE_TRADING)) == "23:40"
    assert clock(shifted(dt.time(1, 2, 3), dt.timedelta(seconds=4))) == "01:02:07"
    assert str(Hours(dt.time(9), END_OF_DAY)) == "09:00-24:00"


def test_phases_are_what_the_day_record_calls_them() -> None:
    assert [phase.value for phase in Phase] == ["pre-open", "continuous", "auction", "post-close"]
    assert [kind.value for kind in InstrumentKind] == ["share", "share with derivatives", "index", "future", "option"]
