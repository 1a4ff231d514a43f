"""A REST server that answers as a test wants it to: instrument lists, errors, half answers, none."""

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

HEADER = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,"
    "segment,exchange\n"
)

Answer = Callable[["Handler"], None]


class Broker(ThreadingHTTPServer):
    """Answers every call as `answer` does, and counts the calls."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Answer = nothing
        self.calls = 0
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Broker

    def do_GET(self) -> None:
        self.server.calls += 1
        self.server.answer(self)

    def send(self, data: bytes, *, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Keep still."""


def csv(rows: int, first: int = 0) -> bytes:
    lines = (f"{(n << 8) | 1},{n},S{n},S {n} LTD,0,,0,0.05,1,EQ,NSE,NSE\n" for n in range(first + 1, first + rows + 1))
    return (HEADER + "".join(lines)).encode()


def plain(data: bytes) -> Answer:
    return lambda handler: handler.send(data)


def packed(data: bytes) -> Answer:
    """As the broker does it: gzip in the transfer."""
    return lambda handler: handler.send(gzip.compress(data), Content_Encoding="gzip")


def failing(handler: Handler) -> None:
    handler.send(b'{"status":"error","message":"down","error_type":"GeneralException"}', status=500)


def nothing(handler: Handler) -> None:
    handler.close_connection = True


def hanging(handler: Handler) -> None:
    handler.server.closing.wait(30)


def dripping(handler: Handler) -> None:
    """A byte now and then, so that no single read takes long."""
    handler.send(b"", length=1_000_000)
    while not handler.server.closing.wait(0.02):
        handler.wfile.write(b"i")


def cut_off(handler: Handler) -> None:
    whole = csv(100)
    handler.send(whole[: len(whole) // 2], length=len(whole))


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()
