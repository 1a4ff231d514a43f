"""Instrument lists for tests, in the broker's form, and selections from them."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from ingest.instruments.criteria import Select
from ingest.instruments.listing import Instruments, parse_instruments
from ingest.instruments.selection import Selection, select
from ingest.instruments.underlyings import Price
from ingest.simulator.universe import HEADER

DAY = dt.date(2026, 11, 22)
NIFTY_50, INFY, SENSEX = 256265, 408065, 265

BASE = """\
408065,1594,INFY,INFOSYS,1500.5,,0,0.05,1,EQ,NSE,NSE
128028676,500209,INFY,INFOSYS,0,,0,0.05,1,EQ,BSE,BSE
256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE
265,1,SENSEX,SENSEX,0,,0,0,0,EQ,INDICES,BSE
519937,2031,M&M,"Mahindra & Mahindra, Ltd",0,,0,0.05,1,EQ,NSE,NSE
"""

OF_PLANS = b"""\
instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,segment,exchange
408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE
738561,2885,RELIANCE,RELIANCE INDUSTRIES,0,,0,0.05,1,EQ,NSE,NSE
256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE
258,1,NIFTY26NOVFUT,NIFTY,0,2026-11-26,0,0.05,75,FUT,NFO-FUT,NFO
514,2,NIFTY26DECFUT,NIFTY,0,2026-12-31,0,0.05,75,FUT,NFO-FUT,NFO
770,3,NIFTY26NOV24400CE,NIFTY,0,2026-11-26,24400,0.05,75,CE,NFO-OPT,NFO
1026,4,NIFTY26NOV24500CE,NIFTY,0,2026-11-26,24500,0.05,75,CE,NFO-OPT,NFO
1282,5,NIFTY26NOV24600CE,NIFTY,0,2026-11-26,24600,0.05,75,CE,NFO-OPT,NFO
"""
"""Two shares, an index, and its futures and options."""


def listed_on(date: dt.date) -> pa.Table:
    """The rows of BASE as the list of a day."""
    return parse_instruments(f"{HEADER}\n{BASE}".encode(), date=date)


class Listing:
    """Builds a list: rows are numbered in the order of the calls."""

    def __init__(self, base: str = BASE) -> None:
        self.rows = [HEADER + "\n", base]

    def add(self, symbol: str, name: str, expiry: str, strike: float, kind: str, segment: str, lot: int = 65) -> None:
        token = (len(self.rows) << 8) + 2
        exchange = segment.partition("-")[0]
        self.rows.append(
            f"{token},{token >> 8},{symbol},{name},0,{expiry},{strike},0.05,{lot},{kind},{segment},{exchange}\n"
        )

    def chain(self, name: str, expiry: str, strikes: list[float], exchange: str = "NFO", lot: int = 65) -> None:
        for strike in strikes:
            for kind in ("CE", "PE"):
                symbol = f"{name}{expiry[2:].replace('-', '')}{strike:g}{kind}"
                self.add(symbol, name, expiry, strike, kind, f"{exchange}-OPT", lot)

    def future(self, name: str, expiry: str, exchange: str = "NFO", lot: int = 65) -> None:
        self.add(f"{name}{expiry[2:7].replace('-', '')}FUT", name, expiry, 0, "FUT", f"{exchange}-FUT", lot)

    def instruments(self, date: dt.date = DAY) -> Instruments:
        return Instruments(parse_instruments("".join(self.rows).encode(), date=date))


def no_price(token: int) -> Price | None:
    return None


def prices(known: dict[int, float], source: str = "the live stream") -> Callable[[int], Price | None]:
    return lambda token: Price(known[token], source) if token in known else None


def picked(
    listed: Instruments, criteria: dict[str, Any], price_of: Callable[[int], Price | None] = no_price
) -> tuple[list[str], Selection]:
    """The symbols that fit, without their exchange, and the whole selection."""
    selection = select(listed, Select.model_validate(criteria), price_of)
    return [str(listed.symbol(token)).partition(":")[2] for token in selection.tokens], selection
