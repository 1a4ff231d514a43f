"""The ground truth: what was sent, on which connection, and what was not, and why.

A frame counts as sent when it is handed to the transport of an open connection. `packets` are all whole packets that
were sent, those in deliberately damaged frames included: what a receiver that loses nothing ends up with. Packets
that a subscription would have brought but did not are counted as unsent, with the reason.

The file `frames.bin` in the record's folder holds every frame, in the order of sending. Layout, little-endian:
8 bytes `KLSIMREC`, then records of a header `<IBqII` (connection's ordinal from 0, kind, UTC nanoseconds, whole
packets, length) and `length` bytes. An OPEN record names the connection (JSON) before anything else of it.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from ingest.errors import ServerError
from ingest.server.source import Frames, Ints

FILE_NAME: Final = "frames.bin"
MAGIC: Final = b"KLSIMREC"
_HEADER: Final = struct.Struct("<IBqII")


class RecordKind(IntEnum):
    """What a record is. DAMAGED: a frame that is wrong on purpose. UNSENT: a frame that would have been sent."""

    OPEN = 0
    PACKETS = 1
    HEARTBEAT = 2
    TEXT = 3
    DAMAGED = 4
    UNSENT = 5
    CLOSED = 6


class ConnectionId(NamedTuple):
    """A connection: the account's name, and how many it had opened by then, from 1."""

    account: str
    connection: int


class Recorded(NamedTuple):
    """One record of the file."""

    connection: ConnectionId
    kind: RecordKind
    payload: bytes
    packets: int
    time_ns: int


class Tally:
    """Packets by instrument. Closed connections keep only those that they had any of."""

    def __init__(self, size: int) -> None:
        self.total = 0
        self._dense: Ints | None = np.zeros(size, np.int64)
        self._sparse: dict[int, int] = {}

    def add(self, rows: Ints) -> None:
        """Count `rows` (n,), repeated ones as often as they are there."""
        self.total += len(rows)
        if self._dense is not None:
            np.add.at(self._dense, rows, 1)
        else:
            for row in rows.tolist():
                self._sparse[row] = self._sparse.get(row, 0) + 1

    def pack(self) -> None:
        """Give back the memory."""
        self._sparse, self._dense = dict(self.items()), None

    def items(self) -> Iterator[tuple[int, int]]:
        """(place of the instrument, packets), without zeros."""
        if self._dense is None:
            return iter(self._sparse.items())
        rows = np.flatnonzero(self._dense)
        return zip(rows.tolist(), self._dense[rows].tolist(), strict=True)


@dataclass
class Sent:
    """The truth about one connection. `unsent` is by reason."""

    id: ConnectionId
    ordinal: int
    opened_at_ns: int
    counts: Tally
    closed_at_ns: int | None = None
    close_reason: str | None = None
    frames: int = 0
    bytes: int = 0
    heartbeats: int = 0
    texts: int = 0
    damaged_frames: int = 0
    damaged_bytes: int = 0
    damaged_packets: int = 0
    unsent_texts: int = 0
    unsent: dict[str, Tally] = field(default_factory=dict)

    @property
    def packets(self) -> int:
        """All whole packets that were sent."""
        return self.counts.total

    def summary(self) -> dict[str, Any]:
        return {
            "account": self.id.account,
            "connection": self.id.connection,
            "opened_at_ns": self.opened_at_ns,
            "closed_at_ns": self.closed_at_ns,
            "close_reason": self.close_reason,
            "packets": self.packets,
            "frames": self.frames,
            "bytes": self.bytes,
            "heartbeats": self.heartbeats,
            "texts": self.texts,
            "damaged": {
                "frames": self.damaged_frames,
                "bytes": self.damaged_bytes,
                "packets": self.damaged_packets,
            },
            "unsent": {reason: tally.total for reason, tally in self.unsent.items()},
            "unsent_texts": self.unsent_texts,
        }


class Ledger:
    """Books every frame. One `Sent` a connection, in order of opening; the file only if a folder was given."""

    def __init__(self, tokens: Ints, folder: Path | None) -> None:
        """Raises `ServerError` if the record's file cannot be made."""
        self.connections: list[Sent] = []
        self._tokens = tokens
        self._file: BinaryIO | None = None
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = (folder / FILE_NAME).open("wb")
                self._file.write(MAGIC)
            except OSError as error:
                raise ServerError(f"cannot record into {folder}: {error.strerror}") from error

    @property
    def recording(self) -> bool:
        """Whether the bytes of frames are kept."""
        return self._file is not None

    def open(self, account: str, time_ns: int) -> Sent:
        number = 1 + sum(sent.id.account == account for sent in self.connections)
        sent = Sent(ConnectionId(account, number), len(self.connections), time_ns, Tally(len(self._tokens)))
        self.connections.append(sent)
        self._write(sent, RecordKind.OPEN, json.dumps(sent.id._asdict()).encode(), 0, time_ns)
        return sent

    def packets(self, sent: Sent, frame: bytes, rows: Ints, time_ns: int) -> None:
        """A frame of packets was sent; `rows` are its instruments, repeated as often as they are in it."""
        self._count(sent, frame, rows)
        self._write(sent, RecordKind.PACKETS, frame, len(rows), time_ns)

    def many(self, sent: Sent, frames: Frames, time_ns: int, unsent: str | None = None) -> None:
        """Many frames of packets at once: they were sent, or they were not, for that reason."""
        if unsent is None:
            sent.frames += len(frames.lengths)
            sent.bytes += len(frames.payload)
            sent.counts.add(frames.rows)
        else:
            self._unsent_tally(sent, unsent).add(frames.rows)
        if self.recording:
            kind = RecordKind.PACKETS if unsent is None else RecordKind.UNSENT
            for frame, rows in frames.each():
                self._write(sent, kind, frame, len(rows), time_ns)

    def damaged(self, sent: Sent, frame: bytes, rows: Ints, time_ns: int) -> None:
        """A frame was sent that is wrong on purpose; `rows` are its whole packets."""
        self._count(sent, frame, rows)
        sent.damaged_frames += 1
        sent.damaged_bytes += len(frame)
        sent.damaged_packets += len(rows)
        self._write(sent, RecordKind.DAMAGED, frame, len(rows), time_ns)

    def heartbeat(self, sent: Sent, frame: bytes, time_ns: int) -> None:
        sent.heartbeats += 1
        self._write(sent, RecordKind.HEARTBEAT, frame, 0, time_ns)

    def text(self, sent: Sent, text: str, time_ns: int) -> None:
        sent.texts += 1
        self._write(sent, RecordKind.TEXT, text.encode(), 0, time_ns)

    def unsent(self, sent: Sent, reason: str, rows: Ints, frame: bytes, time_ns: int) -> None:
        """Packets that the subscription would have brought were not sent; `frame` is empty when nothing is recorded."""
        self._unsent_tally(sent, reason).add(rows)
        self._write(sent, RecordKind.UNSENT, frame, len(rows), time_ns)

    def _unsent_tally(self, sent: Sent, reason: str) -> Tally:
        if reason not in sent.unsent:
            sent.unsent[reason] = Tally(len(self._tokens))
        return sent.unsent[reason]

    def closed(self, sent: Sent, reason: str, time_ns: int) -> None:
        sent.closed_at_ns = time_ns
        sent.close_reason = reason
        for tally in (sent.counts, *sent.unsent.values()):
            tally.pack()
        self._write(sent, RecordKind.CLOSED, reason.encode(), 0, time_ns)

    def totals(self) -> dict[str, Any]:
        """Sums over all connections, closed ones included."""
        unsent: dict[str, int] = {}
        for sent in self.connections:
            for reason, tally in sent.unsent.items():
                unsent[reason] = unsent.get(reason, 0) + tally.total
        names = ("packets", "frames", "bytes", "heartbeats", "texts")
        damaged = {name: sum(getattr(s, f"damaged_{name}") for s in self.connections) for name in names[:3]}
        return {
            **{name: sum(getattr(sent, name) for sent in self.connections) for name in names},
            "damaged": damaged,
            "unsent": unsent,
        }

    def by_instrument(self, sent: Sent) -> dict[str, Any]:
        """Packets sent of each instrument token, and unsent ones by reason."""
        return {
            "instruments": self._named(sent.counts),
            "unsent_instruments": {reason: self._named(tally) for reason, tally in sent.unsent.items()},
        }

    def flush(self) -> None:
        """Hand what was recorded to the operating system, so that others read it."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _named(self, tally: Tally) -> dict[str, int]:
        return {str(self._tokens[row]): count for row, count in tally.items()}

    @staticmethod
    def _count(sent: Sent, frame: bytes, rows: Ints) -> None:
        sent.frames += 1
        sent.bytes += len(frame)
        sent.counts.add(rows)

    def _write(self, sent: Sent, kind: RecordKind, payload: bytes, packets: int, time_ns: int) -> None:
        if self._file is not None:
            self._file.write(_HEADER.pack(sent.ordinal, kind, time_ns, packets, len(payload)) + payload)


def read_record(folder: Path) -> Iterator[Recorded]:
    """Every record of the folder in order; raises `ServerError` if the file is none of ours or ends midway."""
    path = folder / FILE_NAME
    connections: dict[int, ConnectionId] = {}
    with path.open("rb") as file:
        if (magic := file.read(len(MAGIC))) != MAGIC:
            raise ServerError(f"{path} begins with {magic!r}, expected {MAGIC!r}")
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                raise ServerError(f"{path} ends within a record's header: {len(header)} bytes of {_HEADER.size}")
            ordinal, kind, time_ns, packets, length = _HEADER.unpack(header)
            payload = file.read(length)
            if len(payload) < length:
                raise ServerError(f"{path} ends within a record: {len(payload)} bytes of {length}")
            if kind == RecordKind.OPEN:
                connections[ordinal] = ConnectionId(**json.loads(payload))
            yield Recorded(connections[ordinal], RecordKind(kind), payload, packets, time_ns)
