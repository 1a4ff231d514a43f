"""Packets to columns of the ticks table, without a Python loop over packets.

Packets are taken in blocks of a few thousand, small enough for the processor's cache. A block is first brought into
rows of big-endian words, all in the order of the full packet, then each group of columns is filled by one transposing
assignment that also swaps and widens. Prices are divided by their divisor, never multiplied by its reciprocal: only
division gives the double nearest to the decimal price, so that `round(price * divisor)` is the wire's integer again.

Under a null stands 0, so equal packets give equal buffers. What only some layouts carry has a validity bitmap, and
columns that the same layouts carry share one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.errors import WireError
from ingest.wire.layouts import (
    DIVISOR,
    EXCHANGE_CODE,
    EXCHANGES,
    FULL,
    INDEX_FULL,
    INDEX_QUOTE,
    LAYOUTS,
    MODE_CODE,
    MODES,
    QUOTE,
    WORD_BYTES,
)
from ingest.wire.walk import Ints, Walk, WireReport, walk
from storage.schema import DEPTH_LEVELS, TICKS, TIMESTAMP

BLOCK_PACKETS: Final = 2048
"""A block of full packets is 370 kB: it stays in the second-level cache while its columns are taken out."""

NS_PER_US: Final = 1_000
US_PER_SECOND: Final = 1_000_000
NS_PER_DAY: Final = 86_400 * 10**9
IST_OFFSET_NS: Final = (5 * 60 + 30) * 60 * 10**9
"""India is at UTC+5:30 all the year round."""

_ALL: Final = frozenset(LAYOUTS)
_QUOTED: Final = frozenset({QUOTE.length, FULL.length})
_INDEX: Final = frozenset({INDEX_QUOTE.length, INDEX_FULL.length})
_FULL: Final = frozenset({FULL.length})

# A row of words is a full packet, with the one word behind it that only index packets have.
_CHANGE_WORD: Final = FULL.length // WORD_BYTES
_ROW_WORDS: Final = _CHANGE_WORD + 1
_INDEX_TARGETS: Final = {
    INDEX_QUOTE.length: np.array([0, 1, 8, 9, 7, 10, _CHANGE_WORD]),
    INDEX_FULL.length: np.array([0, 1, 8, 9, 7, 10, _CHANGE_WORD, 15]),
}
"""Which word of a row each word of an index packet becomes."""


@dataclass(frozen=True)
class _Group:
    """Columns that come from words `start`, `start + step`, … of a row and stand or fall together."""

    columns: tuple[str, ...]
    kind: str
    start: int
    carried_by: frozenset[int]
    step: int = 1

    @property
    def stop(self) -> int:
        return self.start + self.step * (len(self.columns) - 1) + 1


def _levels(what: str) -> tuple[str, ...]:
    return tuple(f"{side}_{what}_{level}" for side in ("bid", "ask") for level in range(1, DEPTH_LEVELS + 1))


_GROUPS: Final = (
    _Group(("instrument_token",), "count", 0, _ALL),
    _Group(("last_price",), "price", 1, _ALL),
    _Group(("last_traded_quantity",), "count", 2, _QUOTED),
    _Group(("average_traded_price",), "price", 3, _QUOTED),
    _Group(("volume_traded", "total_buy_quantity", "total_sell_quantity"), "count", 4, _QUOTED),
    _Group(("open", "high", "low", "close"), "price", 7, _QUOTED | _INDEX),
    _Group(("last_trade_time",), "time", 11, _FULL),
    _Group(("oi", "oi_day_high", "oi_day_low"), "count", 12, _FULL),
    _Group(("exchange_timestamp",), "time", 15, _FULL | {INDEX_FULL.length}),
    _Group(_levels("quantity"), "count", 16, _FULL, 3),
    _Group(_levels("price"), "price", 17, _FULL, 3),
    _Group(_levels("orders"), "orders", 18, _FULL, 3),
    _Group(("price_change",), "price", _CHANGE_WORD, _INDEX),
)
PACKET_COLUMNS: Final = tuple(column for group in _GROUPS for column in group.columns)
"""The columns of the ticks table that `decode_packets` fills."""


@dataclass(frozen=True, eq=False)
class Packets:
    """Good packets in `payload`, in any order: offsets of their first bytes and their lengths, int64."""

    payload: NDArray[np.uint8]
    offsets: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def segments(self) -> NDArray[np.uint8]:
        """The segment byte of each: the last of its token."""
        segments: NDArray[np.uint8] = self.payload.take(self.offsets + 3)
        return segments

    @cached_property
    def exchanges(self) -> NDArray[np.int8]:
        """Places in `layouts.EXCHANGES`."""
        codes: NDArray[np.int8] = EXCHANGE_CODE.take(self.segments)
        return codes

    def take(self, order: Ints) -> "Packets":
        return Packets(self.payload, self.offsets.take(order), self.lengths.take(order))


def packets_of(found: Walk) -> Packets:
    """The good packets of a walk, in wire order."""
    return Packets(found.payload, found.offsets, found.lengths)


def decode_packets(packets: Packets) -> dict[str, pa.Array]:
    """The columns `PACKET_COLUMNS`, each as long as `packets` and in its order, of the ticks table's types."""
    n = len(packets)
    counts = np.bincount(packets.lengths, minlength=FULL.length + 1)
    present = frozenset(length for length in LAYOUTS if counts[length])
    divisors = DIVISOR.take(packets.segments)
    outputs = [_Output(group, n) for group in _GROUPS if group.carried_by & present]
    rows = _Rows(packets, present)
    for low in range(0, n, BLOCK_PACKETS):
        high = min(low + BLOCK_PACKETS, n)
        words = rows.block(low, high)
        block_divisors: NDArray[np.float64] | float = divisors[low:high]
        if divisors[low:high].min() == divisors[low:high].max():
            block_divisors = float(divisors[low])
        for output in outputs:
            output.fill(words, low, high, block_divisors)

    bitmaps = _Bitmaps(packets.lengths, present)
    columns: dict[str, pa.Array] = {}
    for output in outputs:
        columns.update(output.arrays(bitmaps))
    for group in _GROUPS:
        for column in group.columns:
            if column not in columns:
                columns[column] = pa.nulls(n, TICKS.schema.field(column).type)
    return columns


class _Rows:
    """Brings packets into rows of big-endian words in the order of the full packet, a block at a time."""

    def __init__(self, packets: Packets, present: frozenset[int]) -> None:
        self._offsets = packets.offsets
        self._lengths = packets.lengths
        self._present = present
        # A window for each length: element i is the packet that would begin at byte i. One fancy index over it
        # copies each packet whole.
        payload = packets.payload
        self._windows = {
            length: np.ndarray((len(payload) - length + 1,), f"V{length}", payload, strides=(1,)) for length in present
        }
        self._scratch: NDArray[Any] | None = None

    def block(self, low: int, high: int) -> NDArray[Any]:
        """Packets low to high as (high - low, words) '>i4'. Words that no packet of the block has may be left out."""
        offsets, lengths = self._offsets[low:high], self._lengths[low:high]
        only = int(lengths[0])
        if only not in _INDEX_TARGETS and (len(self._present) == 1 or bool(np.all(lengths == only))):
            return self._windows[only][offsets].view(">i4").reshape(len(offsets), -1)
        if self._scratch is None:
            self._scratch = np.empty((BLOCK_PACKETS, _ROW_WORDS), ">i4")
        rows = self._scratch[: len(offsets)]
        rows[:] = 0
        for length, window in self._windows.items():
            places = np.flatnonzero(lengths == length)
            packets = window[offsets[places]]
            targets = _INDEX_TARGETS.get(length)
            if targets is not None:
                rows[places[:, None], targets] = packets.view(">i4").reshape(len(places), -1)
            else:
                # The front of each row, seen as one element of the packet's size.
                fronts = np.ndarray((len(rows),), f"V{length}", rows, strides=(rows.strides[0],))
                fronts[places] = packets
        return rows


class _Output:
    """The memory of one group's columns, which are slices of one Arrow buffer."""

    def __init__(self, group: _Group, n: int) -> None:
        self._group = group
        self._n = n
        self._stride = -(-n // 8) * 8  # each column begins at a multiple of 64 bytes, as Arrow recommends
        width = len(group.columns)
        # From Arrow's pool, which keeps the memory of dropped tables: fresh pages cost as much as filling them.
        self._buffer = pa.allocate_buffer(width * self._stride * 8)
        dtype = np.float64 if group.kind == "price" else np.int64
        self._values: NDArray[Any] = np.frombuffer(self._buffer, dtype).reshape(width, self._stride)

    def fill(self, words: NDArray[Any], low: int, high: int, divisors: NDArray[np.float64] | float) -> None:
        group, target = self._group, self._values[:, low:high]
        if group.stop > words.shape[1]:
            target[:] = 0
        elif group.kind == "price":
            target[:] = words[:, group.start : group.stop : group.step].T
            target /= divisors
        elif group.kind == "orders":
            target[:] = words.view(">u2")[:, 2 * group.start : 2 * group.stop : 2 * group.step].T
        else:
            target[:] = words.view(">u4")[:, group.start : group.stop : group.step].T
            if group.kind == "time":
                target *= US_PER_SECOND

    def arrays(self, bitmaps: "_Bitmaps") -> dict[str, pa.Array]:
        arrays = {}
        for row, column in enumerate(self._group.columns):
            values = self._buffer.slice(row * self._stride * 8, self._n * 8)
            if self._group.kind == "time":
                validity, nulls = bitmaps.nonzero(self._values[row, : self._n])
            else:
                validity, nulls = bitmaps.carried_by(self._group.carried_by)
            kind = TICKS.schema.field(column).type
            arrays[column] = pa.Array.from_buffers(kind, self._n, [validity, values], nulls)
        return arrays


class _Bitmaps:
    """Validity bitmaps with their null counts, each made once."""

    def __init__(self, lengths: Ints, present: frozenset[int]) -> None:
        self._lengths = lengths
        self._present = present
        self._made: dict[frozenset[int], tuple[pa.Buffer | None, int]] = {}

    def carried_by(self, layouts: frozenset[int]) -> tuple[pa.Buffer | None, int]:
        carrying = layouts & self._present
        if carrying == self._present:
            return None, 0
        if carrying not in self._made:
            valid = np.zeros(len(self._lengths), np.bool_)
            for length in carrying:
                valid |= self._lengths == length
            self._made[carrying] = _bitmap(valid)
        return self._made[carrying]

    def nonzero(self, values: Ints) -> tuple[pa.Buffer | None, int]:
        """Where there is a time. Packets without the field have 0 in its place."""
        return _bitmap(values != 0)


def _bitmap(valid: NDArray[np.bool_]) -> tuple[pa.Buffer | None, int]:
    nulls = len(valid) - int(np.count_nonzero(valid))
    return (pa.py_buffer(np.packbits(valid, bitorder="little")), nulls) if nulls else (None, 0)


def modes_of(packets: Packets) -> pa.DictionaryArray:
    """The mode of each packet, dictionary-encoded."""
    return pa.DictionaryArray.from_arrays(pa.array(MODE_CODE.take(packets.lengths)), pa.array(MODES))


def ist_days(received_at_ns: Ints) -> Ints:
    """Days since 1970-01-01 of the calendar in India, for nanoseconds since the epoch."""
    return (received_at_ns + IST_OFFSET_NS) // NS_PER_DAY


def microseconds(received_at_ns: Ints) -> pa.Array:
    """Nanoseconds since the epoch, truncated to the tables' timestamps."""
    return pa.array(received_at_ns // NS_PER_US).view(TIMESTAMP)


def decode_frames(frames: Sequence[bytes], *, received_at_ns: Sequence[int] | None = None) -> pa.Table:
    """The packets of some frames as a table in the ticks schema, one row a packet, in wire order.

    `received_at_ns`: one wall-clock time a frame, nanoseconds since the epoch; without it `received_at` and `date`
    are null. `stream`, `seq`, `account`, `connection` and `symbol` are null: they belong to the journal. Whatever the
    frames hold, this does not raise; see `decode_frames_with_report` for what was no packet. Raises WireError if the
    numbers of frames and times differ.
    """
    return decode_frames_with_report(frames, received_at_ns=received_at_ns)[0]


def decode_frames_with_report(
    frames: Sequence[bytes], *, received_at_ns: Sequence[int] | None = None
) -> tuple[pa.Table, WireReport]:
    """As `decode_frames`, with an account of every byte: good packets, quarantined ranges, heartbeats."""
    if received_at_ns is not None and len(received_at_ns) != len(frames):
        raise WireError(f"received_at_ns: got {len(received_at_ns)} times, expected {len(frames)}, one a frame")
    payload = np.frombuffer(b"".join(frames), np.uint8)
    found = walk(payload, np.fromiter(map(len, frames), np.int64, len(frames)))
    packets = packets_of(found)
    columns: dict[str, pa.Array] = decode_packets(packets)
    columns["mode"] = modes_of(packets).dictionary_decode()
    columns["exchange"] = pa.DictionaryArray.from_arrays(
        pa.array(packets.exchanges), pa.array(EXCHANGES)
    ).dictionary_decode()
    if received_at_ns is not None:
        received = np.asarray(received_at_ns, np.int64).take(found.packet_frames)
        columns["received_at"] = microseconds(received)
        columns["date"] = pa.array(ist_days(received).astype(np.int32)).view(pa.date32())
    schema = TICKS.schema
    arrays = [columns[f.name] if f.name in columns else pa.nulls(len(packets), f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema), found.report()
