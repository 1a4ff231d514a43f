"""The manager against a broker that only listens: what is refused before anything is sent, and what is sent."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import ValidationError
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from ingest.accounts.account import Account
from ingest.connection.session import State
from ingest.connection.stats import ConnectionStats, Status
from ingest.errors import AuthError, CapacityError, InstrumentError
from ingest.manager.manager import TickerManager
from ingest.manager.want import Slot, Want
from ingest.settings import ManagerSettings
from ingest.wire import Mode
from tests.support.sink import FAST, ONE, TWO, Sink
from tests.support.waiting import until


def streams_of(told: list[Any], account: str) -> set[int]:
    """What the sockets of an account have been told to stream."""
    streams: set[int] = set()
    for path, message in told:
        if f"api_key=key-{account}&" in path and message["a"] != "mode":
            streams = streams | set(message["v"]) if message["a"] == "subscribe" else streams - set(message["v"])
    return streams


Answer = Callable[[ServerConnection, Request], Response | None]


@contextlib.asynccontextmanager
async def silent_broker(answer: Answer | None = None) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server that keeps what it is told: (path, message). `answer` may refuse a handshake."""
    told: list[Any] = []

    async def handler(ws: ServerConnection) -> None:
        assert ws.request is not None
        async for message in ws:
            told.append((ws.request.path, json.loads(message)))  # noqa: PERF401 (seen as it comes)

    async with serve(handler, "127.0.0.1", 0, compression=None, process_request=answer) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", told


def test_too_many_instruments_are_refused_before_anything_is_sent() -> None:
    async def run() -> None:
        async with silent_broker() as (url, told), TickerManager([ONE], FAST, Sink(), ws_url=url) as manager:
            with pytest.raises(CapacityError, match="9,001 instruments do not fit on 3 connections of 3,000"):
                await manager.subscribe(range(1, 9_002))
            assert manager.placement() == {}
            await manager.subscribe(range(1, 9_001))
            with pytest.raises(CapacityError, match="1 are too many"):
                await manager.subscribe([9_001])
            assert [stats.instruments for stats in manager.stats().connections] == [3000, 3000, 3000]
            await manager.unsubscribe([17])
            await manager.subscribe([9_001])
            assert manager.stats().total.instruments == 9000
            await until(lambda: sum(len(message["v"]) for _, message in told if message["a"] == "subscribe") >= 9000)

    asyncio.run(run())


async def test_each_connection_notes_what_it_holds() -> None:
    sink = Sink()
    async with silent_broker() as (url, _), TickerManager([ONE], FAST, sink, ws_url=url) as manager:
        await manager.subscribe(range(1, 4_001))
        await until(lambda: sum(len(one["data"].get("tokens", ())) for one in sink.events()) == 4000)
        manager.note_held()
    held = [one["data"]["tokens"] for one in sink.events() if one["event"] == "held"]
    assert sorted(token for tokens in held for token in tokens) == list(range(1, 4_001))
    assert len(held) == len([slot for slot in set(sink.slots) if slot.account == ONE.name])


@pytest.mark.parametrize("wrong", [0, -1, 2**32, "408065", 1.5, None])
async def test_what_cannot_be_a_token_is_refused_and_nothing_changes(wrong: Any) -> None:
    manager = TickerManager([ONE], FAST, Sink())
    with pytest.raises(InstrumentError, match="as an instrument token, expected a whole number from 1 to 4294967295"):
        await manager.subscribe([1, wrong])
    assert manager.placement() == {}


async def test_an_instrument_is_streamed_once_and_changes_its_mode_in_place() -> None:
    manager = TickerManager([ONE, TWO], FAST, Sink())
    await manager.subscribe([1, 2, 2, 3, 4], Mode.FULL)
    before = manager.placement()
    assert sorted(token for there in before.values() for token in there) == [1, 2, 3, 4]
    await manager.set_mode([2, 3], Mode.LTP)
    await manager.subscribe([4])
    modes = {token: mode for there in manager.placement().values() for token, mode in there.items()}
    assert modes == {1: Mode.FULL, 2: Mode.LTP, 3: Mode.LTP, 4: Mode.QUOTE}
    assert {slot: set(there) for slot, there in manager.placement().items()} == {
        slot: set(there) for slot, there in before.items()
    }
    with pytest.raises(InstrumentError, match="1 of 2 instruments are not subscribed, as 99"):
        await manager.set_mode([1, 99], Mode.LTP)


async def test_only_connections_with_instruments_are_opened() -> None:
    async with silent_broker() as (url, _), TickerManager([ONE, TWO], FAST, Sink(), ws_url=url) as manager:
        assert manager.stats().total.connections == 0
        await manager.subscribe([1, 2, 3], Mode.LTP)
        assert sorted(manager.placement()) == [Slot("one", 1), Slot("one", 2), Slot("two", 1)]
        await until(lambda: manager.stats().total.connected == 3)


async def test_only_the_named_accounts_are_used_and_the_same_again_sends_nothing() -> None:
    settings = FAST.model_copy(update={"connections": 1})
    three = Account("three", "key-three", "token-three")
    async with (
        silent_broker() as (url, told),
        TickerManager([ONE, TWO, three], settings, Sink(), ws_url=url) as manager,
    ):
        for tokens in ([7], [7], [7, 8]):
            assert await manager.subscribe(tokens, Mode.LTP, account={"one", "three"}, copies=2) == []
            await until(lambda: manager.stats().total.connected == 2)
        await until(lambda: sum(message["a"] == "subscribe" and 8 in message["v"] for _, message in told) == 2)
        with pytest.raises(ValueError, match=r"got 3 copies on 2 accounts \(one, three\)"):
            await manager.subscribe([9], account=["three", "one"], copies=3)
        with pytest.raises(ValueError, match="got no name in account=, expected one or more, or None for"):
            await manager.subscribe([9], account=[])
    for name in ("one", "three"):
        messages = [message for path, message in told if f"api_key=key-{name}&" in path]
        assert [message["v"] for message in messages if message["a"] == "subscribe"] == [[7], [8]]
    assert not [path for path, _ in told if "key-two" in path]


async def test_what_is_wanted_is_said_at_once_and_the_difference_is_sent() -> None:
    settings = FAST.model_copy(update={"connections": 1, "instruments_per_connection": 2})
    async with silent_broker() as (url, told), TickerManager([ONE], settings, Sink(), ws_url=url) as manager:
        assert await manager.bring_to({7: Want(Mode.QUOTE, 1), 8: Want(Mode.QUOTE, 5), 9: Want(Mode.QUOTE, 9)}) == [9]
        await until(lambda: streams_of(told, "one") == {7, 8})
        told.clear()
        assert await manager.bring_to({7: Want(Mode.QUOTE, 1), 9: Want(Mode.QUOTE, 9)}) == []
        await until(lambda: len(told) == 2)
        assert [message for _, message in told] == [{"a": "unsubscribe", "v": [8]}, {"a": "subscribe", "v": [9]}]
        with pytest.raises(InstrumentError, match="as an instrument token"):
            await manager.bring_to({0: Want(Mode.QUOTE)})


async def test_the_important_of_a_refused_account_stream_elsewhere_and_the_rest_gives_way_and_comes_back() -> None:
    refusing = True

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(403, "") if refusing and "api_key=key-one&" in request.path else None

    settings = FAST.model_copy(update={"connections": 1, "instruments_per_connection": 3})
    async with silent_broker(answer) as (url, told), TickerManager([ONE, TWO], settings, Sink(), ws_url=url) as manager:
        await manager.subscribe([11, 12, 13], Mode.LTP, account="two", priority=10)
        await until(lambda: manager.stats().total.connected == 1)
        await manager.subscribe([1, 2], Mode.LTP, account="one")
        await until(lambda: manager.waiting == manager.unserved == (12, 13))
        assert manager.placement() == {Slot("two", 1): dict.fromkeys([11, 1, 2], Mode.LTP)}
        await until(lambda: (manager.health().status, manager.health().percent) == (Status.DEGRADED, 60.0))
        assert "2 instruments wait for room on another connection" in manager.health().reasons
        assert await manager.subscribe([3], Mode.LTP, account="one", leave_out=True) == []
        assert manager.unserved == (11, 12, 13)
        refusing = False
        await until(lambda: manager.stats().total.connected == 2 and not manager.waiting)
        await until(lambda: streams_of(told, "two") == {11, 12, 13} and streams_of(told, "one") == {1, 2, 3})
    for count in range(len(told)):
        assert len(streams_of(told[:count], "two")) <= 3, "what gives way is unsubscribed first"


async def test_subscriptions_may_come_first_and_outlive_a_stop() -> None:
    async with silent_broker() as (url, told):
        manager = TickerManager([ONE], FAST, Sink(), ws_url=url)
        await manager.stop()
        await manager.subscribe([7], mode=Mode.FULL)
        for turn in (1, 2):
            await manager.start()
            await manager.start()
            await until(lambda turn=turn: len(told) == 2 * turn)  # type: ignore[misc]
            await manager.stop()
            await manager.stop()
            assert [stats.state for stats in manager.stats().connections] == [State.CLOSED]
    expected = [{"a": "subscribe", "v": [7]}, {"a": "mode", "v": ["full", [7]]}]
    assert [message for _, message in told] == expected * 2
    assert {path for path, _ in told} == {"/?api_key=key-one&access_token=token-one"}


def test_accounts_and_settings_are_checked_when_made() -> None:
    with pytest.raises(AuthError, match="account three has no access token"):
        TickerManager([ONE, Account("three", "key")], FAST, Sink())
    with pytest.raises(ValueError, match="expected different names"):
        TickerManager([ONE, ONE], FAST, Sink())
    with pytest.raises(ValueError, match="expected ws://HOST"):
        TickerManager([ONE], FAST, Sink(), ws_url="http://127.0.0.1")
    for wrong in (
        {"connections": 4},
        {"instruments_per_connection": 3001},
        {"default_mode": "ohlc"},
        {"conections": 1},
    ):
        with pytest.raises(ValidationError):
            ManagerSettings.model_validate(wrong)
    assert all(field.description for field in ManagerSettings.model_fields.values())


def test_stats_are_cheap_values() -> None:
    stats = TickerManager([ONE], FAST, Sink()).stats()
    assert (stats.connections, stats.total.frames) == ([], 0)
    assert ConnectionStats(account="one", connection=1, state=State.OPEN).connected
