"""The manager: placement before anything is sent, and against the simulator: nothing that it sent is missing."""

import asyncio
import contextlib
import datetime as dt
import itertools
import json
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from ingest.accounts.account import Account
from ingest.accounts.rest import KiteRest
from ingest.connection.session import State
from ingest.connection.stats import ConnectionStats, Status
from ingest.errors import AuthError, CapacityError, InstrumentError
from ingest.instruments.listing import parse_instruments
from ingest.manager.manager import TickerManager
from ingest.manager.want import Slot, Want
from ingest.server.record import RecordKind, read_record
from ingest.settings import ManagerSettings
from ingest.wire import Mode
from storage.journal import JournalWriter, Kind, SegmentReader, segments
from storage.layout import DataLayout
from tests.support.simulation import Simulation, simulation

ONE, TWO = Account("one", "key-one", "token-one"), Account("two", "key-two", "token-two")
FAST = ManagerSettings(
    backoff_initial_seconds=0.01,
    settled_seconds=0.0,
    slow_retry_seconds=0.1,
    token_retry_seconds=0.1,
    close_timeout_seconds=5,
)
INDICES_BYTE = 9
LENGTHS = {Mode.LTP: (8, 8), Mode.QUOTE: (44, 28), Mode.FULL: (184, 32)}  # of tradable instruments, of indices


class Sink:
    """Keeps the records of each connection, and counts packets as the frames claim them."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.records: list[tuple[Slot, Kind, bytes]] = []

    def channel(self, account: str, connection: int) -> int:
        self.slots.append(Slot(account, connection))
        return len(self.slots) - 1

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        self.records += [(self.slots[channel], kind, payload) for payload in payloads]

    def frames(self, account: str) -> Counter[bytes]:
        return Counter(data for slot, kind, data in self.records if slot.account == account and kind is Kind.BINARY)

    def events(self, account: str | None = None) -> list[dict[str, Any]]:
        return [
            json.loads(data)
            for slot, kind, data in self.records
            if kind is Kind.EVENT and account in (None, slot.account)
        ]

    def count(self, event: str, account: str | None = None) -> int:
        return sum(one["event"] == event for one in self.events(account))


async def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


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


# What it does without a broker


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


# Against the simulator


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulation, Path]]:
    """A lively market that records what it sends. Tests use instruments and accounts of it, one after another."""
    folder = tmp_path_factory.mktemp("record")
    with simulation(
        instruments=1200, rate=20, steps_per_second=20, record=folder, heartbeat_seconds=0.2, order_seconds=0.5
    ) as running:
        yield running, folder


def wanted_of(tokens: list[int]) -> dict[int, Mode]:
    """All three modes, for indices, too."""
    return dict(zip(tokens, itertools.cycle(Mode), strict=False))


async def tokens_of(simulator: Simulation) -> list[int]:
    async with KiteRest(simulator.api, ONE) as rest:
        table = parse_instruments(await rest.instruments(), date=dt.date(2026, 11, 22))
    tokens: list[int] = table["instrument_token"].to_pylist()
    return tokens


@contextlib.asynccontextmanager
async def capturing(
    simulator: Simulation, sink: Sink | JournalWriter, wanted: dict[int, Mode], settings: ManagerSettings = FAST
) -> AsyncIterator[TickerManager]:
    async with TickerManager([ONE, TWO], settings, sink, ws_url=simulator.ws) as manager:
        for mode in Mode:
            await manager.subscribe([token for token, one in wanted.items() if one is mode], mode=mode)
        await until(lambda: manager.stats().total.connected == 6)
        yield manager


async def sent_frames(market: tuple[Simulation, Path], since_ns: int) -> dict[str, Counter[bytes]]:
    """Every binary frame that the simulator sent, by account. All sockets must have ended."""
    simulator, folder = market
    stats = await asyncio.to_thread(simulator.stats)  # also brings the record up to date
    assert not any(one["open"] for one in stats["connections"])
    frames: dict[str, Counter[bytes]] = {"one": Counter(), "two": Counter()}
    for record in read_record(folder):
        if record.time_ns >= since_ns and record.kind in (RecordKind.PACKETS, RecordKind.DAMAGED, RecordKind.HEARTBEAT):
            frames[record.connection.account][record.payload] += 1
    return frames


def packets_of(frame: bytes) -> Iterator[tuple[int, int]]:
    """(token, length) of each packet of a frame that is in order."""
    at = 2
    for _ in range(int.from_bytes(frame[:2], "big")):
        length, token = struct.unpack_from(">HI", frame, at)
        yield token, length
        at += 2 + length


def length_of(token: int, mode: Mode) -> int:
    return LENGTHS[mode][token & 0xFF == INDICES_BYTE]


async def order(simulator: Simulation, kind: str, **fields: Any) -> int:
    return await asyncio.to_thread(simulator.fault, kind, **fields)


async def last_record(market: tuple[Simulation, Path]) -> int:
    """The time of the newest record: what comes behind it belongs to the test."""
    simulator, folder = market
    await asyncio.to_thread(simulator.stats)
    return max((record.time_ns for record in read_record(folder)), default=0) + 1


@pytest.mark.slow
async def test_every_frame_is_there_across_drops_and_at_a_clean_close(market: tuple[Simulation, Path]) -> None:
    simulator, _ = market
    since = await last_record(market)
    sink = Sink()
    wanted = wanted_of(await tokens_of(simulator))
    async with capturing(simulator, sink, wanted) as manager:
        for turn, how in enumerate(["rst", "close", "eof", "rst"], start=1):
            await asyncio.sleep(0.3)
            await order(simulator, "garbage", form=["noise", "count", "length", "trailing"][turn - 1], account="one")
            await order(simulator, "truncated", account="two")
            dropped = await order(simulator, "drop", how=how)
            assert dropped == 6
            await until(lambda turn=turn: sink.count("resumed") == 6 * turn)  # type: ignore[misc]
            await until(lambda: manager.stats().total.connected == 6)
        assert manager.stats().total.reconnects == 24
        await asyncio.sleep(0.3)
    sent = await sent_frames(market, since)
    for account in ("one", "two"):
        assert sum(sent[account].values()) > 50
        assert sink.frames(account) == sent[account]
    assert sink.count("closed") == 24 + 6


@pytest.mark.slow
async def test_every_subscription_and_mode_is_back_after_a_drop(market: tuple[Simulation, Path]) -> None:
    simulator, _ = market
    sink = Sink()
    wanted = wanted_of(await tokens_of(simulator))
    async with capturing(simulator, sink, wanted) as manager:
        changed = dict(list(wanted.items())[:300])
        await manager.unsubscribe(list(wanted)[600:700])
        for token in list(wanted)[600:700]:
            del wanted[token]
        for mode in Mode:
            await manager.set_mode([token for token, before in changed.items() if before is mode], Mode.FULL)
        wanted |= dict.fromkeys(changed, Mode.FULL)
        await order(simulator, "drop", how="rst")
        await until(lambda: sink.count("resumed") == 6)

        def seen() -> dict[int, int]:
            """token -> length of the last packet, over the sockets that were opened last."""
            packets: dict[Slot, dict[int, int]] = {}
            for slot, kind, data in sink.records:
                if kind is Kind.EVENT and json.loads(data)["event"] == "connected":
                    packets[slot] = {}
                elif kind is Kind.BINARY and len(data) > 1:
                    packets[slot].update(packets_of(data))
            return {token: length for there in packets.values() for token, length in there.items()}

        def as_wanted() -> bool:
            return seen() == {token: length_of(token, mode) for token, mode in wanted.items()}

        await until(as_wanted)
        told = {tuple(packet) for slot in manager.placement().values() for packet in slot.items()}
        assert told == set(wanted.items())


@pytest.mark.slow
async def test_refusals_of_one_account_leave_the_other_alone(market: tuple[Simulation, Path]) -> None:
    simulator, _ = market
    sink = Sink()
    async with capturing(simulator, sink, wanted_of((await tokens_of(simulator))[:60])) as manager:
        for status, reason in ((403, "credentials"), (429, "busy"), (502, "server")):
            already = sink.count("resumed", "one")
            await order(simulator, "refuse", status=status, account="one", times=4)
            await order(simulator, "drop", account="one")
            await until(lambda before=already: sink.count("resumed", "one") == before + 3)  # type: ignore[misc]
            refused = [one["data"] for one in sink.events("one") if one["event"] == "refused"][-4:]
            assert [one["reason"] for one in refused] == [reason] * 4
            assert {one["code"] for one in refused} <= {status, None}, "a refused token is not sent again"
        await until(lambda: manager.stats().total.connected == 6)
        assert [stats.reconnects for stats in manager.stats().connections] == [3, 3, 3, 0, 0, 0]
    assert {one["event"] for one in sink.events("two")} == {
        *("connected", "subscribed", "unsubscribed", "mode", "closed"),  # it had guests
    }


@pytest.mark.slow
async def test_a_silent_server_is_found_out_and_an_expired_token_stops_one_account_only(tmp_path: Path) -> None:
    with simulation(instruments=200, rate=20, heartbeat_seconds=0.1) as simulator:
        sink = Sink()
        settings = FAST.model_copy(update={"liveness_seconds": 1.0})
        async with capturing(simulator, sink, wanted_of((await tokens_of(simulator))[:60]), settings) as manager:
            await order(simulator, "silent", account="one")
            await until(lambda: sink.count("resumed", "one") >= 3)
            assert sink.count("silent", "one") >= 3
            assert sink.count("silent", "two") == 0
            await order(simulator, "token", account="two", access_token="another")
            assert manager.stats().total.connected == 6, "open sockets outlive their token"
            await order(simulator, "drop", account="two")
            await until(lambda: sink.count("refused", "two") >= 6)
            assert [stats.connected for stats in manager.stats().connections] == [True] * 3 + [False] * 3
            frames = manager.stats().total.frames
            await until(lambda: manager.stats().total.frames > frames + 100)


@pytest.mark.slow
async def test_the_journal_holds_what_was_sent(market: tuple[Simulation, Path], tmp_path: Path) -> None:
    """The journal as the sink, read back, against the simulator's own count."""
    simulator, _ = market
    since = await last_record(market)
    layout = DataLayout(tmp_path)
    journal = JournalWriter(layout, "20261122T091500-000001", segment_bytes=1 << 20, segment_seconds=1.0)
    async with capturing(simulator, journal, wanted_of(await tokens_of(simulator))) as manager:
        while manager.stats().total.frames < 300:
            await asyncio.sleep(0.02)
            journal.flush()
    journal.close()
    found: dict[str, Counter[bytes]] = {"one": Counter(), "two": Counter()}
    for number in segments(layout, journal.stream):
        with SegmentReader(layout.segment(journal.stream, number)) as reader:
            for block in reader.read():
                ends = block.lengths.cumsum()
                for length, end, channel, kind in zip(block.lengths, ends, block.channels, block.kinds, strict=True):
                    if kind == Kind.BINARY:
                        account = block.channel_table[int(channel)].account
                        found[account][block.payload[end - length : end].tobytes()] += 1
    assert found == await sent_frames(market, since)
    assert all(sum(frames.values()) > 50 for frames in found.values())


@pytest.mark.slow
async def test_full_house_every_instrument_ticks() -> None:
    """Two accounts, three connections each, three thousand instruments on every one, in one call."""
    with simulation(instruments=18_500, rate=0.01) as simulator:
        sink = Sink()
        tokens = (await tokens_of(simulator))[:18_000]
        assert len(tokens) == 18_000
        async with TickerManager([ONE, TWO], FAST, sink, ws_url=simulator.ws) as manager:
            await manager.subscribe(tokens, Mode.LTP)
            assert [stats.instruments for stats in manager.stats().connections] == [3000] * 6
            seen: set[int] = set()
            read = 0

            def everyone_ticked() -> bool:
                nonlocal read
                for _, kind, data in sink.records[read:]:
                    if kind is Kind.BINARY and len(data) > 1:
                        seen.update(token for token, _ in packets_of(data))
                read = len(sink.records)
                return seen == set(tokens)

            await until(everyone_ticked)
