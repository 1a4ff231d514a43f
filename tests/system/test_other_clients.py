"""The broker's own JavaScript and Go clients against our servers: what they give is what the Python client gives.

They are made by `make clients`, which runs these tests; where one was not made, its tests are skipped. What is known to
differ between the clients stands in tests/support/client_views.py.
"""

import contextlib
import datetime as dt
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from ingest.server.record import RecordKind, read_record
from tests.support import client_views as views
from tests.support.clients import CLIENTS, Answers, other_client
from tests.support.packets import frame_of, random_packet
from tests.support.simulation import simulation, split_frame, tokens_of

CALLS = (["profile"], ["instruments"], ["instruments", "NFO"], ["orders"])
ROUTE_IS_MISSING = {"message": "Route not found", "error_type": "GeneralException"}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not CLIENTS[name].is_made:
        pytest.skip(f"{CLIENTS[name].package} is not in .clients: `make clients`, which needs {CLIENTS[name].tool}")
    return name


def check_ticks(client: str, given: Answers, official: Any) -> set[int]:
    """Every field of every tick. Returns the lengths of the packets."""
    lengths = set()
    for frame, ticks in given.frames:
        packets, parsed = split_frame(frame), official._parse_binary(frame)
        lengths |= {len(packet) for packet in packets}
        both = zip(parsed, packets, strict=True)
        if client == "javascript":
            assert ticks == [views.javascript_tick(*one) for one in both]
        else:
            seen = [views.with_go_instants(tick, "Timestamp", "LastTradeTime") for tick in ticks]
            assert seen == [views.go_tick(*one) for one in both]
    return lengths


def check_calls(client: str, given: Answers, server: Mapping[str, str], secret: str) -> None:
    """Every field of every answer, against the Python client's."""
    from kiteconnect import KiteConnect

    kite = KiteConnect(server["api_key"], access_token=server["access_token"], root=server["api"])
    profile, session, listed = kite.profile(), kite.generate_session("any", secret), kite.instruments("NFO")
    kite.reqsession.close()
    mine = given.answers["session"]
    login = {mine.pop("login_time"), session.pop("login_time")}
    assert len(login) == 2
    if client == "javascript":
        assert given.answers["profile"] == profile
        assert mine == session
        *rows, empty = given.answers["instruments"]
        assert not empty["instrument_token"]
        assert rows == [views.javascript_instrument(one) for one in listed]
    else:
        without_none = {name: "" if value is None else value for name, value in profile.items()}
        assert given.answers["profile"] == without_none
        assert mine == {name: "" if value is None else value for name, value in session.items() if name != "enctoken"}
        assert given.answers["instruments"] == [views.go_instrument(one) for one in listed]
    assert given.refusals == {"orders": ROUTE_IS_MISSING}


@pytest.mark.soak
def test_a_market_field_by_field(client: str, official: Any, tmp_path: Path) -> None:
    with simulation(instruments=600, rate=20, record=tmp_path / "record") as running:
        account, listed = running.account(), tokens_of(running.api)
        modes = {"full": listed[0:600:3], "quote": listed[1:600:3], "ltp": listed[2:600:3]}
        server = {"ws": running.ws, "api": running.api, **account._asdict()}
        with other_client(client, server, modes, [["session", "any", account.api_secret], *CALLS]) as one:
            one.wait_for("tick", 6_000)
            running.fault("order")
            one.wait_for("order", 1)
            running.pause()
            one.wait_for("frame", running.stats()["frames"])
            given = one.stop()
        check_calls(client, given, server, account.api_secret)
        running.stop()
    records = list(read_record(tmp_path / "record"))
    assert [frame for frame, _ in given.frames] == [one.payload for one in records if one.kind is RecordKind.PACKETS]
    assert check_ticks(client, given, official) == {8, 28, 32, 44, 184}
    texts = [json.loads(one.payload) for one in records if one.kind is RecordKind.TEXT]
    orders = [text["data"] for text in texts if text["type"] == "order"]
    assert given.orders == (orders if client == "javascript" else [views.go_order(order) for order in orders])
    assert orders


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
    assert check_ticks(client, given, official) == {8, 28, 32, 44, 184}


@pytest.mark.soak
def test_the_time_of_a_login(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as IST without a zone, which JavaScript takes for the host's."""
    monkeypatch.setenv("TZ", "UTC")
    with simulation(instruments=100) as running:
        account = running.account()
        server = {"ws": running.ws, "api": running.api, **account._asdict()}
        calls = [["session", "any", account.api_secret]]
        with other_client(client, server, {"ltp": tokens_of(running.api)[:1]}, calls) as one:
            one.wait_for("tick", 1)
            given = one.stop()
    ahead = dt.datetime.fromisoformat(given.answers["session"]["login_time"]) - dt.datetime.now(dt.UTC)
    hours = round(ahead / dt.timedelta(hours=1), 1)
    assert 5 < hours < 6 if client == "javascript" else -0.5 < hours < 0.5


def test_the_locks_name_no_server() -> None:
    """Whoever makes the clients fetches from where he fetches everything else."""
    locked = json.loads((CLIENTS["javascript"].source / "package-lock.json").read_text())["packages"]
    assert locked["node_modules/kiteconnect"]["version"] == "5.3.0"
    assert [
        name for name, package in locked.items() if name and ("resolved" in package or not package["integrity"])
    ] == []
    assert "github.com/zerodha/gokiteconnect/v4 v4.4.0\n" in (CLIENTS["go"].source / "go.mod").read_text()
