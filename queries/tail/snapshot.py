"""One consistent look at the lake: what is committed of the tables, and the live tail behind it.

The order of looking makes it consistent while a writer commits (`storage.tables.table` has the order of its commits):

1. the journal's folder, so that what disappears from here on is noticed;
2. `ticks`, whose watermark says which segments are committed to every table;
3. the other tables. Each may be one segment ahead of ticks, and says so by a watermark of its own: of its rows, those
   up to the later of the two watermarks are committed, and the later ones come from the tail;
4. the tail behind the watermark of ticks, which is read as far as it is there at this moment.

All four are done in the look itself, for the tables that are looked at, and nothing of it is put off: only what the
bytes that were read say of ticks is decoded later (`queries.tail.ticks`), from files that are kept open, with the
symbols that the look found. So whatever is asked of a look, and whenever, the answer is of the same moment. A table
that is not looked at costs nothing: without one that has rows from the journal, the journal is not looked at either.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from operator import is_
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import pyarrow as pa

from queries.errors import QueryError
from queries.tail.segment import SegmentRows
from queries.tail.tail import NOTHING, Listing, Tail, Vanished, list_journal
from queries.tail.ticks import KeptColumns, LiveTicks
from storage import schema
from storage.commit import SegmentId, TailDecoder, first_of_each
from storage.errors import TableMissingError
from storage.layout import DataLayout
from storage.tables import TableLog, Version, Watermark

if TYPE_CHECKING:
    from storage.tables import LakeTable, SymbolBook

ATTEMPTS: Final = 100
_JOURNALLED: Final = frozenset(schema.TABLES) - {schema.INSTRUMENTS.name}


@dataclass(frozen=True, eq=False)
class TableSource:
    """One state of one table: committed Parquet files, and the rows that are only in the journal."""

    spec: schema.Table
    files: tuple[str, ...]
    live: pa.Table | LiveTicks
    committed: Version | None = None
    """What `files` are of, if it is known."""

    def received_until(self, day: dt.date) -> dt.datetime | None:
        """About when the last of the committed rows of that day was received, if the table says so."""
        return None if self.committed is None else self.committed.received_until(day)

    def live_instruments(self, day: dt.date) -> set[int]:
        """Of which there are ticks of that day that are not committed."""
        live = self.live.parts if isinstance(self.live, LiveTicks) else ()
        return {token for part in live if part.day == day for token in part.tokens.tolist()}

    @property
    def parts(self) -> Mapping[tuple[str, ...], Sequence[str]]:
        """The committed files by partition: its values as text, in the order of the partition columns."""
        return _by_partition(self.files, len(self.spec.partition_by))

    @cached_property
    def partitions(self) -> set[tuple[str, ...]]:
        """The partitions that it has rows of."""
        names = self.spec.partition_by
        found = set(self.parts)
        if isinstance(self.live, LiveTicks):
            return found | self.live.partitions()
        if len(self.live):
            live = self.live.select(list(names)).group_by(list(names)).aggregate([])
            found |= {tuple(str(row[name]) for name in names) for row in live.to_pylist()}
        return found


@dataclass(frozen=True, eq=False)
class _State:
    """A source with what it was made of: equal parts make an equal source."""

    version: int | None
    symbols: int
    live: tuple[object, ...]
    source: TableSource


class Snapshots:
    """Looks at one lake again and again, reading each time only what is new. Belongs to one thread at a time."""

    def __init__(self, layout: DataLayout, decoder: TailDecoder) -> None:
        self._layout = layout
        self._tail = Tail(layout, decoder)
        self._logs: dict[str, TableLog] = {}
        self._tables: dict[str, LakeTable] = {}
        self._states: dict[str, _State] = {}
        self._kept = KeptColumns()

    def look(self, names: Collection[str] = tuple(schema.TABLES)) -> list[TableSource]:
        """The tables of these names as they are now. A table that did not change is the same object as before.

        Raises QueryError if the journal changes faster than it can be read; StorageError for a table or a journal
        that cannot be read.
        """
        specs = [spec for spec in schema.TABLES.values() if spec.name in names]
        if not _JOURNALLED.intersection(names):
            return [self._source(spec, self._open(spec.name), ()) for spec in specs]
        suspects: set[SegmentId] = set()
        for _ in range(ATTEMPTS):
            seen = list_journal(self._layout)
            # ticks first: see above.
            opened = {name: self._open(name) for name in dict.fromkeys((schema.TICKS.name, *(s.name for s in specs)))}
            try:
                # A segment that was missing before this watermark was read, and is above it, was not removed after a
                # commit: it is a hole.
                rows = self._read_tail(opened, seen, holes=suspects)
            except Vanished as vanished:
                suspects |= vanished.missing
                continue
            found = [self._source(spec, opened[spec.name], rows) for spec in specs]
            self._kept.keep_only({ticks for segment in rows for piece in segment.pieces for ticks in piece.ticks})
            return found
        raise QueryError(
            f"{self._layout.journal}: segments disappeared during each of {ATTEMPTS} attempts to read them"
        )

    def close(self) -> None:
        """Close all files. Idempotent."""
        self._tail.close()
        self._kept.keep_only(())
        self._logs.clear()
        self._tables.clear()
        self._states.clear()

    def _open(self, name: str) -> Version | None:
        """The newest version of a table; None if there is none yet."""
        if name in self._tables:
            return self._tables[name].snapshot()
        if name not in self._logs:
            self._logs[name] = TableLog(self._layout.table(name), schema.TABLES[name])
        try:
            return self._logs[name].newest() or self._by_library(name)
        except TableMissingError:
            return None

    @cached_property
    def _symbols(self) -> "SymbolBook":
        from storage.tables import SymbolBook  # see _by_library: most looks find nothing to decode

        return SymbolBook(self._layout)

    def _by_library(self, name: str) -> Version:
        """The same of a table whose log is not as we write it."""
        from storage.tables import LakeTable  # to load the library takes longer than to read a log

        self._tables[name] = LakeTable(self._layout.table(name), schema.TABLES[name]).open()
        return self._tables[name].snapshot()

    def _read_tail(
        self, opened: Mapping[str, Version | None], seen: Listing, *, holes: Set[SegmentId]
    ) -> list[SegmentRows]:
        ticks = opened[schema.TICKS.name]

        def covered(stream: str) -> Watermark:
            return (ticks and ticks.watermark(stream)) or NOTHING

        return self._tail.read(covered, seen=seen, holes=holes)

    def _source(self, spec: schema.Table, snapshot: Version | None, tail: Sequence[SegmentRows]) -> TableSource:
        version = None if snapshot is None else snapshot.version
        pieces = [
            piece for segment in tail if not (snapshot and _is_committed(snapshot, segment)) for piece in segment.pieces
        ]
        symbols_version = -1
        if spec is schema.TICKS:
            live: tuple[object, ...] = tuple(ticks for piece in pieces for ticks in piece.ticks)
            if live:
                symbols_version, symbols = self._symbols.fixed()
        else:
            live = tuple(piece.tables[spec.name] for piece in pieces if spec.name in piece.tables)
        known = self._states.get(spec.name)
        if known and (known.version, known.symbols) == (version, symbols_version) and _are_same(known.live, live):
            return known.source
        # Sorted by day, exchange, stream and segment: rows come roughly in the order of time.
        if known and known.version == version:
            files = known.source.files
        else:
            files = () if snapshot is None else tuple(sorted(snapshot.files))
        if spec is schema.TICKS and live:
            rows: pa.Table | LiveTicks = LiveTicks(live, symbols, symbols_version, self._kept)  # type: ignore[arg-type]
        else:
            nothing = pa.Table.from_batches([], spec.schema)  # `empty_table` would load pandas
            rows = _once(spec, pa.concat_tables([nothing, *live]))
        source = TableSource(spec, files, rows, snapshot)
        self._states[spec.name] = _State(version, symbols_version, live, source)
        return source


@lru_cache(2 * len(schema.TABLES))
def _by_partition(files: tuple[str, ...], columns: int) -> Mapping[tuple[str, ...], Sequence[str]]:
    folders: dict[str, list[str]] = {}
    for path in files:  # …/date=2026-11-24/exchange=NSE/name.parquet
        folders.setdefault(path[: path.rindex("/")], []).append(path)
    return {_partition(folder, columns): paths for folder, paths in folders.items()}


@cache
def _partition(folder: str, columns: int) -> tuple[str, ...]:
    return tuple(unquote(part.partition("=")[2]) for part in folder.split("/")[-columns:])


def _are_same(some: Sequence[object], others: Sequence[object]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))


def _is_committed(snapshot: Version, segment: SegmentRows) -> bool:
    """Whether the table is ahead of ticks by this segment."""
    committed = snapshot.transaction(segment.stream)
    return committed is not None and segment.segment <= committed


def _once(spec: schema.Table, rows: pa.Table) -> pa.Table:
    """The rows without those that equal an earlier one of their partition in the table's `unique` column."""
    if spec.unique is None or not len(rows):
        return rows
    return first_of_each(rows, [*spec.partition_by, spec.unique], set())
