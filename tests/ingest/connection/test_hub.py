"""The hub: every consumer gets everything in order, or finds what it has missed."""

import asyncio
import gc
import itertools
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.connection.consumers import Frame
from ingest.connection.hub import TURN_SECONDS, Buffer, Gap, Hub, Record
from ingest.settings import BufferSettings
from storage.journal import Kind
from tests.support.consumers import LTP, NINE_NS, consumers
from tests.support.waiting import PATIENCE_SECONDS


class Keeping:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.records: list[tuple[Kind, int, int, bytes]] = []

    def channel(self, account: str, connection: int) -> int:
        return 40 + connection

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        self.records += [(kind, channel, received_at_ns, payload) for payload in payloads]


def test_the_sink_gets_everything_first_under_its_own_numbers() -> None:
    sink = Keeping()
    hub = Hub(sink)
    channel = hub.channel("one", 2)
    tapped: list[bytes] = []
    hub.tap(channel, tapped.extend)
    hub.append(Kind.BINARY, channel, 5, b"frame", b"another")
    hub.append(Kind.TEXT, channel, 6, b"text")
    assert sink.records == [
        (Kind.BINARY, 42, 5, b"frame"),
        (Kind.BINARY, 42, 5, b"another"),
        (Kind.TEXT, 42, 6, b"text"),
    ]
    assert tapped == [b"frame", b"another"]


async def test_frames_come_to_every_consumer_that_asked_for_them() -> None:
    hub, both, one, two = consumers()
    everything, ones, third = both.frames(), both.frames(account="one"), both.frames(account="two", connection=1)
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    hub.append(Kind.TEXT, one, NINE_NS, b"{}")
    hub.append(Kind.BINARY, two, NINE_NS + 1, b"\x00")
    hub.close()
    expected = [Frame("one", 1, NINE_NS, LTP), Frame("two", 3, NINE_NS + 1, b"\x00")]
    assert [frame async for frame in everything] == expected
    assert [frame async for frame in ones] == expected[:1]
    assert [frame async for frame in third] == []
    assert [frame.is_heartbeat for frame in expected] == [False, True]
    (view,) = expected[0].views()
    assert view["instrument_token"].tolist() == [408321]
    assert view["last_price"].tolist() == [100_000]
    assert expected[1].views() == []


async def test_a_slow_consumer_loses_the_oldest_for_itself_alone_and_finds_a_gap() -> None:
    hub, both, one, _ = consumers(buffer_frames=3)
    slow, quick = both.frames(), both.frames()
    seen: list[object] = []
    for number in range(10):
        hub.append(Kind.BINARY, one, NINE_NS + number, LTP)
        seen.append(await anext(quick))
    assert not any(isinstance(item, Gap) for item in seen)
    assert quick.lost is None
    gap = await anext(slow)
    assert gap == Gap(frames=7, packets=7, bytes=7 * len(LTP), first_ns=NINE_NS, last_ns=NINE_NS + 6)
    assert slow.lost == gap
    assert [(await anext(slow)).received_at_ns for _ in range(3)] == [NINE_NS + 7, NINE_NS + 8, NINE_NS + 9]  # type: ignore[union-attr]


def record(at: float, size: int = 10) -> Record:
    return Record(Kind.BINARY, "one", 1, int(at * 1e9), at, (b"\x00\x02" + bytes(size - 2),))


@pytest.mark.parametrize(
    ("bound", "kept"),
    [({"buffer_frames": 4}, 4), ({"buffer_bytes": 35}, 3), ({"buffer_seconds": 1.5}, 2), ({"buffer_bytes": 1}, 1)],
)
def test_a_buffer_is_bounded_by_frames_bytes_and_time(bound: dict[str, Any], kept: int) -> None:
    buffer = Buffer(BufferSettings(**bound), frozenset({Kind.BINARY}), None, None)
    for second in range(10):
        buffer.put(record(float(second)))
        assert len(buffer.records) <= kept
    gap = buffer.take_gap()
    assert gap == Gap(10 - kept, 2 * (10 - kept), 10 * (10 - kept), 0, (9 - kept) * 10**9)
    assert buffer.take_gap() is None, "reported once"
    assert [one.at for one in buffer.take()] == [float(second) for second in range(10 - kept, 10)]


@given(st.lists(st.one_of(st.integers(2, 60), st.none()), max_size=80), st.integers(1, 200), st.integers(1, 20))
def test_what_was_taken_and_what_is_missing_is_everything_in_order(
    steps: list[int | None], most_bytes: int, most_frames: int
) -> None:
    """Numbers are puts of so many bytes, None takes."""
    settings = BufferSettings(buffer_bytes=most_bytes, buffer_frames=most_frames)
    buffer = Buffer(settings, frozenset({Kind.BINARY}), None, None)
    clock = itertools.count()
    put, got, missing = 0, [], 0
    for size in [*steps, None, None]:
        if size is not None:
            buffer.put(record(float(next(clock)), size))
            put += 1
            continue
        gap = buffer.take_gap()
        missing += gap.frames if gap else 0
        got += buffer.take()
    assert len(got) + missing == put
    assert [one.at for one in got] == sorted({one.at for one in got})
    assert (buffer.lost.frames if buffer.lost else 0) == missing


async def test_what_is_closed_or_forgotten_collects_nothing_more() -> None:
    hub, both, one, _ = consumers()
    closed = both.frames()
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    await closed.aclose()
    await closed.aclose()
    assert [frame async for frame in closed] == []
    async with both.frames() as inside:
        hub.append(Kind.BINARY, one, NINE_NS, LTP)
        assert isinstance(await anext(inside), Frame)
    forgotten = both.batches()
    assert len(hub._buffers) == 1
    del forgotten
    gc.collect()
    assert not hub._buffers


async def test_closing_ends_every_iterator_behind_what_it_holds_and_opening_begins_again() -> None:
    hub, both, one, _ = consumers()
    waiting = both.frames()
    task = asyncio.create_task(_collect(waiting))
    await asyncio.sleep(0)
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    hub.close()
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    assert len(await task) == 1
    assert await _collect(both.frames()) == [], "made after the end"
    hub.open()
    again = both.frames()
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    assert isinstance(await anext(again), Frame)


async def _collect(feed: Any) -> list[object]:
    return [item async for item in feed]


async def test_a_feed_that_is_made_while_all_is_closed_begins_with_the_next_opening() -> None:
    hub, both, one, _ = consumers()
    hub.close()
    feed = both.frames()
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    hub.open()
    hub.append(Kind.BINARY, one, NINE_NS + 1, LTP)
    hub.close()
    assert await _collect(feed) == [Frame("one", 1, NINE_NS + 1, LTP)]


def test_a_channel_that_comes_back_has_its_number() -> None:
    hub = Hub()
    assert [hub.channel("one", 1), hub.channel("one", 2), hub.channel("one", 1)] == [0, 1, 0]


class Clock:
    """Monotonic seconds, in place of those of the hub. Each look at it takes `step`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: float = 0.0) -> None:
        self.now = 100.0
        self._step = step
        monkeypatch.setattr("ingest.connection.hub.time", self)

    def monotonic(self) -> float:
        self.now += self._step
        return self.now


async def test_a_consumer_that_never_waits_lets_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, step=TURN_SECONDS / 10)
    hub, both, one, _ = consumers()
    feed = both.frames()
    for _ in range(100):
        hub.append(Kind.BINARY, one, NINE_NS, LTP)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(100):
        await anext(feed)
    task.cancel()
    assert 5 < turns < 50, "now and then, and not after every item"


async def test_latency_is_from_the_read_to_the_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    hub, both, one, _ = consumers()
    feed = both.frames()
    assert hub.latencies("one", 1) is None
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    clock.now += 0.25
    await anext(feed)
    assert hub.latencies("one", 1) == (0.25, 0.25)
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    clock.now += 0.75
    await anext(feed)
    assert hub.latencies("one", 1) == pytest.approx((0.5, 0.745)), "p50 and p99"


async def test_what_comes_soon_after_a_batch_waits_for_company_or_until_the_buffer_is_half_full() -> None:
    hub, both, one, _ = consumers(batch_seconds=3600, buffer_frames=6)
    batches, ticks, frames = both.batches(), both.ticks(), both.frames()
    task = asyncio.create_task(_collect(batches))
    await asyncio.sleep(0)
    for number in range(5):
        hub.append(Kind.BINARY, one, NINE_NS + number, LTP)
        await asyncio.sleep(0.001)
    assert len(batches._buffer.records) == 1, "one went at once, and three were half of it"
    assert len([await anext(feed) for feed in 5 * [frames]]) == 5, "frames never wait"
    assert len([await anext(feed) for feed in 5 * [ticks]]) == 5
    hub.close()
    assert [batch.num_rows for batch in await task] == [1, 3, 1]  # type: ignore[attr-defined]


async def test_sockets_that_rest_are_read_when_the_time_for_company_is_over() -> None:
    hub, both, one, _ = consumers(batch_seconds=0.05)
    ours, peer = socket.socketpair()

    class Reading(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            hub.append(Kind.BINARY, one, NINE_NS, data)

    with peer:
        transport, _ = await asyncio.get_running_loop().create_connection(Reading, sock=ours)
        batches = both.batches()
        hub.append(Kind.BINARY, one, NINE_NS, LTP)
        assert (await anext(batches)).num_rows == 1  # type: ignore[union-attr]
        hub.pacer.rest(transport, 3600)
        peer.sendall(LTP)
        hub.append(Kind.BINARY, one, NINE_NS, LTP)
        rows = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while rows < 2:
                rows += (await anext(batches)).num_rows  # type: ignore[union-attr]
        transport.abort()


def test_sockets_rest_in_one_loop_after_the_other() -> None:
    hub = Hub()

    async def rest(seconds: float) -> bool:
        ours, peer = socket.socketpair()
        with peer:
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
            hub.open()
            hub.pacer.rest(transport, seconds)
            for _ in range(5):
                await asyncio.sleep(0.001)
            is_reading = transport.is_reading()
            transport.abort()
            return is_reading

    assert not asyncio.run(rest(3600))
    assert asyncio.run(rest(1e-9))


async def test_what_comes_after_a_pause_or_in_a_batch_of_no_time_waits_for_nothing() -> None:
    for seconds in (0, 0.001):
        hub, both, one, _ = consumers(batch_seconds=seconds)
        batches = both.batches()
        for number in range(3):
            hub.append(Kind.BINARY, one, NINE_NS + number, LTP)
            assert (await anext(batches)).num_rows == 1  # type: ignore[union-attr]
