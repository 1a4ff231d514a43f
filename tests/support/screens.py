"""A terminal for tests: its screen, from what was written to it, and a process that has it as its own."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from tests.support.forks import Forked, take_terminal
from tests.support.waiting import PATIENCE_SECONDS, wait_until

_PARTS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """Rows of text without colours, for as much as our own pages say to a terminal; the text of one column a letter."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rows: list[str] = [""] * height
        self.row = self.column = 0

    def write(self, text: str) -> None:
        for numbers, command, control, letters in _PARTS.findall(text):
            if letters:
                assert self.column + len(letters) <= self.width, "a line that would be broken"
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + letters + line[self.column + len(letters) :]
                self.column += len(letters)
            elif control == "\r":
                self.column = 0
            elif control == "\n":
                self.row += 1
                if self.row == self.height:
                    self.rows, self.row = [*self.rows[1:], ""], self.height - 1
            else:
                self._do(command, numbers)

    def _do(self, command: str, numbers: str) -> None:
        if command == "A":
            self.row = max(0, self.row - int(numbers))
        elif command == "B":
            self.row = min(self.height - 1, self.row + int(numbers))
        elif command == "H":
            self.row = self.column = 0
        elif (command, numbers) == ("J", "2"):
            self.rows = [""] * self.height
        elif (command, numbers) == ("J", ""):
            self.rows[self.row] = self.rows[self.row][: self.column]
            self.rows[self.row + 1 :] = [""] * (self.height - self.row - 1)
        elif (command, numbers) == ("K", "2"):
            self.rows[self.row] = ""
        else:
            assert command == "m", f"what {command!r} does is not known here"

    @property
    def lines(self) -> list[str]:
        """Without what is blank at the ends of lines and below."""
        return "\n".join(line.rstrip() for line in self.rows).rstrip().split("\n")


class OnTerminal:
    """`kitelake` with these arguments on a terminal of its own. `sent` is all that it wrote there."""

    def __init__(self, *arguments: str, width: int = 80, height: int = 24, environment: dict[str, str] | None = None):
        ours, theirs = pty.openpty()
        self._ours = ours
        self.screen = Screen(width, height)
        self.sent = ""
        self._set_size(width, height)
        without = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = Forked(
            "kitelake",
            *arguments,
            environment=without | {"TERM": "xterm"} | (environment or {}),
            first=partial(take_terminal, os.ttyname(theirs)),
        )
        wait_until(lambda: os.tcgetpgrp(ours) == self.process.pid)  # it has opened the other end
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _set_size(self, width: int, height: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def resize(self, width: int, height: int) -> None:
        """Another size, and what stands there is of no more use."""
        self.screen = Screen(width, height)
        self._set_size(width, height)

    def read(self, seconds: float = 0.05) -> str:
        """What came within so long; nothing at the end."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return ""
        try:
            text = os.read(self._ours, 1 << 16).decode()
        except OSError:  # the other side is closed
            return ""
        self.sent += text
        self.screen.write(text)
        return text

    def until(self, holds: Callable[[Sequence[str]], bool]) -> Sequence[str]:
        """Wait until it holds of the lines on the screen."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds(self.screen.lines):
            assert time.monotonic() < end, self.screen.lines
            assert self.read() or self.process.poll() is None, self.sent
        return self.screen.lines

    def interrupt(self) -> int:
        """Ctrl-C. Returns the exit status, when everything is read."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE_SECONDS)
        while self.read():
            pass
        return status
