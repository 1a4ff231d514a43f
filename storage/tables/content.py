"""What is in Parquet files of a table: how many rows, which ones, and between which bounds.

The digest of rows is the sum of a 64-bit hash of each, over all columns. It says nothing of their order, so the files
of a partition have the same digest before and after they are rewritten. Rows that are lost, doubled or changed leave
the sum as it was with a chance of one in 2**64. A row's hash is that of the hash that DuckDB makes of several columns:
it joins those of the columns by exclusive or, and two rows that swapped a value could else cancel out. Nulls and NaN
count like other values. Only 0.0 and -0.0, and the bit patterns of NaN, are one value to it.

DuckDB's hash may differ between its versions: digests are compared within a process, and not kept to be compared.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from storage.errors import TableError
from storage.schema import Table
from storage.tables.delta import first_line
from storage.tables.parquet import column_stats

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Content:
    """The rows of one file. `digest` is a sum that may be added to others; `stats` as in `DataFile`."""

    rows: int
    digest: int
    stats: str


@contextlib.contextmanager
def digester() -> Iterator["DuckDBPyConnection"]:
    """An empty database in memory, to look at contents with. What DuckDB raises inside comes out as TableError."""
    import duckdb

    options: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "temp_directory": "",
        "async_threads": 0,  # files are read one after the other, so that threads that read ahead gain nothing
    }
    try:
        with duckdb.connect(config=options) as con:
            con.execute("SET TimeZone = 'UTC'")
            con.execute("SET enable_progress_bar = false")  # it goes to standard output
            con.execute("SET preserve_insertion_order = false")  # needs memory, and each query says its order
            yield con
    except duckdb.Error as error:
        raise TableError(f"cannot rewrite files: {first_line(error)}") from error


def read_contents(con: "DuckDBPyConnection", spec: Table, files: Sequence[str]) -> list[Content]:
    """Read every row of the files, of which there is one at least; their contents, in the same order."""
    bounds = ", ".join(f'min("{name}"), max("{name}"), count("{name}")' for name in spec.stats)
    source = "read_parquet($files, hive_partitioning = false, filename = true)"
    query = f"SELECT filename, count(*), {_digest(spec)}, {bounds} FROM {source} GROUP BY filename"  # noqa: S608 - our names
    found = con.sql(query, params={"files": list(files)}).to_arrow_table()
    place = {name: at for at, name in enumerate(found.column(0).to_pylist())}
    empty = Content(0, 0, "{}")  # a file without rows is in no group
    return [_content(spec, found.slice(place[name], 1)) if name in place else empty for name in files]


def digest_of_rows(con: "DuckDBPyConnection", spec: Table, rows: pa.Table) -> int:
    """The digest of rows in memory, one at least: what `read_contents` gives of them in a file."""
    con.register("kitelake_rows", rows)
    try:
        ((digest,),) = con.sql(f"SELECT {_digest(spec)} FROM kitelake_rows").fetchall()  # noqa: S608 - our names
    finally:
        con.unregister("kitelake_rows")
    return int(digest)


def _digest(spec: Table) -> str:
    columns = ", ".join(f'"{name}"' for name in spec.file_schema.names)
    return f"sum(hash(hash({columns})))"


def _content(spec: Table, row: pa.Table) -> Content:
    _, rows, digest = (row.column(at)[0].as_py() for at in range(3))
    bounds = {}
    nulls = {}
    for at, name in enumerate(spec.stats):
        low, high, count = (row.column(3 + 3 * at + i) for i in range(3))
        bounds[name] = pa.chunked_array([*low.chunks, *high.chunks])
        nulls[name] = rows - count[0].as_py()
    stats = column_stats(pa.table(bounds), spec.stats) | {"numRecords": rows, "nullCount": nulls}
    text = json.dumps(stats, separators=(",", ":"), allow_nan=False)
    return Content(rows, int(digest), text)
