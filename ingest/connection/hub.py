"""From one stream of records to any number of consumers, none of which can slow the sockets or one another.

The hub is the sink of the connections. It hands each record to the journal first, if there is one, then to the buffer
of every consumer that wants it. Nothing is decoded here: a consumer decodes what it takes, when it is asked, so what
waits is decoded in one go.

A buffer is bounded by frames, by bytes and by the time it spans. When it is full its oldest records go, for this
consumer alone, and the consumer finds a `Gap` in their place that says how much it has missed.
"""

import asyncio
import logging
import math
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, NamedTuple, Self, TypeVar

import numpy as np

from ingest.connection.receiver import Pacer, Sink
from ingest.settings import BufferSettings
from storage.journal import Kind

T = TypeVar("T")

BATCH_BYTES: Final = 4 << 20
"""At most so much is taken from a buffer at once, so that decoding it does not hold up the event loop for long."""
TURN_SECONDS: Final = 0.005
"""A consumer that never waits lets the event loop run after so long."""
LATENCIES: Final = 1024
"""Of how many reads, the last ones, the latencies are kept for each connection."""

log = logging.getLogger(__name__)


class Record(NamedTuple):
    """What came in one read: binary frames, or one text or event. `received_at_ns` is wall clock since the epoch, `at`
    monotonic seconds of the same moment. `channel` is the hub's number of account and connection.
    """

    kind: Kind
    account: str
    connection: int
    received_at_ns: int
    at: float
    payloads: Sequence[bytes]
    channel: int = 0

    @property
    def bytes(self) -> int:
        """Of all payloads."""
        return sum(map(len, self.payloads))


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
    frames = record.payloads if record.kind is Kind.BINARY else ()
    packets = sum(int.from_bytes(frame[:2], "big") for frame in frames if len(frame) > 1)
    return Gap(len(record.payloads), packets, record.bytes, record.received_at_ns, record.received_at_ns)


def _percentiles(seconds: Collection[float]) -> tuple[float, float]:
    """p50 and p99 of one or more. A quarter of what `np.percentile` takes: it is asked for often."""
    ascending = np.sort(np.fromiter(seconds, np.float64, len(seconds)))
    last = len(ascending) - 1
    p50, p99 = np.interp((0.5 * last, 0.99 * last), np.arange(len(ascending)), ascending)
    return float(p50), float(p99)


class Buffer:
    """What waits for one consumer. `lost` is everything that it has missed so far."""

    def __init__(
        self,
        settings: BufferSettings,
        kinds: frozenset[Kind],
        account: str | None,
        connection: int | None,
        most_bytes: int = BATCH_BYTES,
    ) -> None:
        self.records: deque[Record] = deque()
        self.lost: Gap | None = None
        self.news = asyncio.Event()
        self.is_patient = False
        """Whether the consumer waits for more than the first record: for its time, or until the buffer fills."""
        self.closed = False
        self._frames_bound, self._bytes_bound = settings.buffer_frames, settings.buffer_bytes
        self._seconds_bound = settings.buffer_seconds
        self._many_frames, self._many_bytes = settings.buffer_frames // 2, min(most_bytes, settings.buffer_bytes // 2)
        self._most_bytes = most_bytes
        self._kinds = kinds
        self._account = account
        self._connection = connection
        self._frames = self._bytes = 0
        self._gap: Gap | None = None

    def wants(self, kind: Kind, account: str, connection: int) -> bool:
        """Whether a record of this kind and connection is for this consumer."""
        return kind in self._kinds and self._account in (None, account) and self._connection in (None, connection)

    def put(self, record: Record) -> None:
        """Add one, and shed the oldest as far as the bounds demand. The newest always stays."""
        records = self.records
        records.append(record)
        self._frames += len(record.payloads)
        self._bytes += record.bytes
        while (
            self._frames > self._frames_bound
            or self._bytes > self._bytes_bound
            or record.at - records[0].at > self._seconds_bound
        ) and len(records) > 1:
            gap = _gap(records.popleft())
            self._frames -= gap.frames
            self._bytes -= gap.bytes
            self._gap = gap if self._gap is None else self._gap + gap
            self.lost = gap if self.lost is None else self.lost + gap
        if not self.is_patient or self.is_filling():
            self.news.set()

    def is_filling(self) -> bool:
        """Whether it holds as much as is taken at once, or is half full."""
        return self._bytes >= self._many_bytes or self._frames >= self._many_frames

    def take(self) -> list[Record]:
        """The oldest ones, up to `most_bytes`, and at least one if there is one."""
        if self._bytes <= self._most_bytes:
            taken = list(self.records)
            self.clear()
            return taken
        taken = []
        size = 0
        while self.records and (not taken or size + self.records[0].bytes <= self._most_bytes):
            record = self.records.popleft()
            size += record.bytes
            self._frames -= len(record.payloads)
            taken.append(record)
        self._bytes -= size
        return taken

    def clear(self) -> None:
        """What waits is taken, or not wanted any more."""
        self.records.clear()
        self._frames = self._bytes = 0

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
        self,
        hub: "Hub",
        buffer: Buffer,
        convert: Callable[[list[Record]], Iterable[T]],
        company_seconds: float,
    ) -> None:
        self._hub = hub
        self._buffer = buffer
        self._convert = convert
        self._company_seconds = company_seconds
        self._ready: Iterator[T] = iter(())
        self._turn_at = time.monotonic()
        self._taken_at = -math.inf
        self._finalizer = weakref.finalize(self, hub.remove, buffer)

    @property
    def lost(self) -> Gap | None:
        """Everything that this consumer has missed so far, or None."""
        return self._buffer.lost

    async def __aiter__(self) -> AsyncIterator[T | Gap]:
        """A generator costs half of what a call of `__anext__` for each item does."""
        while True:
            for item in self._ready:
                yield item
                if time.monotonic() - self._turn_at > TURN_SECONDS:
                    await self._turn()
            try:
                first = await self._next()
            except StopAsyncIteration:
                return
            yield first

    async def __anext__(self) -> T | Gap:
        if time.monotonic() - self._turn_at > TURN_SECONDS:
            await self._turn()
        for item in self._ready:
            return item
        return await self._next()

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        self._turn_at = time.monotonic()

    async def _next(self) -> T | Gap:
        """The first of what comes next."""
        while True:
            await self._company()
            gap = self._buffer.take_gap()
            if gap is not None:
                return gap
            taken = self._buffer.take()
            if taken:
                self._taken_at = self._hub.handed_over(taken)
                self._ready = iter(self._convert(taken))
                for item in self._ready:
                    return item
            elif self._buffer.closed:
                raise StopAsyncIteration
            else:
                self._buffer.news.clear()
                await self._buffer.news.wait()
                self._turn_at = time.monotonic()

    async def _company(self) -> None:
        """Wait until what was taken last is so old that whatever has come since may be taken, or the buffer fills."""
        seconds = self._taken_at + self._company_seconds - time.monotonic()
        buffer = self._buffer
        if seconds <= 0 or buffer.is_filling() or buffer.closed:
            return
        buffer.is_patient = True
        buffer.news.clear()
        timer = asyncio.get_running_loop().call_later(seconds, self._end_company)
        try:
            await buffer.news.wait()
        finally:
            buffer.is_patient = False
            timer.cancel()
        self._turn_at = time.monotonic()

    def _end_company(self) -> None:
        """Sockets that rest are read before what waits is taken: in the loop's next turn, as the waking is."""
        self._hub.pacer.wake()
        asyncio.get_running_loop().call_soon(self._buffer.news.set)

    async def aclose(self) -> None:
        """Collect nothing more; iterating ends. Safe to call twice."""
        self._finalizer()
        self._buffer.clear()
        deque(self._ready, 0)  # the iterator itself: a loop over this consumer holds it
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
        self.pacer = Pacer()
        self._sink = sink
        self._channels: list[tuple[str, int]] = []
        self._inner: list[int] = []
        self._taps: list[Callable[[Sequence[bytes]], None] | None] = []
        self._buffers: tuple[Buffer, ...] = ()  # replaced, never changed: one may be collected while another is filled
        self._closed = False
        self._latencies: list[deque[float]] = []
        self._takers: dict[tuple[int, int], tuple[Buffer, ...]] = {}  # of a kind and channel, worked out when it comes

    def channel(self, account: str, connection: int) -> int:
        """The number under which records of this connection are appended."""
        if (account, connection) in self._channels:  # an account that has come back
            return self._channels.index((account, connection))
        self._channels.append((account, connection))
        self._inner.append(self._sink.channel(account, connection) if self._sink is not None else 0)
        self._taps.append(None)
        self._latencies.append(deque(maxlen=LATENCIES))
        return len(self._channels) - 1

    def tap(self, channel: int, take: Callable[[Sequence[bytes]], None]) -> None:
        """Call this with the binary frames of the channel, those of a read together."""
        self._taps[channel] = take

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        """Hand on what came together. What the sink raises passes through, and then no consumer has it either."""
        if self._sink is not None:
            self._sink.append(kind, self._inner[channel], received_at_ns, *payloads)
        if kind is Kind.BINARY and (tap := self._taps[channel]) is not None:
            tap(payloads)
        if self._buffers:
            takers = self._takers.get((kind, channel))
            if takers is None:
                takers = self._takers_of(kind, channel)
            if takers:
                account, connection = self._channels[channel]
                record = Record(kind, account, connection, received_at_ns, time.monotonic(), payloads, channel)
                for buffer in takers:
                    buffer.put(record)

    def _takers_of(self, kind: Kind, channel: int) -> tuple[Buffer, ...]:
        wanting = tuple(one for one in self._buffers if not one.closed and one.wants(kind, *self._channels[channel]))
        self._takers[kind, channel] = wanting
        return wanting

    def _fill(self, buffers: tuple[Buffer, ...]) -> None:
        """Fill these from now on."""
        self._buffers = buffers
        self._takers.clear()

    def consumer(
        self,
        settings: BufferSettings,
        kinds: frozenset[Kind],
        convert: Callable[[list[Record]], Iterable[T]],
        *,
        account: str | None = None,
        connection: int | None = None,
        most_bytes: int = BATCH_BYTES,
        company_seconds: float = 0.0,
    ) -> Consumer[T]:
        """A consumer of records of these kinds, of all accounts and connections or of one. Collects from now on.

        It takes so many bytes at once, and again after `company_seconds` at the earliest.
        """
        buffer = Buffer(settings, kinds, account, connection, most_bytes)
        buffer.closed = self._closed
        self._fill((*self._buffers, buffer))
        return Consumer(self, buffer, convert, company_seconds)

    def remove(self, buffer: Buffer) -> None:
        """Fill this buffer no more."""
        self._fill(tuple(one for one in self._buffers if one is not buffer))

    def handed_over(self, records: list[Record]) -> float:
        """Note how long these waited for their consumer. Returns the time, in monotonic seconds."""
        now = time.monotonic()
        latencies = self._latencies
        for record in records:
            latencies[record.channel].append(now - record.at)
        return now

    def latencies(self, account: str, connection: int) -> tuple[float, float] | None:
        """p50 and p99 in seconds over the last frames of a connection; None if no consumer has had one."""
        if (account, connection) not in self._channels:
            return None
        latencies = self._latencies[self._channels.index((account, connection))]
        return _percentiles(latencies) if latencies else None

    def open(self) -> None:
        """Consumers that were made since the last `close`, and from now on, go on until the next one."""
        self._closed = False
        self.pacer = Pacer()  # there may be another event loop by now, and the old one's timers are gone
        for buffer in self._buffers:
            buffer.closed = False
        self._takers.clear()

    def close(self) -> None:
        """End every consumer behind what it holds."""
        self._closed = True
        for buffer in self._buffers:
            buffer.close()
        self._fill(())
