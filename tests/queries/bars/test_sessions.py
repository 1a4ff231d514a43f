"""What bars are aligned to: the session of the day, the exchange and the kind of instrument."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.captured import CALL, CRUDE, INFY, LISTED, NIFTY_50, NIFTY_FUT, TINY, Captured

pytestmark = pytest.mark.slow  # tables are made for each test

Ask = Callable[..., list[dict[str, Any]]]
NAMES = {
    INFY: "NSE:INFY",
    TINY: "NSE:TINY",
    NIFTY_50: "NSE:NIFTY 50",
    NIFTY_FUT: "NFO:NIFTY26NOVFUT",
    CALL: "NFO:NIFTY26NOV24000CE",
    CRUDE: "MCX:CRUDEOIL26DECFUT",
}


def session(captured: Captured, ask: Ask, token: int, day: str, *, listed: bool = True) -> tuple[str, str]:
    """From when to when the instrument's bar of that day is."""
    captured.on(day)
    if listed:
        captured.instruments(LISTED.replace("2026-11-24", "2027-12-28").replace("2026-12-18", "2027-12-17"))
    line = captured.run("00:00:01").line()
    line.begin("00:00:02", token)
    line.full("12:00:00", token, 100, volume=10)
    symbol = NAMES[token] if listed else token
    (begin,) = ask("bars", symbol, "1d", day)
    (end,) = ask("bars", symbol, "1d", day, label="close")
    return f"{begin['time']:%H:%M}", f"{end['time']:%d %H:%M}"


@pytest.mark.parametrize(
    ("token", "day", "expected"),
    [
        (INFY, "2026-07-31", ("09:15", "31 15:30")),
        (INFY, "2026-08-03", ("09:15", "03 15:15")),
        (TINY, "2026-08-03", ("09:15", "03 15:30")),
        (NIFTY_50, "2026-08-03", ("09:15", "03 15:30")),
        (NIFTY_FUT, "2026-07-31", ("09:15", "31 15:30")),
        (NIFTY_FUT, "2026-08-03", ("09:15", "03 15:40")),
        (CALL, "2026-08-03", ("09:15", "03 15:40")),
        (CRUDE, "2026-08-03", ("09:00", "03 23:30")),  # New York is on summer time
        (CRUDE, "2026-11-24", ("09:00", "24 23:55")),
    ],
)
def test_are_the_usual_ones(captured: Captured, ask: Ask, token: int, day: str, expected: tuple[str, str]) -> None:
    assert session(captured, ask, token, day) == expected


def test_are_those_of_the_days_record(captured: Captured, ask: Ask) -> None:
    """Diwali: an hour in the evening, say."""
    captured.on("2026-11-08").record("NSE", share=[("pre-open", "12:00-12:15"), ("continuous", "11:45-13:15")])
    assert session(captured, ask, TINY, "2026-11-08") == ("11:45", "08 13:15")
    assert session(captured, ask, CRUDE, "2026-11-09") == ("09:00", "09 23:55")


def test_are_the_whole_day_where_the_record_says_that_there_was_none(captured: Captured, ask: Ask) -> None:
    captured.record("NSE", share=[])
    assert session(captured, ask, TINY, "2026-11-24") == ("00:00", "25 00:00")


def test_are_the_usual_ones_where_the_record_cannot_be_read(captured: Captured, ask: Ask) -> None:
    captured.record("NSE", share=[("continuous", "soon")])
    assert session(captured, ask, TINY, "2026-11-24") == ("09:15", "24 15:30")


def test_are_the_whole_day_in_a_simulated_folder(captured: Captured, ask: Ask) -> None:
    captured.simulated()
    assert session(captured, ask, INFY, "2026-11-24") == ("00:00", "25 00:00")


def test_are_the_whole_day_in_a_folder_of_a_replay(captured: Captured, ask: Ask) -> None:
    captured.replayed("2026-11-24")
    assert session(captured, ask, INFY, "2026-11-24") == ("00:00", "25 00:00")


def test_are_the_whole_day_without_an_instrument_list(captured: Captured, ask: Ask) -> None:
    assert session(captured, ask, INFY, "2026-11-24", listed=False) == ("00:00", "25 00:00")


def test_align_an_hour_to_the_open(captured: Captured, ask: Ask) -> None:
    captured.instruments()
    line = captured.run("08:50").line()
    line.begin("08:51", NIFTY_FUT, CRUDE)
    for hour in (10, 15):
        line.full(f"{hour}:14:59", NIFTY_FUT, 100, volume=hour)
        line.full(f"{hour}:15:00", NIFTY_FUT, 100, volume=hour + 1)
        line.full(f"{hour}:15:00", CRUDE, 100, volume=hour)
    times = [f"{row['time']:%H:%M}" for row in ask("bars", NAMES[NIFTY_FUT], "1h")]
    assert times == ["09:15", "10:15", "14:15", "15:15"]
    assert [f"{row['time']:%H:%M}" for row in ask("bars", NAMES[CRUDE], "1h")] == ["10:00", "15:00"]
