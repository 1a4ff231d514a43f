"""The trading calendar: special days before holidays before usual hours, and open when unsure."""

import csv
import datetime as dt
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from kitelake.config.calendar import EXCHANGES
from storage.clock import IST
from storage.market.exchanges import SCHEDULED
from storage.market.hours import Span
from tests.support.calendars import HEADER, calendar, day, from_file, on, told, trades


@pytest.mark.parametrize(
    ("exchange", "hours"),
    [
        *((exchange, "08:55-16:15") for exchange in ("NSE", "BSE")),
        *((exchange, "08:55-16:25") for exchange in ("NFO", "BFO")),
        *((exchange, "08:40-20:15") for exchange in ("CDS", "BCD")),
        *((exchange, "08:40-24:00") for exchange in ("MCX", "NCO")),
    ],
)
def test_a_weekday_has_the_usual_hours_of_each_exchange(exchange: str, hours: str) -> None:
    assert told(day(calendar(), exchange, "2026-11-23")) == (on("2026-11-23", hours), "usual hours", True, False)


def test_config_may_say_other_usual_trading_hours_around_which_is_captured() -> None:
    made = calendar(hours={"MCX": "09:30-21:00"})
    assert trades(made, "MCX", "2026-11-23") == ["09:30-21:00"]
    assert day(made, "MCX", "2026-11-23").spans == on("2026-11-23", "09:10-21:45")
    assert day(made, "NCO", "2026-11-23").spans == on("2026-11-23", "08:40-24:00")


def test_usual_trading_hours_in_config_may_hold_from_a_date_on() -> None:
    made = calendar(
        hours={"NFO": [{"hours": "09:15-16:00", "from": "2026-12-01"}, {"hours": "09:00-17:00", "from": "2027-01-01"}]}
    )
    assert trades(made, "NFO", "2026-11-30") == ["09:15-15:40"]
    assert trades(made, "NFO", "2026-12-01") == ["09:15-16:00"]
    assert trades(made, "NFO", "2027-01-01") == ["09:00-17:00"]
    assert trades(calendar(hours={"NFO": {"hours": "10:00-11:00"}}), "NFO", "2026-12-01") == ["10:00-11:00"]


def test_two_hours_from_the_same_date_are_an_error() -> None:
    with pytest.raises(ValidationError, match="expected one entry from each date"):
        calendar(hours={"NFO": ["09:15-16:00", {"hours": "09:15-17:00"}]})


@pytest.mark.parametrize("exchange", ["NSEIX", "GLOBAL", "NYSE"])
@pytest.mark.parametrize("date", ["2026-11-23", "2026-11-22", "2026-12-25"])
def test_an_exchange_without_sessions_that_are_known_is_captured_around_the_clock(exchange: str, date: str) -> None:
    found = day(calendar(), exchange, date)
    assert str(found.spans[0].hours) == "00:00-24:00"
    assert (found.why, found.sure) == (f"{exchange} has no sessions that are known: captured around the clock", False)
    assert trades(calendar(), exchange, date) == ["00:00-24:00"]  # so its bars align to midnight


def test_config_may_say_when_such_an_exchange_trades() -> None:
    made = calendar({"date": "2026-12-25", "exchanges": "GLOBAL", "hours": "closed"}, hours={"NSEIX": "06:30-24:00"})
    assert day(made, "NSEIX", "2026-11-23").spans == on("2026-11-23", "06:10-24:00")
    assert told(day(made, "GLOBAL", "2026-12-25")) == ((), "config.yaml: closed", True, True)
    everyone = calendar({"date": "2026-12-24", "hours": "closed"})  # all that have sessions
    assert day(everyone, "GLOBAL", "2026-12-24").spans


@pytest.mark.parametrize("exchange", SCHEDULED)
@pytest.mark.parametrize("date", ["2026-11-21", "2026-11-22"])
def test_a_weekend_is_closed(exchange: str, date: str) -> None:
    assert told(day(calendar(), exchange, date)) == ((), "weekend", True, False)


@pytest.mark.parametrize("exchange", ["NSE", "BSE", "NFO", "BFO", "CDS", "BCD"])
def test_a_holiday_of_nse_closes_equities_and_currencies(exchange: str) -> None:
    assert told(day(calendar(), exchange, "2026-12-25")) == ((), "holiday: Christmas Day", True, False)


@pytest.mark.parametrize("exchange", ["MCX", "NCO"])
def test_commodities_may_be_open_on_a_holiday_of_nse(exchange: str) -> None:
    found = day(calendar(), exchange, "2026-12-25")
    assert found.spans == on("2026-12-25", "08:40-24:00")
    assert not found.sure
    assert found.why == f"may be a holiday: Christmas Day; {exchange} usually opens in the evening at least"


@pytest.mark.parametrize("exchange", ["NSE", "BSE", "NFO", "BFO", "CDS", "BCD"])
@pytest.mark.parametrize(
    ("date", "name"),
    [
        ("2023-06-28", "Eid al-Adha"),  # to this day the library's, and NSE traded: it closed on the 29th
        ("2026-03-03", "Holi"),
        ("2026-11-24", "Guru Nanak Jayanti"),
        ("2024-05-20", "general election in Mumbai"),
    ],
)
def test_what_follows_the_moon_or_was_declared_may_be_a_holiday_and_is_captured(
    exchange: str, date: str, name: str
) -> None:
    found = day(calendar(), exchange, date)
    assert (found.why, found.sure, found.special) == (f"may be a holiday: {name}", False, False)
    assert found.spans == (calendar().usual(exchange, dt.date.fromisoformat(date)),)


@pytest.mark.parametrize(
    ("exchange", "date", "hours"),
    [
        ("NSE", "2026-11-08", "08:55-20:00"),  # a Sunday
        ("NFO", "2026-11-08", "08:55-20:00"),
        ("CDS", "2026-11-08", "08:40-20:15"),
        ("MCX", "2026-11-08", "08:40-24:00"),
        ("MCX", "2025-10-21", "08:40-24:00"),
    ],
)
def test_on_the_day_of_muhurat_trading_everything_until_late_is_captured(exchange: str, date: str, hours: str) -> None:
    found = day(calendar(), exchange, date)
    assert (found.spans, found.sure, found.special) == (on(date, hours), False, True)
    assert "Muhurat" in found.why


def test_usual_hours_of_config_only_widen_those_of_muhurat() -> None:
    made = calendar(hours={"NSE": "10:00-15:35", "MCX": "08:45-22:35"})
    assert day(made, "NSE", "2026-11-08").spans == on("2026-11-08", "09:00-20:00")
    assert day(made, "MCX", "2026-11-08").spans == on("2026-11-08", "08:25-23:20")


def test_muhurat_hours_in_config_are_sure() -> None:
    made = calendar({"date": "2025-10-21", "hours": "13:30-15:00", "note": "Muhurat"})
    assert told(day(made, "NSE", "2025-10-21")) == (on("2025-10-21", "13:10-15:45"), "config.yaml: Muhurat", True, True)
    assert trades(made, "NSE", "2025-10-21") == ["13:30-15:00"]


@pytest.mark.parametrize(
    ("date", "sure", "why"),
    [
        ("2040-01-25", False, "may be a holiday: Ashura (estimated)"),
        ("2035-06-21", True, "usual hours"),
        ("2040-03-30", True, "holiday: Good Friday"),
        ("2040-12-25", True, "holiday: Christmas Day"),
        ("2032-10-14", False, "may be a holiday: Dussehra"),
        ("2101-03-10", False, "not sure: no holidays known for 2101"),
    ],
)
def test_only_fixed_dates_are_sure(date: str, sure: bool, why: str) -> None:
    found = day(calendar(), "NSE", date)
    assert (found.sure, found.why) == (sure, why)
    assert bool(found.spans) is not why.startswith("holiday")
    assert not found.special


def test_the_language_of_the_host_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "hi")
    monkeypatch.setenv("LANG", "hi_IN.UTF-8")
    made = calendar()
    assert day(made, "NSE", "2026-11-08").special
    assert day(made, "NSE", "2026-12-25").why == "holiday: Christmas Day"


def test_always_open_is_the_whole_day_before_everything_else() -> None:
    made = calendar({"date": "2026-12-25", "hours": "closed"}, always_open=True)
    whole = Span(dt.datetime(2026, 12, 25, tzinfo=IST), dt.datetime(2026, 12, 26, tzinfo=IST))
    assert told(day(made, "NSE", "2026-12-25")) == ((whole,), "always open", True, False)
    assert made.warnings(dt.date(2102, 1, 1)) == []


def test_spans_say_the_end_of_a_day_as_24_00() -> None:
    (whole,) = day(calendar(always_open=True), "NSE", "2026-11-28").spans
    assert str(whole.hours) == "00:00-24:00"
    assert on("2026-11-28", "00:00-24:00") == (whole,)
    (evening,) = day(calendar(), "MCX", "2026-11-23").spans
    assert str(evening.hours) == "08:40-24:00"


def test_a_special_day_is_closed_or_open_or_has_hours_of_its_own() -> None:
    made = calendar(
        {"date": dt.date(2026, 2, 1), "exchanges": ["nse", "NFO"], "hours": "open", "note": "budget"},
        {"date": "2026-11-24", "exchanges": "mcx", "hours": "17:00-23:55"},
        {"date": "2026-11-25", "hours": "closed"},
        {"date": "2026-11-28", "exchanges": "NSE", "hours": ["11:30-12:30", "09:15-10:00"]},
    )
    assert told(day(made, "NSE", "2026-02-01")) == (on("2026-02-01", "08:55-16:15"), "config.yaml: budget", True, False)
    assert day(made, "BSE", "2026-02-08").spans == ()
    assert told(day(made, "MCX", "2026-11-24")) == (
        on("2026-11-24", "16:40-24:00"),
        "config.yaml: 17:00-23:55",
        True,
        True,
    )
    assert told(day(made, "NCO", "2026-11-25")) == ((), "config.yaml: closed", True, True)
    assert told(day(made, "NSE", "2026-11-28")) == (
        on("2026-11-28", "08:55-10:45", "11:10-13:15"),
        "config.yaml: 09:15-10:00, 11:30-12:30",
        True,
        True,
    )
    assert trades(made, "NSE", "2026-11-28") == ["09:15-10:00", "11:30-12:30"]


def test_trading_days_follow_from_the_days() -> None:
    made = calendar({"date": "2026-11-28", "exchanges": "NSE", "hours": "09:15-10:00"})
    friday = dt.date(2026, 11, 27)
    assert made.trading_day("NSE", friday + dt.timedelta(days=1))
    assert not made.trading_day("BSE", friday + dt.timedelta(days=1))
    assert not made.trading_day("NSE", dt.date(2026, 12, 25))


@pytest.mark.parametrize(
    ("entry", "place", "message"),
    [
        ({"date": "2026-11-31", "hours": "open"}, "date", "expected a date: YYYY-MM-DD, such as 2026-11-08"),
        ({"date": "20261108", "hours": "open"}, "date", "expected a date: YYYY-MM-DD, such as 2026-11-08"),
        ({"date": "2026-W45-7", "hours": "open"}, "date", "expected a date: YYYY-MM-DD, such as 2026-11-08"),
        ({"date": dt.datetime(2026, 11, 8, tzinfo=IST), "hours": "open"}, "date", "expected a date"),
        ({"date": 20261108, "hours": "open"}, "date", "expected a date"),
        ({"date": "2026-11-08", "hours": []}, "hours", 'expected "closed", "open"'),
        ({"date": "2026-11-08", "hours": True}, "hours", 'expected "closed", "open"'),
        ({"date": "2026-11-08", "hours": ["closed"]}, "hours", "expected hours of one day"),
        (
            {"date": "2026-11-08", "hours": ["09:00-11:00", "10:59-12:00"]},
            "hours",
            "expected hours that do not overlap",
        ),
        ({"date": "2026-11-08", "hours": "open", "exchanges": "NYSE"}, "exchanges", "expected one or several of NSE"),
        ({"date": "2026-11-08", "hours": "open", "exchanges": [7]}, "exchanges", "expected one or several of NSE"),
        ({"date": "2026-11-08", "hours": "open", "exchanges": None}, "exchanges", "expected one or several of NSE"),
    ],
)
def test_a_mistake_in_a_special_day_is_named_by_its_place(entry: dict[str, Any], place: str, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        calendar({"date": "2026-01-01", "hours": "open"}, entry)
    (error,) = raised.value.errors()
    assert error["loc"] == ("special_days", 1, place)
    assert error["msg"].startswith(f"Value error, {message}")


def test_several_hours_are_a_list_or_have_spaces_between() -> None:
    for hours in (" 09:00-10:15  11:15-24:00", ["09:00 - 10:15", "11:15-24:00"]):
        made = calendar({"date": "2026-11-08", "hours": hours})
        assert trades(made, "NSE", "2026-11-08") == ["09:00-10:15", "11:15-24:00"]


def test_hours_that_touch_are_no_overlap() -> None:
    made = calendar({"date": "2026-11-08", "hours": ["09:00-10:00", "10:00-11:00"]})
    assert day(made, "NSE", "2026-11-08").spans == on("2026-11-08", "08:40-11:45")


def test_two_entries_of_one_exchange_and_date_are_an_error_that_names_both() -> None:
    with pytest.raises(ValidationError, match=r"special_days\[0\] and special_days\[2\] are both of MCX on 2026-11-24"):
        calendar(
            {"date": "2026-11-24", "exchanges": ["MCX", "NCO"], "hours": "17:00-23:55"},
            {"date": "2026-11-25", "exchanges": "MCX", "hours": "closed"},
            {"date": "2026-11-24", "hours": "closed"},
        )


@pytest.mark.parametrize("hours", [{"mcx": "09:00-23:35"}, {"MCX": "closed"}, {"MCX": []}, {"MCX": 7}])
def test_usual_hours_are_of_a_known_exchange_and_one_span(hours: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        calendar(hours=hours)


# What is missing


def test_an_announced_year_is_no_warning_and_the_next_is_looked_at_from_december_on() -> None:
    assert calendar().warnings(dt.date(2026, 1, 1)) == []
    assert calendar().warnings(dt.date(2100, 11, 30)) == []
    (warning,) = calendar().warnings(dt.date(2100, 12, 1))
    assert warning.startswith("no holidays of NSE are known for 2101: every weekday is captured. Update them with")


def test_a_file_without_a_day_of_this_year_is_out_of_date(tmp_path: Path) -> None:
    made = from_file(tmp_path / "special.csv", "2025-02-01,NSE,open,\n2024-05-18,NSE,closed,\n")
    assert made.warnings(dt.date(2025, 11, 30)) == []
    (warning,) = made.warnings(dt.date(2026, 1, 1))
    assert warning.startswith(f"{tmp_path / 'special.csv'}: holds no day of 2026 or later")


def test_without_the_library_weekdays_are_captured_and_it_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)
    made = calendar()
    with capture_logs() as logs:
        for date in ("2025-12-25", "2026-12-25", "2026-12-24"):
            assert day(made, "NSE", date).spans == on(date, "08:55-16:15")
            assert not day(made, "MCX", date).sure
        assert day(made, "NSE", "2026-12-26").spans == ()
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert len(made.warnings(dt.date(2026, 12, 1))) == 2


# Any special days


def _pairs(minutes: list[int]) -> list[str]:
    """An even number of minutes of a day as hours that do not overlap."""
    ordered = sorted(minutes)
    times = [f"{minute // 60:02}:{minute % 60:02}" for minute in ordered]
    return [f"{start}-{stop}" for start, stop in zip(times[::2], times[1::2], strict=True)]


HOURS = st.one_of(
    st.sampled_from(["closed", "open"]),
    st.integers(1, 4)
    .flatmap(lambda n: st.lists(st.integers(0, 1439), min_size=2 * n, max_size=2 * n, unique=True))
    .map(_pairs),
)
SPECIAL_DAYS = st.lists(
    st.fixed_dictionaries(
        {
            "date": st.dates(dt.date(2026, 11, 1), dt.date(2026, 11, 30)),
            "exchanges": st.lists(st.sampled_from(EXCHANGES), min_size=1, unique=True),
            "hours": HOURS,
            "note": st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=10),
        }
    ),
    unique_by=lambda entry: entry["date"],
    max_size=20,
)


@given(SPECIAL_DAYS)
def test_the_file_means_what_the_same_entries_mean_in_config(entries: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "special.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER.strip().split(","))
            for entry in entries:
                hours = entry["hours"] if isinstance(entry["hours"], str) else " ".join(entry["hours"])
                writer.writerow([entry["date"], " ".join(entry["exchanges"]), hours, entry["note"]])
        filed, configured = calendar(file=path), calendar(*entries)
    for number, exchange in itertools.product(range(30), EXCHANGES):
        date = dt.date(2026, 11, 1) + dt.timedelta(days=number)
        one, other = filed.day(exchange, date), configured.day(exchange, date)
        assert one.why.replace("special.csv: ", "config.yaml: ", 1) == other.why
        assert (one.spans, one.sure, one.special) == (other.spans, other.sure, other.special)


@given(SPECIAL_DAYS, st.sampled_from(EXCHANGES), st.booleans())
def test_spans_are_sorted_and_disjoint_and_inside_their_day(
    entries: list[dict[str, Any]], exchange: str, always_open: bool
) -> None:
    made = calendar(*entries, always_open=always_open)
    for number in range(30):
        midnight = dt.datetime(2026, 11, 1, tzinfo=IST) + dt.timedelta(days=number)
        spans = made.day(exchange, midnight.date()).spans
        moments = [moment for span in spans for moment in span]
        assert all(start < stop for start, stop in spans)
        assert moments == sorted(moments)
        assert all(midnight <= moment <= midnight + dt.timedelta(days=1) for moment in moments)
        assert all(moment.tzinfo is IST for moment in moments)
