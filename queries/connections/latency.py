"""How late the day's live packets came, and how many were not live.

A full packet is live if what it says of the time is new (see `queries.connections.packets`), and its
exchange_timestamp is later than any that its stream has brought of the instrument: of those of one second of the
exchange, the first. How long the others lay about says nothing of the way here.

Exchange times are whole seconds, rounded down, so each value is too high by up to a second. Values are rounded down to
0.01 s, and are negative where this machine's clock is behind. Of a replay nothing is said: its packets come by another
clock than that of their times.
"""

from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from queries.connections.packets import (
    DAY_SECONDS,
    SECOND_US,
    Asks,
    Bools,
    Ints,
    Survey,
    columns_of,
    is_of_the_day,
    packets_of,
    read_asks,
)
from queries.lake import LakeState
from storage.clock import NS_PER_US, day_bounds_ns
from storage.datafolder import replayed_day
from storage.schema import TIMESTAMP

BIN_US: Final = 10_000
_BINS: Final = 1 << 25
"""More than a day has, on both sides of 0."""
_PACKETS: Final = (
    "instrument_token, seq, epoch_us(received_at) AS received_us, epoch_us(exchange_timestamp) AS exchange_us"
)
_FULL: Final = "mode = 'full' AND exchange_timestamp IS NOT NULL"


class Quantiles(NamedTuple):
    """Of the live packets of some time, in seconds."""

    packets: int
    p50: float
    p90: float
    p99: float
    most: float


class Latencies:
    """Live packets by connection, stretch of the day and latency; and those that were not live, by the former two.

    `connections` are (account, connection); `bucket_seconds` is the length of a stretch.
    """

    def __init__(self, found: Survey, bucket_seconds: int) -> None:
        self.connections = sorted({place[1:] for place in found.places})
        self.not_live = 0
        self._date = found.date
        self._begin_us = day_bounds_ns(found.date)[0] // NS_PER_US
        self._bucket_us = bucket_seconds * SECOND_US
        self._buckets = DAY_SECONDS // bucket_seconds + 1
        self._group: Ints = np.array([self.connections.index(place[1:]) for place in found.places], np.int64)
        streams = sorted({place.stream for place in found.places})
        self._stream: Ints = np.array([streams.index(place.stream) for place in found.places], np.int64)
        self._live: dict[int, int] = {}
        self._others: dict[int, int] = {}

    def add(
        self, tokens: Ints, asks: Asks, place: Ints, token: Ints, seq: Ints, received: Ints, exchange: Ints
    ) -> None:
        """All full packets of these instruments, in any order; times in µs."""
        number = np.searchsorted(tokens, token)
        second = exchange // SECOND_US
        live = is_of_the_day(self._date, second) & (second > asks.since(place, number, received // SECOND_US))
        live &= _is_news(self._stream[place] * len(tokens) + number, seq, second)
        slot = self._group[place] * self._buckets + (received - self._begin_us) // self._bucket_us
        bins = (received[live] - exchange[live]) // BIN_US + _BINS // 2
        _count(self._live, slot[live] * _BINS + bins)
        _count(self._others, slot[~live])
        self.not_live += len(live) - int(np.count_nonzero(live))

    def total(self) -> Quantiles | None:
        """Of the whole day and all connections; None without a live packet."""
        counts: dict[int, int] = {}
        for key, count in self._live.items():
            counts[key % _BINS] = counts.get(key % _BINS, 0) + count
        return _quantiles(counts)

    def table(self) -> pa.Table:
        """A row for each connection and stretch of the day with full packets."""
        by_slot: dict[int, dict[int, int]] = {slot: {} for slot in self._others}
        for key, count in self._live.items():
            by_slot.setdefault(key // _BINS, {})[key % _BINS] = count
        rows = []
        for slot in sorted(by_slot):
            account, connection = self.connections[slot // self._buckets]
            time = self._begin_us + slot % self._buckets * self._bucket_us
            values = _quantiles(by_slot[slot]) or (0, None, None, None, None)
            rows.append((account, connection, time, *values, self._others.get(slot, 0)))
        columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)


SCHEMA: Final = pa.schema(
    [
        ("account", pa.string()),
        ("connection", pa.int64()),
        ("time", TIMESTAMP),
        ("packets", pa.int64()),
        ("p50_seconds", pa.float64()),
        ("p90_seconds", pa.float64()),
        ("p99_seconds", pa.float64()),
        ("max_seconds", pa.float64()),
        ("not_live", pa.int64()),
    ]
)


def latencies(state: LakeState, found: Survey, bucket_seconds: int) -> Latencies:
    """Those of the day of a survey."""
    result = Latencies(found, bucket_seconds)
    if replayed_day(state.root) is not None:
        return result
    asked = read_asks(state, found)
    for tokens in found.parts(np.unique(found.token)):
        rows = packets_of(state, found, tokens, _PACKETS, _FULL)
        names = ("place", "instrument_token", "seq", "received_us", "exchange_us")
        result.add(tokens, Asks(tokens, *asked), *columns_of(rows, *names))
    return result


def _is_news(key: Ints, seq: Ints, second: Ints) -> Bools:
    """Which are later than all before, in the order of `seq`, with the same key."""
    # Rows come in that order, mostly; and numpy sorts 16 bits by radix, ten times as fast as 64.
    order = np.argsort(key.astype(np.uint16) if len(key) and key.max() < 1 << 16 else key, kind="stable")
    if not ((seq[order][1:] > seq[order][:-1]) | (key[order][1:] != key[order][:-1])).all():
        order = np.lexsort((seq, key))
    keys, times = key[order], second[order]
    latest = np.maximum.accumulate((keys << 32) + times)
    news = np.empty(len(key), np.bool_)
    news[order] = np.append(True, latest[1:] > latest[:-1])[: len(key)]
    return news


def _count(counts: dict[int, int], values: Ints) -> None:
    """Add how often each value is there."""
    for value, count in zip(*(each.tolist() for each in np.unique(values, return_counts=True)), strict=True):
        counts[value] = counts.get(value, 0) + count


def _quantiles(counts: dict[int, int]) -> Quantiles | None:
    """Of bins and their counts."""
    if not counts:
        return None
    bins = sorted(counts)
    upto = np.cumsum([counts[each] for each in bins])
    packets = int(upto[-1])

    def quantile(share: float) -> float:
        return (bins[int(np.searchsorted(upto, share * packets))] - _BINS // 2) * BIN_US / SECOND_US

    return Quantiles(packets, quantile(0.5), quantile(0.9), quantile(0.99), quantile(1.0))
