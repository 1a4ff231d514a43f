"""From one stream of records to any number of consumers, none of which can slow the sockets or one another.

The hub is the sink of the connections. It hands each record to the journal first, if there is one, then to the buffer
of every consumer that wants it. Nothing is decoded here: a consumer decodes what it takes, when it is asked, so what
waits is decoded in one go.

A buffer is bounded by frames, by bytes and by the time it spans. When it is full its oldest records go, for this
consumer alone, and the consumer finds a `Gap` in their place that says how much it has missed.
"""

import asyncio
import logging
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, NamedTuple, Self, TypeVar

import numpy as np

from ingest.connection.receiver import Sink
from ingest.settings import BufferSettings
from storage.journal import Kind

T = TypeVar("T")

BATCH_BYTES: Final = 4 << 20
"""At most so much is taken from a buffer at once, so that decoding it does not hold up the event loop for long."""
TURN_SECONDS: Final = 0.005
"""A consumer that never waits lets the event loop run after so long."""
LATENCIES: Final = 1024
"""Of how many frames, the last ones, the latencies are kept for each connection."""

log = logging.getLogger(__name__)


class Record(NamedTuple):
    """What came. `received_at_ns` is wall clock since the epoch, `at` monotonic seconds of the same moment."""

    kind: Kind
    account: str
    connection: int
    received_at_ns: int
    at: float
    data: bytes


@dataclass(frozen=True)
class Gap:
    """A consumer was too slow: so much, received from `first_ns` to `last_ns` (wall clock), is missing at this place.

    `packets` is what the frames said of themselves. The journal, if there is one, has them all.
    """

    frames: int
    packets: int
    bytes: int
    first_ns: int
    last_ns: int

    def __add__(self, other: "Gap") -> "Gap":
        return Gap(
            self.frames + other.frames,
            self.packets + other.packets,
            self.bytes + other.bytes,
            min(self.first_ns, other.first_ns),
            max(self.last_ns, other.last_ns),
        )


def _gap(record: Record) -> Gap:
    packets = int.from_bytes(record.data[:2], "big") if record.kind is Kind.BINARY and len(record.data) > 1 else 0
    return Gap(1, packets, len(record.data), record.received_at_ns, record.received_at_ns)


class Latencies:
    """From the read of a frame to its consumer, of the last frames of one connection, in seconds."""

    def __init__(self) -> None:
        self._ring = np.zeros(LATENCIES)
        self._count = 0

    def add(self, seconds: float) -> None:
        """One more frame has waited so long."""
        self._ring[self._count % LATENCIES] = seconds
        self._count += 1

    def percentiles(self) -> tuple[float, float] | None:
        """p50 and p99; None before the first frame. A quarter of what `np.percentile` takes: it is asked for often."""
        if not self._count:
            return None
        ascending = np.sort(self._ring[: self._count])
        last = len(ascending) - 1
        p50, p99 = np.interp((0.5 * last, 0.99 * last), np.arange(len(ascending)), ascending)
        return float(p50), float(p99)


class Buffer:
    """What waits for one consumer. `lost` is everything that it has missed so far."""

    def __init__(
        self, settings: BufferSettings, kinds: frozenset[Kind], account: str | None, connection: int | None
    ) -> None:
        self.records: deque[Record] = deque()
        self.lost: Gap | None = None
        self.news = asyncio.Event()
        self.closed = False
        self._settings = settings
        self._kinds = kinds
        self._account = account
        self._connection = connection
        self._bytes = 0
        self._gap: Gap | None = None

    def wants(self, kind: Kind, account: str, connection: int) -> bool:
        """Whether a record of this kind and connection is for this consumer."""
        return kind in self._kinds and self._account in (None, account) and self._connection in (None, connection)

    def put(self, record: Record) -> None:
        """Add one, and shed the oldest as far as the bounds demand. The newest always stays."""
        records, settings = self.records, self._settings
        records.append(record)
        self._bytes += len(record.data)
        while len(records) > 1 and (
            len(records) > settings.buffer_frames
            or self._bytes > settings.buffer_bytes
            or record.at - records[0].at > settings.buffer_seconds
        ):
            gone = records.popleft()
            self._bytes -= len(gone.data)
            gap = _gap(gone)
            self._gap = gap if self._gap is None else self._gap + gap
            self.lost = gap if self.lost is None else self.lost + gap
        self.news.set()

    def take(self, most_bytes: int) -> list[Record]:
        """The oldest ones, up to so many bytes, and at least one if there is one."""
        taken: list[Record] = []
        size = 0
        while self.records and (not taken or size + len(self.records[0].data) <= most_bytes):
            record = self.records.popleft()
            size += len(record.data)
            taken.append(record)
        self._bytes -= size
        return taken

    def take_gap(self) -> Gap | None:
        """What is missing before the oldest record; reported once."""
        gap, self._gap = self._gap, None
        return gap

    def close(self) -> None:
        """Nothing more will come; what waits may still be taken."""
        self.closed = True
        self.news.set()


class Consumer(Generic[T]):
    """What is iterated over: items, and a `Gap` wherever it was too slow. Ends when the sockets are closed.

    It collects from the moment it is made. One that is no longer referred to, or is closed, collects nothing more.
    """

    def __init__(
        self, hub: "Hub", buffer: Buffer, convert: Callable[[list[Record]], Iterable[T]], most_bytes: int
    ) -> None:
        self._hub = hub
        self._buffer = buffer
        self._convert = convert
        self._most_bytes = most_bytes
        self._ready: deque[T] = deque()
        self._turn_at = time.monotonic()
        self._finalizer = weakref.finalize(self, hub.remove, buffer)

    @property
    def lost(self) -> Gap | None:
        """Everything that this consumer has missed so far, or None."""
        return self._buffer.lost

    def __aiter__(self) -> AsyncIterator[T | Gap]:
        return self

    async def __anext__(self) -> T | Gap:
        if time.monotonic() - self._turn_at > TURN_SECONDS:
            await asyncio.sleep(0)
            self._turn_at = time.monotonic()
        while not self._ready:
            gap = self._buffer.take_gap()
            if gap is not None:
                return gap
            taken = self._buffer.take(self._most_bytes)
            if taken:
                self._hub.handed_over(taken)
                self._ready.extend(self._convert(taken))
            elif self._buffer.closed:
                raise StopAsyncIteration
            else:
                self._buffer.news.clear()
                await self._buffer.news.wait()
                self._turn_at = time.monotonic()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Collect nothing more; iterating ends. Safe to call twice."""
        self._finalizer()
        self._buffer.records.clear()
        self._ready.clear()
        self._buffer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Hub:
    """A sink for connections, with consumers that read from it. `sink`, such as a journal, gets every record first."""

    def __init__(self, sink: Sink | None = None) -> None:
        self._sink = sink
        self._channels: list[tuple[str, int]] = []
        self._inner: list[int] = []
        self._taps: list[Callable[[bytes], None] | None] = []
        self._buffers: tuple[Buffer, ...] = ()  # replaced, never changed: one may be collected while another is filled
        self._closed = False
        self._latencies: dict[tuple[str, int], Latencies] = {}

    def channel(self, account: str, connection: int) -> int:
        """The number under which records of this connection are appended."""
        if (account, connection) in self._channels:  # an account that has come back
            return self._channels.index((account, connection))
        self._channels.append((account, connection))
        self._inner.append(self._sink.channel(account, connection) if self._sink is not None else 0)
        self._taps.append(None)
        return len(self._channels) - 1

    def tap(self, channel: int, take: Callable[[bytes], None]) -> None:
        """Call this with every binary frame of the channel."""
        self._taps[channel] = take

    def append(self, kind: Kind, channel: int, received_at_ns: int, payload: bytes) -> None:
        """Hand on one record. What the sink raises passes through, and then no consumer has the record either."""
        if self._sink is not None:
            self._sink.append(kind, self._inner[channel], received_at_ns, payload)
        if kind is Kind.BINARY and (tap := self._taps[channel]) is not None:
            tap(payload)
        if self._buffers:
            account, connection = self._channels[channel]
            record = Record(kind, account, connection, received_at_ns, time.monotonic(), payload)
            for buffer in self._buffers:
                if not buffer.closed and buffer.wants(kind, account, connection):
                    buffer.put(record)

    def consumer(
        self,
        settings: BufferSettings,
        kinds: frozenset[Kind],
        convert: Callable[[list[Record]], Iterable[T]],
        *,
        account: str | None = None,
        connection: int | None = None,
        most_bytes: int = BATCH_BYTES,
    ) -> Consumer[T]:
        """A consumer of records of these kinds, of all accounts and connections or of one. Collects from now on."""
        buffer = Buffer(settings, kinds, account, connection)
        buffer.closed = self._closed
        self._buffers = (*self._buffers, buffer)
        return Consumer(self, buffer, convert, most_bytes)

    def remove(self, buffer: Buffer) -> None:
        """Fill this buffer no more."""
        self._buffers = tuple(one for one in self._buffers if one is not buffer)

    def handed_over(self, records: list[Record]) -> None:
        """Note how long these waited for their consumer."""
        now = time.monotonic()
        for record in records[-LATENCIES:]:
            self._latencies.setdefault((record.account, record.connection), Latencies()).add(now - record.at)

    def latencies(self, account: str, connection: int) -> tuple[float, float] | None:
        """p50 and p99 in seconds over the last frames of a connection; None if no consumer has had one."""
        latencies = self._latencies.get((account, connection))
        return None if latencies is None else latencies.percentiles()

    def open(self) -> None:
        """Consumers that were made since the last `close`, and from now on, go on until the next one."""
        self._closed = False
        for buffer in self._buffers:
            buffer.closed = False

    def close(self) -> None:
        """End every consumer behind what it holds."""
        self._closed = True
        for buffer in self._buffers:
            buffer.close()
        self._buffers = ()
