"""What a Kite packet is: the five layouts, the columns that each carries, the segments, the price divisors; and why
bytes are none.

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

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storage.market import EXCHANGE_BY_SEGMENT, UNKNOWN_EXCHANGE, exchange_of_token
from storage.memory import Mode as Mode
from storage.schema import DEPTH_LEVELS

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


_ALL: Final = frozenset(LAYOUTS)
_QUOTED: Final = frozenset({QUOTE.length, FULL.length})
INDEX_LENGTHS: Final = frozenset({INDEX_QUOTE.length, INDEX_FULL.length})
_FULL: Final = frozenset({FULL.length})

# In the rows that packets are brought into, the words are those of a full packet, then the one that only index packets
# have. Behind them comes a row that is always zero, for what a packet does not carry.
CHANGE_WORD: Final = FULL.length // WORD_BYTES
ROW_WORDS: Final = CHANGE_WORD + 1
ZERO_WORD: Final = ROW_WORDS
INDEX_WORDS: Final = (0, 1, 8, 9, 7, 10, CHANGE_WORD, 15)
"""What each word of an index packet is in a row: high, low, open, close come in another order."""


@dataclass(frozen=True)
class ColumnGroup:
    """Columns that stand or fall together, and the word of a row that each comes from."""

    columns: tuple[str, ...]
    words: tuple[int, ...]
    carried_by: frozenset[int]

    def only(self, wanted: Collection[str]) -> "ColumnGroup":
        """The same with those of the columns that are wanted."""
        kept = [(column, word) for column, word in zip(self.columns, self.words, strict=True) if column in wanted]
        return ColumnGroup(tuple(column for column, _ in kept), tuple(word for _, word in kept), self.carried_by)


def _group(columns: tuple[str, ...], first: int, carried_by: frozenset[int], step: int = 1) -> ColumnGroup:
    """Columns of the words `first`, `first + step`, …"""
    return ColumnGroup(columns, tuple(range(first, first + step * len(columns), step)), carried_by)


def _level_columns(what: str) -> tuple[str, ...]:
    return tuple(f"{side}_{what}_{level}" for side in ("bid", "ask") for level in range(1, DEPTH_LEVELS + 1))


PRICES: Final = (
    _group(("last_price",), 1, _ALL),
    _group(("average_traded_price",), 3, _QUOTED),
    _group(("open", "high", "low", "close"), 7, _QUOTED | INDEX_LENGTHS),
    _group(_level_columns("price"), 17, _FULL, 3),
    _group(("price_change",), CHANGE_WORD, INDEX_LENGTHS),
)
TIMES: Final = (
    _group(("last_trade_time",), 11, _FULL),
    _group(("exchange_timestamp",), 15, _FULL | {INDEX_FULL.length}),
)
TIME_COLUMNS: Final = frozenset(column for group in TIMES for column in group.columns)
COUNTS: Final = (
    _group(("instrument_token",), 0, _ALL),
    _group(("last_traded_quantity",), 2, _QUOTED),
    _group(("volume_traded", "total_buy_quantity", "total_sell_quantity"), 4, _QUOTED),
    _group(("oi", "oi_day_high", "oi_day_low"), 12, _FULL),
    _group(_level_columns("quantity"), 16, _FULL, 3),
)
ORDERS: Final = (_group(_level_columns("orders"), 18, _FULL, 3),)
PACKET_COLUMNS: Final = tuple(c for group in (*PRICES, *TIMES, *COUNTS, *ORDERS) for c in group.columns)
"""The columns of the ticks table that `decode_packets` fills."""


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


KEPT_PACKETS: Final = 4096
"""So many packets at most, of frames that are alike, are told of by arrays that are kept."""
_Places = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def places_alike(frames: int, count: int, length: int) -> _Places:
    """Of the packets of frames that lie end to end, each of `count` packets of one length: offsets, lengths, and which
    frame each is in. int64, and not to be changed."""
    packets = frames * count
    if packets > KEPT_PACKETS:
        return _made_alike(frames, count, length)
    offsets, lengths, members = _kept_alike(count, length)
    return offsets[:packets], lengths[:packets], members[:packets]


@lru_cache(maxsize=32)
def _kept_alike(count: int, length: int) -> _Places:
    """Those of fewer frames are the first of these: what is read together is as a rule little, and soon of a size that
    was made before."""
    made = _made_alike(KEPT_PACKETS // count, count, length)
    for array in made:
        array.flags.writeable = False
    return made


def _made_alike(frames: int, count: int, length: int) -> _Places:
    stride = length + PREFIX_BYTES
    members = np.arange(frames)
    offsets = members * (PREFIX_BYTES + count * stride) + 2 * PREFIX_BYTES
    if count > 1:
        offsets = (offsets[:, None] + np.arange(0, count * stride, stride)).ravel()
        members = members.repeat(count)
    return offsets, np.full(len(offsets), length), members
