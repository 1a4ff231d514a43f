"""What the server does wrong when told to, and that its record stays exact while it does."""

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
from tests.support.scripted_source import ScriptedServer, ScriptedSource
from tests.support.simulation import split_frame
from tests.support.simulator_client import Client, address, client, fault, serving, until
from tests.support.waiting import PATIENCE_SECONDS

KNOWN_LENGTHS = {8, 28, 32, 44, 184}
INFY = 1007


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


async def subscribe_all(one: Client, server: ScriptedServer) -> None:
    tokens = server.script.tokens.tolist()
    await one.ask("subscribe", tokens)
    await one.ask("mode", ["full", tokens])


@pytest.mark.parametrize(("how", "code"), [("rst", None), ("eof", None), ("close", 1001), ("close", 1011)])
async def test_all_that_counts_as_sent_comes_before_a_drop(how: str, code: int | None) -> None:
    async with serving(steps_per_second=40) as server, client(address(server)) as one:
        await subscribe_all(one, server)
        await until(lambda: server.script.steps > 10)
        assert await fault(server, "drop", how=how, **({"code": code} if code else {})) == 1
        await until(lambda: one.closed)
        assert one.closed is not None
        assert (one.closed.rcvd.code if one.closed.rcvd else None) == code
        dropped = server.stats(instruments=True)["connections"][0]
        assert dropped["close_reason"] == (f"close {code}" if code else how)
        assert dropped["instruments"] == one.counts()
        assert not dropped["open"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["rst", "close", "eof"])
async def test_a_drop_waits_for_a_slow_reader(how: str) -> None:
    async with serving(ScriptedSource(2000), steps_per_second=50) as server:
        lazy = await connect(address(server), compression=None, proxy=None, max_queue=1, ping_interval=None)
        tokens = server.script.tokens.tolist()
        await lazy.send(json.dumps({"a": "subscribe", "v": tokens}))
        await lazy.send(json.dumps({"a": "mode", "v": ["full", tokens]}))
        await until(lambda: server.stats()["connections"][0]["unread_bytes"] > 1_000_000)
        drop = asyncio.create_task(fault(server, "drop", how=how))
        await until(lambda: server.stats()["connections"][0]["close_reason"])
        one = Client(lazy)
        await one.read()
        assert await drop == 1
        assert server.stats(instruments=True)["connections"][0]["instruments"] == one.counts()


async def test_a_reset_is_a_reset() -> None:
    async with serving() as server:
        url = address(server).removeprefix("ws://").partition("/")
        host, _, port = url[0].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"GET /{url[2]} HTTP/1.1\r\nHost: {url[0]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b"101" in await reader.readline()
        await until(lambda: server.stats()["texts"] == 2)
        await fault(server, "drop", how="rst")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.slow
async def test_what_a_dropped_connection_misses_is_listed_until_another_takes_over(tmp_path: Path) -> None:
    async with serving(record=tmp_path) as server:
        tokens = server.script.tokens.tolist()

        def missed() -> int:
            down: int = server.stats()["connections"][0]["unsent"].get("down", 0)
            return down

        async with client(address(server)) as one, client(address(server)) as bystander:
            await one.ask("subscribe", tokens[:100])
            await one.ask("mode", ["full", tokens[:100]])
            await bystander.ask("subscribe", tokens[100:200])
            await until(lambda: one.packets() and bystander.packets())
            assert await fault(server, "drop", account="one", connection=1) == 1
            await until(lambda: missed() > 300)
            assert bystander.closed is None
        async with client(address(server)) as again:
            await again.ask("subscribe", tokens[:60])
            await until(lambda: len(again.counts()) == 60)
            whole = server.stats(instruments=True)["connections"]
            later = server.script.steps + 8
            await until(lambda: server.script.steps >= later)
            now = server.stats(instruments=True)["connections"]
            before, after = (stats[0]["unsent_instruments"]["down"] for stats in (whole, now))
            grown = {token for token in after if after[token] > before.get(token, 0)}
            assert grown
            assert grown <= {str(token) for token in tokens[60:100]}, "the others have been taken over"
            await again.ask("subscribe", tokens[60:100])
            await until(lambda: len(again.counts()) == 100)
            ended = missed()
            later = server.script.steps + 8
            await until(lambda: server.script.steps >= later)
            assert missed() == ended
        assert now[2]["connection"] == 3
    unsent = [record for record in read_record(tmp_path) if record.kind is RecordKind.UNSENT]
    assert sum(record.packets for record in unsent if record.connection.connection == 1) == ended
    assert all(len(split_frame(record.payload)) == record.packets for record in unsent), "with the packets themselves"


async def test_what_a_newer_connection_has_already_taken_over_is_not_missed() -> None:
    async with serving() as server, client(address(server)) as old, client(address(server)) as new:
        await old.ask("subscribe", [INFY, 1000])
        await until(lambda: len(old.counts()) == 2)
        await new.ask("subscribe", [INFY])
        await until(new.packets)
        await fault(server, "drop", connection=1)
        await until(lambda: server.stats()["unsent"].get("down", 0) > 4)
        assert set(server.stats(instruments=True)["connections"][0]["unsent_instruments"]["down"]) == {"1000"}


async def test_a_client_that_leaves_of_its_own_accord_misses_nothing() -> None:
    async with serving() as server:
        async with client(address(server)) as one:
            await one.ask("subscribe", [INFY])
            await until(one.packets)
        steps = server.script.steps
        await until(lambda: server.script.steps > steps + 4)
        assert server.stats()["unsent"] == {}


async def test_silence_is_complete_and_ends() -> None:
    async with serving(heartbeat_seconds=0.2) as server, client(address(server)) as one:
        await one.ask("subscribe", [INFY])
        await until(one.packets)
        assert await fault(server, "silent") == 1
        sent = server.stats()["connections"][0]
        await until(lambda: server.stats()["unsent"].get("silent", 0) > 4)
        now = server.stats()["connections"][0]
        assert [now[name] for name in ("packets", "heartbeats", "texts")] == [
            sent[name] for name in ("packets", "heartbeats", "texts")
        ]
        await asyncio.wait_for(await one.socket.ping(), PATIENCE_SECONDS)  # the socket is open and answers
        await fault(server, "clear")
        await until(lambda: len(one.packets()) > now["packets"])
        await fault(server, "silent", seconds=0.3)
        quiet = server.stats()["packets"]
        await until(lambda: server.stats()["packets"] > quiet)


@pytest.mark.slow
async def test_a_deaf_simulator_answers_no_ping() -> None:
    async with serving() as server, client(address(server)) as one:
        await until(lambda: one.texts)
        await fault(server, "silent", deaf=True)
        pong = asyncio.ensure_future(await one.socket.ping())
        later = server.script.steps + 4
        await until(lambda: server.script.steps >= later)
        assert not pong.done()
        await fault(server, "clear")
        await asyncio.wait_for(pong, PATIENCE_SECONDS)  # it hears again


@pytest.mark.parametrize("form", ["noise", "empty", "count", "length", "trailing", "truncated"])
async def test_damaged_frames_are_booked_with_their_whole_packets(form: str, tmp_path: Path) -> None:
    async with serving(ScriptedSource(batches=0), record=tmp_path) as server, client(address(server)) as one:
        await subscribe_all(one, server)
        await until(lambda: len(one.packets()) == 2 * len(server.script))
        good = len(one.frames)
        kind = {"kind": "truncated"} if form == "truncated" else {"kind": "garbage", "form": form}
        assert await fault(server, **kind, count=20) == 20
        await until(lambda: len([frame for frame in one.frames if frame != HEARTBEAT]) >= good + 20)
        await fault(server, "pause")
        bad = [frame for frame in one.frames[good:] if frame != HEARTBEAT][:20]
        stats = server.stats()["connections"][0]
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
    async with serving() as server, client(address(server)) as open_already:
        await fault(server, "refuse", status=status, times=2, account="one")
        for _ in range(2):
            with pytest.raises(InvalidStatus) as refusal:
                await connect(address(server), proxy=None)
            assert refusal.value.response.status_code == status
        async with client(address(server)) as accepted:
            await until(lambda: accepted.texts)
        assert open_already.closed is None
        assert server.stats()["refused"] == {str(status): 2}


async def test_handshakes_are_delayed() -> None:
    async with serving() as server:
        await fault(server, "delay", by_seconds=0.4, times=1)
        before = time.monotonic()
        async with client(address(server)):
            assert time.monotonic() - before >= 0.4


async def test_a_part_of_a_subscription_is_ignored() -> None:
    async with serving() as server, client(address(server)) as one:
        tokens = server.script.tokens.tolist()
        await fault(server, "ignore", every=4, times=1)
        await one.ask("subscribe", tokens[:100])
        ignored = {str(token) for token in tokens[3:100:4]}
        await until(lambda: server.stats()["unsent"].get("ignored", 0) > 50)
        stats = server.stats(instruments=True)["connections"][0]
        assert set(stats["unsent_instruments"]["ignored"]) <= ignored
        assert set(stats["instruments"]) == {str(token) for token in tokens[:100]} - ignored
        assert stats["subscribed"] == 100
        await one.ask("subscribe", tokens[100:110])  # the order is used up
        await until(lambda: {str(token) for token in tokens[100:110]} <= set(one.counts()))


async def test_open_sockets_outlive_their_token() -> None:
    async with serving() as server, client(address(server)) as one:
        await one.ask("subscribe", [INFY])
        await until(one.packets)
        await fault(server, "token", account="one", access_token="newer")
        with pytest.raises(InvalidStatus) as refusal:
            await connect(address(server), proxy=None)
        assert refusal.value.response.status_code == 403
        seen = len(one.packets())
        await until(lambda: len(one.packets()) > seen + 1)
        async with client(address(server, access_token="newer")) as renewed:
            await until(lambda: renewed.texts)


async def test_damaged_texts_and_noise_do_not_need_a_subscription() -> None:
    async with serving() as server, client(address(server)) as one:
        await until(lambda: one.texts)
        for form in ("noise", "empty", "count", "length", "trailing"):
            assert await fault(server, "garbage", form=form) == 1
        assert await fault(server, "truncated") == 0, "there is nothing to cut"
        await until(lambda: len([frame for frame in one.frames if frame != HEARTBEAT]) == 5)
        assert server.stats()["packets"] == 0
        assert json.dumps(server.stats())


async def test_handshakes_are_refused_until_that_is_cleared() -> None:
    async with serving() as server:
        await fault(server, "refuse", status=502, seconds=3600)
        for _ in range(3):
            with pytest.raises(InvalidStatus):
                await connect(address(server), proxy=None)
        await fault(server, "clear")
        async with client(address(server)) as accepted:
            await until(lambda: accepted.texts)


@pytest.mark.slow
async def test_delayed_frames_come_in_order_and_count_when_they_go() -> None:
    async with serving() as server, client(address(server)) as one:
        await one.ask("subscribe", [INFY])
        await until(one.packets)
        assert await fault(server, "delay", what="frames", by_seconds=0.1) == 1
        seen = server.stats()["packets"]
        await until(lambda: server.stats()["packets"] > seen + 4)
        await fault(server, "delay", what="frames", by_seconds=60)
        steps = server.script.steps
        await until(lambda: server.script.steps >= steps + 20)  # those of before have gone
        seen = server.stats()["packets"]
        await until(lambda: server.script.steps >= steps + 30)
        assert server.stats()["packets"] == seen, "they wait"
        await fault(server, "drop", how="rst")
        await until(lambda: one.closed)
        stats = server.stats(instruments=True)["connections"][0]
        assert stats["instruments"] == one.counts()
        assert stats["unsent"]["down"] >= 10, "those that waited"
        volumes = [struct.unpack_from(">I", packet, 16) for packet in one.packets()]
        assert volumes == sorted(set(volumes)), "each comes once, the older ones first"
