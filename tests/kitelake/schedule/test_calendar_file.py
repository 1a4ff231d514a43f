"""The calendar's file: special days as a CSV, or the exchange's own list of holidays."""

import datetime as dt
import os
from pathlib import Path

import pytest

from kitelake.errors import ConfigError
from kitelake.schedule.calendar import Calendar
from storage.market.exchanges import SCHEDULED
from tests.support.calendars import HEADER, calendar, day, from_file, on, told, trades


def test_the_file_gives_special_days_and_config_comes_before_it(tmp_path: Path) -> None:
    path = tmp_path / "special.csv"
    rows = '2026-11-24,mcx NCO,17:00-23:55,"evening, only"\n\n2026-11-28,,09:15-10:00 11:30-12:30,\n,,,\n'
    made = from_file(path, rows, {"date": "2026-11-24", "exchanges": "NCO", "hours": "closed"})
    assert told(day(made, "MCX", "2026-11-24")) == (
        on("2026-11-24", "16:40-24:00"),
        "special.csv: evening, only",
        True,
        True,
    )
    assert day(made, "NCO", "2026-11-24").why == "config.yaml: closed"
    assert day(made, "NSE", "2026-11-24").why == "may be a holiday: Guru Nanak Jayanti"
    for exchange in SCHEDULED:
        assert trades(made, exchange, "2026-11-28") == ["09:15-10:00", "11:30-12:30"]


def test_the_file_may_begin_with_a_byte_order_mark_and_have_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "special.csv"
    path.write_bytes(b"\xef\xbb\xbfdate,exchanges,hours,note\r\n2026-02-01,NSE,open,budget\r\n")
    assert day(calendar(file=path), "NSE", "2026-02-01").spans == on("2026-02-01", "08:55-16:15")


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


# The exchange's own list

NSE_LIST = """\ufeff"Sr. No \n","Date \n","Day \n","Description \n"
"1","26-Jan-2023","Thursday","Republic Day"
"2","07-Mar-2023","Tuesday","Holi"
"3","29-Jun-2023","Thursday","Bakri Id"
"4","12-Nov-2023","Sunday","Diwali Laxmi Pujan*"
"5","14-Nov-2023","Tuesday","Diwali-Balipratipada"
"6","25-Dec-2023","Monday","Christmas"
"""


@pytest.fixture
def listed(tmp_path: Path) -> Calendar:
    path = tmp_path / "HolidaycalenderData.csv"
    path.write_text(NSE_LIST, encoding="utf-8")
    return calendar({"date": "2023-12-25", "exchanges": "NFO", "hours": "open"}, file=path)


@pytest.mark.parametrize("exchange", ["NSE", "BSE", "NFO", "BFO"])
@pytest.mark.parametrize(
    ("date", "why", "is_open"),
    [
        ("2023-06-28", "usual hours", True),  # the library's holiday
        ("2023-06-29", "holiday: Bakri Id", False),
        ("2023-03-07", "holiday: Holi", False),
        ("2023-11-14", "holiday: Diwali-Balipratipada", False),
        ("2023-11-18", "weekend", False),
    ],
)
def test_nses_own_list_is_certain_of_its_year(
    listed: Calendar, exchange: str, date: str, why: str, is_open: bool
) -> None:
    found = day(listed, exchange, date)
    assert (found.why, found.sure, bool(found.spans)) == (why, True, is_open)


def test_nses_own_list_has_muhurat_trading_without_hours(listed: Calendar) -> None:
    found = day(listed, "NSE", "2023-11-12")
    assert (found.spans, found.sure) == (on("2023-11-12", "08:55-20:00"), False)
    assert found.why.startswith("not sure: Diwali Laxmi Pujan*, with Muhurat trading at hours")


@pytest.mark.parametrize("exchange", ["NSE", "BFO", "CDS", "MCX"])
def test_nses_own_list_does_not_hide_muhurat_trading_on_a_weekend_that_it_leaves_out(
    tmp_path: Path, exchange: str
) -> None:
    """NSE traded on Sunday 2023-11-12; its list of holidays of a year may have weekdays alone."""
    path = tmp_path / "HolidaycalenderData.csv"
    path.write_text("\n".join(line for line in NSE_LIST.split("\n") if "Sunday" not in line), encoding="utf-8")
    made = calendar(file=path)
    found = day(made, exchange, "2023-11-12")
    assert found.spans
    assert not found.sure
    assert found.why.startswith("not sure: Diwali Lakshmi Puja, with Muhurat trading at hours")
    assert day(made, exchange, "2023-11-11").why == "weekend"


def test_nses_own_list_is_a_hint_for_other_markets_and_config_comes_before_it(listed: Calendar) -> None:
    assert day(listed, "CDS", "2023-06-29").why == "may be a holiday: Bakri Id"
    assert day(listed, "CDS", "2023-12-25").why == "holiday: Christmas"
    assert day(listed, "MCX", "2023-12-25").spans
    assert day(listed, "NFO", "2023-12-25").why == "config.yaml: open"
    assert day(listed, "NSE", "2024-03-25").why == "may be a holiday: Holi"  # of another year
    assert listed.warnings(dt.date(2023, 11, 30)) == []
    assert "holds no day of 2024 or later" in listed.warnings(dt.date(2024, 1, 1))[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Sr. No,Date,Day,Description\n", "expected NSE's list of trading holidays, and it has no row"),
        (
            "Sr. No,Date,Day,Description\n1,26-Jan-2026,Monday,Republic Day\n2,03/03/2026,Tuesday,Holi\n",
            "line 3: expected a date such as 26-Jan-2026 in the column Date",
        ),
        (
            "Sr. No,Date,Day,Description\n1,31-Feb-2026,Monday,x\n",
            "line 2: expected a date such as 26-Jan-2026 in the column Date",
        ),
        (
            "Sr. No,Date,Day,Description\n1,26-Jan-2026\n",
            "line 2: expected a date such as 26-Jan-2026 in the column Date",
        ),
        (
            "Holiday,When\nHoli,03-Mar-2026\n",
            "line 1: expected the names of the columns: date,exchanges,hours,note; or NSE's own list",
        ),
    ],
)
def test_a_list_that_is_not_nses_is_named_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        calendar(file=path)
    assert message in str(raised.value)


# config.yaml
