"""One segment of the journal behind the watermark: what was found in it so far, as immutable pieces."""

import dataclasses
import datetime
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from storage import schema
from storage.commit import Decoder, FoundTicks, Part, find_in_segment, with_damage
from storage.journal import Block, Damage, RecordReader, SegmentReader
from storage.layout import DataLayout

MOST_PIECES: Final = 16
"""Who asks every few milliseconds gets a few blocks each time: so many pieces become one."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """What was found in blocks that were read together: ticks, which are decoded when they are asked for, and `tables`,
    the rows of other tables in their whole schemas."""

    blocks: Sequence[Block]
    ticks: Sequence[FoundTicks]
    tables: Mapping[str, pa.Table]


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentRows:
    """What is in one segment at one moment."""

    stream: str
    segment: int
    pieces: Sequence[Piece]


class Segment:
    """How far a segment was read. `next_seq` is the one behind its ticks."""

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

    def advance(self, layout: DataLayout, decoder: Decoder, *, complete: bool) -> None:
        """Find what arrived since. `complete`: the file will not grow any more."""
        if self._exhausted:
            return
        if self._reader is None:
            self._reader = RecordReader(layout, self.stream, self.number, self.first_record)
        blocks = self._reader.read()
        if blocks and not self._given_up:
            self.next_seq += self._add(decoder, blocks, self.next_seq)
        if (complete or self._reader.sealed) and not self._reader.waiting:
            self._exhausted = True
            if not self._given_up and (damage := self._reader.finish()):
                self._pieces.append(Piece((), (), _whole(self._damage_parts(layout, damage))))
            self.close()
        if not self._given_up and len(self._pieces) > (1 if self._exhausted else MOST_PIECES):
            self._join(decoder)

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

    def close(self) -> None:
        """Close the file. What was found stays."""
        if self._reader is not None:
            self._reader.close()

    def _add(self, decoder: Decoder, blocks: Sequence[Block], first_seq: int) -> int:
        """A piece more. Returns how many ticks it has."""
        found, others = find_in_segment(decoder, self.stream, self.number, blocks, first_seq=first_seq)
        self._pieces.append(Piece(blocks, found.ticks, _whole(others)))
        return found.packets

    def _join(self, decoder: Decoder) -> None:
        """Make one piece of all."""
        blocks = _moved_together([block for piece in self._pieces for block in piece.blocks])
        found, _ = find_in_segment(decoder, self.stream, self.number, blocks, first_seq=self.first_seq)
        names = {name for piece in self._pieces for name in piece.tables}
        tables = {
            name: pa.concat_tables([piece.tables[name] for piece in self._pieces if name in piece.tables])
            for name in names
        }
        self._pieces = [Piece(blocks, found.ticks, tables)]

    def _damage_parts(self, layout: DataLayout, damage: list[Damage]) -> Mapping[str, list[Part]]:
        with SegmentReader(layout.segment(self.stream, self.number)) as reader:
            blocks = reader.read()  # also those that do not count
        found = [(self.number, item) for item in damage]
        return with_damage({}, layout, self.stream, self.number, found, blocks)


def _moved_together(blocks: Sequence[Block]) -> list[Block]:
    """The same blocks, with all payloads in one array: so they are found as one, and what was read is let go."""
    together = np.concatenate([np.empty(0, np.uint8), *(block.payload for block in blocks)])
    moved = []
    at = 0
    for block in blocks:
        columns = {name: getattr(block, name).copy() for name in ("received_at_ns", "lengths", "channels", "kinds")}
        end = at + len(block.payload)
        moved.append(dataclasses.replace(block, payload=together[at:end], **columns))
        at = end
    return moved


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
