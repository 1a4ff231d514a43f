"""The report goes by the trading sessions that the day's record has, and tells a quiet holiday from a lost day."""

import datetime as dt
from pathlib import Path

import pytest

from kitelake.config.calendar import CalendarSection
from kitelake.report import DayRecord, ExchangeRecord, ListRecord, make_report
from kitelake.report.text import as_text
from kitelake.schedule.calendar import Calendar
from tests.support.reports import INFY, TCS, Stream, at, finish

pytestmark = pytest.mark.slow

DAY = dt.date(2025, 11, 24)
GOLD = 256 * 4000 + 7  # of MCX


def by_calendar(*exchanges: str, date: dt.date = DAY, special: str | None = None) -> dict[str, ExchangeRecord]:
    """What the service notes of these exchanges."""
    days = [] if special is None else [{"date": date, "hours": special}]
    made = Calendar(CalendarSection.model_validate({"special_days": days}))
    found = {name: made.day(name, date) for name in exchanges}
    return {
        name: ExchangeRecord(why=day.why, sure=day.sure, sessions=dict(day.sessions)) for name, day in found.items()
    }


def unsure(*exchanges: str) -> dict[str, ExchangeRecord]:
    return {
        name: one.model_copy(update={"sure": False, "why": "may be a holiday: Holi"})
        for name, one in by_calendar(*exchanges).items()
    }


def part(exchange: str, *tokens: int, hours: str) -> dict[str, object]:
    return {"exchange": exchange, "hours": [tuple(at(each) for each in hours.split("-"))], "tokens": tokens}


def listed(name: str, *parts: dict[str, object]) -> ListRecord:
    return ListRecord.model_validate({"name": name, "mode": "ltp", "parts": parts})


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    made = Stream(tmp_path, at("08:30:00"))
    made.service(at("08:30:00"), "started")
    made.event(at("08:30:01"), "connected", opening=1)
    return made


def test_rows_and_gaps_count_in_the_sessions_and_not_in_the_hours_of_capture(tmp_path: Path, stream: Stream) -> None:
    stream.ltp(at("08:56:00"), INFY)  # the last value of yesterday
    stream.ltp(at("09:01:00"), INFY)
    stream.ltp(at("15:29:00"), INFY)
    stream.event(at("15:36:00"), "closed", reason="reset")
    stream.event(at("15:38:00"), "connected", opening=2)  # nothing trades in between
    stream.ltp(at("15:50:00"), INFY)
    stream.ltp(at("16:05:00"), INFY)
    finish(stream, at("16:20:00"))
    record = DayRecord(
        date=DAY, lists=(listed("NSE", part("NSE", INFY, hours="08:55-16:15")),), exchanges=by_calendar("NSE")
    )
    report = make_report(tmp_path, record)
    assert (report.lists[0].rows, report.other_rows) == (3, 2)
    assert report.gaps.number == 0
    assert report.problems == ()


def test_each_exchange_of_a_list_has_its_own_sessions(tmp_path: Path, stream: Stream) -> None:
    stream.ltp(at("12:00:00"), INFY, GOLD)
    stream.ltp(at("20:00:00"), INFY, GOLD)
    finish(stream, at("23:59:00"))
    both = listed("both", part("NSE", INFY, TCS, hours="08:55-16:15"), part("MCX", GOLD, hours="08:40-23:59"))
    record = DayRecord(date=DAY, lists=(both,), exchanges=by_calendar("NSE", "MCX"))
    (only,) = make_report(tmp_path, record).lists
    assert (only.wanted, only.ticked, only.silent, only.rows) == (3, 2, 1, 3)
    assert record.instrument_seconds() == {"both": 2 * (15 * 60 + 6.25 * 3600 + 20 * 60) + 14 * 3600 + 55 * 60}


def test_a_special_session_is_what_counts_on_its_day(tmp_path: Path, stream: Stream) -> None:
    stream.ltp(at("12:00:00"), INFY)
    stream.ltp(at("18:30:00"), INFY)
    finish(stream, at("20:00:00"))
    record = DayRecord(
        date=DAY,
        lists=(listed("NSE", part("NSE", INFY, hours="17:55-20:00")),),
        exchanges=by_calendar("NSE", special="18:15-19:15"),
    )
    assert make_report(tmp_path, record).lists[0].rows == 1


@pytest.mark.parametrize("hours", ["16:30-17:00", "06:00-07:00"])
def test_hours_in_which_nothing_trades_count_as_they_are(tmp_path: Path, stream: Stream, hours: str) -> None:
    """A list may say when it is captured, whatever the exchange does; and its day may be a weekend."""
    finish(stream, at("20:00:00"))
    only = listed("NSE", part("NSE", INFY, hours=hours))
    weekend = ExchangeRecord(why="weekend", sure=True, sessions={})
    for exchanges in (by_calendar("NSE"), {"NSE": weekend}):
        report = make_report(tmp_path, DayRecord(date=DAY, lists=(only,), exchanges=exchanges))
        assert (report.wanted, report.lists[0].silent) == (1, 1)


def test_nothing_that_trades_on_a_day_that_may_be_a_holiday_is_a_note(tmp_path: Path, stream: Stream) -> None:
    stream.ltp(at("09:20:00"), INFY, TCS)  # as after a reconnect: the last value of the day before
    stream.ltp(at("12:00:00"), INFY)
    finish(stream, at("23:59:00"))
    lists = (
        listed("shares", part("NSE", INFY, TCS, hours="08:55-16:15")),
        listed("options", part("NFO", 258, hours="08:55-16:25")),
    )
    report = make_report(tmp_path, DayRecord(date=DAY, lists=lists, exchanges=unsure("NSE", "NFO")))
    assert report.quiet == ("NSE: may be a holiday: Holi", "NFO: may be a holiday: Holi")
    assert report.problems == ()
    assert "- nothing traded on NSE: may be a holiday: Holi" in as_text(report)
    certain = make_report(tmp_path, DayRecord(date=DAY, lists=lists, exchanges=by_calendar("NSE", "NFO")))
    assert certain.quiet == ()
    assert certain.problems == ("list options: none of its 1 instrument ticked",)


def test_a_day_that_may_be_a_holiday_and_trades_is_a_day_like_any_other(tmp_path: Path, stream: Stream) -> None:
    stream.full(at("12:00:00"), INFY, at("11:59:59"))
    finish(stream, at("16:20:00"))
    lists = (
        listed("traded", part("NSE", INFY, hours="08:55-16:15")),
        listed("silent", part("NSE", TCS, hours="08:55-16:15")),
    )
    report = make_report(tmp_path, DayRecord(date=DAY, lists=lists, exchanges=unsure("NSE")))
    assert report.quiet == ()
    assert report.problems == ("list silent: none of its 1 instrument ticked",)


def test_a_whole_day_without_a_row_is_a_problem_only_if_something_was_sure_to_trade(
    tmp_path: Path, stream: Stream
) -> None:
    finish(stream, at("23:59:00"))
    shares = listed("shares", part("NSE", INFY, hours="08:55-16:15"))
    metals = listed("metals", part("MCX", GOLD, hours="08:40-23:59"))
    quiet = make_report(tmp_path, DayRecord(date=DAY, lists=(shares,), exchanges=unsure("NSE")))
    assert quiet.problems == ()
    exchanges = unsure("NSE") | by_calendar("MCX")
    lost = make_report(tmp_path, DayRecord(date=DAY, lists=(shares, metals), exchanges=exchanges))
    assert lost.problems[0] == "nothing was captured: there is no row of this day"
