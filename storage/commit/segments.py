"""Where the segments of a stream stand: which records count, which `seq` they have, and which files have their rows.

A segment is read under the rule of repeated records (`storage.journal.folder`), so what counts in it depends on what
came before. An archived segment says in its footer where it stands; of others it is counted.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.commit.segment_rows import SegmentId
from storage.errors import JournalError, TableError
from storage.files import DataFile
from storage.journal import Block, Damage, Kind, RecordReader
from storage.layout import DataLayout, parse_file
from storage.tables import LakeTable, Version, first_line

DamageRows = Mapping[SegmentId, Sequence[tuple[int, int]]]
"""The damage of the journal that is in quarantine: offset and length of each, by segment."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """What counts of a segment that will not grow. `next_record` is None if it is not known."""

    blocks: list[Block]
    damage: list[Damage]
    next_record: int | None

    def received_ns(self) -> tuple[int, int]:
        """The earliest and the latest time of a record that is no channel table; (0, -1) if there is none."""
        times = [block.received_at_ns[block.kinds != Kind.CHANNELS] for block in self.blocks]
        times = [some for some in times if len(some)]
        if not times:
            return 0, -1
        return min(int(some.min()) for some in times), max(int(some.max()) for some in times)


def load(layout: DataLayout, stream: str, number: int, next_record: int | None) -> Loaded:
    """Read a segment, plain or archived; `next_record` as the segments before it have left it.

    Raises JournalError if it cannot be read, or if it is not certain yet which of its records count.
    """
    with RecordReader(layout, stream, number, next_record) as reader:
        blocks = reader.read()
        if reader.waiting:
            raise JournalError(f"segment {stream}/{number}: what is missing in it may still be repeated")
        return Loaded(blocks, reader.finish(), reader.next_record)


def damage_rows(quarantine: LakeTable, *, unreadable_too: bool = False) -> dict[SegmentId, list[tuple[int, int]]]:
    """Offset and length of each damage of the journal that is in `quarantine`, by segment.

    Raises TableError if a file cannot be read; with `unreadable_too` what such a file says is left out.
    """
    import pyarrow.compute as pc  # see storage.tables.parquet

    found: dict[SegmentId, list[tuple[int, int]]] = defaultdict(list)
    columns = ["stream", "segment", "record", "offset", "length"]
    for entry in quarantine.snapshot().entries:
        path = quarantine.path / entry.relative
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                rows = file.read(columns=columns)
        except (OSError, pa.ArrowException) as error:
            if unreadable_too:
                continue
            raise TableError(f"file {path}: cannot read: {first_line(error)}") from error
        for row in rows.filter(pc.is_null(rows.column("record"))).to_pylist():
            found[row["stream"], row["segment"]].append((row["offset"], row["length"]))
    return found


def is_whole(layout: DataLayout, stream: str, number: int, damage: Sequence[tuple[int, int]]) -> bool:
    """Whether a segment is in quarantine as a whole: then no other table has a row of it."""
    path = layout.segment(stream, number)
    return bool(damage) and path.exists() and (0, path.stat().st_size) in damage


class FilesOfTicks:
    """The files of a snapshot of ticks, by IST day (as text) and by the segment that a file is named after."""

    def __init__(self, table: LakeTable, snapshot: Version) -> None:
        self._folder = table.path
        self._named: dict[SegmentId, list[DataFile]] = defaultdict(list)
        self._mixed: dict[str, list[DataFile]] = defaultdict(list)
        for entry in snapshot.entries:
            origin = parse_file(entry.relative)
            if origin is None:
                self._mixed[entry.values["date"]].append(entry)
            else:
                self._named[origin].append(entry)

    def seqs(self, stream: str, number: int, first_seq: int, next_seq: int, day: str) -> NDArray[np.int64]:
        """The `seq` of the stream's rows of that day in [first_seq, next_seq), ascending, as often as they are there.

        Looks into the files named after the segment and those named after none. Raises TableError for a file that is
        missing, cannot be read, or has another size than the log says.
        """
        named = [entry for entry in self._named[stream, number] if entry.values["date"] == day]
        found = [self._read(entry, stream, first_seq, next_seq) for entry in named + self._mixed[day]]
        return np.sort(np.concatenate([np.empty(0, np.int64), *found]))

    def first_seq(self, stream: str, number: int) -> int | None:
        """The least `seq` in the files named after a segment; None if there are none, or their days have other files.

        It is too high if rows of the segment were taken out, so what is counted from it has to be checked.
        """
        named = self._named[stream, number]
        if not named or any(self._mixed[entry.values["date"]] for entry in named):
            return None
        found = [self._read(entry, stream, 0, np.iinfo(np.int64).max) for entry in named]
        return min((int(seqs.min()) for seqs in found if len(seqs)), default=None)

    def _read(self, entry: DataFile, stream: str, first_seq: int, next_seq: int) -> NDArray[np.int64]:
        import pyarrow.compute as pc  # see storage.tables.parquet

        path = self._folder / entry.relative
        try:
            size = path.stat().st_size
            if size != entry.size:
                raise TableError(f"file {path}: got {size} bytes, expected {entry.size}")
            found = []
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for group in range(file.num_row_groups):
                    if not _may_have(file, group, stream, first_seq, next_seq):
                        continue
                    rows = file.read_row_group(group, columns=["stream", "seq"])
                    seq = rows.column("seq")
                    inside = pc.and_(pc.greater_equal(seq, first_seq), pc.less(seq, next_seq))
                    of_stream = pc.equal(rows.column("stream"), stream)
                    found.append(seq.filter(pc.and_(inside, of_stream)).to_numpy())
        except (OSError, pa.ArrowException) as error:
            raise TableError(f"file {path}: cannot read: {first_line(error)}") from error
        return np.concatenate([np.empty(0, np.int64), *found])


def _may_have(file: pq.ParquetFile, group: int, stream: str, first_seq: int, next_seq: int) -> bool:
    """Whether the bounds of a row group allow for such rows."""
    bounds: Mapping[str, tuple[object, object]] = {"stream": (stream, stream), "seq": (first_seq, next_seq - 1)}
    for name, (low, high) in bounds.items():
        column = file.metadata.row_group(group).column(file.schema_arrow.get_field_index(name))
        statistics = column.statistics
        if statistics is not None and statistics.has_min_max and (statistics.max < low or statistics.min > high):
            return False
    return True
