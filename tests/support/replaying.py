"""A replay of a small day in the test's own process, and a paper broker that does what a test says."""

import asyncio
import contextlib
import datetime as dt
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

import kitelake
from ingest.server import AccountOrder, RestCall
from kitelake.paper import Snapshot
from kitelake.replay.control import ReplaySettings
from kitelake.replay.day import ReplayDay
from kitelake.replay.server import ReplayServer
from tests.support.hand_made import HandMade, at
from tests.support.simulation import values_of
from tests.support.waiting import PATIENCE_SECONDS

DAY = at("2026-11-27T00:00").date()
FIRST = at("2026-11-27T09:15")
INFY, TCS, NIFTY, QUIET = "NSE:INFY", "NSE:TCS", "NSE:NIFTY 50", "NSE:QUIET"
MAX = float("inf")
HEADERS = {"Authorization": "token any:token", "X-Kite-Version": "3"}


def a_day(root: Path, seconds: int = 60) -> HandMade:
    """From 09:15 on, each second one packet of each: full ones of INFY, quotes of TCS, and full ones of an index, whose
    prices are the number of the second, from 100 on. QUIET has one at the start, in ltp."""
    made = HandMade(root)
    for symbol in (INFY, TCS, QUIET):
        made.add(symbol)
    made.add(NIFTY, segment="INDICES")
    made.listed(DAY)
    made.tick(FIRST, QUIET, 7.0, mode="ltp", stamp=False)
    for second in range(seconds):
        moment = FIRST + dt.timedelta(seconds=second)
        made.tick(moment, INFY, 100.0 + second, 99.0, 101.0)
        made.tick(moment, TCS, 100.0 + second, mode="quote", stamp=False)
        made.tick(moment, NIFTY, 100.0 + second)
    made.commit()
    return made


class ScriptedBroker:
    """Orders are placed by `POST /orders/regular` with a token; each is filled by the next packet of its instrument, or
    else cancelled at the end. `GET /quote/ltp?i=token` tells the last price. `log` is what happened, in order."""

    def __init__(self, server: ReplayServer) -> None:
        self.server = server
        self.watched: set[int] = set()
        self.log: list[tuple[Any, ...]] = []
        self._open: list[tuple[str, str, int]] = []
        self._due: list[AccountOrder] = []
        self._placed = 0

    def advance(self, until_us: int, snapshots: Iterable[Snapshot]) -> None:
        for snapshot in snapshots:
            self.log.append(("packet", snapshot.token, snapshot.received_us))
            for order in [one for one in self._open if one[2] == snapshot.token]:
                self._open.remove(order)
                self._say(order, "COMPLETE", snapshot.last_price)
        self.watched = {token for _, _, token in self._open}
        self.log.append(("until", until_us))

    def route(self, method: str, path: str) -> Callable[[RestCall], Any] | None:
        return {("POST", "/orders/regular"): self._place, ("GET", "/quote/ltp"): self._ltp}.get((method, path))

    def updates(self) -> list[AccountOrder]:
        given, self._due = self._due, []
        return given

    def close(self) -> None:
        for order in self._open:
            self._say(order, "CANCELLED", 0)
        self._open = []
        self.log.append(("close",))

    def reset(self) -> None:
        self._open, self.watched = [], set()
        self.log.append(("reset",))

    def _place(self, call: RestCall) -> dict[str, str]:
        self._placed += 1
        order = (call.account.label, str(self._placed), int(call.form["token"][0]))
        self._open.append(order)
        self.watched.add(order[2])
        self._say(order, "OPEN", 0)
        return {"order_id": order[1]}

    def _ltp(self, call: RestCall) -> dict[str, Any]:
        tokens = [int(token) for token in call.query["i"]]
        known = {token: self.server.snapshot(token) for token in tokens}
        return {str(token): one.last_price for token, one in known.items() if one is not None}

    def _say(self, order: tuple[str, str, int], status: str, price: int) -> None:
        label, number, _ = order
        data = {"order_id": number, "status": status, "price": price, "at": self.server.clock.now_us()}
        self._due.append(AccountOrder(label, data))


@contextlib.asynccontextmanager
async def replaying(
    root: Path, make_broker: Callable[[ReplayServer], Any] = ScriptedBroker, **settings: Any
) -> AsyncIterator[ReplayServer]:
    """A replay of what a folder holds of the day, with a scripted broker, at full speed unless told otherwise."""
    with kitelake.open(root) as lake:
        day = await asyncio.to_thread(ReplayDay, lake, DAY)
        parsed = ReplaySettings.parse({"speed": MAX, **settings})
        async with ReplayServer(parsed, day, make_broker) as server:
            yield server


def paper_address(server: ReplayServer, api_key: str = "any", access_token: str = "token") -> str:
    return f"{server.urls['ws']}/?api_key={api_key}&access_token={access_token}"


class BlockingClient:
    """A client as the official ones are: what it is told of a message runs before it answers a ping that came later.

    `read` is called in a thread of the test's; it returns when the server closes the connection.
    """

    def __init__(self, url: str) -> None:
        self._protocol = ClientProtocol(parse_uri(url))
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port), PATIENCE_SECONDS)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def ask(self, action: str, value: object) -> None:
        self._protocol.send_text(json.dumps({"a": action, "v": value}).encode())
        self._flush()

    def read(self, on_open: Callable[[], None], on_message: Callable[[bytes | str], None]) -> None:
        with self._socket:
            while True:
                data = self._socket.recv(65_536)
                if data:
                    self._protocol.receive_data(data)
                else:
                    self._protocol.receive_eof()
                for event in self._protocol.events_received():
                    if not isinstance(event, Frame):
                        on_open()
                    elif event.opcode is Opcode.BINARY:
                        on_message(bytes(event.data))
                    elif event.opcode is Opcode.TEXT:
                        on_message(bytes(event.data).decode())
                self._flush()
                if not data:
                    return

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)


class Strategy:
    """Orders each fifth second's INFY as a strategy would, in its callback, and notes all it sees."""

    def __init__(self, server: ReplayServer, token: int, order: dict[str, str] | None = None) -> None:
        self._client = BlockingClient(paper_address(server))
        self._http = httpx.Client(base_url=server.urls["api"], headers=HEADERS, trust_env=False, verify=False)
        self._token = token
        self._order = order or {"token": str(token)}
        self.seen: list[Any] = []
        self._thread = threading.Thread(target=self._client.read, args=(self._begin, self._note))
        self._thread.start()

    def stop(self) -> None:
        self._thread.join(PATIENCE_SECONDS)
        self._http.close()

    def _begin(self) -> None:
        self._client.ask("subscribe", [self._token])
        self._client.ask("mode", ["full", [self._token]])

    def _note(self, message: bytes | str) -> None:
        if isinstance(message, str):
            text = json.loads(message)
            if text["type"] == "order":
                self.seen.append(tuple(text["data"].items()))
        elif len(message) > 1:
            price = values_of(message[4:])["last_price"] // 100
            self.seen.append(price)
            if price % 5 == 0:
                self._http.post("/orders/regular", data=self._order).raise_for_status()


@contextlib.asynccontextmanager
async def lazy_client(server: ReplayServer, tokens: list[int]) -> AsyncIterator[ClientConnection]:
    """One that has subscribed to these in full, and reads only what it is asked to, with small buffers on the way."""
    host, _, port = server.urls["ws"].removeprefix("ws://").partition(":")
    raw = socket.create_connection((host, int(port)))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    url = paper_address(server, "lazy")
    options: dict[str, Any] = {"proxy": None, "compression": None, "ping_interval": None, "close_timeout": 0.1}
    async with connect(url, sock=raw, max_queue=1, **options) as lazy:
        for _ in range(2):
            assert isinstance(await lazy.recv(), str)
        at_server = server._subscribers[-1].socket.transport.get_extra_info("socket")
        at_server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await lazy.send(json.dumps({"a": "subscribe", "v": tokens}))
        await lazy.send(json.dumps({"a": "mode", "v": ["full", tokens]}))
        yield lazy
