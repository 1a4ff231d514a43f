"""What a Kite packet is: the five layouts, the segments, the price divisors; and why bytes are none.

A packet is a run of big-endian words of four bytes, told apart by its length alone:

    8    ltp          token, last_price
    28   index quote  token, last_price, high, low, open, close, price_change
    32   index full   index quote, exchange_timestamp
    44   quote        token, last_price, last_traded_quantity, average_traded_price, volume_traded,
                      total_buy_quantity, total_sell_quantity, open, high, low, close
    184  full         quote, last_trade_time, oi, oi_day_high, oi_day_low, exchange_timestamp, then ten depth entries
                      of 12 bytes (quantity, price, u16 orders, two bytes of padding): five bids, five asks

Prices are int32 in units of 1 / divisor rupees, all other words uint32. Index packets order their prices high, low,
open, close, the others open, high, low, close. The token's last byte names the segment: it gives exchange and divisor.

Source: Kite Connect v3 streaming docs, and the official clients where those are silent (BCD and CDS divisors:
pykiteconnect, gokiteconnect; NCO: pykiteconnect 5). That prices are signed is in the docs and the Java and JS clients.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storage.market import EXCHANGE_BY_SEGMENT, UNKNOWN_EXCHANGE, exchange_of_token
from storage.mode import Mode as Mode

MODES: Final = tuple(mode.value for mode in Mode)

EXCHANGES: Final = (UNKNOWN_EXCHANGE, *EXCHANGE_BY_SEGMENT.values())

DEFAULT_DIVISOR: Final = 100
DIVISOR_BY_EXCHANGE: Final = {"CDS": 10_000_000, "BCD": 10_000, "NCO": 10_000}

WORD_BYTES: Final = 4
US_PER_SECOND: Final = 1_000_000
"""Times in packets are whole seconds since the epoch, those of the ticks table microseconds."""
PREFIX_BYTES: Final = 2
"""A big-endian uint16 stands before the packets (their number) and before each packet (its length)."""

_PRICE: Final = ">i4"
_COUNT: Final = ">u4"
_TOKEN: Final = [("instrument_token", _COUNT), ("last_price", _PRICE)]
_INDEX: Final = [*_TOKEN, *((name, _PRICE) for name in ("high", "low", "open", "close", "price_change"))]
_QUOTE: Final = [
    *_TOKEN,
    ("last_traded_quantity", _COUNT),
    ("average_traded_price", _PRICE),
    *((name, _COUNT) for name in ("volume_traded", "total_buy_quantity", "total_sell_quantity")),
    *((name, _PRICE) for name in ("open", "high", "low", "close")),
]

DEPTH_DTYPE: Final = np.dtype([("quantity", ">u4"), ("price", ">i4"), ("orders", ">u2"), ("padding", ">u2")])
LTP_DTYPE: Final = np.dtype(_TOKEN)
INDEX_QUOTE_DTYPE: Final = np.dtype(_INDEX)
INDEX_FULL_DTYPE: Final = np.dtype([*_INDEX, ("exchange_timestamp", _COUNT)])
QUOTE_DTYPE: Final = np.dtype(_QUOTE)
FULL_DTYPE: Final = np.dtype(
    [
        *_QUOTE,
        *((name, _COUNT) for name in ("last_trade_time", "oi", "oi_day_high", "oi_day_low", "exchange_timestamp")),
        ("depth", DEPTH_DTYPE, (2, 5)),
    ]
)
"""`depth[0]` are the bids and `depth[1]` the asks, best first."""


@dataclass(frozen=True)
class Layout:
    """One of the five kinds of packet. `dtype` is a numpy structured type of exactly `length` bytes."""

    name: str
    mode: str
    dtype: np.dtype[Any]

    @property
    def length(self) -> int:
        """Bytes of such a packet."""
        return self.dtype.itemsize


LTP: Final = Layout("ltp", "ltp", LTP_DTYPE)
INDEX_QUOTE: Final = Layout("index quote", "quote", INDEX_QUOTE_DTYPE)
INDEX_FULL: Final = Layout("index full", "full", INDEX_FULL_DTYPE)
QUOTE: Final = Layout("quote", "quote", QUOTE_DTYPE)
FULL: Final = Layout("full", "full", FULL_DTYPE)

LAYOUTS: Final = {layout.length: layout for layout in (LTP, INDEX_QUOTE, INDEX_FULL, QUOTE, FULL)}
"""The layouts by length of packet."""


class QuarantineReason(IntEnum):
    """Why bytes are quarantined."""

    EMPTY_FRAME = 0
    MISSING_PACKETS = 1
    TRUNCATED_PACKET = 2
    UNKNOWN_LENGTH = 3
    TRAILING_BYTES = 4

    @property
    def text(self) -> str:
        """As in the `reason` column of the quarantine table: `truncated packet`."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Quarantined:
    """`length` bytes from `offset` of frame number `frame` that are no good packet; `length` may be 0."""

    frame: int
    offset: int
    length: int
    reason: QuarantineReason


@dataclass(frozen=True)
class WireReport:
    """Where every byte of some frames went. `accounted_bytes == total_bytes`, always."""

    frames: int
    total_bytes: int
    heartbeats: int
    header_bytes: int
    prefix_bytes: int
    packets: int
    packet_bytes: int
    quarantined: tuple[Quarantined, ...]
    unknown_segments: int
    """Good packets whose token names no exchange that we know; they are rows, of exchange `UNKNOWN`."""

    @property
    def quarantined_bytes(self) -> int:
        """Bytes of all quarantined ranges together."""
        return sum(q.length for q in self.quarantined)

    @property
    def accounted_bytes(self) -> int:
        """Each heartbeat is one byte."""
        return self.header_bytes + self.prefix_bytes + self.packet_bytes + self.quarantined_bytes + self.heartbeats


def divisor_of(token: int) -> int:
    """What an instrument's wire prices are divided by to give rupees."""
    return DIVISOR_BY_EXCHANGE.get(exchange_of_token(token), DEFAULT_DIVISOR)


def _lookup(dtype: str, values: list[int]) -> NDArray[Any]:
    table = np.array(values, dtype)
    table.flags.writeable = False
    return table


KNOWN_LENGTH: Final[NDArray[np.bool_]] = _lookup("bool", [int(length in LAYOUTS) for length in range(65536)])
"""By length, for every uint16: whether a packet of that length has a layout."""
MODE_CODE: Final[NDArray[np.int8]] = _lookup(
    "int8", [MODES.index(LAYOUTS[length].mode) if length in LAYOUTS else -1 for length in range(FULL.length + 1)]
)
"""By length, up to the longest packet: the place of the mode in `MODES`."""
EXCHANGE_CODE: Final[NDArray[np.int8]] = _lookup(
    "int8", [EXCHANGES.index(exchange_of_token(byte)) for byte in range(256)]
)
"""By segment byte: the place of the exchange in `EXCHANGES`; 0 is `UNKNOWN`."""
DIVISOR: Final[NDArray[np.float64]] = _lookup("float64", [divisor_of(byte) for byte in range(256)])
"""By segment byte."""
