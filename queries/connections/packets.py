"""The packets of a day, read a part of the instruments at a time, and what was asked for before each.

The stream brings old packets, too: after a subscription the cached last value, possibly of another day. What a full
packet says of the time is new if its exchange_timestamp is of the day, and later than the last time before its receipt
that its connection was opened, or that it was subscribed or its mode set.

A part has all packets of its instruments, so parts are judged one by one: memory is that of a part, however long the
day. Within one they are put in order here, since DuckDB reads with several threads.
"""

import datetime as dt
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.lake import LakeState, literal
from storage.clock import NS_PER_SECOND, day_bounds_ns
from storage.events import Event
from storage.market import exchange_of_token
from storage.memory import numpy_of

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

PART_ROWS: Final = 1 << 20
MOST_PARTS: Final = 128
"""A longer day has longer parts: each of them reads the column of the tokens, in files that are not sorted by it."""
SECOND_US: Final = 1_000_000
DAY_SECONDS: Final = 86_400
_BITS: Final = 32  # seconds since 1970 have no more until the year 2106

_PLACES: Final = """
    SELECT unnest($streams) AS stream, unnest($accounts) AS account, unnest($connections) AS connection,
        unnest(range(len($streams))) AS place
"""
_ASKS: Final = f"""
    SELECT place, epoch_us(received_at) AS at_us,
        unnest(CASE WHEN event = '{Event.CONNECTED}' THEN [0] ELSE (data->'$.tokens')::BIGINT[] END) AS instrument_token
    FROM events JOIN ({_PLACES}) USING (stream, account, connection)
    WHERE date = $date AND event IN ('{Event.CONNECTED}', '{Event.SUBSCRIBED}', '{Event.MODE}')
"""


class Place(NamedTuple):
    """A connection in one run of the service."""

    stream: str
    account: str
    connection: int


@dataclass(frozen=True)
class Survey:
    """What ticks there are of a day: a row for each instrument and place, as columns.

    `token`, `place` (a number of `places`), `packets`, and when the `first` and the `last` was received, in µs.
    """

    date: dt.date
    places: Sequence[Place]
    token: Ints
    place: Ints
    packets: Ints
    first: Ints
    last: Ints

    def parts(self, tokens: Ints) -> Iterator[Ints]:
        """These instruments, ascending, in as many parts as their packets ask for."""
        counts = np.zeros(len(tokens), np.int64)
        known = np.isin(self.token, tokens)
        np.add.at(counts, np.searchsorted(tokens, self.token[known]), self.packets[known])
        rows = max(PART_ROWS, int(counts.sum()) // MOST_PARTS)
        number = (np.cumsum(counts) - 1).clip(min=0) // rows
        starts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(tokens)]
        return (tokens[start:stop] for start, stop in itertools.pairwise(starts) if start < stop)


def survey(state: LakeState, date: dt.date, tokens: Collection[int] | None = None) -> Survey:
    """The day's ticks, of all instruments or of these."""
    found = state.sql(
        f"""
        SELECT stream, account, connection, instrument_token, count(*) AS packets,
            min(epoch_us(received_at)) AS first, max(epoch_us(received_at)) AS last
        FROM ticks_all WHERE date = $date AND {which_tokens(tokens)} GROUP BY ALL
        """,
        {"date": date},
    ).arrow()
    at = list(map(Place._make, zip(*(found.column(name).to_pylist() for name in Place._fields), strict=True)))
    places = sorted(set(at))
    number = {place: each for each, place in enumerate(places)}
    rest = columns_of(found, "instrument_token", "packets", "first", "last")
    return Survey(date, places, rest[0], np.array([number[place] for place in at], np.int64), *rest[1:])


def which_tokens(tokens: Collection[int] | None) -> str:
    """The SQL condition for rows of ticks of these instruments, which also skips the files of other exchanges."""
    if tokens is None:
        return "true"
    exchanges = ", ".join(map(literal, sorted(set(map(exchange_of_token, tokens)))))
    numbers = ", ".join(map(str, sorted(tokens)))
    return f"exchange IN ({exchanges}) AND instrument_token IN ({numbers})" if tokens else "false"


def packets_of(state: LakeState, found: Survey, tokens: Ints, columns: str, where: str = "true") -> pa.Table:
    """All packets of the day of a part's instruments: these expressions over rows of ticks, and `place`. No order."""
    exchanges = ", ".join(map(literal, sorted(set(map(exchange_of_token, tokens.tolist())))))
    return state.sql(
        f"""
        SELECT place, {columns} FROM ticks_all JOIN ({_PLACES}) USING (stream, account, connection)
        WHERE date = $date AND exchange IN ({exchanges})
            AND instrument_token BETWEEN {int(tokens[0])} AND {int(tokens[-1])} AND {where}
        """,
        _values(found),
    ).arrow()


def columns_of(rows: pa.Table, *names: str) -> list[Ints]:
    """Whole numbers, with -1 for null."""
    return [numpy_of(rows.column(name), -1).astype(np.int64, copy=False) for name in names]


class Asks:
    """When connections were opened and instruments asked for. Instruments are numbers: their places in `tokens`."""

    def __init__(self, tokens: Ints, place: Ints, token: Ints, at_us: Ints) -> None:
        """The last three say when which connection was asked for an instrument, or opened, with 0 for the token."""
        self._count = len(tokens)
        opened = token == 0
        known = ~opened & np.isin(token, tokens)
        key = place[known] * self._count + np.searchsorted(tokens, token[known])
        self._opened = np.sort((place[opened] << _BITS) + at_us[opened] // SECOND_US)
        self._asked = np.sort((key << _BITS) + at_us[known] // SECOND_US)

    def since(self, place: Ints, number: Ints, received: Ints) -> Ints:
        """For each packet the second of the last time that it was asked for, up to that of its receipt; 0: none."""
        return np.maximum(
            _last_before(self._opened, place, received),
            _last_before(self._asked, place * self._count + number, received),
        )


def read_asks(state: LakeState, found: Survey) -> tuple[Ints, Ints, Ints]:
    """What `Asks` takes, of the survey's places and of the day."""
    place, token, at_us = columns_of(state.sql(_ASKS, _values(found)).arrow(), "place", "instrument_token", "at_us")
    return place, token, at_us


def is_of_the_day(date: dt.date, second: Ints) -> Bools:
    """Which seconds since 1970 are of that IST day."""
    begin = day_bounds_ns(date)[0] // NS_PER_SECOND
    return (second >= begin) & (second < begin + DAY_SECONDS)


def _values(found: Survey) -> dict[str, object]:
    return {
        "date": found.date,
        "streams": [place.stream for place in found.places],
        "accounts": [place.account for place in found.places],
        "connections": [place.connection for place in found.places],
    }


def _last_before(moments: Ints, key: Ints, second: Ints) -> Ints:
    """For each the second of the last moment with its key, up to that second; 0 where there is none."""
    if not len(moments):
        return np.zeros(len(key), np.int64)
    found = moments[(np.searchsorted(moments, (key << _BITS) + second, "right") - 1).clip(min=0)]
    return np.where((found >> _BITS == key) & (found & ((1 << _BITS) - 1) <= second), found & ((1 << _BITS) - 1), 0)
