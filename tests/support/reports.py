"""A day for reports: a service's journal with the broker's own frames, written at the times that a test says."""

import datetime as dt
import json
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingest.wire.journal import JournalDecoder
from storage.clock import IST
from storage.commit.writer import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout, stream_name

DAY = dt.date(2025, 11, 24)
INFY, TCS, SBIN, ACC = 408065, 2953217, 779521, 5633  # their last byte is 1: NSE


def at(clock: str, day: dt.date = DAY) -> dt.datetime:
    return dt.datetime.combine(day, dt.time.fromisoformat(clock), IST)


class Stream:
    """One run of the service from `begin` on: its journal, written at the times that the test says."""

    def __init__(self, data: Path, begin: dt.datetime) -> None:
        name = stream_name(begin, "abcdef")
        self.journal = JournalWriter(DataLayout(data), name, segment_bytes=1 << 20, segment_seconds=1e9)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.close()

    def _append(self, kind: Kind, time: dt.datetime, payload: bytes, connection: int) -> None:
        channel = self.journal.channel("asha", connection) if connection else 0
        self.journal.append(kind, channel, round(time.timestamp() * 1000) * 1_000_000, payload)

    def event(self, time: dt.datetime, event: str, connection: int = 1, **data: Any) -> None:
        self._append(Kind.EVENT, time, json.dumps({"event": event, "data": data}).encode(), connection)

    def service(self, time: dt.datetime, event: str) -> None:
        self.event(time, event, connection=0)

    def ltp(self, time: dt.datetime, *tokens: int, connection: int = 1) -> None:
        packets = [struct.pack(">II", token, 150_000) for token in tokens]
        self._frame(time, packets, connection)

    def full(self, time: dt.datetime, token: int, exchange_time: dt.datetime) -> None:
        packet = bytearray(184)
        struct.pack_into(">II", packet, 0, token, 150_000)
        struct.pack_into(">I", packet, 60, int(exchange_time.timestamp()))
        self._frame(time, [bytes(packet)], 1)

    def _frame(self, time: dt.datetime, packets: list[bytes], connection: int) -> None:
        parts = b"".join(struct.pack(">H", len(packet)) + packet for packet in packets)
        self._append(Kind.BINARY, time, struct.pack(">H", len(packets)) + parts, connection)


def commit(data: Path) -> None:
    """Everything of dead streams into the tables."""
    SegmentWriter(DataLayout(data), JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())


def finish(stream: Stream, time: dt.datetime, connection: int = 1) -> None:
    """Stopped as it should be."""
    stream.event(time, "closed", connection, by="us", clean=True)
    stream.service(time, "stopped")
    stream.journal.close()
