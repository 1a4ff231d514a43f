"""The journal decoder: blocks of raw frames to rows of the ticks, orders, events and quarantine tables.

A pure function of its arguments, which the writer, its successor after a crash and every query over the live tail call
alike. It keeps these promises:

- Ticks have `seq` `first_seq`, `first_seq + 1`, … in wire order over all exchanges and days.
- Rows of a part lie instrument by instrument, each in wire order. So a value is mostly followed by one that is near
  it, and files are smaller.
- A row's day is the day in India on which its frame was received, whatever zone the host is in.
- Every record ends up somewhere: as ticks, an order, an event, or in quarantine with its bytes. Only heartbeats and
  channel tables leave no row.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.wire.decode import Memory, columns_without_null, decode_packets
from ingest.wire.layouts import EXCHANGE_CODE, EXCHANGES, PACKET_COLUMNS
from ingest.wire.records import (
    ChannelNames,
    DamagedRanges,
    DayParts,
    Origin,
    Origins,
    RecordGroup,
    group_records,
    modes_of,
    read_messages,
)
from ingest.wire.walk import Ints, Packets, Walk, packets_of, walk_frames
from storage.clock import date_of_day
from storage.commit import Decoded, DecodedInPieces, Fetch, Part, Pieces
from storage.journal import Block, Kind
from storage.memory import are_alike
from storage.schema import EVENTS, ORDERS, QUARANTINE, TICKS
from storage.tables import SymbolIndex, SymbolLookup

TEXT: Final = pa.dictionary(pa.int32(), pa.string())
TEXT_TYPES: Final = {
    "stream": pa.dictionary(pa.int8(), pa.string()),
    "account": pa.dictionary(pa.int16(), pa.string()),
    "symbol": TEXT,
    "mode": pa.dictionary(pa.int8(), pa.string()),
}
"""In pieces of ticks."""
ALWAYS_THERE: Final = frozenset(("received_at", "stream", "seq", "mode"))
"""Besides columns of packets. Others may have nulls: frames of the service itself have no account, say."""
PIECE_ROWS: Final = 1 << 15
"""Rows that are decoded at once for the writer: 14 MB of them."""


class JournalDecoder:
    """`storage.commit.TailDecoder` for Kite's frames. Stateless."""

    def find(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, fetch: Fetch
    ) -> "FoundInBlocks":
        """What is in one segment's blocks. Does not raise for what frames hold; see `storage.commit.TailDecoder`."""
        channels = ChannelNames(blocks)
        found = FoundInBlocks(segment)
        for group in group_records(blocks):
            frames, walk = _walked(group)
            found.add(Origins(stream, group, channels), group, frames, walk, first_seq, fetch)
            found.add_others(stream, group, channels, frames, walk)
        return found

    def decode(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> Decoded:
        """The rows of one segment's blocks. Does not raise for what frames hold; see `storage.commit.Decoder`."""
        ticks, others = self._read(stream, segment, blocks, first_seq, symbols)
        return Decoded({TICKS.name: ticks.parts(), **others}, ticks.packets)

    def decode_in_pieces(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> DecodedInPieces:
        """The same rows of ticks, at most PIECE_ROWS at a time; see `storage.commit.PieceDecoder`."""
        ticks, others = self._read(stream, segment, blocks, first_seq, symbols)
        return DecodedInPieces(others, ticks.pieces(), ticks.packets)

    @staticmethod
    def _read(
        stream: str, segment: int, blocks: Sequence[Block], first_seq: int, symbols: SymbolLookup
    ) -> tuple["_TickParts", Mapping[str, list[Part]]]:
        channels = ChannelNames(blocks)
        ticks = _TickParts(first_seq, symbols)
        others = FoundInBlocks(segment)
        for group in group_records(blocks):
            frames, walk = _walked(group)
            ticks.add(Origins(stream, group, channels), frames, walk)
            others.add_others(stream, group, channels, frames, walk)
        return ticks, others.others()


def _walked(group: RecordGroup) -> tuple[Ints, Walk]:
    """The group's binary frames, and what a walk over them finds."""
    frames = np.flatnonzero(group.kinds == Kind.BINARY)
    return frames, walk_frames(group.payload, group.lengths[frames], group.starts[frames])


class FoundInBlocks:
    """`storage.commit.Found`, as JournalDecoder finds it."""

    def __init__(self, segment: int) -> None:
        self.packets = 0
        self.ticks: list[TicksOfDay] = []
        self._segment = segment
        self._others: list[Origin] = []

    def add(
        self, origins: Origins, group: RecordGroup, frames: Ints, found: Walk, first_seq: int, fetch: Fetch
    ) -> None:
        """The good packets of a walk over a group's records `frames`."""
        tokens = packets_of(found).tokens
        records = frames.take(found.packet_frames)
        moves = group.moves
        if len(records):  # blocks that were read at once are all moved alike
            offsets = found.offsets + (moves[0] if are_alike(moves) else moves.take(records))
        else:
            offsets = found.offsets
        seqs = np.arange(len(tokens)) + (first_seq + self.packets)
        self.packets += len(tokens)
        days = origins.days.take(frames)
        first, last = (int(days.min()), int(days.max())) if len(records) else (0, -1)
        for number in range(first, last + 1):
            of_day = slice(None) if first == last else days.take(found.packet_frames) == number
            columns = (offsets, found.lengths, records, seqs)
            ticks = TicksOfDay(date_of_day(number), fetch, origins, tokens[of_day], *(each[of_day] for each in columns))
            if len(ticks):
                self.ticks.append(ticks)

    def add_others(self, stream: str, group: RecordGroup, channels: ChannelNames, frames: Ints, found: Walk) -> None:
        """The records of a group that are more than good packets: they are few."""
        others = (group.kinds != Kind.BINARY) & (group.kinds != Kind.CHANNELS)
        others[frames[found.range_frames]] = True
        if others.any():
            self._others.append(Origin(stream, group.take(np.flatnonzero(others)), channels))

    def others(self) -> Mapping[str, list[Part]]:
        """The rows of orders, events and quarantine."""
        orders, events, quarantine = DayParts(ORDERS), DayParts(EVENTS), DayParts(QUARANTINE)
        for origin in self._others:
            damaged = DamagedRanges(*_walked(origin.group))
            read_messages(origin, orders, events, damaged)
            damaged.move_to(quarantine, origin, self._segment)
        return {ORDERS.name: orders.parts(), EVENTS.name: events.parts(), QUARANTINE.name: quarantine.parts()}


class TicksOfDay:
    """`storage.commit.FoundTicks`: of each packet its place in the file, its record's in `origins`, and its `seq`."""

    def __init__(
        self,
        day: date,
        fetch: Fetch,
        origins: Origins,
        tokens: NDArray[np.integer],
        offsets: Ints,
        lengths: NDArray[np.integer],
        records: NDArray[np.integer],
        seqs: Ints,
    ) -> None:
        self.day = day
        self._fetch = fetch
        self._origins = origins
        self._tokens = tokens
        self._offsets = offsets
        self._lengths = lengths.astype(np.uint8, copy=False)
        self._records = records.astype(np.int32, copy=False)
        self._seqs = seqs

    def __len__(self) -> int:
        return len(self._tokens)

    @cached_property
    def _encoded(self) -> pa.DictionaryArray:
        return pa.array(self._tokens).dictionary_encode()

    @cached_property
    def tokens(self) -> Ints:
        """The instruments that there are, each once."""
        tokens: Ints = self._encoded.dictionary.to_numpy().astype(np.int64)
        return tokens

    def _codes_of(self, rows: Ints | None) -> NDArray[np.int32]:
        """Of each row, the place of its instrument in `tokens`."""
        codes: NDArray[np.int32] = self._encoded.indices.to_numpy()
        return codes if rows is None else codes.take(rows)

    def join(self, others: "Sequence[TicksOfDay]") -> "TicksOfDay":
        """All of them, with the bytes of the same segment."""
        parts = (self, *others)
        counts = [len(part._origins.days) for part in parts]
        shifts = (np.cumsum(counts) - counts).tolist()
        return TicksOfDay(
            self.day,
            self._fetch,
            self._origins.join([part._origins for part in others]),
            np.concatenate([part._tokens for part in parts]),
            np.concatenate([part._offsets for part in parts]),
            np.concatenate([part._lengths for part in parts]),
            np.concatenate([part._records + shift for part, shift in zip(parts, shifts, strict=True)]),
            np.concatenate([part._seqs for part in parts]),
        )

    @property
    def exchanges(self) -> pa.DictionaryArray:
        """Of each token."""
        codes = EXCHANGE_CODE.take(self.tokens & 0xFF).astype(np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(EXCHANGES))

    def rows_of(self, wanted: NDArray[np.bool_]) -> Ints:
        """The rows of the tokens that are wanted."""
        return np.flatnonzero(wanted.take(self._codes_of(None)))

    def decode(self, columns: Collection[str], symbols: SymbolLookup, rows: Ints | None = None) -> dict[str, pa.Array]:
        """Columns of the ticks table."""
        wanted = slice(None) if rows is None else rows
        lengths, seqs = self._lengths[wanted], self._seqs[wanted]
        found = self._origins.columns(self._records[wanted], columns)
        if not set(columns).isdisjoint(PACKET_COLUMNS):
            sizes = lengths.astype(np.int64)
            found |= decode_packets(Packets(*self._fetch(self._offsets[wanted], sizes), sizes), columns)
        if "date" in columns:
            day = np.full(len(seqs), np.datetime64(self.day, "D").astype(np.int32))
            found["date"] = pa.array(day).view(pa.date32())
        if "exchange" in columns:
            found["exchange"] = _spread(self.exchanges, self._codes_of(rows))
        if "symbol" in columns:
            index = symbols(self.day)
            names = _no_symbols(self.tokens) if index is None else index.lookup(self.tokens)
            found["symbol"] = _spread(names, self._codes_of(rows))
        if "mode" in columns:
            found["mode"] = modes_of(lengths)
        if "seq" in columns:
            found["seq"] = pa.array(seqs)
        return {
            name: found[name].cast(TEXT) if pa.types.is_dictionary(found[name].type) else found[name]
            for name in columns
        }


def _spread(of_tokens: pa.DictionaryArray, codes: NDArray[np.int32]) -> pa.DictionaryArray:
    """The text of each row, by its token."""
    return pa.DictionaryArray.from_arrays(of_tokens.indices.take(pa.array(codes)), of_tokens.dictionary)


def _no_symbols(tokens: Sized) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.nulls(len(tokens), pa.int32()), pa.array([], pa.string()))


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Packets of one partition and group, instrument by instrument: where each is, its record's place, its `seq`."""

    origins: Origins
    packets: Packets
    records: NDArray[np.integer]
    seqs: Ints

    def pieces(
        self, index: SymbolIndex | None, schema: pa.Schema, rows_a_piece: int, memory: Memory | None = None
    ) -> Iterator[pa.Table]:
        """The rows, so many at a time; each piece in the place of the one before, if there is memory for that."""
        for low in range(0, len(self.packets), rows_a_piece):
            piece = slice(low, low + rows_a_piece)
            packets = self.packets.cut(piece)
            columns = decode_packets(packets, memory=memory) | self.origins.columns(self.records[piece])
            columns["mode"] = modes_of(packets.lengths)
            columns["seq"] = pa.array(self.seqs[piece])
            columns["symbol"] = _symbols_of(packets.tokens, index)
            yield pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _symbols_of(tokens: NDArray[np.uint32], index: SymbolIndex | None) -> pa.DictionaryArray:
    """Of tokens in which equal ones stand together. There are no more names than are needed: a file gets all of them,
    again for each piece."""
    starts = np.flatnonzero(np.concatenate([[True], tokens[1:] != tokens[:-1]]))
    distinct = tokens[starts].astype(np.int64)
    names = _no_symbols(distinct) if index is None else index.lookup(distinct)
    return _spread(names, np.arange(len(starts), dtype=np.int32).repeat(np.diff(starts, append=len(tokens))))


def _schema_of(groups: Sequence[_Sorted]) -> pa.Schema:
    """Of all their pieces. It says of which columns it is certain that they have no null: they take less time to write
    and to read."""
    return _schema_without(frozenset.intersection(*(columns_without_null(group.packets) for group in groups)))


@lru_cache(maxsize=32)
def _schema_without(null: frozenset[str]) -> pa.Schema:
    fields = [field.with_type(TEXT_TYPES.get(field.name, field.type)) for field in TICKS.file_schema]
    return pa.schema([field.with_nullable(field.name not in ALWAYS_THERE | null) for field in fields])


def _in_turn(
    groups: Sequence[_Sorted], index: SymbolIndex | None, rows_a_piece: int, unused: list[Memory]
) -> Iterator[pa.Table]:
    """The pieces of each group, in memory that is `unused` when the first is asked for, and is so again in the end."""
    try:
        memory = unused.pop()
    except IndexError:
        memory = Memory()
    schema = _schema_of(groups)
    for group in groups:
        yield from group.pieces(index, schema, rows_a_piece, memory)
    unused.append(memory)


class _TickParts:
    """Collects ticks by day and exchange. They are decoded when they are asked for."""

    def __init__(self, first_seq: int, symbols: SymbolLookup) -> None:
        self.packets = 0
        self._first_seq = first_seq
        self._symbols = symbols
        self._found: dict[tuple[int, str], list[_Sorted]] = defaultdict(list)

    def add(self, origins: Origins, frames: Ints, found: Walk) -> None:
        """The good packets of a walk over the group's records `frames`."""
        packets = packets_of(found)
        if not len(packets):
            return
        records = frames.take(found.packet_frames)
        days = origins.days.take(records)
        # Partition by partition, so that every one is a stretch of the whole; in each, instrument by instrument.
        first_day = int(np.min(days))
        keys = (days - first_day) * len(EXCHANGES) + packets.exchanges
        order = _sorted(keys, packets.tokens)
        keys, packets, records = keys.take(order), packets.take(order), records.take(order)
        order += self._first_seq + self.packets
        starts = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
        for start, end in pairwise(starts):
            day, exchange = divmod(int(keys[start]), len(EXCHANGES))
            cut = slice(start, end)
            piece = _Sorted(origins, packets.cut(cut), records[cut], order[cut])
            self._found[first_day + day, EXCHANGES[exchange]].append(piece)
        self.packets += len(keys)

    def parts(self) -> list[Part]:
        """One for each day and exchange, with the symbols of that day."""
        found = []
        for values, groups, index in self._partitions():
            schema = _schema_of(groups)
            rows = [piece for group in groups for piece in group.pieces(index, schema, self.packets)]
            found.append(Part(values, pa.concat_tables(rows)))
        return found

    def pieces(self) -> list[Pieces]:
        """The same in pieces, of which each is decoded in the place of the one before."""
        unused: list[Memory] = []
        return [
            Pieces(values, _in_turn(groups, index, PIECE_ROWS, unused)) for values, groups, index in self._partitions()
        ]

    def _partitions(self) -> Iterator[tuple[Mapping[str, str], list[_Sorted], SymbolIndex | None]]:
        """Of each its values, what is in it, and the names of that day."""
        for (number, exchange), groups in sorted(self._found.items()):
            day = date_of_day(number)
            yield {"date": day.isoformat(), "exchange": exchange}, groups, self._symbols(day)


def _sorted(keys: Ints, tokens: NDArray[np.uint32]) -> Ints:
    """The order by key, then token, then place. In keys of 16 bits, which numpy sorts by radix."""
    small = int(np.max(keys)) <= np.iinfo(np.uint16).max
    halves = (tokens & 0xFFFF).astype(np.uint16), (tokens >> 16).astype(np.uint16)
    return np.lexsort((*halves, keys.astype(np.uint16) if small else keys))
