"""Rows to draw, of a few instruments on 2026-11-13, and what a picture of them holds."""

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from storage.clock import IST

DAY: Final = dt.date(2026, 11, 13)
TIME: Final = pa.timestamp("us", "UTC")
"""Not IST, so that a picture has to convert it."""


def at(clock: str, day: dt.date = DAY) -> dt.datetime:
    return dt.datetime.combine(day, dt.time.fromisoformat(clock), IST)


def bars(
    *rows: tuple[str, float | None, float | None, float | None, float | None, int | None],
    symbol: str = "NSE:INFY",
    day: dt.date = DAY,
) -> pa.Table:
    """Bars by clock time, open, high, low, close and volume."""
    times, opened, high, low, close, volume = zip(*rows, strict=True) if rows else ((),) * 6
    columns = {
        "symbol": pa.array([symbol] * len(rows), pa.string()),
        "time": pa.array([at(time, day) for time in times], TIME),
        **{
            name: pa.array(values, pa.float64())
            for name, values in (("open", opened), ("high", high), ("low", low), ("close", close))
        },
        "volume": pa.array(volume, pa.int64()),
        "clock": pa.array(["last_trade_time"] * len(rows), pa.string()),
    }
    return pa.table(columns)


def intervals(*rows: tuple[str, str, str, str]) -> pa.Table:
    """The states of instruments by symbol, start, stop and state."""
    symbols, starts, stops, states = zip(*rows, strict=True) if rows else ((),) * 4
    return pa.table(
        {
            "symbol": pa.array(symbols, pa.string()),
            "start": pa.array([at(time) for time in starts], TIME),
            "stop": pa.array([at(time) for time in stops], TIME),
            "state": pa.array(states, pa.string()),
        }
    )


def book(
    bids: Sequence[tuple[float | None, int | None]],
    asks: Sequence[tuple[float | None, int | None]],
    symbol: str = "NSE:INFY",
) -> pa.Table:
    """A book of so many levels, each a price and a quantity."""
    count = len(bids)
    columns: dict[str, Any] = {
        "moment": pa.array([at("10:15")] * count, TIME),
        "received_at": pa.array([at("10:14:59")] * count, TIME),
        "symbol": pa.array([symbol] * count, pa.string()),
        "level": pa.array(range(1, count + 1), pa.int32()),
    }
    for side, levels in (("bid", bids), ("ask", asks)):
        columns[f"{side}_price"] = pa.array([price for price, _ in levels], pa.float64())
        columns[f"{side}_quantity"] = pa.array([quantity for _, quantity in levels], pa.int64())
        columns[f"{side}_orders"] = pa.array([None if quantity is None else 3 for _, quantity in levels], pa.int64())
    return pa.table(columns)


def chain(*rows: tuple[float, float | None, int | None, float | None, int | None]) -> pa.Table:
    """An option chain by strike, volatility and open interest of the call, and of the put."""
    strikes, call_iv, call_oi, put_iv, put_oi = zip(*rows, strict=True) if rows else ((),) * 5
    count = len(rows)
    nothing = pa.nulls(count, pa.float64())
    return pa.table(
        {
            "moment": pa.array([at("10:15")] * count, TIME),
            "underlying": pa.array(["NFO:NIFTY"] * count, pa.string()),
            "expiry": pa.array([dt.date(2026, 11, 17)] * count, pa.date32()),
            "strike": pa.array(strikes, pa.float64()),
            "forward": pa.array([24_450.5] * count, pa.float64()),
            "forward_from": pa.array(["future"] * count, pa.string()),
            "call_iv": pa.array(call_iv, pa.float64()),
            "call_oi": pa.array(call_oi, pa.int64()),
            "put_iv": pa.array(put_iv, pa.float64()),
            "put_oi": pa.array(put_oi, pa.int64()),
            **{f"{side}_{name}": nothing for side in ("call", "put") for name in ("bid", "ask")},
        }
    )


def latency(*rows: tuple[int, str, float]) -> pa.Table:
    """Latencies by connection, clock time and median; the others are twice and four times that."""
    numbers, times, medians = zip(*rows, strict=True) if rows else ((),) * 3
    return pa.table(
        {
            "account": pa.array(["mine"] * len(rows), pa.string()),
            "connection": pa.array(numbers, pa.int64()),
            "time": pa.array([at(time) for time in times], TIME),
            **{
                f"p{percent}_seconds": pa.array([each * times for each in medians], pa.float64())
                for percent, times in ((50, 1), (90, 2), (99, 4))
            },
        }
    )


def labelled(svg: str, label: str) -> int:
    """How many marks of an SVG are called that."""
    return len(re.findall(f'aria-label="{re.escape(label)}"', svg))


def marks(svg: str, role: str) -> int:
    """How many marks of a kind an SVG has."""
    return len(re.findall(f'aria-roledescription="{re.escape(role)}"', svg))


def texts(svg: str) -> list[str]:
    """What is written in an SVG."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)
