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

from queries.feed.pool import Ints, Pool, width_of_row
from queries.feed.reading import FOREVER_US, Add, Part, numbers_of

STEP_ROWS: Final = 1 << 20
"""So many rows are put in order together, at least."""
BLOCK_ROWS: Final = 1 << 18
HELD_BYTES: Final = 400 << 20
LEAST_HELD_ROWS: Final = 4_400_000
"""A stretch of a sealed day: less would have each be read several times, which costs more than the memory is worth."""

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
        order, times = pool.in_order()
        complete = int(np.searchsorted(times, until_us))
        del times
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
