"""A captured day as packets: its instruments, and what was received, in order, encoded as it came."""

import datetime as dt
import io
from collections.abc import Generator, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ingest.server import Ints
from ingest.wire import divisor_of, encode_payload
from kitelake.errors import FeedError, ReplayError
from kitelake.lake import Lake
from kitelake.paper import Instrument
from kitelake.replay.packets import Bools, Latest, Slice
from queries.feed import Outage
from queries.history import Symbols
from storage.clock import IST, NS_PER_US, ist_date, time_of, us_of
from storage.schema import TICKS

SLICE_ROWS: Final = 65_536
_PREFIXES: Final = 4
"""Bytes before the packet of a frame of one: how many there are, and how long it is."""
_KEYS: Final = ("received_at", "stream", "account", "connection")
"""Rows that have them in common came in one frame."""
_WIRE: Final = tuple(name for name in TICKS.schema.names if name not in {*_KEYS, "date", "exchange", "seq", "symbol"})
_SHIFTED: Final = ("last_trade_time", "exchange_timestamp")
_LISTED: Final = (
    "instrument_token", "exchange_token", "tradingsymbol", "name", "last_price", "expiry", "strike", "tick_size",
    "lot_size", "instrument_type", "segment", "exchange",
)  # fmt: skip
"""The columns of the broker's CSV, in its order."""
_EXTENT: Final = """
    SELECT list(DISTINCT instrument_token) AS tokens, epoch_us(min(received_at)) AS first_us,
        epoch_us(max(received_at)) AS last_us
    FROM ticks
    WHERE date = $day AND received_at >= $start AND received_at < $stop
        AND ($tokens IS NULL OR list_contains($tokens::BIGINT[], instrument_token))
"""
_LAST: Final = dt.timedelta(microseconds=1)


class ReplayDay:
    """The packets that `ticks` shows of a day, or of some instruments and some hours of it."""

    def __init__(
        self,
        lake: Lake,
        date: dt.date,
        symbols: Symbols | None = None,
        start: dt.time | None = None,
        stop: dt.time | None = None,
        shift_us: int = 0,
    ) -> None:
        """`start` and `stop` are in IST; the day begins with its first packet, and ends with its last one. Times in
        packets are `shift_us` later than they were captured: whole seconds.

        Raises ReplayError if there is nothing to serve, SymbolError, QueryError.
        """
        self._lake = lake
        self.date = date
        self._symbols = symbols
        self._shift_us = shift_us
        table = self._list()
        self.listed: Mapping[int, Instrument] = {one.token: one for one in map(_instrument, table.to_pylist())}
        self._table = table
        midnight = dt.datetime.combine(date, dt.time(), IST)
        begin = midnight if start is None else dt.datetime.combine(date, start, IST)
        self._stop = midnight + dt.timedelta(days=1) if stop is None else dt.datetime.combine(date, stop, IST)
        asked = {"day": date, "start": begin, "stop": self._stop, "tokens": symbols and list(self.listed)}
        (found,) = lake.sql(_EXTENT, asked).arrow().to_pylist()
        if not found["tokens"]:
            between = f" from {begin:%H:%M} to {self._stop:%H:%M} IST" if start or stop else ""
            raise ReplayError(
                f"{date}: got a day without ticks{between}, expected one with some; see `kitelake coverage`"
            )
        self.first_us: int = found["first_us"] if start is None else us_of(begin)
        self.last_us: int = found["last_us"]
        """When the last packet was received."""
        self.tokens: Ints = np.unique(np.array([*self.listed, *found["tokens"]], np.int64))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def told_date(self) -> dt.date:
        """The day that packets say they are of: another one if their times are shifted."""
        return ist_date((self.first_us + self._shift_us) * NS_PER_US)

    @property
    def etag(self) -> str:
        """Names the list of instruments."""
        return f'W/"{self.date}-{len(self):x}"'

    def csv(self, exchange: str) -> str:
        """The day's list of an exchange, or of all (""), as the broker has it."""
        table = self._table
        if exchange:
            table = table.filter(pc.equal(table["exchange"], exchange))
        columns = {name: table[name] for name in _LISTED}
        columns["expiry"] = pc.fill_null(columns["expiry"].cast(pa.string()), "")
        for name in ("last_price", "strike", "tick_size", "lot_size"):  # the broker leaves no number out
            columns[name] = pc.fill_null(columns[name], 0)
        text = io.BytesIO()
        pyarrow.csv.write_csv(pa.table(columns), text, pyarrow.csv.WriteOptions(include_header=False))
        return f"{','.join(_LISTED)}\n{text.getvalue().decode()}"

    def row(self, token: int) -> int | None:
        """The place of an instrument in `tokens`."""
        place = int(np.searchsorted(self.tokens, token))
        return place if place < len(self.tokens) and self.tokens[place] == token else None

    def latest(self, us: int) -> Latest:
        """What was known just before a moment of the day."""
        known = Latest(len(self))
        tokens = None if self._symbols is None else list(self.listed)
        moment = time_of(us) - _LAST
        if tokens == [] or moment.astimezone(IST).date() != self.date:
            return known
        rows = self._served(self._lake.latest(tokens, moment, columns=[*_KEYS, *_WIRE]).arrow())
        if len(rows):
            # A packet that tells of another day was cached; whether one of this day was is of no account here.
            stamped = pc.coalesce(rows["exchange_timestamp"], rows["last_trade_time"], rows["received_at"])
            begin = dt.datetime.combine(self.date, dt.time(), IST)
            live = pc.greater_equal(stamped, pa.scalar(begin, stamped.type)).combine_chunks()
            part = self._slice(rows, live.to_numpy(zero_copy_only=False), np.zeros(len(rows), np.bool_))
            known.update(part, 0, len(part))
        return known

    def slices(self, us: int) -> Generator[Slice, None, None]:
        """What was received from a moment on, thousands of packets at a time, each frame in one piece."""
        gaps = _Gaps(self, us)
        start = time_of(us)
        held: pa.Table | None = None
        with self._lake.feed(self._symbols, start, self._stop, columns=[*_KEYS, *_WIRE, "cached"]) as feed:
            for batch in feed.batches(SLICE_ROWS):
                table = self._served(pa.Table.from_batches([batch]))
                if not len(table):
                    continue
                if held is not None:
                    table = pa.concat_tables([held, table]).unify_dictionaries().combine_chunks()
                last = int(np.flatnonzero(_begins(table))[-1])
                if last:
                    yield self._next(table.slice(0, last), gaps)
                held = table.slice(last)
        if held is not None:
            yield self._next(held, gaps)

    def outages(self) -> list[Outage]:
        """When nothing of some instruments could be received, by when that ended."""
        begin = dt.datetime.combine(self.date, dt.time(), IST)
        with self._lake.feed(self._symbols, begin, begin + dt.timedelta(days=1), ticks=False, on_gap="mark") as feed:
            return [each for each in feed if isinstance(each, Outage)]

    def _list(self) -> pa.Table:
        """The instruments in force on the day that were asked for; none if there is no list."""
        with self._lake.feed(self._symbols, self.date) as feed:
            try:
                return feed.instruments(dt.datetime.combine(self.date, dt.time(), IST))
            except FeedError:
                if self._symbols is not None:
                    raise
        return self._lake.sql("SELECT * EXCLUDE (date) FROM instruments LIMIT 0").arrow()

    def _served(self, table: pa.Table) -> pa.Table:
        """Without what an instrument brings that nobody knew of when the day was looked at: it may go on meanwhile."""
        tokens = _numbers(table["instrument_token"])
        places = np.minimum(np.searchsorted(self.tokens, tokens), len(self) - 1)
        known = self.tokens[places] == tokens
        return table if known.all() else table.filter(pa.array(known))

    def _next(self, table: pa.Table, gaps: "_Gaps") -> Slice:
        cached = pc.fill_null(table["cached"], False).combine_chunks().to_numpy(zero_copy_only=False)
        times, rows = _numbers(table["received_at"]), np.searchsorted(self.tokens, _numbers(table["instrument_token"]))
        return self._slice(table, ~cached, gaps.first(times, rows))

    def _slice(self, table: pa.Table, live: Bools, after_gap: Bools) -> Slice:
        payload, lengths = encode_payload(self._shifted(table.select(_WIRE)), 1)
        return Slice(
            times=_numbers(table["received_at"]),
            rows=np.searchsorted(self.tokens, _numbers(table["instrument_token"])),
            frames_of=np.cumsum(_begins(table)),
            data=payload,
            starts=np.cumsum(lengths) - lengths + _PREFIXES,
            lengths=lengths - _PREFIXES,
            live=live,
            after_gap=after_gap,
        )

    def _shifted(self, table: pa.Table) -> pa.Table:
        if not self._shift_us:
            return table
        for name in _SHIFTED:
            kind = table[name].type
            later = pc.add(table[name].cast(pa.int64()), self._shift_us).cast(kind)
            table = table.set_column(table.schema.get_field_index(name), name, later)
        return table


class _Gaps:
    """Which packets are the first of their instruments after an outage."""

    def __init__(self, day: ReplayDay, us: int) -> None:
        """From a moment on."""
        self._day = day
        self._outages = day.outages()
        self._since: Ints = np.full(len(day), np.iinfo(np.int64).max)  # the first from then on is the one
        self._next = 0
        if self._due(us):
            known = day.latest(us).times
            self._since[known >= self._since] = np.iinfo(np.int64).max

    def first(self, times: Ints, rows: Ints) -> Bools:
        """(n,) of packets that come next."""
        found: Bools = np.zeros(len(times), np.bool_)
        # One outage after the other: an instrument may have several ends within these packets.
        while True:
            more = self._due(int(times[-1]), 1)
            places = np.flatnonzero(times >= self._since[rows])
            firsts = places[np.unique(rows[places], return_index=True)[1]]
            found[firsts] = True
            self._since[rows[firsts]] = np.iinfo(np.int64).max
            if not more:
                return found

    def _due(self, us: int, most: int | None = None) -> int:
        """Take the outages that had ended by then, or so many of them; returns how many."""
        taken = 0
        while taken != most and self._next < len(self._outages) and us_of(self._outages[self._next].stop) <= us:
            outage = self._outages[self._next]
            rows = [row for token in outage.tokens if (row := self._day.row(token)) is not None]
            self._since[rows] = us_of(outage.stop)
            self._next += 1
            taken += 1
        return taken


def _instrument(row: dict[str, object]) -> Instrument:
    values = {name: row[name] for name in ("exchange", "tradingsymbol", "name", "segment", "instrument_type", "expiry")}
    token = int(str(row["instrument_token"]))
    divisor = divisor_of(token)
    return Instrument(
        token=token,
        exchange_token=int(str(row["exchange_token"] or 0)),
        strike=float(str(row["strike"] or 0)),
        tick=round(float(str(row["tick_size"] or 0)) * divisor),
        lot_size=int(str(row["lot_size"] or 0)),
        divisor=divisor,
        **{name: value if name == "expiry" else str(value or "") for name, value in values.items()},  # type: ignore[arg-type]
    )


def _begins(table: pa.Table) -> Bools:
    """(n,) whether a row is the first of its frame."""
    changes: Bools = np.zeros(len(table), np.bool_)
    changes[:1] = True
    for name in _KEYS:
        changes[1:] |= np.diff(_numbers(table[name])) != 0
    return changes


def _numbers(column: pa.ChunkedArray) -> Ints:
    """Numbers as they are, times as microseconds, and text by its place in the dictionary."""
    array = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        return array.indices.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    if pa.types.is_string(array.type):
        return array.dictionary_encode().indices.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    return array.cast(pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
