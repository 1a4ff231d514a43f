"""From parts of a day, which lie in any order, to its rows in the order of receipt: (received_at, stream, seq). Pure.

Parts are opened in the order of their first row. What is received before the first row of the next one is complete, and
goes out; the rest is held until then. Sealed files are laid in stretches of time, inside of which a row group has some
instruments: so a stretch is held as a whole. Where more parts overlap than may be held, they are read up to a moment,
and again from there.

Held rows lie in buffers that are made once and filled again and again: to get memory from the system and give it back
for each stretch of a day costs as much as reading does.
"""

import bisect
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.feed.reading import FOREVER_US, Add, Bools, Ints, Part, numbers_of
from storage.memory import arrow_of, arrow_texts, missing_of, numpy_of

Places = NDArray[np.int32] | Ints
Columns = dict[str, pa.Array]

TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_SPARSE: Final = 8
_NULL: Final = -1
_MOST: Final = (1 << 31) - 1
_SOME: Final = 1 << 16

STEP_ROWS: Final = 1 << 20
"""So many rows are put in order together, at least."""
BLOCK_ROWS: Final = 1 << 18
HELD_BYTES: Final = 480 << 20
"""Room for the default columns of the stretches of three exchanges, so that few are read twice."""
LEAST_HELD_ROWS: Final = 4_400_000
"""The stretches of two exchanges of a sealed day: less would have each be read several times, which costs more than the
memory is worth."""

Read = Callable[[Sequence[Part], int, Add], None]
"""Reads parts, up to a moment, and hands what it finds to a function, a piece at a time."""


@dataclass(frozen=True, eq=False)
class Block:
    """Rows in order. `columns` has those that order them, too; `received_us` and `seq` are theirs."""

    columns: Mapping[str, pa.Array]
    received_us: Ints
    seq: Ints

    @classmethod
    def of(cls, columns: Mapping[str, pa.Array]) -> "Block":
        """Of columns that are in order."""
        return cls(columns, numbers_of(columns["received_at"]), numbers_of(columns["seq"]))

    def __len__(self) -> int:
        return len(self.received_us)

    def slice(self, start: int, stop: int) -> "Block":
        """Some of them; nothing is copied."""
        if start == 0 and stop >= len(self):
            return self
        columns = {name: column.slice(start, stop - start) for name, column in self.columns.items()}
        return Block(columns, self.received_us[start:stop], self.seq[start:stop])

    def stream(self, row: int) -> str:
        """The stream of one of them."""
        return str(self.columns["stream"][row].as_py())


def held_rows(kinds: Mapping[str, pa.DataType]) -> int:
    """How many rows of these columns may be held."""
    return max(HELD_BYTES // width_of_row(kinds), LEAST_HELD_ROWS)


def sweep(parts: Sequence[Part], read: Read, kinds: Mapping[str, pa.DataType]) -> Iterator[Block]:
    """All rows that `read` gives of the parts, in the columns `kinds`."""
    queue = [(part.first_us, number, part) for number, part in enumerate(parts)]
    heapq.heapify(queue)
    count = len(queue)
    most_rows = held_rows(kinds)
    pool = Pool(kinds, min(most_rows, sum(part.rows for part in parts)))
    while queue or len(pool):
        opened, until_us = _opened(queue)
        room = max(most_rows - len(pool), most_rows // 4)
        if sum(part.rows for part in opened) > room:
            until_us = min(until_us, _limit(opened, room))
            for part in opened:
                if part.last_us >= until_us:
                    rest = part.after(max(until_us, part.first_us))
                    heapq.heappush(queue, (rest.first_us, count := count + 1, rest))
            read([part for part in opened if part.first_us < until_us], until_us, pool.add)
        else:
            read(opened, FOREVER_US, pool.add)
        order = pool.in_order()
        complete = pool.rows_before(order, until_us)
        for start in range(0, complete, BLOCK_ROWS):
            yield Block.of(pool.take(order[start : min(start + BLOCK_ROWS, complete)]))
        pool.keep(order[complete:])


def _opened(queue: list[tuple[int, int, Part]]) -> tuple[list[Part], int]:
    """The next parts, out of the queue, and up to when rows are complete with them."""
    opened: list[Part] = []
    until_us = FOREVER_US
    while queue:
        opened.append(heapq.heappop(queue)[2])
        until_us = queue[0][0] if queue else FOREVER_US
        if sum(part.rows_before(until_us) for part in opened) >= STEP_ROWS:
            break
    return opened, until_us


def _limit(parts: Sequence[Part], room: int) -> int:
    """Up to when to read these parts, of which not all rows can be held: so that few are read in vain."""

    def kept(us: int) -> int:
        return sum(part.rows_before(us) for part in parts)

    low, high = min(part.first_us for part in parts) + 1, max(part.last_us for part in parts) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if kept(middle) <= room else (low, middle)
    ends = {part.last_us + 1 for part in parts}
    fitting = [low, *(us for us in ends if us <= low and kept(us) * 4 >= room)]
    return max(fitting, key=lambda us: kept(us) / sum(part.rows for part in parts if part.first_us < us))


def width_of_row(kinds: Mapping[str, pa.DataType]) -> int:
    """The bytes of a row of these columns."""
    return sum(_numbers(kind).itemsize for kind in kinds.values())


class Pool:
    """Rows of the columns `kinds`: numbers, times, dates, and TEXT."""

    def __init__(self, kinds: Mapping[str, pa.DataType], rows: int) -> None:
        """With room for so many rows; it grows if there are more."""
        self._columns = {name: _Column(kind, rows) for name, kind in kinds.items()}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, rows: pa.Table, wanted: Bools | None) -> None:
        """Add rows, which may have other columns, too; or those of them that are wanted."""
        places = None if wanted is None else np.flatnonzero(wanted)
        added = len(rows) if places is None else len(places)
        for name, column in self._columns.items():
            column.put(self._rows, added, rows.column(name), places)
        self._rows += added

    def in_order(self) -> Places:
        """The places of the rows, by time, then stream, then `seq`."""
        received, seq, stream = (self._columns[name] for name in ("received_at", "seq", "stream"))
        numbers = seq.values[: self._rows]
        if len(stream.texts) <= 1:
            order = _by_number(numbers)
        else:
            codes = stream.values[: self._rows]
            rows = [np.flatnonzero(codes == stream.texts[name]) for name in sorted(stream.texts)]
            order = np.concatenate([each[_by_number(numbers[each])] for each in rows])
        if not _ascends(received.values, order):  # several streams, or a clock that was set
            order = order[np.argsort(received.values[order], kind="stable")]
        return order

    def rows_before(self, order: Places, us: int) -> int:
        """How many of the rows, in that order, were received before that."""
        received = self._columns["received_at"].values
        return bisect.bisect_left(order, us, key=received.item)

    def take(self, places: Places) -> Columns:
        """The rows at these places, as arrays of their own."""
        return {name: column.take(places) for name, column in self._columns.items()}

    def keep(self, places: Places) -> None:
        """Hold these rows alone."""
        ascending = places.copy()
        ascending.sort()
        for column in self._columns.values():
            column.keep(ascending)
        self._rows = len(places)


class _Column:
    """One column. `texts` are the numbers of texts, in the order of these."""

    def __init__(self, kind: pa.DataType, rows: int) -> None:
        self._kind = kind
        self.values: NDArray[Any] = np.empty(rows, _numbers(kind))
        self._missing: Bools | None = None
        self.texts: dict[str, int] = {}
        self._dictionary: pa.Array | None = None

    def put(self, at: int, count: int, rows: pa.ChunkedArray, places: Ints | None) -> None:
        if at + count > len(self.values):
            self._grow(at + count + count // 4)
        read = rows.chunk(0) if rows.num_chunks == 1 else rows.unify_dictionaries().combine_chunks()
        missing: Bools | None = None
        if read.null_count:
            missing = missing_of(read)
            if self._missing is None:
                self._missing = np.zeros(len(self.values), np.bool_)
        if self._missing is not None:
            self._missing[at : at + count] = (
                False if missing is None else missing if places is None else missing.take(places)
            )
        values = self._values(read)
        is_wider = self.values.dtype == np.int32 and values.dtype == np.int64 and len(values)
        if is_wider and (values.max() > _MOST or values.min() < -_MOST):
            self.values = self.values.astype(np.int64)
        self.values[at : at + count] = values if places is None else values.take(places)

    def _values(self, read: pa.Array) -> NDArray[Any]:
        if pa.types.is_dictionary(self._kind):
            return self._codes(read if pa.types.is_dictionary(read.type) else read.dictionary_encode())
        if read.type != self._kind:
            read = read.cast(self._kind)
        if pa.types.is_temporal(read.type):
            read = read.view(pa.int32() if pa.types.is_date32(read.type) else pa.int64())
        return numpy_of(read, 0)

    def take(self, places: Places) -> pa.Array:
        values = self.values.take(places)
        mask = None if self._missing is None else self._missing.take(places)
        if mask is not None and not mask.any():
            mask = None
        if pa.types.is_dictionary(self._kind):
            if self._dictionary is None or len(self._dictionary) != len(self.texts):
                self._dictionary = arrow_texts(list(self.texts))
            return pa.DictionaryArray.from_arrays(arrow_of(values, mask, pa.int32()), self._dictionary)
        if pa.types.is_integer(self._kind):
            return arrow_of(values.astype(np.int64, copy=False), mask, pa.int64())
        return arrow_of(values, mask, self._kind)

    def keep(self, ascending: Places) -> None:
        for start in range(0, len(ascending), _SOME):  # none of them is written over before it was moved
            places = ascending[start : start + _SOME]
            self.values[start : start + len(places)] = self.values.take(places)
            if self._missing is not None:
                self._missing[start : start + len(places)] = self._missing.take(places)

    def _codes(self, chunk: pa.DictionaryArray) -> NDArray[np.int32]:
        names = chunk.dictionary.to_pylist()
        own = np.array([self.texts.setdefault(name, len(self.texts)) for name in names] or [0], np.int32)
        codes: NDArray[np.int32] = own.take(numpy_of(chunk.indices, 0))
        return codes

    def _grow(self, rows: int) -> None:
        self.values = np.concatenate([self.values, np.empty(rows - len(self.values), self.values.dtype)])
        if self._missing is not None:
            self._missing = np.concatenate([self._missing, np.zeros(rows - len(self._missing), np.bool_)])


def _numbers(kind: pa.DataType) -> np.dtype[Any]:
    """Whole numbers are held as small as they mostly are."""
    if pa.types.is_timestamp(kind):
        return np.dtype(np.int64)
    return np.dtype(np.float64 if pa.types.is_floating(kind) else np.int32)


def _by_number(numbers: Ints) -> Places:
    """The places of different numbers, ascending. Those of a stretch of time are mostly without holes, and need not be
    sorted. Some at a time: fresh memory for all of them would cost more than the work."""
    if not len(numbers):
        return np.zeros(0, np.int64)
    least = int(numbers.min())
    span = int(numbers.max()) - least + 1
    if span <= _SPARSE * len(numbers):
        places = np.full(span, _NULL, np.int32)
        for start in range(0, len(numbers), _SOME):
            some = numbers[start : start + _SOME]
            places[some - least] = np.arange(start, start + len(some), dtype=np.int32)
        count = 0
        for start in range(0, span, _SOME):
            piece = places[start : start + _SOME]
            there = piece[piece != _NULL]
            places[count : count + len(there)] = there
            count += len(there)
        if count == len(numbers):
            return places[:count]
    return np.argsort(numbers, kind="stable")


def _ascends(values: Ints, order: Places) -> bool:
    """Whether values do, in that order."""
    for start in range(0, len(order), _SOME):
        some = values.take(order[start : start + _SOME + 1])
        if (some[1:] < some[:-1]).any():
            return False
    return True
