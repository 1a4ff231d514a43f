"""Tables to read: cut to what fits on a terminal, whole in a file or a pipe."""

import sys
from collections.abc import Sequence
from itertools import chain
from typing import IO, Final

import numpy as np
import pyarrow as pa
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from kitelake.views.values import CONTROL, Cell, is_number, readable
from queries.lake import Result

TERMINAL_ROWS: Final = 40
TERMINAL_CELL: Final = 40
MEASURED_ROWS: Final = 10_000
PLAN: Final = ["explain_key", "explain_value"]
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
    if result.columns == PLAN:
        sys.stdout.write(_plan(result.arrow()))
        return
    table = result.head(TERMINAL_ROWS + 1)
    note = _count(len(table))
    if len(table) > TERMINAL_ROWS:
        note = f"{TERMINAL_ROWS} of {_count(result.count())}; --format csv or --output FILE has them all"
    Console().print(Grid(table.slice(0, TERMINAL_ROWS), note))


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _plan(table: pa.Table) -> str:
    """What EXPLAIN returns: each plan is a text of many lines, and not a cell."""
    parts = []
    for row in table.to_pylist():
        lines = [line.translate(CONTROL) for line in row["explain_value"].strip("\n").split("\n")]
        parts.append("\n".join([row["explain_key"], *lines] if len(table) > 1 else lines))
    return "".join(f"{part}\n" for part in parts)


def write_table(result: Result, sink: IO[bytes]) -> None:
    """All rows, for a file or a pipe. Columns are as wide as the first rows need; a later cell may push its line."""
    reader = result.reader()
    if reader.schema.names == PLAN:
        sink.write(_plan(reader.read_all()).encode())
        return
    batches = iter(reader)
    first: list[pa.RecordBatch] = []
    while sum(batch.num_rows for batch in first) < MEASURED_ROWS and (batch := next(batches, None)) is not None:
        first.append(batch)
    table = pa.Table.from_batches(first, reader.schema)
    columns = [_Column(field, values) for field, values in zip(table.schema, table.columns, strict=True)]
    widths = [column.width for column in columns]
    _write_line(sink, [_padded(column.name, column, width) for column, width in zip(columns, widths, strict=True)])
    _write_line(sink, ["─" * width for width in widths])
    _write_rows(sink, columns, widths)
    total = len(table)
    for each in batches:
        total += each.num_rows
        later = [_Column(field, pa.chunked_array([array])) for field, array in zip(each.schema, each, strict=True)]
        _write_rows(sink, later, [max(column.width, width) for column, width in zip(later, widths, strict=True)])
    sink.write(f"({_count(total)})\n".encode())


def _write_rows(sink: IO[bytes], columns: Sequence[_Column], widths: Sequence[int]) -> None:
    padded = [
        [_padded(cell, column, width) for cell in column.cells] for column, width in zip(columns, widths, strict=True)
    ]
    for row in zip(*padded, strict=True):
        _write_line(sink, row)


def _write_line(sink: IO[bytes], cells: Sequence[str]) -> None:
    sink.write(f"{GAP.join(cells).rstrip()}\n".encode())
