"""Packets as the dictionaries of the official client."""

from datetime import datetime
from typing import Any

from ingest.wire import decode_packet, split_frame
from storage.market import exchange_of_token
from storage.schema import DEPTH_LEVELS

Tick = dict[str, Any]


def ticks_of(frame: bytes) -> list[Tick]:
    """A frame's packets as the official client's dictionaries."""
    return [_tick(decode_packet(packet)) for packet in split_frame(frame)[0]]


def _tick(row: dict[str, Any]) -> Tick:
    tick: Tick = {
        "tradable": exchange_of_token(row["instrument_token"]) != "INDICES",
        "mode": row["mode"],
        "instrument_token": row["instrument_token"],
        "last_price": row["last_price"],
    }
    totals = ("last_traded_quantity", "average_traded_price", "volume_traded", "total_buy_quantity")
    for name in (*totals, "total_sell_quantity", "oi", "oi_day_high", "oi_day_low"):
        if name in row:
            tick[name] = row[name]
    if "close" in row:
        close = row["close"]
        tick["ohlc"] = {name: row[name] for name in ("open", "high", "low", "close")}
        tick["change"] = (row["last_price"] - close) * 100 / close if close else 0
    for name in ("last_trade_time", "exchange_timestamp"):
        if name in row:
            tick[name] = _naive(row[name])
    if "bid_price_1" in row:
        tick["depth"] = {"buy": _levels(row, "bid"), "sell": _levels(row, "ask")}
    return tick


def _naive(moment: datetime | None) -> datetime | None:
    """The time on the host's clock, as the official client has it."""
    return None if moment is None else moment.astimezone().replace(tzinfo=None)


def _levels(row: dict[str, Any], side: str) -> list[dict[str, Any]]:
    return [
        {what: row[f"{side}_{what}_{level}"] for what in ("quantity", "price", "orders")}
        for level in range(1, DEPTH_LEVELS + 1)
    ]
