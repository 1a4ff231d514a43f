"""Small servers on loopback in the place of the broker, and a connection to one of them whose records are kept."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request
from websockets.server import ServerProtocol

from ingest.accounts.account import Account
from ingest.connection.connection import KiteConnection
from ingest.settings import StreamSettings
from storage.journal import Kind
from tests.support.waiting import PATIENCE_SECONDS

CANARY = "canaryToken1234567890"
ACCOUNT = Account("one", "key1", CANARY)
FAST = StreamSettings(
    liveness_seconds=20,
    backoff_initial_seconds=0.01,
    slow_retry_seconds=0.05,
    token_retry_seconds=0.05,
    close_timeout_seconds=5,
)
SILENT_LOGGER = logging.getLogger("tests.support.stream_server")
SILENT_LOGGER.setLevel(logging.CRITICAL + 1)


class Sink:
    """Keeps every record; `until` waits for one."""

    def __init__(self) -> None:
        self.records: list[tuple[Kind, bytes]] = []
        self.times_ns: list[int] = []  # of the events
        self._changed = asyncio.Event()

    def channel(self, account: str, connection: int) -> int:
        assert (account, connection) == ("one", 1)
        return 7

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        assert channel == 7
        assert received_at_ns > 0
        self.records += [(kind, payload) for payload in payloads]
        if kind is Kind.EVENT:
            self.times_ns.append(received_at_ns)
        self._changed.set()

    @property
    def frames(self) -> list[bytes]:
        return [payload for kind, payload in self.records if kind is not Kind.EVENT]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for kind, payload in self.records if kind is Kind.EVENT]

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    async def until(self, condition: Callable[["Sink"], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()


Handler = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def broker(handler: Handler, **options: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, compression=None, logger=SILENT_LOGGER, **options) as server:
        scheme = "wss" if options.get("ssl") else "ws"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def connected(
    url: str, settings: StreamSettings = FAST, sink: Sink | None = None
) -> AsyncIterator[tuple[KiteConnection, Sink]]:
    sink = sink or Sink()
    connection = KiteConnection(ACCOUNT, 1, settings, sink, ws_url=url)
    connection.start()
    try:
        yield connection, sink
    finally:
        await connection.close()


async def wait_closed(ws: ServerConnection) -> None:
    """A handler that sends nothing more."""
    await ws.wait_closed()


@contextlib.asynccontextmanager
async def stubborn(then: Callable[[ServerProtocol], bytes] = lambda _: b"") -> AsyncIterator[str]:
    """A server that shakes hands, says what `then` gives, and from then on reads and answers nothing."""
    ends = asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol(logger=SILENT_LOGGER)
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        request = protocol.events_received()[0]
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        writer.write(b"".join(protocol.data_to_send()) + then(protocol))
        await ends.wait()
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        ends.set()
        server.close()
        await server.wait_closed()
