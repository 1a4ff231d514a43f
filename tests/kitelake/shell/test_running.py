"""How far a query is, and Ctrl-C: without a terminal; with one, test_loop.py has it."""

import contextlib
import io
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import kitelake
from kitelake.lake import Lake
from kitelake.shell.running import Progress, progress_line, until_interrupted
from queries.errors import QueryError
from tests.support.waiting import PATIENCE_SECONDS, wait_until

ENDLESS = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    (tmp_path / "journal").mkdir()
    with kitelake.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> FakeTerminal:
    terminal = FakeTerminal()
    monkeypatch.setattr("kitelake.shell.running.sys", SimpleNamespace(stderr=terminal))  # pytest sets sys's own anew
    monkeypatch.setenv("TERM", "xterm")
    return terminal


@pytest.mark.parametrize("streamed", [False, True])
def test_progress_comes_and_goes(lake: Lake, terminal: FakeTerminal, streamed: bool) -> None:
    def ask() -> None:
        with progress, contextlib.suppress(QueryError):
            result = lake.sql(ENDLESS)
            _ = result.reader().read_all() if streamed else result.arrow()

    progress = Progress(lake)
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        wait_until(lambda: "% " in terminal.getvalue())
    finally:
        lake.interrupt()
        asking.join()
    assert terminal.getvalue().startswith("\r\x1b[K")
    assert terminal.getvalue().endswith("s, Ctrl-C ends it\r\x1b[K")


def test_what_is_quick_shows_none(lake: Lake, terminal: FakeTerminal) -> None:
    with Progress(lake):
        assert lake.sql("select 1 as one").arrow().num_rows == 1
    assert "%" not in terminal.getvalue()


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_nor_does_what_is_no_such_terminal(
    lake: Lake, terminal: FakeTerminal, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    if term == "xterm":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    with Progress(lake):
        assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_what_is_said_of_it() -> None:
    assert progress_line(None, 12.4) == "12 s, Ctrl-C ends it"
    assert progress_line(41.6, 0.6) == "42% 1 s, Ctrl-C ends it"


def test_a_lake_tells_of_no_progress_where_nothing_runs(lake: Lake) -> None:
    assert lake.progress() is None
    lake.follow_progress()
    assert lake.sql("select 1").arrow().num_rows == 1
    lake.close()
    assert lake.progress() is None


def test_what_the_work_gives_or_raises_is_given_or_raised() -> None:
    assert until_interrupted(lambda: 7, lambda: None) == 7
    with pytest.raises(ZeroDivisionError):
        until_interrupted(lambda: 1 / 0, lambda: None)


def test_ctrl_c_is_heard_whenever_it_comes() -> None:
    """Also before anybody waits for the work; and afterwards it is Python's again."""
    for _ in range(50):
        ended = threading.Event()

        def work(ended: threading.Event = ended) -> bool:
            os.kill(os.getpid(), signal.SIGINT)
            return ended.wait(PATIENCE_SECONDS)

        with pytest.raises(KeyboardInterrupt):
            until_interrupted(work, ended.set)
        assert ended.is_set()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_not_heard_where_it_is_ignored() -> None:
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert until_interrupted(lambda: os.kill(os.getpid(), signal.SIGINT), lambda: None) is None
    finally:
        signal.signal(signal.SIGINT, usual)
