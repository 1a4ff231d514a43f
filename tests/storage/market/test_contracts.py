"""What a contract's symbol says of it, on real symbols and their expiries, and which names belong together."""

import datetime as dt
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.simulator.expiries import future_symbol, option_symbol
from storage.market.contracts import Cycle, cycle_of, number_text
from storage.market.names import INDEX_DERIVATIVES, derivatives_of, spot_of

MONTHLY, WEEKLY = Cycle.MONTHLY, Cycle.WEEKLY


@pytest.mark.parametrize(
    ("symbol", "expiry", "strike", "cycle"),
    [
        # NSE: the week of 1 May 2025 expired on 30 April, that of BANKNIFTY's January six days after the monthly.
        ("NIFTY25APR24000CE", "2025-04-24", 24000, MONTHLY),
        ("NIFTY2543024000CE", "2025-04-30", 24000, WEEKLY),
        ("BANKNIFTY24JAN45000PE", "2024-01-25", 45000, MONTHLY),
        ("BANKNIFTY2413145000PE", "2024-01-31", 45000, WEEKLY),
        ("NIFTY25O0722850CE", "2025-10-07", 22850, WEEKLY),
        ("NIFTY26O0625050CE", "2026-10-06", 25050, WEEKLY),
        ("NIFTY26D0124500PE", "2026-12-01", 24500, WEEKLY),
        ("NIFTY26N1024500PE", "2026-11-10", 24500, WEEKLY),
        ("NIFTY26NOVFUT", "2026-11-23", 0, MONTHLY),
        ("NIFTY27DEC25000CE", "2027-12-28", 25000, MONTHLY),  # years ahead, where there is no future
        ("NIFTY30JUN25000CE", "2030-06-25", 25000, MONTHLY),
        ("NIFTYNXT5026AUG60000PE", "2026-08-25", 60000, MONTHLY),
        ("AARTIIND24APR550CE", "2024-04-25", 550, MONTHLY),
        ("IDEA26SEP8.5PE", "2026-09-29", 8.5, MONTHLY),
        ("BAJAJ-AUTO26AUGFUT", "2026-08-25", 0, MONTHLY),
        ("360ONE26SEPFUT", "2026-09-29", 0, MONTHLY),
        # BSE
        ("SENSEX26JULFUT", "2026-07-30", 0, MONTHLY),
        ("SENSEX5026JULFUT", "2026-07-30", 0, MONTHLY),
        ("BANKEX26JUL65000CE", "2026-07-30", 65000, MONTHLY),
        ("FOCIT26JUL38000CE", "2026-07-30", 38000, MONTHLY),
        ("SENSEX24D2079500CE", "2024-12-20", 79500, WEEKLY),
        ("SENSEX24D1383200PE", "2024-12-13", 83200, WEEKLY),
        ("SENSEX26O0181050CE", "2026-10-01", 81050, WEEKLY),
        ("SENSEX2691074800PE", "2026-09-10", 74800, WEEKLY),
        # currencies and bonds: Fridays, one of them behind July's monthly of the 29th; strikes with decimals
        ("GBPINR26731126.5CE", "2026-07-31", 126.5, WEEKLY),
        ("GBPINR26807121.75PE", "2026-08-07", 121.75, WEEKLY),
        ("USDINR26DEC97CE", "2026-12-29", 97, MONTHLY),
        ("USDINR27JUN97.25CE", "2027-06-28", 97.25, MONTHLY),
        ("USDINR26O09FUT", "2026-10-09", 0, WEEKLY),
        ("648GS203526AUG98.25CE", "2026-08-27", 98.25, MONTHLY),
        ("636GS203126DEC101PE", "2026-12-31", 101, MONTHLY),
        # MCX
        ("CRUDEOIL26JUL8700CE", "2026-07-16", 8700, MONTHLY),
        ("COPPER26JUL1210CE", "2026-07-24", 1210, MONTHLY),
        ("SILVER10026JULFUT", "2026-07-31", 0, MONTHLY),
        ("SILVERM27FEBFUT", "2027-02-26", 0, MONTHLY),
        ("GOLDM26JUL145000CE", "2026-06-29", 145000, MONTHLY),  # has the month of its future, which expires in July
    ],
)
def test_the_symbol_says_whether_it_is_monthly_or_weekly(symbol: str, expiry: str, strike: float, cycle: Cycle) -> None:
    kind = symbol[-3:] if symbol.endswith("FUT") else symbol[-2:]
    assert cycle_of(symbol, kind, dt.date.fromisoformat(expiry), strike) is cycle


@pytest.mark.parametrize(
    ("symbol", "kind", "expiry", "strike"),
    [
        ("NIFTY26112424500CE", "CE", "2026-11-24", 24500),  # another form
        ("NIFTY25APR24000CE", "PE", "2025-04-24", 24000),  # not the row's type,
        ("NIFTY25APR24000CE", "CE", "2025-04-24", 4000),  # not its strike,
        ("NIFTY25APR24000CE", "CE", "2025-04-24", float("nan")),
        ("NIFTY25APR24000CE", "CE", "2026-04-30", 24000),  # nor its year
        ("NIFTY2543024000CE", "CE", "2025-05-29", 24000),  # nor its day
        ("NIFTY2523024000CE", "CE", "2025-02-27", 24000),  # no such day
        ("NIFTY25XYZ24000CE", "CE", "2025-04-24", 24000),  # no such month
        ("24000CE", "CE", "2025-04-24", 24000),
        ("FUT", "FUT", "2025-04-24", 0),
        ("", "CE", "2025-04-24", 0),
    ],
)
def test_what_contradicts_its_row_or_is_in_another_form_says_nothing(
    symbol: str, kind: str, expiry: str, strike: float
) -> None:
    assert cycle_of(symbol, kind, dt.date.fromisoformat(expiry), strike) is None


def test_a_holiday_moves_the_expiry_and_not_the_symbol() -> None:
    assert cycle_of("NIFTY2652124500CE", "CE", dt.date(2026, 5, 20), 24500) is WEEKLY


@given(
    name=st.text(string.ascii_uppercase + string.digits + "&-", min_size=1, max_size=12),
    expiry=st.dates(dt.date(2010, 1, 1), dt.date(2090, 1, 1)),
    strike=st.integers(1, 2_000_000_000).map(lambda ticks: ticks / 400),
    kind=st.sampled_from(["CE", "PE"]),
    weekly=st.booleans(),
)
def test_every_symbol_is_read_back(name: str, expiry: dt.date, strike: float, kind: str, weekly: bool) -> None:
    """Whatever digits the name ends with, and the strike begins with."""
    symbol = option_symbol(name, expiry, weekly, strike, kind)
    assert cycle_of(symbol, kind, expiry, strike) is (WEEKLY if weekly else MONTHLY)
    assert cycle_of(future_symbol(name, expiry), "FUT", expiry, 0) is MONTHLY


def test_numbers_are_written_as_the_broker_does() -> None:
    texts = ["24500", "97.25", "8.5", "0.05", "0.0025", "100", "0"]
    assert [number_text(float(text)) for text in texts] == texts


@pytest.mark.parametrize(
    ("symbol", "derivatives"),
    [
        ("NSE:NIFTY 50", ["NFO:NIFTY", "BFO:NIFTY"]),
        ("NSE:NIFTY INDIA FPI 150", ["NFO:NIFTYFPI", "BFO:NIFTYFPI"]),
        ("BSE:BSE FOCUSED IT", ["NFO:FOCIT", "BFO:FOCIT"]),
        ("BSE:FOCIT", ["NFO:FOCIT", "BFO:FOCIT"]),
        ("NSE:RELIANCE", ["NFO:RELIANCE", "BFO:RELIANCE"]),
        ("MCX:MCXBULLDEX", ["MCX:MCXBULLDEX"]),
        ("MCX:CRUDEOIL", ["MCX:CRUDEOIL"]),
        ("CDS:USDINR", ["CDS:USDINR"]),
    ],
)
def test_the_names_of_derivatives(symbol: str, derivatives: list[str]) -> None:
    assert derivatives_of(symbol) == derivatives


@pytest.mark.parametrize(
    ("exchange", "name", "symbols"),
    [
        ("NFO", "NIFTY", ["NSE:NIFTY 50", "NSE:NIFTY", "BSE:NIFTY"]),
        ("NFO", "NIFTYFPI", ["NSE:NIFTY FPI 150", "NSE:NIFTY INDIA FPI 150", "NSE:NIFTYFPI", "BSE:NIFTYFPI"]),
        ("BFO", "SENSEX50", ["BSE:SNSX50", "BSE:SENSEX50", "NSE:SENSEX50", "BSE:SENSEX50"]),
        ("NFO", "INFY", ["NSE:INFY", "BSE:INFY"]),
        ("MCX", "MCXBULLDEX", ["MCX:MCXBULLDEX"]),
        ("MCX", "CRUDEOIL", []),
        ("MCX", "NIFTY", []),
        ("CDS", "USDINR", []),
    ],
)
def test_the_symbols_of_what_a_derivative_is_on(exchange: str, name: str, symbols: list[str]) -> None:
    assert spot_of(exchange, name) == symbols


def test_each_index_is_found_from_its_derivatives() -> None:
    for symbol in INDEX_DERIVATIVES:
        assert any(symbol in spot_of(*each.split(":")) for each in derivatives_of(symbol)), symbol
