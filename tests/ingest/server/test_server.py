"""The simulator's sockets: Kite's rules for connections, requests and texts, over real ones."""

import asyncio
import json
from itertools import pairwise

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ingest.server.source import HEARTBEAT, StreamMode
from tests.support.simulation import split_frame, values_of
from tests.support.simulator_client import address, client, fault, running, until

NIFTY, INFY, RELIANCE = 256265, 408065, 738561


@pytest.mark.parametrize(
    "changes",
    [{"access_token": "token-two"}, {"access_token": ""}, {"api_key": "other"}, {"api_key": "key-two"}],
)
async def test_a_wrong_key_or_token_is_refused_with_403(changes: dict[str, str]) -> None:
    async with running() as simulator:
        with pytest.raises(InvalidStatus) as refusal:
            await connect(address(simulator, **changes), proxy=None)
        assert refusal.value.response.status_code == 403
        assert b"token" not in refusal.value.response.body
        assert simulator.stats()["refused"] == {"403": 1}
        assert simulator.stats()["connections"] == []


async def test_the_fourth_connection_is_refused_with_429_and_harms_nobody() -> None:
    async with running(rate=1000) as simulator, client(address(simulator)) as first, client(address(simulator)):
        async with client(address(simulator)) as third:
            await first.ask("subscribe", [INFY])
            with pytest.raises(InvalidStatus) as refusal:
                await connect(address(simulator), proxy=None)
            assert refusal.value.response.status_code == 429
            async with client(address(simulator, "two")) as other:  # each key has its own three
                await until(lambda: other.texts)
            seen = len(first.frames)
            await until(lambda: len(first.frames) > seen + 2)
            assert third.closed is None
        await until(lambda: simulator.stats()["connections"][2]["close_reason"] == "client 1000")
        async with client(address(simulator)) as again:  # its place is free
            await until(lambda: again.texts)


async def test_the_meta_texts_come_first() -> None:
    async with running() as simulator, client(address(simulator)) as one:
        await until(lambda: len(one.texts) == 2)
        assert one.of_type("instruments_meta")[0]["count"] == 500
        assert set(one.texts[1]) == {"type", "timestamp"}
        assert one.texts[1]["type"] == "app_code"


async def test_a_bare_subscribe_brings_the_cached_packet_and_quotes() -> None:
    async with running(rate=0.001) as simulator, client(address(simulator)) as one:
        await one.ask("subscribe", [INFY, NIFTY])
        await until(lambda: len(one.packets()) == 2)
        assert [len(packet) for packet in one.packets()] == [44, 28]
        rows = simulator.source.rows(np.array([INFY, NIFTY])).tolist()
        assert one.packets() == [simulator.market.images.packet(row, StreamMode.QUOTE) for row in rows]


async def test_all_three_modes_in_one_stream() -> None:
    async with running(rate=1000) as simulator, client(address(simulator)) as one:
        await one.ask("subscribe", [NIFTY, INFY, RELIANCE, 265])
        await one.ask("mode", ["full", [NIFTY, INFY]])
        await one.ask("mode", ["ltp", [RELIANCE]])
        start = len(one.packets())
        await until(lambda: len(one.packets()) > start + 40)
        lengths = {}
        for packet in one.packets()[-12:]:
            lengths[values_of(packet)["instrument_token"]] = len(packet)
        assert lengths == {NIFTY: 32, INFY: 184, RELIANCE: 8, 265: 28}
        await one.ask("mode", ["quote", [INFY]])
        await until(lambda: any(len(packet) == 44 for packet in one.packets()[start + 40 :]))
        await one.ask("unsubscribe", [INFY, RELIANCE, 265])
        await until(lambda: simulator.stats()["connections"][0]["subscribed"] == 1)
        await asyncio.wait_for(await one.socket.ping(), 10)  # all that was sent before has come
        one.frames.clear()
        await until(lambda: len(one.packets()) > 3)
        assert set(one.counts()) == {str(NIFTY)}


async def test_a_token_subscribed_twice_is_delivered_once() -> None:
    async with running(rate=1000) as simulator, client(address(simulator)) as one:
        await one.ask("subscribe", [INFY, INFY])
        await one.ask("subscribe", [INFY])
        steps = simulator.market.steps
        await until(lambda: simulator.market.steps >= steps + 6)
        await fault(simulator, "pause")
        stats = simulator.stats()
        await until(lambda: len(one.packets()) == stats["packets"])
        assert len(one.packets()) <= 1 + simulator.market.steps, "at most one a step, and the cached one"


async def test_the_surplus_over_3000_is_told_and_the_connection_lives() -> None:
    async with running(instruments=3200, rate=0.001) as simulator, client(address(simulator)) as one:
        tokens = simulator.market.tokens.tolist()
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
    async with running(rate=1000) as simulator, client(address(simulator)) as one:
        await one.ask("subscribe", [1, 2, INFY])
        await one.ask("mode", ["full", [1, 2, INFY]])
        await until(lambda: len(one.packets()) > 5)
        assert set(one.counts()) == {str(INFY)}
        assert not one.of_type("error")
        assert simulator.stats()["connections"][0]["subscribed"] == 3


async def test_bad_requests_are_answered_and_forgiven() -> None:
    async with running(rate=0.001) as simulator, client(address(simulator)) as one:
        for bad in ("{", '{"a": "dance"}', b"\x00\x00", '{"a": "subscribe", "v": ["INFY"]}'):
            await one.socket.send(bad)
        await until(lambda: len(one.of_type("error")) == 4)
        await one.ask("subscribe", [INFY])
        await until(one.packets)


@pytest.mark.slow
async def test_heartbeats_come_when_there_is_nothing_to_send_and_only_then() -> None:
    async with (
        running(rate=1000, heartbeat_seconds=0.6) as simulator,
        client(address(simulator)) as idle,
        client(address(simulator)) as busy,
    ):
        await busy.ask("subscribe", [INFY])
        await until(lambda: len(idle.frames) >= 3)
        assert set(idle.frames) == {HEARTBEAT}
        gaps = [later - earlier for earlier, later in pairwise(idle.times)]
        assert min(gaps) > 0.5
        assert HEARTBEAT not in busy.frames
        await fault(simulator, "pause")
        await until(lambda: HEARTBEAT in busy.frames)
        totals = simulator.stats()
        assert totals["connections"][0]["heartbeats"] >= 3
        assert totals["connections"][0]["packets"] == 0


async def test_order_updates_reach_every_socket_of_their_account() -> None:
    async with (
        running(order_seconds=0) as simulator,
        client(address(simulator)) as first,
        client(address(simulator)) as second,
        client(address(simulator, "two")) as other,
    ):
        await until(lambda: first.texts and second.texts and other.texts)
        assert await fault(simulator, "order", account="one", data={"status": "COMPLETE", "tag": "mine"}) == 2
        await until(lambda: first.of_type("order") and second.of_type("order"))
        assert first.of_type("order") == second.of_type("order")
        assert not other.of_type("order")
        order = first.of_type("order")[0]
        assert (order["status"], order["tag"]) == ("COMPLETE", "mine")
        assert order["order_timestamp"][:2] == "20"
        assert order["instrument_token"] in simulator.market.tokens
        assert simulator.stats()["orders"] == 1


async def test_order_updates_come_from_the_model_too() -> None:
    async with running(order_seconds=0.05) as simulator, client(address(simulator)) as one:
        await until(lambda: len(one.of_type("order")) >= 3)
        orders = one.of_type("order")
        assert len({order["order_id"] for order in orders}) == len(orders)
        for order in orders:
            filled, pending, cancelled = (order[f"{name}_quantity"] for name in ("filled", "pending", "cancelled"))
            assert order["status"] == "REJECTED" or filled + pending + cancelled == order["quantity"]


async def test_texts_on_demand() -> None:
    async with running() as simulator, client(address(simulator)) as one:
        await until(lambda: one.texts)
        await fault(simulator, "text", type="error", data="something broke")
        await fault(simulator, "text", type="message", data={"text": "closing early"})
        await fault(simulator, "text", raw='{"type": "unheard_of"}')
        await until(lambda: len(one.texts) == 5)
        assert one.of_type("error") == ["something broke"]
        assert one.of_type("message") == [{"text": "closing early"}]
        assert one.texts[-1] == {"type": "unheard_of"}


@pytest.mark.slow
async def test_what_was_sent_is_what_came() -> None:
    async with (
        running(instruments=1500, rate=20, steps_per_second=20) as simulator,
        client(address(simulator)) as one,
        client(address(simulator, "two")) as two,
    ):
        tokens = simulator.market.tokens.tolist()
        for reader, part in ((one, tokens[:900]), (two, tokens[400:])):
            await reader.ask("subscribe", part)
            await reader.ask("mode", ["full", part[:300]])
            await reader.ask("mode", ["ltp", part[300:400]])
        await until(lambda: simulator.market.steps > 30)
        await fault(simulator, "pause")
        stats = simulator.stats(instruments=True)
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
        assert simulator.stats()["packets"] == stats["packets"], "it stays paused"


@pytest.mark.slow
async def test_pause_holds_cached_packets_back_until_resume() -> None:
    async with running(rate=1000) as simulator, client(address(simulator)) as one:
        await fault(simulator, "pause")
        await one.ask("subscribe", [INFY])
        await until(lambda: simulator.stats()["connections"][0]["subscribed"] == 1)
        before = simulator.market.seconds
        await until(lambda: simulator.market.seconds > before + 1)
        assert not one.packets()
        await fault(simulator, "resume")
        await until(lambda: len(one.packets()) > 1)


@pytest.mark.slow
async def test_a_client_that_does_not_read_is_not_waited_for() -> None:
    limit = 200_000
    async with running(instruments=1000, rate=1000, steps_per_second=50, send_buffer_bytes=limit) as simulator:
        lazy = await connect(address(simulator), compression=None, proxy=None, max_queue=1, ping_interval=None)
        async with client(address(simulator)) as brisk:
            tokens = simulator.market.tokens.tolist()
            for socket in (lazy, brisk.socket):
                await socket.send(json.dumps({"a": "subscribe", "v": tokens}))
                await socket.send(json.dumps({"a": "mode", "v": ["full", tokens]}))
            await until(lambda: simulator.stats()["connections"][0]["unsent"].get("slow", 0) > 20_000)
            stuck = simulator.stats()["connections"]
            assert stuck[0]["unread_bytes"] <= limit + 200 * 186 + 2, "one frame more than the limit at most"
            assert stuck[1]["packets"] > stuck[0]["packets"]
            assert not stuck[1]["unsent"]
            await fault(simulator, "pause")
            sent = simulator.stats()["connections"]
            await until(lambda: len(brisk.packets()) == sent[1]["packets"])
            got = 0
            while got < sent[0]["packets"]:  # whatever counts as sent comes, once the client reads
                message = await asyncio.wait_for(lazy.recv(), 10)
                if isinstance(message, bytes) and len(message) > 1:
                    got += int.from_bytes(message[:2], "big")
            assert got == sent[0]["packets"]
        await lazy.close()


@pytest.mark.slow
async def test_a_client_that_has_stalled_for_long_is_dropped() -> None:
    settings = {"steps_per_second": 50, "send_buffer_bytes": 50_000, "stall_seconds": 0.3}
    async with running(instruments=2000, rate=1000, **settings) as simulator:
        lazy = await connect(address(simulator), compression=None, proxy=None, max_queue=1, ping_interval=None)
        tokens = simulator.market.tokens.tolist()
        await lazy.send(json.dumps({"a": "subscribe", "v": tokens}))
        await lazy.send(json.dumps({"a": "mode", "v": ["full", tokens]}))
        await until(lambda: simulator.stats()["connections"][0]["close_reason"] == "stalled")
        lazy.transport.abort()


async def test_the_end_is_a_close_frame_after_all_that_was_sent() -> None:
    async with running(rate=1000) as simulator, client(address(simulator)) as one:
        await one.ask("subscribe", simulator.market.tokens.tolist())
        await until(lambda: len(one.packets()) > 2000)
        await simulator.stop()
        await until(lambda: one.closed)
        assert one.closed is not None
        assert one.closed.rcvd is not None
        assert one.closed.rcvd.code == 1001
        stats = simulator.stats(instruments=True)
        assert stats["connections"][0]["instruments"] == one.counts()
        assert stats["connections"][0]["close_reason"] == "shutdown"
