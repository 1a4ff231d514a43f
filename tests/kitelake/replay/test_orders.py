"""Orders while a captured day is served, over real sockets: in lockstep, at the end, across resets and seeks."""

import asyncio
import contextlib
from typing import Any

import httpx
import pytest

from kitelake.paper import PaperBroker, PaperSettings
from kitelake.replay.server import ReplayServer
from tests.support.hand_made import HandMade
from tests.support.replaying import INFY, Strategy, paper_address
from tests.support.served import FIRST_US, SECONDS, at, broker_of, ended, replay, seconds_of, subscribe
from tests.support.simulator_client import client, fault
from tests.support.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.slow  # days are captured for them

VERSION = {"X-Kite-Version": "3"}


def postback(number: str, status: str, price: int, us: int) -> Any:
    return tuple({"order_id": number, "status": status, "price": price, "at": us}.items())


@pytest.mark.slow
@pytest.mark.parametrize("speed", [float("inf"), 400.0])
async def test_in_lockstep_a_strategy_sees_the_same_at_any_speed(made: HandMade, speed: float) -> None:
    """An order of a callback is filled by the very next packet, and told of before the one after that."""
    async with replay(made, speed=speed, lockstep=True, wait_for_clients=1) as server:
        strategy = await asyncio.to_thread(Strategy, server, made.tokens[INFY])
        await asyncio.wait_for(server.ended.wait(), PATIENCE_SECONDS)
        log = broker_of(server).log
    await asyncio.to_thread(strategy.stop)
    expected: list[Any] = []
    slices = [at(second) + 250_000 for second in range(SECONDS)]
    slices[-1] = at(SECONDS - 1) + 1
    for price in range(100, 100 + SECONDS):
        expected.append(price)
        number, second = str((price - 100) // 5 + 1), price - 100
        if price % 5 == 0:
            expected.append(postback(number, "OPEN", 0, slices[second]))
        elif price % 5 == 1:
            expected.append(postback(number, "COMPLETE", price * 100, slices[second]))
    assert strategy.seen == expected
    assert [each for each in log if each[0] == "packet"] == [
        ("packet", made.tokens[INFY], at(second)) for second in range(1, SECONDS, 5)
    ]


@pytest.mark.slow
async def test_in_lockstep_orders_on_paper_give_equal_tables_at_any_speed(made: HandMade) -> None:
    def broker(server: ReplayServer) -> PaperBroker:
        settings = PaperSettings(latency_seconds=0.7)
        return PaperBroker(settings, server.day.listed, snapshot=server.snapshot, clock=server.clock.now_us)

    order = {"exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": "3"}
    order |= {"order_type": "LIMIT", "price": "101", "product": "CNC", "validity": "DAY"}
    runs = []
    for speed in (float("inf"), 400.0):
        async with replay(made, make_broker=broker, speed=speed, lockstep=True, wait_for_clients=1) as server:
            strategy = await asyncio.to_thread(Strategy, server, made.tokens[INFY], order)
            await asyncio.wait_for(server.ended.wait(), PATIENCE_SECONDS)
            assert server.broker is not None
            tables = server.broker.tables()
        await asyncio.to_thread(strategy.stop)
        runs.append((strategy.seen, tables))
    (seen, tables), (others, other_tables) = runs
    assert seen == others
    assert tables == other_tables
    assert len(tables["orders"]) == SECONDS // 5
    assert len(tables["trades"]) > 0


async def test_postbacks_go_to_the_sockets_of_their_account_alone(made: HandMade) -> None:
    async with replay(made, paused=True) as server, contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.urls["api"]))
        keys = [("any", "token"), ("any", "x"), ("other", "token")]
        clients = [await stack.enter_async_context(client(paper_address(server, *key))) for key in keys]
        one, two, other = clients
        await until(lambda: one.texts and two.texts and other.texts)
        headers = {**VERSION, "Authorization": "token any:whatever"}
        answer = await http.post("/orders/regular", data={"token": made.tokens[INFY]}, headers=headers)
        assert answer.json() == {"status": "success", "data": {"order_id": "1"}}
        opened = [{"order_id": "1", "status": "OPEN", "price": 0, "at": FIRST_US}]
        await until(lambda: one.of_type("order") == two.of_type("order") == opened)
        await asyncio.wait_for(await other.socket.ping(), PATIENCE_SECONDS)
        assert other.of_type("order") == []


async def test_at_the_end_what_is_open_is_cancelled_and_a_reset_begins_again(
    made: HandMade, captured: list[bytes]
) -> None:
    async with replay(made, wait_for_clients=1, paused=True) as server, client(paper_address(server)) as one:
        await subscribe(one, made)
        headers = {**VERSION, "Authorization": "token any:token"}
        async with httpx.AsyncClient(base_url=server.urls["api"], headers=headers) as http:
            await http.post("/orders/regular", data={"token": 999})
            await fault(server, "resume")
            await ended(server, one)
            assert [each["status"] for each in one.of_type("order")] == ["OPEN", "CANCELLED"]
            assert broker_of(server).log[-2:] == [("until", at(SECONDS - 1) + 1), ("close",)]
            quotes = await http.get("/quote/ltp", params={"i": made.tokens[INFY]})
            assert quotes.json()["data"] == {str(made.tokens[INFY]): (99 + SECONDS) * 100}
        one.frames.clear()
        await server.reset()
        assert ("reset",) in broker_of(server).log
        await ended(server, one)
        assert one.packets() == captured


async def test_a_reset_on_the_way_begins_again(made: HandMade) -> None:
    async with replay(made, speed=10.0, wait_for_clients=1) as server, client(paper_address(server)) as one:
        await subscribe(one, made, "full", INFY)
        await until(lambda: len(one.packets()) > 3)
        await server.reset()
        server.clock.set_speed(float("inf"))
        await ended(server, one)
        got = seconds_of(one, made)
        again = got.index(0, 1)
        assert got == [*range(again), *range(SECONDS)]


@pytest.mark.parametrize("trades", [True, False])
async def test_what_a_seek_passes_goes_to_nobody_but_orders_are_matched_on_it(made: HandMade, trades: bool) -> None:
    async with replay(made, paused=True, wait_for_clients=1) as server, client(paper_address(server)) as one:
        await subscribe(one, made, "full", INFY)
        headers = {**VERSION, "Authorization": "token any:token"}
        async with httpx.AsyncClient(base_url=server.urls["api"], headers=headers) as http:
            if trades:
                await http.post("/orders/regular", data={"token": made.tokens[INFY]})
        assert (await server.control("POST", "seek", {"to": at(90)}))["seeks"] == "2026-11-27T09:16:30+05:30"
        await until(lambda: server.clock.now_us() == at(90))
        assert server.status()["seeks"] is None
        if trades:
            await until(lambda: len(one.of_type("order")) == 2)
            assert one.of_type("order")[1]["price"] == 100_00
        async with client(paper_address(server, "late")) as late:
            await subscribe(late, made, "full", INFY)
            await until(lambda: len(late.packets()) == 2)
            assert seconds_of(late, made) == [89, 89], "by the mode once more"
        await fault(server, "resume")
        await ended(server, one)
        assert seconds_of(one, made) == list(range(90, SECONDS))
