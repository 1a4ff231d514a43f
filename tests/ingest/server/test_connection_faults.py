"""What the simulator does wrong when told to, and that its record stays exact while it does."""

import asyncio
import json
import struct
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ingest.server.record import RecordKind, read_record
from ingest.server.source import HEARTBEAT
from ingest.simulator.simulator import Simulator
from tests.support.simulation import split_frame
from tests.support.simulator_client import Client, address, client, fault, running, until

KNOWN_LENGTHS = {8, 28, 32, 44, 184}
INFY = 408065


def whole_packets(frame: bytes) -> int:
    """Packets of known length that are all there, as a forgiving reader finds them."""
    if len(frame) < 2:
        return 0
    (count,) = struct.unpack_from(">H", frame)
    found, at = 0, 2
    for _ in range(count):
        if at + 2 > len(frame):
            break
        (length,) = struct.unpack_from(">H", frame, at)
        if at + 2 + length > len(frame):
            break
        found += length in KNOWN_LENGTHS
        at += 2 + length
    return found


async def subscribe_all(one: Client, simulator: Simulator) -> None:
    tokens = simulator.market.tokens.tolist()
    await one.ask("subscribe", tokens)
    await one.ask("mode", ["full", tokens])


@pytest.mark.parametrize(("how", "code"), [("rst", None), ("eof", None), ("close", 1001), ("close", 1011)])
async def test_all_that_counts_as_sent_comes_before_a_drop(how: str, code: int | None) -> None:
    async with running(rate=1000, steps_per_second=40) as simulator, client(address(simulator)) as one:
        await subscribe_all(one, simulator)
        await until(lambda: simulator.market.steps > 10)
        assert await fault(simulator, "drop", how=how, **({"code": code} if code else {})) == 1
        await until(lambda: one.closed)
        assert one.closed is not None
        assert (one.closed.rcvd.code if one.closed.rcvd else None) == code
        dropped = simulator.stats(instruments=True)["connections"][0]
        assert dropped["close_reason"] == (f"close {code}" if code else how)
        assert dropped["instruments"] == one.counts()
        assert not dropped["open"]


@pytest.mark.parametrize("how", ["rst", "close", "eof"])
async def test_a_drop_waits_for_a_slow_reader(how: str) -> None:
    settings = {"instruments": 2000, "rate": 1000, "steps_per_second": 50}
    async with running(**settings) as simulator:
        lazy = await connect(address(simulator), compression=None, proxy=None, max_queue=1, ping_interval=None)
        tokens = simulator.market.tokens.tolist()
        await lazy.send(json.dumps({"a": "subscribe", "v": tokens}))
        await lazy.send(json.dumps({"a": "mode", "v": ["full", tokens]}))
        await until(lambda: simulator.stats()["connections"][0]["unread_bytes"] > 1_000_000)
        drop = asyncio.create_task(fault(simulator, "drop", how=how))
        await until(lambda: simulator.stats()["connections"][0]["close_reason"])
        one = Client(lazy)
        await one.read()
        assert await drop == 1
        assert simulator.stats(instruments=True)["connections"][0]["instruments"] == one.counts()


async def test_a_reset_is_a_reset() -> None:
    async with running() as simulator:
        url = address(simulator).removeprefix("ws://").partition("/")
        host, _, port = url[0].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"GET /{url[2]} HTTP/1.1\r\nHost: {url[0]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b"101" in await reader.readline()
        await until(lambda: simulator.stats()["texts"] == 2)
        await fault(simulator, "drop", how="rst")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.slow
async def test_what_a_dropped_connection_misses_is_listed_until_another_takes_over(tmp_path: Path) -> None:
    async with running(rate=1000, record=tmp_path) as simulator:
        tokens = simulator.market.tokens.tolist()

        def missed() -> int:
            down: int = simulator.stats()["connections"][0]["unsent"].get("down", 0)
            return down

        async with client(address(simulator)) as one, client(address(simulator)) as bystander:
            await one.ask("subscribe", tokens[:100])
            await one.ask("mode", ["full", tokens[:100]])
            await bystander.ask("subscribe", tokens[100:200])
            await until(lambda: one.packets() and bystander.packets())
            assert await fault(simulator, "drop", account="one", connection=1) == 1
            await until(lambda: missed() > 300)
            assert bystander.closed is None
        async with client(address(simulator)) as again:
            await again.ask("subscribe", tokens[:60])
            await until(lambda: len(again.counts()) == 60)
            whole = simulator.stats(instruments=True)["connections"]
            later = simulator.market.steps + 8
            await until(lambda: simulator.market.steps >= later)
            now = simulator.stats(instruments=True)["connections"]
            before, after = (stats[0]["unsent_instruments"]["down"] for stats in (whole, now))
            grown = {token for token in after if after[token] > before.get(token, 0)}
            assert grown
            assert grown <= {str(token) for token in tokens[60:100]}, "the others have been taken over"
            await again.ask("subscribe", tokens[60:100])
            await until(lambda: len(again.counts()) == 100)
            ended = missed()
            later = simulator.market.steps + 8
            await until(lambda: simulator.market.steps >= later)
            assert missed() == ended
        assert now[2]["connection"] == 3
    unsent = [record for record in read_record(tmp_path) if record.kind is RecordKind.UNSENT]
    assert sum(record.packets for record in unsent if record.connection.connection == 1) == ended
    assert all(len(split_frame(record.payload)) == record.packets for record in unsent), "with the packets themselves"


async def test_what_a_newer_connection_has_already_taken_over_is_not_missed() -> None:
    async with running(rate=1000) as simulator, client(address(simulator)) as old, client(address(simulator)) as new:
        await old.ask("subscribe", [INFY, 256265])
        await until(lambda: len(old.counts()) == 2)
        await new.ask("subscribe", [INFY])
        await until(new.packets)
        await fault(simulator, "drop", connection=1)
        await until(lambda: simulator.stats()["unsent"].get("down", 0) > 4)
        assert set(simulator.stats(instruments=True)["connections"][0]["unsent_instruments"]["down"]) == {"256265"}


async def test_a_client_that_leaves_of_its_own_accord_misses_nothing() -> None:
    async with running(rate=1000) as simulator:
        async with client(address(simulator)) as one:
            await one.ask("subscribe", [INFY])
            await until(one.packets)
        steps = simulator.market.steps
        await until(lambda: simulator.market.steps > steps + 4)
        assert simulator.stats()["unsent"] == {}


async def test_silence_is_complete_and_ends() -> None:
    async with running(rate=1000, heartbeat_seconds=0.2) as simulator, client(address(simulator)) as one:
        await one.ask("subscribe", [INFY])
        await until(one.packets)
        assert await fault(simulator, "silent") == 1
        sent = simulator.stats()["connections"][0]
        await until(lambda: simulator.stats()["unsent"].get("silent", 0) > 4)
        now = simulator.stats()["connections"][0]
        assert [now[name] for name in ("packets", "heartbeats", "texts")] == [
            sent[name] for name in ("packets", "heartbeats", "texts")
        ]
        await asyncio.wait_for(await one.socket.ping(), 5)  # the socket is open and answers
        await fault(simulator, "clear")
        await until(lambda: len(one.packets()) > now["packets"])
        await fault(simulator, "silent", seconds=0.3)
        quiet = simulator.stats()["packets"]
        await until(lambda: simulator.stats()["packets"] > quiet)


@pytest.mark.slow
async def test_a_deaf_simulator_answers_no_ping() -> None:
    async with running() as simulator, client(address(simulator)) as one:
        await until(lambda: one.texts)
        await fault(simulator, "silent", seconds=0.8, deaf=True)
        pong = await one.socket.ping()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(pong), 0.3)
        await asyncio.wait_for(pong, 10)  # it hears again


@pytest.mark.parametrize("form", ["noise", "empty", "count", "length", "trailing", "truncated"])
async def test_damaged_frames_are_booked_with_their_whole_packets(form: str, tmp_path: Path) -> None:
    async with running(rate=0.001, record=tmp_path) as simulator, client(address(simulator)) as one:
        await subscribe_all(one, simulator)
        await until(lambda: len(one.packets()) == 2 * len(simulator.market))
        good = len(one.frames)
        kind = {"kind": "truncated"} if form == "truncated" else {"kind": "garbage", "form": form}
        assert await fault(simulator, **kind, count=20) == 20
        await until(lambda: len([frame for frame in one.frames if frame != HEARTBEAT]) >= good + 20)
        await fault(simulator, "pause")
        bad = [frame for frame in one.frames[good:] if frame != HEARTBEAT][:20]
        stats = simulator.stats()["connections"][0]
        assert stats["damaged"] == {
            "frames": 20,
            "bytes": sum(map(len, bad)),
            "packets": sum(map(whole_packets, bad)),
        }
        assert (stats["damaged"]["packets"] > 0) == (form not in {"noise", "empty"})
        assert stats["packets"] == stats["damaged"]["packets"] + sum(map(whole_packets, one.frames[:good]))
        for frame in bad:
            with pytest.raises((AssertionError, struct.error)):
                assert {len(packet) for packet in split_frame(frame)} <= KNOWN_LENGTHS
    recorded = [record for record in read_record(tmp_path) if record.kind is RecordKind.DAMAGED]
    assert [record.payload for record in recorded] == bad
    assert [record.packets for record in recorded] == list(map(whole_packets, bad))


@pytest.mark.parametrize("status", [403, 429, 502])
async def test_handshakes_are_refused_as_often_as_told(status: int) -> None:
    async with running() as simulator, client(address(simulator)) as open_already:
        await fault(simulator, "refuse", status=status, times=2, account="one")
        for _ in range(2):
            with pytest.raises(InvalidStatus) as refusal:
                await connect(address(simulator), proxy=None)
            assert refusal.value.response.status_code == status
        async with client(address(simulator)) as accepted:
            await until(lambda: accepted.texts)
        assert open_already.closed is None
        assert simulator.stats()["refused"] == {str(status): 2}


async def test_handshakes_are_refused_for_as_long_as_told() -> None:
    async with running() as simulator:
        await fault(simulator, "refuse", status=502, seconds=0.5)
        refusals = 0
        while refusals < 1000:
            try:
                async with client(address(simulator)) as accepted:
                    await until(lambda: accepted.texts)
                break
            except InvalidStatus:
                refusals += 1
                await asyncio.sleep(0.05)
        assert 2 <= refusals < 1000


async def test_handshakes_are_delayed() -> None:
    async with running() as simulator:
        await fault(simulator, "delay", by_seconds=0.4, times=1)
        before = time.monotonic()
        async with client(address(simulator)):
            assert time.monotonic() - before >= 0.4


@pytest.mark.slow
async def test_delayed_frames_come_in_order_and_count_when_they_go() -> None:
    async with running(rate=1000) as simulator, client(address(simulator)) as one:
        await one.ask("subscribe", [INFY])
        await until(one.packets)
        assert await fault(simulator, "delay", what="frames", by_seconds=0.6) == 1
        steps, seen = simulator.market.steps, simulator.stats()["packets"]
        await until(lambda: simulator.market.steps >= steps + 2)
        assert simulator.stats()["packets"] <= seen + 1, "they wait"
        await until(lambda: simulator.stats()["packets"] > seen + 4)
        await fault(simulator, "drop", how="rst")
        await until(lambda: one.closed)
        stats = simulator.stats(instruments=True)["connections"][0]
        assert stats["instruments"] == one.counts()
        assert stats["unsent"]["down"] > 0, "those that waited"
        times = [struct.unpack_from(">I", packet, 16) for packet in one.packets()]
        assert times == sorted(times), "cumulative volumes never fall"


async def test_a_part_of_a_subscription_is_ignored() -> None:
    async with running(rate=1000) as simulator, client(address(simulator)) as one:
        tokens = simulator.market.tokens.tolist()
        await fault(simulator, "ignore", every=4, times=1)
        await one.ask("subscribe", tokens[:100])
        ignored = {str(token) for token in tokens[3:100:4]}
        await until(lambda: simulator.stats()["unsent"].get("ignored", 0) > 50)
        stats = simulator.stats(instruments=True)["connections"][0]
        assert set(stats["unsent_instruments"]["ignored"]) <= ignored
        assert set(stats["instruments"]) == {str(token) for token in tokens[:100]} - ignored
        assert stats["subscribed"] == 100
        await one.ask("subscribe", tokens[100:110])  # the order is used up
        await until(lambda: {str(token) for token in tokens[100:110]} <= set(one.counts()))


async def test_open_sockets_outlive_their_token() -> None:
    async with running(rate=1000) as simulator, client(address(simulator)) as one:
        await one.ask("subscribe", [INFY])
        await until(one.packets)
        await fault(simulator, "token", account="one", access_token="newer")
        with pytest.raises(InvalidStatus) as refusal:
            await connect(address(simulator), proxy=None)
        assert refusal.value.response.status_code == 403
        seen = len(one.packets())
        await until(lambda: len(one.packets()) > seen + 1)
        async with client(address(simulator, access_token="newer")) as renewed:
            await until(lambda: renewed.texts)


async def test_damaged_texts_and_noise_do_not_need_a_subscription() -> None:
    async with running() as simulator, client(address(simulator)) as one:
        await until(lambda: one.texts)
        for form in ("noise", "empty", "count", "length", "trailing"):
            assert await fault(simulator, "garbage", form=form) == 1
        assert await fault(simulator, "truncated") == 0, "there is nothing to cut"
        await until(lambda: len([frame for frame in one.frames if frame != HEARTBEAT]) == 5)
        assert simulator.stats()["packets"] == 0
        assert json.dumps(simulator.stats())
