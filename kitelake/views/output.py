"""How a result is shown: a table to read, or CSV, JSON, Arrow or Parquet to go on with.

Times are IST everywhere: `2026-11-23 09:15:00.123` to read, `2026-11-23T09:15:00.123000+05:30` in CSV and JSON, and
`timestamp[us, Asia/Kolkata]` in Arrow and Parquet. A table on a terminal shows the first rows and the columns that
fit, and says what it leaves out. Everywhere else, in a file or a pipe, it has every row and every column, without
colour. CSV, JSON, Arrow and Parquet always carry everything, and are written while the query runs.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, cast

from rich.console import RenderableType
from rich.text import Text

from kitelake.errors import OutputError
from kitelake.views.book import book_text, write_book
from kitelake.views.formats import write_arrow, write_csv, write_json, write_parquet
from kitelake.views.table import Grid, print_table, table_page, write_table, written
from queries.lake import Result
from storage.files import replacing

__all__ = ["OutputError", "render", "write_result"]

BINARY: Final = ("arrow", "parquet")
WRITERS: Final[dict[str, Callable[[Result, IO[bytes]], int]]] = {
    "table": write_table,
    "book": write_book,
    "csv": write_csv,
    "json": write_json,
    "arrow": write_arrow,
    "parquet": write_parquet,
}


def write_result(
    result: Result,
    output_format: str,
    output: Path | None = None,
    waiting: contextlib.AbstractContextManager[object] = contextlib.nullcontext(),  # noqa: B008 (it has no state)
) -> int:
    """Write a result as `table`, `csv`, `json` (one object a line), `arrow` (an IPC stream) or `parquet`.

    What `Lake.book` gave is a `book`, too. To the standard output if `output` is None; a reader that goes away early
    (`| head`) is no error. A file appears under its name when it is whole. `waiting` is entered while the terminal that
    may be there has nothing else to show. Returns how many rows were read for it, 0 if there are none. Raises
    OutputError for an unknown format, bytes for a terminal, or a file that cannot be written; QueryError if the query
    fails.
    """
    if output_format not in WRITERS:
        raise OutputError(f"format {output_format!r}: expected one of {', '.join(WRITERS)}")
    write = WRITERS[output_format]
    if output is None and cast("object", sys.stdout) is None:
        raise OutputError("the standard output is closed; to write to a file: --output FILE")
    if output is not None:
        with waiting:
            return _to_file(output, lambda sink: write(result, sink))
    if output_format == "table" and sys.stdout.isatty():
        return print_table(result, waiting)
    if output_format in BINARY and sys.stdout.isatty():
        raise OutputError(f"{output_format} is not for a terminal; to write it to a file: --output FILE")
    with contextlib.nullcontext() if sys.stdout.isatty() else waiting:
        return _to_stdout(lambda sink: write(result, sink))


def page_of(result: Result, output_format: str, lines: int) -> RenderableType:
    """A `table` or a `book` as a page of so many lines."""
    if output_format == "book":
        return Text(book_text(result)[0].rstrip(), no_wrap=True, overflow="crop")
    return table_page(result, lines)


def check_output(output: Path | None, folder: Path) -> None:
    """Raises OutputError for a place in the data folder, which is the service's alone."""
    if output is not None and output.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"{output}: got a place in the data folder {folder}, expected one elsewhere")


def render(result: Result, *, note: str = "") -> Grid:
    """A table of all rows for rich to print, and under it `note`."""
    return Grid(result, written(result).arrow(), note)


def _to_file(path: Path, write: Callable[[IO[bytes]], int]) -> int:
    """Write it whole or not at all; but straight to the path, if it is no regular file but a pipe or a device."""
    is_regular = path.is_file() or not path.exists()
    try:
        with replacing(path, durable=False) if is_regular else path.open("wb") as sink:
            return write(sink)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _to_stdout(write: Callable[[IO[bytes]], int]) -> int:
    try:
        sys.stdout.flush()
        rows = write(sys.stdout.buffer)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer has nowhere to go: without this, Python complains when it ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"the standard output cannot be written: {error.strerror or error}") from error
        return 1  # at least, or there would have been nothing to write
    return rows
