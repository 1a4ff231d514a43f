"""A process in a terminal of its own: what is typed there, and what it shows."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import termios
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.forks import Forked, take_terminal
from tests.support.waiting import LOOK_SECONDS, PATIENCE_SECONDS, wait_until

ROOT: Final = Path(__file__).parents[2]
ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][0-9A-B]|\x1b[=>78]")
TAB: Final = "\t"
ENTER: Final = "\r"
CTRL_C: Final = "\x03"
CTRL_D: Final = "\x04"
UP: Final = "\x1b[A"


class Terminal:
    """`kitelake` with these arguments; to be used as a context manager. `raw` is all that it has shown so far."""

    def __init__(
        self, *arguments: str | Path, columns: int = 100, rows: int = 30, environment: Mapping[str, str] | None = None
    ) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(columns, rows)
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = Forked(
            "kitelake",
            *map(str, arguments),
            environment={
                **inherited,
                "TERM": "xterm-256color",
                "PROMPT_TOOLKIT_NO_CPR": "1",  # nobody here says where the cursor is
                **(environment or {}),
            },
            first=partial(take_terminal, os.ttyname(theirs)),
        )
        wait_until(lambda: os.tcgetpgrp(self._ours) == self.process.pid)  # it has opened the other end
        os.close(theirs)
        self.raw = ""
        self._seen = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        parts = b""
        with contextlib.suppress(OSError):  # the other side is closed
            while part := os.read(self._ours, 65536):
                parts += part
                self.raw = parts.decode(errors="replace")

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size, as a window manager does."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def text(self) -> str:
        """What it has shown, without escapes; what was drawn over is in it too."""
        return ESCAPES.sub("", self.raw).replace("\r", "")

    def press(self, text: str) -> None:
        """Press these keys."""
        os.write(self._ours, text.encode())

    def see(self, expected: str) -> None:
        """Wait until this is shown, behind what was seen before."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self._after(expected) or self.process.poll() is not None)
        self._reader.join(LOOK_SECONDS * (self.process.poll() is not None))  # what it said last
        assert self._after(expected), f"{expected!r} is not in what came last: {self.text[self._seen :]!r}"
        self._seen = self.text.index(expected, self._seen) + len(expected)

    def _after(self, expected: str) -> bool:
        return expected in self.text[self._seen :]

    def end(self) -> int:
        """Wait until it has ended. Returns its exit status."""
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        os.close(self._ours)
