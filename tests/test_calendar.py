"""The trading calendar: special days before holidays before usual hours, and open when unsure."""

import csv
import datetime as dt
import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from kitelake.calendar import EXCHANGES, Calendar, CalendarSection, Day, Span
from kitelake.errors import ConfigError
from storage.schema import IST

HEADER = "date,exchanges,hours,note\n"


def calendar(*special_days: dict[str, Any], **options: Any) -> Calendar:
    return Calendar(CalendarSection.model_validate({"special_days": list(special_days), **options}))


def on(date: str, *hours: str) -> tuple[Span, ...]:
    """Spans of that day, each as HH:MM[:SS]-HH:MM[:SS]."""
    midnight = dt.datetime.fromisoformat(date).replace(tzinfo=IST)
    return tuple(Span(*(midnight + _since_midnight(time) for time in each.split("-"))) for each in hours)


def _since_midnight(time: str) -> dt.timedelta:
    hours, minutes, *seconds = map(int, time.split(":"))
    return dt.timedelta(hours=hours, minutes=minutes, seconds=sum(seconds))


def day(made: Calendar, exchange: str, date: str) -> Day:
    return made.day(exchange, dt.date.fromisoformat(date))


def from_file(path: Path, rows: str, *special_days: dict[str, Any]) -> Calendar:
    path.write_text(HEADER + rows, encoding="utf-8")
    return calendar(*special_days, file=path)


@pytest.mark.parametrize(
    ("exchange", "hours"),
    [
        *((exchange, "09:00-15:35") for exchange in ("NSE", "BSE", "NFO", "BFO")),
        *((exchange, "09:00-17:05") for exchange in ("CDS", "BCD")),
        *((exchange, "09:00-24:00") for exchange in ("MCX", "NCO")),
    ],
)
def test_a_weekday_has_the_usual_hours_of_each_exchange(exchange: str, hours: str) -> None:
    assert day(calendar(), exchange, "2026-11-23") == Day(on("2026-11-23", hours), "usual hours", True, False)


def test_config_may_say_other_usual_hours() -> None:
    made = calendar(hours={"MCX": "09:00-23:35"})
    assert day(made, "MCX", "2026-11-23").spans == on("2026-11-23", "09:00-23:35")
    assert day(made, "NCO", "2026-11-23").spans == on("2026-11-23", "09:00-24:00")


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("date", ["2026-11-21", "2026-11-22"])
def test_a_weekend_is_closed(exchange: str, date: str) -> None:
    assert day(calendar(), exchange, date) == Day((), "weekend", True, False)


@pytest.mark.parametrize("exchange", ["NSE", "BSE", "NFO", "BFO", "CDS", "BCD"])
def test_a_holiday_of_nse_closes_equities_and_currencies(exchange: str) -> None:
    assert day(calendar(), exchange, "2026-12-25") == Day((), "holiday: Christmas Day", True, False)


@pytest.mark.parametrize("exchange", ["MCX", "NCO"])
def test_commodities_may_be_open_on_a_holiday_of_nse(exchange: str) -> None:
    found = day(calendar(), exchange, "2026-12-25")
    assert found.spans == on("2026-12-25", "09:00-24:00")
    assert not found.sure
    assert found.why == f"not sure: NSE is closed (Christmas Day), {exchange} usually opens in the evening at least"


@pytest.mark.parametrize(
    ("exchange", "date", "hours"),
    [
        ("NSE", "2025-10-21", "09:00-20:00"),
        ("CDS", "2025-10-21", "09:00-20:00"),
        ("MCX", "2025-10-21", "09:00-24:00"),
        ("NFO", "2026-11-08", "09:00-20:00"),  # a Sunday
    ],
)
def test_on_the_day_of_muhurat_trading_everything_until_late_is_captured(exchange: str, date: str, hours: str) -> None:
    found = day(calendar(), exchange, date)
    assert (found.spans, found.sure, found.special) == (on(date, hours), False, True)
    assert "Muhurat" in found.why


def test_usual_hours_of_config_only_widen_those_of_muhurat() -> None:
    made = calendar(hours={"NSE": "10:00-15:35", "MCX": "08:45-23:35"})
    assert day(made, "NSE", "2025-10-21").spans == on("2025-10-21", "09:00-20:00")
    assert day(made, "MCX", "2025-10-21").spans == on("2025-10-21", "08:45-23:35")


def test_muhurat_hours_in_config_are_sure() -> None:
    made = calendar({"date": "2025-10-21", "hours": "13:30-15:00", "note": "Muhurat"})
    assert day(made, "NSE", "2025-10-21") == Day(on("2025-10-21", "13:30-15:00"), "config.yaml: Muhurat", True, True)


@pytest.mark.parametrize(
    ("date", "sure", "why"),
    [
        ("2040-01-25", False, "not sure: holiday by estimate: Ashura"),
        ("2035-06-21", True, "usual hours"),
        ("2040-03-30", True, "holiday: Good Friday"),
        ("2040-12-25", True, "holiday: Christmas Day"),
        ("2032-10-14", False, "not sure: holiday by estimate: Dussehra"),
        ("2101-03-10", False, "not sure: no holidays known for 2101"),
    ],
)
def test_only_fixed_dates_are_sure_in_years_that_nse_has_not_announced(date: str, sure: bool, why: str) -> None:
    found = day(calendar(), "NSE", date)
    assert (found.sure, found.why) == (sure, why)
    assert bool(found.spans) is not why.startswith("holiday")
    assert not found.special


def test_the_language_of_the_host_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "hi")
    monkeypatch.setenv("LANG", "hi_IN.UTF-8")
    made = calendar()
    assert day(made, "NSE", "2025-10-21").special
    assert day(made, "NSE", "2026-12-25").why == "holiday: Christmas Day"


def test_always_open_is_the_whole_day_before_everything_else() -> None:
    made = calendar({"date": "2026-12-25", "hours": "closed"}, always_open=True)
    whole = Span(dt.datetime(2026, 12, 25, tzinfo=IST), dt.datetime(2026, 12, 26, tzinfo=IST))
    assert day(made, "NSE", "2026-12-25") == Day((whole,), "always open", True, False)
    assert made.warnings(dt.date(2102, 1, 1)) == []


def test_spans_say_the_end_of_a_day_as_24_00() -> None:
    (whole,) = day(calendar(always_open=True), "NSE", "2026-11-28").spans
    assert str(whole.hours) == "00:00-24:00"
    assert on("2026-11-28", "00:00-24:00") == (whole,)
    (evening,) = day(calendar(), "MCX", "2026-11-23").spans
    assert str(evening.hours) == "09:00-24:00"


def test_a_special_day_is_closed_or_open_or_has_hours_of_its_own() -> None:
    made = calendar(
        {"date": dt.date(2026, 2, 1), "exchanges": ["nse", "NFO"], "hours": "open", "note": "budget"},
        {"date": "2026-11-24", "exchanges": "mcx", "hours": "17:00-23:55"},
        {"date": "2026-11-25", "hours": "closed"},
        {"date": "2026-11-28", "exchanges": "NSE", "hours": ["11:30-12:30", "09:15-10:00"]},
    )
    assert day(made, "NSE", "2026-02-01") == Day(on("2026-02-01", "09:00-15:35"), "config.yaml: budget", True, False)
    assert day(made, "BSE", "2026-02-01").spans == ()
    assert day(made, "MCX", "2026-11-24") == Day(
        on("2026-11-24", "17:00-23:55"), "config.yaml: 17:00-23:55", True, True
    )
    assert day(made, "NCO", "2026-11-25") == Day((), "config.yaml: closed", True, True)
    assert day(made, "NSE", "2026-11-28") == Day(
        on("2026-11-28", "09:15-10:00", "11:30-12:30"), "config.yaml: 09:15-10:00, 11:30-12:30", True, True
    )


def test_trading_days_follow_from_the_days() -> None:
    made = calendar({"date": "2026-11-28", "exchanges": "NSE", "hours": "09:15-10:00"})
    friday = dt.date(2026, 11, 27)
    assert made.trading_day("NSE", friday + dt.timedelta(days=1))
    assert not made.trading_day("BSE", friday + dt.timedelta(days=1))
    assert not made.trading_day("NSE", dt.date(2026, 12, 25))


@pytest.mark.parametrize("ask", ["day", "trading_day", "usual"])
def test_an_unknown_exchange_is_an_error(ask: str) -> None:
    with pytest.raises(ValueError, match=r"expected one of the exchanges NSE, BSE.*got 'NYSE'"):
        getattr(calendar(always_open=True), ask)("NYSE", dt.date(2026, 11, 23))


# The file


def test_the_file_gives_special_days_and_config_comes_before_it(tmp_path: Path) -> None:
    path = tmp_path / "special.csv"
    rows = '2026-11-24,mcx NCO,17:00-23:55,"evening, only"\n\n2026-11-28,,09:15-10:00 11:30-12:30,\n,,,\n'
    made = from_file(path, rows, {"date": "2026-11-24", "exchanges": "NCO", "hours": "closed"})
    assert day(made, "MCX", "2026-11-24") == Day(
        on("2026-11-24", "17:00-23:55"), "special.csv: evening, only", True, True
    )
    assert day(made, "NCO", "2026-11-24").why == "config.yaml: closed"
    assert day(made, "NSE", "2026-11-24").why == "holiday: Guru Nanak Jayanti"
    for exchange in EXCHANGES:
        assert day(made, exchange, "2026-11-28").spans == on("2026-11-28", "09:15-10:00", "11:30-12:30")


def test_the_file_may_begin_with_a_byte_order_mark_and_have_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "special.csv"
    path.write_bytes(b"\xef\xbb\xbfdate,exchanges,hours,note\r\n2026-02-01,NSE,open,budget\r\n")
    assert day(calendar(file=path), "NSE", "2026-02-01").spans == on("2026-02-01", "09:00-15:35")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the names of the columns: date,exchanges,hours,note"),
        ("date;exchanges;hours;note\n", "line 1: expected the names of the columns: date,exchanges,hours,note"),
        (HEADER + "2026-11-24,MCX,closed\n", "line 2: expected 4 values (date,exchanges,hours,note); got 3"),
        (HEADER + "2026-11-24,MCX,closed,\n24-11-2026,MCX,secret,\n", "line 3: date: expected a date: YYYY-MM-DD"),
        (HEADER + "2026-11-24,SECRET,closed,\n", "line 2: exchanges: expected one or several of NSE, BSE"),
        (HEADER + "2026-11-24,MCX,secret,\n", 'line 2: hours: expected hours of one day in IST: "HH:MM-HH:MM"'),
        (HEADER + "2026-11-24,MCX,,\n", 'line 2: hours: expected "closed", "open" (the usual hours), or hours such as'),
        (HEADER + "2026-11-24,MCX,17:00-09:00,\n", "line 2: hours: expected hours of one day in IST that end after"),
        (HEADER + "2026-11-24,MCX,open 17:00-18:00,\n", "line 2: hours: expected hours of one day in IST"),
        (HEADER + '2026-11-24,MCX,closed,"\n', "line 2: expected comma-separated values: unexpected end of data"),
        (
            HEADER + "2026-11-24,,closed,\n2026-11-25,,closed,\n2026-11-24,MCX NCO,open,\n",
            "line 2 and line 4 are both of MCX on 2026-11-24; expected one entry",
        ),
    ],
)
def test_a_mistake_in_the_file_is_named_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "special.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        calendar(file=path)
    assert str(raised.value).startswith(f"{path}: {message}")
    assert "secret" not in str(raised.value).lower().removeprefix(str(path).lower())


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"special\.csv: the calendar's file cannot be read: No such file"):
        calendar(file=tmp_path / "special.csv")
    (tmp_path / "special.csv").write_bytes(HEADER.encode() + b"2026-11-24,,closed,\xff\n")
    with pytest.raises(ConfigError, match="cannot be read: it is not UTF-8 text"):
        calendar(file=tmp_path / "special.csv")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="fifo: the calendar's file cannot be read: it is a FIFO"):
        calendar(file=tmp_path / "fifo")


# config.yaml


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
        assert day(made, "NSE", "2026-11-08").spans == on("2026-11-08", "09:00-10:15", "11:15-24:00")


def test_hours_that_touch_are_no_overlap() -> None:
    made = calendar({"date": "2026-11-08", "hours": ["09:00-10:00", "10:00-11:00"]})
    assert day(made, "NSE", "2026-11-08").spans == on("2026-11-08", "09:00-10:00", "10:00-11:00")


def test_two_entries_of_one_exchange_and_date_are_an_error_that_names_both() -> None:
    with pytest.raises(ValidationError, match=r"special_days\[0\] and special_days\[2\] are both of MCX on 2026-11-24"):
        calendar(
            {"date": "2026-11-24", "exchanges": ["MCX", "NCO"], "hours": "17:00-23:55"},
            {"date": "2026-11-25", "exchanges": "MCX", "hours": "closed"},
            {"date": "2026-11-24", "hours": "closed"},
        )


@pytest.mark.parametrize("hours", [{"mcx": "09:00-23:35"}, {"MCX": "closed"}, {"MCX": ["09:00-23:35"]}])
def test_usual_hours_are_of_a_known_exchange_and_one_span(hours: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        calendar(hours=hours)


# What is missing


def test_estimates_are_a_warning_until_each_of_their_days_is_entered() -> None:
    (warning,) = calendar().warnings(dt.date(2040, 1, 1))
    assert warning.startswith(
        "the holidays of NSE in 2040 are estimates, and these days are captured in case it is open: "
        "2040-01-25, 2040-10-08. Update them with `pip install --upgrade holidays`"
    )
    assert "2040-01-25" not in calendar().warnings(dt.date(2040, 1, 26))[0]
    entered = calendar({"date": "2040-01-25", "hours": "open"}, {"date": "2040-10-08", "hours": "closed"})
    assert entered.warnings(dt.date(2040, 1, 1)) == []


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
            assert day(made, "NSE", date).spans == on(date, "09:00-15:35")
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


@settings(max_examples=50, deadline=None)
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


@settings(max_examples=50, deadline=None)
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
