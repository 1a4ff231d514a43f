"""What a day's ticks lie in, and reading it: row groups of committed files, and pieces of the live tail.

Files are read by pyarrow, column by column, which costs less than a database needs to give the same rows in
order. A row group that has nothing of what is asked for, by its bounds in the footer, is not read.
"""

import datetime as dt
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from queries.lake import LakeState, shown_sources
from queries.tail import LiveTicks
from storage.clock import NS_PER_US, day_bounds_ns
from storage.memory import arrow_of, arrow_texts, flags_of, numpy_of
from storage.schema import TICKS

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FOREVER_US: Final = 1 << 62
KEYS: Final = ("received_at", "stream", "seq")
"""What orders rows."""
_SOURCE: Final = ("instrument_token", "stream", "account", "connection")
_TEXTS: Final = [field.name for field in TICKS.file_schema if pa.types.is_string(field.type)]

Add = Callable[[pa.Table, Bools | None], None]
"""Takes rows, and which of them are wanted; None for all."""


@dataclass(frozen=True, eq=False)
class Part:
    """Rows that are read together. Received from `first_us` to `last_us`; of them those from `begin_us` on are wanted.

    `source` is the path of a file, whose row group `group` it is, or a piece of the tail's ticks.
    """

    source: Any
    group: int
    exchange: str
    rows: int
    first_us: int
    last_us: int
    begin_us: int = 0

    def rows_before(self, us: int) -> int:
        """About how many of its rows were received before that."""
        share = (us - self.first_us) / (self.last_us - self.first_us + 1)
        return round(self.rows * min(max(share, 0.0), 1.0))

    def after(self, us: int) -> "Part":
        """What of it was received at that moment or later."""
        return replace(self, rows=self.rows - self.rows_before(us), first_us=us, begin_us=us)


class _Group(NamedTuple):
    """What a footer says of a row group."""

    rows: int
    first_us: int
    last_us: int
    first_token: int
    last_token: int
    stream: str | None
    """The one that they are all of."""
    last_seq: int


@dataclass(frozen=True, eq=False)
class Wanted:
    """What of a day is asked for: `columns` of it, from `start_us` up to `stop_us`; `tokens` None for all.

    `given`: of these streams the rows up to this `seq` are not wanted, if they were received before `since_us`.
    """

    day: dt.date
    columns: Sequence[str]
    tokens: Sequence[int] | None = None
    start_us: int = 0
    stop_us: int = FOREVER_US
    given: Mapping[str, int] = field(default_factory=dict)
    since_us: int = FOREVER_US


def parts_of(state: LakeState, wanted: Wanted, *, without: frozenset[object] = frozenset()) -> list[Part]:
    """What has the rows. `without` these paths of files and pieces of the tail."""
    source = state.views[TICKS.name].source
    footers: dict[str, list[_Group]] = state.memo.setdefault("footers", {})
    found = []
    tokens = None if wanted.tokens is None else np.array(sorted(wanted.tokens), np.int64)
    for path in source.files:
        folders = path.split("/")
        if folders[-3] != f"date={wanted.day}" or path in without:
            continue
        if path not in footers:
            footers[path] = _groups(path, wanted.day)
        exchange = unquote(folders[-2].partition("=")[2])
        for number, group in enumerate(footers[path]):
            is_given = (
                group.stream is not None
                and group.last_seq <= wanted.given.get(group.stream, -1)
                and group.last_us < wanted.since_us
            )
            if not is_given and (tokens is None or _has_between(tokens, group.first_token, group.last_token)):
                found.append(Part(path, number, exchange, group.rows, group.first_us, group.last_us))
    if isinstance(source.live, LiveTicks):
        for piece in source.live.parts:
            if piece.day != wanted.day or piece in without or not len(piece):
                continue
            if tokens is None or np.isin(tokens, piece.tokens).any():
                received = numbers_of(piece.decode(["received_at"], source.live.symbols)["received_at"])
                found.append(Part(piece, 0, "", len(piece), int(received.min()), int(received.max())))
    return [part for part in found if part.first_us < wanted.stop_us and part.last_us >= wanted.start_us]


def _has_between(ascending: Ints, first: int, last: int) -> bool:
    return bool(np.searchsorted(ascending, first) < np.searchsorted(ascending, last, "right"))


def _groups(path: str, day: dt.date) -> list[_Group]:
    footer = pq.read_metadata(path)
    places = [footer.schema.names.index(name) for name in ("received_at", "instrument_token", "stream", "seq")]
    begin, end = (bound // NS_PER_US for bound in day_bounds_ns(day))
    found = []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        bounds = []
        for place in places:
            statistics = group.column(place).statistics
            known = statistics is not None and statistics.has_min_max
            # As they lie in the file, times in µs: to make Python's own of these, pyarrow loads pandas.
            bounds.append((statistics.min_raw, statistics.max_raw) if known else (None, None))
        (begins, ends), (first, last), (stream, other), (_, seq) = bounds
        found.append(
            _Group(
                group.num_rows,
                begin if begins is None else begins,
                end if ends is None else ends,
                0 if first is None else first,
                FOREVER_US if last is None else last,
                None if stream is None or stream != other else stream.decode(),
                FOREVER_US if seq is None else seq,
            )
        )
    return found


class Reader:
    """Reads parts of a day: the rows that are wanted, in the columns that are, and those that order them."""

    def __init__(self, state: LakeState, wanted: Wanted) -> None:
        live = state.views[TICKS.name].source.live
        self._symbols = live.symbols if isinstance(live, LiveTicks) else None
        self._wanted = wanted
        self._tokens = None
        if wanted.tokens is not None:
            self._tokens = arrow_of(np.array(sorted(wanted.tokens), np.int64), None, pa.int64())
        days, shown = shown_sources(state, [wanted.day])
        self._shown = None
        if shown is not None and wanted.day in days:
            self._shown = _Shown(*state.read([f"FROM {shown.name}"]))
        more = [*KEYS, *(["instrument_token"] if self._tokens is not None else ()), *(_SOURCE if self._shown else ())]
        self._columns = list(dict.fromkeys([*more, *wanted.columns]))

    def read(self, parts: Sequence[Part], before_us: int, add: Add) -> None:
        """Hand on the rows that were received before that, in any order, a piece at a time."""
        before_us = min(before_us, self._wanted.stop_us)
        for path, of_file in itertools.groupby(sorted(parts, key=_where), key=lambda part: part.source):
            several = list(of_file)
            if isinstance(path, str):
                self._read_file(path, several, before_us, add)
            else:
                self._add(pa.table(path.decode(self._columns, self._symbols)), several[0], before_us, add)

    def _read_file(self, path: str, parts: Sequence[Part], before_us: int, add: Add) -> None:
        names = [name for name in self._columns if name not in TICKS.partition_by]
        with pq.ParquetFile(path, read_dictionary=_TEXTS) as file:
            for part in parts:  # each by itself, and without threads, takes the least time and memory
                self._add(file.read_row_group(part.group, names, use_threads=False), part, before_us, add)

    def _is_cut(self, part: Part, before_us: int) -> bool:
        """Whether not all of its rows are wanted, perhaps."""
        anywhere = self._tokens is not None or self._shown is not None or self._wanted.given or part.begin_us
        return bool(anywhere) or part.first_us < self._wanted.start_us or part.last_us >= before_us

    def _add(self, rows: pa.Table, part: Part, before_us: int, add: Add) -> None:
        """Hand on what is wanted of a part's rows, with the columns of its folders."""
        for name, of_all in (("date", _date(self._wanted.day)), ("exchange", arrow_texts([part.exchange]))):
            if name in self._columns and name not in rows.column_names:
                rows = rows.append_column(name, of_all.take(arrow_of(np.zeros(len(rows), np.int32), None, pa.int32())))
        add(rows, self._mask(rows, part.begin_us, before_us) if self._is_cut(part, before_us) else None)

    def _mask(self, rows: pa.Table, begin_us: int, before_us: int) -> Bools:
        import pyarrow.compute as pc  # it costs every start of a process, were it at the top

        received = numbers_of(rows["received_at"])
        kept: Bools = (received >= max(begin_us, self._wanted.start_us)) & (received < before_us)
        if self._tokens is not None:
            kept &= flags_of(pc.is_in(rows["instrument_token"], self._tokens))
        if self._shown is not None:
            kept &= self._shown.mask(rows, received)
        if self._wanted.given:
            seq, is_late = numbers_of(rows["seq"]), received < self._wanted.since_us
            for stream, last in self._wanted.given.items():
                kept &= ~is_late | (seq > last) | flags_of(pc.not_equal(rows["stream"].cast(pa.string()), stream))
        return kept


def _date(day: dt.date) -> pa.Array:
    return arrow_of(np.array([day], "datetime64[D]").astype(np.int32), None, pa.date32())


def _where(part: Part) -> tuple[bool, str, int, int]:
    is_file = isinstance(part.source, str)
    return is_file, part.source if is_file else str(id(part.source)), part.begin_us, part.group


def numbers_of(column: pa.ChunkedArray | pa.Array) -> Ints:
    """Whole numbers, or times as µs since the epoch; null is 0."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return numpy_of(column, 0)


class _Shown:
    """The rule of `queries.lake.sources` for instruments that several connections brought at a time."""

    def __init__(self, stretches: pa.Table) -> None:
        """As `shown_sources` has them."""
        order = np.lexsort((numbers_of(stretches["shown_from"]), numbers_of(stretches["instrument_token"])))
        stretches = stretches.take(order)
        self._token = numbers_of(stretches["instrument_token"])
        self._from = numbers_of(stretches["shown_from"])
        until = numpy_of(stretches["until"].cast(pa.int64()))
        self._until = np.where(until > FOREVER_US, FOREVER_US, until)
        self._source = {name: stretches[name].combine_chunks() for name in _SOURCE[1:]}

    def mask(self, rows: pa.Table, received: Ints) -> Bools:
        """Which rows are shown."""
        import pyarrow.compute as pc  # see above

        place = last_before(self._token, self._from, numbers_of(rows["instrument_token"]), received)
        found = place >= 0
        found[found] = received[found] < self._until[place[found]]
        at = np.flatnonzero(found)
        shown: Bools = np.ones(len(rows), np.bool_)
        same: Bools = np.ones(len(at), np.bool_)
        for name, of_stretch in self._source.items():
            ours = rows[name].take(at)
            ours = ours.cast(pa.string()) if pa.types.is_dictionary(ours.type) else ours
            same &= flags_of(pc.equal(ours, of_stretch.take(arrow_of(place[at], None, pa.int64()))))
        shown[at] = same
        return shown


def last_before(tokens: Ints, begins: Ints, token: Ints, at: Ints) -> Ints:
    """Of stretches, ascending by token and beginning: the place of the one of `token` that began last as of `at`; -1 if
    there is none."""
    if not len(tokens):
        return np.full(len(token), -1)
    each, first = np.unique(tokens, return_index=True)
    number = np.searchsorted(each, token)
    known = (number < len(each)) & (each[np.minimum(number, len(each) - 1)] == token)
    base = int(min(begins.min(), at.min(initial=FOREVER_US)))
    span = int(max(begins.max(), at.max(initial=0))) - base + 1
    keys = np.repeat(np.arange(len(each)), np.diff(np.append(first, len(tokens)))) * span + (begins - base)
    place = np.searchsorted(keys, number * span + (at - base), "right") - 1
    mine = known & (place >= 0)
    mine[mine] = tokens[place[mine]] == token[mine]
    return np.where(mine, place, -1)


def sources_in(state: LakeState) -> frozenset[object]:
    """What the ticks of a state lie in: paths of files, and pieces of the tail."""
    source = state.views[TICKS.name].source
    return frozenset([*source.files, *(source.live.parts if isinstance(source.live, LiveTicks) else ())])
