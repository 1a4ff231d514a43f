"""A captured day served over real sockets: what clients get, and who waits for whom."""

import asyncio
import contextlib
from pathlib import Path

import numpy as np
import pytest

from kitelake.replay.server import POLL_SECONDS
from tests.support.hand_made import HandMade
from tests.support.official_client import official_client
from tests.support.replaying import INFY, NIFTY, QUIET, TCS, lazy_client, paper_address
from tests.support.served import FIRST_US, SECONDS, at, broker_of, ended, replay, seconds_of, subscribe
from tests.support.simulation import split_frame
from tests.support.simulator_client import client, fault
from tests.support.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.slow  # days are captured for them

LENGTHS = {"ltp": {8: 8, 28: 8, 32: 8, 44: 8, 184: 8}, "quote": {8: 8, 32: 28, 44: 44, 184: 44}}


async def test_everything_comes_as_it_was_captured(made: HandMade, captured: list[bytes]) -> None:
    async with replay(made, wait_for_clients=1) as server, client(paper_address(server)) as one:
        await subscribe(one, made)
        await ended(server, one)
        assert one.packets() == captured
        counts = [frame[1] for frame in one.frames if len(frame) > 1]
        assert counts == [4] + [3] * (SECONDS - 1), "what was received at one moment came in one frame"
        assert server.stats()["packets"] == len(captured)
        assert one.of_type("instruments_meta") == [{"count": 4, "etag": server.day.etag}]


@pytest.mark.parametrize("mode", ["ltp", "quote"])
async def test_a_lesser_mode_is_the_beginning_of_each_packet(made: HandMade, captured: list[bytes], mode: str) -> None:
    async with replay(made, wait_for_clients=1) as server, client(paper_address(server)) as one:
        await subscribe(one, made, mode)
        await ended(server, one)
        assert one.packets() == [packet[: LENGTHS[mode][len(packet)]] for packet in captured]


async def test_many_clients_get_the_same_and_each_what_it_asked_for(made: HandMade, captured: list[bytes]) -> None:
    async with replay(made, wait_for_clients=3) as server, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(paper_address(server, key))) for key in "aab"]
        await subscribe(clients[0], made)
        await subscribe(clients[1], made, "full", INFY)
        await subscribe(clients[2], made)
        await ended(server, *clients)
        assert clients[0].packets() == clients[2].packets() == captured
        token = made.tokens[INFY].to_bytes(4, "big")
        assert clients[1].packets() == [packet for packet in captured if packet[:4] == token]


async def test_the_cached_packet_is_the_last_one_served_if_there_was_one(made: HandMade) -> None:
    async with replay(made, wait_for_instruments=2) as server, client(paper_address(server)) as one:
        await subscribe(one, made, "full", INFY)
        await asyncio.wait_for(await one.socket.ping(), PATIENCE_SECONDS)
        assert one.packets() == [], "nothing was served yet"
        await subscribe(one, made, "full", TCS)
        await ended(server, one)
        async with client(paper_address(server)) as late:
            await late.ask("subscribe", [made.tokens[INFY], made.tokens[QUIET]])
            await until(lambda: len(late.packets()) == 2)
            assert [len(packet) for packet in late.packets()] == [44, 8]
            assert seconds_of(late, made) == [SECONDS - 1]
            await late.ask("mode", ["full", [made.tokens[INFY]]])
            await until(lambda: len(late.packets()) == 3)
            assert late.packets()[-1] == one.packets()[-2]


async def test_heartbeats_go_on_while_it_is_paused_and_after_the_end(made: HandMade) -> None:
    settings = {"paused": True, "heartbeat_seconds": 0.02}
    async with replay(made, **settings) as server, client(paper_address(server)) as one:
        await until(lambda: one.frames.count(b"\0") > 2)
        assert server.clock.now_us() == FIRST_US
        await fault(server, "resume")
        await ended(server, one)
        seen = one.frames.count(b"\0")
        await until(lambda: one.frames.count(b"\0") > seen + 2)


@pytest.mark.slow
async def test_it_keeps_the_pace(made: HandMade) -> None:
    """No packet goes before its time by the market's clock, nor does the clock go beyond what was sent."""
    async with replay(made, speed=60.0, wait_for_clients=1) as server, client(paper_address(server)) as one:
        await subscribe(one, made, "full", INFY)
        began = asyncio.get_running_loop().time()
        while not server.ended.is_set():
            seen, now = server.stats()["packets"], server.clock.now_us()
            assert at(seen - 1) <= now <= at(seen + 60 * 0.25 + 1)
            await asyncio.sleep(0.005)
        assert asyncio.get_running_loop().time() - began >= (SECONDS - 1) / 60 - 0.1
        await ended(server, one)
        assert seconds_of(one, made) == list(range(SECONDS))


async def test_it_looks_for_what_is_due_a_hundred_times_a_second_at_most(made: HandMade) -> None:
    async with replay(made, speed=1.0) as server:
        began, real = server.clock.now_us(), asyncio.get_running_loop().time()
        await until(lambda: server.clock.now_us() > began + 200_000)
        looked = len(broker_of(server).log)
        assert looked <= 5 + (asyncio.get_running_loop().time() - real) / POLL_SECONDS


async def test_who_comes_again_goes_on(made: HandMade) -> None:
    async with replay(made, speed=20.0, wait_for_clients=1) as server, client(paper_address(server)) as one:
        await subscribe(one, made, "full", INFY)
        await until(lambda: len(one.packets()) > 5)
        await fault(server, "drop")
        await until(lambda: one.closed)
        await until(lambda: server.clock.now_us() > at(len(one.packets()) + 2))
        async with client(paper_address(server)) as again:
            await subscribe(again, made, "full", INFY)
            server.clock.set_speed(float("inf"))
            await ended(server, again)
            got = seconds_of(again, made)
            assert sorted(set(got)) == list(range(got[0], SECONDS))
            assert got[0] > len(one.packets()) - 1
            missed = server.stats()["unsent"]["down"]
            assert len(one.packets()) + missed + len(set(got)) in {SECONDS, SECONDS + 1}, (
                "the cached one was missed too"
            )


@pytest.mark.slow
async def test_the_official_ticker_reads_it(made: HandMade, captured: list[bytes], tmp_path: Path) -> None:
    tokens = list(made.tokens.values())
    async with replay(made, wait_for_clients=1) as server:
        starting = official_client(server.urls["ws"], "any", "token", {"full": tokens}, tmp_path / "received")
        ticker = await asyncio.to_thread(starting.__enter__)
        try:
            await asyncio.wait_for(server.ended.wait(), PATIENCE_SECONDS)
            await until(lambda: len(ticker.received()) == SECONDS)
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)
    received = ticker.received()
    assert [packet for one in received for packet in split_frame(one.frame)] == captured
    assert [tick["instrument_token"] for one in received for tick in one.ticks] == [
        int.from_bytes(packet[:4], "big") for packet in captured
    ]


async def test_it_waits_for_clients_that_have_subscribed(made: HandMade) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(replay(made, wait_for_clients=2))
        one = await stack.enter_async_context(client(paper_address(server)))
        other = await stack.enter_async_context(client(paper_address(server, "other")))
        await subscribe(one, made)
        await until(lambda: server.status()["clients"][0]["subscribed"] == 4)
        await asyncio.wait_for(await other.socket.ping(), PATIENCE_SECONDS)
        assert server.status()["waits_for"] == {"clients": 2, "instruments": 0}
        assert not server.status()["started"]
        await subscribe(other, made)
        await ended(server, one, other)
        assert one.packets() == other.packets()
        assert len(one.packets()) == 3 * SECONDS + 1


async def test_a_client_that_does_not_read_holds_the_clock_and_nobody_loses(made: HandMade) -> None:
    settings = {"wait_for_clients": 2, "send_buffer_bytes": 0}
    async with replay(made, **settings) as server, client(paper_address(server)) as one:
        async with lazy_client(server, list(made.tokens.values())) as lazy:
            await subscribe(one, made)
            name = server.status()["clients"][-1]["name"]
            await until(lambda: server.status()["held_by"] == [name])
            assert not server.ended.is_set()
            got = 0
            while got < 3 * SECONDS + 1:
                frame = await asyncio.wait_for(lazy.recv(), PATIENCE_SECONDS)
                assert isinstance(frame, bytes)
                got += int.from_bytes(frame[:2], "big") if len(frame) > 1 else 0
        await ended(server, one)
        assert len(one.packets()) == 3 * SECONDS + 1
        assert server.stats()["unsent"] == {}
        assert server.status()["held_by"] == []


async def test_a_client_that_holds_it_for_too_long_is_dropped_if_that_is_asked_for(made: HandMade) -> None:
    settings = {"wait_for_clients": 2, "send_buffer_bytes": 0, "stall_seconds": 0.1}
    async with replay(made, **settings) as server, client(paper_address(server)) as one:
        async with lazy_client(server, list(made.tokens.values())):
            await subscribe(one, made)
            await ended(server, one)
        reasons = [each["close_reason"] for each in server.stats()["connections"]]
        assert reasons == [None, "stalled"]
        assert len(one.packets()) == 3 * SECONDS + 1


async def test_damaged_frames_hold_what_was_served(made: HandMade) -> None:
    async with replay(made, paused=True) as server, client(paper_address(server)) as one:
        await subscribe(one, made, "full", INFY, NIFTY)
        assert await fault(server, "truncated") == 0, "nothing was served yet"
        await fault(server, "resume")
        await ended(server, one)
        whole = len(one.frames)
        assert await fault(server, "truncated", count=3) == 3
        await until(lambda: len(one.frames) == whole + 3)
        assert np.all([len(frame) < 2 + 186 + 34 for frame in one.frames[whole:]])
