"""What consumers get: batches, ticks and order updates, each as the records of the hub say it."""

import asyncio
import json
import struct
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.connection.consumers import OrderUpdate
from ingest.connection.hub import Gap
from ingest.wire import Mode, decode_frames, encode_frames
from ingest.wire.plain import decode_packet
from storage.clock import IST
from storage.journal import Kind
from storage.memory import Level, Tick
from storage.schema import TICKS
from tests.support.consumers import LTP, NINE_NS, consumers
from tests.support.packets import frame_of, packets


async def test_batches_are_the_ticks_table_with_account_and_connection() -> None:
    hub, both, one, two = consumers()
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
        hub, both, one, _ = consumers()
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
    hub, both, one, two = consumers()
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


def test_levels_have_prices_in_rupees() -> None:
    frames = encode_frames(decode_frames([_full_frame()]), 1)
    assert frames == [_full_frame()]

    async def read() -> Tick:
        hub, both, one, _ = consumers()
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
