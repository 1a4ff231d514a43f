"""What a feed has beside ticks, each at the moment at which it could be known: bars as they close, and outages."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from queries.bars import are_noted, exchanges_of, sessions_of
from queries.connections import OF_CONNECTIONS, Stretch, last_rows_of, merged, outages, runs_of_day, span_of_day, within
from queries.feed.reading import numbers_of
from queries.lake import LakeState, among, sources_sql, with_before
from storage.clock import IST, NS_PER_US, nanoseconds


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar that has closed at `time`: a row of `Lake.bars` by the clock of receipt. One of a warm-up has prices,
    volume and open interest alone."""

    symbol: str | None
    time: dt.datetime
    open: float
    high: float
    low: float
    close: float
    volume: int | None
    volume_missed: int | None = None
    value: float | None = None
    vwap: float | None = None
    oi: int | None = None
    ticks: int | None = None
    clock: str | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """From `start` to `stop` nothing of these instruments could be received: no connection for them was connected."""

    start: dt.datetime
    stop: dt.datetime
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One of them, with the moment at which it is given."""

    us: int
    item: Bar | Outage


ASKED: Final = dt.timedelta(minutes=1)
"""An instrument that a connection was asked for within this of being connected was wanted all along. What is asked for
later is not missed before: that it would be is of the future."""
_COLUMNS: Final = list(Bar.__dataclass_fields__)


def bars_of(rows: pa.Table, until_us: int) -> list[Point]:
    """Of bars, as `Lake.bars` names them by their end, those that had closed by then.

    Without those of an interval in which no trade was seen: that nothing would come of it was known at the end of the
    day alone.
    """
    ends = numbers_of(rows["time"]).tolist()
    values = zip(*(rows[name].to_pylist() for name in _COLUMNS), strict=True)
    found = [Point(us, Bar(*each)) for us, each in zip(ends, values, strict=True) if us <= until_us]
    return [point for point in found if isinstance(point.item, Bar) and point.item.ticks]


def outages_of(state: LakeState, day: dt.date, tokens: Sequence[int] | None, now: dt.datetime) -> list[Point]:
    """The outages of a day that have ended, in the hours of trading of the exchanges."""
    span = span_of_day(day, now)
    last_rows = last_rows_of(state, day)
    runs = runs_of_day(state, span, last_rows, OF_CONNECTIONS)
    if not runs or not (last_rows or are_noted(state, day)):  # without ticks it may have been a holiday
        return []
    elsewhere = [span] if last_rows else []
    lost = outages(runs, span)
    which = "true" if tokens is None else f"instrument_token IN ({', '.join(map(str, tokens)) or 'NULL'})"
    (brought,) = state.read(
        [
            f"""
        SELECT accounts, connections, firsts, list(instrument_token ORDER BY instrument_token) AS tokens FROM (
            SELECT instrument_token, list(account ORDER BY account, connection) AS accounts,
                list(connection ORDER BY account, connection) AS connections,
                list(first ORDER BY account, connection) AS firsts
            FROM (
                SELECT instrument_token, account, connection, min(since) AS first
                FROM ({sources_sql(among(with_before([day])), which)}) GROUP BY ALL
            ) GROUP BY instrument_token
        ) GROUP BY ALL ORDER BY ALL
        """
        ]
    )
    trading: dict[str, list[Stretch]] = {}
    for each in sessions_of(state, [day]).to_pylist():
        trading.setdefault(each["exchange"], []).append((each["opens"], each["closes"]))
    rows = brought.to_pylist()
    exchanges = exchanges_of(state, day, (token for row in rows for token in row["tokens"]))
    found: dict[Stretch, list[int]] = {}
    for row in rows:
        earliest = min(row["firsts"])
        out = []
        for account, connection, first in zip(row["accounts"], row["connections"], row["firsts"], strict=True):
            stretches = lost.get((account, connection), [span])
            was_there = not any(start <= first - ASKED < stop for start, stop in stretches)
            if was_there and first > earliest + ASKED:  # until then it was there for others
                stretches = merged([*stretches, (span[0], first)])
            out.append(stretches)
        by_hours: dict[tuple[Stretch, ...], list[int]] = {}
        for token in row["tokens"]:
            by_hours.setdefault(tuple(merged(trading.get(exchanges[token], elsewhere))), []).append(token)
        for hours, alike in by_hours.items():
            for start, stop in within(_all_of(out), hours):
                if stop < span[1] and earliest <= stop + ASKED:
                    found.setdefault((start, stop), []).extend(alike)
    return [
        Point(nanoseconds(stop) // NS_PER_US, Outage(start.astimezone(IST), stop.astimezone(IST), tuple(sorted(those))))
        for (start, stop), those in found.items()
    ]


def _all_of(several: Sequence[Sequence[Stretch]]) -> Sequence[Stretch]:
    """When all are out at the same time."""
    first, *rest = several
    for each in rest:
        first = within(first, each)
    return first


def ordered(points: Iterable[Point]) -> list[Point]:
    """By the moment at which they are given; at the same, outages come first, then bars by symbol."""

    def key(point: Point) -> tuple[int, bool, Any]:
        item = point.item
        return point.us, isinstance(item, Bar), (item.symbol or "") if isinstance(item, Bar) else item.tokens

    return sorted(points, key=key)
