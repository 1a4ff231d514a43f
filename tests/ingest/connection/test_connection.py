"""A connection as its owner uses it: what it takes, when it may be started and closed, whom it calls."""

import asyncio
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from ingest.connection.connection import KiteConnection
from ingest.connection.session import State
from ingest.errors import CapacityError, InstrumentError
from ingest.wire import Mode
from tests.support.stream_server import ACCOUNT, FAST, Sink, broker, stubborn, wait_closed
from tests.support.waiting import PATIENCE_SECONDS


async def test_more_instruments_than_a_connection_carries_are_refused() -> None:
    connection = KiteConnection(ACCOUNT, 1, FAST, Sink())
    await connection.subscribe(range(1, 3001))
    with pytest.raises(CapacityError, match="3,001 instruments do not fit on a connection: 3,000 is the capacity"):
        await connection.subscribe([3001])
    assert len(connection.instruments) == 3000


@pytest.mark.parametrize("wrong", [-1, 0, 2**32, True, "408065", None])
async def test_what_cannot_be_a_token_is_refused_and_nothing_changes(wrong: Any) -> None:
    connection = KiteConnection(ACCOUNT, 1, FAST, Sink())
    with pytest.raises(InstrumentError, match="as an instrument token"):
        await connection.subscribe([408065, wrong])
    with pytest.raises(InstrumentError, match="got 'junk' as a mode, expected one of ltp, quote, full"):
        await connection.subscribe([408065], "junk")  # type: ignore[arg-type]
    assert dict(connection.instruments) == {}
    await connection.subscribe([408065], "full")  # type: ignore[arg-type]
    assert connection.instruments[408065] is Mode.FULL


async def test_whoever_is_called_at_changes_cannot_end_the_connection() -> None:
    def changed(_: KiteConnection) -> None:
        raise RuntimeError("a fault of the listener's")

    async with broker(wait_closed) as url:
        connection = KiteConnection(ACCOUNT, 1, FAST, sink := Sink(), ws_url=url, changed=changed)
        connection.start()
        await sink.until(lambda sink: "connected" in sink.names)
        assert connection.stats().connected
        await connection.close()


async def test_it_can_be_closed_while_it_connects_and_while_it_waits() -> None:
    async with stubborn() as url:
        connection = KiteConnection(ACCOUNT, 1, FAST, sink := Sink(), ws_url=url)
        connection.start()
        connection.start()
        await asyncio.sleep(0)  # it has begun and cannot have been answered yet
        assert connection.stats().state is State.CONNECTING
        await connection.close()
        await connection.close()
        assert connection.stats().state is State.CLOSED
        assert sink.names == ["closed"]
    settings = FAST.model_copy(update={"backoff_initial_seconds": 1000.0, "backoff_cap_seconds": 1000.0})
    connection = KiteConnection(ACCOUNT, 1, settings, sink := Sink(), ws_url=url, random=lambda: 1.0)
    connection.start()
    await sink.until(lambda sink: "refused" in sink.names)
    assert sink.events[0]["data"]["reason"] == "network"
    await connection.close()
    assert connection.stats().state is State.CLOSED


async def test_it_can_be_closed_before_it_is_started_and_started_after_it_was_closed() -> None:
    async with broker(wait_closed) as url:
        connection = KiteConnection(ACCOUNT, 1, FAST, sink := Sink(), ws_url=url)
        await connection.close()
        await connection.subscribe([1])
        for opening in (1, 2):
            connection.start()
            await sink.until(lambda sink, opening=opening: sink.names.count("subscribed") == opening)  # type: ignore[misc]
            await connection.close()
            assert connection.stats().state is State.CLOSED


async def test_whoever_cancels_its_task_knows_and_leaves_no_socket() -> None:
    closed = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        await ws.wait_closed()
        closed.set()

    async with broker(handler) as url:
        connection = KiteConnection(ACCOUNT, 1, FAST, sink := Sink(), ws_url=url)
        connection.start()
        await sink.until(lambda sink: "connected" in sink.names)
        task = next(task for task in asyncio.all_tasks() if task.get_name() == "kitelake one/1")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(PATIENCE_SECONDS):
            await closed.wait()
