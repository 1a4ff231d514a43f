"""Lists of names from a real server on loopback: fetched, kept, and taken from the copy when the server fails."""

import asyncio
import datetime as dt
import gzip
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import time_machine

from kitelake.errors import ListFileError
from kitelake.plan.fetched_lists import cached_list, fetch_list
from kitelake.plan.name_lists import MAX_BYTES
from storage.clock import IST

KEY = "canaryKey123"
LIST = b"symbol,series\nINFY,EQ\nM&M,EQ\nBAJAJ-AUTO,EQ\n"
NAMES = ["NSE:INFY", "NSE:M&M", "NSE:BAJAJ-AUTO"]


class Site(ThreadingHTTPServer):
    """Answers every call with `answer`, and keeps paths and headers of what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, LIST)
        self.pause_seconds = 0.0
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/list.csv?key={KEY}"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        status, headers, data = self.server.answer
        if self.path.startswith("/moved"):
            status, headers, data = 200, {}, LIST
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        time.sleep(self.server.pause_seconds)
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_a_list_is_fetched_and_a_copy_kept(site: Site, tmp_path: Path) -> None:
    cache = tmp_path / "lists"
    assert cached_list(site.url, cache) is None
    assert await fetch_list(site.url, cache) == (NAMES, None)
    (path, headers) = site.asked[0]
    assert path == f"/list.csv?key={KEY}"
    assert headers["Accept"].startswith("text/csv")
    assert headers["User-Agent"].startswith("Mozilla/5.0")
    assert cached_list(site.url, cache) == NAMES
    (copy,) = cache.iterdir()
    assert copy.read_bytes() == LIST
    assert copy.suffix == ".list"
    assert len(copy.stem) == 16
    assert KEY not in str(copy)
    site.answer = (200, {}, b"TCS")
    assert await fetch_list(site.url, cache) == (["NSE:TCS"], None)
    assert cached_list(site.url, cache) == ["NSE:TCS"]
    assert cached_list(site.url + "2", cache) is None


async def test_redirects_and_compression(site: Site, tmp_path: Path) -> None:
    site.answer = (302, {"Location": "/moved"}, b"")
    assert await fetch_list(site.url, tmp_path) == (NAMES, None)
    site.answer = (200, {"Content-Encoding": "gzip"}, gzip.compress(b"TCS"))
    assert await fetch_list(site.url, tmp_path) == (["NSE:TCS"], None)
    assert cached_list(site.url, tmp_path) == ["NSE:TCS"]


async def test_no_proxy_lies_between_us_and_loopback(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    assert await fetch_list(site.url, tmp_path) == (NAMES, None)


FAILURES = {
    "status": ((404, {}, b"no"), "it answered 404, expected 200"),
    "a web page": ((200, {}, b"<html>log in</html>"), "this is a web page"),
    "not a list": ((200, {}, b"a,b\n1,2\n"), "line 1: the columns are a, b"),
    "nothing": ((200, {}, b""), "it names no instrument"),
    "too large": ((200, {}, b"#" * (MAX_BYTES + 1)), "it has more than 10 MB"),
    "broken compression": ((200, {"Content-Encoding": "gzip"}, b"no gzip"), "the call failed: DecodingError"),
    "round in circles": ((302, {"Location": f"/list.csv?key={KEY}"}, b""), "the call failed: TooManyRedirects"),
    "elsewhere": ((302, {"Location": f"ftp://host/{KEY}"}, b""), "the call failed: UnsupportedProtocol"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", FAILURES)
async def test_a_failure_falls_back_to_the_copy_and_says_why_and_how_old_it_is(
    site: Site, tmp_path: Path, what: str
) -> None:
    answer, reason = FAILURES[what]
    good, site.answer = site.answer, answer
    with pytest.raises(ListFileError, match=reason) as caught:
        await fetch_list(site.url, tmp_path)
    assert str(caught.value).startswith("http://127.0.0.1")
    assert str(caught.value).endswith("there is no copy from before that could serve")
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value.__context__)
    site.answer = good
    await fetch_list(site.url, tmp_path)
    (copy,) = tmp_path.iterdir()
    kept_at = dt.datetime(2026, 11, 23, 8, 30, tzinfo=IST)
    os.utime(copy, (kept_at.timestamp(), kept_at.timestamp()))
    site.answer = answer
    with time_machine.travel(kept_at + dt.timedelta(days=3, hours=5), tick=False):
        names, warning = await fetch_list(site.url, tmp_path)
    assert names == NAMES
    assert warning is not None
    assert warning.startswith("http://127.0.0.1")
    assert reason in warning
    assert warning.endswith("; the copy of Mon 23 Nov 2026, 08:30 (3 days old) serves")
    assert KEY not in warning
    assert copy.read_bytes() == LIST, "what failed has not replaced it"


async def test_no_server_and_one_that_takes_too_long(site: Site, tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/{KEY}"
        with pytest.raises(ListFileError, match=r"^http://127\.0\.0\.1: cannot connect: ") as caught:
            await fetch_list(url, tmp_path)
    assert KEY not in str(caught.value)
    await fetch_list(site.url, tmp_path)
    site.pause_seconds = 0.5
    names, warning = await fetch_list(site.url, tmp_path, timeout_seconds=0.05)
    assert names == NAMES
    assert warning is not None
    assert "no whole answer came within 0.05 s" in warning
    assert warning.endswith("(0 hours old) serves")


async def test_a_damaged_copy_is_none(site: Site, tmp_path: Path) -> None:
    await fetch_list(site.url, tmp_path)
    (copy,) = tmp_path.iterdir()
    copy.write_bytes(b"<html>")
    assert cached_list(site.url, tmp_path) is None
    site.answer = (503, {}, b"")
    with pytest.raises(ListFileError, match="it answered 503"):
        await fetch_list(site.url, tmp_path)


async def test_a_copy_that_cannot_be_kept_costs_no_list(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    names, warning = await fetch_list(site.url, tmp_path / "file")
    assert names == NAMES
    assert warning == "http://127.0.0.1: the list serves, but no copy could be kept: File exists"


async def test_two_fetches_at_once_leave_one_whole_copy(site: Site, tmp_path: Path) -> None:
    results = await asyncio.gather(*(fetch_list(site.url, tmp_path) for _ in range(4)))
    assert results == [(NAMES, None)] * 4
    assert [copy.read_bytes() for copy in tmp_path.iterdir()] == [LIST]


@pytest.mark.parametrize("url", ["", "list.csv", "file:///etc/passwd", "https://", f"http://[{KEY}", f"//host/{KEY}"])
async def test_what_is_no_address_is_refused_and_not_quoted(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^expected http://HOST/PATH or https://HOST/PATH as the address of a list$"):
        await fetch_list(url, tmp_path)
