"""Tables to read: cut to what fits on a terminal, whole in a file or a pipe."""

from collections.abc import Sequence
from itertools import chain
from typing import IO, Final

import numpy as np
import pyarrow as pa
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from kitelake.show.text import CONTROL, Cell, is_number, readable
from queries.result import Result

TERMINAL_ROWS: Final = 40
TERMINAL_CELL: Final = 40
GAP: Final = "  "
NULL: Final = "NULL"
MORE: Final = "…"


class Grid:
    """A table that rich lays out for the width it is printed at: the first columns, as many as fit."""

    def __init__(self, table: pa.Table, note: str) -> None:
        self._columns = [_Column(field, table.column(i)) for i, field in enumerate(table.schema)]
        self._rows = len(table)
        self._note = note

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [min(column.width, TERMINAL_CELL, options.max_width) for column in self._columns]
        ends = np.cumsum([width + len(GAP) for width in widths]) - len(GAP)
        fit = max(1, int(np.searchsorted(ends, options.max_width, "right")))
        columns = list(zip(self._columns, widths, strict=True))[:fit]
        yield _line([(_padded(column.name, column, width), "bold") for column, width in columns])
        yield _line([("─" * width, "dim") for _, width in columns])
        for row in range(self._rows):
            cells = [(column.cells[row], column, width) for column, width in columns]
            yield _line([(_padded(cell, column, width), "dim" * (cell is None)) for cell, column, width in cells])
        notes = [self._note] if self._note else []
        if fit < len(self._columns):
            notes.append(f"{fit} of {len(self._columns)} columns fit: name those you want, or widen the window")
        if notes:
            yield Text("; ".join(notes), "dim")


class _Column:
    """The cells of one column as text, and how wide they are."""

    def __init__(self, field: pa.Field, values: pa.ChunkedArray) -> None:
        self.name = field.name.translate(CONTROL)
        self.is_number = is_number(field.type)
        self.cells = readable(values)
        self.width = max(cell_len(NULL if cell is None else cell) for cell in chain([self.name, MORE], self.cells))


def _padded(cell: Cell, column: _Column, width: int) -> str:
    text = NULL if cell is None else cell
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, width - 1) + MORE
    return " " * (width - size) + text if column.is_number else text + " " * (width - size)


def _line(cells: Sequence[tuple[str, str]]) -> Text:
    line = Text(no_wrap=True, overflow="crop")
    for at, (text, style) in enumerate(cells):
        line.append(GAP * (at > 0)).append(text, style)
    line.rstrip()
    return line


def print_table(result: Result) -> None:
    """The first rows, for a terminal."""
    table = result.head(TERMINAL_ROWS + 1)
    note = _count(len(table))
    if len(table) > TERMINAL_ROWS:
        note = f"{TERMINAL_ROWS} of {_count(result.count())}; --format csv or --output FILE has them all"
    Console().print(Grid(table.slice(0, TERMINAL_ROWS), note))


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def write_table(result: Result, sink: IO[bytes]) -> None:
    """All rows, for a file or a pipe. Columns are as wide as the first batch needs; a wider cell pushes its line."""
    reader = result.reader()
    batches = iter(reader)
    batch = next(batches, None) or pa.RecordBatch.from_pylist([], schema=reader.schema)
    columns = [_Column(field, pa.chunked_array([array])) for field, array in zip(batch.schema, batch, strict=True)]
    widths = [column.width for column in columns]
    head = [_padded(column.name, column, width) for column, width in zip(columns, widths, strict=True)]
    _write_line(sink, head)
    _write_line(sink, ["─" * width for width in widths])
    total = 0
    for each in chain([batch], batches):
        total += each.num_rows
        padded = [_wide(field, array, w) for field, array, w in zip(each.schema, each, widths, strict=True)]
        for row in zip(*padded, strict=True):
            _write_line(sink, row)
    sink.write(f"({_count(total)})\n".encode())


def _wide(field: pa.Field, values: pa.Array, width: int) -> list[str]:
    column = _Column(field, pa.chunked_array([values]))
    return [_padded(cell, column, max(width, column.width)) for cell in column.cells]


def _write_line(sink: IO[bytes], cells: Sequence[str]) -> None:
    sink.write(f"{GAP.join(cells).rstrip()}\n".encode())
