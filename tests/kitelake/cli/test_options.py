"""`--watch` in a terminal of its own: what comes is shown in place, and the last state stays."""

import datetime as dt
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.connection import Health, Status
from kitelake.telemetry import STOPPED, ServiceStatus, write_status
from storage.layout import DataLayout
from tests.support.captured import INFY, TINY, Captured, Line
from tests.support.command import Run, command
from tests.support.screens import OnTerminal

pytestmark = pytest.mark.slow

__all__ = ["command"]  # the fixture

COLOUR = re.compile(r"\x1b\[[\d;]*[34]\dm")


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[tuple[Captured, Line]]:
    with Captured(tmp_path / "data") as made:
        made.instruments()
        line = made.run("09:00").line()
        line.begin("09:01", INFY, TINY)
        line.full("09:15:00", INFY, 1500.5)
        line.full("09:15:00", TINY, 70.25)
        made.flush()
        yield made, line


def test_latest_keeps_up_with_what_comes(captured: tuple[Captured, Line]) -> None:
    made, line = captured
    with OnTerminal("latest", "--watch", "--every", "0.2", "--data", str(made.root), width=60) as terminal:
        lines = terminal.until(lambda shown: len(shown) >= 4)
        assert lines[0].split()[:2] == ["symbol", "received_at"]
        assert [row.split()[0] for row in lines[2:4]] == ["NSE:INFY", "NSE:TINY"]
        assert "1500.5" in lines[2]
        assert "columns fit" in lines[4]
        sent = len(terminal.sent)
        line.full("09:15:01", TINY, 71.75)
        made.flush()
        terminal.until(lambda shown: "71.75" in shown[3])
        assert "NSE:TINY" in terminal.sent[sent:]
        assert "NSE:INFY" not in terminal.sent[sent:], "only what has changed"
        terminal.resize(24, 3)
        assert terminal.until(lambda shown: shown[1:] == ["…"])[0].startswith("symbol")
        terminal.resize(1, 1)
        terminal.until(lambda shown: shown == ["…"])
        terminal.resize(80, 10)
        lines = terminal.until(lambda shown: len(shown) >= 4 and "71.75" in shown[3])
        assert terminal.interrupt() == 0
        assert terminal.screen.lines == lines
        assert terminal.screen.row > len(lines), "what comes next is below"


def test_book(captured: tuple[Captured, Line]) -> None:
    with OnTerminal("book", "INFY", "--watch", "--data", str(captured[0].root)) as terminal:
        lines = terminal.until(lambda shown: len(shown) > 6)
        assert lines[0].startswith("NSE:INFY   2026-11-24 09:15:00.000")
        assert terminal.interrupt() == 0


def test_what_cannot_be_looked_up_ends_it_with_one_line(captured: tuple[Captured, Line]) -> None:
    with OnTerminal("latest", "INFO", "--watch", "--data", str(captured[0].root), width=200) as terminal:
        terminal.until(lambda shown: "no such instrument" in " ".join(shown))
        assert terminal.process.wait(60) == 2
        assert terminal.screen.lines[0].startswith("kitelake: INFO: the instrument list")


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=["colours", "none"])
def test_status_tells_of_a_service_that_stops(tmp_path: Path, environment: dict[str, str]) -> None:
    now = dt.datetime.now(dt.UTC)
    status = ServiceStatus(
        at=now + dt.timedelta(minutes=10),  # as if it had been heard of a moment ago, however long the test takes
        pid=os.getpid(),
        host=socket.gethostname(),
        stream="one",
        since=now,
        phase="capturing",
        doing="capturing until 15:35",
        health=Health(Status.HEALTHY, 100.0, ()),
        connections=(),
        accounts=(),
        lists=(),
        jobs=(),
        problems=(),
    )
    layout = DataLayout(tmp_path)
    assert write_status(layout, status)
    asked = ["status", "--watch", "--every", "0.2", "--data", str(tmp_path)]
    with OnTerminal(*asked, environment=environment) as terminal:
        terminal.until(lambda shown: ": capturing until 15:35" in shown[0])
        assert bool(COLOUR.search(terminal.sent)) != bool(environment)
        assert write_status(layout, status.model_copy(update={"at": now - dt.timedelta(minutes=1), "doing": STOPPED}))
        terminal.until(lambda shown: shown[0].startswith("not running: it was stopped at"))
        assert terminal.interrupt() == 1, "none runs"
        assert terminal.screen.lines[0].startswith("not running")


def test_watching_wants_a_terminal_and_nothing_else(
    command: Run, captured: tuple[Captured, Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["latest", "--watch", "--data", captured[0].root]
    for more in ([], ["--every", "5"]):
        ended = command(*asked, *more)
        assert (ended.status, ended.out) == (2, "")
        assert "--watch changes lines of a terminal, which the standard output is not; leave it out" in ended.err
    for others in (["--at", "10:15"], ["--format", "csv"], ["--output", "x"]):
        ended = command(*asked, *others)
        assert (ended.status, ended.out) == (2, "")
        assert "got --watch with --at, --format or --output" in ended.err
    ended = command("status", "--watch", "--json", "--data", captured[0].root)
    assert (ended.status, "got --watch with --json" in ended.err) == (2, True)
