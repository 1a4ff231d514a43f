"""Packets as the dictionaries of the official client: what `tick_dict` makes of a packet, in one go.

Scripts read whole dictionaries, so every field is made: one unpacking for each packet, by a table of the layouts.
"""

import struct
import time
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from ingest.wire import DIVISORS, packets_in
from storage.clock import NS_PER_SECOND, ist_time
from storage.schema import DEPTH_LEVELS

Tick = dict[str, Any]

_LTP: Final = struct.Struct(">Ii")
_INDEX: Final = struct.Struct(">I5i")
_INDEX_FULL: Final = struct.Struct(">I5i4xI")
_QUOTE: Final = struct.Struct(">IiIiIII4i")
_FULL: Final = struct.Struct(">IiIiIII4i5I" + 2 * DEPTH_LEVELS * "IiHxx")
_INDICES: Final = 9
"""The segment byte of indices, which nobody trades."""
_DEPTH_AT: Final = 16
"""The word of a full packet at which its book begins: quantity, price and orders, five bids, then five asks."""
_REMEMBERED: Final = 4096


def ticks_of(frame: bytes) -> list[Tick]:
    """A frame's packets as the official client's dictionaries."""
    return [_TICK_OF[len(packet)](packet) for packet in packets_in(frame)]


def _ltp(packet: bytes) -> Tick:
    token, last = _LTP.unpack(packet)
    segment = packet[3]
    return {
        "tradable": segment != _INDICES,
        "mode": "ltp",
        "instrument_token": token,
        "last_price": last / DIVISORS[segment],
    }


def _index(packet: bytes) -> Tick:
    return _index_tick("quote", packet[3], *_INDEX.unpack_from(packet))


def _index_full(packet: bytes) -> Tick:
    *words, at = _INDEX_FULL.unpack(packet)
    tick = _index_tick("full", packet[3], *words)
    tick["exchange_timestamp"] = _host_time(at, time.tzname)
    return tick


def _index_tick(mode: str, segment: int, token: int, last: int, high: int, low: int, open_: int, close: int) -> Tick:
    divisor = DIVISORS[segment]
    last_price, close_price = last / divisor, close / divisor
    return {
        "tradable": segment != _INDICES,
        "mode": mode,
        "instrument_token": token,
        "last_price": last_price,
        "ohlc": {"open": open_ / divisor, "high": high / divisor, "low": low / divisor, "close": close_price},
        "change": (last_price - close_price) * 100 / close_price if close else 0,
    }


def _quote(packet: bytes) -> Tick:
    return _quote_tick("quote", packet[3], *_QUOTE.unpack(packet))


def _quote_tick(
    mode: str,
    segment: int,
    token: int,
    last: int,
    quantity: int,
    average: int,
    volume: int,
    buy: int,
    sell: int,
    open_: int,
    high: int,
    low: int,
    close: int,
) -> Tick:
    divisor = DIVISORS[segment]
    last_price, close_price = last / divisor, close / divisor
    return {
        "tradable": segment != _INDICES,
        "mode": mode,
        "instrument_token": token,
        "last_price": last_price,
        "last_traded_quantity": quantity,
        "average_traded_price": average / divisor,
        "volume_traded": volume,
        "total_buy_quantity": buy,
        "total_sell_quantity": sell,
        "ohlc": {"open": open_ / divisor, "high": high / divisor, "low": low / divisor, "close": close_price},
        "change": (last_price - close_price) * 100 / close_price if close else 0,
    }


def _full(packet: bytes) -> Tick:
    words = _FULL.unpack(packet)
    segment = packet[3]
    tick = _quote_tick("full", segment, *words[:11])
    traded, tick["oi"], tick["oi_day_high"], tick["oi_day_low"], at = words[11:_DEPTH_AT]
    tick["last_trade_time"] = _host_time(traded, time.tzname)
    tick["exchange_timestamp"] = _host_time(at, time.tzname)
    divisor = DIVISORS[segment]
    entries = [
        {"quantity": words[word], "price": words[word + 1] / divisor, "orders": words[word + 2]}
        for word in range(_DEPTH_AT, len(words), 3)
    ]
    tick["depth"] = {"buy": entries[:DEPTH_LEVELS], "sell": entries[DEPTH_LEVELS:]}
    return tick


@lru_cache(_REMEMBERED)
def _host_time(seconds: int, zone: tuple[str, str]) -> datetime | None:
    """On the host's clock, whose `zone` is `time.tzname`: it may be set anew, but not between two ticks of a second."""
    return ist_time(seconds * NS_PER_SECOND).astimezone().replace(tzinfo=None) if seconds else None


_TICK_OF: Final[dict[int, Callable[[bytes], Tick]]] = {
    8: _ltp,
    28: _index,
    32: _index_full,
    44: _quote,
    184: _full,
}
