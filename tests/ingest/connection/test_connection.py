"""One connection against small servers on loopback: its life, its events, and that the token shows nowhere."""

import asyncio
import contextlib
import datetime as dt
import http
import ipaddress
import json
import logging
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

import ingest.connection.handshake
from ingest.accounts.account import Account
from ingest.connection.connection import KiteConnection
from ingest.connection.session import State
from ingest.errors import CapacityError, InstrumentError, SessionError
from ingest.settings import StreamSettings
from ingest.wire import Mode
from storage.journal.writer import Kind

CANARY = "canaryToken1234567890"
ACCOUNT = Account("one", "key1", CANARY)
FAST = StreamSettings(
    liveness_seconds=20,
    backoff_initial_seconds=0.01,
    slow_retry_seconds=0.05,
    token_retry_seconds=0.05,
    close_timeout_seconds=5,
)
SILENT_LOGGER = logging.getLogger("tests.connection.server")
SILENT_LOGGER.setLevel(logging.CRITICAL + 1)


class Sink:
    """Keeps every record; `until` waits for one."""

    def __init__(self) -> None:
        self.records: list[tuple[Kind, bytes]] = []
        self._changed = asyncio.Event()

    def channel(self, account: str, connection: int) -> int:
        assert (account, connection) == ("one", 1)
        return 7

    def append(self, kind: Kind, channel: int, received_at_ns: int, payload: bytes) -> None:
        assert channel == 7
        assert received_at_ns > 0
        self.records.append((kind, payload))
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
        async with asyncio.timeout(30):
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


# The way of a frame


async def test_frames_and_texts_are_journalled_as_they_came_behind_the_opening() -> None:
    async def handler(ws: ServerConnection) -> None:
        await ws.send(b"\x00")
        await ws.send('{"type":"message","data":"é"}')
        await ws.send([b"frag", b"mented"])
        await ws.send(b"x" * 200_000)
        assert await (await ws.ping()) >= 0, "a ping is answered"
        await ws.send(b"last")
        await ws.wait_closed()

    async with broker(handler) as url, connected(url) as (connection, sink):
        await sink.until(lambda sink: b"last" in sink.frames)
        assert connection.stats().frames == 5
        assert connection.stats().connected
    assert sink.records[0][0] is Kind.EVENT
    assert sink.events[0] == {"event": "connected", "message": "opening 1", "data": {"opening": 1}}
    assert [kind for kind, _ in sink.records[1:6]] == [Kind.BINARY, Kind.TEXT, Kind.BINARY, Kind.BINARY, Kind.BINARY]
    assert sink.frames == [
        b"\x00",
        '{"type":"message","data":"é"}'.encode(),
        b"fragmented",
        b"x" * 200_000,
        b"last",
    ]
    assert sink.events[-1]["data"] == {"by": "us", "clean": True}


async def test_handshake_is_as_the_broker_wants_it() -> None:
    asked: list[Request] = []

    async def handler(ws: ServerConnection) -> None:
        assert ws.request is not None
        asked.append(ws.request)
        await ws.wait_closed()

    async with broker(handler) as url, connected(url) as (_, sink):
        await sink.until(lambda sink: "connected" in sink.names)
    assert parse_qs(urlsplit(asked[0].path).query) == {"api_key": ["key1"], "access_token": [CANARY]}
    assert asked[0].headers["X-Kite-Version"] == "3"
    assert "Sec-WebSocket-Extensions" not in asked[0].headers


async def test_subscriptions_are_sent_and_told_and_come_back_after_a_drop() -> None:
    asked: list[list[Any]] = []

    async def handler(ws: ServerConnection) -> None:
        messages: list[Any] = []
        asked.append(messages)
        async for message in ws:
            messages.append(json.loads(message))
            if messages[-1] == {"a": "mode", "v": ["full", [3]]} and len(asked) == 1:
                ws.transport.abort()

    async with broker(handler) as url, connected(url) as (connection, sink):
        await connection.subscribe([1, 2])
        await connection.subscribe([2], Mode.LTP)
        await sink.until(lambda sink: sink.names.count("mode") == 1)
        await connection.unsubscribe([1])
        await connection.subscribe([3], Mode.FULL)
        await sink.until(lambda sink: "resumed" in sink.names)
        assert dict(connection.instruments) == {2: Mode.LTP, 3: Mode.FULL}
        assert connection.stats().reconnects == 1
        assert connection.stats().instruments == 2
    assert sorted(json.dumps(message) for message in asked[1]) == sorted(
        json.dumps(message)
        for message in (
            {"a": "subscribe", "v": [2, 3]},
            {"a": "mode", "v": ["full", [3]]},
            {"a": "mode", "v": ["ltp", [2]]},
        )
    )
    assert asked[1][0]["a"] == "subscribe"
    told = [
        (event["event"], event["data"].get("mode"), event["data"]["tokens"])
        for event in sink.events
        if "tokens" in event["data"]
    ]
    assert ("unsubscribed", None, [1]) in told
    assert told[-3:] == [("subscribed", None, [2, 3]), ("mode", "full", [3]), ("mode", "ltp", [2])]
    closed = next(event for event in sink.events if event["event"] == "closed")
    assert (closed["data"]["by"], closed["data"]["clean"], closed["data"]["reason"]) == ("peer", False, "dropped")
    resumed = next(event for event in sink.events if event["event"] == "resumed")
    assert resumed["data"]["instruments"] == 2
    assert resumed["data"]["down_seconds"] >= 0


# How it ends


async def test_a_close_loses_nothing_that_the_server_sent() -> None:
    sent = 0

    async def handler(ws: ServerConnection) -> None:
        nonlocal sent
        with contextlib.suppress(Exception):
            while True:
                await ws.send(sent.to_bytes(8, "big") * 50)
                sent += 1

    async with broker(handler) as url, connected(url) as (connection, sink):
        await sink.until(lambda sink: len(sink.frames) > 2000)
        await connection.close()
        assert connection.stats().state is State.CLOSED
    assert [int.from_bytes(frame[:8], "big") for frame in sink.frames] == list(range(len(sink.frames)))
    assert len(sink.frames) >= sent, "all that was sent before the server's close frame"


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


async def test_a_server_that_does_not_answer_the_close_is_cut_off() -> None:
    settings = FAST.model_copy(update={"close_timeout_seconds": 0.1})
    async with stubborn() as url, connected(url, settings) as (connection, sink):
        await sink.until(lambda sink: "connected" in sink.names)
        await connection.close()
    assert sink.events[-1]["data"] == {"by": "us", "clean": False}
    assert "by force" in sink.events[-1]["message"]


async def test_a_server_that_closes_but_keeps_the_socket_is_cut_off() -> None:
    def closing(protocol: ServerProtocol) -> bytes:
        protocol.send_close(1001, "going away")
        return b"".join(protocol.data_to_send())

    settings = FAST.model_copy(update={"close_timeout_seconds": 0.1})
    async with stubborn(closing) as url, connected(url, settings) as (connection, sink):
        await sink.until(lambda sink: "closed" in sink.names)
        assert connection.stats().state in (State.WAITING, State.CONNECTING, State.OPEN)
    closed = next(event for event in sink.events if event["event"] == "closed")
    assert (closed["data"]["reason"], closed["data"]["code"], closed["data"]["clean"]) == ("dropped", 1001, True)


async def test_a_silent_server_is_left_and_tried_again() -> None:
    settings = FAST.model_copy(update={"liveness_seconds": 0.1})
    async with broker(wait_closed) as url, connected(url, settings) as (connection, sink):
        await sink.until(lambda sink: sink.names.count("connected") >= 2)
        assert connection.stats().reconnects >= 1
    assert sink.names[:3] == ["connected", "silent", "closed"]
    assert sink.events[1]["data"]["silent_seconds"] >= 0.1
    assert sink.events[2]["data"]["reason"] == "silent"


async def test_heartbeats_are_life_enough() -> None:
    beats = 0

    async def handler(ws: ServerConnection) -> None:
        nonlocal beats
        with contextlib.suppress(Exception):
            while True:
                await ws.send(b"\x00")
                beats += 1
                await asyncio.sleep(0.02)

    settings = FAST.model_copy(update={"liveness_seconds": 2.0})
    async with broker(handler) as url, connected(url, settings) as (connection, sink):
        await sink.until(lambda sink: len(sink.frames) > 20)
        age = connection.stats().last_frame_age_seconds
        assert age is not None
        assert age < 2
    assert "silent" not in sink.names


@pytest.mark.parametrize(
    ("status", "reason", "body"),
    [
        (403, "credentials", "Token is invalid or has expired."),
        (429, "busy", "slow down"),
        (502, "server", "bad gateway"),
    ],
)
async def test_refusals_are_told_and_tried_again(status: int, reason: str, body: str) -> None:
    refusals = iter([status, status])

    def refuse(ws: ServerConnection, request: Request) -> Response | None:
        refused = next(refusals, None)
        return None if refused is None else ws.respond(http.HTTPStatus(refused), body)

    async with broker(wait_closed, process_request=refuse) as url, connected(url) as (_, sink):
        await sink.until(lambda sink: "connected" in sink.names)
    assert sink.names[:3] == ["refused", "refused", "connected"]
    data = sink.events[0]["data"]
    assert (data["reason"], data["code"]) == (reason, status)
    assert body in sink.events[0]["message"]
    if status == 403:
        assert "retry_in_seconds" not in data, "it waits for a token"
    if status == 429:
        assert data["retry_in_seconds"] >= 0.05, "never sooner than the slow retry"


async def test_a_certificate_that_proves_nothing_ends_it_and_is_said_once(tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(make_certificate(tmp_path))
    async with broker(wait_closed, ssl=server) as url, connected(url) as (connection, sink):
        await sink.until(lambda sink: "failed" in sink.names)
        assert connection.stats().state is State.FAILED
        assert sink.names == ["failed"]
        assert "certificate" in sink.events[0]["message"]
        assert sink.events[0]["data"]["reason"] == "certificate"


async def test_tls_to_a_server_that_proves_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    trusting = ssl.create_default_context(cafile=path)
    monkeypatch.setattr(ingest.connection.handshake, "_tls", lambda: trusting)
    async with broker(wait_closed, ssl=server) as url, connected(url) as (_, sink):
        await sink.until(lambda sink: "connected" in sink.names)
    assert sink.events[-1]["data"] == {"by": "us", "clean": True}


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed but itself, with its key in the same file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(pem) + private)
    return path


async def test_an_oversized_frame_costs_the_socket_and_no_more() -> None:
    settings = FAST.model_copy(update={"max_frame_bytes": 1 << 16})

    async def handler(ws: ServerConnection) -> None:
        await ws.send(b"good")
        await ws.send(b"x" * 65_537)
        await ws.wait_closed()

    async with broker(handler) as url, connected(url, settings) as (_, sink):
        await sink.until(lambda sink: sink.names.count("connected") == 2)
    assert set(sink.frames) == {b"good"}
    closed = next(event for event in sink.events if event["event"] == "closed")
    assert "PayloadTooBig" in closed["message"]


async def test_a_sink_that_fails_costs_the_socket_and_no_more() -> None:
    class Failing(Sink):
        failed = False

        def append(self, kind: Kind, channel: int, received_at_ns: int, payload: bytes) -> None:
            if kind is Kind.BINARY and not self.failed:
                self.failed = True
                raise RuntimeError("the sink is full")
            super().append(kind, channel, received_at_ns, payload)

    async def handler(ws: ServerConnection) -> None:
        await ws.send(b"frame")
        await ws.wait_closed()

    async with broker(handler) as url, connected(url, sink=Failing()) as (_, sink):
        await sink.until(lambda sink: sink.frames == [b"frame"])
    assert sink.names[:3] == ["connected", "closed", "connected"]
    assert "the sink is full" in sink.events[1]["message"]


# Starting and closing


async def test_it_can_be_closed_while_it_connects_and_while_it_waits() -> None:
    async with stubborn() as url:
        connection = KiteConnection(ACCOUNT, 1, FAST, sink := Sink(), ws_url=url)
        connection.start()
        connection.start()
        await asyncio.sleep(0)  # it has begun and cannot have been answered yet
        assert connection.stats().state is State.CONNECTING
        await connection.close()
        await connection.close()
        assert connection.stats().state is State.CLOSED
        assert sink.names == ["closed"]
    settings = FAST.model_copy(update={"backoff_initial_seconds": 1000.0, "backoff_cap_seconds": 1000.0})
    connection = KiteConnection(ACCOUNT, 1, settings, sink := Sink(), ws_url=url, random=lambda: 1.0)
    connection.start()
    await sink.until(lambda sink: "refused" in sink.names)
    assert sink.events[0]["data"]["reason"] == "network"
    await connection.close()
    assert connection.stats().state is State.CLOSED


async def test_it_can_be_closed_before_it_is_started_and_started_after_it_was_closed() -> None:
    async with broker(wait_closed) as url:
        connection = KiteConnection(ACCOUNT, 1, FAST, sink := Sink(), ws_url=url)
        await connection.close()
        await connection.subscribe([1])
        for opening in (1, 2):
            connection.start()
            await sink.until(lambda sink, opening=opening: sink.names.count("subscribed") == opening)  # type: ignore[misc]
            await connection.close()
            assert connection.stats().state is State.CLOSED


async def test_whoever_cancels_its_task_knows_and_leaves_no_socket() -> None:
    closed = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        await ws.wait_closed()
        closed.set()

    async with broker(handler) as url:
        connection = KiteConnection(ACCOUNT, 1, FAST, sink := Sink(), ws_url=url)
        connection.start()
        await sink.until(lambda sink: "connected" in sink.names)
        task = next(task for task in asyncio.all_tasks() if task.get_name() == "kitelake one/1")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(30):
            await closed.wait()


# Secrets


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1/?access_token={CANARY}",
        f"ws://127.0.0.1/?access_token={CANARY}",
        f"ws://{CANARY}@127.0.0.1/",
        f"ws://127.0.0.1/#{CANARY}",
        "ws://",
    ],
)
def test_a_bad_address_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ValueError, match="expected ws://HOST or wss://HOST") as caught:
        KiteConnection(ACCOUNT, 1, FAST, Sink(), ws_url=url)
    assert CANARY not in str(caught.value)


async def test_the_token_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Every way to fail that we know of, with everything logged, against servers that echo what they were sent."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    answers = [
        b"HTTP/1.1 403 Forbidden\r\n\r\nwrong: PATH",
        b"HTTP/1.1 429 PATH\r\n\r\nslower",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n" + b"x" * 440 + b"PATH",
        b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1PATH\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1PATH\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: PATH\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: PATH\r\n\r\n",
        b"SSH-2.0 PATH\r\n\r\n",
        b"",
    ]
    after_upgrade = [
        b"\x88\x40\x03\xf3PATH",  # a close frame with a reason
        b"\x82\xffPATH",  # masked, which a server must not do
        b"\xf1\x40PATH",  # reserved bits
    ]
    served = 0

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        protocol = ServerProtocol(logger=SILENT_LOGGER)
        with contextlib.suppress(asyncio.IncompleteReadError):
            protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
            request = protocol.events_received()[0]
            assert isinstance(request, Request)
            path = request.path.encode()
            assert CANARY.encode() in path
            turn, served = served, served + 1
            if turn < len(answers):
                writer.write(answers[turn].replace(b"PATH", path))
            else:
                protocol.send_response(protocol.accept(request))
                frame = after_upgrade[turn % len(after_upgrade)].replace(b"PATH", path.ljust(62))
                writer.write(b"".join(protocol.data_to_send()) + frame)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    settings = FAST.model_copy(update={"backoff_cap_seconds": 0.01, "slow_retry_seconds": 0.01})
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with connected(url, settings) as (connection, sink):
        await connection.subscribe([1, 2], Mode.FULL)
        await sink.until(lambda sink: sink.names.count("closed") >= 6)
        shown = [repr(connection), str(connection.stats()), repr(asyncio.all_tasks()), repr(connection.session)]
        server.close()
        await server.wait_closed()
        refusals = sink.names.count("refused")
        await sink.until(lambda sink: sink.names.count("refused") > refusals)
    with pytest.raises(SessionError) as caught:
        connection.session.opened(0.0)
    shown += traceback.format_exception(caught.value)
    shown += [
        text for record in caplog.records for text in (record.getMessage(), record.exc_text or "", repr(vars(record)))
    ]
    shown += [repr(context) for context in contexts]
    shown += [payload.decode("utf-8", "replace") for kind, payload in sink.records if kind is Kind.EVENT]
    assert served >= len(answers) + 6
    assert {event["data"]["reason"] for event in sink.events if event["event"] == "refused"} == {
        "credentials",
        "busy",
        "server",
        "refused",
        "network",
    }
    assert any("***" in text for text in shown), "the servers echoed it"
    assert [text for text in shown if CANARY[:12] in text] == []
    assert any(record.name.startswith("asyncio") for record in caplog.records), "everything was logged"
    assert not contexts


# A server that lives and does not serve


async def test_a_mode_that_is_not_kept_is_asked_for_again() -> None:
    asked: list[Any] = []

    async def handler(ws: ServerConnection) -> None:
        async def stream() -> None:
            while True:  # quote packets until the mode has been asked for twice
                length = 184 if sum(one["a"] == "mode" for one in asked) > 1 else 44
                packet = (408065).to_bytes(4, "big") + bytes(length - 4)
                await ws.send(b"\x00\x01" + length.to_bytes(2, "big") + packet)
                await asyncio.sleep(0.01)

        streaming = asyncio.create_task(stream())
        async for message in ws:
            asked.append(json.loads(message))  # noqa: PERF401 (seen as it comes)
        streaming.cancel()

    settings = FAST.model_copy(update={"answer_seconds": 0.1})
    async with broker(handler) as url, connected(url, settings) as (connection, sink):
        await connection.subscribe([408065], Mode.FULL)
        await sink.until(lambda sink: "asked again" in sink.names)
        assert connection.stats().asked_again >= 1
        async with asyncio.timeout(20):
            while connection.stats().wrong_mode or len(asked) < 3:
                await asyncio.sleep(0.01)
        assert connection.stats().packets
    assert asked[2] == {"a": "mode", "v": ["full", [408065]]}
    event = next(event for event in sink.events if event["event"] == "asked again")
    assert event["data"] == {"silent": [], "wrong_mode": [408065], "unwanted": []}


async def test_a_server_that_sends_heartbeats_only_is_left_and_tried_again() -> None:
    asked: list[list[Any]] = []

    async def handler(ws: ServerConnection) -> None:
        asked.append([])

        async def beat() -> None:
            while True:
                await ws.send(b"\x00")
                await asyncio.sleep(0.01)

        beating = asyncio.create_task(beat())
        async for message in ws:
            asked[-1].append(json.loads(message))
        beating.cancel()

    settings = FAST.model_copy(update={"answer_seconds": 0.2, "stall_seconds": 0.1})
    async with broker(handler) as url, connected(url, settings) as (connection, sink):
        await connection.subscribe([408065])
        await sink.until(lambda sink: "resumed" in sink.names)
    closed = next(event for event in sink.events if event["event"] == "closed")
    assert (closed["data"]["reason"], closed["data"]["by"]) == ("barren", "us")
    assert {"a": "unsubscribe", "v": [408065]} in asked[0], "asked for anew before"


async def test_more_instruments_than_a_connection_carries_are_refused() -> None:
    connection = KiteConnection(ACCOUNT, 1, FAST, Sink())
    await connection.subscribe(range(1, 3001))
    with pytest.raises(CapacityError, match="3,001 instruments do not fit on a connection: 3,000 is the capacity"):
        await connection.subscribe([3001])
    assert len(connection.instruments) == 3000


@pytest.mark.parametrize("wrong", [-1, 0, 2**32, True, "408065", None])
async def test_what_cannot_be_a_token_is_refused_and_nothing_changes(wrong: Any) -> None:
    connection = KiteConnection(ACCOUNT, 1, FAST, Sink())
    with pytest.raises(InstrumentError, match="as an instrument token"):
        await connection.subscribe([408065, wrong])
    with pytest.raises(InstrumentError, match="got 'junk' as a mode, expected one of ltp, quote, full"):
        await connection.subscribe([408065], "junk")  # type: ignore[arg-type]
    assert dict(connection.instruments) == {}
    await connection.subscribe([408065], "full")  # type: ignore[arg-type]
    assert connection.instruments[408065] is Mode.FULL


async def test_whoever_is_told_of_changes_cannot_end_the_connection() -> None:
    def told(_: KiteConnection) -> None:
        raise RuntimeError("a fault of the listener's")

    async with broker(wait_closed) as url:
        connection = KiteConnection(ACCOUNT, 1, FAST, sink := Sink(), ws_url=url, changed=told)
        connection.start()
        await sink.until(lambda sink: "connected" in sink.names)
        assert connection.stats().connected
        await connection.close()


async def test_a_watch_that_fails_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of the watch")

    monkeypatch.setattr("ingest.connection.watchdog.Watch.frames", fail)

    async def handler(ws: ServerConnection) -> None:
        for _ in range(600):
            await ws.send(b"\x00")
        await ws.wait_closed()

    async with broker(handler) as url, connected(url) as (connection, sink):
        await sink.until(lambda sink: len(sink.frames) == 600)
        assert connection.stats().connected
    assert sink.names == ["connected", "closed"]
