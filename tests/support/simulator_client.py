"""A plain client of the broker's protocol, and servers inside of the test's own process."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ingest.server.admission import SteppedSettings
from ingest.server.faults import parse_fault
from ingest.server.server import BrokerServer
from ingest.simulator.simulator import Simulator, SimulatorSettings
from tests.support.scripted_source import ScriptedServer, ScriptedSource
from tests.support.simulation import ACCOUNTS, settings_of, split_frame, values_of
from tests.support.waiting import PATIENCE_SECONDS


async def until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for it, and fail if it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Simulator]:
    """A simulator on this event loop, of quick steps unless told otherwise."""
    async with Simulator(SimulatorSettings.parse(settings_of(**{"steps_per_second": 20, **settings}))) as simulator:
        yield simulator


@contextlib.asynccontextmanager
async def serving(script: ScriptedSource | None = None, **settings: Any) -> AsyncIterator[ScriptedServer]:
    """A server of a script on this event loop, with two accounts, and quick steps unless told otherwise."""
    accounts = [account._asdict() for account in ACCOUNTS]
    parsed = SteppedSettings.parse({"accounts": accounts, "steps_per_second": 20, **settings})
    async with ScriptedServer(parsed, script or ScriptedSource()) as server:
        yield server


async def fault(server: BrokerServer, kind: str, **fields: Any) -> int:
    applied = (await server.apply(parse_fault({"kind": kind, **fields})))["applied"]
    assert isinstance(applied, int)
    return applied


def address(server: BrokerServer, name: str = "one", **changes: str) -> str:
    account = next(one for one in ACCOUNTS if one.name == name)
    query = {"api_key": account.api_key, "access_token": account.access_token, **changes}
    return server.urls["ws"] + "/?" + "&".join(f"{key}={value}" for key, value in query.items())


class Client:
    """A connection that keeps all it gets: `frames` are binary messages, `texts` the parsed others."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[bytes] = []
        self.texts: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.closed: ConnectionClosed | None = None

    async def read(self) -> None:
        try:
            while True:
                message = await self.socket.recv()
                if isinstance(message, bytes):
                    self.times.append(time.monotonic())
                    self.frames.append(message)
                else:
                    self.texts.append(json.loads(message))
        except ConnectionClosed as error:
            self.closed = error

    async def ask(self, action: str, value: object) -> None:
        await self.socket.send(json.dumps({"a": action, "v": value}))

    def packets(self) -> list[bytes]:
        """All packets of all frames, which must be good ones."""
        return [packet for frame in self.frames if len(frame) > 1 for packet in split_frame(frame)]

    def counts(self) -> dict[str, int]:
        """Packets by instrument token, as the simulator's stats have them."""
        return dict(Counter(str(values_of(packet)["instrument_token"]) for packet in self.packets()))

    def of_type(self, kind: str) -> list[Any]:
        return [text.get("data") for text in self.texts if text["type"] == kind]


@contextlib.asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[Client]:
    """A connected client that reads all the time."""
    socket = await connect(url, compression=None, proxy=None, ping_interval=None, **options)
    one = Client(socket)
    reader = asyncio.create_task(one.read())
    try:
        yield one
    finally:
        await socket.close()
        await reader
