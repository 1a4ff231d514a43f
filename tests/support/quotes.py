"""A service's journal with packets that say what a test wants of them."""

import datetime as dt
from typing import Any

import pyarrow as pa

from ingest.wire import encode_packets
from storage.schema import TICKS
from tests.support.reports import Stream

PRICE = 1500.0


class QuoteStream(Stream):
    """One run of the service, with packets of all modes."""

    def full(self, time: dt.datetime, token: int, exchange_time: dt.datetime, **values: Any) -> None:
        """A full packet; by default its last trade is of the same second."""
        dated = {"exchange_timestamp": exchange_time, "last_trade_time": exchange_time}
        self.packet(time, token, "full", **(dated | values))

    def packet(self, time: dt.datetime, token: int, mode: str, *, connection: int = 1, **values: Any) -> None:
        """A packet with these values and zeros; with a `price_change` it is one of an index."""
        row: dict[str, Any] = {field.name: 0 for field in TICKS.schema if field.type in (pa.int64(), pa.float64())}
        del row["price_change"]
        row |= {"instrument_token": token, "mode": mode, "last_price": PRICE} | values
        fields = [TICKS.schema.field(name) for name in row]
        self._frame(time, [frame_packet(row, fields)], connection)


def frame_packet(row: dict[str, Any], fields: list[pa.Field]) -> bytes:
    (packet,) = encode_packets(pa.Table.from_pylist([row], schema=pa.schema(fields)))
    return packet
