"""The browser's way back from the broker's login page: a port on loopback that takes the one good answer.

Any page that is open in a browser of this machine can send one here, too. So an answer counts if it brings back the
`state` that went out with the question (Kite Connect v3 docs, user, login flow: `redirect_params` come back with the
redirect); one with another state does not. Without a state, as from a broker's page that does not pass it on, it is
tried, if the browser went here itself and did not load it for a page; the caller decides what else it asks of such a
one. What is not taken is answered with the reason, and waiting goes on: only time ends it, or a user who declines.

The line of a request holds the request_token: it is written nowhere.
"""

import errno
import html
import queue
import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from ingest.accounts import checked_secret
from ingest.errors import AuthError
from kitelake.accounts.logins import Login
from kitelake.errors import StartError
from storage.errors import KitelakeError

STATE: Final = "state"
NO_ANSWER: Final = (
    "that is no request_token and no address with one, such as http://127.0.0.1/?request_token=…&status=success"
)
_SOCKET_SECONDS: Final = 10.0  # a browser opens connections that it does not use
_PAUSE_SECONDS: Final = 0.2  # between answers that were refused: the broker takes 10 calls a second


def request_token_of(query: str) -> str:
    """The request token in the query of a redirect.

    Raises AuthError if there is none: `status=cancelled` comes from a user who declined.
    """
    values = _values(query)
    if _declined(values):
        raise AuthError("the broker's page ended without a login: it gave another status than `success`")
    try:
        return checked_secret(values.get("request_token", ""), "")
    except ValueError:
        raise AuthError(NO_ANSWER) from None


def brings_back(query: str, state: str) -> bool:
    """Whether the answer has the state of our question; False without any. Raises AuthError for another one."""
    given = _values(query).get(STATE)
    if given is None:
        return False
    if not secrets.compare_digest(given.encode(errors="replace"), state.encode()):
        raise AuthError("that is the answer to another login than this one: go by the address of this one")
    return True


def _values(query: str) -> dict[str, str]:
    return {name: given[-1] for name, given in parse_qs(query).items()}


def _declined(values: dict[str, str]) -> bool:
    return values.get("status", "success") != "success"


class RedirectServer(ThreadingHTTPServer):
    """Waits on loopback for the browser's way back. The first good answer is completed, and no other."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        port: int,
        state: str,
        exchange: Callable[[str, bool], Login],
        store: Callable[[Login], object],
        refused: Callable[[str], object],
    ) -> None:
        """`exchange` gets a request token, and whether it came with `state`; it raises AuthError for one that is not
        good. `store` gets what came of the good one, `refused` why another answer was not taken.

        Raises StartError if the port is taken.
        """
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartError(f"port {port} of login.port cannot be listened on: {error.strerror}") from None
            raise StartError(
                f"port {port} is in use, perhaps by another `kitelake login`. Else set login.port, and the redirect "
                "URL of the Kite app, to another one; or use --paste"
            ) from None
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._state = state
        self._exchange = exchange
        self._store = store
        self._refused = refused
        self._turn = threading.Lock()  # one answer after the other
        self._over = False
        self._last_refusal = ""
        self._results: queue.SimpleQueue[Login | Exception] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "RedirectServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def result(self, timeout_seconds: float) -> Login:
        """What came of the good answer. Raises what its login failed of, or AuthError if there is none in time."""
        try:
            result = self._results.get(timeout=timeout_seconds)
        except queue.Empty:
            with self._turn:  # one may have come at the last moment, and its REST calls have limits of their own
                self._over = True
            try:
                result = self._results.get_nowait()
            except queue.Empty:
                last = f" (the last answer was not taken: {self._last_refusal})" if self._last_refusal else ""
                raise AuthError(f"nobody logged in within {timeout_seconds:g} s: try again{last}") from None
        if isinstance(result, Exception):
            raise result
        return result

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is none of our business; a traceback might show the request."""

    def take(self, query: str, answer: Callable[[HTTPStatus, str], None]) -> None:
        """Complete the login with an answer that came, if it is a good one, and say to `answer` what came of it."""
        if self._over:  # while the good one is being stored
            answer(HTTPStatus.CONFLICT, "This login is over. Start another one with `kitelake login`.")
            return
        with self._turn:
            if self._over:
                answer(HTTPStatus.CONFLICT, "This login is over. Start another one with `kitelake login`.")
                return
            result: Login | Exception
            try:
                bound = brings_back(query, self._state)
                self._over = bound and _declined(_values(query))  # by the user, and by no other page
                result = self._exchange(request_token_of(query), bound)
                self._over = True
                self._store(result)
                text = "You are logged in. This window can be closed."
            except Exception as error:  # for the thread that waits for it
                if isinstance(error, AuthError) and not self._over:
                    self._refuse(error, answer)
                    return
                self._over = True
                result = error
                text = f"Not logged in: {error}" if isinstance(error, KitelakeError) else "Not logged in."
            try:
                answer(HTTPStatus.OK, text)
            finally:
                self._results.put(result)

    def _refuse(self, error: AuthError, answer: Callable[[HTTPStatus, str], None]) -> None:
        self._last_refusal = str(error)
        self._refused(self._last_refusal)
        answer(HTTPStatus.FORBIDDEN, f"Not logged in: {error}. `kitelake login` goes on waiting.")
        time.sleep(_PAUSE_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    server: RedirectServer
    server_version = "kitelake"
    sys_version = ""
    timeout = _SOCKET_SECONDS

    def log_message(self, *_: Any) -> None:
        """Nothing: the request line holds the request token."""

    def do_GET(self) -> None:
        query = urlsplit(self.path).query
        values = _values(query)
        other_site = self.headers.get("Host") not in self.server.hosts  # its name for this machine
        # Browsers say what they load an address for (W3C, Fetch Metadata Request Headers): not a picture, nor a frame.
        if other_site or self.headers.get("Sec-Fetch-Dest", "document") != "document":
            self._answer(HTTPStatus.BAD_REQUEST, "This address is for the redirect of a login only.")
        elif "request_token" not in values and not _declined(values):
            self._answer(HTTPStatus.NOT_FOUND, "Expected the redirect of a login, with a request_token.")
        else:
            self.server.take(query, self._answer)

    def _answer(self, status: HTTPStatus, text: str) -> None:
        body = f"<!doctype html><title>Kitelake</title><p>{html.escape(text)}".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Referrer-Policy", "no-referrer")  # the address holds the request token
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
