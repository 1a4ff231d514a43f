"""The broker's own JavaScript and Go clients against our servers: what they give is what the Python client gives.

They are made by `make clients`, which runs these tests; where one was not made, its tests are skipped. What is known to
differ between the clients stands in tests/support/client_views.py.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any
from urllib.request import Request, urlopen

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

import kitelake
from ingest.server.record import RecordKind, read_record
from kitelake.paper import PaperBroker, PaperSettings
from kitelake.replay.candles import LakeCandles
from kitelake.replay.control import ReplaySettings
from kitelake.replay.day import ReplayDay
from kitelake.replay.server import ReplayServer
from tests.support import client_views as views
from tests.support.clients import CLIENTS, Running, other_client
from tests.support.packets import frame_of, random_packet
from tests.support.replaying import DAY, INFY, NIFTY, TCS, a_day
from tests.support.simulation import simulation, split_frame, tokens_of
from tests.support.waiting import PATIENCE_SECONDS, wait_until

Server = Mapping[str, str]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not CLIENTS[name].is_made:
        pytest.skip(f"{CLIENTS[name].package} is not in .clients: `make clients`, which needs {CLIENTS[name].tool}")
    return name


def ask(server: Server, path: str) -> Any:
    """What the server says, as it says it."""
    headers = {"X-Kite-Version": "3", "Authorization": f"token {server['api_key']}:{server['access_token']}"}
    with urlopen(Request(server["api"] + path, headers=headers), timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)["data"]


def check_call(client: str, one: Running, server: Server, path: str, name: str, *given: object) -> Any:
    """A call's answer is what the server says at that path. Returns the latter."""
    raw = ask(server, path)
    answer = one.call(name, *given)
    assert "value" in answer, (name, answer)
    views.check_answer(client, name, answer["value"], raw)
    return raw


def check_instruments(client: str, one: Running, server: Server, exchange: str) -> None:
    from kiteconnect import KiteConnect

    kite = KiteConnect(server["api_key"], access_token=server["access_token"], root=server["api"])
    listed = kite.instruments(exchange)
    kite.reqsession.close()
    rows = one.call("instruments", exchange)["value"]
    if client == "javascript":
        assert not rows.pop()["instrument_token"]
        assert rows == [views.javascript_instrument(row) for row in listed]
    else:
        assert rows == [views.go_instrument(row) for row in listed]
    assert listed


@pytest.mark.soak
def test_a_market_field_by_field(client: str, official: Any, tmp_path: Path) -> None:
    with simulation(instruments=600, rate=20, record=tmp_path / "record") as running:
        account, listed = running.account(), tokens_of(running.api)
        modes = {"full": listed[0:600:3], "quote": listed[1:600:3], "ltp": listed[2:600:3]}
        server = {"ws": running.ws, "api": running.api, **account._asdict()}
        with other_client(client, server, modes) as one:
            one.wait_for("tick", 6_000)
            running.fault("order")
            one.wait_for("order", 1)
            running.pause()
            one.wait_for("frame", running.stats()["frames"])
            profile = check_call(client, one, server, "/user/profile", "profile")
            session = one.call("session", "any", account.api_secret)["value"]
            assert session["access_token"] == account.access_token
            assert session.items() >= {"api_key": account.api_key, "user_id": profile["user_id"]}.items()
            check_instruments(client, one, server, "NFO")
            assert one.call("orders") == {"message": "Route not found", "error_type": "GeneralException"}
            given = one.stop()
        running.stop()
    records = list(read_record(tmp_path / "record"))
    assert [frame for frame, _ in given.frames] == [one.payload for one in records if one.kind is RecordKind.PACKETS]
    assert views.check_ticks(client, given, official) == {8, 28, 32, 44, 184}
    texts = [json.loads(one.payload) for one in records if one.kind is RecordKind.TEXT]
    orders = [text["data"] for text in texts if text["type"] == "order"]
    views.check_answer(client, "order", given.orders, orders)
    assert orders


def obey(server: Server, command: str, **values: Any) -> None:
    with urlopen(Request(f"{server['control']}/{command}", json.dumps(values).encode()), timeout=PATIENCE_SECONDS):
        pass


def status(server: Server) -> Any:
    with urlopen(f"{server['control']}/status", timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def trade(client: str, server: Server, tokens: Mapping[str, int], official: Any) -> None:
    """A session on a replay: all that there is to call, in the market, and with its clock standing."""
    modes = {"full": [tokens[INFY], tokens[NIFTY]], "quote": [tokens[TCS]]}
    names = [INFY, TCS, NIFTY]
    query = "?" + "&".join(f"i={name.replace(' ', '%20')}" for name in names)
    infy = ("NSE", "INFY", "BUY")
    with other_client(client, server, modes) as one:
        one.wait_for("tick", 12)
        refused = one.call("place", *infy, "MARKET", 10, 0, 0)
        assert refused["error_type"] == "OrderException"
        assert "Market orders without market protection are not allowed" in refused["message"]
        assert one.call("place", *infy, "MARKET", 10, 0, -1)["value"]["order_id"]
        assert one.call("place", *infy, "LIMIT", 20, 50, 0)["value"]["order_id"]
        assert one.call("modify", 30, 60)["value"]["order_id"]
        assert one.call("cancel")["value"]["order_id"]
        one.wait_for("order", 4)
        obey(server, "seek", to="09:16:05")
        wait_until(lambda: status(server)["seeks"] is None)
        obey(server, "pause")
        for name in ("orders", "trades"):
            check_call(client, one, server, f"/{name}", name)
        for name in ("profile", "margins"):
            check_call(client, one, server, f"/user/{name}", name)
        for name in ("positions", "holdings"):
            check_call(client, one, server, f"/portfolio/{name}", name)
        for name, path in {"quote": "/quote", "ohlc": "/quote/ohlc", "ltp": "/quote/ltp"}.items():
            assert len(check_call(client, one, server, path + query, name, *names)) == len(names)
        orders = ask(server, "/orders")
        assert [order["status"] for order in orders] == ["COMPLETE", "CANCELLED"]
        check_call(client, one, server, f"/orders/{orders[-1]['order_id']}", "history")
        check_candles(client, one, server, tokens[NIFTY])
        check_instruments(client, one, server, "NSE")
        given = one.stop()
    assert views.check_ticks(client, given, official) == {32, 44, 184}
    last = {order["order_id"]: order["status"] for order in given.orders}
    assert last == {order["order_id"]: order["status"] for order in orders}


def check_candles(client: str, one: Running, server: Server, token: int) -> None:
    first, last = f"{DAY} 09:15:00", f"{DAY} 15:30:00"
    span = f"from={first}&to={last}".replace(" ", "%20")
    raw = ask(server, f"/instruments/historical/{token}/minute?{span}&oi=1")["candles"]
    names = ("date", "open", "high", "low", "close", "volume", "oi")
    candles = [dict(zip(names, row, strict=True)) for row in raw]
    if client == "javascript":
        candles = [{name: value for name, value in row.items() if name != "oi" or value} for row in candles]
    answer = one.call("historical", token, "minute", first, last)
    assert "value" in answer, (answer, raw)
    views.check_answer(client, "historical", answer["value"], candles)
    assert candles


@pytest.mark.soak
async def test_a_replay_field_by_field(client: str, official: Any, tmp_path: Path) -> None:
    a_day(tmp_path, 90)
    settings = ReplaySettings.parse({"wait_for_clients": 1})
    with kitelake.open(tmp_path) as lake:
        day = ReplayDay(lake, DAY)

        def make_broker(server: ReplayServer) -> PaperBroker:
            clock = server.clock.now_us
            candles = LakeCandles(lake, day.listed, clock)
            return PaperBroker(PaperSettings(), day.listed, snapshot=server.snapshot, clock=clock, candles=candles)

        async with ReplayServer(settings, day, make_broker) as server:
            tokens = {one.symbol: token for token, one in day.listed.items()}
            given = {**server.urls, "api_key": "any", "access_token": "token"}
            await asyncio.to_thread(trade, client, given, tokens, official)


@contextlib.contextmanager
def sending(frames: list[bytes]) -> Iterator[str]:
    """A server that sends those frames to who subscribes, and then nothing."""

    def serve_one(socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            socket.recv()
            for frame in frames:
                socket.send(frame)
            while True:
                socket.recv()

    with serve(serve_one, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.soak
def test_words_at_the_ends_of_their_ranges(client: str, official: Any) -> None:
    """Negative prices, volumes past 2^31, instants of 0, segments that nobody knows."""
    random = Random(20261129)
    packets = [random_packet(random) for _ in range(3_000)]
    frames = [frame_of(packets[at : at + 10]) for at in range(0, len(packets), 10)]
    with sending(frames) as ws:
        server = {"ws": ws, "api": "http://127.0.0.1:9", "api_key": "key", "access_token": "token"}
        with other_client(client, server, {"full": [408065]}) as one:
            one.wait_for("tick", len(packets))
            given = one.stop()
    assert [frame for frame, _ in given.frames] == frames
    assert [packet for frame, _ in given.frames for packet in split_frame(frame)] == packets
    assert views.check_ticks(client, given, official) == {8, 28, 32, 44, 184}


def test_the_locks_name_no_server() -> None:
    """Whoever makes the clients fetches from where he fetches everything else."""
    locked = json.loads((CLIENTS["javascript"].source / "package-lock.json").read_text())["packages"]
    assert locked["node_modules/kiteconnect"]["version"] == "5.3.0"
    assert [
        name for name, package in locked.items() if name and ("resolved" in package or not package["integrity"])
    ] == []
    assert "github.com/zerodha/gokiteconnect/v4 v4.4.0\n" in (CLIENTS["go"].source / "go.mod").read_text()
