"""What symbols are: found, in part, or not, by the lists of the days that are asked about."""

from pathlib import Path

import pytest

import kitelake
from kitelake.lake import Lake
from queries.errors import MomentError, SymbolError
from queries.history import Near
from tests.support.asof_days import INFY, MONDAY, REUSED, SUNDAY, TUESDAY, WEDNESDAY
from tests.support.by_hand import list_instruments


def test_says_what_is_found_and_what_is_near_what_is_not(lake: Lake) -> None:
    found = lake.find(["NSE:INFY", "tcs", "NSE:INFI", 99, "NFO:NIFTY26N*", INFY], MONDAY)
    assert found.found == ("NSE:INFY", "tcs", "NFO:NIFTY26N*", INFY)
    assert (found.in_part, found.not_found) == ((), ("NSE:INFI", 99))
    assert repr(found).splitlines() == [
        "NSE:INFY       found: NSE:INFY, token 408065",
        "tcs            found: NSE:TCS, token 2953217",
        "NSE:INFI       not found; near it: NSE:INFY, NSE:NIFTY 50",
        "99             not found",
        "NFO:NIFTY26N*  found: 2 instruments",
        "408065         found: NSE:INFY, token 408065",
    ]


def test_gives_a_row_an_instrument_with_what_the_list_says(lake: Lake) -> None:
    rows = lake.find(["NSE:INFI", "NFO:NIFTY26*", Near("NIFTY", 2)], MONDAY).rows.arrow().to_pylist()
    assert [(row["asked"], row["outcome"], row["symbol"], row["instrument_type"]) for row in rows] == [
        ("NSE:INFI", "not found", None, None),
        ("NFO:NIFTY26*", "found", "NFO:NIFTY26DECFUT", "FUT"),
        ("NFO:NIFTY26*", "found", "NFO:NIFTY26N2324000CE", "CE"),
        ("NFO:NIFTY26*", "found", "NFO:NIFTY26NOVFUT", "FUT"),
        ("near(NIFTY, 2)", "found", "NFO:NIFTY26DECFUT", "FUT"),
    ]
    assert rows[0]["near_matches"] == ["NSE:INFY", "NSE:NIFTY 50"]
    assert (rows[2]["strike"], rows[2]["lot_size"], rows[2]["expiry"].isoformat()) == (24000, 75, MONDAY)


def test_in_part_is_what_is_something_on_some_of_the_days(lake: Lake) -> None:
    days = [TUESDAY, MONDAY]
    found = lake.find(["NFO:NIFTY26NOVFUT", "NFO:NIFTY26DECFUT", REUSED, "NFO:NIFTY26D*CE", Near("NIFTY", 2)], days)
    assert found.found == ("NFO:NIFTY26DECFUT", REUSED)
    assert found.in_part == ("NFO:NIFTY26NOVFUT", "NFO:NIFTY26D*CE", Near("NIFTY", 2))
    assert "NFO:NIFTY26NOVFUT  in part: NFO:NIFTY26NOVFUT, token 258; on 1 of 2 days, from 2026-11-23" in repr(found)
    rows = [row for row in found.rows.arrow().to_pylist() if row["asked"] == str(REUSED)]
    assert [(row["symbol"], row["strike"]) for row in rows] == [
        ("NFO:NIFTY26D0124500CE", 24500),
        ("NFO:NIFTY26N2324000CE", 24000),
    ]


def test_a_day_without_a_list_has_the_one_before_it(lake: Lake) -> None:
    assert lake.find("NFO:NIFTY26D0124500CE", WEDNESDAY).found
    assert lake.find("NFO:NIFTY26NOVFUT", WEDNESDAY).not_found
    assert lake.find("NFO:NIFTY26DECFUT").found  # today
    before = lake.find(["NSE:INFY", INFY, Near("NIFTY")], SUNDAY)
    assert before.not_found == ("NSE:INFY", INFY, Near("NIFTY"))
    assert before.rows.count() == 3


def test_many_lines_are_cut(tmp_path: Path) -> None:
    list_instruments(tmp_path, MONDAY, "408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE")
    with kitelake.open(tmp_path) as lake:
        assert repr(lake.find(list(range(1, 51)), MONDAY)).splitlines()[-1] == "… and 10 more"


def test_raises_only_for_what_is_no_symbol_or_no_day(lake: Lake) -> None:
    with pytest.raises(SymbolError, match="got an empty list"):
        lake.find([])
    with pytest.raises(SymbolError, match=r"symbols: got 1\.5"):
        lake.find(1.5)  # type: ignore[arg-type]
    with pytest.raises(MomentError, match="day: got 'someday'"):
        lake.find("NSE:INFY", "someday")
