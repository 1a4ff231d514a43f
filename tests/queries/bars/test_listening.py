"""What bars make of times at which nobody listened: what was missed then is told, and of which bar it is."""

import pytest

from tests.support.asked_bars import PRICES, Ask, shown
from tests.support.captured import INFY, NIFTY_FUT, Captured, Line, us_of

pytestmark = pytest.mark.slow  # tables are made for each test


def test_give_what_was_missed_to_the_bar_that_ends_the_gap(line: Line, ask: Ask) -> None:
    line.full("09:15:02", INFY, 100, volume=10)
    line.closed("09:15:10")
    line.begin("09:20:30", INFY)
    line.full("09:20:31", INFY, 104, volume=110, average=103, traded="09:20:25", high=120, low=90)  # cached
    line.full("09:20:40", INFY, 105, volume=115, average=103, high=120, low=90)
    assert shown(ask("bars", "NSE:INFY", "1m"), "volume", "volume_missed", *PRICES) == [
        ("09:15:00", 10, 0, 100, 100, 100, 100),
        ("09:20:00", 105, 100, 105, 105, 105, 105),
    ]


def test_give_what_was_missed_to_the_next_bar_with_a_trade(line: Line, ask: Ask) -> None:
    line.full("09:15:02", INFY, 100, volume=10)
    line.closed("09:15:10")
    line.begin("09:15:30", INFY)
    line.full("09:15:31", INFY, 101, volume=20, traded="09:15:25")
    line.full("09:17:01", INFY, 102, volume=22)
    assert shown(ask("bars", "NSE:INFY", "1m"), "volume", "volume_missed") == [
        ("09:15:00", 10, 0),
        ("09:17:00", 12, 10),
    ]


def test_of_a_packet_alone_have_all_that_was_missed(captured: Captured, ask: Ask) -> None:
    captured.instruments()
    line = captured.run("15:10").line()
    line.begin("15:11", INFY)
    line.full("15:11:01", INFY, 101, volume=20, traded="15:10:55")
    rows = ask("bars", "NSE:INFY", "1m")
    assert shown(rows, "volume", "volume_missed", "vwap", "ticks", *PRICES) == [
        ("15:10:00", 20, 20, None, 0, 101, 101, 101, 101)
    ]


def test_count_the_first_row_of_a_late_start_as_missed(captured: Captured, ask: Ask) -> None:
    captured.instruments()
    line = captured.run("10:00").line()
    line.begin("10:00:01", INFY, NIFTY_FUT)
    line.full("10:00:03", INFY, 101, volume=500, traded="10:00:02", high=150, low=50)
    line.full("10:00:04", INFY, 102, volume=501, high=151, low=50)
    line.full("10:00:03", NIFTY_FUT, 0, traded=None, stamped="10:00:02")  # nothing traded yet
    line.full("10:05:00", NIFTY_FUT, 24000, volume=75)
    assert shown(ask("bars", "NSE:INFY", "1m"), "volume", "volume_missed", "ticks", "high", "low") == [
        ("10:00:00", 501, 500, 2, 151, 101)
    ]
    assert shown(ask("bars", "NFO:NIFTY26NOVFUT", "1m"), "volume", "volume_missed") == [("10:05:00", 75, 0)]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped", "silent", "unsubscribed", "another connection"])
def test_tell_what_was_missed_however_a_gap_came(captured: Captured, ask: Ask, how: str) -> None:
    captured.instruments()
    run = captured.run("08:50")
    line = run.line()
    line.begin("08:51", INFY)
    line.full("09:15:02.4", INFY, 100, volume=10)
    match how:
        case "stopped":
            run.stopped("09:15:20")
        case "silent":
            line.silent("09:15:20", 17.6)
            line.closed("09:15:20.001")
        case "unsubscribed":
            line.unsubscribed("09:15:03", INFY)
            line.full("09:15:03.1", INFY, 101, volume=15)  # it was on its way
    if how in ("killed", "stopped"):
        line = captured.run("09:16").line()
    elif how == "another connection":
        line.closed("09:15:20")
        line = run.line("ravi")
    line.begin("09:16:01", INFY)
    line.full("09:16:02", INFY, 102, volume=30, traded="09:15:50")
    line.full("09:16:03", INFY, 102, volume=31)
    before = 15 if how == "unsubscribed" else 10
    assert shown(ask("bars", "NSE:INFY", "1m"), "volume", "volume_missed") == [
        ("09:15:00", before, 0),
        ("09:16:00", 31 - before, 30 - before),
    ]


def test_judge_a_packet_that_comes_before_it_is_noted_that_it_was_asked_for(captured: Captured, ask: Ask) -> None:
    captured.instruments()
    line = captured.run("10:00").line()
    line.connected("10:00:01")
    line.full("10:00:01.5", INFY, 99, volume=50, traded="09:59:58")
    line.subscribed("10:00:01.501", INFY)
    line.full("10:00:03", INFY, 101, volume=52, traded="10:00:02")
    assert shown(ask("bars", "NSE:INFY", "1m"), "volume", "volume_missed", "open") == [("10:00:00", 52, 50, 101)]


@pytest.mark.slow
@pytest.mark.parametrize("notes", [True, False])
def test_a_service_that_runs_for_days_notes_what_it_holds(captured: Captured, ask: Ask, notes: bool) -> None:
    captured.on("2026-11-19").instruments()
    run = captured.run("08:49")
    line, other = run.line(), run.line("ravi")
    line.begin("08:50", INFY)
    since_us = us_of(captured.day, "08:50")
    other.begin("08:51", INFY)
    for day in ("2026-11-20", "2026-11-23", "2026-11-24"):
        captured.on(day)
        if notes:
            run.note("00:00:01", ("asha", 1), "held", tokens=[INFY], since_us=[since_us])
            run.note("00:00:01", ("ravi", 1), "held", tokens=[INFY], since_us=[since_us + 60_000_000])
        line.full("09:15:02", INFY, 100, volume=10)
        other.full("09:15:02.1", INFY, 100, volume=10)
        line.full("09:15:30", INFY, 101, volume=30)
    captured.commit()
    one_day = ask("bars", "NSE:INFY", "1m", "2026-11-24")
    assert shown(one_day, "volume", "volume_missed", "open") == [("09:15:00", 30, 0 if notes else 10, 100)]
    several = ask("bars", "NSE:INFY", "1m", "2026-11-20", "2026-11-25")
    assert several[-1:] == one_day
    assert [row["volume_missed"] for row in several[1:]] == [one_day[0]["volume_missed"]] * 2
    assert ask("sql", "FROM bars('NSE:INFY', start := '2026-11-24')") == one_day
    rows = ask("sql", "SELECT date, count(*)::INT AS n FROM ticks GROUP BY ALL ORDER BY ALL")
    assert rows[-1]["n"] == (2 if notes else 3)
