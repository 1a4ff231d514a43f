"""`kitelake replay`: what it is asked for, and how it says what is wrong with that."""

import json
import os
import pty
import signal
import socket
import threading
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Run, command
from tests.support.feeding import DAYS, three_days
from tests.support.forks import Forked, take_terminal
from tests.support.waiting import PATIENCE_SECONDS, wait_until

__all__ = ["command"]  # the fixture


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_days(tmp_path_factory.mktemp("days")).root


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--date", "2026-11-20"], "2026-11-20: got a day without ticks, expected one with some"),
        (["--date", "2026-11-19", "--from", "12:00"], "without ticks from 12:00 to 00:00 IST"),
        (["--symbols", "NSE:INFI"], "NSE:INFI"),
        (["--speed", "0"], "expected a number above 0, such as 1 or 10, or max"),
        (["--speed", "inf"], "expected a number above 0"),
        (["--fill", "hope"], "'hope' is not one of 'touch', 'through'"),
        (["size"], "got 'size', expected it to be of a strategy: --run names one"),
        (["--candles", "NSE:INFY"], "--candles: got 'NSE:INFY', expected SYMBOL=FILE"),
        (["--candles", "NSE:INFY=nowhere.csv"], "of a file that is there"),
        (["--limits", "nowhere.csv"], "limits: nowhere.csv: cannot be read"),
        (["--output", "config.yaml"], "config.yaml: got a file, expected a folder"),
        (["--output", "config.yaml/below"], "config.yaml/below: cannot be made: Not a directory"),
        (["--capital", "1e13"], "should be less than or equal to 1000000000000"),
        (["--run", "nowhere.py"], "nowhere.py: there is no such file"),
    ],
)
def test_what_it_cannot_do_is_said(command: Run, data: Path, arguments: list[str], said: str) -> None:
    Path("config.yaml").touch()
    ended = command("replay", "--data", data, "--port", "0", "--api-port", "0", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert said in " ".join(ended.err.replace("│", " ").split())


def test_its_output_is_not_for_the_data_folder(command: Run, data: Path) -> None:
    ended = command("replay", "--data", data, "--port", "0", "--api-port", "0", "--output", data / "paper")
    assert (ended.status, ended.out) == (2, "")
    assert "got a place in the data folder" in ended.err
    assert not (data / "paper").exists()


def test_a_port_that_is_taken_is_said(command: Run, data: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        ended = command("replay", "--data", data, "--port", str(port), "--api-port", "0")
    assert ended.status == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in ended.err


class Terminal:
    """A replay in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.master, theirs = pty.openpty()
        whole = ("replay", "--port", "0", "--api-port", "0", *arguments)
        self.process = Forked("kitelake", *whole, piped=True, first=partial(take_terminal, os.ttyname(theirs), (0, 2)))
        wait_until(lambda: os.tcgetpgrp(self.master) == self.process.pid)  # it has opened the other end
        os.close(theirs)
        self.shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        self.said: list[str] = []
        for line in self.process.stdout:
            self.said.append(line)
            if "lets nothing through" in line:
                break
        self.control = next(line.split()[1] for line in self.said if "  control" in line)

    def _read(self) -> None:
        while True:
            try:
                got = os.read(self.master, 4096)
            except OSError:
                return
            if not got:
                return
            self.shown += got

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.control}/status", timeout=PATIENCE_SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def end(self) -> int:
        status = self.process.wait(PATIENCE_SECONDS)
        assert self.process.stdout is not None
        self.said += self.process.stdout.readlines()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        os.close(self.master)
        return status


@pytest.mark.slow
def test_keys_lead_it_and_a_line_says_where_it_is(data: Path) -> None:
    terminal = Terminal("--data", str(data), "--date", str(DAYS[1]), "--paused")
    try:
        roots = "".join(terminal.said)
        assert 'root="http://127.0.0.1:' in roots
        assert 'root="ws://127.0.0.1:' in roots
        wait_until(lambda: b"2026-11-23 09:15:00 IST  paused  0 clients  0 packets sent" in terminal.shown)
        for key, expected in (("+", 2.0), ("+", 4.0), ("-", 2.0), ("m", "max"), ("-", 0.5)):
            terminal.press(key)
            wait_until(lambda expected=expected: terminal.status()["speed"] == expected)  # type: ignore[misc]
        terminal.press(">")
        wait_until(lambda: terminal.status()["clock"].startswith("2026-11-23T09:16:00"))
        terminal.press(" ")
        wait_until(lambda: not terminal.status()["paused"])
        wait_until(lambda: terminal.status()["clock"] > "2026-11-23T09:16:00.5")
        terminal.press("r")
        wait_until(lambda: terminal.status()["clock"] < "2026-11-23T09:16:00")
        terminal.press("m")
        wait_until(lambda: terminal.status()["ended"])
        wait_until(lambda: b"at its end" in terminal.shown)
        terminal.press("q")
        assert terminal.end() == 0
        assert "No orders were placed." in terminal.said[-1]
    finally:
        terminal.process.kill()
        terminal.process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(data: Path, number: signal.Signals) -> None:
    terminal = Terminal("--data", str(data))
    terminal.process.send_signal(number)
    assert terminal.end() == 0


@pytest.mark.slow
def test_a_strategy_brings_its_exit_status_and_what_goes_on_is_ended(command: Run, data: Path, tmp_path: Path) -> None:
    strategy = tmp_path / "strategy.py"
    strategy.write_text("import sys; print(*sys.argv[1:]); sys.exit(7)")
    asked = ("replay", "--data", data, "--speed", "max", "--port", "0", "--api-port", "0", "--run", strategy)
    ended = command(*asked, "x", "--speed", "2")
    assert ended.status == 7
    assert "\nx --speed 2\n" in ended.out
    strategy.write_text(
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(0.01)"
    )
    ended = command(*asked[:-2], "--wait-for", "0", *asked[-2:])
    assert ended.status == 0
