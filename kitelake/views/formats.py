"""Forms to go on with: every row, batch by batch, while the query runs."""

import contextlib
import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from kitelake.errors import OutputError
from kitelake.views.values import plain_objects, value_text, value_texts
from queries.lake import Result

ROW_GROUP_ROWS: Final = 1 << 18


def write_csv(result: Result, sink: IO[bytes]) -> None:
    """A header, then a line a row. An empty field is null, `""` an empty string."""
    reader = result.reader()
    names = _distinct(reader.schema.names)
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(names)
    sink.write(header.getvalue().encode())
    options = pyarrow.csv.WriteOptions(include_header=False)
    for batch in reader:
        columns = [_plain_column(values) for values in batch]
        # Into memory first: Arrow would close the sink, and knows no broken pipe.
        text = pa.BufferOutputStream()
        pyarrow.csv.write_csv(pa.Table.from_arrays(columns, names=names), text, options)
        sink.write(text.getvalue())


def _plain_column(values: pa.Array) -> pa.Array:
    """What Arrow writes into CSV by itself as it is; everything else as text."""
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind):
        return values
    if pa.types.is_decimal(kind) and kind.scale == 0:  # what DuckDB makes of a sum of integers
        with contextlib.suppress(pa.ArrowInvalid):
            return values.cast(pa.int64())
    return pa.array(value_texts(values), pa.string())


def write_json(result: Result, sink: IO[bytes]) -> None:
    """One object a line. Numbers that JSON has no form for (NaN, infinity) are null; bytes are hex."""
    reader = result.reader()
    names = _distinct(reader.schema.names)
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=value_text, allow_nan=False).encode
    for batch in reader:
        columns = [_json_values(values) for values in batch]
        lines = [encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
        sink.write(("\n".join(lines) + "\n").encode() if lines else b"")


def _json_values(values: pa.Array) -> list[Any]:
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_string(kind):
        return list(values.to_pylist())
    return [_jsonable(value) for value in plain_objects(values)]


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, pa.MonthDayNano):  # a tuple, too
        return value_text(value)
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _jsonable(each) for key, each in value.items()}
    return value


def write_arrow(result: Result, sink: IO[bytes]) -> None:
    reader = result.reader()
    with pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def write_parquet(result: Result, sink: IO[bytes]) -> None:
    reader = result.reader()
    names = _distinct(reader.schema.names)
    if strange := [field for field in reader.schema if not _fits_parquet(field)]:
        columns = ", ".join(f"{field.name} ({field.type})" for field in strange)
        raise OutputError(f"Parquet has no type for: {columns}. Cast to text in the query, as in column::varchar")
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for rows in _grouped(reader):
            writer.write_table(rows.rename_columns(names))


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
