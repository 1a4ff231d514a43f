"""The manager against the simulator: nothing that it sent is missing, whatever befalls the connections."""

import asyncio
import contextlib
import datetime as dt
import itertools
import json
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.accounts.rest import KiteRest
from ingest.instruments.listing import parse_instruments
from ingest.manager.manager import TickerManager
from ingest.manager.want import Slot
from ingest.server.record import RecordKind, read_record
from ingest.settings import ManagerSettings
from ingest.wire import Mode
from storage.journal import JournalWriter, Kind, SegmentReader, segments
from storage.layout import DataLayout
from tests.support.simulation import Simulation, simulation
from tests.support.sink import FAST, ONE, TWO, Sink
from tests.support.waiting import until

INDICES_BYTE = 9
LENGTHS = {Mode.LTP: (8, 8), Mode.QUOTE: (44, 28), Mode.FULL: (184, 32)}  # of tradable instruments, of indices


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
