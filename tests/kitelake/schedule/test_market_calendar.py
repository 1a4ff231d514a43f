"""The calendar of 2024 to 2026 as it was, written by hand, against what the calendar says without any configuration.

What the exchanges announced:
- trading holidays of NSE and BSE: their circulars of 2023-12-12, 2024-12-13 and 2025-12-12, with those that were
  declared later (2024-01-22, 2024-05-20, 2024-11-20, 2026-01-15: circulars of 2024-01-19, 2024-04-08, 2024-11-08 and
  2026-01-12)
- sessions on weekends and of other hours: circulars of NSE of 2024-01-19, 2024-02-14, 2024-05-07, 2024-10-18,
  2025-09-22 and 2026-01-16; MCX, releases of 2025-01-29 and January 2026
- MCX: its holiday lists, by which it closes all day on a few days only and the morning session on most holidays of NSE
"""

import datetime as dt

import pytest

from kitelake.config.calendar import CalendarSection
from kitelake.schedule.calendar import Calendar
from storage.clock import IST
from storage.market.sessions import Phase

HOLIDAYS = {  # weekdays on which NSE and BSE did not trade in continuous trading hours
    "2024": "01-22 01-26 03-08 03-25 03-29 04-11 04-17 05-01 05-20 06-17 07-17 08-15 10-02 11-01 11-15 11-20 12-25",
    "2025": "02-26 03-14 03-31 04-10 04-14 04-18 05-01 08-15 08-27 10-02 10-21 10-22 11-05 12-25",
    "2026": "01-15 01-26 03-03 03-26 03-31 04-03 04-14 05-01 05-28 06-26 09-14 10-02 10-20 11-10 11-24 12-25",
}
MUHURAT = {"2024-11-01": "18:00-19:00", "2025-10-21": "13:45-14:45"}
WEEKENDS = {  # sessions of NSE, BSE and their derivatives
    "2024-01-20": ["09:15-15:30"],
    "2024-03-02": ["09:15-10:00", "11:30-12:30"],
    "2024-05-18": ["09:15-10:00", "11:45-12:40"],
    "2025-02-01": ["09:15-15:30"],
    "2026-02-01": ["09:15-15:30"],
}
MCX_WEEKENDS = {"2025-02-01": ["09:00-17:00"], "2026-02-01": ["09:00-17:00"]}
DIWALI_ON_A_SUNDAY = "2026-11-08"  # Muhurat trading, at hours that are not in the table
FIXED = {"01-26", "05-01", "08-15", "10-02", "12-25", "04-14", "2024-03-29", "2025-04-18", "2026-04-03"}
SUMMER = (("2024-03-10", "2024-11-03"), ("2025-03-09", "2025-11-02"), ("2026-03-08", "2026-11-01"))  # in New York

CALENDAR = Calendar(CalendarSection())
HOLIDAY_DATES = {f"{year}-{day}" for year, days in HOLIDAYS.items() for day in days.split()}
DATES = [(dt.date(2024, 1, 1) + dt.timedelta(days=number)) for number in range(3 * 365 + 1)]


def is_fixed(date: str) -> bool:
    return date in FIXED or date[5:] in FIXED


def equity_hours(exchange: str, date: str) -> list[str]:
    """When it traded continuously."""
    if date in MUHURAT:
        return [MUHURAT[date]]
    if date in WEEKENDS:
        return WEEKENDS[date]
    if date in HOLIDAY_DATES or dt.date.fromisoformat(date).weekday() >= 5:
        return []
    return ["09:15-15:40" if exchange in ("NFO", "BFO") and date >= "2026-08-03" else "09:15-15:30"]


def mcx_hours(date: str) -> list[str] | None:
    """When it traded, None where that was other than usual and is not in the table."""
    if date in MCX_WEEKENDS:
        return MCX_WEEKENDS[date]
    if dt.date.fromisoformat(date).weekday() >= 5:
        return []
    if date in HOLIDAY_DATES:
        return None
    summer = any(begin <= date < end for begin, end in SUMMER)
    return ["09:00-23:30" if summer else "09:00-23:55"]


def covers(exchange: str, date: dt.date, hours: list[str]) -> bool:
    """Whether the capture of that day holds all of these hours."""
    spans = CALENDAR.day(exchange, date).spans
    for each in hours:
        start, stop = (dt.datetime.combine(date, dt.time.fromisoformat(time), IST) for time in each.split("-"))
        if not any(span.start < start and stop < span.stop for span in spans):
            return False
    return True


@pytest.mark.parametrize("exchange", ["NSE", "BSE", "NFO", "BFO"])
def test_no_session_of_equities_and_their_derivatives_is_cut_off(exchange: str) -> None:
    for date in DATES:
        text = date.isoformat()
        if text == DIWALI_ON_A_SUNDAY:
            continue
        hours, day = equity_hours(exchange, text), CALENDAR.day(exchange, date)
        assert covers(exchange, date, hours), (text, hours, day.spans)
        if day.sure:  # what is said for sure is right to the minute
            assert list(map(str, day.hours(Phase.CONTINUOUS))) == hours, (text, day.why)
        else:
            assert text in HOLIDAY_DATES, (text, day.why)
            assert day.why.startswith("may be a holiday: "), (text, day.why)


def test_only_days_with_a_fixed_date_close_an_exchange_for_sure() -> None:
    closed = {date.isoformat() for date in DATES if date.weekday() < 5 and not CALENDAR.trading_day("NSE", date)}
    assert closed == {date for date in HOLIDAY_DATES if is_fixed(date)}
    assert {date for date in HOLIDAY_DATES if not is_fixed(date) and date not in MUHURAT} == {
        date.isoformat() for date in DATES if date.weekday() < 5 and not CALENDAR.day("NSE", date).sure
    }


def test_no_session_of_commodities_is_cut_off() -> None:
    for date in DATES:
        text = date.isoformat()
        if text == DIWALI_ON_A_SUNDAY:
            continue
        hours, day = mcx_hours(text), CALENDAR.day("MCX", date)
        if hours is None:  # a holiday of NSE: some session may have been held
            assert covers("MCX", date, ["09:00-23:55"])
            assert not day.sure
            continue
        assert covers("MCX", date, hours)
        assert list(map(str, day.hours(Phase.CONTINUOUS))) == hours, (text, day.why)


def test_currencies_are_captured_until_the_later_of_the_ends_that_are_said() -> None:
    for date in DATES:
        if date.weekday() < 5 and date.isoformat() not in HOLIDAY_DATES:
            assert covers("CDS", date, ["09:00-19:30"])
            assert covers("BCD", date, ["09:00-19:30"])


@pytest.mark.parametrize("exchange", ["NSE", "NFO", "CDS", "MCX"])
def test_muhurat_trading_at_hours_that_are_not_known_is_captured_whenever_it_may_be(exchange: str) -> None:
    date = dt.date.fromisoformat(DIWALI_ON_A_SUNDAY)
    assert covers(exchange, date, ["09:00-19:59"])
    assert not CALENDAR.day(exchange, date).sure


def test_other_weekends_are_closed() -> None:
    open_ones = {
        date.isoformat()
        for date in DATES
        for exchange in ("NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX", "NCO")
        if date.weekday() >= 5 and CALENDAR.trading_day(exchange, date)
    }
    assert open_ones == {*WEEKENDS, DIWALI_ON_A_SUNDAY}


def test_the_holiday_that_was_moved_in_2023_is_captured_on_both_days() -> None:
    for date in (dt.date(2023, 6, 28), dt.date(2023, 6, 29)):  # Bakri Id: the library has the 28th, NSE closed the 29th
        assert covers("NSE", date, ["09:15-15:30"])
    assert not CALENDAR.day("NSE", dt.date(2023, 6, 28)).sure
