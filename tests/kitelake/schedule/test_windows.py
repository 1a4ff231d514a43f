"""When lists are captured: windows, each exchange's hours, and the moments inside them."""

import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitelake.schedule.calendar import Calendar
from kitelake.schedule.trigger import Times
from kitelake.schedule.windows import ListHours, active, every, windows_of
from storage.clock import IST
from storage.market.exchanges import SCHEDULED
from storage.market.hours import Hours, Span, hours_of, merged
from tests.support.calendars import NOVEMBER, calendar, ist
from tests.support.calendars import on as spans

DAY = dt.timedelta(days=1)
MINUTE = dt.timedelta(minutes=1)
# Windows


def when(
    date: str,
    *exchanges: str,
    days: str | tuple[dt.date, ...] = "trading",
    window: str | None = None,
    by: Calendar = NOVEMBER,
) -> tuple[Span, ...]:
    """The hours of a list of these exchanges, all of its parts together."""
    return ListHours(each(date, *exchanges, days=days, window=window, by=by)).spans


def each(
    date: str,
    *exchanges: str,
    days: str | tuple[dt.date, ...] = "trading",
    window: str | None = None,
    by: Calendar = NOVEMBER,
    together: bool = False,
) -> dict[str, tuple[Span, ...]]:
    hours = None if window is None else hours_of(window)
    return windows_of(days, hours, exchanges, by, dt.date.fromisoformat(date), together=together)


def test_a_list_is_captured_while_one_of_its_exchanges_is_open() -> None:
    assert when("2026-11-09", "NSE") == spans("2026-11-09", "08:55-16:15")
    assert when("2026-11-09", "NSE", "CDS", "MCX") == spans("2026-11-09", "08:40-24:00")
    assert when("2026-11-10", "NSE") == ()
    assert when("2026-11-10", "NSE", "MCX") == spans("2026-11-10", "16:40-24:00")
    assert when("2026-11-07", "NSE", "MCX") == ()
    assert when("2026-11-09") == ()


def test_each_exchange_has_hours_of_its_own() -> None:
    assert each("2026-11-09", "NSE", "MCX") == {
        "NSE": spans("2026-11-09", "08:55-16:15"),
        "MCX": spans("2026-11-09", "08:40-24:00"),
    }
    assert each("2026-11-10", "NSE", "MCX") == {"NSE": (), "MCX": spans("2026-11-10", "16:40-24:00")}
    found = ListHours(each("2026-11-09", "NSE", "MCX"))
    assert found.at(ist("2026-11-09T08:50")) == {"MCX"}
    assert found.at(ist("2026-11-09T12:00")) == {"NSE", "MCX"}
    assert found.edges(0) == [ist("2026-11-09T08:40"), ist("2026-11-09T08:55")]
    assert found.edges(1) == [ist("2026-11-09T16:15"), ist("2026-11-10T00:00")]


def test_nothing_is_captured_from_a_moment_on_that_is_given() -> None:
    found = ListHours(each("2026-11-09", "NSE", "MCX")).until(ist("2026-11-09T08:50"))
    assert found == ListHours({"NSE": (), "MCX": spans("2026-11-09", "08:40-08:50")})


def test_a_session_and_a_window_hold_for_the_whole_list() -> None:
    whole = spans("2026-11-10", "16:40-24:00")
    assert each("2026-11-10", "NSE", "MCX", together=True) == {"NSE": whole, "MCX": whole}
    window = spans("2026-11-09", "09:15-15:30")
    assert each("2026-11-09", "NSE", "MCX", window="09:15-15:30") == {"NSE": window, "MCX": window}


def test_days_that_are_given_hold_for_the_whole_list_and_the_hours_are_each_exchanges_own() -> None:
    assert each("2026-11-10", "NSE", "MCX", days="weekdays") == {
        "NSE": spans("2026-11-10", "08:55-16:15"),
        "MCX": spans("2026-11-10", "16:40-24:00"),
    }


def test_hours_of_several_exchanges_are_merged_only_where_they_meet() -> None:
    evening = calendar({"date": "2026-11-09", "exchanges": "MCX", "hours": "17:00-23:55"})
    assert when("2026-11-09", "MCX", "NSE", by=evening) == spans("2026-11-09", "08:55-16:15", "16:40-24:00")
    assert when("2026-11-09", "MCX", "CDS", by=evening) == spans("2026-11-09", "08:40-24:00")


def test_a_window_replaces_the_usual_hours() -> None:
    assert when("2026-11-09", "NSE", "MCX", window="09:15-15:30") == spans("2026-11-09", "09:15-15:30")
    assert when("2026-11-10", "NSE", window="09:15-15:30") == ()


def test_special_hours_hold_also_for_a_list_with_a_window() -> None:
    assert when("2026-11-08", "NSE", window="09:15-15:30") == spans("2026-11-08", "17:40-20:00")
    assert when("2026-11-10", "NSE", "MCX", window="09:15-15:30") == spans("2026-11-10", "16:40-24:00")
    assert when("2026-11-14", "NFO", window="09:15-15:30") == spans("2026-11-14", "08:55-10:45", "11:10-13:15")
    assert when("2026-11-08", "NSE", window="09:15-15:30", by=calendar()) == spans("2026-11-08", "08:55-20:00")


def test_a_window_holds_for_the_exchanges_whose_day_is_usual() -> None:
    evening = calendar({"date": "2026-11-09", "exchanges": "MCX", "hours": "17:00-23:55"})
    expected = spans("2026-11-09", "09:15-15:30", "16:40-24:00")
    assert when("2026-11-09", "NSE", "MCX", window="09:15-15:30", by=evening) == expected


def test_a_weekend_that_is_open_as_usual_keeps_the_window() -> None:
    budget = calendar({"date": "2026-02-08", "hours": "open"})
    assert when("2026-02-08", "NSE", window="09:15-15:30", by=budget) == spans("2026-02-08", "09:15-15:30")


@pytest.mark.parametrize(
    ("days", "captured"),
    [
        ("trading", ["2026-11-08", "2026-11-09", "2026-11-11", "2026-11-14"]),
        ("MCX", ["2026-11-08", "2026-11-09", "2026-11-10", "2026-11-11"]),
        ("weekdays", ["2026-11-09", "2026-11-10", "2026-11-11"]),
        ("all", ["2026-11-07", "2026-11-08", "2026-11-09", "2026-11-10", "2026-11-11", "2026-11-14"]),
        ((dt.date(2026, 11, 7), dt.date(2026, 11, 11)), ["2026-11-07", "2026-11-11"]),
    ],
)
def test_days_say_on_which_days_a_list_is_captured(days: str | tuple[dt.date, ...], captured: list[str]) -> None:
    asked = ["2026-11-07", "2026-11-08", "2026-11-09", "2026-11-10", "2026-11-11", "2026-11-14"]
    assert [date for date in asked if when(date, "NSE", days=days)] == captured


def test_on_a_day_of_the_list_on_which_all_is_closed_the_usual_hours_hold() -> None:
    for days in ("weekdays", "all", "MCX", (dt.date(2026, 11, 10),)):
        assert when("2026-11-10", "NSE", "CDS", days=days) == spans("2026-11-10", "08:40-20:15")
        assert when("2026-11-10", "NSE", days=days, window="10:00-11:00") == spans("2026-11-10", "10:00-11:00")


def test_a_market_that_never_closes_is_captured_all_day_or_in_the_window() -> None:
    never_closes = calendar(always_open=True)
    sunday = Span(ist("2026-11-08T00:00"), ist("2026-11-09T00:00"))
    assert when("2026-11-08", "NSE", "MCX", by=never_closes) == (sunday,)
    assert when("2026-11-08", "NSE", window="10:00-11:00", by=never_closes) == spans("2026-11-08", "10:00-11:00")
    assert when("2026-11-08", "NSE", days="weekdays", by=never_closes) == ()


# Moments


def test_every_step_inside_a_span_without_its_start_and_its_stop() -> None:
    day = spans("2026-11-09", "09:00-09:30", "11:00-11:25", "12:00-12:05")
    moments = list(every(day, 10 * MINUTE))
    assert [moment.strftime("%H:%M") for moment in moments] == ["09:10", "09:20", "11:10", "11:20"]


def test_a_step_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected a step longer than zero, got 0:00:00"):
        list(every(spans("2026-11-09", "09:00-09:30"), dt.timedelta()))


def test_active_from_the_start_up_to_the_stop() -> None:
    day = spans("2026-11-09", "09:00-10:00", "11:00-12:00")
    states = [("08:59:59", False), ("09:00", True), ("09:59:59", True), ("10:00", False), ("11:30", True)]
    for time, state in states:
        assert active(day, ist(f"2026-11-09T{time}")) is state
        assert active(day, ist(f"2026-11-09T{time}").astimezone(dt.UTC)) is state
    assert not active((), ist("2026-11-09T09:00"))


# Any special days

OF_A_DAY = st.tuples(st.integers(0, 1439), st.integers(0, 1439)).filter(lambda pair: pair[0] < pair[1])
HOURS = OF_A_DAY.map(lambda pair: Hours(*(dt.time(*divmod(minute, 60)) for minute in pair)))
DATES = st.dates(dt.date(2026, 11, 1), dt.date(2026, 11, 30))
SPECIAL_DAYS = st.lists(
    st.fixed_dictionaries(
        {
            "date": DATES,
            "exchanges": st.lists(st.sampled_from(SCHEDULED), min_size=1, unique=True),
            "hours": st.one_of(st.sampled_from(["closed", "open"]), HOURS.map(str)),
        }
    ),
    unique_by=lambda entry: entry["date"],
    max_size=20,
)
DAYS = st.one_of(
    st.sampled_from(["trading", "weekdays", "all", *SCHEDULED]), st.lists(DATES, unique=True, max_size=15).map(tuple)
)
LISTS = st.lists(st.sampled_from(SCHEDULED), min_size=1, unique=True)


@given(SPECIAL_DAYS, DAYS, st.none() | HOURS, LISTS, st.booleans())
def test_windows_are_sorted_and_apart_and_times_gives_exactly_their_moments(
    entries: list[dict[str, Any]],
    days: str | tuple[dt.date, ...],
    window: Hours | None,
    exchanges: list[str],
    always_open: bool,
) -> None:
    by = calendar(*entries, always_open=always_open)

    def all_of(date: dt.date) -> tuple[Span, ...]:
        return ListHours(windows_of(days, window, exchanges, by, date)).spans

    expected: set[dt.datetime] = set()
    for number in range(30):
        midnight = dt.datetime(2026, 11, 1, tzinfo=IST) + number * DAY
        found = all_of(midnight.date())
        assert all(midnight <= start < stop <= midnight + DAY for start, stop in found)
        assert all(earlier.stop < later.start for earlier, later in itertools.pairwise(found))
        expected |= {moment for span in found for moment in span}

    end = dt.datetime(2026, 12, 1, tzinfo=IST)
    trigger = Times(
        lambda date: [moment for span in reversed(all_of(date) if date.month == 11 else ()) for moment in span]
    )
    fired: list[dt.datetime] = []
    now = dt.datetime(2026, 11, 1, tzinfo=IST)
    while (moment := trigger.get_next_fire_time(fired[-1] if fired else None, now)) is not None:
        fired.append(moment)
        assert moment <= end
    assert fired == sorted(expected)


@given(st.lists(OF_A_DAY, max_size=12))
def test_merged_spans_cover_the_same_minutes_in_as_few_spans_as_possible(pairs: list[tuple[int, int]]) -> None:
    midnight = dt.datetime(2026, 11, 9, tzinfo=IST)
    given_spans = [Span(midnight + start * MINUTE, midnight + stop * MINUTE) for start, stop in pairs]
    result = merged(given_spans)
    assert all(earlier.stop < later.start for earlier, later in itertools.pairwise(result))
    for minute in {edge for pair in pairs for edge in pair}:
        moment = midnight + minute * MINUTE
        for near in (moment - MINUTE / 2, moment, moment + MINUTE / 2):
            assert active(result, near) is active(given_spans, near)
