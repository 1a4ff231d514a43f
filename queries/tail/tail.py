"""The live tail: rows that are in the journal and not yet in the tables.

The writer turns a segment of the journal into files and commits them. What it has committed of a stream is a prefix:
segments up to the watermark. The tail is the rest, decoded on the spot by the same decoder with the same ordinals, so
that a row is the same row before and after its commit. Together they are what was journalled, each row once:

1. The watermark is read first, the journal's folder after. A segment that is committed in between is in the folder
   still, and is read from there; the watermark that was read decides.
2. Segments disappear only after they were committed. If one above the watermark is not there, the watermark is old:
   `Vanished` tells the caller to begin again with a newer one.
3. A segment that the writer will put into quarantine as a whole, because no decoder takes it, has no rows here either.
   Other damage is in quarantine as soon as the segment is complete.
4. A segment grows only at its end, and a later one appears only when it is complete. So what is read is a prefix of
   what was journalled, whatever the capturing process does meanwhile. A torn end is just where the tail ends, and so
   is a gap as long as what is missing may be repeated.
5. Of records that are repeated each counts once, by the rule in `storage.journal.folder`.

Between calls the decoded rows are kept: only blocks that arrived since are read and decoded. Nothing is ever written,
and no lock is taken but a stream's for a moment, where records are missing.
"""

import datetime
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from storage import schema
from storage.commit import Decoder, Part, SegmentId, decode_segment, with_damage
from storage.errors import (
    JournalError,
    JournalVersionError,
    KitelakeError,
    RowsError,
    SegmentMissingError,
    SegmentReadError,
)
from storage.journal import Damage, RecordReader, SegmentReader, segments, streams
from storage.layout import DataLayout
from storage.tables import SymbolLookup, Watermark

MAX_CHUNKS: Final = 32

log = logging.getLogger(__name__)

NOTHING: Final = Watermark(-1, 0, 0)
"""The watermark of a stream of which nothing is committed."""

Listing = Mapping[str, list[int]]
"""The streams of a journal and the numbers of their segments, both ascending."""


class Vanished(Exception):  # noqa: N818 - a signal to the caller, who tries again, and never an error of the user's
    """These segments are above the watermark and not in the journal."""

    def __init__(self, missing: set[SegmentId]) -> None:
        super().__init__(f"not in the journal: {sorted(missing)}")
        self.missing = missing


@dataclass(frozen=True)
class SegmentRows:
    """The rows of one segment so far: table name -> rows in the table's whole schema."""

    stream: str
    segment: int
    tables: Mapping[str, pa.Table]


def list_journal(layout: DataLayout) -> Listing:
    """What is in the journal at this moment; empty if there is none."""
    return {stream: segments(layout, stream) for stream in streams(layout)}


class Tail:
    """The journal behind the watermarks, and what was decoded of it. Belongs to one thread at a time."""

    def __init__(self, layout: DataLayout, decoder: Decoder) -> None:
        self._layout = layout
        self._decoder = decoder
        self._segments: dict[SegmentId, _Segment] = {}
        self._symbols_version: object = None

    def read(
        self,
        covered: Callable[[str], Watermark],
        symbols: SymbolLookup,
        *,
        symbols_version: object,
        seen: Listing,
        holes: Set[SegmentId] = frozenset(),
    ) -> list[SegmentRows]:
        """The rows behind `covered`, by stream and segment.

        `seen` is a listing from before the watermarks were read: what it names must be there or covered. Raises
        Vanished if it is not, unless it is one of `holes`. Rows that were decoded with another `symbols_version` are
        decoded again. Raises JournalError for a segment of another version or that the system cannot read.
        """
        if symbols_version != self._symbols_version:
            self._forget(self._segments)
            self._symbols_version = symbols_version
        now = list_journal(self._layout)
        current: list[_Segment] = []
        for stream in sorted({*seen, *now}):
            done = covered(stream)
            numbers = now.get(stream, [])
            last = max([*numbers, *seen.get(stream, [])], default=-1)
            missing = {(stream, number) for number in range(done.segment + 1, last + 1)} - holes
            missing -= {(stream, number) for number in numbers}
            if missing:
                raise Vanished(missing)
            seq, record = done.next_seq, done.next_record
            for number in numbers:
                if number > done.segment:
                    segment = self._segment(stream, number, seq, record)
                    self._advance(segment, symbols, complete=number < last)
                    seq, record = segment.next_seq, segment.next_record
                    current.append(segment)
        self._forget(self._segments.keys() - {(segment.stream, segment.number) for segment in current})
        return [segment.rows() for segment in current]

    def close(self) -> None:
        """Close the files and drop the rows. Idempotent."""
        self._forget(self._segments)

    def _segment(self, stream: str, number: int, first_seq: int, first_record: int | None) -> "_Segment":
        segment = self._segments.get((stream, number))
        if segment is not None and segment.first_seq == first_seq and first_record in (None, segment.first_record):
            return segment
        if segment is not None:  # it was decoded when something before it read otherwise
            self._forget([(stream, number)])
        segment = _Segment(stream, number, first_seq, first_record)
        self._segments[stream, number] = segment
        return segment

    def _advance(self, segment: "_Segment", symbols: SymbolLookup, *, complete: bool) -> None:
        try:
            segment.advance(self._layout, self._decoder, symbols, complete=complete)
        except SegmentMissingError as error:
            raise Vanished({(segment.stream, segment.number)}) from error
        except (JournalVersionError, SegmentReadError):
            raise  # that says nothing about its rows
        except (JournalError, RowsError) as error:
            segment.give_up(error)
        except (KitelakeError, MemoryError):
            self._forget([(segment.stream, segment.number)])  # that says nothing about it: it is read again
            raise
        except Exception as error:
            segment.give_up(error)

    def _forget(self, keys: Iterable[SegmentId]) -> None:
        for key in list(keys):
            self._segments.pop(key).close()


class _Segment:
    """One segment: its reader, how far it was decoded, and the rows."""

    def __init__(self, stream: str, number: int, first_seq: int, first_record: int | None) -> None:
        self.stream = stream
        self.number = number
        self.first_seq = first_seq
        self.next_seq = first_seq
        self.first_record = first_record
        self._reader: RecordReader | None = None
        self._given_up = False
        self._exhausted = False
        self._chunks: dict[str, list[pa.Table]] = {}
        self._tables: dict[str, pa.Table] = {}

    @property
    def next_record(self) -> int | None:
        """The ordinal that comes next, whether the records before it could be decoded or not."""
        return self.first_record if self._reader is None else self._reader.next_record

    def advance(self, layout: DataLayout, decoder: Decoder, symbols: SymbolLookup, *, complete: bool) -> None:
        """Decode what arrived since. `complete`: the file will not grow any more."""
        if self._exhausted:
            return
        if self._reader is None:
            self._reader = RecordReader(layout, self.stream, self.number, self.first_record)
        blocks = self._reader.read()
        if blocks and not self._given_up:
            decoded = decode_segment(
                decoder, self.stream, self.number, blocks, first_seq=self.next_seq, symbols=symbols
            )
            self._add(decoded.parts)
            self.next_seq += decoded.packets
        if (complete or self._reader.sealed) and not self._reader.waiting:
            self._exhausted = True
            if not self._given_up and (damage := self._reader.finish()):
                self._add(self._damage_parts(layout, damage))
            self.close()

    def rows(self) -> SegmentRows:
        """What is decoded so far. A table to which nothing came is the same object as before."""
        for name in self._chunks.keys() - self._tables.keys():
            self._tables[name] = pa.concat_tables(self._chunks[name])
        return SegmentRows(self.stream, self.number, dict(self._tables))

    def give_up(self, error: Exception) -> None:
        """Have no rows: the writer will put the whole segment into quarantine."""
        log.warning("segment %s of stream %s is left out, it cannot be decoded: %s", self.number, self.stream, error)
        self._given_up = True
        self._exhausted = self._reader is None
        self._chunks.clear()
        self._tables.clear()
        self.next_seq = self.first_seq

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _damage_parts(self, layout: DataLayout, damage: list[Damage]) -> Mapping[str, list[Part]]:
        with SegmentReader(layout.segment(self.stream, self.number)) as reader:
            blocks = reader.read()  # again: what was read before is not kept, and this is rare
        found = [(self.number, item) for item in damage]
        return with_damage({}, layout, self.stream, self.number, found, blocks)

    def _add(self, found: Mapping[str, Sequence[Part]]) -> None:
        for name, parts in found.items():
            if not parts:
                continue
            chunks = [*self._chunks.get(name, []), *(whole_rows(schema.TABLES[name], part) for part in parts)]
            if len(chunks) > MAX_CHUNKS:  # who asks every few milliseconds gets a few rows each time
                chunks = [pa.concat_tables(chunks).combine_chunks()]
            self._chunks[name] = chunks
            self._tables.pop(name, None)


def whole_rows(spec: schema.Table, part: Part) -> pa.Table:
    """A part's rows with the partition columns, in the schema that a query sees."""
    columns = []
    for field in spec.schema:
        if field.name in part.values:
            columns.append(_constant(part.values[field.name], field.type, len(part.rows)))
        else:
            column = part.rows.column(field.name)
            columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=spec.schema)


def _constant(text: str, kind: pa.DataType, count: int) -> pa.Array:
    value = datetime.date.fromisoformat(text) if pa.types.is_date(kind) else text
    return pa.repeat(pa.scalar(value, kind), count)
