"""What the shell shows: results as far as they fit, the rest in a pager; and how long a query took."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console, RenderableType
from rich.text import Text

from kitelake.errors import OutputError
from kitelake.views import Grid, first_rows
from queries.lake import Result

MOST_ROWS: Final = 10_000
RECORD_ROWS: Final = 10
"""So many rows that are wider than the terminal are shown record by record; of more, the columns that fit."""
READ: Final = ("table", "record")
"""The modes of what is read here; the others write as a command does."""
MODES: Final = (*READ, "csv", "json")
FORMATS: Final = ("csv", "json", "parquet", "arrow")
LESS: Final = "FRSX"
"""To end by itself where all fits, colour as it is, long lines cut, and nothing cleared afterwards."""
_UNPRINTED: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
LEFT_OUT: Final = ".once FILE has all"


class Display:
    """`mode` is one of MODES; `once` the file that the next result goes to instead; `timing` whether times are said."""

    def __init__(self, mode: str = "table") -> None:
        self.mode = mode
        self.once: Path | None = None
        self.timing = True

    def show(self, result: Grid | Text) -> None:
        """Show the rows that were fetched, or a plan."""
        console = Console()
        if not isinstance(result, Grid):
            self.page(result)
        elif self.mode == "record" or (result.width > console.width and result.rows <= RECORD_ROWS):
            self.page(result.records())
        else:
            self.page(result, result.width)

    def page(self, shown: RenderableType, width: int = 0) -> None:
        """Print it, by a pager if it is longer than the terminal; with `width`, if it can show lines that long."""
        console = Console()
        text = _rendered(shown, console.width)
        pager = _pager() if text.count("\n") >= console.height and console.is_terminal else None
        if pager is None:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        command, environment = pager
        is_wide = Path(command[0]).name == "less" and "S" in environment.get("LESS", "")
        _through(command, environment, _rendered(shown, max(width, console.width)) if is_wide else text)

    def say(self, text: str, style: str = "") -> None:
        """A line that is no result. What came from elsewhere and is in it cannot move the cursor."""
        plain = _UNPRINTED.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
        Console(stderr=True, highlight=False).print(Text(plain, style), soft_wrap=True)


def fetched(result: Result) -> Grid | Text | None:
    """What is shown of a result; None if it has none, but was done."""
    return None if result.columns == ["Success"] else first_rows(result, MOST_ROWS, LEFT_OUT)


def format_of(path: Path | None, mode: str) -> str:
    """The format of a file by its ending; else that of the mode."""
    ending = "" if path is None else path.suffix.lower().removeprefix(".")
    return ending if ending in FORMATS else mode.replace("record", "table")


def _rendered(shown: RenderableType, width: int) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(shown, soft_wrap=isinstance(shown, Text))
    return captured.get()


def _pager() -> tuple[list[str], dict[str, str]] | None:
    """The pager that the user wants, and its environment; None where there is none, or the terminal is not fit."""
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return None
    command = shlex.split(os.environ.get("PAGER", "less"))
    if not command or shutil.which(command[0]) is None:
        return None
    return command, {"LESS": LESS, **os.environ}


def _through(command: list[str], environment: dict[str, str], text: str) -> None:
    try:
        with _deaf(), subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as pager:
            pager.communicate(text.encode(sys.stdout.encoding, "replace"))  # that it ends before is no error
    except OSError as error:
        raise OutputError(f"{shlex.join(command)}: cannot be started: {error.strerror}; see $PAGER") from error


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C is the pager's, which starts with the system's way of taking it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
