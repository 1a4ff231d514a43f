"""The browser's way back from the broker's login page: a port on loopback that takes the one good answer.

Any page that is open in a browser of this machine can send one here, too. So an answer counts if it brings back the
`state` that went out with the question (Kite Connect v3 docs, user, login flow: `redirect_params` come back with the
redirect); one with another state does not. Without a state, as from a broker's page that does not pass it on, it is
tried, if the browser went here itself and did not load it for a page; the caller decides what else it asks of such a
one. What is not taken is answered with the reason, and waiting goes on: only time ends it, or a user who declines.

The line of a request holds the request_token: it is written nowhere.
"""

import html
import queue
import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from ingest.accounts import checked_secret
from ingest.errors import AuthError
from ingest.server import HttpRequest, HttpResponse, HttpServer, ListenError, of_another_site
from kitelake.accounts.logins import Login
from kitelake.errors import StartError
from storage.errors import KitelakeError

STATE: Final = "state"
NO_ANSWER: Final = (
    "that is no request_token and no address with one, such as http://127.0.0.1/?request_token=…&status=success"
)
IDLE_SECONDS: Final = 10.0  # a browser opens connections that it does not use
_PAUSE_SECONDS: Final = 0.2  # between answers that were refused: the broker takes 10 calls a second

_OVER: Final = "This login is over. Start another one with `kitelake login`."


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


class RedirectServer:
    """Waits on loopback for the browser's way back. The first good answer is completed, and no other."""

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
            # Quiet: a traceback might show the request.
            self._http = HttpServer(self._answer, name="login", port=port, idle_seconds=IDLE_SECONDS, quiet=True)
        except ListenError as error:
            if not error.in_use:
                raise StartError(f"port {port} of login.port cannot be listened on: {error.reason}") from None
            raise StartError(
                f"port {port} is in use, perhaps by another `kitelake login`. Else set login.port, and the redirect "
                "URL of the Kite app, to another one; or use --paste"
            ) from None
        self._state = state
        self._exchange = exchange
        self._store = store
        self._refused = refused
        self._turn = threading.Lock()  # one answer after the other
        self._over = False
        self._next_at = 0.0
        self._last_refusal = ""
        self._results: queue.SimpleQueue[Login | Exception] = queue.SimpleQueue()

    def __enter__(self) -> "RedirectServer":
        self._http.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.stop()

    def result(self, timeout_seconds: float) -> Login:
        """What came of the good answer. Raises what its login failed of, or AuthError if there is none in time."""
        try:
            result = self._results.get(timeout=timeout_seconds)
        except queue.Empty:
            with self._turn:  # one may have come at the last moment, and its REST calls have limits of their own
                came, self._over = self._over, True
            if not came:
                last = f" (the last answer was not taken: {self._last_refusal})" if self._last_refusal else ""
                raise AuthError(f"nobody logged in within {timeout_seconds:g} s: try again{last}") from None
            result = self._results.get()  # as soon as the browser has its answer, or has gone away
        if isinstance(result, Exception):
            raise result
        return result

    def _answer(self, request: HttpRequest) -> HttpResponse:
        values = _values(request.query_text)
        other_site = of_another_site(request.headers.get("Host"))  # no Origin: it comes from the broker's page
        # Browsers say what they load an address for (W3C, Fetch Metadata Request Headers): not a picture, nor a frame.
        if other_site or request.headers.get("Sec-Fetch-Dest", "document") != "document":
            return _page(HTTPStatus.BAD_REQUEST, "This address is for the redirect of a login only.")
        if "request_token" not in values and not _declined(values):
            return _page(HTTPStatus.NOT_FOUND, "Expected the redirect of a login, with a request_token.")
        if self._over:  # while the good one is being stored
            return _page(HTTPStatus.CONFLICT, _OVER)
        with self._turn:
            return self._take(request.query_text)

    def _take(self, query: str) -> HttpResponse:
        """Complete the login with an answer that came, if it is a good one."""
        if self._over:
            return _page(HTTPStatus.CONFLICT, _OVER)
        time.sleep(max(self._next_at - time.monotonic(), 0))
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
                return self._refuse(error)
            self._over = True
            result = error
            text = f"Not logged in: {error}" if isinstance(error, KitelakeError) else "Not logged in."
        return _page(HTTPStatus.OK, text, lambda: self._results.put(result))

    def _refuse(self, error: AuthError) -> HttpResponse:
        self._last_refusal = str(error)
        self._refused(self._last_refusal)
        self._next_at = time.monotonic() + _PAUSE_SECONDS
        return _page(HTTPStatus.FORBIDDEN, f"Not logged in: {error}. `kitelake login` goes on waiting.")


def _page(status: HTTPStatus, text: str, sent: Callable[[], None] | None = None) -> HttpResponse:
    body = f"<!doctype html><title>Kitelake</title><p>{html.escape(text)}".encode()
    headers = {
        "Referrer-Policy": "no-referrer",  # the address holds the request token
        "Cache-Control": "no-store",
    }
    return HttpResponse(status, "text/html; charset=utf-8", body, headers, sent)
