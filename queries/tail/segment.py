"""One segment of the journal behind the watermark: what was found in it so far, as immutable pieces."""

import dataclasses
import datetime
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage import schema
from storage.commit import FoundTicks, Part, TailDecoder, find_in_segment, with_damage
from storage.journal import Block, Damage, RecordReader, SegmentBytes, SegmentReader
from storage.layout import DataLayout

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """What was found in blocks that were read together: ticks, which are decoded when they are asked for, and `tables`,
    the rows of other tables in their whole schemas."""

    ticks: Sequence[FoundTicks]
    tables: Mapping[str, pa.Table]

    def __len__(self) -> int:
        return sum(map(len, self.ticks))


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentRows:
    """What is in one segment at one moment."""

    stream: str
    segment: int
    pieces: Sequence[Piece]


class Segment:
    """How far a segment was read. `next_seq` is the one behind its ticks.

    Its file stays open as long as somebody has this object, or ticks of it: they are decoded from there, also when the
    file was removed.
    """

    def __init__(self, stream: str, number: int, first_seq: int, first_record: int | None) -> None:
        self.stream = stream
        self.number = number
        self.first_seq = first_seq
        self.next_seq = first_seq
        self.first_record = first_record
        self._reader: RecordReader | None = None
        self._given_up = False
        self._exhausted = False
        self._pieces: list[Piece] = []

    @property
    def next_record(self) -> int | None:
        """The ordinal that comes next, whether the records before it could be decoded or not."""
        return self.first_record if self._reader is None else self._reader.next_record

    def advance(self, layout: DataLayout, decoder: TailDecoder, scratch: NDArray[np.uint8], *, complete: bool) -> None:
        """Find what arrived since. `complete`: the file will not grow any more. It is read into `scratch`."""
        if self._exhausted:
            return
        if self._reader is None:
            self._reader = RecordReader(layout, self.stream, self.number, self.first_record)
        before = len(self._pieces)
        while blocks := self._reader.read(scratch):
            if not self._given_up:
                self._pieces.append(self._find(decoder, blocks, self._reader.bytes))
        if len(self._pieces) > before + 1:
            self._pieces[before:] = [_joined(self._pieces[before:])]
        if (complete or self._reader.sealed) and not self._reader.waiting:
            self._exhausted = True
            if not self._given_up and (damage := self._reader.finish()):
                self._pieces.append(Piece((), _whole(self._damage_parts(layout, damage))))
        # Few pieces, as each costs every query something; large ones seldom become others, for what is kept of them.
        while len(self._pieces) > 1 and (self._exhausted or 2 * len(self._pieces[-1]) >= len(self._pieces[-2])):
            self._pieces[-2:] = [_joined(self._pieces[-2:])]

    def rows(self) -> SegmentRows:
        """What was found so far."""
        return SegmentRows(self.stream, self.number, tuple(self._pieces))

    def give_up(self, error: Exception) -> None:
        """Have no rows: the writer will put the whole segment into quarantine."""
        log.warning("segment %s of stream %s is left out, it cannot be decoded: %s", self.number, self.stream, error)
        self._given_up = True
        self._exhausted = self._reader is None
        self._pieces.clear()
        self.next_seq = self.first_seq

    def rest(self) -> None:
        """Close the file, if it will not grow any more, until it is needed."""
        if self._exhausted and self._reader is not None:
            self._reader.close()

    def _find(self, decoder: TailDecoder, blocks: Sequence[Block], source: SegmentBytes) -> Piece:
        """What is in the next blocks."""
        found, others = find_in_segment(
            decoder, self.stream, self.number, blocks, first_seq=self.next_seq, fetch=source.gather
        )
        self.next_seq += found.packets
        return Piece(found.ticks, _whole(others))

    def _damage_parts(self, layout: DataLayout, damage: list[Damage]) -> Mapping[str, list[Part]]:
        with SegmentReader(layout.segment(self.stream, self.number)) as reader:
            blocks = reader.read()  # also those that do not count
        found = [(self.number, item) for item in damage]
        return with_damage({}, layout, self.stream, self.number, found, blocks)


def _joined(pieces: Sequence[Piece]) -> Piece:
    """One piece of all."""
    days: dict[datetime.date, list[FoundTicks]] = {}
    tables: dict[str, list[pa.Table]] = {}
    for piece in pieces:
        for ticks in piece.ticks:
            days.setdefault(ticks.day, []).append(ticks)
        for name, rows in piece.tables.items():
            tables.setdefault(name, []).append(rows)
    return Piece(
        [first.join(rest) if rest else first for first, *rest in days.values()],
        {name: some[0] if len(some) == 1 else pa.concat_tables(some) for name, some in tables.items()},
    )


def _whole(parts: Mapping[str, Sequence[Part]]) -> dict[str, pa.Table]:
    return {
        name: pa.concat_tables([whole_rows(schema.TABLES[name], part) for part in some])
        for name, some in parts.items()
        if some
    }


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
