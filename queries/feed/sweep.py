"""From parts of a day, which lie in any order, to its rows in the order of receipt: (received_at, stream, seq). Pure.

Parts are opened in the order of their first row. What is received before the first row of the next one is complete, and
goes out; the rest is held until then. Sealed files are laid in stretches of time, inside of which a row group has some
instruments: so a stretch is held as a whole. Where more parts overlap than may be held, they are read up to a moment,
and again from there.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from queries.feed.reading import FOREVER_US, TEXT, Columns, Ints, Part, numbers_of

STEP_ROWS: Final = 1 << 20
"""So many rows are put in order together, at least."""
BLOCK_ROWS: Final = 1 << 18
HELD_BYTES: Final = 560 << 20
LEAST_HELD_ROWS: Final = 4_400_000
"""A stretch of a sealed day: less would have each be read several times, which costs more than the memory is worth."""
_SPARSE: Final = 8

Read = Callable[[Sequence[Part], int], Columns]


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


def held_rows(columns: Mapping[str, pa.DataType]) -> int:
    """How many rows of these columns may be held."""
    width = sum(4 if pa.types.is_dictionary(kind) or pa.types.is_date32(kind) else 8 for kind in columns.values())
    return max(HELD_BYTES // width, LEAST_HELD_ROWS)


def sweep(parts: Sequence[Part], read: Read, most_rows: int) -> Iterator[Block]:
    """All rows that `read` gives of the parts: a function of parts, and the moment before which rows are wanted."""
    queue = [(part.first_us, number, part) for number, part in enumerate(parts)]
    heapq.heapify(queue)
    count = len(queue)
    held: dict[str, pa.Array] = {}
    while queue or held:
        opened, until_us = _opened(queue)
        room = max(most_rows - (len(held["seq"]) if held else 0), most_rows // 4)
        if sum(part.rows for part in opened) > room:
            until_us = min(until_us, _limit(opened, room))
            for part in opened:
                if part.last_us >= until_us:
                    rest = part.after(max(until_us, part.first_us))
                    heapq.heappush(queue, (rest.first_us, count := count + 1, rest))
            found = read([part for part in opened if part.first_us < until_us], until_us)
        else:
            found = read(opened, FOREVER_US)
        if not held and not found["seq"]:
            continue
        columns = _joined(held, found)
        del opened, found
        order, times = in_order(columns["received_at"], numbers_of(columns["seq"]), columns["stream"])
        complete = int(np.searchsorted(times, until_us))
        del times
        for start in range(0, complete, BLOCK_ROWS):
            places = pa.array(order[start : min(start + BLOCK_ROWS, complete)])
            yield Block.of({name: column.take(places) for name, column in columns.items()})
        places = pa.array(order[complete:])
        # One column after the other, so that never both are there whole.
        held = {name: columns.pop(name).take(places) for name in list(columns)} if len(places) else {}
        columns.clear()
        del order, places
        pa.default_memory_pool().release_unused()


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


def _joined(held: dict[str, pa.Array], read: Columns) -> dict[str, pa.Array]:
    found = {}
    for name in list(read):
        arrays = ([held.pop(name)] if held else []) + read.pop(name)
        if len(arrays) == 1:
            found[name] = arrays[0]
        elif pa.types.is_dictionary(arrays[0].type):
            found[name] = pa.chunked_array([each.cast(TEXT) for each in arrays]).unify_dictionaries().combine_chunks()
        else:
            found[name] = pa.concat_arrays(arrays)
    return found


def in_order(received_at: pa.Array, seq: Ints, stream: pa.DictionaryArray) -> tuple[Ints, Ints]:
    """The places of rows, by time, then stream, then `seq`; and their times, in µs, in that order."""
    names: list[str] = stream.dictionary.to_pylist()
    if len(names) == 1:
        order = _by_number(seq)
    else:
        codes = stream.indices.to_numpy()
        rows = [np.flatnonzero(codes == code) for code in sorted(range(len(names)), key=names.__getitem__)]
        order = np.concatenate([each[_by_number(seq[each])] for each in rows])
    times = numbers_of(received_at)[order]
    if (times[1:] < times[:-1]).any():  # several streams, or a clock that was set
        again = np.argsort(times, kind="stable")
        order, times = order[again], times[again]
    return order, times


def _by_number(numbers: Ints) -> Ints:
    """The places of different numbers, ascending. Those of a stretch of time are mostly without holes, and need not be
    sorted."""
    if not len(numbers):
        return np.zeros(0, np.int64)
    least = int(numbers.min())
    span = int(numbers.max()) - least + 1
    if span <= _SPARSE * len(numbers):
        places = np.full(span, -1, np.int32)
        places[numbers - least] = np.arange(len(numbers), dtype=np.int32)
        order = places[places >= 0]
        if len(order) == len(numbers):
            return order.astype(np.int64)
    return np.argsort(numbers, kind="stable")
