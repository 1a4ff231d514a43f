"""Forms to go on with: every row, batch by batch, while the query runs. Writers return how many rows there were."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import IO, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from duckdb.sqltypes import DuckDBPyType

from kitelake.errors import OutputError
from kitelake.views.values import FLOATS, NESTED, WHOLE, json_text, spaced, text
from queries.lake import Result, literal

ROW_GROUP_ROWS: Final = 1 << 18


def write_csv(result: Result, sink: IO[bytes]) -> int:
    """A header, then a line a row. An empty field is null, `""` an empty string."""
    names = _distinct(result.columns)
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(names)
    sink.write(header.getvalue().encode())
    options = pyarrow.csv.WriteOptions(include_header=False)
    kinds = result.types
    columns = (_csv_column(kind, f"#{place}") for place, kind in enumerate(kinds, 1))
    rows = 0
    for batch in result.project(", ".join(columns)).reader():
        rows += len(batch)
        arrays = [_csv_values(kind, values) for kind, values in zip(kinds, batch, strict=True)]
        # Into memory first: Arrow would close the sink, and knows no broken pipe.
        lines = pa.BufferOutputStream()
        pyarrow.csv.write_csv(pa.Table.from_arrays(arrays, names=names), lines, options)
        sink.write(lines.getvalue())
    return rows


def _csv_column(kind: DuckDBPyType, value: str) -> str:
    """What Arrow writes into CSV by itself as it is, and whole numbers of any size; everything else as text."""
    is_native = kind.id in WHOLE | FLOATS | {"boolean", "varchar"} or _is_whole(kind)
    return value if is_native else text(kind, value)


def _is_whole(kind: DuckDBPyType) -> bool:
    """Whether it is what DuckDB makes of a sum of integers."""
    return kind.id == "hugeint" or (kind.id == "decimal" and int(str(dict(kind.children)["scale"])) == 0)


def _csv_values(kind: DuckDBPyType, values: pa.Array) -> pa.Array:
    if _is_whole(kind):
        try:
            return values.cast(pa.int64())
        except pa.ArrowInvalid:  # numbers that are larger go into quotes
            return values.cast(pa.string())
    return pa.array(spaced(values.to_pylist()), pa.string()) if kind.id in NESTED else values


def write_json(result: Result, sink: IO[bytes]) -> int:
    """One object a line. Numbers that JSON has no form for (NaN, infinity) are null; bytes are hex."""
    columns = enumerate(zip(_distinct(result.columns), result.types, strict=True), 1)
    pairs = [
        f"{literal(json.dumps(name, ensure_ascii=False) + ':')}, {json_text(kind, f'#{place}')}"
        for place, (name, kind) in columns
    ]
    object_of_row = "concat('{', " + ", ',', ".join(pairs) + ", '}')"
    rows = 0
    for batch in result.project(object_of_row).reader():
        rows += len(batch)
        if len(batch):
            sink.write(("\n".join(batch.column(0).to_pylist()) + "\n").encode())
    return rows


def write_arrow(result: Result, sink: IO[bytes]) -> int:
    reader = result.reader()
    rows = 0
    with pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            rows += len(batch)
            writer.write_batch(batch)
    return rows


def write_parquet(result: Result, sink: IO[bytes]) -> int:
    reader = result.reader()
    names = _distinct(reader.schema.names)
    if strange := [field for field in reader.schema if not _fits_parquet(field)]:
        columns = ", ".join(f"{field.name} ({field.type})" for field in strange)
        raise OutputError(f"Parquet has no type for: {columns}. Cast to text in the query, as in column::varchar")
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        count = 0
        for rows in _grouped(reader):
            count += len(rows)
            writer.write_table(rows.rename_columns(names))
    return count


def _fits_parquet(field: pa.Field) -> bool:
    try:
        pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
    except pa.ArrowNotImplementedError:
        return False
    return True


def _grouped(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Batches put together to row groups of a size that reads well."""
    waiting: list[pa.RecordBatch] = []
    for batch in reader:
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) >= ROW_GROUP_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _distinct(names: Sequence[str]) -> list[str]:
    """A name that comes again gets a number, as in `price_1`: most readers take a name once."""
    taken = set(names)
    found: list[str] = []
    for name in names:
        number, new = 0, name
        while new in found or (number and new in taken):
            number += 1
            new = f"{name}_{number}"
        found.append(new)
    return found
