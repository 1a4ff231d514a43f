"""Packets to columns of the ticks table, without a Python loop over packets.

Packets are taken in blocks of a few thousand, small enough for the processor's cache. A block is first brought into
rows of big-endian words, all in the order of the full packet, then each group of columns is filled by one transposing
assignment that also swaps and widens. Prices are divided by their divisor, never multiplied by its reciprocal: only
division gives the double nearest to the decimal price, so that `round(price * divisor)` is the wire's integer again.

Under a null stands 0, so equal packets give equal buffers. What only some layouts carry has a validity bitmap, and
columns that the same layouts carry share one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.errors import WireError
from ingest.wire.layouts import (
    CHANGE_WORD,
    COUNTS,
    DIVISOR,
    EXCHANGES,
    FULL,
    INDEX_LENGTHS,
    INDEX_WORDS,
    LAYOUTS,
    MODE_CODE,
    MODES,
    ORDERS,
    PACKET_COLUMNS,
    PRICES,
    ROW_WORDS,
    TIME_COLUMNS,
    TIMES,
    US_PER_SECOND,
    WORD_BYTES,
    ZERO_WORD,
    ColumnGroup,
    WireReport,
)
from ingest.wire.walk import Ints, Packets, Walk, packets_of, walk_frames
from storage.clock import ist_days, microseconds
from storage.memory import BatchForm, are_alike, text, texts
from storage.schema import TICKS

BLOCK_BYTES: Final = 288 * 1024
"""What a block's packets may take, so that they and their words stay in the second-level cache."""
BLOCK_PACKETS: Final = 4096
"""The most packets of a block: more bring no speed, however small they are."""
FEW_WORDS: Final = 12
"""Fewer words of a packet than this are taken one by one; else all are, at once."""

_PACKET_COLUMNS: Final = frozenset(PACKET_COLUMNS)
_TYPES: Final = {field.name: field.type for field in TICKS.schema}


class Memory:
    """Memory for columns that is used again: they are valid until the next are decoded into it."""

    def __init__(self) -> None:
        self._buffers: dict[np.dtype[Any], pa.Buffer] = {}

    def buffer(self, dtype: np.dtype[Any], size: int) -> pa.Buffer:
        """At least `size` bytes."""
        if dtype not in self._buffers or self._buffers[dtype].size < size:
            self._buffers[dtype] = pa.allocate_buffer(size)
        return self._buffers[dtype]


def decode_packets(
    packets: Packets, columns: Collection[str] = PACKET_COLUMNS, memory: Memory | None = None
) -> dict[str, pa.Array]:
    """Those of `PACKET_COLUMNS` that are asked for, each as long as `packets` and in its order.

    They have the ticks table's types.
    """
    memory = memory or Memory()
    n = len(packets)
    plan = _plan(frozenset(columns), _present(packets))
    prices = _Output(plan.prices, np.dtype(np.float64), n, memory)
    integers = _Output(plan.integers, np.dtype(np.int64), n, memory)
    _fill(packets, plan, prices.values, integers.values)
    bitmaps = _Bitmaps(packets.lengths, plan.present)
    arrays = prices.arrays(bitmaps) | integers.arrays(bitmaps)
    for column in plan.missing:
        arrays[column] = pa.nulls(n, _TYPES[column])
    return arrays


def columns_without_null(packets: Packets) -> frozenset[str]:
    """Those of `PACKET_COLUMNS` in which each of these packets has a value because its layout carries it.

    Times are not among them: 0 is none.
    """
    return _without_null(_present(packets))


@lru_cache(maxsize=1 << len(LAYOUTS))
def _without_null(present: frozenset[int]) -> frozenset[str]:
    groups = (*PRICES, *COUNTS, *ORDERS)
    return frozenset(column for group in groups if group.carried_by >= present for column in group.columns)


def _present(packets: Packets) -> frozenset[int]:
    """The lengths that there are."""
    lengths = packets.lengths
    if len(lengths) and are_alike(lengths):
        return frozenset((int(lengths[0]),))
    counts = np.bincount(lengths, minlength=FULL.length + 1).tolist()
    return frozenset(length for length in LAYOUTS if counts[length])


def _fill(packets: Packets, plan: "_Plan", prices: NDArray[np.float64], integers: Ints) -> None:
    """Fill the columns of a plan: a row each, at least as long as there are packets."""
    n = len(packets)
    divisors = DIVISOR.take(packets.segments)
    rows = _Rows(packets, plan)
    for low in range(0, n, rows.size) if len(plan.words) else ():
        high = min(low + rows.size, n)
        words = rows.block(low, high)

        target = prices[:, low:high]
        target[:] = words[: len(target)]
        some = divisors[low:high]
        target /= some[0] if are_alike(some) else some

        unsigned = words[len(target) :].view(np.uint32)
        if plan.orders:
            unsigned[-plan.orders :] >>= 16  # the lower half of the word is padding
        whole = integers[:, low:high]
        whole[:] = unsigned
        if plan.times:
            whole[: plan.times] *= US_PER_SECOND


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is made of packets of some layouts if some columns are wanted: columns, and what no layout carries.

    Of the integers so many `times` are first, and so many `orders` last. `words` are those of all columns in a row,
    `words_of` in a packet of each layout.
    """

    present: frozenset[int]
    prices: tuple[ColumnGroup, ...]
    integers: tuple[ColumnGroup, ...]
    times: int
    orders: int
    missing: tuple[str, ...]
    words: NDArray[np.int64]
    words_of: Mapping[int, NDArray[np.int64]]


@lru_cache(maxsize=256)
def _plan(columns: frozenset[str], present: frozenset[int]) -> _Plan:
    """Kept, since a small batch is decoded in less time than this takes."""
    prices, timed, counted, ordered = (_wanted(groups, columns, present) for groups in (PRICES, TIMES, COUNTS, ORDERS))
    integers = (*timed, *counted, *ordered)
    words = [word for group in (*prices, *integers) for word in group.words]
    made = {column for group in (*prices, *integers) for column in group.columns}
    return _Plan(
        present=present,
        prices=prices,
        integers=integers,
        times=sum(len(group.columns) for group in timed),
        orders=sum(len(group.columns) for group in ordered),
        missing=tuple(column for column in PACKET_COLUMNS if column in columns and column not in made),
        words=np.array(words, np.int64),
        words_of={length: np.array(_places(length, words), np.int64) for length in present},
    )


def _wanted(
    groups: Sequence[ColumnGroup], columns: Collection[str], present: frozenset[int]
) -> tuple[ColumnGroup, ...]:
    """Of groups that some layout present carries, the columns that are wanted."""
    found = (group.only(columns) for group in groups if group.carried_by & present)
    return tuple(group for group in found if group.columns)


class _Rows:
    """Brings packets into the rows of words that become columns, a block at a time."""

    def __init__(self, packets: Packets, plan: _Plan) -> None:
        present = plan.present
        self._offsets = packets.offsets
        self._lengths = packets.lengths
        # A window for each length: element i is the packet that would begin at byte i. One fancy index over it
        # copies each packet whole.
        payload = packets.payload
        self._windows = {
            length: np.ndarray((len(payload) - length + 1,), f"V{length}", payload, strides=(1,)) for length in present
        }
        self._wanted_mixed = plan.words
        self._wanted = plan.words_of
        longest = FULL.length if len(present) > 1 else max(present, default=FULL.length)
        self.size = max(1, min(BLOCK_BYTES // longest, BLOCK_PACKETS, len(packets)))
        """How many packets a block has."""
        self._mixed = np.empty((self.size, ROW_WORDS), ">i4") if len(present) > 1 else None
        self._words = np.empty((ROW_WORDS + 1, self.size), np.int32)
        self._words[ZERO_WORD] = 0
        self._result = np.empty((len(plan.words), self.size), np.int32)

    def block(self, low: int, high: int) -> NDArray[np.int32]:
        """The wanted words of packets low to high, as (words, high - low). Good until the next call."""
        offsets, lengths = self._offsets[low:high], self._lengths[low:high]
        only = int(lengths[0])
        if self._mixed is None or are_alike(lengths):
            packets = self._windows[only][offsets].view(">i4").reshape(len(offsets), only // 4)
            wanted = self._wanted[only]
        else:
            packets = self._gather_mixed(self._mixed[: len(offsets)], offsets, lengths)
            wanted = self._wanted_mixed
        if len(wanted) < FEW_WORDS:
            result = self._result[:, : high - low]
            for row, word in zip(result, wanted.tolist(), strict=True):
                row[:] = packets[:, word] if word < packets.shape[1] else 0
            return result
        self._words[: packets.shape[1], : high - low] = packets.T  # swaps the bytes as it goes
        return self._words.take(wanted, axis=0, out=self._result, mode="clip")[:, : high - low]

    def _gather_mixed(self, rows: NDArray[Any], offsets: Ints, lengths: Ints) -> NDArray[Any]:
        """Packets of several layouts in rows of one."""
        rows[:] = 0
        for length, window in self._windows.items():
            places = np.flatnonzero(lengths == length)
            packets = window[offsets[places]]
            if length in INDEX_LENGTHS:
                words = packets.view(">i4").reshape(len(places), length // 4)
                for source, target in enumerate(INDEX_WORDS[: words.shape[1]]):
                    rows[places, target] = words[:, source]
            else:
                # The front of each row, seen as one element of the packet's size.
                fronts = np.ndarray((len(rows),), f"V{length}", rows, strides=(rows.strides[0],))
                fronts[places] = packets
        return rows


def _places(length: int, wanted: list[int]) -> list[int]:
    """Where the words `wanted` of a row stand in a packet of one layout; `ZERO_WORD` for those it does not carry."""
    words = INDEX_WORDS if length in INDEX_LENGTHS else tuple(range(CHANGE_WORD))
    carried = words[: length // WORD_BYTES]
    return [carried.index(word) if word in carried else ZERO_WORD for word in wanted]


class _Output:
    """Columns of one type: slices of one Arrow buffer."""

    def __init__(self, groups: Sequence[ColumnGroup], dtype: np.dtype[Any], n: int, memory: Memory) -> None:
        self._groups = groups
        self._n = n
        self._bytes = n * dtype.itemsize
        columns, stride = sum(len(group.columns) for group in groups), -(-n // 8) * 8
        # Each column begins at a multiple of 64 bytes, as Arrow recommends.
        size = columns * stride
        self._buffer = memory.buffer(dtype, size * dtype.itemsize)
        self.values: NDArray[Any] = np.frombuffer(self._buffer, dtype, size).reshape(columns, stride)

    def arrays(self, bitmaps: "_Bitmaps") -> dict[str, pa.Array]:
        """The filled columns by name, with the validity that their layouts or their values give."""
        n, size, take = self._n, self._bytes, self._buffer.slice
        make, types = pa.Array.from_buffers, _TYPES
        arrays = {}
        row, stride = 0, self.values.strides[0]
        for group in self._groups:
            validity, nulls = bitmaps.carried_by(group.carried_by)
            for column in group.columns:
                if column in TIME_COLUMNS:
                    validity, nulls = bitmaps.nonzero(self.values[row, :n])
                arrays[column] = make(types[column], n, [validity, take(row * stride, size)], nulls)
                row += 1
        return arrays


class _Bitmaps:
    """Validity bitmaps with their null counts, each made once."""

    def __init__(self, lengths: Ints, present: frozenset[int]) -> None:
        self._lengths = lengths
        self._present = present
        self._made: dict[frozenset[int], tuple[pa.Buffer | None, int]] = {}

    def carried_by(self, layouts: frozenset[int]) -> tuple[pa.Buffer | None, int]:
        """Where there is a packet of one of these layouts."""
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
    batch, found = decode_batch(frames, received_at_ns)
    return pa.Table.from_batches([batch]), found.report()


def decode_batch(
    frames: Sequence[bytes],
    received_at_ns: Sequence[int] | Ints | None = None,
    connections: Ints | None = None,
    accounts: tuple[Sequence[str], Ints | None] | None = None,
) -> tuple[pa.RecordBatch, Walk]:
    """The packets of some frames as a batch in the ticks schema, and the walk that found them. What is given besides
    is one value a frame, `accounts` as names and places in them, or as one name; columns that are not given are null.

    Raises WireError if the numbers of frames and times differ.
    """
    if received_at_ns is not None and len(received_at_ns) != len(frames):
        raise WireError(f"received_at_ns: got {len(received_at_ns)} times, expected {len(frames)}, one a frame")
    payload = np.frombuffer(b"".join(frames), np.uint8)
    found = walk_frames(payload, np.fromiter(map(len, frames), np.int64, len(frames)))
    packets = packets_of(found)
    if not len(packets):
        return pa.RecordBatch.from_pylist([], TICKS.schema), found
    others: dict[str, tuple[NDArray[Any], ...]] = {"exchange": texts(packets.exchanges, EXCHANGES)}
    present = _present(packets)
    modes = {MODES[MODE_CODE[length]] for length in present}
    if len(modes) == 1:
        others["mode"] = text(modes.pop(), len(packets))
    else:
        others["mode"] = texts(MODE_CODE.take(packets.lengths), MODES)
    given: dict[str, Ints] = {}
    if received_at_ns is not None:
        received = np.asarray(received_at_ns, np.int64)
        others["date"] = (ist_days(received).astype(np.int32).take(found.packet_frames),)
        given["received_at"] = microseconds(received).take(found.packet_frames)
    if connections is not None:
        given["connection"] = connections.take(found.packet_frames)
    if accounts is not None:
        names, places = accounts
        others["account"] = (
            text(names[0], len(packets)) if places is None else texts(places.take(found.packet_frames), names)
        )

    plan = _plan(_PACKET_COLUMNS, present)
    form, prices, end = _form(plan, tuple(given))
    batch = form.begin(len(packets), others, bitmaps=len(plan.prices) + len(plan.integers))
    numbers = batch.numbers
    _fill(packets, plan, numbers[:prices].view(np.float64), numbers[prices:end])
    for row, values in enumerate(given.values(), end):
        numbers[row, : len(packets)] = values
    low = 0
    for group in (*plan.prices, *plan.integers):
        high = low + len(group.columns)
        if group.columns[0] in TIME_COLUMNS:
            batch.set_valid(low, high, numbers[low, : len(packets)] != 0)
        elif not plan.present <= group.carried_by:
            batch.set_valid(low, high, np.isin(packets.lengths, list(group.carried_by)))
        low = high
    return batch.finish(), found


@lru_cache(maxsize=256)
def _form(plan: _Plan, given: tuple[str, ...]) -> tuple[BatchForm, int, int]:
    """Of batches with the columns of a plan and those that are given. How many of their numbers are prices, and how
    many are the plan's."""
    prices, integers = (
        [column for group in groups for column in group.columns] for groups in (plan.prices, plan.integers)
    )
    return BatchForm(TICKS.schema, [*prices, *integers, *given]), len(prices), len(prices) + len(integers)
