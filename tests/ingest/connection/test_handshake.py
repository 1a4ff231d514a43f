"""Opening the WebSocket: the request, TLS, and that the token in its address shows nowhere."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import logging
import ssl
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request
from websockets.server import ServerProtocol

import ingest.connection.handshake
from ingest.connection.connection import KiteConnection
from ingest.connection.receiver import Pacer
from ingest.connection.session import State
from ingest.errors import SessionError
from ingest.wire import Mode
from storage.journal import Kind
from tests.support.stream_server import ACCOUNT, CANARY, FAST, SILENT_LOGGER, Sink, broker, connected, wait_closed


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


async def test_a_certificate_that_proves_nothing_ends_it_and_is_said_once(tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(make_certificate(tmp_path))
    async with broker(wait_closed, ssl=server) as url, connected(url) as (connection, sink):
        await sink.until(lambda sink: "failed" in sink.names)
        assert connection.stats().state is State.FAILED
        assert sink.names == ["failed"]
        assert "certificate" in sink.events[0]["message"]
        assert sink.events[0]["data"]["reason"] == "certificate"


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server proves itself by to connections of this test."""
    path = make_certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    trusting = ssl.create_default_context(cafile=path)
    monkeypatch.setattr(ingest.connection.handshake, "_tls", lambda: trusting)
    return server


async def test_tls_to_a_server_that_proves_itself(trusted: ssl.SSLContext) -> None:
    async with broker(wait_closed, ssl=trusted) as url, connected(url) as (_, sink):
        await sink.until(lambda sink: "connected" in sink.names)
    assert sink.events[-1]["data"] == {"by": "us", "clean": True}


@pytest.mark.parametrize("is_patient", [True, False])
async def test_busy_tls_sockets_rest_and_lose_nothing(
    trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, is_patient: bool
) -> None:
    frames = [number.to_bytes(2, "big") * (300_000 if number % 100 == 50 else 90) for number in range(600)]
    rests = []

    class Noting(Pacer):
        def rest(self, transport: asyncio.Transport, seconds: float, readable_from: Any = None) -> None:
            rests.append(seconds)
            super().rest(transport, seconds, readable_from if is_patient else None)

    monkeypatch.setattr("ingest.connection.hub.Pacer", Noting)

    async def handler(ws: ServerConnection) -> None:
        for number, frame in enumerate(frames):
            await ws.send(frame)
            if number % 10 == 0:
                await asyncio.sleep(0.0005)
        await ws.wait_closed()

    settings = FAST.model_copy(update={"rest_seconds": 0.002})
    async with broker(handler, ssl=trusted) as url, connected(url, settings) as (_, sink):
        await sink.until(lambda sink: len(sink.frames) == len(frames))
    assert sink.frames == frames
    assert rests


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
