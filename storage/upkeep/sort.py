"""The rows of a partition, sorted into the files of a compacted day: `storage.upkeep.compact` says in which order."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from storage.files import sync_file
from storage.schema import TICKS, Table
from storage.tables import Content, listed, parquet_writer

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STRETCH_ROWS: Final = 1 << 21
ROW_GROUP_ROWS: Final = 1 << 16
TICK_ORDER: Final = ("instrument_token", "stream", "seq")
_MINUTE_US: Final = 60_000_000


def write_sorted(
    con: "DuckDBPyConnection",
    spec: Table,
    files: Sequence[str],
    contents: Sequence[Content],
    folder: Path,
    *,
    file_bytes: int,
    on_rows: Callable[[int], None],
) -> list[Path]:
    """Write all rows of `files`, whose `contents` are known, into new files in `folder`. Returns these, in order.

    A file ends with the row group that takes it to `file_bytes`. `on_rows` is told how many rows are written so far.
    Raises OSError.
    """
    groups = _groups(con, spec, files, contents)
    group = next(groups, None)
    written: list[Path] = []
    rows = 0
    while group is not None:
        path = folder / f"{len(written) + 1:04d}.parquet"
        with path.open("w+b") as file, parquet_writer(spec.file_schema, file) as writer:
            full = False
            while group is not None and not full:
                writer.write_table(group)
                rows += group.num_rows
                on_rows(rows)
                group = next(groups, None)
                full = file.tell() >= file_bytes
        sync_file(path)
        written.append(path)
    return written


def _groups(
    con: "DuckDBPyConnection", spec: Table, files: Sequence[str], contents: Sequence[Content]
) -> Iterator[pa.Table]:
    """The rows, one row group after another."""
    names = [name for name, content in zip(files, contents, strict=True) if content.rows]
    if not names:
        return
    order = TICK_ORDER if spec is TICKS else spec.key
    query = (
        f"SELECT {listed(spec.file_schema.names)} FROM read_parquet($files, hive_partitioning = false) "  # noqa: S608 - our names
        "WHERE received_at >= make_timestamptz($first) AND received_at < make_timestamptz($end) "
        f"ORDER BY {listed(order)}"
    )
    for first, end in _stretches(con, names, contents) if spec is TICKS else [_span(contents)]:
        overlapping = [
            name
            for name, content in zip(files, contents, strict=True)
            if content.rows and content.first_us < end and content.last_us >= first
        ]
        found = con.sql(query, params={"files": overlapping, "first": first, "end": end})
        for batch in found.to_arrow_reader(ROW_GROUP_ROWS):
            if batch.num_rows:
                yield pa.Table.from_batches([batch]).cast(spec.file_schema)


def _span(contents: Sequence[Content]) -> tuple[int, int]:
    return min(c.first_us for c in contents if c.rows), max(c.last_us for c in contents if c.rows) + 1


def _stretches(
    con: "DuckDBPyConnection", files: Sequence[str], contents: Sequence[Content]
) -> Iterator[tuple[int, int]]:
    """Whole minutes, as many as have STRETCH_ROWS rows: where each stretch begins and ends, in µs since the epoch."""
    first, end = _span(contents)
    minutes = con.sql(
        f"SELECT epoch_us(received_at) // {_MINUTE_US}, count(*) "  # noqa: S608 - a number
        "FROM read_parquet($files, hive_partitioning = false) GROUP BY 1 ORDER BY 1",
        params={"files": list(files)},
    ).fetchall()
    rows = 0
    for minute, count in minutes:
        rows += count
        if rows >= STRETCH_ROWS:
            at = (minute + 1) * _MINUTE_US
            yield first, at
            first, rows = at, 0
    if first < end:
        yield first, end
