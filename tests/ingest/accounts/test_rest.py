"""REST against a real server on loopback: what is sent, what comes back, how it fails, and that no secret shows."""

import contextlib
import gzip
import hashlib
import json
import logging
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qs

import httpx
import pytest

from ingest.accounts.account import Account
from ingest.accounts.redact import MASK
from ingest.accounts.rest import KiteRest, login_url, tls_context
from ingest.errors import AuthError, RestError

TOKEN = "canaryToken+/=1234567890"
SECRET = "canarySecret0987654321"
ACCOUNT = Account("one", "key1", TOKEN, SECRET)


class Broker(ThreadingHTTPServer):
    """Answers every call with what `answer` holds, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"")
        self.asked: list[tuple[str, str, dict[str, str], str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def reply(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answer = status, {name.replace("_", "-"): value for name, value in headers.items()}, data


class Handler(BaseHTTPRequestHandler):
    server: Broker

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        status, headers, data = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815 (the name is the base class’s)

    def log_message(self, *args: object) -> None:
        """Keep still."""


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_instruments_come_unpacked(broker: Broker) -> None:
    broker.reply(200, gzip.compress(b"a,b\n1,2\n"), Content_Encoding="gzip")
    async with KiteRest(broker.url, ACCOUNT) as rest:
        assert await rest.instruments() == b"a,b\n1,2\n"
        assert await rest.instruments("NSE") == b"a,b\n1,2\n"
    assert [path for _, path, _, _ in broker.asked] == ["/instruments", "/instruments/NSE"]
    headers = broker.asked[0][2]
    assert headers["X-Kite-Version"] == "3"
    assert headers["Authorization"] == f"token key1:{TOKEN}"


async def test_instruments_need_no_token(broker: Broker) -> None:
    broker.reply(200, b"a,b\n1,2\n")
    async with KiteRest(broker.url, Account("one", "key1")) as rest:
        assert await rest.instruments() == b"a,b\n1,2\n"
    assert "Authorization" not in broker.asked[0][2]


async def test_profile(broker: Broker) -> None:
    broker.reply(200, {"status": "success", "data": {"user_id": "AB1234"}})
    async with KiteRest(broker.url, ACCOUNT) as rest:
        assert await rest.profile() == {"user_id": "AB1234"}


async def test_session_token_is_asked_for_with_the_checksum_and_without_the_secret(broker: Broker) -> None:
    broker.reply(200, {"status": "success", "data": {"access_token": "fresh"}})
    async with KiteRest(broker.url, Account("one", "key1", api_secret=SECRET)) as rest:
        token = await rest.session_token("request1")
    assert token.get_secret_value() == "fresh"
    method, path, headers, body = broker.asked[0]
    assert (method, path) == ("POST", "/session/token")
    assert "Authorization" not in headers
    checksum = hashlib.sha256(f"key1request1{SECRET}".encode()).hexdigest()
    assert parse_qs(body) == {"api_key": ["key1"], "request_token": ["request1"], "checksum": [checksum]}


def kite_error(kind: str, message: str) -> dict[str, str]:
    return {"status": "error", "error_type": kind, "message": message}


@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable"),
    [
        (403, kite_error("TokenException", f"Incorrect `api_key` or `access_token` {TOKEN}."), AuthError, None),
        (401, b"", AuthError, None),
        (400, kite_error("TokenException", "Token is invalid or has expired."), AuthError, None),
        (400, kite_error("InputException", f"Invalid value {TOKEN}"), RestError, False),
        (429, kite_error("NetworkException", "Too many requests"), RestError, True),
        (502, b"<html>Bad Gateway" + SECRET.encode() + b"</html>", RestError, True),
        (503, kite_error("DataException", "OMS is away"), RestError, True),
        (302, b"", RestError, False),
    ],
)
async def test_errors_are_typed_and_carry_no_secret(
    broker: Broker, status: int, body: Any, kind: type[Exception], retryable: bool | None
) -> None:
    broker.reply(status, body)
    async with KiteRest(broker.url, ACCOUNT) as rest:
        with pytest.raises(kind) as caught:
            await rest.profile()
    assert str(status) in str(caught.value)
    if isinstance(body, dict):
        assert body["error_type"] in str(caught.value)
        assert body["message"].replace(TOKEN, MASK) in str(caught.value)
    if isinstance(caught.value, RestError):
        assert (caught.value.status, caught.value.retryable) == (status, retryable)
    assert_clean(caught.value)


async def test_no_answer_is_retryable() -> None:
    with Broker() as closed:
        url = closed.url
    async with KiteRest(url, ACCOUNT) as rest:
        with pytest.raises(RestError, match="GET /instruments for account one failed: ConnectError") as caught:
            await rest.instruments()
    assert (caught.value.status, caught.value.retryable) == (0, True)
    assert_clean(caught.value)
    assert caught.value.__context__ is None, "the library's exception holds the request, and that the token"


@pytest.mark.parametrize("body", [b"not json", b"[]", b'{"data": null}', b"\xff\xfe"])
async def test_an_answer_that_is_none(broker: Broker, body: bytes) -> None:
    broker.reply(200, body)
    async with KiteRest(broker.url, ACCOUNT) as rest:
        with pytest.raises(RestError, match="is not an object with data"):
            await rest.profile()
        with pytest.raises(RestError, match="is not an object with data"):
            await rest.session_token("request1")


async def test_what_is_missing_is_said_before_anything_is_sent(broker: Broker) -> None:
    async with KiteRest(broker.url, Account("one", "key1")) as rest:
        with pytest.raises(AuthError, match="account one has no access token: log in first"):
            await rest.profile()
        with pytest.raises(AuthError, match="account one has no api_secret"):
            await rest.session_token("request1")
    assert broker.asked == []


async def test_what_the_broker_quotes_of_a_login_is_masked(broker: Broker) -> None:
    account = Account("one", "key1", api_secret=SECRET)
    request_token = "canaryRequest"
    broker.reply(403, kite_error("TokenException", f"{request_token} has expired"))
    async with KiteRest(broker.url, account) as rest:
        with pytest.raises(AuthError, match=r"403 TokenException \*\*\* has expired") as caught:
            await rest.session_token(request_token)
        assert_clean(caught.value)
        broker.reply(200, {"data": {"access_token": "canaryFresh"}})
        await rest.session_token(request_token)
    assert account.redactor()("canaryFresh") == MASK


async def test_a_header_that_cannot_be_written_is_an_error_without_it() -> None:
    async with KiteRest("http://127.0.0.1:9", Account("one", "key1", "canary\u2028" + TOKEN)) as rest:
        with pytest.raises(RestError) as caught:
            await rest.profile()
    assert_clean(caught.value)


async def test_no_secret_in_any_log(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    broker.reply(200, {"data": {"access_token": "fresh-canary-token"}})
    async with KiteRest(broker.url, ACCOUNT) as rest:
        await rest.profile()
        await rest.session_token("request1")
        broker.reply(403, kite_error("TokenException", TOKEN))
        with contextlib.suppress(AuthError):
            await rest.profile()
    assert caplog.records, "the HTTP library logs at DEBUG"
    for secret in (TOKEN, SECRET, "fresh-canary-token"):
        assert secret not in caplog.text


@pytest.mark.parametrize("url", ["", "ftp://x", "127.0.0.1:8000", "http://"])
def test_a_bad_address_is_refused_when_made(url: str) -> None:
    with pytest.raises(ValueError, match="expected http://HOST or https://HOST"):
        KiteRest(url, ACCOUNT)


def test_login_url() -> None:
    page = "https://kite.zerodha.com/connect/login"
    assert login_url(ACCOUNT, page) == "https://kite.zerodha.com/connect/login?v=3&api_key=key1"
    assert login_url(ACCOUNT, page, {"some": "X", "more": "Y"}) == (
        "https://kite.zerodha.com/connect/login?v=3&api_key=key1&redirect_params=some%3DX%26more%3DY"
    )


def assert_clean(error: BaseException) -> None:
    """No secret in the texts of the whole chain."""
    seen: list[BaseException] = []
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is not None and link not in seen:
            seen.append(link)
            links += [link.__cause__, link.__context__]
            assert "canary" not in f"{link} {link!r} {vars(link)}"
    assert "canary" not in "".join(traceback.format_exception(error))


async def test_the_authorities_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a tenth of a second, which all streams of the process would wait for at each check of a token."""
    read = Mock(wraps=httpx.create_ssl_context)
    monkeypatch.setattr(httpx, "create_ssl_context", read)
    tls_context.cache_clear()
    for _ in range(2):
        async with KiteRest("https://kite.invalid", ACCOUNT):
            pass
    read.assert_called_once()
    assert tls_context().verify_mode.name == "CERT_REQUIRED"
    assert tls_context().check_hostname
