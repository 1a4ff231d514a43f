"""The rows of a table: which `seq` of a stream are there, and what they are against those that a decoder makes."""

import contextlib
import datetime
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.commit import Part, SegmentId
from storage.schema import Table
from storage.verify.actions import LoggedFile
from storage.verify.files import open_parquet, read_together
from storage.verify.log import LogState

_NOT_COMPARED = ("symbol", "seq")  # symbol depends on the instrument list that there was; seq is compared first

Groups = list[tuple[pq.ParquetFile, list[int]]]
"""Row groups of open files."""


class Stored:
    """The rows of one table at one version. Files in `damaged` are not read, and what they hold is not compared."""

    def __init__(self, spec: Table, folder: Path, state: LogState, damaged: set[str]) -> None:
        self.spec = spec
        self._folder = folder
        self._damaged = damaged
        self._partitions: dict[tuple[str, ...], list[LoggedFile]] = {}
        for file in state.files.values():
            self._partitions.setdefault(tuple(file.values[name] for name in spec.partition_by), []).append(file)
        self._day: tuple[datetime.date, pa.Table] | None = None

    def days(self) -> set[datetime.date]:
        """Those of which there are rows."""
        at = self.spec.partition_by.index("date")
        return {datetime.date.fromisoformat(values[at]) for values in self._partitions}

    def tick_difference(self, stream: str, part: Part, first_seq: int) -> tuple[str, int] | None:
        """What differs between the part's rows, whose `seq` count from `first_seq`, and those stored; how many rows."""
        rows = part.rows.sort_by("seq")
        seq = rows.column("seq").to_numpy() + first_seq
        low, high = int(seq[0]), int(seq[-1])
        files = [
            file
            for file in self._partitions.get(tuple(part.values.values()), [])
            if _overlaps(file, "stream", stream, stream) and _overlaps(file, "seq", low, high)
        ]
        if any(file.relative in self._damaged for file in files):
            return None
        with contextlib.ExitStack() as opened:
            groups: Groups = []
            for file in files:
                parquet = opened.enter_context(open_parquet(self._folder / file.relative))
                groups.append((parquet, _groups(parquet, low, high)))
            return self._tick_difference(stream, rows, seq, groups)

    def _tick_difference(
        self, stream: str, rows: pa.Table, seq: NDArray[np.int64], groups: Groups
    ) -> tuple[str, int] | None:
        key = _read(self.spec, groups, ["stream", "seq"])
        there, numbers = pc.equal(key["stream"], stream).to_numpy(), key["seq"].to_numpy()
        at = np.flatnonzero(there & np.isin(numbers, seq))
        at = at[np.argsort(numbers[at], kind="stable")]
        if not np.array_equal(numbers[at], seq):
            return f"got {len(at)} rows, expected {len(seq)}", abs(len(seq) - len(at)) or len(seq)
        compared = [name for name in self.spec.file_schema.names if name not in _NOT_COMPARED]
        differing = [
            name
            for names in read_together(compared, len(numbers))
            for name, values in _read(self.spec, groups, names).items()
            if not _plain(values.take(pa.array(at))).equals(_plain(rows.column(name)))
        ]
        return (f"got other values than the journal gives in {', '.join(differing)}", len(seq)) if differing else None

    def record_difference(
        self, stream: str, records: tuple[int, int], rows: pa.Table, date: datetime.date
    ) -> tuple[str, int] | None:
        """The same for the rows of a day with a `record` from `records[0]` to before `records[1]`."""
        if any(file.relative in self._damaged for file in self._partitions.get((date.isoformat(),), [])):
            return None
        day = self._rows_of(date)
        record = day.column("record")
        mine = pc.and_(pc.equal(day.column("stream"), stream), pc.greater_equal(record, records[0]))
        got, expected = _counted(day.filter(pc.and_(mine, pc.less(record, records[1])))), _counted(rows)
        missing, other = expected - got, got - expected
        if self.spec.unique is not None:  # of equal values the first is stored, perhaps from another segment
            at = self.spec.file_schema.get_field_index(self.spec.unique)
            values = set(day.column(at).to_pylist())
            missing = Counter({row: 1 for row in missing if row[at] not in values})
        if not missing and not other:
            return None
        text = f"{missing.total()} rows are missing, and {other.total()} are others than the journal gives"
        return text, max(missing.total(), other.total())

    def known_damage(self) -> dict[SegmentId, set[int]]:
        """Of quarantine: the offsets of the journal's damage by stream and segment. What cannot be read is left out."""
        found: dict[SegmentId, set[int]] = {}
        for file in itertools.chain(*self._partitions.values()):
            for row in self._damage_in(file):
                found.setdefault((row["stream"], row["segment"]), set()).add(row["offset"])
        return found

    def _damage_in(self, file: LoggedFile) -> list[dict[str, Any]]:
        """The rows of quarantine in one file that are about the journal itself; none if it cannot be read."""
        if file.relative in self._damaged:
            return []
        with contextlib.suppress(OSError, pa.ArrowException), open_parquet(self._folder / file.relative) as parquet:
            rows = parquet.read(["stream", "segment", "offset", "record"])
            damage: list[dict[str, Any]] = rows.filter(pc.is_null(rows["record"])).to_pylist()
            return damage
        return []

    def _rows_of(self, date: datetime.date) -> pa.Table:
        if self._day is None or self._day[0] != date:
            paths = [self._folder / file.relative for file in self._partitions.get((date.isoformat(),), [])]
            tables = [pq.read_table(path, partitioning=None) for path in paths]
            # Files differ in which columns they say to have no null.
            all_of_them = [self.spec.file_schema.empty_table(), *tables]
            self._day = date, pa.concat_tables(all_of_them, promote_options="default")
        return self._day[1]


def _overlaps(file: LoggedFile, column: str, low: Any, high: Any) -> bool:
    least, most = file.stats["minValues"].get(column), file.stats["maxValues"].get(column)
    return (least is None or least <= high) and (most is None or most >= low)


def _groups(parquet: pq.ParquetFile, low: int, high: int) -> list[int]:
    """The row groups that may have a `seq` in the range."""
    at = parquet.schema_arrow.get_field_index("seq")
    found = []
    for number in range(parquet.num_row_groups):
        bounds = parquet.metadata.row_group(number).column(at).statistics
        if bounds is None or not bounds.has_min_max or (bounds.min <= high and bounds.max >= low):
            found.append(number)
    return found


def _read(spec: Table, groups: Groups, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    """Some columns of row groups."""
    read = [parquet.read_row_groups(numbers, names, use_threads=False) for parquet, numbers in groups]
    return {
        name: pa.chunked_array(
            [chunk for some in read for chunk in some.column(name).chunks], spec.file_schema.field(name).type
        )
        for name in names
    }


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _counted(rows: pa.Table) -> "Counter[tuple[Any, ...]]":
    """Rows as tuples, with how often each is there."""
    return Counter(zip(*(column.to_pylist() for column in rows.columns), strict=True))


CHUNK: Final = 1 << 20


class SeqSet:
    """A set of ordinals, kept as a byte each in chunks; a chunk that is full is kept as its number only."""

    def __init__(self) -> None:
        self.low = -1
        self.high = -1
        self.repeated = 0
        self._full: set[int] = set()
        self._chunks: dict[int, NDArray[np.bool_]] = {}

    def add(self, ordinals: NDArray[np.int64]) -> None:
        """Take ordinals in, none negative and in any order. Those that come again count in `repeated`."""
        if not len(ordinals):
            return
        ordinals = np.sort(ordinals)
        self.low = int(ordinals[0]) if self.low < 0 else min(self.low, int(ordinals[0]))
        self.high = max(self.high, int(ordinals[-1]))
        numbers, starts = np.unique(ordinals // CHUNK, return_index=True)
        for number, inside in zip(numbers.tolist(), np.split(ordinals % CHUNK, starts[1:]), strict=True):
            if number in self._full:
                self.repeated += len(inside)
                continue
            chunk = self._chunks.setdefault(number, np.zeros(CHUNK, np.bool_))
            distinct = np.unique(inside)
            self.repeated += len(inside) - len(distinct) + int(chunk[distinct].sum())
            chunk[distinct] = True
            if chunk.all():
                self._full.add(number)
                del self._chunks[number]

    def missing(self, first: int, stop: int) -> list[tuple[int, int]]:
        """The ranges from `first` to before `stop` that are not there: first and last of each, ascending."""
        found: list[tuple[int, int]] = []
        for number in range(first // CHUNK, -(-stop // CHUNK)):
            if number in self._full:
                continue
            base = number * CHUNK
            low, high = max(first - base, 0), min(stop - base, CHUNK)
            chunk = self._chunks.get(number)
            absent = np.ones(high - low, np.bool_) if chunk is None else ~chunk[low:high]
            edges = np.flatnonzero(np.diff(absent, prepend=False, append=False)) + base + low
            for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                if found and found[-1][1] == start - 1:
                    found[-1] = (found[-1][0], end - 1)
                else:
                    found.append((start, end - 1))
        return found
