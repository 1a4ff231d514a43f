"""The REST calls that capture needs, and the control address, from the standard library's threading server.

Kite Connect v3 docs: `GET /instruments[/{exchange}]` is CSV, gzipped for who accepts it, and needs no login;
`POST /session/token` takes api_key, request_token and checksum = SHA-256(api_key + request_token + api_secret);
`GET /user/profile` takes `Authorization: token api_key:access_token`; both take `X-Kite-Version: 3`. The login page,
which the broker has at another host, is at `/connect/login`. Errors are
`{"status": "error", "message": …, "error_type": …, "data": null}`.
"""

import asyncio
import datetime as dt
import gzip
import hashlib
import hmac
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from ingest.server.faults import FaultError, Rest, Standing
from ingest.server.loginpage import LOGIN_PATH, way_back
from ingest.server.settings import AccountSettings, SimulatorSettings
from ingest.simulator import Market, to_csv
from storage.clock import IST

CONTROL_PATH: Final = "/simulator"
CONTROL_SECONDS: Final = 30.0
MAX_BODY_BYTES: Final = 2**20
EXCHANGES: Final = ("NSE", "NFO", "CDS", "BSE", "BFO", "BCD", "MCX")
_ERROR_TYPES: Final = {400: "InputException", 403: "TokenException", 429: "NetworkException"}

Control = Callable[[str, Any], Coroutine[Any, Any, dict[str, Any]]]


class _Refusal(Exception):  # noqa: N818 (an answer, not an error of ours)
    """The answer is this HTTP status, with Kite's error JSON."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RestServer:
    """Listens on loopback from construction on, answers from `start` to `stop`."""

    def __init__(
        self,
        settings: SimulatorSettings,
        market: Market,
        standing: Standing,
        tokens: Mapping[str, str],
        control: Control,
    ) -> None:
        """`tokens` are the access tokens in force by api_key. Raises OSError if the port is taken."""
        self.settings = settings
        self.standing = standing
        self.tokens = tokens
        self.control = control
        self.market = market
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lists: dict[str, tuple[bytes, bytes]] = {}
        self._calls: dict[str, deque[float]] = {}
        self._lock = threading.Lock()
        handler = type("_BoundHandler", (_Handler,), {"rest": self})
        self._server = _HttpServer((settings.host, settings.api_port), handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="rest", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """Answer no more; waits for the listening thread, not for clients."""
        self._loop = None
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def ask(self, command: str, values: Any) -> dict[str, Any]:
        """Have the simulator's event loop do something, from a thread of this server."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self.control(command, values), self._loop).result(CONTROL_SECONDS)

    def instruments(self, exchange: str) -> tuple[bytes, bytes]:
        """The list of an exchange, or all ("") as CSV, plain and gzipped; made once."""
        with self._lock:
            if exchange not in self._lists:
                listed = self.market.universe.instruments
                plain = to_csv(one for one in listed if exchange in {"", one.exchange}).encode()
                self._lists[exchange] = (plain, gzip.compress(plain, 5, mtime=0))
            return self._lists[exchange]

    def check_rate(self, api_key: str) -> None:
        """Raises a refusal with 429 when the key has called too often within the last second."""
        now = time.monotonic()
        with self._lock:
            calls = self._calls.setdefault(api_key, deque())
            while calls and calls[0] < now - 1:
                calls.popleft()
            if len(calls) >= self.settings.requests_per_second:
                raise _Refusal(429, "Too many requests")
            calls.append(now)

    def account(self, api_key: str) -> AccountSettings:
        for account in self.settings.accounts:
            if account.api_key == api_key:
                return account
        raise _Refusal(403, "Invalid `api_key`.")


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our business; anything else is a bug to be seen."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request at a time of one HTTP connection."""

    protocol_version = "HTTP/1.1"
    server_version = "kitelake-simulator"
    sys_version = ""
    timeout = 30
    disable_nagle_algorithm = True
    rest: RestServer

    def log_message(self, *_: Any) -> None:
        """Say nothing: standard error is for what a user should act on."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, act: Callable[[str, dict[str, list[str]], bytes], None]) -> None:
        url = urlsplit(self.path)
        try:
            body = self._body()
            if not url.path.startswith(CONTROL_PATH + "/"):
                self._stand(url.path)
            act(url.path, parse_qs(url.query), body)
        except _Refusal as refusal:
            kind = _ERROR_TYPES.get(refusal.status, "NetworkException" if refusal.status > 500 else "GeneralException")
            error = {"status": "error", "message": str(refusal), "data": None, "error_type": kind}
            self._json(refusal.status, error)
        except FaultError as error:
            self._json(400, {"error": str(error)})

    def _stand(self, path: str) -> None:
        """Refuse if a standing fault says so."""
        api_key = self._authorization()[0]
        name = next((one.label for one in self.rest.settings.accounts if one.api_key == api_key), None)
        fault = self.rest.standing.take(Rest, name, time.monotonic(), lambda fault: path.startswith(fault.path))
        if fault is not None:
            raise _Refusal(fault.status, HTTPStatus(fault.status).phrase if fault.status in _STATUSES else "refused")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            raise _Refusal(400, "Invalid Content-Length")
        return self.rfile.read(int(length))

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _get(self, path: str, query: dict[str, list[str]], _body: bytes) -> None:
        parts = path.strip("/").split("/")
        if parts[0] == "instruments" and len(parts) <= 2:
            exchange = parts[1] if len(parts) == 2 else ""
            if exchange and exchange not in EXCHANGES:
                raise _Refusal(400, f"Invalid exchange `{exchange}`")
            self._instruments(exchange)
        elif path == "/user/profile":
            self._profile()
        elif path == LOGIN_PATH:
            if query.get("v") != ["3"]:
                raise _Refusal(400, "Invalid `v`: expected 3")
            account = self.rest.account(query.get("api_key", [""])[0])
            self._send(302, "text/html", b"", {"Location": way_back(account, query)})
        elif path == f"{CONTROL_PATH}/stats":
            self._json(200, self.rest.ask("stats", query.get("instruments", ["false"])[0].lower() in {"1", "true"}))
        else:
            raise _Refusal(404, "Route not found")

    def _post(self, path: str, _query: dict[str, list[str]], body: bytes) -> None:
        if path == "/session/token":
            self._session(parse_qs(body.decode("utf-8", "replace")))
        elif path == f"{CONTROL_PATH}/faults":
            try:
                values = json.loads(body)
            except ValueError:
                raise FaultError("not a fault: expected a JSON object") from None
            self._json(200, self.rest.ask("faults", values))
        else:
            raise _Refusal(404, "Route not found")

    def _instruments(self, exchange: str) -> None:
        plain, zipped = self.rest.instruments(exchange)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            self._send(200, "text/csv", zipped, {"Content-Encoding": "gzip"})
        else:
            self._send(200, "text/csv", plain, {})

    def _session(self, form: dict[str, list[str]]) -> None:
        self._check_version()
        given = {}
        for name in ("api_key", "request_token", "checksum"):
            given[name] = form.get(name, [""])[0]
            if not given[name]:
                raise _Refusal(400, f"Missing or empty field `{name}`")
        account = self.rest.account(given["api_key"])
        self.rest.check_rate(account.api_key)
        secret = account.api_secret.get_secret_value()
        checksum = hashlib.sha256((account.api_key + given["request_token"] + secret).encode()).hexdigest()
        if not hmac.compare_digest(checksum.encode(), given["checksum"].encode()):
            raise _Refusal(403, "Invalid `checksum`.")
        expected = account.request_token
        if expected is not None and expected.get_secret_value() != given["request_token"]:
            raise _Refusal(403, "Token is invalid or has expired.")
        login = dt.datetime.now(IST)
        tokens = {
            "api_key": account.api_key,
            "access_token": self.rest.tokens[account.api_key],
            "public_token": "simulated",
            "refresh_token": "",
            "enctoken": "",
            "login_time": f"{login:%Y-%m-%d %H:%M:%S}",
        }
        self._json(200, {"status": "success", "data": {**_user(account), **tokens}})

    def _profile(self) -> None:
        self._check_version()
        api_key, access_token = self._authorization()
        if not api_key or self.rest.tokens.get(api_key) != access_token:
            raise _Refusal(403, "Incorrect `api_key` or `access_token`.")
        self.rest.check_rate(api_key)
        self._json(200, {"status": "success", "data": _user(self.rest.account(api_key))})

    # ── pieces ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _authorization(self) -> tuple[str, str]:
        """api_key and access_token of the request, empty if it brings none."""
        scheme, _, rest = self.headers.get("Authorization", "").partition(" ")
        api_key, _, access_token = rest.partition(":")
        return (api_key, access_token) if scheme == "token" else ("", "")

    def _check_version(self) -> None:
        version = self.headers.get("X-Kite-Version")
        if version != "3":
            raise _Refusal(400, f"Invalid `X-Kite-Version`: got {version!r}, expected '3'")

    def _json(self, status: int, values: Any) -> None:
        self._send(status, "application/json", json.dumps(values).encode(), {})

    def _send(self, status: int, content_type: str, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


_STATUSES: Final = {status.value for status in HTTPStatus}


def _user(account: AccountSettings) -> dict[str, Any]:
    return {
        "user_id": account.user_id,
        "user_type": "individual",
        "email": "simulated@example.invalid",
        "user_name": f"Simulated {account.label}",
        "user_shortname": account.label,
        "broker": "ZERODHA",
        "exchanges": list(EXCHANGES),
        "products": ["CNC", "NRML", "MIS", "BO", "CO"],
        "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
        "avatar_url": None,
        "meta": {"demat_consent": "physical"},
    }
