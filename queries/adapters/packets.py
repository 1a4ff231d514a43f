"""The packets of an instrument's day as arrays, for adapters that make rows of their own of them.

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
from queries.history import Moment, Symbols, TimeRange, chosen, days_of, symbol_list, time_range
from storage.clock import IST, NS_PER_US
from storage.datafolder import replayed_day
from storage.memory import numpy_of

_INSTRUMENT: Final = "instrument_token"
_ALWAYS: Final = (_INSTRUMENT, "received_at", "exchange_timestamp", "seq", "cached", "last_price")
_DAY: Final = dt.timedelta(days=1)
_AT_ONCE: Final = 32
"""Instruments that are read together: each file of a day that is not sealed has rows of all of them."""


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
    """Day after day, and in it instrument after instrument, those without a packet left out. No more than some
    instruments' day is in memory. Raises AdapterError for an index, and what `Lake.feed` does."""
    symbols = symbol_list(symbols)
    for day, part in days_between(lake, symbols, start, stop):
        for some in some_at_once(facts_of(lake, symbols, day)):
            yield from packets_in(lake, some, part, columns)


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


def some_at_once(facts: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """As many of them as are read together."""
    for first in range(0, len(facts), _AT_ONCE):
        yield facts[first : first + _AT_ONCE]


def packets_in(
    lake: FeedMethods, several: Sequence[Mapping[str, Any]], part: TimeRange, columns: Sequence[str]
) -> Iterator[Packets]:
    """Those of the instruments of some rows of that day's list, in a part of the day; who has none is left out."""
    tokens, names = [facts["instrument_token"] for facts in several], [*dict.fromkeys((*_ALWAYS, *columns))]
    batches = list(lake.feed(tokens, part.start, part.stop, columns=names).batches())
    if not batches:
        return
    trades = lake.trades(tokens, part.start, part.stop, clock="received").arrow()
    packets = _by_token({name: _numbers([batch.column(name) for batch in batches]) for name in names})
    traded = _by_token({name: _numbers(trades[name].chunks) for name in (_INSTRUMENT, "received_at", "quantity")})
    stamped = replayed_day(lake.root) is None  # the clock of a replay says nothing here
    for facts, token in zip(several, tokens, strict=True):
        found = _packets(facts, _of(packets, token), _of(traded, token), stamped=stamped)
        if len(found):
            yield found


def _packets(
    facts: Mapping[str, Any], found: Mapping[str, NDArray[Any]], trades: Mapping[str, NDArray[Any]], *, stamped: bool
) -> Packets:
    received_us = found["received_at"]
    traded = np.zeros(len(received_us), np.int64)
    rows = np.searchsorted(received_us, trades["received_at"])
    known = rows < len(received_us)  # not what was received since
    np.add.at(traded, rows[known], trades["quantity"][known])
    kept = (found["cached"] == 0) | (traded > 0)
    stamped_us = found["exchange_timestamp"] * stamped
    exchange_us = np.where(stamped_us > 0, np.minimum(stamped_us, received_us), received_us)
    return Packets(
        facts,
        received_us[kept] * NS_PER_US,
        exchange_us[kept] * NS_PER_US,
        traded[kept],
        {name: values[kept] for name, values in found.items()},
    )


def _by_token(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """An instrument's rows one after the other, in their order."""
    order = np.argsort(columns[_INSTRUMENT], kind="stable")
    return {name: values[order] for name, values in columns.items()}


def _of(columns: Mapping[str, NDArray[Any]], token: int) -> dict[str, NDArray[Any]]:
    """The instrument's rows."""
    first, last = np.searchsorted(columns[_INSTRUMENT], [token, token + 1])
    return {name: values[first:last] for name, values in columns.items()}


def _numbers(parts: Sequence[pa.Array]) -> NDArray[Any]:
    """Times are µs since the epoch, what is true 1; null is 0."""
    found = []
    for part in parts:
        if pa.types.is_boolean(part.type):
            part = part.cast(pa.int8())  # noqa: PLW2901 - as numbers
        elif pa.types.is_timestamp(part.type):
            part = part.cast(pa.int64())  # noqa: PLW2901
        found.append(numpy_of(part, 0))
    return np.concatenate(found) if found else np.zeros(0, np.int64)
