"""How late the day's live packets came, and how many were not live.

The stream brings old packets, too: after a subscription the cached last value, possibly of another day; and snapshots
in which nothing is new. How long those lay about says nothing of the way here. A full packet is live if its
exchange_timestamp is

- of the day,
- later than the last time before its receipt that its connection was opened, or that it was subscribed or its mode set,
- later than any that its stream has brought of the instrument: of those of one second of the exchange, the first.

The last asks for the order of receipt. The rows of an instrument lie in it, file after file, so batches are judged as
they are read, with the latest time of each instrument kept in between: memory is that of a batch, however long the day.
On a day of 6 million full packets of 3,000 instruments this takes some 1.3 s of CPU time, where the rest of the report
takes 1.7 s; a window function of DuckDB takes 9 s, since it sorts the day by instrument, on the disk if it has to.
"""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.connection import Event
from kitelake.report.model import Latency
from storage.clock import NS_PER_SECOND, day_bounds_ns

if TYPE_CHECKING:
    from queries.lake import SqlLake

Ints = NDArray[np.int64]

BATCH_ROWS: Final = 1 << 18
SECOND_US: Final = 1_000_000
DAY_SECONDS: Final = 86_400
BIN_US: Final = 10_000
_BITS: Final = 32  # seconds since 1970 have no more until the year 2106

_PLACES: Final = """
    SELECT unnest($streams) AS stream, unnest($accounts) AS account, unnest($connections) AS connection,
        unnest(range(len($streams))) AS place
"""
_PACKETS: Final = f"""
    SELECT place, instrument_token, epoch_us(received_at) AS received_us, epoch_us(exchange_timestamp) AS exchange_us
    FROM ticks JOIN ({_PLACES}) USING (stream, account, connection)
    WHERE date = $date AND mode = 'full' AND exchange_timestamp IS NOT NULL
"""  # noqa: S608 (our own text)
_ASKS: Final = f"""
    SELECT place, epoch_us(received_at) AS at_us,
        unnest(CASE WHEN event = '{Event.CONNECTED}' THEN [0] ELSE (data->'$.tokens')::BIGINT[] END) AS instrument_token
    FROM events JOIN ({_PLACES}) USING (stream, account, connection)
    WHERE date = $date AND event IN ('{Event.CONNECTED}', '{Event.SUBSCRIBED}', '{Event.MODE}')
"""  # noqa: S608


class StreamConnection(NamedTuple):
    """A connection in one run of the service."""

    stream: str
    account: str
    connection: int


def latency_of(
    lake: "SqlLake", date: dt.date, places: Sequence[StreamConnection], tokens: Ints
) -> tuple[Latency | None, int]:
    """The latency of the day's live packets, None without one; and how many full packets were not live.

    `places` are those that have ticks of the day, `tokens` their instruments. What comes meanwhile is left out.
    """
    values = {
        "date": date,
        "streams": [place.stream for place in places],
        "accounts": [place.account for place in places],
        "connections": [place.connection for place in places],
    }
    asks = lake.sql(_ASKS, values).arrow()
    judge = _Judge(date, places, np.sort(tokens), *_columns(asks, "place", "instrument_token", "at_us"))
    lake.sql("SET threads = 1")  # several hand their batches over in any order
    for batch in lake.sql(_PACKETS, values).reader(BATCH_ROWS):
        judge.look_at(*_columns(batch, "place", "instrument_token", "received_us", "exchange_us"))
    return judge.latency(), judge.not_live


def _columns(rows: pa.Table | pa.RecordBatch, *names: str) -> list[Ints]:
    return [rows[name].to_numpy(zero_copy_only=False).astype(np.int64, copy=False) for name in names]


class _Judge:
    """Counts live packets by their latency. Instruments and places are numbers from here on."""

    def __init__(
        self, date: dt.date, places: Sequence[StreamConnection], tokens: Ints, place: Ints, token: Ints, at_us: Ints
    ) -> None:
        """The last three say when which connection was asked for an instrument, or opened, with 0 for the token."""
        self.not_live = 0
        self._day_begin = day_bounds_ns(date)[0] // NS_PER_SECOND
        self._tokens = tokens
        streams = sorted({each.stream for each in places})
        self._stream_of: Ints = np.array([streams.index(each.stream) for each in places], np.int64)
        self._latest: Ints = np.zeros(len(streams) * len(tokens), np.int64)
        self._counts: Counter[int] = Counter()
        opened = token == 0
        known = self._known(token) & ~opened
        key = place[known] * len(tokens) + np.searchsorted(tokens, token[known])
        self._opened = np.sort((place[opened] << _BITS) + at_us[opened] // SECOND_US)
        self._asked = np.sort((key << _BITS) + at_us[known] // SECOND_US)

    def _known(self, token: Ints) -> NDArray[np.bool_]:
        at = np.searchsorted(self._tokens, token).clip(max=max(len(self._tokens) - 1, 0))
        return self._tokens[at] == token if len(self._tokens) else np.zeros(len(token), np.bool_)

    def look_at(self, place: Ints, token: Ints, received_us: Ints, exchange_us: Ints) -> None:
        """A batch of full packets; those of an instrument in the order of their receipt, here and from call to call."""
        known = self._known(token)
        if not known.all():
            place, token, received_us, exchange_us = (
                values[known] for values in (place, token, received_us, exchange_us)
            )
        number = np.searchsorted(self._tokens, token)
        exchange, received = exchange_us // SECOND_US, received_us // SECOND_US
        since = np.maximum(
            _last_before(self._opened, place, received),
            _last_before(self._asked, place * len(self._tokens) + number, received),
        )
        of_the_day = (exchange >= self._day_begin) & (exchange < self._day_begin + DAY_SECONDS)
        news = self._is_news(self._stream_of[place] * len(self._tokens) + number, exchange)
        live = of_the_day & (exchange > since) & news
        self.not_live += len(live) - int(np.count_nonzero(live))
        bins, counts = np.unique((received_us[live] - exchange_us[live]) // BIN_US, return_counts=True)
        self._counts.update(dict(zip(bins.tolist(), counts.tolist(), strict=True)))

    def _is_news(self, key: Ints, exchange: Ints) -> NDArray[np.bool_]:
        """Which are later than all before with the same key. Remembers the latest of each."""
        if not len(key):
            return np.zeros(0, np.bool_)
        # numpy sorts 16 bits by radix, ten times as fast as 64
        order = np.argsort(key.astype(np.uint16) if len(self._latest) <= 1 << 16 else key, kind="stable")
        keys, times = key[order], exchange[order]
        first = np.diff(keys, prepend=-1) != 0
        floor = (keys << _BITS) + self._latest[keys]
        latest = np.maximum.accumulate(np.maximum((keys << _BITS) + times, floor))
        before = np.where(first, floor, np.concatenate((floor[:1], latest[:-1])))
        last = np.append(first[1:], True)
        self._latest[keys[last]] = latest[last] & ((1 << _BITS) - 1)
        news = np.empty(len(key), np.bool_)
        news[order] = (keys << _BITS) + times > before
        return news

    def latency(self) -> Latency | None:
        """Of the live packets so far."""
        packets = self._counts.total()
        if not packets:
            return None
        bins = sorted(self._counts)
        upto = np.cumsum([self._counts[each] for each in bins])

        def quantile(share: float) -> float:
            return bins[int(np.searchsorted(upto, share * packets))] * BIN_US / SECOND_US

        return Latency(
            packets=packets, p50_seconds=quantile(0.5), p99_seconds=quantile(0.99), max_seconds=quantile(1.0)
        )


def _last_before(moments: Ints, key: Ints, second: Ints) -> Ints:
    """For each the second of the last moment with its key, up to that second; 0 where there is none."""
    if not len(moments):
        return np.zeros(len(key), np.int64)
    found = moments[(np.searchsorted(moments, (key << _BITS) + second, "right") - 1).clip(min=0)]
    return np.where((found >> _BITS == key) & (found & ((1 << _BITS) - 1) <= second), found & ((1 << _BITS) - 1), 0)
