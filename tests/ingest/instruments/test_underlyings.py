"""Around whose price strikes are chosen: each expiry has its own underlying, and what is no price hides none."""

import datetime as dt
from typing import Any

import pytest

from ingest.instruments.criteria import Select
from ingest.instruments.listing import Instruments
from ingest.instruments.selection import references, select
from ingest.instruments.underlyings import Price, is_price, listed_price
from tests.support.lists import BASE, DAY, INFY, NIFTY_50, Listing, picked, prices

AROUND = {"around": "spot", "count": 0}
EVE = dt.date(2026, 12, 24)


def gas(*strikes: float) -> Listing:
    """NATURALGAS: December's options expire before December's future, January's after it."""
    rows = Listing()
    for symbol, expiry in (("26DEC", "2026-12-28"), ("27JAN", "2027-01-26"), ("27FEB", "2027-02-24")):
        rows.add(f"NATURALGAS{symbol}FUT", "NATURALGAS", expiry, 0, "FUT", "MCX-FUT", 1)
    for symbol, expiry in (("26DEC", "2026-12-24"), ("27JAN", "2027-01-22")):
        for strike in strikes or (280, 300, 320, 340, 360):
            rows.add(f"NATURALGAS{symbol}{strike}CE", "NATURALGAS", expiry, strike, "CE", "MCX-OPT", 1)
    return rows


@pytest.fixture(scope="module")
def listed() -> Instruments:
    return gas().instruments(EVE)


def tokens(listed: Instruments, *names: str) -> list[int]:
    return listed.resolve(names)


def test_each_expiry_is_centred_on_its_own_underlying(listed: Instruments) -> None:
    december, january = tokens(listed, "MCX:NATURALGAS26DECFUT", "MCX:NATURALGAS27JANFUT")
    what = {"names": "NATURALGAS", "strikes": AROUND}
    found, selection = picked(listed, what, prices({december: 300.0, january: 340.0}))
    assert found == ["NATURALGAS26DEC300CE", "NATURALGAS27JAN340CE"]
    assert selection.notes == (
        "NATURALGAS of 2026-12-24 around 300.00 of MCX:NATURALGAS26DECFUT (the live stream)",
        "NATURALGAS of 2027-01-22 around 340.00 of MCX:NATURALGAS27JANFUT (the live stream)",
    )
    assert selection.references == {december: "MCX:NATURALGAS26DECFUT", january: "MCX:NATURALGAS27JANFUT"}
    assert references(listed, Select.model_validate(what)) == selection.references


@pytest.mark.parametrize(
    ("expiries", "futures"),
    [
        (1, ["26DEC"]),
        ({"nearest": 1}, ["26DEC"]),
        ({"before": "2027-01-01"}, ["26DEC"]),
        (2, ["26DEC", "27JAN"]),
    ],
)
def test_the_expiries_say_which_underlyings_are_needed(listed: Instruments, expiries: Any, futures: list[str]) -> None:
    what = Select.model_validate({"names": "NATURALGAS", "expiries": expiries, "strikes": AROUND})
    assert list(references(listed, what).values()) == [f"MCX:NATURALGAS{each}FUT" for each in futures]


def test_an_expiry_whose_underlying_has_no_price_waits_for_it_alone(listed: Instruments) -> None:
    december, january = tokens(listed, "MCX:NATURALGAS26DECFUT", "MCX:NATURALGAS27JANFUT")
    found, selection = picked(listed, {"names": "NATURALGAS", "strikes": AROUND}, prices({december: 300.0, january: 0}))
    assert found == ["NATURALGAS26DEC300CE"]
    assert selection.problems == (
        "no price to choose strikes around, so none are selected: NATURALGAS of 2027-01-22 (MCX:NATURALGAS27JANFUT)",
    )
    assert selection.unpriced == selection.problems


def test_an_option_that_outlasts_every_future_of_a_commodity_has_no_underlying() -> None:
    rows = gas()
    rows.add("NATURALGAS27MAR300CE", "NATURALGAS", "2027-03-23", 300, "CE", "MCX-OPT", 1)
    rows.add("COPPER26NOVFUT", "COPPER", "2026-11-20", 0, "FUT", "MCX-FUT", 1)  # expired
    rows.add("COPPER27JAN900CE", "COPPER", "2027-01-22", 900, "CE", "MCX-OPT", 1)
    listed = rows.instruments(EVE)
    found, selection = picked(listed, {"types": "CE", "strikes": AROUND}, lambda token: Price(300, "the test"))
    assert found == ["NATURALGAS26DEC300CE", "NATURALGAS27JAN300CE"]
    why = "no index or share of it is listed, and no future that lasts until then"
    assert selection.problems == (
        "no price to choose strikes around, so none are selected: "
        f"NATURALGAS of 2027-03-23 ({why}), COPPER of 2027-01-22 ({why})",
    )
    assert selection.unpriced == (), "no price will come"


def test_two_expiries_may_have_the_same_future() -> None:
    rows = Listing()
    rows.add("GOLD27FEBFUT", "GOLD", "2027-02-05", 0, "FUT", "MCX-FUT", 1)
    for symbol, expiry in (("GOLD26DEC", "2026-12-31"), ("GOLD27JAN", "2027-01-29")):
        rows.add(f"{symbol}150000CE", "GOLD", expiry, 150000, "CE", "MCX-OPT", 1)
    listed = rows.instruments(EVE)
    found, selection = picked(listed, {"names": "GOLD", "strikes": AROUND}, lambda token: Price(150_100, "the test"))
    assert len(found) == 2
    assert selection.notes == ("GOLD around 150,100.00 of MCX:GOLD27FEBFUT (the test)",)


@pytest.fixture(scope="module")
def nifty() -> Instruments:
    rows = Listing()
    for symbol, expiry in (("26NOV", "2026-11-24"), ("26DEC", "2026-12-29")):
        rows.add(f"NIFTY{symbol}FUT", "NIFTY", expiry, 0, "FUT", "NFO-FUT")
    for symbol, expiry in (("26NOV", "2026-11-24"), ("26D08", "2026-12-08"), ("27DEC", "2027-12-28")):
        for strike in (24000, 25000, 26000):
            rows.add(f"NIFTY{symbol}{strike}CE", "NIFTY", expiry, strike, "CE", "NFO-OPT")
    return rows.instruments()


class TestIndicesAndShares:
    """Options on these are on spot, whatever their expiry."""

    def test_spot_serves_every_expiry(self, nifty: Instruments) -> None:
        november, december = tokens(nifty, "NFO:NIFTY26NOVFUT", "NFO:NIFTY26DECFUT")
        found, selection = picked(
            nifty, {"names": "NIFTY", "strikes": AROUND}, prices({NIFTY_50: 25010, november: 24010, december: 26010})
        )
        assert found == ["NIFTY26NOV25000CE", "NIFTY26D0825000CE", "NIFTY27DEC25000CE"]
        assert selection.notes == ("NIFTY around 25,010.00 of NSE:NIFTY 50 (the live stream)",)

    def test_without_it_the_future_of_the_expiry_and_not_the_nearest(self, nifty: Instruments) -> None:
        november, december = tokens(nifty, "NFO:NIFTY26NOVFUT", "NFO:NIFTY26DECFUT")
        found, selection = picked(
            nifty, {"names": "NIFTY", "strikes": AROUND}, prices({NIFTY_50: 0, november: 24010, december: 26010})
        )
        assert found == ["NIFTY26NOV24000CE", "NIFTY26D0826000CE", "NIFTY27DEC26000CE"]
        assert selection.notes == (
            "NIFTY of 2026-11-24 around 24,010.00 of NFO:NIFTY26NOVFUT (the live stream), "
            "since NSE:NIFTY 50 has no price",
            "NIFTY of 2026-12-08, 2027-12-28 around 26,010.00 of NFO:NIFTY26DECFUT (the live stream), "
            "since NSE:NIFTY 50 has no price",
        )

    def test_all_that_may_be_asked_are_named(self, nifty: Instruments) -> None:
        what = Select.model_validate({"names": "NIFTY", "strikes": AROUND})
        asked: dict[int, None] = {}
        select(nifty, what, asked.setdefault)
        assert set(asked) == set(references(nifty, what))
        assert sorted(references(nifty, what).values()) == ["NFO:NIFTY26DECFUT", "NFO:NIFTY26NOVFUT", "NSE:NIFTY 50"]

    def test_a_derivative_of_what_is_not_known_says_so(self) -> None:
        rows = Listing()
        rows.add("NEWINDEX26NOVFUT", "NEWINDEX", "2026-11-24", 0, "FUT", "NFO-FUT")
        rows.add("NEWINDEX26NOV100CE", "NEWINDEX", "2026-11-24", 100, "CE", "NFO-OPT")
        found, selection = picked(rows.instruments(), {"types": "CE", "strikes": AROUND}, lambda _: Price(99, "a test"))
        assert found == ["NEWINDEX26NOV100CE"]
        assert selection.notes == (
            "NEWINDEX around 99.00 of NFO:NEWINDEX26NOVFUT (a test), "
            "since neither an index nor a share of that name is known",
        )


@pytest.mark.parametrize(
    ("index", "name", "segment", "row"),
    [
        ("NSE:NIFTY FPI 150", "NIFTYFPI", "NFO", "418825,1636,NIFTY FPI 150,NIFTY FPI 150,0,,0,0,0,EQ,INDICES,NSE"),
        (
            "NSE:NIFTY INDIA FPI 150",
            "NIFTYFPI",
            "NFO",
            "418825,1636,NIFTY INDIA FPI 150,NIFTY INDIA FPI 150,0,,0,0,0,EQ,INDICES,NSE",
        ),
        ("BSE:BSE FOCUSED IT", "FOCIT", "BFO", "421641,1647,BSE FOCUSED IT,BSE FOCUSED IT,0,,0,0,0,EQ,INDICES,BSE"),
        ("BSE:SNSX50", "SENSEX50", "BFO", "286729,1120,SNSX50,BSE INDEX SNSX50,0,,0,0,0,EQ,INDICES,BSE"),
        ("MCX:MCXBULLDEX", "MCXBULLDEX", "MCX", "293129,1145,MCXBULLDEX,MCXBULLDEX,0,,0,0,1,EQ,INDICES,MCX"),
    ],
)
def test_an_index_is_known_by_its_own_name(index: str, name: str, segment: str, row: str) -> None:
    """Rows of the broker's list of July 2026; the second as the exchange names it."""
    rows = Listing(f"{BASE}{row}\n")
    rows.add(f"{name}26DEC40000CE", name, "2026-12-31", 40000, "CE", f"{segment}-OPT")
    token = int(row.partition(",")[0])
    found, selection = picked(rows.instruments(), {"underlying": index, "strikes": AROUND}, prices({token: 40100}))
    assert found == [f"{name}26DEC40000CE"]
    assert selection.references == {token: index}
    assert selection.problems == ()


def test_what_is_listed_without_derivatives_is_named() -> None:
    rows = Listing()
    rows.add("INFY26NOVFUT", "INFY", "2026-11-24", 0, "FUT", "NFO-FUT")
    found, selection = picked(rows.instruments(), {"underlying": ["NSE:INFY", "NSE:M&M", "NSE:NIFTY 50", "NSE:XYZ"]})
    assert found == ["INFY26NOVFUT"]
    assert selection.problems == (
        f"not in the instrument list of {DAY}: derivatives of NSE:XYZ (did you mean NSE:INFY?)",
        f"the instrument list of {DAY} has no derivatives of NSE:M&M; NSE:NIFTY 50",
    )


def test_many_expiries_are_summarised() -> None:
    rows = gas(300)
    for name in ("GOLD", "SILVER", "ZINC"):
        for symbol, expiry in (("26DEC", "2026-12-31"), ("27JAN", "2027-01-29")):
            rows.add(f"{name}{symbol}FUT", name, expiry, 0, "FUT", "MCX-FUT", 1)
            rows.add(f"{name}{symbol}300CE", name, expiry, 300, "CE", "MCX-OPT", 1)
    listed = rows.instruments(EVE)
    found, selection = picked(listed, {"types": "CE", "strikes": AROUND}, lambda token: Price(300, "the test"))
    assert len(found) == 8
    assert selection.notes == ("4 names, each expiry around its own price: 8 (the test)",)


@pytest.mark.parametrize("none", [0.0, -1.0, float("nan"), float("inf"), float("-inf"), None])
def test_what_is_no_price(none: float | None) -> None:
    assert not is_price(none)
    assert is_price(0.0025)


def test_the_listed_price_is_none_where_it_is_zero_or_missing() -> None:
    price_of = listed_price(Listing().instruments())
    assert price_of(INFY) == Price(1500.5, "the instrument list")
    assert price_of(NIFTY_50) is None
    assert price_of(1) is None
    empty = "1,1,A,,,,0,0.05,1,EQ,NSE,NSE\n2,1,B,,-5,,0,0.05,1,EQ,NSE,NSE\n"
    price_of = listed_price(Listing(empty).instruments())
    assert (price_of(1), price_of(2)) == (None, None)
