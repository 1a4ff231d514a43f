"""A service's journal with packets that say what a test wants of them."""

import datetime as dt
import json
import struct
from pathlib import Path
from typing import Any

from storage.journal import Kind
from tests.support.reports import INFY, Stream, at

NIFTY = 256265  # its last byte is 9: INDICES
PRICE = 1500.0
_QUOTE = ("last_traded_quantity", "average_traded_price", "volume_traded", "total_buy_quantity", "total_sell_quantity")
_FULL = ("last_trade_time", "oi", "oi_day_high", "oi_day_low", "exchange_timestamp")


class QuoteStream(Stream):
    """One run of the service, with packets of all modes."""

    def __init__(self, data: Path, begin: dt.datetime) -> None:
        super().__init__(data, begin)
        self.service(begin, "started")

    def full(self, time: dt.datetime, token: int, exchange_time: dt.datetime, **values: Any) -> None:
        """A full packet; by default its last trade is of the same second."""
        dated = {"exchange_timestamp": exchange_time, "last_trade_time": exchange_time}
        self.packet(time, token, "full", **(dated | values))

    def packet(self, time: dt.datetime, token: int, mode: str, *, connection: int = 1, **values: Any) -> None:
        """A packet with these values, the price and zeros; with a `price_change` it is one of an index."""
        prices = {"last_price": PRICE, "open": PRICE, "high": PRICE, "low": PRICE, "close": PRICE} | values
        if mode == "ltp":
            names: tuple[str, ...] = ("last_price",)
        elif "price_change" in values:
            names = ("last_price", "high", "low", "open", "close", "price_change")
            names += ("exchange_timestamp",) if mode == "full" else ()
        else:
            names = ("last_price", *_QUOTE, "open", "high", "low", "close", *(_FULL if mode == "full" else ()))
        words = [token, *(_word(prices.get(name, 0)) for name in names)]
        packet = struct.pack(f">{len(words)}I", *words)
        self._frame(time, [packet.ljust(184, b"\0") if len(words) > 11 else packet], connection)

    def frames_lost(self, time: dt.datetime, first: dt.datetime, last: dt.datetime, connection: int = 1) -> None:
        """What the service says once there is room again for frames."""
        first_ns, last_ns = (round(each.timestamp() * 1000) * 1_000_000 for each in (first, last))
        data = {"account": "asha", "connection": connection, "first_ns": first_ns, "last_ns": last_ns}
        self._append(Kind.EVENT, time, json.dumps({"event": "frames lost", "data": data}).encode(), 0)


def _word(value: Any) -> int:
    """As in the packet: prices, which are floats here, in paise."""
    if isinstance(value, dt.datetime):
        return int(value.timestamp())
    return round(value * 100) if isinstance(value, float) else int(value)


def live(stream: QuoteStream, begin: str, end: str, token: int = INFY, connection: int = 1) -> None:
    """A live packet every half minute, both times included."""
    time = at(begin)
    while time <= at(end):
        stream.full(time, token, time, connection=connection)
        time += dt.timedelta(seconds=30)


def lost(stream: QuoteStream, begin: str, end: str, connection: int = 1, tokens: tuple[int, ...] = (INFY,)) -> None:
    """The connection is lost and found again, and what it had is asked for anew."""
    stream.event(at(begin), "closed", connection, by="peer", reason="network")
    stream.event(at(end), "connected", connection, opening=2)
    stream.event(at(end), "subscribed", connection, tokens=list(tokens))
    stream.event(at(end), "resumed", connection, down_seconds=1.0)
