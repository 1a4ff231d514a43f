"""The one way to serve HTTP: the standard library's server on a port of this machine, a thread for each connection.

Whoever serves gives a function from request to response. What is bounded here, once for all of them: the size of a
body, how long a socket may be silent, how many connections are open (lines and headers the library bounds). Request
lines are written nowhere: they may hold a token.
"""

import errno
import ipaddress
import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from ingest.errors import ServerError

LOCALHOST: Final = "127.0.0.1"
OTHER_SITE: Final = (
    "A page of another site asks for this: expected a loopback address or localhost, here and as its origin"
)
MAX_BODY_BYTES: Final = 2**20
MAX_OPEN: Final = 256
_LENGTH: Final = re.compile("[0-9]{1,20}")  # of so many digits int() makes a number
POLL_SECONDS: Final = 0.05  # how long a stop takes at most


class ListenError(ServerError):
    """A port cannot be listened on. `reason` is the system's, `in_use` whether another process has it."""

    def __init__(self, host: str, port: int, error: OSError | UnicodeError) -> None:
        self.reason = (error.strerror or str(error)) if isinstance(error, OSError) else "no such host"
        self.in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        super().__init__(f"cannot listen on {host} port {port}: {self.reason}")


class HttpError(Exception):
    """The answer to a request is this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class HttpRequest:
    """One request, its body read. `query` and `form`, which is what the body holds as a form, by name."""

    method: str
    path: str
    query_text: str
    headers: Message
    body: bytes

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_text)

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode("utf-8", "replace"))


@dataclass(frozen=True)
class HttpResponse:
    """`sent`, if there is one, is called when the client has been answered, or has gone away."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: Callable[[], None] | None = None


def is_loopback(host: str) -> bool:
    """Whether it is a name or an address of this machine that leads nowhere else."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def of_another_site(host: str | None, origin: str | None = None) -> bool:
    """Whether the headers Host and Origin say that a browser sends a request for a page that is not of this machine, or
    of another server on it.

    Any page can have its browser send a request here, and a name of its own site lead here. Browsers name both; what is
    no browser need not.
    """
    try:
        own_name = host is None or is_loopback(urlsplit(f"//{host}").hostname or "")
        own_page = origin is None or urlsplit(origin).netloc.lower() == (host or "").lower()
    except ValueError:
        return True
    return not (own_name and own_page)


def plain_error(error: HttpError) -> HttpResponse:
    """An error as a line of text."""
    return HttpResponse(error.status, "text/plain; charset=utf-8", f"{error}\n".encode())


class HttpServer:
    """Listens from construction on, answers from `start` to `stop`, or as long as the context lasts."""

    def __init__(
        self,
        handle: Callable[[HttpRequest], HttpResponse],
        *,
        name: str,
        host: str = LOCALHOST,
        port: int = 0,
        methods: tuple[str, ...] = ("GET",),
        show_error: Callable[[HttpError], HttpResponse] = plain_error,
        idle_seconds: float = 30.0,
        keep_alive: bool = False,
        quiet: bool = False,
    ) -> None:
        """`handle` is called in the connection's thread, and may raise `HttpError`; `show_error` makes a response of
        that. What else it raises is answered with 500, and its traceback is written unless `quiet`. `name` is what the
        server calls itself. `port` 0: a free one, which is `port` then.

        Raises `ListenError`.
        """
        try:
            family, address = _resolve(host, port)
            self._server = _Server(address, family)
        except (OSError, UnicodeError) as error:
            raise ListenError(host, port, error) from None
        self._server.rules = _Rules(handle, show_error, methods, f"kitelake-{name}", idle_seconds, keep_alive, quiet)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name=f"http-{name}", daemon=True
        )

    def __enter__(self) -> "HttpServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Listen no more, and read no more from open connections; answers on their way are not waited for."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.end_connections()


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return family, address


@dataclass(frozen=True)
class _Rules:
    handle: Callable[[HttpRequest], HttpResponse]
    show_error: Callable[[HttpError], HttpResponse]
    methods: tuple[str, ...]
    version: str
    idle_seconds: float
    keep_alive: bool
    quiet: bool


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    rules: _Rules

    def __init__(self, address: Any, family: socket.AddressFamily) -> None:
        self.address_family = family
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the library's look-up of this machine's name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._lock:
            taken = len(self._open) < MAX_OPEN
            if taken:
                self._open.add(request)
        return taken

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Their threads end when they find nothing more to read."""
        with self._lock:
            for one in self._open:
                try:
                    one.shutdown(socket.SHUT_RD)
                except OSError:
                    continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our business; anything else is a bug to be seen."""
        if not self.rules.quiet and not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """The requests of one connection, one after the other."""

    server: _Server
    sys_version = ""
    disable_nagle_algorithm = True

    def setup(self) -> None:
        rules = self.server.rules
        self.request.settimeout(rules.idle_seconds)
        self.server_version = rules.version
        self.protocol_version = "HTTP/1.1" if rules.keep_alive else "HTTP/1.0"
        super().setup()

    def log_message(self, *_: Any) -> None:
        """Nothing: standard error is for what a user should act on, and a request line may hold a token."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        rules = self.server.rules
        if self.command not in rules.methods:
            self.send_error(HTTPStatus.NOT_IMPLEMENTED, f"Unsupported method ({self.command!r})")
            return
        try:
            response = rules.handle(self._request())
        except HttpError as error:
            response = rules.show_error(error)
        except Exception:
            self._send(rules.show_error(HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error")))
            raise
        self._send(response)

    def _request(self) -> HttpRequest:
        length = self.headers.get("Content-Length", "0")
        if not _LENGTH.fullmatch(length) or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            raise HttpError(HTTPStatus.BAD_REQUEST, "Invalid Content-Length")
        body = self.rfile.read(int(length))
        try:
            url = urlsplit(self.path)
        except ValueError:
            raise HttpError(HTTPStatus.BAD_REQUEST, "Invalid address") from None
        return HttpRequest(self.command, url.path, url.query, self.headers, body)

    def _send(self, response: HttpResponse) -> None:
        values = {
            "Content-Type": response.content_type,
            "Content-Length": str(len(response.body)),
            **response.headers,
        }
        try:
            self.send_response(response.status)
            for name, value in values.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.body)
        finally:
            if response.sent is not None:
                response.sent()
