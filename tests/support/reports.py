"""A day for reports: a service's journal with the broker's own frames, written at the times that a test says."""

import contextlib
import datetime as dt
import json
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pytest

from ingest.wire import Mode
from ingest.wire.journal import JournalDecoder
from kitelake.report import DayRecord, ListRecord
from storage.clock import IST
from storage.commit.writer import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout, stream_name
from storage.schema import INSTRUMENTS

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


def listed(name: str = "NSE", *tokens: int, hours: str = "09:00-15:30", **more: Any) -> ListRecord:
    span = tuple(at(each) for each in hours.split("-")) if hours else ()
    return ListRecord.model_validate(
        {"name": name, "mode": Mode.LTP, "hours": [span] if span else [], "tokens": tokens} | more
    )


def record(*lists: ListRecord, **more: Any) -> DayRecord:
    return DayRecord(date=DAY, lists=lists, **more)


def instruments(*names: tuple[int, str]) -> pa.Table:
    rows = [
        {"instrument_token": token, "tradingsymbol": name, "instrument_type": "EQ", "segment": "NSE"}
        | {"exchange": "NSE", "symbol": f"NSE:{name}"}
        for token, name in names
    ]
    return pa.Table.from_pylist(rows, schema=INSTRUMENTS.file_schema)


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Stream]:
    with started(tmp_path) as stream:
        yield stream


@contextlib.contextmanager
def started(data: Path) -> Iterator[Stream]:
    """A service that runs from 08:30 on, with a connection from 08:30:01 on."""
    with Stream(data, at("08:30:00")) as stream:
        stream.service(at("08:30:00"), "started")
        stream.event(at("08:30:01"), "connected", opening=1)
        yield stream
