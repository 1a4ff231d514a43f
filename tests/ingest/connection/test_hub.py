"""The hub and its feeds: every consumer gets everything in order, or is told what it has missed."""

import asyncio
import gc
import itertools
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.connection.feeds import Feeds, Frame, Level, OrderUpdate, Tick
from ingest.connection.hub import Buffer, Gap, Hub, Record
from ingest.settings import BufferSettings
from ingest.wire import Mode, decode_frames, encode_frames
from ingest.wire.plain import decode_packet
from storage.journal.writer import Kind
from storage.schema import IST, TICKS
from tests.support.packets import frame_of, packets

NINE_NS = 1_764_000_000_000_000_000
SETTINGS = BufferSettings()
LTP = bytes.fromhex("0001 0008 00063b01 000186a0".replace(" ", ""))  # token 408321, 1000.00 rupees


class Keeping:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.records: list[tuple[Kind, int, int, bytes]] = []

    def channel(self, account: str, connection: int) -> int:
        return 40 + connection

    def append(self, kind: Kind, channel: int, received_at_ns: int, payload: bytes) -> None:
        self.records.append((kind, channel, received_at_ns, payload))


def feeds(**changes: Any) -> tuple[Hub, Feeds, int, int]:
    hub = Hub()
    return hub, Feeds(hub, SETTINGS.model_copy(update=changes)), hub.channel("one", 1), hub.channel("two", 3)


def test_the_sink_gets_everything_first_under_its_own_numbers() -> None:
    sink = Keeping()
    hub = Hub(sink)
    channel = hub.channel("one", 2)
    tapped: list[bytes] = []
    hub.tap(channel, tapped.append)
    hub.append(Kind.BINARY, channel, 5, b"frame")
    hub.append(Kind.TEXT, channel, 6, b"text")
    assert sink.records == [(Kind.BINARY, 42, 5, b"frame"), (Kind.TEXT, 42, 6, b"text")]
    assert tapped == [b"frame"]


async def test_frames_come_to_every_consumer_that_asked_for_them() -> None:
    hub, both, one, two = feeds()
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


async def test_batches_are_the_ticks_table_with_account_and_connection() -> None:
    hub, both, one, two = feeds()
    batches = both.batches()
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    hub.append(Kind.BINARY, two, NINE_NS + 1000, LTP)
    hub.append(Kind.BINARY, two, NINE_NS + 1000, b"\x00")
    batch = await anext(batches)
    assert not isinstance(batch, Gap)
    assert batch.schema == TICKS.schema
    assert batch.column("account").to_pylist() == ["one", "two"]
    assert batch.column("connection").to_pylist() == [1, 3]
    expected = decode_frames([LTP, LTP], received_at_ns=[NINE_NS, NINE_NS + 1000])
    for name in ("received_at", "date", "exchange", "instrument_token", "last_price", "mode", "stream", "symbol"):
        assert batch.column(name).to_pylist() == expected.column(name).to_pylist()
    hub.append(Kind.BINARY, one, NINE_NS, b"\x00")  # nothing to see in it
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    batch = await anext(batches)
    assert not isinstance(batch, Gap)
    assert batch.num_rows == 1
    hub.close()
    assert [rest async for rest in batches] == []


@given(st.lists(packets(), min_size=1, max_size=8))
def test_a_tick_says_what_its_packet_says(some: list[bytes]) -> None:
    frame = frame_of(some)

    async def read() -> list[Tick | Gap]:
        hub, both, one, _ = feeds()
        ticks = both.ticks()
        hub.append(Kind.BINARY, one, NINE_NS, frame)
        hub.append(Kind.BINARY, one, NINE_NS, b"\x00\x01\xff")  # damaged: left out
        hub.close()
        return [tick async for tick in ticks]

    ticks = asyncio.run(read())
    assert len(ticks) == len(some)
    for tick, packet in zip(ticks, some, strict=True):
        assert isinstance(tick, Tick)
        assert (tick.account, tick.connection, tick.received_at.tzinfo) == ("one", 1, IST)
        for name, value in decode_packet(packet).items():
            if name.startswith(("bid_", "ask_")):
                side, what, level = name.split("_")
                assert getattr(getattr(tick, f"{side}s")[int(level) - 1], what) == value
            else:
                assert getattr(tick, name) == value
        assert len(tick.bids) == len(tick.asks) == (5 if len(packet) == 184 else 0)


def order(number: int, **data: Any) -> bytes:
    return json.dumps({"type": "order", "data": {"order_id": str(number), "status": "OPEN", **data}}).encode()


async def test_order_updates_come_once_whichever_sockets_bring_them() -> None:
    hub, both, one, two = feeds()
    other = hub.channel("one", 2)
    updates = both.order_updates()
    for number in (1, 2, 1):
        for channel in (one, other, two):
            hub.append(Kind.TEXT, channel, NINE_NS, order(number))
    hub.append(Kind.TEXT, one, NINE_NS, order(1, status="COMPLETE"))
    hub.append(Kind.TEXT, one, NINE_NS, b"not JSON")
    hub.append(Kind.TEXT, one, NINE_NS, b'{"type":"message","data":"hello"}')
    hub.close()
    got = [update async for update in updates]
    assert all(isinstance(update, OrderUpdate) for update in got)
    assert [(update.account, update.data["order_id"], update.data["status"]) for update in got] == [  # type: ignore[union-attr]
        ("one", "1", "OPEN"),
        ("two", "1", "OPEN"),
        ("one", "2", "OPEN"),
        ("two", "2", "OPEN"),
        ("one", "1", "COMPLETE"),
    ]


async def test_a_slow_consumer_loses_the_oldest_for_itself_alone_and_is_told() -> None:
    hub, both, one, _ = feeds(buffer_frames=3)
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
    return Record(Kind.BINARY, "one", 1, int(at * 1e9), at, b"\x00\x02" + bytes(size - 2))


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
    assert buffer.take_gap() is None, "told once"
    assert [one.at for one in buffer.take(10**6)] == [float(second) for second in range(10 - kept, 10)]


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
        got += buffer.take(10**6)
    assert len(got) + missing == put
    assert [one.at for one in got] == sorted({one.at for one in got})
    assert (buffer.lost.frames if buffer.lost else 0) == missing


async def test_what_is_closed_or_forgotten_collects_nothing_more() -> None:
    hub, both, one, _ = feeds()
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


async def test_closing_ends_every_iterator_behind_what_it_holds_and_opening_begins_anew() -> None:
    hub, both, one, _ = feeds()
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
    hub, both, one, _ = feeds()
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


async def test_a_consumer_that_never_waits_lets_the_others_run() -> None:
    hub, both, one, _ = feeds()
    feed = both.frames()
    for _ in range(50_000):
        hub.append(Kind.BINARY, one, NINE_NS, LTP)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(50_000):
        await anext(feed)
    task.cancel()
    assert turns > 1


async def test_latency_is_from_the_read_to_the_consumer() -> None:
    hub, both, one, _ = feeds()
    feed = both.frames()
    assert hub.latencies("one", 1) is None
    hub.append(Kind.BINARY, one, NINE_NS, LTP)
    await asyncio.sleep(0.05)
    await anext(feed)
    latencies = hub.latencies("one", 1)
    assert latencies is not None
    assert 0.05 <= latencies[0] <= latencies[1] < 30


def test_levels_have_prices_in_rupees() -> None:
    frames = encode_frames(decode_frames([_full_frame()]), 1)
    assert frames == [_full_frame()]

    async def read() -> Tick:
        hub, both, one, _ = feeds()
        ticks = both.ticks()
        hub.append(Kind.BINARY, one, NINE_NS, _full_frame())
        tick = await anext(ticks)
        assert isinstance(tick, Tick)
        return tick

    tick = asyncio.run(read())
    assert tick.mode is Mode.FULL
    assert tick.bids[0] == Level(price=0.11, quantity=10, orders=12)
    assert tick.asks[4] == Level(price=0.38, quantity=37, orders=39)


def _full_frame() -> bytes:
    words = (408321).to_bytes(4, "big") + bytes(60)

    def entries() -> Iterator[bytes]:
        for level in range(10):
            first = 10 + 3 * level
            yield struct.pack(">IiHxx", first, first + 1, first + 2)

    return b"\x00\x01\x00\xb8" + words + b"".join(entries())
