"""A folder of plain files: Parquet as `<table>/date=…/exchange=…/rows.parquet`, CSV as `<table>/<date>-<exchange>.csv`.

Parquet files lie as Hive has them, so that every engine knows the columns that are in the names of folders; each file
of CSV has all columns. Times are UTC in Parquet, and as IST clocks show them in CSV, with their offset. An empty field
of CSV is null, `""` an empty string. Prices are in encodings that every engine reads.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from queries.export.choice import Part
from queries.lake import literal, quoted
from storage import schema
from storage.layout import partition_folder

PARQUET = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v1, ROW_GROUP_SIZE 262144"
CSV = "FORMAT csv, HEADER, TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%f%z'"


def write_parquet(con: duckdb.DuckDBPyConnection, part: Part, columns: Sequence[str], folder: Path) -> int:
    """Write a part below the folder. Returns how many rows it has; without any there is no file."""
    inside = [quoted(name) for name in columns if name not in part.values]
    # Of columns that are all in the names of folders, what is left is how many rows there are.
    path = folder / part.table / partition_folder(part.values) / "rows.parquet"
    return _copied(con, part.select(inside or ["true AS row"]), path, PARQUET)


def write_csv(con: duckdb.DuckDBPyConnection, part: Part, columns: Sequence[str], folder: Path) -> int:
    """The same as CSV."""
    kinds = schema.TABLES[part.table].schema
    bytes_ = {name for name in columns if name in kinds.names and pa.types.is_binary(kinds.field(name).type)}
    shown = [f"lower(hex({quoted(name)})) AS {quoted(name)}" if name in bytes_ else quoted(name) for name in columns]
    return _copied(con, part.select(shown), folder / part.table / f"{'-'.join(part.values.values())}.csv", CSV)


def _copied(con: duckdb.DuckDBPyConnection, query: str, path: Path, options: str) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    ((rows,),) = con.execute(f"COPY ({query}) TO {literal(str(path))} ({options})").fetchall()
    if not rows:
        path.unlink()
    return int(rows)
