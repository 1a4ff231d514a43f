"""A tick as an object, and as the official client's dictionary: what the stream and the lake give alike. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from storage.memory.mode import Mode
from storage.schema import DEPTH_LEVELS

_TOTALS: Final = (
    *("last_traded_quantity", "average_traded_price", "volume_traded", "total_buy_quantity", "total_sell_quantity"),
    *("oi", "oi_day_high", "oi_day_low"),
)


@dataclass(frozen=True, slots=True)
class Level:
    """One level of market depth; the price in rupees."""

    price: float
    quantity: int
    orders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One packet, with the names and units of the ticks table (docs/data-dictionary.md). Times are in IST.

    What its mode does not carry is None; `bids` and `asks` are empty then, else the five levels, best first.
    """

    account: str
    connection: int
    received_at: datetime
    exchange: str
    instrument_token: int
    mode: Mode
    last_price: float
    last_traded_quantity: int | None = None
    average_traded_price: float | None = None
    volume_traded: int | None = None
    total_buy_quantity: int | None = None
    total_sell_quantity: int | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    price_change: float | None = None
    last_trade_time: datetime | None = None
    oi: int | None = None
    oi_day_high: int | None = None
    oi_day_low: int | None = None
    exchange_timestamp: datetime | None = None
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()


def levels_of(row: Mapping[str, Any], side: str) -> tuple[Level, ...]:
    """One side of a row's book, `bid` or `ask`, best first; empty if its packet carries none."""
    if row.get(f"{side}_price_1") is None:
        return ()
    return tuple(
        Level(*(row[f"{side}_{what}_{level}"] for what in ("price", "quantity", "orders")))
        for level in range(1, DEPTH_LEVELS + 1)
    )


def tick_dict(row: Mapping[str, Any]) -> dict[str, Any]:
    """The official client's dictionary of a row of ticks, whose columns are missing or None where the packet carries
    none. Its times are on the host's clock, without a zone."""
    tick: dict[str, Any] = {
        "tradable": row["exchange"] != "INDICES",
        "mode": str(row["mode"]),
        "instrument_token": row["instrument_token"],
        "last_price": row["last_price"],
    }
    tick |= {name: row[name] for name in _TOTALS if row.get(name) is not None}
    if (close := row.get("close")) is not None:
        tick["ohlc"] = {name: row[name] for name in ("open", "high", "low", "close")}
        tick["change"] = (row["last_price"] - close) * 100 / close if close else 0
    if row["mode"] == Mode.FULL:
        if "volume_traded" in tick:
            tick["last_trade_time"] = _naive(row["last_trade_time"])
        tick["exchange_timestamp"] = _naive(row["exchange_timestamp"])
    if bids := levels_of(row, "bid"):
        tick["depth"] = {"buy": _entries(bids), "sell": _entries(levels_of(row, "ask"))}
    return tick


def _naive(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone().replace(tzinfo=None)


def _entries(levels: tuple[Level, ...]) -> list[dict[str, Any]]:
    return [{"quantity": each.quantity, "price": each.price, "orders": each.orders} for each in levels]
