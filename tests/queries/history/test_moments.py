"""Times as people write them mean the same to a method and to a macro, whatever zone the host or the session has."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries.errors import MomentError
from queries.history.moments import SQL_START, SQL_STOP, TimeRange, moment_of, moments_of, sql_range, time_range
from storage.clock import EPOCH, IST

MIDNIGHT = dt.datetime(2026, 11, 24, tzinfo=IST)
OPEN = dt.datetime(2026, 11, 24, 9, 15, tzinfo=IST)
LAST = dt.datetime(2026, 11, 24, 23, 59, 59, 999_999, tzinfo=IST)


def us(moment: dt.datetime | None) -> int | None:
    return None if moment is None else (moment - EPOCH) // dt.timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-11-24", MIDNIGHT),
        (" 2026-11-24 ", MIDNIGHT),
        ("2026-11-24 09:15", OPEN),
        ("2026-11-24T09:15:00", OPEN),
        ("2026-11-24T03:45:00Z", OPEN),
        ("2026-11-24 03:45:00 Z", OPEN),
        ("2026-11-24 03:45:00+00:00", OPEN),
        ("2026-11-23T22:45:00-05:00", OPEN),
        ("2026-11-24 09:15:00.000001", OPEN + dt.timedelta(microseconds=1)),
        (dt.date(2026, 11, 24), MIDNIGHT),
        (dt.datetime(2026, 11, 24, 9, 15), OPEN),  # noqa: DTZ001 - without a zone it is IST
        (OPEN.astimezone(dt.UTC), OPEN),
    ],
)
def test_text_and_dates_are_ist_unless_they_name_a_zone(said: str | dt.date, meant: dt.datetime) -> None:
    found = moment_of(said, "start")
    assert found == meant
    assert found.utcoffset() == dt.timedelta(hours=5, minutes=30)


@pytest.mark.parametrize("said", ["yesterday", "24-11-2026", "2026-13-01", "", "2026-11-24 25:00", 20261124, None])
def test_what_is_no_time_is_said(said: object) -> None:
    with pytest.raises(MomentError, match=r"^start: got .*expected a date such as 2026-11-24, or a time such as"):
        moment_of(said, "start")  # type: ignore[arg-type]


@pytest.mark.parametrize("said", ["9999-12-31", "0001-01-01", dt.date.max, dt.date.min, "9999-12-31T23:59:59Z"])
def test_a_time_has_a_day_before_and_a_day_after(said: Any) -> None:
    with pytest.raises(MomentError, match=r"^start: got .*, expected a time of the years 2 to 9998$"):
        time_range(said, None)
    assert time_range("0002-01-01", "9998-12-31").first_day == dt.date(2, 1, 1)


def test_several_moments_keep_their_order() -> None:
    assert moments_of(["2026-11-24 09:15", "2026-11-24"], "moment") == [OPEN, LAST]
    assert moments_of(OPEN, "moment") == [OPEN]
    with pytest.raises(MomentError, match="moment: got an empty list"):
        moments_of([], "moment")


def test_a_bare_date_alone_is_the_whole_day_and_else_its_midnight() -> None:
    next_day = MIDNIGHT + dt.timedelta(days=1)
    assert time_range("2026-11-24", None) == TimeRange(MIDNIGHT, next_day)
    assert time_range(dt.date(2026, 11, 24), None) == TimeRange(MIDNIGHT, next_day)
    assert time_range("20261124", None) == TimeRange(MIDNIGHT, next_day)
    assert time_range(MIDNIGHT, None) == TimeRange(MIDNIGHT, None)
    assert time_range("2026-11-24 00:00", None) == TimeRange(MIDNIGHT, None)
    assert time_range("2026-11-23", "2026-11-24") == TimeRange(MIDNIGHT - dt.timedelta(days=1), MIDNIGHT)
    assert time_range(None, "2026-11-24") == TimeRange(None, MIDNIGHT)


def test_a_range_has_its_start_and_not_its_stop() -> None:
    days = [dt.date(2026, 11, day) for day in (22, 23, 24, 25)]
    assert time_range("2026-11-23", "2026-11-25").days(days) == days[1:3]
    assert time_range("2026-11-23 10:00", "2026-11-25 00:00:00.000001").days(days) == days[1:]
    assert time_range(None, None).days(days) == days


def test_a_range_that_stops_before_it_starts_is_refused() -> None:
    with pytest.raises(MomentError, match=r"start and stop: got .*expected a stop that is not before the start"):
        time_range("2026-11-24", "2026-11-23")
    assert time_range("2026-11-24", "2026-11-24").days([dt.date(2026, 11, 24)]) == []


MOMENTS = st.datetimes(
    dt.datetime(2015, 1, 1),  # noqa: DTZ001 - hypothesis wants it so
    dt.datetime(2035, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([dt.UTC, IST, dt.timezone(dt.timedelta(hours=-5))]),
)


@pytest.mark.slow
@given(st.one_of(MOMENTS, st.dates(dt.date(2015, 1, 1), dt.date(2035, 1, 1))), st.sampled_from(["UTC", "America/Lima"]))
def test_a_macro_reads_its_parameters_by_the_same_rules(said: dt.date, zone: str) -> None:
    with duckdb.connect() as con:
        con.execute(f"SET TimeZone = '{zone}'")
        con.execute(
            f"CREATE MACRO given(start, stop := NULL) AS TABLE SELECT epoch_us({SQL_START}), epoch_us({SQL_STOP})"
        )
        meant = time_range(said, None)
        for text in {said.isoformat(), str(said)}:
            assert con.sql("FROM given(?)", params=[text]).fetchall() == [(us(meant.start), us(meant.stop))]
        assert con.sql("FROM given(NULL, ?)", params=[said.isoformat()]).fetchall() == [(None, us(meant.start))]


@pytest.fixture(scope="module")
def given_macro() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute(f"CREATE MACRO given(start) AS TABLE SELECT epoch_us({SQL_START})")
        yield con


@pytest.mark.parametrize("offset", ["Z", " z", "+00:00", " +00:00", "+00", " -0000"])
def test_a_macro_takes_an_offset_also_behind_a_space(given_macro: duckdb.DuckDBPyConnection, offset: str) -> None:
    found = given_macro.sql("FROM given(?)", params=[f"2026-11-24 03:45:00{offset}"]).fetchall()
    assert found == [(us(OPEN),)]


@pytest.mark.parametrize(
    "said", ["2026-11-24 03:45 UTC", "2026-11-24 03:45 America/Lima", "2026-11-24 9:15 PM", "2026-11-4", "", "infinity"]
)
def test_a_macro_refuses_what_its_method_does(given_macro: duckdb.DuckDBPyConnection, said: str) -> None:
    with pytest.raises(MomentError):
        moment_of(said, "start")
    with pytest.raises(duckdb.InvalidInputException, match=f"start: got '{said}', expected a date such as 2026-11-24"):
        given_macro.sql("FROM given(?)", params=[said]).fetchall()


@pytest.mark.slow
@given(MOMENTS, MOMENTS, st.lists(MOMENTS, min_size=1, max_size=5))
def test_both_forms_of_the_condition_choose_the_same_rows(
    one: dt.datetime, other: dt.datetime, rows: list[dt.datetime]
) -> None:
    start, stop = sorted((one, other))
    rows = [*rows, start, stop]
    expected = sorted(row for row in rows if start <= row < stop)
    with duckdb.connect() as con:
        con.execute("CREATE TABLE ticks (date DATE, received_at TIMESTAMPTZ)")
        for row in rows:
            con.execute("INSERT INTO ticks VALUES (?, ?::TIMESTAMPTZ)", [row.astimezone(IST).date(), row.isoformat()])
        con.execute(f"CREATE MACRO chosen(start, stop) AS TABLE SELECT * FROM ticks WHERE {sql_range()}")
        for query in (
            f"SELECT epoch_us(received_at) FROM ticks WHERE {time_range(start, stop).where()} ORDER BY 1",
            f"SELECT epoch_us(received_at) FROM chosen('{start.isoformat()}', '{stop.isoformat()}') ORDER BY 1",
        ):
            assert [value for (value,) in con.sql(query).fetchall()] == [us(row) for row in expected]
