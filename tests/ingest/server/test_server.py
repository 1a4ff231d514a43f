"""The server's sockets: Kite's rules for connections, requests and texts, over real ones."""

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from ingest.server.record import RecordKind, read_record
from ingest.server.source import HEARTBEAT, AccountOrder, StreamMode
from tests.support.scripted_source import ScriptedSource
from tests.support.simulation import split_frame, values_of
from tests.support.simulator_client import address, client, fault, serving, until
from tests.support.waiting import PATIENCE_SECONDS

NIFTY, INFY, RELIANCE, SENSEX = 1000, 1007, 1008, 1001


@pytest.mark.parametrize(
    "changes",
    [{"access_token": "token-two"}, {"access_token": ""}, {"api_key": "other"}, {"api_key": "key-two"}],
)
async def test_a_wrong_key_or_token_is_refused_with_403(changes: dict[str, str]) -> None:
    async with serving() as server:
        with pytest.raises(InvalidStatus) as refusal:
            await connect(address(server, **changes), proxy=None)
        assert refusal.value.response.status_code == 403
        assert b"token" not in refusal.value.response.body
        assert server.stats()["refused"] == {"403": 1}
        assert server.stats()["connections"] == []


async def test_an_address_that_is_none_is_refused_with_403() -> None:
    async with serving() as server:
        url = urlsplit(server.urls["ws"])
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        asked = f"GET //[x HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n"
        writer.write(asked.encode())
        answer = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        assert answer.startswith(b"HTTP/1.1 403 ")
        writer.close()


async def test_pages_of_other_sites_are_refused() -> None:
    async with serving() as server:
        own, port = address(server), urlsplit(server.urls["ws"]).port
        named = own.replace("127.0.0.1", "evil.example")  # which leads to this machine
        for url, origin in ((own, "https://evil.example"), (named, f"http://evil.example:{port}"), (named, None)):
            with pytest.raises(InvalidStatus) as refusal:
                await connect(url, origin=Origin(origin) if origin else None, host="127.0.0.1", port=port, proxy=None)
            assert refusal.value.response.status_code == 403
            assert b"another site" in refusal.value.response.body
        assert server.stats()["refused"] == {"403": 3}
        async with client(own, origin=Origin(f"http://127.0.0.1:{port}")) as one:
            await until(lambda: one.texts)


async def test_the_fourth_connection_is_refused_with_429_and_harms_nobody() -> None:
    async with serving() as server, client(address(server)) as first, client(address(server)):
        async with client(address(server)) as third:
            await first.ask("subscribe", [INFY])
            with pytest.raises(InvalidStatus) as refusal:
                await connect(address(server), proxy=None)
            assert refusal.value.response.status_code == 429
            async with client(address(server, "two")) as other:  # each key has its own three
                await until(lambda: other.texts)
            seen = len(first.frames)
            await until(lambda: len(first.frames) > seen + 2)
            assert third.closed is None
        await until(lambda: server.stats()["connections"][2]["close_reason"] == "client 1000")
        async with client(address(server)) as again:  # its place is free
            await until(lambda: again.texts)


async def test_the_meta_texts_come_first() -> None:
    async with serving() as server, client(address(server)) as one:
        await until(lambda: len(one.texts) == 2)
        assert one.of_type("instruments_meta") == [{"count": 500, "etag": "scripted-1"}]
        assert set(one.texts[1]) == {"type", "timestamp"}
        assert one.texts[1]["type"] == "app_code"


async def test_a_bare_subscribe_brings_the_cached_packet_and_quotes() -> None:
    async with serving(ScriptedSource(batches=0)) as server, client(address(server)) as one:
        await one.ask("subscribe", [INFY, NIFTY])
        await until(lambda: len(one.packets()) == 2)
        assert [len(packet) for packet in one.packets()] == [44, 28]
        rows = server.script.rows(np.array([INFY, NIFTY])).tolist()
        assert one.packets() == [server.script.images.packet(row, StreamMode.QUOTE) for row in rows]


async def test_all_three_modes_in_one_stream() -> None:
    async with serving() as server, client(address(server)) as one:
        await one.ask("subscribe", [NIFTY, INFY, RELIANCE, SENSEX])
        await one.ask("mode", ["full", [NIFTY, INFY]])
        await one.ask("mode", ["ltp", [RELIANCE]])
        start = len(one.packets())
        await until(lambda: len(one.packets()) > start + 40)
        lengths = {}
        for packet in one.packets()[-12:]:
            lengths[values_of(packet)["instrument_token"]] = len(packet)
        assert lengths == {NIFTY: 32, INFY: 184, RELIANCE: 8, SENSEX: 28}
        await one.ask("mode", ["quote", [INFY]])
        await until(lambda: any(len(packet) == 44 for packet in one.packets()[start + 40 :]))
        await one.ask("unsubscribe", [INFY, RELIANCE, SENSEX])
        await until(lambda: server.stats()["connections"][0]["subscribed"] == 1)
        await asyncio.wait_for(await one.socket.ping(), PATIENCE_SECONDS)  # all that was sent before has come
        one.frames.clear()
        await until(lambda: len(one.packets()) > 3)
        assert set(one.counts()) == {str(NIFTY)}


async def test_a_token_subscribed_twice_is_delivered_once() -> None:
    async with serving() as server, client(address(server)) as one:
        await one.ask("subscribe", [INFY, INFY])
        await one.ask("subscribe", [INFY])
        steps = server.script.steps
        await until(lambda: server.script.steps >= steps + 6)
        await fault(server, "pause")
        stats = server.stats()
        await until(lambda: len(one.packets()) == stats["packets"])
        assert len(one.packets()) <= 1 + server.script.steps, "at most one a step, and the cached one"


async def test_the_surplus_over_3000_is_told_and_the_connection_lives() -> None:
    async with serving(ScriptedSource(3200, batches=0)) as server, client(address(server)) as one:
        tokens = server.script.tokens.tolist()
        await one.ask("subscribe", tokens[:2900])
        await one.ask("subscribe", tokens[2900:])
        await until(lambda: len(one.counts()) == 3000)
        assert set(one.counts()) == {str(token) for token in tokens[:3000]}
        await until(lambda: one.of_type("error"))
        assert one.of_type("error") == [
            "Maximum of 3000 instruments a connection: 200 instrument(s) were not subscribed"
        ]
        await one.ask("unsubscribe", tokens[:1])
        await one.ask("subscribe", tokens[3000:3001])
        await until(lambda: str(tokens[3000]) in one.counts())


async def test_unknown_tokens_are_taken_silently_and_never_tick() -> None:
    async with serving() as server, client(address(server)) as one:
        await one.ask("subscribe", [1, 2, INFY])
        await one.ask("mode", ["full", [1, 2, INFY]])
        await until(lambda: len(one.packets()) > 5)
        assert set(one.counts()) == {str(INFY)}
        assert not one.of_type("error")
        assert server.stats()["connections"][0]["subscribed"] == 3


async def test_bad_requests_are_answered_and_forgiven() -> None:
    async with serving(ScriptedSource(batches=0)) as server, client(address(server)) as one:
        for bad in ("{", '{"a": "dance"}', b"\x00\x00", '{"a": "subscribe", "v": ["INFY"]}'):
            await one.socket.send(bad)
        await until(lambda: len(one.of_type("error")) == 4)
        await one.ask("subscribe", [INFY])
        await until(one.packets)


async def test_texts_on_demand() -> None:
    async with serving() as server, client(address(server)) as one:
        await until(lambda: one.texts)
        await fault(server, "text", type="error", data="something broke")
        await fault(server, "text", type="message", data={"text": "closing early"})
        await fault(server, "text", raw='{"type": "unheard_of"}')
        await until(lambda: len(one.texts) == 5)
        assert one.of_type("error") == ["something broke"]
        assert one.of_type("message") == [{"text": "closing early"}]
        assert one.texts[-1] == {"type": "unheard_of"}


@pytest.mark.slow
async def test_what_was_sent_is_what_came() -> None:
    async with (
        serving(ScriptedSource(1500), steps_per_second=20) as server,
        client(address(server)) as one,
        client(address(server, "two")) as two,
    ):
        tokens = server.script.tokens.tolist()
        for reader, part in ((one, tokens[:900]), (two, tokens[400:])):
            await reader.ask("subscribe", part)
            await reader.ask("mode", ["full", part[:300]])
            await reader.ask("mode", ["ltp", part[300:400]])
        await until(lambda: server.script.steps > 30)
        await fault(server, "pause")
        stats = server.stats(instruments=True)
        await until(lambda: len(one.packets()) + len(two.packets()) == stats["packets"])
        assert stats["packets"] > 5000
        for reader, connection in zip((one, two), stats["connections"], strict=True):
            frames = [frame for frame in reader.frames if frame != HEARTBEAT]
            assert connection["instruments"] == reader.counts()
            assert connection["packets"] == len(reader.packets())
            assert connection["frames"] == len(frames)
            assert connection["bytes"] == sum(map(len, frames))
        layouts = [[len(packet) for packet in split_frame(frame)] for frame in one.frames if frame != HEARTBEAT]
        assert {length for frame in layouts for length in frame} == {8, 28, 32, 44, 184}
        changes = [sum(a != b for a, b in pairwise(frame)) for frame in layouts]
        assert max(changes) > 10, "layouts are mixed within frames"
        assert server.stats()["packets"] == stats["packets"], "it stays paused"


@pytest.mark.slow
async def test_pause_holds_cached_packets_back_until_resume() -> None:
    async with serving() as server, client(address(server)) as one:
        await fault(server, "pause")
        await one.ask("subscribe", [INFY])
        await until(lambda: server.stats()["connections"][0]["subscribed"] == 1)
        steps, skipped = server.script.steps, server.script.skipped
        await until(lambda: server.script.skipped > skipped + 4)
        assert server.script.steps == steps, "the source knows of steps that are not taken"
        assert not one.packets()
        await fault(server, "resume")
        await until(lambda: len(one.packets()) > 1)


@pytest.mark.slow
async def test_a_client_that_does_not_read_is_not_waited_for() -> None:
    limit = 200_000
    async with serving(ScriptedSource(1000), steps_per_second=50, send_buffer_bytes=limit) as server:
        lazy = await connect(address(server), compression=None, proxy=None, max_queue=1, ping_interval=None)
        async with client(address(server)) as brisk:
            tokens = server.script.tokens.tolist()
            for socket in (lazy, brisk.socket):
                await socket.send(json.dumps({"a": "subscribe", "v": tokens}))
                await socket.send(json.dumps({"a": "mode", "v": ["full", tokens]}))
            await until(lambda: server.stats()["connections"][0]["unsent"].get("slow", 0) > 20_000)
            stuck = server.stats()["connections"]
            assert stuck[0]["unread_bytes"] <= limit + 200 * 186 + 2, "one frame more than the limit at most"
            assert stuck[1]["packets"] > stuck[0]["packets"]
            assert not stuck[1]["unsent"]
            await fault(server, "pause")
            sent = server.stats()["connections"]
            await until(lambda: len(brisk.packets()) == sent[1]["packets"])
            got = 0
            while got < sent[0]["packets"]:  # whatever counts as sent comes, once the client reads
                message = await asyncio.wait_for(lazy.recv(), PATIENCE_SECONDS)
                if isinstance(message, bytes) and len(message) > 1:
                    got += int.from_bytes(message[:2], "big")
            assert got == sent[0]["packets"]
        await lazy.close()


@pytest.mark.slow
async def test_a_client_that_has_stalled_for_long_is_dropped() -> None:
    settings = {"steps_per_second": 50, "send_buffer_bytes": 50_000, "stall_seconds": 0.3}
    async with serving(ScriptedSource(2000), **settings) as server:
        lazy = await connect(address(server), compression=None, proxy=None, max_queue=1, ping_interval=None)
        tokens = server.script.tokens.tolist()
        await lazy.send(json.dumps({"a": "subscribe", "v": tokens}))
        await lazy.send(json.dumps({"a": "mode", "v": ["full", tokens]}))
        await until(lambda: server.stats()["connections"][0]["close_reason"] == "stalled")
        lazy.transport.abort()


async def test_the_end_is_a_close_frame_after_all_that_was_sent() -> None:
    async with serving() as server, client(address(server)) as one:
        await one.ask("subscribe", server.script.tokens.tolist())
        await until(lambda: len(one.packets()) > 2000)
        await server.stop()
        await until(lambda: one.closed)
        assert one.closed is not None
        assert one.closed.rcvd is not None
        assert one.closed.rcvd.code == 1001
        stats = server.stats(instruments=True)
        assert stats["connections"][0]["instruments"] == one.counts()
        assert stats["connections"][0]["close_reason"] == "shutdown"


async def test_heartbeats_come_when_there_is_nothing_to_send_and_only_then(tmp_path: Path) -> None:
    async with (
        serving(heartbeat_seconds=0.3, record=tmp_path) as server,
        client(address(server)) as idle,
        client(address(server)) as busy,
    ):
        await busy.ask("subscribe", [INFY])
        await until(lambda: len(idle.frames) >= 3)
        assert set(idle.frames) == {HEARTBEAT}
        await fault(server, "pause")
        seen = len(busy.frames)
        await until(lambda: HEARTBEAT in busy.frames[seen:])
        first = server.stats()["connections"][0]
        assert first["heartbeats"] >= 3
        assert first["packets"] == 0
    last_sent: dict[int, int] = {}
    for record in read_record(tmp_path):
        number = record.connection.connection
        if record.kind is RecordKind.HEARTBEAT:
            assert record.time_ns - last_sent[number] > 0.29e9
        last_sent[number] = record.time_ns


async def test_an_ordered_order_update_reaches_every_socket_of_its_account() -> None:
    async with (
        serving() as server,
        client(address(server)) as first,
        client(address(server)) as second,
        client(address(server, "two")) as other,
    ):
        await until(lambda: first.texts and second.texts and other.texts)
        assert await fault(server, "order", account="one", data={"tag": "mine"}) == 2
        assert await fault(server, "order", connection=1) == 2, "the first one of each account"
        await until(lambda: len(first.of_type("order")) == 2 and second.of_type("order") and other.of_type("order"))
        assert first.of_type("order") == [{"order_id": "made", "tag": "mine"}, {"order_id": "made"}]
        assert second.of_type("order") == [{"order_id": "made", "tag": "mine"}]
        assert other.of_type("order") == [{"order_id": "made"}]


async def test_order_updates_of_the_source_go_out_after_each_step_but_not_while_it_is_paused() -> None:
    async with serving() as server, client(address(server)) as one, client(address(server, "two")) as other:
        await until(lambda: one.texts and other.texts)
        server.script.due.append(AccountOrder("one", {"order_id": "1"}))
        await until(lambda: one.of_type("order"))
        await fault(server, "pause")
        server.script.due.append(AccountOrder("two", {"order_id": "2"}))
        skipped = server.script.skipped
        await until(lambda: server.script.skipped > skipped + 2)
        assert server.script.due
        await fault(server, "resume")
        await until(lambda: other.of_type("order"))
        assert one.of_type("order") == [{"order_id": "1"}]
        assert other.of_type("order") == [{"order_id": "2"}]


async def test_an_instrument_may_tick_several_times_in_a_step() -> None:
    async with serving(ScriptedSource(batches=3)) as server, client(address(server)) as one:
        await one.ask("subscribe", [INFY])
        await until(lambda: len(one.packets()) > 10)
        await fault(server, "pause")
        await until(lambda: len(one.packets()) == server.stats()["packets"])
        volumes = [values_of(packet)["volume_traded"] for packet in one.packets()]
        assert volumes[1:] == list(range(volumes[1], volumes[1] + len(volumes) - 1)), (
            "each packet is the one of its time"
        )
        assert (len(volumes) - 1) % 3 == 0


async def test_a_source_that_fails_ends_the_serving_and_not_silently() -> None:
    async with serving() as server:
        end = asyncio.Event()
        served = asyncio.create_task(server.serve_until(end))
        await until(lambda: server.script.steps > 1)
        assert not served.done()
        server.script.broken = True
        with pytest.raises(EOFError, match="the script is torn"):
            await asyncio.wait_for(served, PATIENCE_SECONDS)
    async with serving() as server:
        end.set()
        await asyncio.wait_for(server.serve_until(end), PATIENCE_SECONDS)
