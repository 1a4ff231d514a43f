"""What other engines read in a table; .venv-engines runs `python tests/support/engines.py ENGINE TABLE…`.

Prints JSON: of each table the number of rows, and of each column how many values it has and a sum of them as a whole
number: of prices in units of 1e-7, of times in µs and of days since the epoch, of texts and bytes their bytes.
Each engine reads the table with its defaults, as docs/operations.md has it. `run FILE` runs Python lines of such an
engine instead, and `jars` has Spark fetch what it needs.
"""

import datetime as dt
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNITS = 10_000_000
ROOT = Path(__file__).parents[2]
Columns = dict[str, tuple[int, int]]


def spark_session() -> Any:
    """Spark with its Delta package."""
    from delta import configure_spark_with_delta_pip
    from pyspark.sql import SparkSession

    builder = (
        SparkSession.builder.master("local[1]")
        .config("spark.databricks.delta.snapshotPartitions", 1)  # small tables, one core
        .config("spark.sql.shuffle.partitions", 1)
        .config("spark.sql.session.timeZone", "America/New_York")  # any zone reads the same
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    )
    return configure_spark_with_delta_pip(builder).getOrCreate()


def spark(path: str) -> tuple[int, Columns]:
    frame = spark_session().read.format("delta").load(path)
    sums = {
        "bigint": "cast({} as decimal(38, 0))",
        "double": f"cast(round({{}} * {UNITS}) as decimal(38, 0))",
        "timestamp": "cast(unix_micros({}) as decimal(38, 0))",
        "date": "unix_date({})",
        "string": "octet_length({})",
        "binary": "octet_length({})",
    }
    wanted = ["count(*)"]
    for name, kind in frame.dtypes:
        wanted += [f"count(`{name}`)", f"sum({sums[kind].format(f'`{name}`')})"]
    rows, *found = frame.selectExpr(*wanted).collect()[0]
    pairs = zip(found[::2], found[1::2], strict=True)
    return rows, {name: (count, int(total or 0)) for name, (count, total) in zip(frame.columns, pairs, strict=True)}


def polars(path: str) -> tuple[int, Columns]:
    import polars as pl

    frame = pl.scan_delta(path)
    wanted = [pl.len().alias("*")]
    for name, kind in frame.collect_schema().items():
        column = pl.col(name)
        if kind == pl.Float64:
            whole = (column * UNITS).round().cast(pl.Int64)
        elif kind == pl.String:
            whole = column.str.len_bytes().cast(pl.Int64)
        elif kind == pl.Binary:
            whole = column.bin.size().cast(pl.Int64)
        else:
            whole = column.cast(pl.Int32).cast(pl.Int64) if kind == pl.Date else column.cast(pl.Int64)
        wanted += [column.count().alias(f"{name} count"), whole.cast(pl.Int128).sum().alias(name)]
    (row,) = frame.select(wanted).collect().to_dicts()
    return row["*"], {name: (row[f"{name} count"], int(row[name])) for name in frame.collect_schema()}


def pandas(path: str) -> tuple[int, Columns]:
    from deltalake import DeltaTable

    table = DeltaTable(path)
    return _of_frame(table.to_pandas(), table)


def dask(path: str) -> tuple[int, Columns]:
    import dask.dataframe as dd
    from deltalake import DeltaTable

    table = DeltaTable(path)
    return _of_frame(dd.read_parquet(table.file_uris()).compute(), table)


def _of_frame(frame: Any, table: Any) -> tuple[int, Columns]:
    """Of a frame of pandas, whose columns of whole numbers are float64 where a value is missing."""
    kinds = {field.name: str(field.type.type) for field in table.schema().fields}
    return len(frame), {name: _of_values(frame[name].dropna().tolist(), kind) for name, kind in kinds.items()}


def _of_values(values: list[Any], kind: str) -> tuple[int, int]:
    sums: dict[str, Callable[[Any], int]] = {
        "long": int,
        "double": lambda value: round(value * UNITS),
        "timestamp": lambda value: value.value // 1000,
        "date": lambda value: (dt.date.fromisoformat(str(value)[:10]) - dt.date(1970, 1, 1)).days,
        "string": lambda value: len(value.encode()),
        "binary": len,
    }
    return len(values), sum(map(sums[kind], values))


ENGINES: dict[str, Callable[[str], tuple[int, Columns]]] = {
    "spark": spark,
    "polars": polars,
    "pandas": pandas,
    "dask": dask,
}

if __name__ == "__main__":
    # Spark keeps its jars in the home folder, and looks into that folder's Maven repository, which may have a part of
    # them: so in one of our own. Its ports are for this machine alone.
    os.environ |= {"SPARK_SUBMIT_OPTS": f"-Duser.home={ROOT / '.venv-engines'}", "SPARK_LOCAL_IP": "127.0.0.1"}
    name, *tables = sys.argv[1:]
    if name == "jars":
        spark_session()
    elif name == "run":
        exec(compile(Path(tables[0]).read_text(encoding="utf-8"), tables[0], "exec"))
    else:
        print(json.dumps({table: ENGINES[name](table) for table in tables}))
