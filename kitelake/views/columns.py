"""Tables of a few columns for a terminal: plain ones, and ones with a line below the names."""

from collections.abc import Collection, Sequence

from rich import box
from rich.table import Table
from rich.text import Text


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
