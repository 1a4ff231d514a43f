"""Records of the journal's blocks, many at once: where each lies, when it came, over which connection; rows of some.

Work goes by groups of blocks, so that thousands of small blocks cost little more than one large one.
"""

import copy
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.errors import WireError
from ingest.wire.layouts import MODE_CODE, MODES, QuarantineReason
from ingest.wire.messages import ORDER_FIELDS, Message, Order, read_event, read_text
from ingest.wire.walk import Ints, Walk
from storage.clock import date_of_day, ist_days, microseconds
from storage.commit import Part
from storage.journal import Block, Channel, Kind, payload_offset
from storage.memory import are_alike, are_all
from storage.schema import ORDERS, TIMESTAMP, Table

GROUP_BYTES: Final = 128 * 2**20
"""Payload that is decoded at once: more than a segment of the usual size, so that its columns come in one piece."""
ORIGIN_COLUMNS: Final = ("received_at", "stream", "account", "connection")
"""The columns that all tables have, and that say where a row comes from."""


@dataclass(frozen=True, eq=False)
class RecordGroup:
    """The records of some blocks, as if they were one block. All arrays but `payload` have one element a record."""

    payload: NDArray[np.uint8]
    starts: Ints
    lengths: Ints
    kinds: NDArray[np.uint8]
    channels: NDArray[np.uint16]
    received_at_ns: Ints
    records: Ints
    moves: Ints
    """What is to be added to `starts` for where each begins in the segment's file."""

    def bytes_of(self, record: int) -> bytes:
        """The payload of one record; `record` is its place in the group."""
        start = int(self.starts[record])
        return self.payload[start : start + int(self.lengths[record])].tobytes()

    def take(self, records: Ints) -> "RecordGroup":
        """These of them, by their places in the group."""
        return RecordGroup(
            payload=self.payload,
            starts=self.starts.take(records),
            lengths=self.lengths.take(records),
            kinds=self.kinds.take(records),
            channels=self.channels.take(records),
            received_at_ns=self.received_at_ns.take(records),
            records=self.records.take(records),
            moves=self.moves.take(records),
        )


def group_records(blocks: Sequence[Block]) -> Iterator[RecordGroup]:
    """The records of all blocks, in groups of whole blocks of about `GROUP_BYTES`."""
    first = size = 0
    for i, block in enumerate(blocks):
        if size and size + len(block.payload) > GROUP_BYTES:
            yield _group_of(blocks[first:i])
            first, size = i, 0
        size += len(block.payload)
    if first < len(blocks):
        yield _group_of(blocks[first:])


def _group_of(blocks: Sequence[Block]) -> RecordGroup:
    lengths = _end_to_end([block.lengths for block in blocks]).astype(np.int64)
    counts = np.array([len(block.lengths) for block in blocks], np.int64)
    firsts = np.array([block.first_record for block in blocks], np.int64)
    before = np.cumsum(counts) - counts
    payload, payload_starts = _payload([block.payload for block in blocks])
    first_starts = np.cumsum(lengths) - lengths  # as if the payloads lay end to end
    sizes = np.array([len(block.payload) for block in blocks], np.int64)
    gaps = payload_starts - (np.cumsum(sizes) - sizes)
    offsets = np.array([block.offset for block in blocks], np.int64)
    file_gaps = offsets + payload_offset(counts) - (np.cumsum(sizes) - sizes)
    starts = gaps.repeat(counts)
    starts += first_starts
    return RecordGroup(
        payload=payload,
        starts=starts,
        lengths=lengths,
        kinds=_end_to_end([block.kinds for block in blocks]),
        channels=_end_to_end([block.channels for block in blocks]),
        received_at_ns=_end_to_end([block.received_at_ns for block in blocks]),
        records=np.arange(len(lengths)) + _repeated(firsts - before, counts),
        moves=_repeated(file_gaps - gaps, counts),
    )


def _repeated(values: Ints, counts: Ints) -> Ints:
    """Each value so many times; no memory is taken for them where all are alike, as they are as a rule."""
    if are_alike(values):
        return np.broadcast_to(values[0], int(counts.sum()))
    return values.repeat(counts)


def _payload(payloads: list[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], Ints]:
    """One array that holds all payloads, and where each begins in it.

    Blocks read from a file are mostly slices of one array: that array does, and nothing need be copied.
    """
    base = payloads[0].base
    if isinstance(base, np.ndarray) and base.dtype == np.uint8 and base.ndim == 1 and base.flags.c_contiguous:
        starts = np.array([_address(payload) if payload.base is base else -1 for payload in payloads])
        if are_all(np.diff(starts, prepend=0) > 0):
            return base, starts - _address(base)
    sizes = np.array([len(payload) for payload in payloads], np.int64)
    return _end_to_end(payloads), np.cumsum(sizes) - sizes


def _address(array: NDArray[np.uint8]) -> int:
    return int(array.__array_interface__["data"][0])


def _end_to_end(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class ChannelNames:
    """What channel numbers mean, many at once. The service itself has no account and no connection."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        known: dict[int, Channel] = {}
        for table in {id(block.channel_table): block.channel_table for block in blocks}.values():
            known.update(table)
        names = sorted({channel.account for channel in known.values() if channel.account})
        self.accounts = pa.array(names, pa.string())
        # The place behind all that are known is for those that are not.
        self._account = np.full(max(known, default=-1) + 2, -1, np.int16)
        self._connection = np.full(len(self._account), -1, np.int64)
        for number, channel in known.items():
            if channel.account:
                self._account[number] = names.index(channel.account)
                self._connection[number] = channel.connection

    def account(self, channels: NDArray[np.uint16]) -> NDArray[np.int16]:
        """The place in `accounts` of each channel's; -1 if there is none."""
        return self._account.take(channels, mode="clip")

    def connection(self, channels: NDArray[np.uint16]) -> Ints:
        """The connection of each channel; -1 if there is none."""
        return self._connection.take(channels, mode="clip")


class Origins:
    """Where rows come from: the columns that all tables have, for any records of a group, which it does not keep."""

    def __init__(self, stream: str, group: RecordGroup, channels: ChannelNames) -> None:
        self.days: Ints = ist_days(group.received_at_ns)
        """Of each record: days since 1970 in India."""
        self._stream = stream
        self._names = channels.accounts
        # Worked out for each record once, so that each of its packets costs only a look-up.
        self._received_at = microseconds(group.received_at_ns)
        self._accounts = channels.account(group.channels)
        self._connections = channels.connection(group.channels)

    def columns(self, records: NDArray[np.integer], wanted: Collection[str] = ORIGIN_COLUMNS) -> dict[str, pa.Array]:
        """Those of ORIGIN_COLUMNS that are wanted: one row for each of `records`."""
        columns: dict[str, pa.Array] = {}
        if "received_at" in wanted:
            columns["received_at"] = pa.array(self._received_at.take(records)).view(TIMESTAMP)
        if "stream" in wanted:
            columns["stream"] = constant(self._stream, len(records))
        if "account" in wanted or "connection" in wanted:
            accounts = self._accounts.take(records)
            unknown = accounts < 0
            mask = unknown if unknown.any() else None
            columns["account"] = pa.DictionaryArray.from_arrays(pa.array(accounts, mask=mask), self._names)
            columns["connection"] = pa.array(self._connections.take(records), mask=mask)
        return columns

    def join(self, others: Sequence["Origins"]) -> "Origins":
        """The records of all, those of the others behind these."""
        parts = (self, *others)
        joined = copy.copy(self)
        joined.days = np.concatenate([part.days for part in parts])
        joined._received_at = np.concatenate([part._received_at for part in parts])
        joined._connections = np.concatenate([part._connections for part in parts])
        names = sorted({name for part in parts for name in part._names.to_pylist()})
        joined._names = pa.array(names, pa.string())
        # The last place is for -1, which is no name.
        places = [np.array([*map(names.index, part._names.to_pylist()), -1], np.int16) for part in parts]
        joined._accounts = np.concatenate([place[part._accounts] for place, part in zip(places, parts, strict=True)])
        return joined

    def account(self, record: int) -> str:
        """The name, or "" for the service itself."""
        code = int(self._accounts[record])
        return "" if code < 0 else str(self._names[code])


class Origin(Origins):
    """The same with the group."""

    def __init__(self, stream: str, group: RecordGroup, channels: ChannelNames) -> None:
        super().__init__(stream, group, channels)
        self.group = group


class DayParts:
    """Collects rows of a table that is partitioned by day alone, in the order of their records."""

    def __init__(self, spec: Table) -> None:
        self._spec = spec
        self._pieces: dict[int, list[pa.Table]] = defaultdict(list)

    def add(self, origin: Origin, records: Ints, columns: Mapping[str, pa.Array]) -> None:
        """`columns` besides those of the origin, one row for each of `records` of the group."""
        if not len(records):
            return
        everything = {**origin.columns(records), "record": pa.array(origin.group.records.take(records)), **columns}
        table = pa.table({name: everything[name] for name in self._spec.file_schema.names})
        days = origin.days.take(records)
        for day in np.unique(days).tolist():
            self._pieces[day].append(table.take(pa.array(np.flatnonzero(days == day))))

    def parts(self) -> list[Part]:
        """One for each day."""
        return [
            Part({"date": date_of_day(number).isoformat()}, pa.concat_tables(pieces))
            for number, pieces in sorted(self._pieces.items())
        ]


class DamagedRanges:
    """Bytes of a group that would not decode: record, offset in it, length, and why."""

    def __init__(self, frames: Ints, found: Walk) -> None:
        self._records = [frames[found.range_frames]]
        self._offsets = [found.range_offsets]
        self._lengths = [found.range_lengths]
        self._reasons = [QuarantineReason(code).text for code in found.range_reasons.tolist()]

    def add_record(self, group: RecordGroup, record: int, reason: str) -> None:
        """A whole record."""
        self._records.append(np.array([record]))
        self._offsets.append(np.zeros(1, np.int64))
        self._lengths.append(group.lengths[record : record + 1])
        self._reasons.append(reason)

    def move_to(self, days: DayParts, origin: Origin, segment: int) -> None:
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


def read_messages(origin: Origin, orders: DayParts, events: DayParts, damaged: DamagedRanges) -> None:
    """Add the group's text frames and events. They are few, so one at a time."""
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


def constant(text: str, rows: int) -> pa.DictionaryArray:
    """The same text in each row."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([text]))


def modes_of(lengths: NDArray[np.integer]) -> pa.DictionaryArray:
    """The modes of packets of these lengths, dictionary-encoded."""
    return pa.DictionaryArray.from_arrays(pa.array(MODE_CODE.take(lengths)), pa.array(MODES))
