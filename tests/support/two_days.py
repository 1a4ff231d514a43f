"""Two trading days of a small market, hand-made: shares, an index, its futures and options, orders, and a gap.

Every half minute from 09:00 to 15:45 a frame has a packet of each instrument, until the open that of the day before.
The first day is committed; the second is in the journal alone, and on it nothing was received from 11:00 to 11:05.
"""

import datetime as dt
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from ingest.instruments.listing import parse_instruments
from ingest.simulator.universe import HEADER
from ingest.wire import JournalDecoder, encode_frames
from storage.clock import IST
from storage.commit import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.schema import DEPTH_LEVELS, TICKS
from storage.tables import write_instruments
from tests.support.shared import made_once

DAYS: Final = (dt.date(2026, 11, 12), dt.date(2026, 11, 13))
WEEKLY, MONTHLY, NEXT_MONTH = dt.date(2026, 11, 17), dt.date(2026, 11, 24), dt.date(2026, 12, 29)
STEP_SECONDS: Final = 30
ASKED, OPENS, CLOSES = (dt.time(9), dt.time(9, 15), dt.time(15, 30))
GAP: Final = (dt.time(11), dt.time(11, 5))
LOT: Final = 65
SEED: Final = 20261112

Floats = NDArray[np.float64]


class Listed(NamedTuple):
    """A row of the instrument list; `kind` is EQ, FUT, CE, PE or INDEX."""

    token: int
    name: str
    symbol: str
    kind: str
    price: float
    expiry: dt.date | None = None
    strike: float = 0.0

    def line(self) -> str:
        """As the broker's CSV has it."""
        segment = {"EQ": "NSE", "INDEX": "INDICES", "FUT": "NFO-FUT"}.get(self.kind, "NFO-OPT")
        exchange, lot = ("NSE", 1) if self.expiry is None else ("NFO", LOT)
        kind = "EQ" if self.kind == "INDEX" else self.kind
        return (
            f"{self.token},{self.token >> 8},{self.symbol},{self.name},0,{self.expiry or ''},{self.strike:g},0.05,"
            f"{lot},{kind},{segment},{exchange}"
        )


def _derivatives() -> Iterator[Listed]:
    number = 100
    for expiry, month in ((MONTHLY, "26NOV"), (NEXT_MONTH, "26DEC")):
        yield Listed((number << 8) + 2, "NIFTY", f"NIFTY{month}FUT", "FUT", 24_500.0, expiry)
        number += 1
    for expiry, month, strikes in ((WEEKLY, "26N17", range(24_300, 24_701, 100)), (MONTHLY, "26NOV", (24_400, 24_500))):
        for strike in strikes:
            for kind in ("CE", "PE"):
                yield Listed((number << 8) + 2, "NIFTY", f"NIFTY{month}{strike}{kind}", kind, 0.0, expiry, strike)
                number += 1


LISTED: Final = (
    Listed(408065, "INFOSYS", "INFY", "EQ", 1_500.0),
    Listed(2953217, "TATA CONSULTANCY SERV LT", "TCS", "EQ", 3_100.0),
    Listed(738561, "RELIANCE INDUSTRIES", "RELIANCE", "EQ", 1_400.0),
    Listed(341249, "HDFC BANK", "HDFCBANK", "EQ", 980.0),
    Listed(256265, "NIFTY 50", "NIFTY 50", "INDEX", 24_500.0),
    *_derivatives(),
)


@pytest.fixture(scope="session")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder, which no test may change."""
    return made_once(tmp_path_factory, "two days", capture_two_days)


def capture_two_days(root: Path) -> Path:
    """Make the data folder. Returns its path."""
    layout = DataLayout(root)
    text = "\n".join([HEADER, *(each.line() for each in LISTED)]) + "\n"
    rng = np.random.default_rng(SEED)
    before: dict[int, dict[str, Any]] = {}
    for day in DAYS:
        write_instruments(layout, day, parse_instruments(text.encode(), date=day))
        _journal_day(layout, day, before, rng)
        if day == DAYS[0]:
            SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())
    return root


def _journal_day(layout: DataLayout, day: dt.date, before: dict[int, dict[str, Any]], rng: np.random.Generator) -> None:
    """One run of the service on one connection. `before` has the last row of each instrument, and gets those of today.

    Records are in the order of their times, as they are when they are received.
    """
    rows = _day(day, before, rng)
    records: list[tuple[int, Kind, bytes]] = [
        (_ns(day, time), Kind.EVENT, json.dumps({"event": name, "message": None, "data": data}).encode())
        for time, name, data in _events(day)
    ]
    records += [
        (_ns(day, time), Kind.TEXT, json.dumps({"type": "order", "data": order}).encode())
        for time, order in _orders(day)
    ]
    times = [at * 1000 for at in rows.column("received_at").cast(pa.int64()).to_pylist()]
    frames = encode_frames(rows, len(LISTED))
    records += [(at, Kind.BINARY, frame) for at, frame in zip(times[:: len(LISTED)], frames, strict=True)]
    journal = JournalWriter(layout, f"{day:%Y%m%d}T033000-aaaaaa", segment_seconds=1e9)
    channel = journal.channel("mine", 1)
    for at, kind, payload in sorted(records, key=lambda record: record[0]):
        is_service = kind is Kind.EVENT and json.loads(payload)["event"] in ("started", "stopped")
        journal.append(kind, 0 if is_service else channel, at, payload)
    journal.close()


def _events(day: dt.date) -> Iterator[tuple[dt.time, str, dict[str, Any] | None]]:
    tokens = [each.token for each in LISTED]
    yield dt.time(8, 59, 58), "started", None
    yield dt.time(8, 59, 59), "connected", {"opening": 1}
    yield ASKED, "subscribed", {"tokens": tokens, "mode": "full"}
    if day != DAYS[0]:
        yield GAP[0], "closed", {"by": "peer", "clean": False, "reason": "dropped", "retry_in_seconds": 1.0}
        yield dt.time(11, 4, 59), "connected", {"opening": 2}
        yield GAP[1], "subscribed", {"tokens": tokens, "mode": "full"}
    yield dt.time(15, 46), "closed", {"by": "us", "clean": True}
    yield dt.time(15, 46, 1), "stopped", None


def _orders(day: dt.date) -> Iterator[tuple[dt.time, dict[str, Any]]]:
    for number, (time, symbol, side, quantity, price) in enumerate(
        [
            (dt.time(10, 15, 3), "INFY", "BUY", 100, 1_502.5),
            (dt.time(11, 40, 20), "TCS", "SELL", 50, 3_095.0),
            (dt.time(14, 2, 45), "INFY", "SELL", 100, 1_498.0),
        ]
    ):
        update = {
            "order_id": f"{day:%y%m%d}{number:09}",
            "exchange": "NSE",
            "tradingsymbol": symbol,
            "instrument_token": next(each.token for each in LISTED if each.symbol == symbol),
            "transaction_type": side,
            "quantity": quantity,
            "average_price": price,
            "order_timestamp": f"{day} {time}",
        }
        later = (dt.datetime.combine(day, time) + dt.timedelta(seconds=1)).time()
        yield time, {**update, "status": "OPEN", "filled_quantity": 0}
        yield later, {**update, "status": "COMPLETE", "filled_quantity": quantity}


def _ns(day: dt.date, time: dt.time) -> int:
    return int(dt.datetime.combine(day, time, IST).timestamp()) * 10**9


def _day(day: dt.date, before: dict[int, dict[str, Any]], rng: np.random.Generator) -> pa.Table:
    """The day's rows as they are received, which is in the order of time."""
    first = _ns(day, ASKED) // 10**9
    count = (_ns(day, dt.time(15, 45)) // 10**9 - first) // STEP_SECONDS
    seconds = first + STEP_SECONDS * np.arange(count, dtype=np.int64)
    is_open = (seconds >= _ns(day, OPENS) // 10**9) & (seconds < _ns(day, CLOSES) // 10**9)
    yesterday = dict(before)
    start = yesterday[256265]["last_price"] if yesterday else 24_480.0
    index = start * np.exp(np.cumsum(np.where(is_open, rng.normal(0, 3e-4, count), 0.0)))
    rows: list[dict[str, Any]] = []
    for place, listed in enumerate(LISTED):
        prices = _prices(listed, index, is_open, seconds, yesterday, rng)
        mine = list(_rows(listed, prices, seconds, is_open, yesterday.get(listed.token), place, rng))
        before[listed.token] = mine[-1]
        gap = (_ns(day, GAP[0]) // 1000, _ns(day, GAP[1]) // 1000)
        rows += [row for row in mine if day == DAYS[0] or not gap[0] <= row["received_at"] < gap[1]]
    rows.sort(key=lambda row: row["received_at"])
    return pa.Table.from_struct_array(pa.array(rows, pa.struct(TICKS.schema)))


def _prices(
    listed: Listed,
    index: Floats,
    is_open: NDArray[np.bool_],
    seconds: NDArray[np.int64],
    yesterday: dict[int, dict[str, Any]],
    rng: np.random.Generator,
) -> Floats:
    """In whole ticks of 5 paise: derivatives follow the index, shares a little."""
    if listed.kind == "INDEX":
        return np.round(index, 2)
    if listed.expiry is None:
        start = yesterday[listed.token]["last_price"] if yesterday else listed.price
        own = np.cumsum(np.where(is_open, rng.normal(0, 4e-4, len(index)), 0.0))
        return _ticks(start * (index / index[0]) * np.exp(own))
    years = (_ns(listed.expiry, CLOSES) // 10**9 - seconds) / (365 * 86_400)
    forward = index * np.exp(0.06 * years)
    if listed.kind == "FUT":
        return _ticks(forward)
    calls = np.array([_call(f, listed.strike, t) for f, t in zip(forward, years, strict=True)])
    return _ticks(np.maximum(calls - (forward - listed.strike) * (listed.kind == "PE"), 0.05))


def _ticks(prices: Floats) -> Floats:
    return np.round(np.round(prices * 20) / 20, 2)


def _call(forward: float, strike: float, years: float, volatility: float = 0.13) -> float:
    """Black's price of a call, undiscounted."""
    spread = volatility * math.sqrt(years)
    d1 = math.log(forward / strike) / spread + spread / 2
    cumulative = [(1 + math.erf(d / math.sqrt(2))) / 2 for d in (d1, d1 - spread)]
    return forward * cumulative[0] - strike * cumulative[1]


def _rows(
    listed: Listed,
    prices: Floats,
    seconds: NDArray[np.int64],
    is_open: NDArray[np.bool_],
    yesterday: dict[str, Any] | None,
    place: int,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    """Its rows: before the open the last of the day before, with its times, then a trade in each, then none."""
    close = float(prices[0]) if yesterday is None else yesterday["last_price"]
    volume, value, day_open, high, low, oi = 0, 0.0, 0.0, 0.0, 0.0, 65_000 + 650 * place
    last_trade = int(seconds[0]) - 17 * 3600
    books = _books(prices, rng)
    for price, second, trades, book in zip(prices.tolist(), seconds.tolist(), is_open.tolist(), books, strict=True):
        received = second * 10**6 + 250_000
        row = {
            "instrument_token": listed.token,
            "mode": "full",
            "received_at": received,
            "last_price": price,
            "close": close,
            "exchange_timestamp": second * 10**6,
        }
        quantity = 0
        if trades:
            day_open = day_open or price
            high, low = max(high, price), min(low or price, price)
            quantity = int(rng.integers(1, 40)) * (LOT if listed.expiry else 5)
            volume, value, last_trade = volume + quantity, value + quantity * price, second
            oi += int(rng.integers(-3, 5)) * LOT
        row |= {"open": day_open, "high": high, "low": low}
        if listed.kind == "INDEX":
            yield {**row, "price_change": round(price - close, 2)}
            continue
        if yesterday is not None and not volume:
            row |= {name: yesterday[name] for name in ("open", "high", "low", "close", "volume_traded")}
        row |= {
            "volume_traded": row.get("volume_traded", volume),
            "last_traded_quantity": quantity,
            "average_traded_price": round(value / volume, 2) if volume else 0.0,
            "total_buy_quantity": 50 * LOT,
            "total_sell_quantity": 40 * LOT,
            "last_trade_time": last_trade * 10**6,
            "oi": oi if listed.expiry else 0,
            "oi_day_high": oi if listed.expiry else 0,
            "oi_day_low": 65_000 if listed.expiry else 0,
        }
        yield row | book


def _books(prices: Floats, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """One at each price: five levels on each side, in steps of a tick."""
    levels = np.arange(DEPTH_LEVELS) + rng.integers(1, 4, (len(prices), 1))
    columns: dict[str, NDArray[Any]] = {}
    for side, sign in (("bid", -1), ("ask", 1)):
        away = np.round(np.maximum(prices[:, None] + sign * 0.05 * levels, 0.05), 2)
        quantities, orders = rng.integers(1, 30, away.shape) * LOT, rng.integers(1, 9, away.shape)
        for what, values in (("price", away), ("quantity", quantities), ("orders", orders)):
            columns |= {f"{side}_{what}_{level + 1}": values[:, level] for level in range(DEPTH_LEVELS)}
    for row in zip(*(column.tolist() for column in columns.values()), strict=True):
        yield dict(zip(columns, row, strict=True))
