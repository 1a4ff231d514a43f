"""What rows are a picture of, which the names of their columns tell; and its title and what it shows, in words."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import pyarrow as pa

from queries.errors import PictureError
from queries.pictures.table import NO_TIME, Ints, is_number, is_time, microseconds_of, texts_of
from storage.clock import EPOCH, US_PER_DAY

NAMED: Final = 3
"""A title names so many symbols."""


class Kind(StrEnum):
    """What is drawn."""

    CANDLES = "candles"
    BOOK = "book"
    CHAIN = "chain"
    COVERAGE = "coverage"
    LATENCY = "latency"
    SPREAD = "spread"
    LINES = "lines"


_KINDS: Final[dict[Kind, frozenset[str]]] = {
    Kind.CANDLES: frozenset({"symbol", "time", "open", "high", "low", "close"}),
    Kind.BOOK: frozenset({"symbol", "received_at", "level", "bid_price", "bid_quantity", "ask_price", "ask_quantity"}),
    Kind.CHAIN: frozenset({"moment", "underlying", "expiry", "strike", "call_iv", "put_iv", "call_oi", "put_oi"}),
    Kind.COVERAGE: frozenset({"symbol", "start", "stop", "state"}),
    Kind.LATENCY: frozenset({"account", "connection", "time", "p50_seconds", "p90_seconds", "p99_seconds"}),
    Kind.SPREAD: frozenset({"symbol", "received_at", "bid", "ask", "spread"}),
}
"""The columns by which the rows of a helper are known."""

_TIMES: Final = {
    Kind.CANDLES: "time",
    Kind.BOOK: "received_at",
    Kind.CHAIN: "moment",
    Kind.COVERAGE: "start",
    Kind.LATENCY: "time",
    Kind.SPREAD: "received_at",
}


@dataclass(frozen=True)
class Subject:
    """Rows, what they are, and what is said of them: `title` has symbol and day, `definition` what is drawn.

    `time` is the column of times; `values` are the columns that are drawn of rows of no other kind, by `by`, if that is
    not None. `gaps` are rows as `Lake.gaps` gives them.
    """

    kind: Kind
    rows: pa.Table
    title: str
    definition: str
    time: str
    values: Sequence[str] = ()
    by: str | None = None
    gaps: pa.Table | None = None


def subject_of(
    rows: pa.Table, *, gaps: pa.Table | None = None, title: str | None = None, definition: str | None = None
) -> Subject:
    """What the rows are. Raises PictureError for such as have no times, or no numbers."""
    names = set(rows.column_names)
    kind = next((kind for kind, columns in _KINDS.items() if columns <= names), Kind.LINES)
    time, values, by = _lines(rows) if kind is Kind.LINES else (_TIMES[kind], [], None)
    times = microseconds_of(rows.column(time))
    rows = rows.filter(pa.array(times != NO_TIME))
    times = times[times != NO_TIME]
    return Subject(
        kind,
        rows,
        title or " · ".join(filter(None, [_whose(kind, rows, by), _days(times)])) or kind.value,
        definition or _definition(kind, rows, times, values),
        time,
        values,
        by,
        gaps,
    )


def _lines(rows: pa.Table) -> tuple[str, list[str], str | None]:
    if "served_seconds" in rows.column_names:
        raise PictureError(
            "got the sums that `coverage` makes of a day, expected its intervals: lake.intervals(day).plot()"
        )
    if len(set(rows.column_names)) < len(rows.column_names):
        raise PictureError(f"got columns {', '.join(rows.column_names)}, expected each name once: rename one with AS")
    fields = [(field.name, field.type) for field in rows.schema]
    times = [name for name, kind in fields if is_time(kind)]
    # A day beside a time, as in `ticks`, is only where the time lies.
    times.sort(key=lambda name: pa.types.is_date(rows.schema.field(name).type))
    values = [
        name
        for name, kind in fields
        if is_number(kind) and name not in ("instrument_token", "seq", "connection", "level", "record")
    ]
    if not times or not values:
        missing = "one of times, such as received_at" if not times else "one of numbers, such as last_price"
        raise PictureError(f"got columns {', '.join(rows.column_names)}, expected {missing}")
    texts = [name for name, kind in fields if pa.types.is_string(kind) or pa.types.is_large_string(kind)]
    return times[0], values, next((name for name in ("symbol", *texts) if name in texts), None)


def _whose(kind: Kind, rows: pa.Table, by: str | None) -> str:
    """The names of what the rows are of."""
    if kind is Kind.LATENCY:
        return "latency"
    column = next((name for name in ("symbol", "underlying") if name in rows.column_names), by)
    if column is None:
        return ""
    names = list(dict.fromkeys(texts_of(rows.column(column))))
    if kind is Kind.COVERAGE and len(names) > NAMED:
        return f"coverage of {len(names):,} instruments"
    return ", ".join(names) if len(names) <= NAMED else f"{', '.join(names[:NAMED])} and {len(names) - NAMED:,} more"


def _days(times: Ints) -> str:
    if not len(times):
        return ""
    first, last = (_at(int(time)).date() for time in (times.min(), times.max()))
    return f"{first:%a %d %b %Y}" if first == last else f"{first:%d %b %Y} to {last:%d %b %Y}"


def _at(us: int) -> dt.datetime:
    return EPOCH.replace(tzinfo=None) + dt.timedelta(microseconds=us)


def _definition(kind: Kind, rows: pa.Table, times: Ints, values: Sequence[str]) -> str:
    if kind is Kind.CANDLES:
        clocks = sorted(set(texts_of(rows.column("clock")))) if "clock" in rows.column_names else []
        by_clock = f" by {', '.join(clocks)}" if clocks else ""
        return f"bars{_apart(times)}{by_clock}, volume below"
    if kind is Kind.BOOK:
        return "quantity at the five best prices of each side"
    if kind is Kind.CHAIN:
        return _chain(rows, times)
    if kind is Kind.COVERAGE:
        return "each minute by the worst state that it holds for a second or more"
    if kind is Kind.LATENCY:
        return "from the exchange's second to receipt, of live full packets, by connection"
    if kind is Kind.SPREAD:
        return "best bid and ask of each packet, and the ask less the bid"
    return ", ".join(values)


def _apart(times: Ints) -> str:
    """How far bars lie apart: how wide they are, those of ticks, volume or value do not say."""
    steps = np.diff(np.unique(times))
    if not len(steps):
        return ""
    seconds = int(steps.min()) / 1e6
    for unit, size in (("d", US_PER_DAY / 1e6), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f" {seconds / size:g}{unit} apart at least"
    return f" {seconds:g}s apart at least"


def _chain(rows: pa.Table, times: Ints) -> str:
    said = ["implied volatility by Black-76, open interest below"]
    if len(rows):
        first = rows.slice(0, 1).to_pylist()[0]
        said.append(f"expiry {first['expiry']:%d %b %Y}")
        if first.get("forward") is not None:
            said.append(f"forward {first['forward']:,.2f} by {first.get('forward_from')}")
        said.append(f"as of {_at(int(times[0])):%H:%M:%S}")
    return ", ".join(said)
