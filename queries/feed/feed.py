"""The feed itself: what was captured, in the order of receipt, in the form that is asked for."""

import asyncio
import dataclasses
import datetime as dt
import hashlib
import operator
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from queries.arguments import is_whole, number_of
from queries.errors import FeedError, OutageError
from queries.feed.days import (
    SETTLED,
    WAITING,
    Asked,
    Given,
    Item,
    Place,
    Position,
    Progress,
    Settled,
    Source,
    day_before,
    moment_us,
    settled_at,
)
from queries.feed.points import Bar, Outage
from queries.feed.sweep import Block
from queries.feed.tick import ALL, FeedTick, Values, dicts_of
from queries.history import Moment, lists_in_force, moment_of
from queries.lake import LakeState
from queries.processes import Process
from storage.clock import IST, NS_PER_US, US_PER_DAY, day_bounds_ns, time_of, us_of
from storage.memory import missing_of, numpy_of

POLL_SECONDS: Final = 0.1
BATCH_ROWS: Final = 65_536
TURN_ROWS: Final = 1_000
"""An asynchronous consumer that never waits lets the event loop run after so many ticks."""
VIEW_ROWS: Final = 16_384
"""Of so many ticks at a time values become objects, so that these take little memory."""


class TickFeed:
    """What `Lake.feed` gives: ticks in the order (received_at, stream, seq), and what was asked for beside them.

    Each way to read it goes on where the one before stopped: iterating over ticks, `batches`, `slices`, `dicts`. One
    thread at a time reads it; `close` may come from any.
    """

    def __init__(
        self,
        look: Callable[[], LakeState],
        asked: Asked,
        *,
        follow: bool = False,
        warmup: Sequence[Bar] = (),
        position: Position | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> None:
        """`look` gives the state of the lake."""
        self._process = Process(self)
        self._look = look
        self._asked = asked
        self._source = Source(look, asked, follow, warmup, progress)
        self._place = None if position is None else Place(us_of(position.received_at), position.stream, position.seq)
        self._settled: Settled | None = None  # as far as bars and outages were given, or are left out
        if position is not None and self._place is not None:
            usual = settled_at(self._place)
            self._settled = usual if position.settled is None else Settled(us_of(position.settled), position.given)
        self._given: Given | None = Given()  # up to the row `_noted` of the block; None if it is not known
        if position is not None:
            self._given = None
            if position.streams is not None and self._place is not None:
                self._given = Given({name: (seq, self._place.us) for name, seq in position.streams})
        self._closed = threading.Event()
        self._reading = threading.Lock()  # a thread that reads goes on when the task that waited for it is cancelled
        self._items: Iterator[Item] | None = None
        self._ahead: Bar | Outage | None = None  # what was read, and not given yet
        self._block: Block | None = None
        self._row = self._noted = 0
        self._reader: object = None  # who reads it, until another does, or it is sought elsewhere, or closed

    @property
    def columns(self) -> tuple[str, ...]:
        """Of its ticks."""
        return self._asked.columns

    @property
    def schema(self) -> pa.Schema:
        """Of its batches."""
        return self._asked.schema

    @property
    def position(self) -> Position | None:
        """Behind what was given last; `Lake.feed(…, position=…)` goes on from there. None at the beginning."""
        place = self._at()
        if place is None:
            return None
        position = Position(time_of(place.us), place.stream, place.number)
        if (given := self._given_now()) is not None and self._asked.ticks:
            since_us = day_bounds_ns(day_before(place))[0] // NS_PER_US
            position = position._replace(streams=tuple(sorted(given.numbers(since_us).items())))
        settled = self._settled_at(place)
        if settled == settled_at(place) or (self._asked.width is None and self._asked.on_gap == "skip"):
            return position
        return position._replace(settled=time_of(settled.us), given=settled.number)

    def seek(self, moment: Moment) -> None:
        """Go forward: what is given next was received at that moment or later. Raises FeedError if it lies behind."""
        us = us_of(moment_of(moment, "moment"))
        self._process.check()
        with self._reading:
            place = self._at()
            if place is not None and us < place.us:
                raise FeedError(
                    f"seek: got {time_of(us)}, expected no time before {time_of(place.us)}, where the feed is"
                )
            sought = Place(us, "", 0)
            self._place = sought if place is None else max(place, sought)
            self._settled = settled_at(self._place) if place is None else max(self._settled_at(place), Settled(us, 0))
            self._items = self._block = self._ahead = self._reader = self._given = None

    def close(self) -> None:
        """End it: who iterates comes to an end. Idempotent."""
        self._closed.set()
        self._reader = None

    def instruments(self, day: Moment | None = None) -> pa.Table:
        """What the instrument list in force on that day says of the instruments: lot_size, expiry, strike, tick_size,
        symbol, … By default the day of the last tick given, or the first of the range."""
        state = self._look()
        if day is None:
            place = self._at()
            days = self._asked.days(state)
            date = time_of(place.us).date() if place is not None else days[0] if days else None
        else:
            date = moment_of(day, "day").date()
        if date is None:
            raise FeedError("instruments: got no day, expected one: the feed has no day with ticks")
        listed = lists_in_force(state, [date]).get(date)
        if listed is None:
            raise FeedError(f"instruments: there is no instrument list of {date} or before")
        tokens = self._asked.tokens(state, date)
        which = "true" if tokens is None else f"instrument_token IN ({', '.join(map(str, tokens)) or 'NULL'})"
        query = f"SELECT * EXCLUDE (date) FROM instruments WHERE date = DATE '{listed}' AND {which} ORDER BY symbol"
        return next(state.read([query]))

    def __iter__(self) -> Iterator[FeedTick | Bar | Outage]:
        """Ticks, and bars and outages in their places."""
        for item in self._waited():
            if item is WAITING:
                continue
            if not isinstance(item, Block):
                yield item
                continue
            me = self._begun()
            while self._reader is me and self._row < len(item):
                values, first, count = self._values(item)
                for row in range(count):
                    self._row = first + row + 1
                    yield FeedTick(values, row)
                    if self._reader is not me:
                        break

    async def __aiter__(self) -> AsyncIterator[FeedTick | Bar | Outage]:
        """The same, without holding up the event loop while it reads or waits."""
        while (item := await asyncio.to_thread(self._next)) is not None and not self._closed.is_set():
            self._take(item)
            if item is WAITING:
                await asyncio.sleep(POLL_SECONDS)
                continue
            if not isinstance(item, Block):
                yield item
                continue
            me = self._begun()
            while self._reader is me and self._row < len(item):
                values, first, count = self._values(item)
                for row in range(count):
                    self._row = first + row + 1
                    yield FeedTick(values, row)
                    if self._reader is not me:
                        break
                    if not row % TURN_ROWS:
                        await asyncio.sleep(0)

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The ticks alone, as Arrow batches of at most so many rows. Text is in dictionaries, times are in IST."""
        if not is_whole(rows, 1):
            raise FeedError(f"rows: got {rows!r}, expected a whole number of at least 1")
        rows = operator.index(rows)  # one of numpy's would wrap around
        for block in self._blocks():
            columns = self._shown(block)
            me = self._begun()
            while self._reader is me and self._row < len(block):
                start, self._row = self._row, min(self._row + rows, len(block))
                yield self._batch(columns, start, self._row)

    def slices(self, width: float | dt.timedelta) -> Iterator[tuple[dt.datetime, pa.RecordBatch]]:
        """The ticks of each interval of so many seconds, with the moment at which it ends: a batch holds what was
        received from `width` before that up to it. Intervals begin at midnight; empty ones are left out."""
        seconds = width.total_seconds() if isinstance(width, dt.timedelta) else number_of(width)
        if seconds is None or not 1e-6 <= seconds <= 86_400:
            raise FeedError(f"slices: got {width!r}, expected seconds up to a day, such as 0.25")
        size = round(seconds * 1_000_000)
        waiting: list[pa.RecordBatch] = []
        end_us = 0
        for item in self._waited():
            if item is WAITING and us_of(dt.datetime.now(IST) - SETTLED) >= end_us and waiting:
                yield time_of(end_us), _one(waiting)
                waiting = []
            if not isinstance(item, Block):
                continue
            columns = self._shown(item)
            me = self._begun()
            while self._reader is me and self._row < len(item):
                if waiting and item.received_us[self._row] >= end_us:  # the position is behind these still
                    yield time_of(end_us), _one(waiting)
                    waiting = []
                    continue
                start, us = self._row, int(item.received_us[self._row])
                midnight = us_of(time_of(us).replace(hour=0, minute=0, second=0, microsecond=0))
                end_us = midnight + min(((us - midnight) // size + 1) * size, US_PER_DAY)
                self._row = start + int(np.searchsorted(item.received_us[start:], end_us))
                waiting.append(self._batch(columns, start, self._row))
        if waiting:
            yield time_of(end_us), _one(waiting)

    def dicts(self) -> Iterator[dict[str, Any]]:
        """The ticks alone, as the dictionaries that the official client's callbacks get; for any feed that has not
        begun, else for one of all columns."""
        if set(ALL) - set(self._asked.columns):
            if self._items is not None:
                raise FeedError("dicts: got a feed of some columns that has begun, expected one with columns='all'")
            self._asked = dataclasses.replace(self._asked, columns=ALL)
            self._source = dataclasses.replace(self._source, asked=self._asked)
        for block in self._blocks():
            me = self._begun()
            while self._reader is me and self._row < len(block):
                part = block.slice(self._row, self._row + VIEW_ROWS)
                for found in dicts_of(self._shown(part)):
                    self._row += 1
                    yield found
                    if self._reader is not me:
                        break

    def digest(self) -> str:
        """A digest of all ticks from here on, which are read for it: equal ticks give equal ones, whatever files they
        lie in and however many were read at once."""
        digests = {name: (hashlib.sha256(), hashlib.sha256()) for name in self._asked.columns}
        for batch in self.batches():
            for name, (valid, values) in digests.items():
                column = batch.column(name)
                valid.update((~missing_of(column)).tobytes())
                values.update(_bytes_of(column))
        whole = hashlib.sha256()
        for name, (valid, values) in digests.items():
            whole.update(f"{name} {valid.hexdigest()} {values.hexdigest()}\n".encode())
        return whole.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TickFeed({self._asked.symbols!r}, {self._asked.when.start} to {self._asked.when.stop})"

    def _at(self) -> Place | None:
        if self._block is None or not self._row:
            return self._place
        row = self._row - 1
        place = Place(int(self._block.received_us[row]), self._block.stream(row), int(self._block.seq[row]))
        return place if self._place is None else max(self._place, place)  # what is live may come late

    def _given_now(self) -> Given | None:
        """What was given of each stream."""
        if self._given is not None and self._block is not None and self._noted < self._row:
            self._given.note(self._block.slice(self._noted, self._row))
            self._noted = self._row
        return self._given

    def _settled_at(self, place: Place) -> Settled:
        """As far as bars and outages were given, up to a place."""
        usual = settled_at(place)
        by_source = usual if self._source.settled_us is None else min(usual, Settled(self._source.settled_us + 1, 0))
        if self._settled is None:
            return by_source
        return self._settled if self._source.settled_us is None else max(by_source, self._settled)

    def _shown(self, block: Block) -> dict[str, pa.Array]:
        return {field.name: block.columns[field.name].cast(field.type) for field in self._asked.schema}

    def _begun(self) -> object:
        """Who reads from now on; whoever did goes on behind him."""
        self._reader = me = object()
        if self._closed.is_set():
            self._reader = None
        return me

    def _values(self, block: Block) -> tuple[Values, int, int]:
        """Of the next rows: their values, the first of them, and how many."""
        part = block.slice(self._row, self._row + VIEW_ROWS)
        return Values(self._shown(part)), self._row, len(part)

    def _batch(self, columns: dict[str, pa.Array], start: int, stop: int) -> pa.RecordBatch:
        arrays = [columns[name].slice(start, stop - start) for name in self._asked.columns]
        return pa.RecordBatch.from_arrays(arrays, schema=self._asked.schema)

    def _next(self) -> Item | None:
        """The block that was begun, if there is more of it, or what comes next, until it is taken; None at the end."""
        self._process.check()
        with self._reading:
            if self._closed.is_set():
                return None
            if self._block is not None and self._row < len(self._block):
                return self._block
            if self._ahead is not None:
                return self._ahead
            if self._items is None:
                self._settled = None if self._place is None else self._settled_at(self._place)
                self._items = self._source.after(self._place, self._settled, self._given_now())
            self._given_now()
            self._place, self._block, self._row, self._noted = self._at(), None, 0, 0
            try:
                item = next(self._items, None)
            except FileNotFoundError as error:
                self._items = None
                raise FeedError(
                    f"{error}: it was vacuumed since the feed came to this day; read on, which looks anew"
                ) from error
            except BaseException:
                self._items = None  # which would seem to be at its end
                raise
            if isinstance(item, Block):
                self._block = item
            elif isinstance(item, Bar | Outage):
                self._ahead = item
            return item

    def _take(self, item: Item) -> None:
        """A bar or an outage is given. Raises OutageError."""
        if isinstance(item, Bar | Outage) and item is self._ahead:
            us = moment_us(item)
            same = self._place is not None and self._place[:2] == (us, "")
            place = Place(us, "", self._place.number + 1 if same and self._place else 1)
            self._place = place if self._place is None else max(self._place, place)
            before = self._settled
            self._settled = Settled(us, before.number + 1 if before is not None and before.us == us else 1)
            self._ahead = None
            if isinstance(item, Outage) and self._asked.on_gap == "raise":
                raise OutageError(
                    f"from {item.start} to {item.stop} nothing of {len(item.tokens)} instruments could be received; "
                    "on_gap='mark' gives such times as they come, 'skip' leaves them out"
                )

    def _waited(self) -> Iterator[Item]:
        """All that comes, and in between that nothing is there."""
        while (item := self._next()) is not None and not self._closed.is_set():
            self._take(item)
            yield item
            if item is WAITING and self._closed.wait(POLL_SECONDS):
                return

    def _blocks(self) -> Iterator[Block]:
        return (item for item in self._waited() if isinstance(item, Block))


def _one(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]


def _bytes_of(column: pa.Array) -> bytes:
    """Its values, 0 or nothing where there are none."""
    if pa.types.is_dictionary(column.type):
        return "".join(f"{text or ''}\0" for text in column.cast(pa.string()).to_pylist()).encode()
    if pa.types.is_boolean(column.type):
        numbers = column.cast(pa.int8())
    elif pa.types.is_floating(column.type):
        numbers = column
    else:
        numbers = column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64())
    return numpy_of(numbers, 0).tobytes()
