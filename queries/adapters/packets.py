"""The packets of one instrument and day at a time as arrays, for adapters that make rows of their own of them.

What the broker had cached is left out: it tells of the past. A packet's trade is an estimate, that of `Lake.trades` by
the clock of receipt: all that traded since the packet before, at the last price.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.errors import AdapterError
from queries.feed import FeedMethods
from queries.history import Moment, Symbols, TimeRange, chosen, days_of, time_range
from storage.clock import IST, NS_PER_US
from storage.datafolder import replayed_day

_ALWAYS: Final = ("received_at", "exchange_timestamp", "seq", "cached", "last_price")
_DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True)
class Packets:
    """Of one instrument on one day, in the order of receipt. `facts` is its row of that day's instrument list.

    `received_ns` is since the epoch; `exchange_ns` the exchange's time, or that of receipt if it is earlier or the only
    one: nothing is received before it happened. `traded` is the quantity of the trade, 0 where none was seen. Numbers
    that a packet does not carry are 0 in `columns`.
    """

    facts: Mapping[str, Any]
    received_ns: NDArray[np.int64]
    exchange_ns: NDArray[np.int64]
    traded: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.received_ns)


def packets_of(
    lake: FeedMethods, symbols: Symbols, start: Moment | None, stop: Moment | None, columns: Sequence[str]
) -> Iterator[Packets]:
    """Day after day, and in it instrument after instrument, those without a packet left out. No more than an
    instrument's day is in memory. Raises AdapterError for an index, and what `Lake.feed` does."""
    for day, part in days_between(lake, symbols, start, stop):
        for facts in facts_of(lake, symbols, day):
            found = packets_in(lake, facts, part, columns)
            if len(found):
                yield found


def days_between(
    lake: FeedMethods, symbols: Symbols, start: Moment | None, stop: Moment | None
) -> list[tuple[dt.date, TimeRange]]:
    """The days of the range that have ticks, each with the part of it that is asked for. Raises SymbolError."""
    when = time_range(start, stop)
    state = lake.look()
    days = days_of(state, when)
    chosen(state, symbols, days)
    parts = []
    for day in days:
        begins = dt.datetime.combine(day, dt.time(), IST)
        ends = begins + _DAY
        first = begins if when.start is None else max(begins, when.start)
        parts.append((day, TimeRange(first, ends if when.stop is None else min(ends, when.stop))))
    return parts


def facts_of(lake: FeedMethods, symbols: Symbols, day: dt.date) -> list[dict[str, Any]]:
    """The rows of the list in force on that day of instruments that are traded. Raises AdapterError for an index."""
    rows: list[dict[str, Any]] = lake.feed(symbols, day).instruments(day).to_pylist()
    indices = [row["symbol"] for row in rows if row["segment"] == "INDICES"]
    if indices:
        raise AdapterError(f"symbols: got the index {indices[0]}, expected what is traded: it has no quotes and trades")
    return rows


def packets_in(lake: FeedMethods, facts: Mapping[str, Any], part: TimeRange, columns: Sequence[str]) -> Packets:
    """Those of the instrument of a row of that day's list, in a part of the day."""
    token, names = facts["instrument_token"], [*dict.fromkeys((*_ALWAYS, *columns))]
    feed = lake.feed(token, part.start, part.stop, columns=names)
    batches = list(feed.batches())
    found = {name: _numbers([batch.column(name) for batch in batches]) for name in names}
    received_us, stamped_us = found["received_at"], found["exchange_timestamp"]
    traded = np.zeros(len(received_us), np.int64)
    if len(received_us):
        trades = lake.trades(token, part.start, part.stop, clock="received").arrow()
        rows = np.searchsorted(received_us, _numbers(trades["received_at"].chunks))
        known = rows < len(received_us)  # not what was received since
        np.add.at(traded, rows[known], _numbers(trades["quantity"].chunks)[known])
    kept = (found["cached"] == 0) | (traded > 0)
    stamped_us = stamped_us * (replayed_day(lake.root) is None)  # the clock of a replay says nothing here
    exchange_us = np.where(stamped_us > 0, np.minimum(stamped_us, received_us), received_us)
    return Packets(
        facts,
        received_us[kept] * NS_PER_US,
        exchange_us[kept] * NS_PER_US,
        traded[kept],
        {name: values[kept] for name, values in found.items()},
    )


def _numbers(parts: Sequence[pa.Array]) -> NDArray[Any]:
    """Times are µs since the epoch, what is true 1; null is 0."""
    found = []
    for part in parts:
        if pa.types.is_boolean(part.type):
            part = part.cast(pa.int8())  # noqa: PLW2901 - as numbers
        elif pa.types.is_timestamp(part.type):
            part = part.cast(pa.int64())  # noqa: PLW2901
        found.append((part.fill_null(0) if part.null_count else part).to_numpy())
    return np.concatenate(found) if found else np.zeros(0, np.int64)
