"""The simulated instrument list: in Kite's form, of the right size, and the same for the same day."""

import collections
import csv
import datetime as dt
import io
import re

import pytest

from ingest.simulator.expiries import dated_expiries, future_symbol, monthly_expiries, option_symbol, weekly_expiries
from ingest.simulator.universe import HEADER, SEGMENT_BYTES, Universe, build_universe, to_csv
from storage.market.contracts import number_text

DAY = dt.date(2026, 11, 22)


@pytest.fixture(scope="module")
def universe() -> Universe:
    return build_universe(10_000, 1, DAY)


@pytest.mark.parametrize("size", [100, 1777, 10_000])
def test_has_the_wanted_size_and_some_of_each_kind(size: int) -> None:
    listed = build_universe(size, 1, DAY).instruments
    assert len(listed) == size
    segments = {one.segment for one in listed}
    assert segments >= {"INDICES", "NSE", "BSE", "NFO-FUT", "NFO-OPT", "BFO-FUT", "CDS-FUT", "BCD-FUT", "MCX-FUT"}
    if size > 500:
        assert segments >= {"BFO-OPT", "CDS-OPT", "MCX-OPT"}
    if size > 5000:
        assert "BCD-OPT" in segments


def test_tokens_and_symbols_are_unique_and_tokens_carry_their_segment(universe: Universe) -> None:
    listed = universe.instruments
    assert len({one.instrument_token for one in listed}) == len(listed)
    assert len({(one.exchange, one.tradingsymbol) for one in listed}) == len(listed)
    for one in listed:
        kind = "INDICES" if one.segment == "INDICES" else one.exchange
        assert one.instrument_token == one.exchange_token << 8 | SEGMENT_BYTES[kind]
        assert one.instrument_token < 2**32


def test_well_known_instruments_have_their_real_tokens(universe: Universe) -> None:
    tokens = {f"{one.exchange}:{one.tradingsymbol}": one.instrument_token for one in universe.instruments}
    assert tokens["NSE:NIFTY 50"] == 256265
    assert tokens["NSE:NIFTY BANK"] == 260105
    assert tokens["BSE:SENSEX"] == 265
    assert tokens["NSE:INFY"] == 408065
    assert tokens["NSE:RELIANCE"] == 738561
    assert tokens["BSE:RELIANCE"] == 128083204


def test_symbols_are_in_kites_form(universe: Universe) -> None:
    assert future_symbol("NIFTY", dt.date(2026, 11, 24)) == "NIFTY26NOVFUT"
    assert option_symbol("NIFTY", dt.date(2026, 11, 24), False, 24500.0, "CE") == "NIFTY26NOV24500CE"
    assert option_symbol("NIFTY", dt.date(2026, 11, 24), True, 24500.0, "CE") == "NIFTY26N2424500CE"
    assert option_symbol("NIFTY", dt.date(2027, 1, 5), True, 24500.0, "PE") == "NIFTY2710524500PE"
    assert option_symbol("USDINR", dt.date(2026, 12, 29), False, 88.25, "PE") == "USDINR26DEC88.25PE"
    derivative = re.compile(r"^[A-Z&-]+\d*(26|27)([A-Z]{3}|[1-9OND]\d\d)(FUT|\d+(\.\d+)?(CE|PE))$")
    for one in universe.instruments:
        if one.expiry is not None:
            assert derivative.match(one.tradingsymbol), one.tradingsymbol
            assert one.tradingsymbol.startswith(one.name)


def test_chains_bracket_the_spot_with_calls_and_puts_of_weekly_and_monthly_expiries(universe: Universe) -> None:
    chains = collections.defaultdict(set)
    for one in universe.instruments:
        if one.name == "NIFTY" and one.segment == "NFO-OPT":
            chains[one.expiry].add((one.strike, one.instrument_type))
    assert len(chains) == 7  # three months and four weeks
    spot = universe.underlyings["NSE:NIFTY 50"].price
    for chain in chains.values():
        strikes = {strike for strike, _ in chain}
        assert min(strikes) < spot < max(strikes)
        assert chain == {(strike, kind) for strike in strikes for kind in ("CE", "PE")}


def test_expiries_are_of_the_day_or_later(universe: Universe) -> None:
    assert [*zip(range(3), monthly_expiries(DAY, 1), strict=False)] == [
        (0, dt.date(2026, 11, 24)),
        (1, dt.date(2026, 12, 29)),
        (2, dt.date(2027, 1, 26)),
    ]
    assert next(monthly_expiries(dt.date(2026, 11, 24), 1)) == dt.date(2026, 11, 24)
    assert next(monthly_expiries(dt.date(2026, 11, 25), 1)) == dt.date(2026, 12, 29)
    assert next(weekly_expiries(DAY, 1)) == dt.date(2026, 12, 1)  # the 24th is the month's last
    assert next(dated_expiries(DAY, 5)) == dt.date(2026, 12, 4)  # the 5th is a Saturday
    assert next(dated_expiries(DAY, 0)) == dt.date(2026, 11, 26)
    assert all(one.expiry is None or one.expiry >= DAY for one in universe.instruments)


def test_the_dump_reads_back(universe: Universe) -> None:
    text = to_csv(universe.instruments)
    rows = list(csv.reader(io.StringIO(text)))
    assert ",".join(rows[0]) == HEADER == text.partition("\n")[0]
    assert len(rows) == len(universe.instruments) + 1
    for one, row in zip(universe.instruments, rows[1:], strict=True):
        assert row == [
            str(one.instrument_token),
            str(one.exchange_token),
            one.tradingsymbol,
            one.name,
            "0",
            one.expiry.isoformat() if one.expiry else "",
            number_text(one.strike),
            number_text(one.tick_size),
            str(one.lot_size),
            one.instrument_type,
            one.segment,
            one.exchange,
        ]
    assert any("," in one.name for one in universe.instruments), "a reader that splits at commas should fail"
    assert '256265,1001,NIFTY 50,"NIFTY 50",0,,0,0,0,EQ,INDICES,NSE' in text.splitlines()


def test_the_list_follows_from_size_seed_and_day() -> None:
    again = build_universe(1000, 7, DAY)
    assert again == build_universe(1000, 7, DAY)
    assert again != build_universe(1000, 8, DAY)
    assert again != build_universe(1000, 7, DAY + dt.timedelta(days=3))
