"""The HTTP server that login, metrics and the broker's REST calls share: its answers, its bounds and its end."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ingest.server import http as served
from ingest.server.http import HttpError, HttpRequest, HttpResponse, HttpServer, ListenError, of_another_site
from tests.support.waiting import PATIENCE_SECONDS


def echo(request: HttpRequest) -> HttpResponse:
    """What came, in one line; `/refused` and `/broken` do as they say."""
    if request.path == "/refused":
        raise HttpError(403, "not here")
    if request.path == "/broken":
        raise ZeroDivisionError
    text = f"{request.method} {request.path} {request.query} {request.form} {request.headers.get('X-Name')}"
    return HttpResponse(200, "text/plain", text.encode(), {"X-Kind": "echo"})


@contextlib.contextmanager
def serving(handle: Callable[[HttpRequest], HttpResponse] = echo, **options: Any) -> Iterator[HttpServer]:
    with HttpServer(handle, name="test", **options) as server:
        yield server


def ask(server: HttpServer, method: str, path: str, **more: Any) -> http.client.HTTPResponse:
    """The answer, read whole: its `body`."""
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    ) as connection:
        connection.request(method, path, **more)
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        return answer


def join_handlers() -> None:
    """Wait for the threads of connections."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and "process_request_thread" in thread.name:
            thread.join(PATIENCE_SECONDS)


def text_of(answer: http.client.HTTPResponse) -> str:
    return answer.body.decode()  # type: ignore[attr-defined, no-any-return]


def exchange(client: socket.socket) -> None:
    """One request on a connection that stays open, and its answer to the last byte."""
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    got = b""
    while not got.endswith(b"GET / {} {} None"):
        more = client.recv(4096)
        assert more, got
        got += more
    assert got.startswith(b"HTTP/1.1 200 ")


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)


def test_what_is_asked_comes_whole_and_so_does_the_answer() -> None:
    with serving(methods=("GET", "POST")) as server:
        answer = ask(server, "POST", "/a/b?x=1&x=2", body="y=3&z=%C3%BC", headers={"X-Name": "me"})
        assert (answer.status, answer.headers["X-Kind"]) == (200, "echo")
        assert text_of(answer) == "POST /a/b {'x': ['1', '2']} {'y': ['3'], 'z': ['ü']} me"
        assert answer.headers["Server"] == "kitelake-test "
        assert text_of(ask(server, "GET", "/")) == "GET / {} {} None"


def test_other_methods_are_not_implemented() -> None:
    with serving() as server:
        assert [ask(server, method, "/").status for method in ("POST", "PUT", "DELETE", "PATCH")] == [501] * 4


def test_a_refusal_is_answered_as_whoever_serves_shows_it() -> None:
    with serving() as server:
        answer = ask(server, "GET", "/refused")
        assert (answer.status, text_of(answer)) == (403, "not here\n")
    with serving(show_error=lambda error: HttpResponse(error.status, "text/x", f"<{error}>".encode())) as server:
        assert text_of(ask(server, "GET", "/refused")) == "<not here>"


@pytest.mark.parametrize("quiet", [False, True])
def test_a_mistake_is_answered_with_500_and_shown_unless_that_is_not_wanted(
    quiet: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(quiet=quiet) as server:
        assert ask(server, "GET", "/broken?token=canary").status == 500
        assert ask(server, "GET", "/").status == 200, "it goes on"
    join_handlers()  # the mistake is written after it was answered
    written = capfd.readouterr().err
    assert ("ZeroDivisionError" in written) is not quiet
    assert "canary" not in written


@pytest.mark.parametrize("length", ["99999999999", "9" * 5000, "-1", "many", "²"])
def test_a_body_without_bounds_is_refused(length: str) -> None:
    with serving(methods=("POST",), keep_alive=True) as server, connect(server) as client:
        client.sendall(f"POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode("latin-1"))
        answer = client.makefile("rb").read()  # to the end: the rest of the body is not read as a request
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"Invalid Content-Length\n")


def test_an_address_that_is_none_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as server, connect(server) as client:
        client.sendall(b"GET http://[x HTTP/1.1\r\n\r\n")
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert answer.endswith(b"Invalid address\n")
    join_handlers()
    assert capfd.readouterr().err == ""


def test_a_silent_connection_holds_nobody_up() -> None:
    with serving() as server, connect(server):
        assert ask(server, "GET", "/").status == 200


def test_a_silent_connection_is_closed() -> None:
    with serving(idle_seconds=0.05) as server, connect(server) as silent:
        assert silent.recv(1) == b""


def test_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "MAX_OPEN", 1)
    with serving(keep_alive=True) as server:
        with connect(server) as first:
            exchange(first)
            with connect(server) as second:
                assert second.recv(1) == b"", "one is open"
            exchange(first)
            first.shutdown(socket.SHUT_WR)
            while first.recv(4096):
                pass
        assert ask(server, "GET", "/").status == 200, "its place is free"


def test_connections_stay_open_only_if_told() -> None:
    with serving(keep_alive=True) as server, connect(server) as client:
        exchange(client)
        exchange(client)
    with serving() as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"GET / {} {} None")


def test_the_end_leaves_no_connection_and_no_thread_and_frees_the_port() -> None:
    threads = threading.active_count()
    with serving(keep_alive=True) as server, connect(server) as idle:
        exchange(idle)
        port = server.port
        server.stop()
        assert idle.recv(4096) == b""
        with serving(port=port) as again:
            assert again.port == port
    join_handlers()
    assert threading.active_count() <= threads


def test_an_answer_on_its_way_is_given_after_the_end() -> None:
    asked, go_on, sent = threading.Event(), threading.Event(), threading.Event()

    def slow(_: HttpRequest) -> HttpResponse:
        asked.set()
        assert go_on.wait(60)
        return HttpResponse(200, "text/plain", b"late", sent=sent.set)

    with serving(slow) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert asked.wait(60)
        server.stop()
        assert not sent.is_set()
        go_on.set()
        assert client.makefile("rb").read().endswith(b"late")
        assert sent.wait(60)


def test_a_client_that_goes_away_is_none_of_our_business(capfd: pytest.CaptureFixture[str]) -> None:
    sent = threading.Event()
    body = b"x" * 50_000_000
    with serving(lambda _: HttpResponse(200, "text/plain", body, sent=sent.set)) as server:
        with connect(server) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            client.recv(1)
        assert sent.wait(60), "it is said all the same"
    join_handlers()
    assert capfd.readouterr().err == ""


def test_a_port_in_use_is_said() -> None:
    with serving() as server, pytest.raises(ListenError) as caught:
        HttpServer(echo, name="other", port=server.port)
    assert str(caught.value) == f"cannot listen on 127.0.0.1 port {server.port}: Address already in use"
    assert caught.value.in_use


@pytest.mark.parametrize("host", ["a..b", "203.0.113.1"])
def test_a_host_that_is_not_ours_is_said(host: str) -> None:
    with pytest.raises(ListenError, match=rf"^cannot listen on {host} port 0: ") as caught:
        HttpServer(echo, name="test", host=host)
    assert not caught.value.in_use
    assert (caught.value.reason == "no such host") is (host == "a..b")


@pytest.mark.parametrize(
    ("host", "origin", "foreign"),
    [
        (None, None, False),
        ("127.0.0.1:8766", None, False),
        ("127.0.0.2", None, False),
        ("localhost:8766", "http://localhost:8766", False),
        ("LOCALHOST:8766", "http://localhost:8766", False),
        ("[::1]:8766", "http://[::1]:8766", False),
        ("", None, True),
        ("evil.example:8766", None, True),
        ("evil.example:8766", "http://evil.example:8766", True),  # its name leads to this machine
        ("127.0.0.1.evil.example", None, True),
        ("192.0.2.1:8766", None, True),
        ("[x", None, True),
        ("127.0.0.1:8766", "https://evil.example", True),
        ("127.0.0.1:8766", "http://127.0.0.1:3000", True),
        ("127.0.0.1:8766", "null", True),
        ("127.0.0.1:8766", "http://[x", True),
        (None, "https://evil.example", True),
    ],
)
def test_what_a_page_of_another_site_sends_is_told_by_its_headers(
    host: str | None, origin: str | None, foreign: bool
) -> None:
    assert of_another_site(host, origin) is foreign
