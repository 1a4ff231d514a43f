"""What a feed gives, day by day and then as it comes: blocks of ticks in order, between them bars as they close, and
outages."""

import datetime as dt
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from queries.bars import Measure, width_of
from queries.errors import WidthError
from queries.feed.marks import NEEDS, Marks
from queries.feed.points import Bar, Outage, Point, bars_of, ordered, outages_of
from queries.feed.reading import FOREVER_US, KEYS, Reader, Wanted, parts_of, sources_in
from queries.feed.sweep import TEXT, Block, Pool, sweep
from queries.feed.tick import CACHED
from queries.history import Symbol, Symbols, TimeRange, lists_in_force, resolve, those_of
from queries.lake import LakeState, quoted
from storage.clock import IST, NS_PER_US, day_bounds_ns, time_of, us_of
from storage.memory import arrow_of, numpy_of
from storage.schema import TICKS

OnGap = Literal["skip", "mark", "raise"]
BarsIn = Callable[[Symbols, str | dt.timedelta, dt.datetime, dt.datetime], pa.Table]

SETTLED: Final = dt.timedelta(seconds=1)
"""So long after the end of an interval all that was received in it is in the journal, and its bar is given."""
FEW: Final = 20
"""Of so many instruments a day's ticks are asked of the database, which reads little more than theirs of each file."""
IST_TIME: Final = pa.timestamp("us", "Asia/Kolkata")
_MINUTE_US: Final = 60_000_000
EVERYTHING: Final = "*:*"


class Waiting(Enum):
    """Nothing more is there, now."""

    WAITING = 0


WAITING: Final = Waiting.WAITING
Item = Block | Bar | Outage | Waiting


class Progress(NamedTuple):
    """How far a feed is: in this day, which is the so manieth of so many, after so many ticks."""

    day: dt.date
    number: int
    days: int
    ticks: int


class Position(NamedTuple):
    """Up to where a feed was read: after this tick; or with "" as the stream, after so many bars and outages of that
    moment, before its ticks.

    A feed that follows a capture gives a bar a second after it has closed, when later ticks may have been given. There
    `settled` is the moment of which `given` bars and outages were given, and all of those before it.

    `streams` has of each stream the last `seq` that was given. What the lake has got since of before this place is told
    by them, and given first. None, also after `seek`: ticks of before this place are left out.
    """

    received_at: dt.datetime
    stream: str
    seq: int
    settled: dt.datetime | None = None
    given: int = 0
    streams: Sequence[tuple[str, int]] | None = None


class Place(NamedTuple):
    """Behind a row, by what orders rows; or with "" as the stream, behind so many bars and outages of that moment."""

    us: int
    stream: str
    number: int


class Given(dict[str, tuple[int, int]]):
    """Of each stream the last `seq` that was given, and when the latest of its rows was received, in µs."""

    def note(self, block: Block) -> None:
        """These rows were given."""
        streams = block.columns["stream"]
        codes = numpy_of(streams.indices)
        for code in np.unique(codes):
            name, mine = streams.dictionary[int(code)].as_py(), codes == code
            seq, us = self.get(name, (-1, 0))
            self[name] = max(seq, int(block.seq[mine].max())), max(us, int(block.received_us[mine][-1]))

    def numbers(self, since_us: int = 0) -> dict[str, int]:
        """The former alone, of streams of which something was received since then."""
        return {name: seq for name, (seq, us) in self.items() if us >= since_us}


class Settled(NamedTuple):
    """All bars and outages of before a moment were given, and so many of that moment."""

    us: int
    number: int


def day_before(place: Place) -> dt.date:
    """The day before that of a place: ticks that come later than that are not looked for."""
    return time_of(place.us).date() - dt.timedelta(days=1)


def settled_at(place: Place) -> Settled:
    """Where they come in their order: one of a moment before the ticks that were received then."""
    return Settled(place.us + 1, 0) if place.stream else Settled(place.us, place.number)


@dataclass(frozen=True)
class Asked:
    """What is asked of a feed. `bars_in` gives the bars of a range as `Lake.bars` does; it is there if `width` is."""

    symbols: Sequence[Symbol] | None
    when: TimeRange
    columns: tuple[str, ...]
    ticks: bool
    width: str | dt.timedelta | None
    on_gap: OnGap
    bars_in: BarsIn = field(repr=False)

    def __post_init__(self) -> None:
        """Raises WidthError."""
        if self.width is not None and width_of(self.width).measure is not Measure.TIME:
            raise WidthError(
                f"bars: got {self.width!r}, expected a width of time, such as 1m: others close at any time"
            )

    @cached_property
    def kinds(self) -> Mapping[str, pa.DataType]:
        """The columns that are read, with their types."""
        names = dict.fromkeys([*KEYS, *self.columns, *(NEEDS if CACHED in self.columns else ())])
        fields = [TICKS.schema.field(name) for name in names if name != CACHED]
        return {field.name: TEXT if pa.types.is_string(field.type) else field.type for field in fields}

    @cached_property
    def schema(self) -> pa.Schema:
        """What batches have."""
        kinds = {name: IST_TIME if pa.types.is_timestamp(kind) else kind for name, kind in self.kinds.items()}
        return pa.schema([(name, pa.bool_() if name == CACHED else kinds[name]) for name in self.columns])

    def tokens(self, state: LakeState, day: dt.date) -> list[int] | None:
        """The instruments, as that day's list has them; None for all."""
        return None if self.symbols is None else resolve(state, self.symbols, [day]).tokens

    def days(self, state: LakeState) -> list[dt.date]:
        """Those of the range that have ticks, or events if outages are asked for."""
        names = [TICKS.name] if self.on_gap == "skip" else [TICKS.name, "events"]
        return self.when.days(sorted({day for name in names for day in state.dates(name)}))


class Day:
    """One day of a feed."""

    def __init__(
        self, state: LakeState, asked: Asked, date: dt.date, start_us: int, settled_us: int, until: dt.datetime
    ) -> None:
        """Ticks from `start_us` on, bars and outages from `settled_us` on, or from where the range begins; bars that
        had closed by `until`."""
        self._state = state
        self._until = until
        self._asked = asked
        self.date = date
        self._tokens = asked.tokens(state, date)
        begin, end = (bound // NS_PER_US for bound in day_bounds_ns(date))
        first = begin if asked.when.start is None else max(begin, us_of(asked.when.start))
        self._range = first, end if asked.when.stop is None else min(end, us_of(asked.when.stop))
        self.start_us = max(first, start_us)
        self._settled_us = max(first, settled_us)

    def blocks(self, given: Mapping[str, int], since_us: int) -> Iterator[Block]:
        """The ticks, in order; of before that moment, of each stream those behind that number."""
        if self._tokens is not None and len(self._tokens) <= FEW:
            return self._by_database(self._tokens)
        return self.new_blocks(given, frozenset(), since_us)

    def new_blocks(
        self, given: Mapping[str, int], known: frozenset[object], since_us: int = FOREVER_US
    ) -> Iterator[Block]:
        """The same of those that do not lie in what is known."""
        names = list(self._asked.kinds)
        wanted = Wanted(self.date, names, self._tokens, self.start_us, self._range[1], given, since_us)
        parts = parts_of(self._state, wanted, without=known)
        reader = Reader(self._state, wanted)
        return self._marked(sweep(parts, reader.read, self._asked.kinds))

    def points(self) -> list[Point]:
        """The bars that had closed, and the outages that had ended."""
        first_us, stop_us = self._range
        found: list[Point] = []
        has_ticks = self.date in self._state.dates(TICKS.name)
        if self._asked.width is not None and has_ticks:
            # Those that began earlier have closed before, and were given: each costs an object.
            first_us = max(first_us, self._settled_us - width_of(self._asked.width).size)
        if self._asked.width is not None and has_ticks and first_us < stop_us and (symbols := self._symbols()):
            rows = self._asked.bars_in(symbols, self._asked.width, time_of(first_us), time_of(stop_us))
            found += bars_of(rows, min(stop_us, us_of(self._until)))
        if self._asked.on_gap != "skip":
            ended = outages_of(self._state, self.date, self._tokens, self._until)
            found += [point for point in ended if point.us <= stop_us]
        return ordered(point for point in found if point.us >= self._settled_us)

    def _symbols(self) -> Symbols:
        """What was asked for, as far as it is known on this day."""
        if self._asked.symbols is not None:
            return those_of(self._state, self._asked.symbols, self.date)
        if lists_in_force(self._state, [self.date]):
            return EVERYTHING
        query = f"SELECT DISTINCT instrument_token FROM ticks WHERE date = DATE '{self.date}'"
        (rows,) = self._state.read([query])
        tokens: list[int] = rows["instrument_token"].to_pylist()
        return tokens

    def _by_database(self, tokens: Sequence[int]) -> Iterator[Block]:
        names, (_, stop_us) = list(self._asked.kinds), self._range
        if not tokens or self.start_us >= stop_us:
            return
        selection = resolve(self._state, self._asked.symbols or (), [self.date])
        (rows,) = self._state.read(
            [
                f"""
            SELECT {", ".join(map(quoted, names))} FROM ticks
            WHERE date = DATE '{self.date}' AND {selection.where()}
                AND received_at >= make_timestamptz({self.start_us}) AND received_at < make_timestamptz({stop_us})
            """
            ]
        )
        if len(rows):
            pool = Pool(self._asked.kinds, len(rows))
            pool.add(rows, None)
            yield from self._marked([Block.of(pool.take(pool.in_order()))])

    def _marked(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """The same with the columns that are worked out."""
        marks = Marks(self._state, self.date, self._tokens) if CACHED in self._asked.columns else None
        for block in blocks:
            more = {} if marks is None else {CACHED: marks.of(block.columns)}
            yield Block({**block.columns, **more}, block.received_us, block.seq)


@dataclass
class Source:
    """All that a feed has, from any place on. `look` gives the state of the lake."""

    look: Callable[[], LakeState]
    asked: Asked
    follow: bool
    warmup: Sequence[Bar]
    progress: Callable[[Progress], object] | None
    ticks: int = 0
    given: Given = field(default_factory=Given)
    """What was given, if it is followed."""
    settled_us: int | None = None
    """Bars and outages up to then come in their places, between ticks; later ones come when they are known."""

    def after(self, start: Place | None, settled: Settled | None, given: Given | None) -> Iterator[Item]:
        """What comes behind a place, and of bars and outages what is not given yet. `given` is what was given up to
        there: ticks of before that came later come first, of that day and the one before. None: they are left out."""
        start_us = 0 if start is None else max(0, start.us)
        due_us = 0 if settled is None else max(0, settled.us)
        warmup = [Point(moment_us(bar), bar) for bar in self.warmup]
        yield from (point.item for point in (warmup if settled is None else unsettled(warmup, settled)))
        until = dt.datetime.now(IST) - SETTLED
        state = self.look()
        self.given = Given(given or {})
        # Bars that close at midnight are of the day before.
        first_due = time_of(min(start_us, due_us) - 1).date()
        first = first_due if given is None or start is None else min(first_due, day_before(start))
        days = [each for each in self.asked.days(state) if each >= first]
        self.settled_us = due_us - 1  # until what is left of before the place has been given
        for number, date in enumerate(days, 1):
            if number > 1:  # files that the state before had may have been vacuumed since
                until = dt.datetime.now(IST) - SETTLED
                state = self.look()
            day = Day(state, self.asked, date, start_us if given is None else 0, due_us, until)
            blocks: Iterable[Block] = ()
            if self.asked.ticks:
                blocks = day.blocks({} if given is None else given.numbers(), start_us)
            if start is not None:
                blocks = behind(blocks, start, given)
            points = day.points() if date >= first_due else []
            for item in merged(blocks, points if settled is None else unsettled(points, settled)):
                if isinstance(item, Block):
                    self.settled_us = us_of(until)
                yield self._noted(item)
                if self.progress is not None and isinstance(item, Block):
                    self.progress(Progress(date, number, len(days), self.ticks))
            self.settled_us = us_of(until)
        if self.follow:
            yield from self._followed(state, start if given is None else None, settled, until)

    def _followed(
        self, state: LakeState, start: Place | None, settled: Settled | None, until: dt.datetime
    ) -> Iterator[Item]:
        """What becomes visible after that state, each tick once: those of a stream appear in their order."""
        start_us = 0 if start is None else max(0, start.us)
        while True:
            yield WAITING
            earlier, until = until, max(until, dt.datetime.now(IST) - SETTLED)
            before, state = state, self.look()
            is_new = state.views[TICKS.name].source is not before.views[TICKS.name].source
            is_due = self._turns(earlier) != self._turns(until)
            if not is_new and not is_due:
                self.settled_us = us_of(until)
                continue
            known = sources_in(before)
            # Bars that close at midnight are of the day before, and so are ticks that come late.
            newest = time_of(us_of(earlier) - 1).date()
            for date in [each for each in self.asked.days(state) if each >= newest - dt.timedelta(days=1)]:
                day = Day(state, self.asked, date, start_us, us_of(earlier), until)
                blocks: Iterable[Block] = ()
                if is_new and self.asked.ticks:
                    blocks = day.new_blocks(self.given.numbers(), known)
                    if start is not None:
                        blocks = behind(blocks, start, None)
                points: list[Point] = []
                if is_due and date >= newest:
                    points = [point for point in day.points() if point.us > us_of(earlier)]
                for item in merged(blocks, points if settled is None else unsettled(points, settled)):
                    yield self._noted(item)
            self.settled_us = us_of(until)

    def _turns(self, moment: dt.datetime) -> int:
        """A number that changes whenever a bar may have closed, or once a minute if outages are asked for."""
        if self.asked.width is None:
            return us_of(moment) // _MINUTE_US if self.asked.on_gap != "skip" else 0
        return us_of(moment) // math.gcd(width_of(self.asked.width).size, _MINUTE_US)

    def _noted(self, item: Block | Bar | Outage) -> Block | Bar | Outage:
        """Keep in mind what is given of each stream."""
        if isinstance(item, Block):
            self.ticks += len(item)
            if self.follow:
                self.given.note(item)
        return item


def merged(blocks: Iterable[Block], points: Sequence[Point]) -> Iterator[Block | Bar | Outage]:
    """Blocks, parted where a point is: one of a moment comes before the ticks that were received then."""
    left = iter([*points, None])
    point = next(left)
    for block in blocks:
        done = 0
        while point is not None and point.us <= block.received_us[-1]:
            place = int(np.searchsorted(block.received_us, point.us))
            if place > done:
                yield block.slice(done, place)
                done = place
            yield point.item
            point = next(left)
        if done < len(block):
            yield block.slice(done, len(block))
    while point is not None:
        yield point.item
        point = next(left)


def behind(blocks: Iterable[Block], place: Place, given: Given | None) -> Iterator[Block]:
    """What comes after the place, and of before it what lies behind what was given."""
    for block in blocks:
        done = 0
        if block.received_us[0] <= place.us:
            done = int(np.searchsorted(block.received_us, place.us))
            while done < len(block) and (block.received_us[done], block.stream(done), block.seq[done]) <= place:
                done += 1
        if given is not None and done:
            streams = block.columns["stream"].slice(0, done)
            last = [given.get(name, (-1, 0))[0] for name in streams.dictionary.to_pylist()]
            late = np.flatnonzero(block.seq[:done] > np.array(last, np.int64)[numpy_of(streams.indices)])
            if len(late):
                rows = arrow_of(late, None, pa.int64())
                yield Block.of({name: column.take(rows) for name, column in block.columns.items()})
        if done < len(block):
            yield block.slice(done, len(block))


def unsettled(points: Iterable[Point], settled: Settled) -> list[Point]:
    """Those that were not given yet, of points in order."""
    left = [point for point in points if point.us >= settled.us]
    same = sum(point.us == settled.us for point in left)
    return left[min(same, settled.number) :]


def moment_us(item: Bar | Outage) -> int:
    """When it is given."""
    return us_of(item.time if isinstance(item, Bar) else item.stop)
