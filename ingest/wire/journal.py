"""The journal decoder: blocks of raw frames to rows of the ticks, orders, events and quarantine tables.

A pure function of its arguments, which the writer, its successor after a crash and every query over the live tail call
alike. It keeps these promises:

- Ticks have `seq` `first_seq`, `first_seq + 1`, … in wire order over all exchanges and days.
- Rows of a part lie instrument by instrument, each in wire order. So a value is mostly followed by one that is near
  it, and files are smaller by a tenth to a third, see `benchmarks/bench_parquet.py`.
- A row's day is the day in India on which its frame was received, whatever zone the host is in.
- Every record ends up somewhere: as ticks, an order, an event, or in quarantine with its bytes. Only heartbeats and
  channel tables leave no row.

Work goes by groups of blocks, so that thousands of small blocks cost little more than one large one.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.errors import WireError
from ingest.wire.decode import decode_packets, modes_of, packets_of
from ingest.wire.layouts import EXCHANGES
from ingest.wire.messages import ORDER_FIELDS, Message, Order, read_event, read_text
from ingest.wire.walk import Ints, Reason, Walk, walk_frames
from storage.clock import date_of_day, ist_days, microseconds
from storage.commit import Decoded, Part
from storage.journal import Block, Channel, Kind
from storage.schema import EVENTS, ORDERS, QUARANTINE, TICKS, TIMESTAMP, Table
from storage.tables import SymbolLookup

GROUP_BYTES: Final = 128 * 2**20
"""Payload that is decoded at once: more than a segment of the usual size, so that its columns come in one piece."""
_CHANNELS: Final = 2**16


class JournalDecoder:
    """`storage.commit.decoder.Decoder` for Kite's frames. Stateless."""

    def decode(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> Decoded:
        """The rows of one segment's blocks. Does not raise for what frames hold; see `storage.commit.decoder.Decoder`."""
        channels = _Channels(blocks)
        ticks = _Ticks(first_seq, symbols)
        orders, events, quarantine = _Days(ORDERS), _Days(EVENTS), _Days(QUARANTINE)
        for group in _groups(blocks):
            origin = _Origin(stream, group, channels)
            frames = np.flatnonzero(group.kinds == Kind.BINARY)
            found = walk_frames(group.payload, group.lengths[frames], group.starts[frames])
            ticks.add(origin, frames, found)
            damaged = _Damaged(frames, found)
            _read_messages(origin, orders, events, damaged)
            damaged.move_to(quarantine, origin, segment)
        parts = {
            TICKS.name: ticks.parts(),
            ORDERS.name: orders.parts(),
            EVENTS.name: events.parts(),
            QUARANTINE.name: quarantine.parts(),
        }
        return Decoded(parts, ticks.packets)


@dataclass(frozen=True, eq=False)
class _Group:
    """The records of some blocks, as if they were one block. All arrays but `payload` have one element a record."""

    payload: NDArray[np.uint8]
    starts: Ints
    lengths: Ints
    kinds: NDArray[np.uint8]
    channels: NDArray[np.uint16]
    received_at_ns: Ints
    records: Ints

    def bytes_of(self, record: int) -> bytes:
        start = int(self.starts[record])
        return self.payload[start : start + int(self.lengths[record])].tobytes()


def _groups(blocks: Sequence[Block]) -> Iterator[_Group]:
    first = size = 0
    for i, block in enumerate(blocks):
        if size and size + len(block.payload) > GROUP_BYTES:
            yield _group(blocks[first:i])
            first, size = i, 0
        size += len(block.payload)
    if first < len(blocks):
        yield _group(blocks[first:])


def _group(blocks: Sequence[Block]) -> _Group:
    lengths = _joined([block.lengths for block in blocks]).astype(np.int64)
    counts = np.array([len(block.lengths) for block in blocks], np.int64)
    firsts = np.array([block.first_record for block in blocks], np.int64)
    before = np.cumsum(counts) - counts
    payload, payload_starts = _payload([block.payload for block in blocks])
    first_starts = np.cumsum(lengths) - lengths  # as if the payloads lay end to end
    sizes = np.array([len(block.payload) for block in blocks], np.int64)
    gaps = payload_starts - (np.cumsum(sizes) - sizes)
    return _Group(
        payload=payload,
        starts=first_starts + gaps.repeat(counts),
        lengths=lengths,
        kinds=_joined([block.kinds for block in blocks]),
        channels=_joined([block.channels for block in blocks]),
        received_at_ns=_joined([block.received_at_ns for block in blocks]),
        records=np.arange(len(lengths)) + (firsts - before).repeat(counts),
    )


def _payload(payloads: list[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], Ints]:
    """One array that holds all payloads, and where each begins in it.

    Blocks read from a file are mostly slices of one array: that array does, and nothing need be copied.
    """
    base = payloads[0].base
    if isinstance(base, np.ndarray) and base.dtype == np.uint8 and base.ndim == 1 and base.flags.c_contiguous:
        starts = np.array([_address(payload) if payload.base is base else -1 for payload in payloads])
        if bool(np.all(np.diff(starts, prepend=0) > 0)):
            return base, starts - _address(base)
    sizes = np.array([len(payload) for payload in payloads], np.int64)
    return _joined(payloads), np.cumsum(sizes) - sizes


def _address(array: NDArray[np.uint8]) -> int:
    return int(array.__array_interface__["data"][0])


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class _Channels:
    """What a channel number means, as arrays over all numbers. The service itself has no account and no connection."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        known: dict[int, Channel] = {}
        for table in {id(block.channel_table): block.channel_table for block in blocks}.values():
            known.update(table)
        names = sorted({channel.account for channel in known.values() if channel.account})
        self.accounts = pa.array(names, pa.string())
        self.account = np.full(_CHANNELS, -1, np.int16)
        self.connection = np.full(_CHANNELS, -1, np.int64)
        for number, channel in known.items():
            if channel.account:
                self.account[number] = names.index(channel.account)
                self.connection[number] = channel.connection


class _Origin:
    """Where rows come from: the columns that all tables have, for any records of a group."""

    def __init__(self, stream: str, group: _Group, channels: _Channels) -> None:
        self.group = group
        self.days: Ints = ist_days(group.received_at_ns)
        """Of each record: days since 1970 in India."""
        self._stream = stream
        self._names = channels.accounts
        # Worked out for each record once, so that each of its packets costs only a look-up.
        self._received_at = microseconds(group.received_at_ns)
        self._accounts = channels.account.take(group.channels)
        self._connections = channels.connection.take(group.channels)

    def columns(self, records: Ints) -> dict[str, pa.Array]:
        """`received_at`, `stream`, `account`, `connection`: one row for each of `records`."""
        accounts = self._accounts.take(records)
        unknown = accounts < 0
        mask = unknown if unknown.any() else None
        return {
            "received_at": pa.array(self._received_at.take(records)).view(TIMESTAMP),
            "stream": _constant(self._stream, len(records)),
            "account": pa.DictionaryArray.from_arrays(pa.array(accounts, mask=mask), self._names),
            "connection": pa.array(self._connections.take(records), mask=mask),
        }

    def account(self, record: int) -> str:
        """The name, or "" for the service itself."""
        code = int(self._accounts[record])
        return "" if code < 0 else str(self._names[code])


def _constant(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([text]))


class _Ticks:
    """Collects rows of ticks by day and exchange."""

    def __init__(self, first_seq: int, symbols: SymbolLookup) -> None:
        self.packets = 0
        self._first_seq = first_seq
        self._symbols = symbols
        self._pieces: dict[tuple[int, str], list[pa.Table]] = defaultdict(list)

    def add(self, origin: _Origin, frames: Ints, found: Walk) -> None:
        """The good packets of a walk over the group's records `frames`."""
        packets = packets_of(found)
        if not len(packets):
            return
        records = frames.take(found.packet_frames)
        days = origin.days.take(records)
        # Partition by partition, so that every one is a slice of whole columns; in each, instrument by instrument.
        first_day = int(np.min(days))
        keys = (days - first_day) * len(EXCHANGES) + packets.exchanges
        order = _sorted(keys, packets.tokens)
        keys, packets, records = keys.take(order), packets.take(order), records.take(order)

        columns = decode_packets(packets) | origin.columns(records)
        columns["mode"] = modes_of(packets)
        columns["seq"] = pa.array(order + (self._first_seq + self.packets))
        names = [name for name in TICKS.file_schema.names if name in columns]
        table = pa.table({name: columns[name] for name in names})
        starts = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
        for start, end in pairwise(starts):
            day, exchange = divmod(int(keys[start]), len(EXCHANGES))
            self._pieces[first_day + day, EXCHANGES[exchange]].append(table.slice(start, end - start))
        self.packets += len(keys)

    def parts(self) -> list[Part]:
        parts = []
        for (number, exchange), pieces in sorted(self._pieces.items()):
            day = date_of_day(number)
            rows = pa.concat_tables(pieces)
            rows = rows.append_column("symbol", self._symbols_of(rows.column("instrument_token"), day))
            parts.append(Part({"date": day.isoformat(), "exchange": exchange}, rows.select(TICKS.file_schema.names)))
        return parts

    def _symbols_of(self, tokens: pa.ChunkedArray, day: date) -> pa.ChunkedArray:
        index = self._symbols(day)
        if index is None:
            nothing = pa.DictionaryArray.from_arrays(pa.nulls(len(tokens), pa.int32()), pa.array([], pa.string()))
            return pa.chunked_array([nothing])
        # Few distinct tokens stand in many rows: look each up once.
        encoded = tokens.dictionary_encode().chunks
        found = index.lookup(encoded[0].dictionary.to_numpy())
        pieces = [
            pa.DictionaryArray.from_arrays(found.indices.take(piece.indices), found.dictionary) for piece in encoded
        ]
        return pa.chunked_array(pieces)


def _sorted(keys: Ints, tokens: NDArray[np.uint32]) -> Ints:
    """The order by key, then token, then place. In keys of 16 bits, which numpy sorts by radix."""
    small = int(np.max(keys)) <= np.iinfo(np.uint16).max
    halves = (tokens & 0xFFFF).astype(np.uint16), (tokens >> 16).astype(np.uint16)
    return np.lexsort((*halves, keys.astype(np.uint16) if small else keys))


class _Days:
    """Collects rows of a table that is partitioned by day alone, in the order of their records."""

    def __init__(self, spec: Table) -> None:
        self._spec = spec
        self._pieces: dict[int, list[pa.Table]] = defaultdict(list)

    def add(self, origin: _Origin, records: Ints, columns: Mapping[str, pa.Array]) -> None:
        """`columns` besides those of the origin, one row for each of `records` of the group."""
        if not len(records):
            return
        everything = {**origin.columns(records), "record": pa.array(origin.group.records.take(records)), **columns}
        table = pa.table({name: everything[name] for name in self._spec.file_schema.names})
        days = origin.days.take(records)
        for day in np.unique(days).tolist():
            self._pieces[day].append(table.take(pa.array(np.flatnonzero(days == day))))

    def parts(self) -> list[Part]:
        return [
            Part({"date": date_of_day(number).isoformat()}, pa.concat_tables(pieces))
            for number, pieces in sorted(self._pieces.items())
        ]


class _Damaged:
    """Bytes of a group that would not decode: record, offset in it, length, and why."""

    def __init__(self, frames: Ints, found: Walk) -> None:
        self._records = [frames[found.range_frames]]
        self._offsets = [found.range_offsets]
        self._lengths = [found.range_lengths]
        self._reasons = [Reason(code).text for code in found.range_reasons.tolist()]

    def add_record(self, group: _Group, record: int, reason: str) -> None:
        """A whole record."""
        self._records.append(np.array([record]))
        self._offsets.append(np.zeros(1, np.int64))
        self._lengths.append(group.lengths[record : record + 1])
        self._reasons.append(reason)

    def move_to(self, days: _Days, origin: _Origin, segment: int) -> None:
        """Add the rows, in the order of their records, with their bytes."""
        records = np.concatenate(self._records)
        order = np.argsort(records, kind="stable")
        records = records[order]
        offsets = np.concatenate(self._offsets)[order]
        lengths = np.concatenate(self._lengths)[order]
        ends = np.cumsum(lengths)
        first = origin.group.starts.take(records) + offsets
        data = origin.group.payload.take(np.arange(int(lengths.sum())) + (first - ends + lengths).repeat(lengths))
        bounds = np.concatenate([[0], ends]).astype(np.int32)
        columns = {
            "segment": pa.array(np.full(len(records), segment, np.int64)),
            "offset": pa.array(offsets),
            "length": pa.array(lengths),
            "reason": pa.array(self._reasons, pa.string()).take(pa.array(order)),
            "data": pa.Array.from_buffers(
                pa.binary(), len(records), [None, pa.py_buffer(bounds), pa.py_buffer(np.ascontiguousarray(data))]
            ),
        }
        days.add(origin, records, columns)


def _read_messages(origin: _Origin, orders: _Days, events: _Days, damaged: _Damaged) -> None:
    """The group's text frames and events. They are few, so one at a time."""
    group = origin.group
    read_orders: list[tuple[int, Order]] = []
    read_events: list[tuple[int, Message]] = []
    for record in np.flatnonzero((group.kinds != Kind.BINARY) & (group.kinds != Kind.CHANNELS)).tolist():
        kind = group.kinds[record]
        try:
            if kind == Kind.TEXT:
                read = read_text(group.bytes_of(record))
            elif kind == Kind.EVENT:
                read = read_event(group.bytes_of(record))
            else:
                raise WireError(f"record of unknown kind {kind}")
        except WireError as error:
            damaged.add_record(group, record, str(error))
            continue
        if isinstance(read, Order):
            read_orders.append((record, read))
        else:
            read_events.append((record, read))

    if read_orders:
        records = np.array([record for record, _ in read_orders])
        columns = {
            name: pa.array([order.fields[name] for _, order in read_orders], ORDERS.schema.field(name).type)
            for name in ORDER_FIELDS
        }
        accounts = (origin.account(record) for record, _ in read_orders)
        ids = [order.update_id(account) for account, (_, order) in zip(accounts, read_orders, strict=True)]
        columns["update_id"] = pa.array(ids, pa.string())
        columns["data"] = pa.array([order.data for _, order in read_orders], pa.string())
        orders.add(origin, records, columns)
    if read_events:
        records = np.array([record for record, _ in read_events])
        columns = {
            name: pa.array([getattr(message, name) for _, message in read_events], pa.string())
            for name in ("event", "message", "data")
        }
        events.add(origin, records, columns)
