"""On a terminal: tables of a few columns, and pages that are brought up to date where they stand.

A page stands in the terminal's own text, not on a screen apart, so that its last state stays when it is left. Only
lines that have changed are written, each refresh at once. Where it has more lines than there are rows, the first are
shown. The cursor waits at the beginning of the line below.
"""

import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, TextIO, cast

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from kitelake.errors import OutputError

LOOK_SECONDS: Final = 0.2
"""So often it is looked whether the terminal has another size."""


def plain_table(columns: Sequence[str], *, wrapped: Collection[str] | None = None) -> Table:
    """A table without lines. A name that begins with `>` is that of numbers. Without any name there is no header.

    Where the terminal is narrow, the columns that are named in `wrapped` are broken, or else all.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(
            name,
            justify="left" if name == column else "right",
            overflow="fold",
            no_wrap=wrapped is not None and name not in wrapped,
        )
    return table


def ruled_table(names: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> Table:
    """A table with a line below the names. The first `words` columns are text, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, name in enumerate(names):
        # Only the first column, of names, is broken where the terminal is narrow.
        table.add_column(name, justify="left" if number < words else "right", no_wrap=number > 0)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def watch(page: Callable[[int], RenderableType], seconds: float, ended: threading.Event) -> None:
    """Show a page, and again every so many seconds, until `ended` is set. `page` is told how many lines it may have.

    Raises OutputError where there is no terminal to show it on.
    """
    output = cast("TextIO | None", sys.stdout)
    console = Console(file=output)
    if output is None or not output.isatty() or console.is_dumb_terminal:
        raise OutputError("--watch changes lines of a terminal, which the standard output is not; leave it out")
    screen = Screen(console)
    try:
        while not ended.is_set():
            screen.show(page(screen.room))
            again = time.monotonic() + seconds
            while (left := again - time.monotonic()) > 0 and not screen.is_resized:
                if ended.wait(min(left, LOOK_SECONDS)):
                    break
    finally:
        screen.leave()


class Screen:
    """The rows of a terminal from where the cursor stands at first."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._size = console.size
        self._lines: list[str] = []
        self._row = 0
        """Where the cursor is, counted from the first line."""

    @property
    def room(self) -> int:
        """How many lines a page may have."""
        return max(1, self._console.size.height - 1)

    @property
    def is_resized(self) -> bool:
        """Whether the terminal has another size than when a page was last shown."""
        return self._console.size != self._size

    def show(self, page: RenderableType) -> None:
        """Bring it up to date. Raises OutputError if it cannot be written."""
        if self.is_resized and self._lines:
            # Its lines may be broken in two now: where they are, only the terminal knows.
            self._write("\x1b[2J\x1b[H")
            self._lines, self._row = [], 0
        self._size = self._console.size
        self._write(self._changes(self._lines_of(page)))

    def leave(self) -> None:
        """Let what is written next stand below."""
        if self._lines:
            self._write("\r\n")

    def _lines_of(self, page: RenderableType) -> list[str]:
        """As many as there are rows; the last is empty, where there is more than one row."""
        with self._console.capture() as captured:
            self._console.print(page)
        lines = captured.get().removesuffix("\n").split("\n")
        if len(lines) > self.room > 1:
            lines[self.room - 1 :] = ["…"]
        return [*lines[: self.room], ""][: self._size.height]

    def _changes(self, lines: list[str]) -> str:
        """What makes these lines of those that stand there."""
        before = self._lines
        parts = []
        for row, line in enumerate(lines):
            if row >= len(before):
                parts += [self._to(row - 1), "\r\n" * (row > 0), line]
                self._row = row
            elif line != before[row]:
                parts += [self._to(row), "\r\x1b[2K", line]
        if len(lines) < len(before):
            parts += [self._to(len(lines)), "\r\x1b[J"]
        if parts:
            parts += [self._to(len(lines) - 1), "\r"]
        self._lines = lines
        return "".join(parts)

    def _to(self, row: int) -> str:
        """Move the cursor to a line that is there."""
        down = max(row, 0) - self._row
        self._row += down
        return "" if not down else f"\x1b[{abs(down)}{'B' if down > 0 else 'A'}"

    def _write(self, text: str) -> None:
        if text:
            try:
                self._console.file.write(text)
                self._console.file.flush()
            except OSError as error:
                raise OutputError(f"the standard output cannot be written: {error.strerror or error}") from error
