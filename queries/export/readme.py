"""What an export says of itself: what it is, when and from what it was made, and its columns with units."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from queries.export.choice import Choice
from queries.history import TimeRange
from storage import schema

TITLE: Final = "# Exported from Kitelake"
"""How the README of every export begins."""
ABOUT: Final = "about"
"""The table of a DuckDB file that has the same text."""

_SOURCE_SINCE: Final = "since when the connection is shown that it came by; null where the instrument had but one"
_READING: Final = {
    "parquet": (
        "Each table is a folder of Parquet files, partitioned as Hive does it: the columns in the names of folders are "
        "not in the files. Times are instants in UTC.\n\n"
        "```python\n"
        "duckdb.sql(\"FROM read_parquet('ticks/**/*.parquet', hive_partitioning = true)\")\n"
        'pandas.read_parquet("ticks")\n'
        'polars.read_parquet("ticks/**/*.parquet", hive_partitioning=True)\n'
        "```"
    ),
    "csv": (
        "Each table is a folder of CSV files, one for each day and exchange, with a header. Times are as clocks in "
        'India show them, with their offset. An empty field is null, `""` an empty text.'
    ),
    "duckdb": (
        "A DuckDB database. Times are instants, which DuckDB shows in the zone of the session: `SET TimeZone = "
        "'Asia/Kolkata'` for that of the exchanges. Times that macros are given as texts are IST in any session. "
        "Attached beside another database, macros want `USE` of this one."
    ),
}


def text_of(
    root: Path, form: str, choice: Choice, rows: Mapping[str, int], made_at: dt.datetime, beside: Sequence[str] = ()
) -> str:
    """The README as Markdown. `rows` are counted by table; `beside` are the names of views and macros."""
    lines = [TITLE, "", f"Made at {made_at:%Y-%m-%d %H:%M:%S} IST of what was captured into `{root}` until then.", ""]
    lines += [f"- Range: {_range(choice.when)}", f"- Instruments: {_symbols(choice)}"]
    lines += [f"- `{table}`: {count:,} rows" for table, count in rows.items()]
    if form == "duckdb":
        lines.append(f"- Views and macros: {', '.join(f'`{name}`' for name in beside) or 'none'}")
    lines += ["", "What a packet does not carry is null, never 0. Prices are rupees.", "", _READING[form]]
    for table in rows:
        lines += ["", f"## {table}", "", about_table(table), "", "| column | what it is |", "| --- | --- |"]
        lines += [f"| `{name}` | {text} |" for name, text in about_columns(table, choice.names(table))]
    return "\n".join(lines) + "\n"


def about_table(table: str) -> str:
    """What a table is."""
    return schema.TABLES[table].summary


def about_columns(table: str, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What each column is: its unit, where it comes from, and when it is null."""
    known = {column.name: column for column in schema.TABLES[table].columns}
    for name in columns:
        column = known.get(name)
        if column is None:
            yield name, _SOURCE_SINCE
            continue
        unit = f"{column.unit}; " if column.unit else ""
        null = "" if column.null == "never" else f"; null: {column.null}"
        yield name, f"{unit}{column.source}{null}"


def _range(when: TimeRange) -> str:
    begin = "the first that was captured" if when.start is None else f"{when.start:%Y-%m-%d %H:%M:%S} IST"
    end = "the last" if when.stop is None else f"before {when.stop:%Y-%m-%d %H:%M:%S} IST"
    return f"from {begin} to {end}"


def _symbols(choice: Choice) -> str:
    if choice.symbols is None:
        return "all"
    several = choice.symbols if isinstance(choice.symbols, list | tuple) else [choice.symbols]
    return ", ".join(f"`{one}`" for one in several)
