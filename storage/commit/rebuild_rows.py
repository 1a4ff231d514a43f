"""What the tables have of a day, sorted into what a rebuild replaces and what stays.

A file that is named after a segment has rows of that segment alone, so its name decides, and it need not be readable.
Of other files, and of those of quarantine, every row is looked at: ticks by `seq`, orders and events by `record`,
quarantine by `segment`. Rows of quarantine without a record are about the journal itself; those about segments that
are not decoded again stay.

Rows that were not yet committed when the rebuild was planned stay, too. Rows that are neither replaced nor of that kind
came from segments that the journal does not have any more: they are counted as gone.
"""

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.commit.segment_rows import SegmentId
from storage.errors import TableError
from storage.files import DataFile
from storage.layout import parse_file
from storage.schema import QUARANTINE, TICKS
from storage.tables import LakeTable, Version, is_as_stamped

BATCH_ROWS: Final = 1 << 18
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class DecodedRun:
    """A run that was decoded: the half-open bounds of what the tables have, or had, of it."""

    stream: str
    segments: frozenset[int]
    seqs: tuple[int, int]
    records: tuple[int, int]


@dataclass
class DayFiles:
    """The files of a day in one table: all rows go, some rows go, or none.

    `replaced` counts the rows that go by exchange ("" where the table has none), `gone` those that the journal does
    not have by stream. `unread` are among `remove`: they cannot be read, and are held to have no row that stays.
    """

    remove: list[DataFile] = field(default_factory=list)
    partly: list[DataFile] = field(default_factory=list)
    stay: list[DataFile] = field(default_factory=list)
    unread: list[DataFile] = field(default_factory=list)
    replaced: Counter[str] = field(default_factory=Counter)
    gone: Counter[str] = field(default_factory=Counter)


class DaySorter:
    """Sorts the rows of one table.

    `committed` is the snapshot of ticks with which the rebuild was planned; `left_out` are segments of `decoded` that
    the decoder does not take: what quarantine says of them stays.
    """

    def __init__(
        self, table: LakeTable, committed: Version, decoded: Sequence[DecodedRun], left_out: set[SegmentId]
    ) -> None:
        self._table = table
        self._committed = committed
        self._decoded = decoded
        self._segments = {(run.stream, number) for run in decoded for number in run.segments} - left_out
        self._key = {TICKS.name: "seq", QUARANTINE.name: "segment"}.get(table.spec.name, "record")
        self._columns = ["stream", self._key, *(["record"] if self._key == "segment" else [])]

    def sort(self, date: datetime.date) -> DayFiles:
        """Sort the files of the day in the newest version. Raises TableError if the log cannot be read."""
        found = DayFiles()
        for entry in self._table.snapshot().entries:
            if entry.values["date"] == date.isoformat():
                self._add(entry, found)
        return found

    def rest(self, entry: DataFile) -> Iterator[pa.Table]:
        """The rows of a file that stay, some at a time, in the table's `file_schema`. Raises TableError."""
        for rows in self._read(entry, self._table.spec.file_schema.names):
            kept = rows.filter(pa.array(~self._masks(rows)[0]))
            if kept.num_rows:
                yield kept

    def _add(self, entry: DataFile, found: DayFiles) -> None:
        exchange = entry.values.get("exchange", "")
        origin = parse_file(entry.relative)
        if origin is not None and self._table.spec is not QUARANTINE:
            self._add_by_name(entry, origin, found)
            return
        replaced = 0
        gone: Counter[str] = Counter()
        try:
            for rows in self._read(entry, self._columns):
                going, lost = self._masks(rows)
                replaced += int(np.count_nonzero(going))
                gone.update(rows.column("stream").filter(pa.array(lost)).to_pylist())
        except TableError:
            if origin is not None:
                self._add_by_name(entry, origin, found)
                return
            found.unread.append(entry)
            replaced = entry.rows
        found.replaced[exchange] += replaced
        found.gone += gone
        into = found.remove if replaced == entry.rows else found.partly if replaced else found.stay
        into.append(entry)

    def _add_by_name(self, entry: DataFile, origin: SegmentId, found: DayFiles) -> None:
        stream, number = origin
        if origin in self._segments:
            found.remove.append(entry)
            found.replaced[entry.values.get("exchange", "")] += entry.rows
            return
        found.stay.append(entry)
        mark = self._committed.watermark(stream)
        if mark is not None and number <= mark.segment:
            found.gone[stream] += entry.rows

    def _masks(self, rows: pa.Table) -> tuple[Mask, Mask]:
        """Which rows are replaced, and which are gone from the journal."""
        key = rows.column(self._key).to_numpy()
        streams = rows.column("stream").combine_chunks().dictionary_encode()
        codes = streams.indices.to_numpy()
        replaced = np.zeros(len(key), np.bool_)
        later = np.zeros(len(key), np.bool_)
        for code, stream in enumerate(streams.dictionary.to_pylist()):
            of_stream = codes == code
            for run in self._decoded:
                if run.stream == stream:
                    replaced |= of_stream & self._in_run(key, run)
            least = self._not_committed(stream)
            if least is not None:
                later |= of_stream & (key >= least)
        gone = ~(replaced | later)
        if self._table.spec is QUARANTINE:
            gone &= rows.column("record").is_valid().to_numpy()
        return replaced, gone

    def _in_run(self, key: NDArray[np.int64], run: DecodedRun) -> Mask:
        if self._key == "segment":
            return np.isin(key, [number for number in run.segments if (run.stream, number) in self._segments])
        low, high = run.seqs if self._key == "seq" else run.records
        return (key >= low) & (key < high)

    def _not_committed(self, stream: str) -> int | None:
        """The least key of a row that came after the snapshot; None if that is not known."""
        mark = self._committed.watermark(stream)
        if mark is None:
            return 0
        return {"seq": mark.next_seq, "segment": mark.segment + 1}.get(self._key, mark.next_record)

    def _read(self, entry: DataFile, columns: Sequence[str]) -> Iterator[pa.Table]:
        path = self._table.path / entry.relative
        try:
            size = path.stat().st_size
            if size != entry.size:
                raise TableError(f"file {path}: got {size} bytes, expected {entry.size}")
            if is_as_stamped(path) is False:
                raise TableError(f"file {path}: got other bytes than its digest says")  # they must not get a new one
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                    yield pa.Table.from_batches([batch]).select(list(columns))
        except (OSError, pa.ArrowException) as error:
            raise TableError(f"file {path}: cannot read: {error}") from error
