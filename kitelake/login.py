"""`kitelake login`: the day's login in the browser, and the access token that comes of it, stored.

The broker sends the browser back to the app's redirect URL, which is a port of this machine, with a `request_token`
that serves once and for some minutes. Together with the app's api_secret it is exchanged for the access token of the
day (Kite Connect v3 docs, user). Where no browser can reach this machine, the user pastes the URL instead.

No token is in a log or on the screen, and the line of the request that holds one is not written anywhere.
"""

import asyncio
import datetime as dt
import errno
import getpass
import html
import queue
import sys
import threading
import webbrowser
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import typer

from ingest.auth import KiteRest, login_url
from ingest.errors import AuthError
from ingest.redact import Account
from ingest.tokens import checked_secret
from kitelake.accounts import AccountSection, Login, LoginSection, prepare_logins, store_login
from kitelake.errors import ConfigError, StartError
from storage.errors import KitelakeError
from storage.schema import IST

LOGIN_SECONDS: Final = 300.0
_SOCKET_SECONDS: Final = 10.0  # a browser opens connections that it does not use


def login(
    account: AccountSection,
    *,
    api_url: str,
    section: LoginSection,
    open_browser: bool = True,
    paste: bool = False,
    timeout_seconds: float = LOGIN_SECONDS,
) -> Login:
    """Log in to one account and store what comes of it, in place of the login before.

    `paste` reads the redirect URL, or the request_token in it, from standard input and does not listen.

    Raises ConfigError if config.yaml lacks what a login needs, StartError if the port cannot be listened on, AuthError
    if nobody logs in within the time or the broker refuses, and RestError if the broker cannot be asked.
    """
    if account.access_token is not None:
        raise ConfigError(
            f"account {account.name} does not use stored logins: delete its access_token from config.yaml to do so"
        )
    if account.api_secret is None:
        raise ConfigError(f"account {account.name}: a login needs the app's secret: add api_secret beside api_key")
    folder = section.logins()
    prepare_logins(folder)  # before the one request_token is spent
    app = Account(account.name, account.api_key.get_secret_value(), api_secret=account.api_secret)

    def complete(request_token: str) -> Login:
        made = asyncio.run(_exchange(app, api_url, request_token))
        store_login(folder, app.name, made)
        return made

    url = login_url(app, section.page)
    if paste:
        typer.echo(f"Log in to account {app.name} in any browser:\n\n  {url}\n")
        return complete(_pasted())
    with _RedirectServer(section.port, complete) as server:
        typer.echo(f"Log in to account {app.name} in a browser of this machine:\n\n  {url}\n")
        if open_browser:
            webbrowser.open(url)
        return server.result(timeout_seconds)


async def _exchange(account: Account, api_url: str, request_token: str) -> Login:
    """The access token for the request token, once the broker has taken it."""
    async with KiteRest(api_url, account) as rest:
        try:
            account.replace_token(await rest.session_token(request_token))
            made_at = dt.datetime.now(IST)
            profile = await rest.profile()
        except AuthError as error:
            raise AuthError(
                "the broker refuses the login: start it again (a request_token serves once, for some minutes), and if "
                f"that does not help, see whether api_secret in config.yaml is the app's of now ({error})"
            ) from None
    return Login(access_token=account.access_token, user_id=str(profile.get("user_id", "")), made_at=made_at)


def request_token_of(query: str) -> str:
    """The request token in the query of a redirect.

    Raises AuthError if there is none: `status=cancelled` comes from a user who declined.
    """
    values = {name: given[-1] for name, given in parse_qs(query).items()}
    if values.get("status", "success") != "success":
        raise AuthError("the broker's page ended without a login: it gave another status than `success`")
    try:
        return checked_secret(values.get("request_token", ""), "")
    except ValueError:
        raise AuthError(
            "that is no request_token and no address with one, such as http://127.0.0.1/?request_token=…&status=success"
        ) from None


def _pasted() -> str:
    """The request token that the user pastes, by itself or in the redirect URL. It is not shown."""
    prompt = "Then paste the address that the browser ended at, or the request_token in it: "
    given = (getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()).strip()
    query = given.partition("#")[0].rpartition("?")[2]
    return request_token_of(query if "=" in query else f"request_token={query}")


class _RedirectServer(ThreadingHTTPServer):
    """Waits on loopback for the browser's way back. The first good redirect is completed, and no other."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, complete: Callable[[str], Login]) -> None:
        """Raises StartError if the port is taken."""
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartError(f"port {port} of login.port cannot be listened on: {error.strerror}") from None
            raise StartError(
                f"port {port} is in use, perhaps by another `kitelake login`. Else set login.port, and the redirect "
                "URL of the Kite app, to another one; or use --paste"
            ) from None
        self.complete = complete
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self.taken = threading.Lock()
        self.results: queue.SimpleQueue[Login | Exception] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "_RedirectServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def result(self, timeout_seconds: float) -> Login:
        """What came of the redirect. Raises what the login failed of, or AuthError if there is none in time."""
        try:
            result = self.results.get(timeout=timeout_seconds)
        except queue.Empty:
            if self.taken.acquire(blocking=False):
                raise AuthError(f"nobody logged in within {timeout_seconds:g} s: try again") from None
            result = self.results.get()  # it came at the last moment, and its REST calls have limits of their own
        if isinstance(result, Exception):
            raise result
        return result

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is none of our business; a traceback might show the request."""


class _Handler(BaseHTTPRequestHandler):
    server: _RedirectServer
    server_version = "kitelake"
    sys_version = ""
    timeout = _SOCKET_SECONDS

    def log_message(self, *_: Any) -> None:
        """Nothing: the request line holds the request token."""

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:  # another site's name for this machine
            self._answer(HTTPStatus.BAD_REQUEST, "This address is for the redirect of a login only.")
            return
        values = parse_qs(urlsplit(self.path).query)
        if "request_token" not in values and values.get("status", ["success"]) == ["success"]:
            self._answer(HTTPStatus.NOT_FOUND, "Expected the redirect of a login, with a request_token.")
        elif not self.server.taken.acquire(blocking=False):
            self._answer(HTTPStatus.CONFLICT, "This login is over. Start another one with `kitelake login`.")
        else:
            self._complete()

    def _complete(self) -> None:
        result: Login | Exception
        try:
            result = self.server.complete(request_token_of(urlsplit(self.path).query))
            text = "You are logged in. This window can be closed."
        except Exception as error:  # for the thread that waits for it
            result = error
            text = f"Not logged in: {error}" if isinstance(error, KitelakeError) else "Not logged in."
        try:
            self._answer(HTTPStatus.OK, text)
        finally:
            self.server.results.put(result)

    def _answer(self, status: HTTPStatus, text: str) -> None:
        body = f"<!doctype html><title>Kitelake</title><p>{html.escape(text)}".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Referrer-Policy", "no-referrer")  # the address holds the request token
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
