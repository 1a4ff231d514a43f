"""The broker's REST calls, and the control address.

Kite Connect v3 docs: `GET /instruments[/{exchange}]` is CSV, gzipped for who accepts it, and needs no login;
`POST /session/token` takes api_key, request_token and checksum = SHA-256(api_key + request_token + api_secret);
`GET /user/profile` takes `Authorization: token api_key:access_token`; both take `X-Kite-Version: 3`. What else there is
to call the source says. Errors are `{"status": "error", "message": …, "error_type": …, "data": null}`.

The login page, which the broker has at another host, is at `/connect/login`, as far as a browser that logs in without a
word sees it. Kite Connect v3 docs, user, login flow: the page is opened with `v=3` and `api_key`; it sends the browser
to the app's redirect URL with a `request_token`, and with what `redirect_params` held, a query string that was encoded
once more.
"""

import asyncio
import datetime as dt
import gzip
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from ingest.server.admission import Accounts, AccountSettings, ServerSettings
from ingest.server.faults import ControlError, RefuseRest, StandingFaults
from ingest.server.http import OTHER_SITE, HttpError, HttpRequest, HttpResponse, HttpServer, of_another_site
from ingest.server.source import CallRefusedError, PacketSource, RestCall
from storage.clock import IST

LOGIN_PATH: Final = "/connect/login"
ANSWER_SECONDS: Final = 30.0
"""How long the event loop may take to answer."""

EXCHANGES: Final = ("NSE", "NFO", "CDS", "BSE", "BFO", "BCD", "MCX")
_ERROR_TYPES: Final = {400: "InputException", 403: "TokenException", 429: "NetworkException"}
_STATUSES: Final = {status.value for status in HTTPStatus}

Control = Callable[[str, str, Any], Coroutine[Any, Any, dict[str, Any]]]
Call = Callable[[Callable[[RestCall], Any], RestCall], Coroutine[Any, Any, Any]]


class RestServer:
    """Listens from construction on, answers from `start` to `stop`."""

    def __init__(
        self,
        settings: ServerSettings,
        source: PacketSource,
        standing: StandingFaults,
        accounts: Accounts,
        control: Control,
        call: Call,
    ) -> None:
        """`control` obeys a command (see `BrokerServer.control`), `call` has the source answer; both are run on the
        event loop. Raises `ListenError` if the port is taken."""
        self._settings = settings
        self._source = source
        self._standing = standing
        self._accounts = accounts
        self._control = control
        self._call = call
        self._control_path = f"/{source.name}"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lists: dict[str, tuple[bytes, bytes]] = {}
        self._lists_lock = threading.Lock()
        self._calls: dict[str, deque[float]] = {}
        self._calls_lock = threading.Lock()
        self.open_calls = 0
        """Calls that the source answers and whose answer is not sent yet."""
        self._http = HttpServer(
            self._answer,
            name=source.name,
            host=settings.host,
            port=settings.api_port,
            methods=("GET", "POST", "PUT", "DELETE"),
            show_error=_error,
            keep_alive=True,
        )
        self.port = self._http.port

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._http.start()

    def stop(self) -> None:
        """Answer no more; waits for the listening thread, not for clients."""
        self._http.stop()

    def _run(self, duty: Coroutine[Any, Any, Any]) -> Any:
        """Have the event loop do something, from a thread of the HTTP server."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(duty, self._loop).result(ANSWER_SECONDS)

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self, request: HttpRequest) -> HttpResponse:
        if of_another_site(request.headers.get("Host"), request.headers.get("Origin")):
            raise CallRefusedError(HTTPStatus.FORBIDDEN, "PermissionException", OTHER_SITE)
        if request.path.startswith(f"{self._control_path}/"):
            return self._obey(request)
        self._check_standing(request)
        parts = request.path.strip("/").split("/")
        if request.method == "GET" and parts[0] == "instruments" and len(parts) <= 2:
            return self._instruments(request, parts[1] if len(parts) == 2 else "")
        match request.method, request.path:
            case "GET", "/user/profile":
                return _success(self._source.profile(self._login(request)))
            case "POST", "/session/token":
                return _success(self._session(request))
            case "GET", path if path == LOGIN_PATH:
                return self._login_page(request)
        route = self._source.route(request.method, request.path)
        if route is None:
            raise HttpError(404, "Route not found")
        account = self._login(request)
        call = RestCall(account, request.method, request.path, request.query, request.form, request.body)
        self._count_open(1)
        try:
            data = self._run(self._call(route, call))
        except BaseException:
            self._count_open(-1)
            raise
        return replace(_success(data), sent=lambda: self._count_open(-1))

    def _count_open(self, change: int) -> None:
        with self._calls_lock:
            self.open_calls += change

    def _obey(self, request: HttpRequest) -> HttpResponse:
        command = request.path.removeprefix(f"{self._control_path}/")
        values: Any = {name: given[0] for name, given in request.query.items()}
        try:
            if request.method == "POST":
                values = _body(request)
            return _json(200, self._run(self._control(request.method, command, values)))
        except ControlError as error:
            return _json(400, {"error": str(error)})

    def _instruments(self, request: HttpRequest, exchange: str) -> HttpResponse:
        if exchange and exchange not in EXCHANGES:
            raise HttpError(400, f"Invalid exchange `{exchange}`")
        with self._lists_lock:  # made once, plain and gzipped
            if exchange not in self._lists:
                text = self._source.instruments(exchange).encode()
                self._lists[exchange] = (text, gzip.compress(text, 5, mtime=0))
            plain, zipped = self._lists[exchange]
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return HttpResponse(200, "text/csv", zipped, {"Content-Encoding": "gzip"})
        return HttpResponse(200, "text/csv", plain)

    def _session(self, request: HttpRequest) -> dict[str, Any]:
        _check_version(request)
        form = request.form
        given = {}
        for name in ("api_key", "request_token", "checksum"):
            given[name] = form.get(name, [""])[0]
            if not given[name]:
                raise HttpError(400, f"Missing or empty field `{name}`")
        account = self._account(given["api_key"])
        self._check_rate(account)
        if not self._accounts.anybody:
            _check_session(account, given["request_token"], given["checksum"])
        login = dt.datetime.now(IST)
        return {
            **self._source.profile(account),
            "api_key": given["api_key"],
            "access_token": self._accounts.token(account),
            "public_token": "simulated",
            "refresh_token": "",
            "enctoken": "",
            "login_time": f"{login:%Y-%m-%d %H:%M:%S}",
        }

    def _login_page(self, request: HttpRequest) -> HttpResponse:
        query = request.query
        if query.get("v") != ["3"]:
            raise HttpError(400, "Invalid `v`: expected 3")
        account = self._account(query.get("api_key", [""])[0])
        return HttpResponse(302, "text/html", b"", {"Location": _way_back(account, query)})

    # ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_standing(self, request: HttpRequest) -> None:
        """Refuse if a standing fault says so."""
        account = self._accounts.of(_authorization(request)[0])
        label = account.label if account else None
        fault = self._standing.take(
            RefuseRest, label, time.monotonic(), lambda fault: request.path.startswith(fault.path)
        )
        if fault is not None:
            raise HttpError(fault.status, HTTPStatus(fault.status).phrase if fault.status in _STATUSES else "refused")

    def _login(self, request: HttpRequest) -> AccountSettings:
        """Whose call it is; refused without the token in force, and when there are too many."""
        _check_version(request)
        account = self._accounts.admit(*_authorization(request))
        if account is None:
            raise HttpError(403, "Incorrect `api_key` or `access_token`.")
        self._check_rate(account)
        return account

    def _check_rate(self, account: AccountSettings) -> None:
        """Refuse when the account has called too often within the last second."""
        now = time.monotonic()
        with self._calls_lock:
            calls = self._calls.setdefault(account.label, deque())
            while calls and calls[0] < now - 1:
                calls.popleft()
            if len(calls) >= self._settings.requests_per_second:
                raise HttpError(429, "Too many requests")
            calls.append(now)

    def _account(self, api_key: str) -> AccountSettings:
        account = self._accounts.of(api_key)
        if account is None:
            raise HttpError(403, "Invalid `api_key`.")
        return account


def _authorization(request: HttpRequest) -> tuple[str, str]:
    """api_key and access_token of the request, empty if it brings none."""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    api_key, _, access_token = rest.partition(":")
    return (api_key, access_token) if scheme == "token" else ("", "")


def _check_session(account: AccountSettings, request_token: str, checksum: str) -> None:
    secret = account.api_secret.get_secret_value()
    expected = hashlib.sha256((account.api_key + request_token + secret).encode()).hexdigest()
    if not hmac.compare_digest(expected.encode(), checksum.encode()):
        raise HttpError(403, "Invalid `checksum`.")
    if account.request_token is not None and account.request_token.get_secret_value() != request_token:
        raise HttpError(403, "Token is invalid or has expired.")


def _body(request: HttpRequest) -> Any:
    """What was posted; nothing at all is an empty object."""
    try:
        return json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        raise ControlError(f"{request.path}: expected a JSON object") from None


def _check_version(request: HttpRequest) -> None:
    version = request.headers.get("X-Kite-Version")
    if version != "3":
        raise HttpError(400, f"Invalid `X-Kite-Version`: got {version!r}, expected '3'")


def _way_back(account: AccountSettings, query: Mapping[str, Sequence[str]]) -> str:
    """Where the login page sends the browser once the account's user has logged in. `query` is the page's own."""
    expected = account.request_token
    request_token = secrets.token_hex(16) if expected is None else expected.get_secret_value()
    values = [("action", "login"), ("type", "login"), ("status", "success"), ("request_token", request_token)]
    passed_on = parse_qsl(query.get("redirect_params", [""])[0], keep_blank_values=True)
    url = account.redirect_url
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(values + passed_on)}"


def _json(status: int, values: Any) -> HttpResponse:
    return HttpResponse(status, "application/json", json.dumps(values).encode())


def _success(data: Any) -> HttpResponse:
    return _json(200, {"status": "success", "data": data})


def _error(error: HttpError) -> HttpResponse:
    if isinstance(error, CallRefusedError):
        kind = error.error_type
    else:
        kind = _ERROR_TYPES.get(error.status, "NetworkException" if error.status > 500 else "GeneralException")
    return _json(error.status, {"status": "error", "message": str(error), "data": None, "error_type": kind})
