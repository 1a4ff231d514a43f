"""Monthly and weekly expiries of a list: by the symbols, else by the futures, else, and noted, by the calendar."""

import datetime as dt
from typing import Any

import pytest

from ingest.instruments.listing import Instruments
from tests.support.lists import Listing, no_price, picked

GUESSED = (
    "neither symbols nor futures say whether these expiries are weekly or monthly, so the last of a calendar month "
    "is taken for the monthly one: "
)


def listing(date: str, exchange: str, name: str, *contracts: tuple[str, str, float], futures: str = "") -> Instruments:
    """Options with these symbols, expiries and strikes; `futures` are "SYMBOL EXPIRY, SYMBOL EXPIRY"."""
    rows = Listing()
    for symbol, expiry, strike in contracts:
        rows.add(symbol, name, expiry, strike, symbol[-2:], f"{exchange}-OPT")
    for future in filter(None, futures.split(", ")):
        symbol, expiry = future.split()
        rows.add(symbol, name, expiry, 0, "FUT", f"{exchange}-FUT")
    return rows.instruments(dt.date.fromisoformat(date))


NIFTY = listing(
    "2025-04-22",
    "NFO",
    "NIFTY",
    ("NIFTY25APR24000CE", "2025-04-24", 24000),
    ("NIFTY2543024000CE", "2025-04-30", 24000),
    ("NIFTY2550824000CE", "2025-05-08", 24000),
    ("NIFTY25MAY24000CE", "2025-05-29", 24000),
    ("NIFTY25DEC24000CE", "2025-12-24", 24000),
    ("NIFTY29DEC24000CE", "2029-12-27", 24000),
)
BANKNIFTY = listing(
    "2024-01-22",
    "NFO",
    "BANKNIFTY",
    ("BANKNIFTY24JAN45000CE", "2024-01-25", 45000),
    ("BANKNIFTY2413145000CE", "2024-01-31", 45000),
    ("BANKNIFTY24FEB45000CE", "2024-02-29", 45000),
)
GBPINR = listing(
    "2026-07-24",
    "CDS",
    "GBPINR",
    ("GBPINR26JUL126.5CE", "2026-07-29", 126.5),
    ("GBPINR26731126.5CE", "2026-07-31", 126.5),
    ("GBPINR26807126.5CE", "2026-08-07", 126.5),
    ("GBPINR26AUG126.5CE", "2026-08-27", 126.5),
    ("GBPINR26828126.5CE", "2026-08-28", 126.5),
)


@pytest.mark.parametrize(
    ("listed", "expiries", "found"),
    [
        (NIFTY, {"kind": "monthly", "nearest": 1}, ["NIFTY25APR24000CE"]),
        (NIFTY, {"kind": "weekly", "nearest": 1}, ["NIFTY2543024000CE"]),
        (NIFTY, {"kind": "weekly"}, ["NIFTY2543024000CE", "NIFTY2550824000CE"]),
        (
            NIFTY,
            {"kind": "monthly"},
            ["NIFTY25APR24000CE", "NIFTY25MAY24000CE", "NIFTY25DEC24000CE", "NIFTY29DEC24000CE"],
        ),
        (BANKNIFTY, {"kind": "monthly"}, ["BANKNIFTY24JAN45000CE", "BANKNIFTY24FEB45000CE"]),
        (BANKNIFTY, {"kind": "weekly"}, ["BANKNIFTY2413145000CE"]),
        (GBPINR, {"kind": "monthly"}, ["GBPINR26JUL126.5CE", "GBPINR26AUG126.5CE"]),
        (GBPINR, {"kind": "weekly", "nearest": 2}, ["GBPINR26731126.5CE", "GBPINR26807126.5CE"]),
    ],
)
def test_the_contract_says_it_and_not_the_calendar(
    listed: Instruments, expiries: dict[str, Any], found: list[str]
) -> None:
    symbols, selection = picked(listed, {"types": ["CE", "PE"], "expiries": expiries}, no_price)
    assert symbols == found
    assert selection.notes == ()


def test_the_week_of_a_monthly_has_no_weekly() -> None:
    """The nearest weekly is that of the week after."""
    later = NIFTY.as_of(dt.date(2025, 5, 26))
    assert picked(later, {"types": "CE", "expiries": {"kind": "weekly"}})[0] == []
    assert picked(NIFTY, {"types": "CE", "expiries": {"kind": "weekly", "nearest": 1}})[0] == ["NIFTY2543024000CE"]


def test_one_contract_that_says_it_speaks_for_its_chain() -> None:
    listed = listing(
        "2025-04-22",
        "NFO",
        "NIFTY",
        ("NIFTY-ODD-24000CE", "2025-04-24", 24000),
        ("NIFTY25APR24100CE", "2025-04-24", 24100),
        ("NIFTY-ODD-24001CE", "2025-04-30", 24001),
        ("NIFTY2543024100CE", "2025-04-30", 24100),
    )
    symbols, selection = picked(listed, {"types": "CE", "expiries": {"kind": "monthly"}})
    assert symbols == ["NIFTY-ODD-24000CE", "NIFTY25APR24100CE"]
    assert selection.notes == ()


def odd(futures: str) -> Instruments:
    contracts = [("ODD1CE", "2025-04-24", 1.0), ("ODD2CE", "2025-04-30", 2.0), ("ODD3CE", "2025-05-29", 3.0)]
    return listing("2025-04-22", "NFO", "ODD", *contracts, futures=futures)


def test_a_future_of_the_same_expiry_makes_it_the_monthly_one() -> None:
    listed = odd("ODD25APRFUT 2025-04-24, ODD-FUT 2025-05-29")
    symbols, selection = picked(listed, {"types": "CE", "expiries": {"kind": "monthly", "nearest": 1}})
    assert symbols == ["ODD1CE"]
    assert selection.notes == (f"{GUESSED}ODD (2025-04-30)",), "that there is no future of it means nothing"


def test_a_weekly_future_does_not() -> None:
    listed = odd("ODD25424FUT 2025-04-24")
    symbols, _ = picked(listed, {"types": "CE", "expiries": {"kind": "monthly"}})
    assert symbols == ["ODD2CE", "ODD3CE"]
    assert picked(listed, {"types": "FUT", "expiries": {"kind": "weekly"}})[0] == ["ODD25424FUT"]
    assert picked(listed, {"types": "FUT", "expiries": {"kind": "monthly"}})[0] == []


def test_the_calendar_is_the_last_resort_and_is_noted() -> None:
    symbols, selection = picked(odd(""), {"types": "CE", "expiries": {"kind": "monthly"}})
    assert symbols == ["ODD2CE", "ODD3CE"]
    assert selection.notes == (f"{GUESSED}ODD (2025-04-24, 2025-04-30, 2025-05-29)",)
    assert selection.problems == ()


def test_it_is_noted_only_where_it_says_what_is_selected() -> None:
    listed = odd("")
    for criteria in ({"expiries": 1}, {"names": "INFY", "expiries": {"kind": "monthly"}}):
        assert picked(listed, {"exchange": ["NSE", "NFO"], **criteria})[1].notes == ()
    later = picked(listed.as_of(dt.date(2025, 5, 1)), {"types": "CE", "expiries": {"kind": "monthly"}})[1]
    assert later.notes == (f"{GUESSED}ODD (2025-05-29)",)


def test_many_are_counted() -> None:
    rows = Listing()
    for number in range(7):
        for day in range(1, 8):
            rows.add(f"ODD{number}-{day}CE", f"ODD{number}", f"2026-12-{day:02d}", 1, "CE", "NFO-OPT")
    (note,) = picked(rows.instruments(), {"types": "CE", "expiries": {"kind": "weekly"}})[1].notes
    days = ", ".join(f"2026-12-0{day}" for day in range(1, 6))
    shown = ", ".join(f"ODD{number} ({days} and 2 more)" for number in range(5))
    assert note == f"{GUESSED}{shown}, and 2 more names"


def test_a_list_in_which_nothing_expires() -> None:
    listed = Listing().instruments()
    assert picked(listed, {"exchange": "NSE", "expiries": {"kind": "weekly"}})[0] == ["INFY", "NIFTY 50", "M&M"]
