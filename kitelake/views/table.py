"""Tables to read: cut to what fits on a terminal, whole in a file or a pipe."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import accumulate, chain
from typing import IO, Any, Final

import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from kitelake.views.values import (
    CONTROL,
    FLOATS,
    NESTED,
    NUMBERS,
    TIMES,
    Cell,
    aligned_floats,
    short_times,
    spaced,
    text,
)
from queries.lake import Result

TERMINAL_ROWS: Final = 40
TERMINAL_CELL: Final = 40
MEASURED_ROWS: Final = 10_000
PLAN: Final = ["explain_key", "explain_value"]
GAP: Final = "  "
NULL: Final = "NULL"
MORE: Final = "…"


class Grid:
    """A table that rich lays out for the width it is printed at: the first columns, as many as fit.

    `rows` are of `written` of the result.
    """

    def __init__(self, result: Result, rows: pa.Table, note: str) -> None:
        self._columns = _columns(result, rows)
        self._rows = len(rows)
        self._note = note

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self._rows

    @property
    def width(self) -> int:
        """How wide all columns are together."""
        return sum(min(column.width, TERMINAL_CELL) + len(GAP) for column in self._columns) - len(GAP)

    def records(self) -> "Records":
        """The same, record by record."""
        return Records(self._columns, self._rows, self._note)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [min(column.width, TERMINAL_CELL, options.max_width) for column in self._columns]
        ends = accumulate(width + len(GAP) for width in widths)
        fit = max(1, sum(end - len(GAP) <= options.max_width for end in ends))
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


class Records:
    """Rows below each other, a line for each column: for more columns than fit beside each other."""

    def __init__(self, columns: "Sequence[_Column]", rows: int, note: str) -> None:
        self._columns = columns
        self._rows = rows
        self._note = note

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widest = max(cell_len(column.name) for column in self._columns)
        names = min(widest, max(1, options.max_width // 2))
        for row in range(self._rows):
            yield _line([(f"─ {row + 1} ".ljust(min(options.max_width, 2 * names), "─"), "dim")])
            for column in self._columns:
                cell = column.cells[row]
                room = max(2, options.max_width - names - len(GAP))
                name = set_cell_size(column.name, names)
                yield _line([(name, "bold"), (_cut(NULL if cell is None else cell, room), "dim" * (cell is None))])
        if self._note:
            yield Text(self._note, "dim")


def written(result: Result) -> Result:
    """The same with its columns as text, but for floats: how many decimals they get, all of a column decide."""
    columns = enumerate(result.types, 1)
    return result.project(", ".join(f"#{n}" if kind.id in FLOATS else text(kind, f"#{n}") for n, kind in columns))


class _Column:
    """The cells of one column as text, and how wide they are."""

    def __init__(self, name: str, kind: DuckDBPyType, values: Sequence[Any]) -> None:
        self.name = name.translate(CONTROL)
        self.is_number = kind.id in NUMBERS
        self.cells = _cells(kind, values)
        self.width = max(cell_len(NULL if cell is None else cell) for cell in chain([self.name, MORE], self.cells))


def _columns(result: Result, rows: pa.Table | pa.RecordBatch) -> list[_Column]:
    values = [column.to_pylist() for column in rows.columns]
    return [_Column(*each) for each in zip(result.columns, result.types, values, strict=True)]


def _cells(kind: DuckDBPyType, values: Sequence[Any]) -> list[Cell]:
    if kind.id in FLOATS:
        return aligned_floats(values)
    if kind.id in TIMES:
        return short_times(values)
    return [cell and cell.translate(CONTROL) for cell in (spaced(values) if kind.id in NESTED else values)]


def _padded(cell: Cell, column: _Column, width: int) -> str:
    shown = _cut(NULL if cell is None else cell, width)
    size = cell_len(shown)
    return " " * (width - size) + shown if column.is_number else shown + " " * (width - size)


def _cut(shown: str, width: int) -> str:
    return set_cell_size(shown, width - 1) + MORE if cell_len(shown) > width else shown


def _line(cells: Sequence[tuple[str, str]]) -> Text:
    line = Text(no_wrap=True, overflow="crop")
    for at, (cell, style) in enumerate(cells):
        line.append(GAP * (at > 0)).append(cell, style)
    line.rstrip()
    return line


def first_rows(result: Result, limit: int, has_all: str) -> Grid | Text:
    """So many rows for rich to print, or a plan as its lines. `has_all` says what has the others, if there are any."""
    if result.columns == PLAN:
        return Text(_plan(result.arrow()).rstrip("\n"), no_wrap=True, overflow="ignore")
    rows = written(result).head(limit + 1)
    note = f"the first {_count(limit)}; {has_all}" if len(rows) > limit else _count(len(rows))
    return Grid(result, rows.slice(0, limit), note)


def print_table(result: Result, waiting: AbstractContextManager[object]) -> int:
    """The first rows, for a terminal. Returns how many it read."""
    if result.columns == PLAN:
        with waiting:
            plan = result.arrow()
        sys.stdout.write(_plan(plan))
        return len(plan)
    with waiting:
        rows = written(result).head(TERMINAL_ROWS + 1)
        note = _count(len(rows))
        if len(rows) > TERMINAL_ROWS:
            note = f"{TERMINAL_ROWS} of {_count(result.count())}; --format csv or --output FILE has them all"
    Console().print(Grid(result, rows.slice(0, TERMINAL_ROWS), note))
    return len(rows)


def table_page(result: Result, lines: int) -> Grid:
    """The first rows, as many as fit with their names and a note into so many lines."""
    fit = max(1, lines - 3)
    rows = written(result).head(fit + 1)
    note = f"the first {_count(fit)}: name those you want" if len(rows) > fit else "" if len(rows) else "no rows"
    return Grid(result, rows.slice(0, fit), note)


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _plan(table: pa.Table) -> str:
    """What EXPLAIN returns: each plan is a text of many lines, and not a cell."""
    parts = []
    for row in table.to_pylist():
        lines = [line.translate(CONTROL) for line in row["explain_value"].strip("\n").split("\n")]
        parts.append("\n".join([row["explain_key"], *lines] if len(table) > 1 else lines))
    return "".join(f"{part}\n" for part in parts)


def write_table(result: Result, sink: IO[bytes]) -> int:
    """All rows, for a file or a pipe. Columns are as wide as the first rows need; a later cell may push its line."""
    if result.columns == PLAN:
        sink.write(_plan(plan := result.arrow()).encode())
        return len(plan)
    reader = written(result).reader()
    batches = iter(reader)
    first: list[pa.RecordBatch] = []
    while sum(batch.num_rows for batch in first) < MEASURED_ROWS and (batch := next(batches, None)) is not None:
        first.append(batch)
    rows = pa.Table.from_batches(first, reader.schema)
    columns = _columns(result, rows)
    widths = [column.width for column in columns]
    _write_line(sink, [_padded(column.name, column, width) for column, width in zip(columns, widths, strict=True)])
    _write_line(sink, ["─" * width for width in widths])
    _write_rows(sink, columns, widths)
    total = len(rows)
    for each in batches:
        total += each.num_rows
        later = _columns(result, each)
        _write_rows(sink, later, [max(column.width, width) for column, width in zip(later, widths, strict=True)])
    sink.write(f"({_count(total)})\n".encode())
    return total


def _write_rows(sink: IO[bytes], columns: Sequence[_Column], widths: Sequence[int]) -> None:
    padded = [
        [_padded(cell, column, width) for cell in column.cells] for column, width in zip(columns, widths, strict=True)
    ]
    for row in zip(*padded, strict=True):
        _write_line(sink, row)


def _write_line(sink: IO[bytes], cells: Sequence[str]) -> None:
    sink.write(f"{GAP.join(cells).rstrip()}\n".encode())
