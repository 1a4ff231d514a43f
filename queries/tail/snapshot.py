"""One consistent look at the lake: what is committed of every table, and the live tail behind it.

The order of looking makes it consistent while a writer commits (`storage.tables.table` has the order of its commits):

1. the journal's folder, so that what disappears from here on is noticed;
2. `ticks`, whose watermark says which segments are committed to every table;
3. the other tables. Each may be one segment ahead of ticks, and says so by a watermark of its own: of its rows, those
   up to the later of the two watermarks are committed, and the later ones come from the tail;
4. the tail behind the watermark of ticks.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from operator import is_
from typing import Final
from urllib.parse import unquote

import pyarrow as pa

from queries.errors import QueryError
from queries.tail.tail import NOTHING, Listing, SegmentRows, Tail, Vanished, list_journal
from storage import schema
from storage.commit import Decoder, SegmentId, first_of_each
from storage.errors import TableMissingError
from storage.layout import DataLayout
from storage.tables import LakeTable, Snapshot, SymbolBook, Watermark

ATTEMPTS: Final = 100


@dataclass(frozen=True, eq=False)
class TableSource:
    """One state of one table: committed Parquet files, and the rows that are only in the journal."""

    spec: schema.Table
    files: tuple[str, ...]
    live: pa.Table

    def partitions(self) -> set[tuple[str, ...]]:
        """The values of the partitions that it has rows of, as text, in the order of the partition columns."""
        names = self.spec.partition_by
        # A file lies in a folder for each: …/date=2026-11-24/exchange=NSE/name.parquet
        found = {
            tuple(unquote(part.partition("=")[2]) for part in folder.split("/")[-len(names) :])
            for folder in {path.rpartition("/")[0] for path in self.files}
        }
        if len(self.live):
            live = self.live.select(list(names)).group_by(list(names)).aggregate([])
            found |= {tuple(str(row[name]) for name in names) for row in live.to_pylist()}
        return found


@dataclass(frozen=True, eq=False)
class _State:
    """A source with what it was made of: equal parts make an equal source."""

    version: int | None
    live: tuple[pa.Table, ...]
    source: TableSource


class Snapshots:
    """Looks at one lake again and again, reading each time only what is new. Belongs to one thread at a time."""

    def __init__(self, layout: DataLayout, decoder: Decoder) -> None:
        self._layout = layout
        self._tail = Tail(layout, decoder)
        self._symbols = SymbolBook(layout)
        self._tables: dict[str, LakeTable] = {}
        self._states: dict[str, _State] = {}

    def latest(self) -> list[TableSource]:
        """Every table as it is now. A table that did not change is the same object as before.

        Raises QueryError if the journal changes faster than it can be read; StorageError for a table or a journal
        that cannot be read.
        """
        suspects: set[SegmentId] = set()
        for _ in range(ATTEMPTS):
            seen = list_journal(self._layout)
            # ticks first: see above.
            opened = {name: self._open(name) for name in (schema.TICKS.name, *schema.TABLES)}
            try:
                # A segment that was missing before this watermark was read, and is above it, was not removed after a
                # commit: it is a hole.
                rows = self._read_tail(opened, seen, holes=suspects)
            except Vanished as vanished:
                suspects |= vanished.missing
                continue
            return [self._source(spec, opened, rows) for spec in schema.TABLES.values()]
        raise QueryError(
            f"{self._layout.journal}: segments disappeared during each of {ATTEMPTS} attempts to read them"
        )

    def close(self) -> None:
        """Close all files. Idempotent."""
        self._tail.close()
        self._tables.clear()
        self._states.clear()

    def _open(self, name: str) -> Snapshot | None:
        """The newest version of a table; None if there is none yet."""
        table = self._tables.get(name)
        if table is None:
            try:
                table = LakeTable(self._layout.table(name), schema.TABLES[name]).open()
            except TableMissingError:
                return None
            self._tables[name] = table
        return table.snapshot()

    def _read_tail(
        self, opened: Mapping[str, Snapshot | None], seen: Listing, *, holes: Set[SegmentId]
    ) -> list[SegmentRows]:
        ticks = opened[schema.TICKS.name]

        def covered(stream: str) -> Watermark:
            return (ticks and ticks.watermark(stream)) or NOTHING

        return self._tail.read(
            covered,
            self._symbols,
            symbols_version=self._symbols.version,
            seen=seen,
            holes=holes,
        )

    def _source(
        self, spec: schema.Table, opened: Mapping[str, Snapshot | None], tail: list[SegmentRows]
    ) -> TableSource:
        snapshot = opened[spec.name]
        version = None if snapshot is None else snapshot.version
        live = tuple(
            rows
            for segment in tail
            if (rows := segment.tables.get(spec.name)) is not None
            and not (snapshot and _is_committed(snapshot, segment))
        )
        known = self._states.get(spec.name)
        if known and known.version == version and len(known.live) == len(live) and all(map(is_, known.live, live)):
            return known.source
        # Sorted by day, exchange, stream and segment: rows come roughly in the order of time.
        if known and known.version == version:
            files = known.source.files
        else:
            files = () if snapshot is None else tuple(sorted(snapshot.files))
        nothing = pa.Table.from_batches([], spec.schema)  # `empty_table` would load pandas
        source = TableSource(spec, files, _once(spec, pa.concat_tables([nothing, *live])))
        self._states[spec.name] = _State(version, live, source)
        return source


def _is_committed(snapshot: Snapshot, segment: SegmentRows) -> bool:
    """Whether the table is ahead of ticks by this segment."""
    committed = snapshot.transaction(segment.stream)
    return committed is not None and segment.segment <= committed


def _once(spec: schema.Table, rows: pa.Table) -> pa.Table:
    """The rows without those that equal an earlier one of their partition in the table's `unique` column."""
    if spec.unique is None or not len(rows):
        return rows
    return first_of_each(rows, [*spec.partition_by, spec.unique], set())
