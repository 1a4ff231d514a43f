"""Arrow rows to one Parquet file: small, quick to write, the same for every engine, and the same bytes each time.

There are two choices of encodings, made by `python -m benchmarks.bench_parquet`, whose figures are in
benchmarks/RESULTS.md; both are read by every engine with its defaults. Ticks lie instrument by instrument, so a value
is mostly followed by one that is near it.

- Files that live long, as those of a sealed day, are small: differences of integers, plain doubles, then zstd. Of
  differences, which are packed to bits already, Snappy saves as much in less time, except where most are the same.
  What an instrument repeats from tick to tick (the day's open, high, low and close, say) gets a dictionary instead, as
  strings do. So do the prices that are asked for most: they are a little larger so, and quicker to read. Doubles are
  not split into streams of bytes: it saves nothing here, and Spark 4.2 refuses such a column by default
  (VectorizedColumnReader: "Unsupported encoding: BYTE_STREAM_SPLIT"). There are no bounds of the book, by which nobody
  finds rows.
- Ticks of a segment, which are written once a minute or oftener and live until their day is sealed: less time for some
  more bytes. Differences are packed to bits already, so that zstd took as long as all else to make them a little
  smaller: they are not compressed. Doubles, and integers that repeat, are plain, followed by Snappy. Bounds are of when
  and where a row comes from and of its instrument: those of other columns leave no row group out, since each has
  rows of many instruments.

Every page has a checksum, and the file a digest of itself (`storage.tables.digest`).

A column of which the schema of the rows says that it has no null is REQUIRED in the file, which takes less time to
write and to read. So files of one table differ in that; by the Delta log all columns may have nulls.

No Arrow schema is stored in the file: what a reader gets are the plain types of `storage.schema`, also where the rows
in memory were dictionary-encoded.

A file is written and synced in a staging folder, then renamed into the table's folder. A name in a table's folder is
therefore a whole file, but it is not in the table before a commit names it.
"""

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import pyarrow as pa

from storage.errors import RowsError, TableError
from storage.files import DataFile, make_folders, sync_file, sync_folder
from storage.layout import table_file
from storage.schema import TICKS, Table
from storage.tables.digest import NO_DIGEST, stamp

if TYPE_CHECKING:
    import pyarrow.parquet as pq

ROW_GROUP_ROWS: Final = 1 << 20
PAGE_ROWS: Final = 4096
"""A reader who wants one instrument passes over the pages without it, which is worth most for a day that is not sealed,
whose files have its rows among all others. Files are a little larger for it, and take a little longer to write."""
BUFFER_BYTES: Final = 256 << 10
BOUND_CHARACTERS: Final = 64
REPEATED: Final = frozenset(
    (
        *("instrument_token", "last_traded_quantity", "average_traded_price", "last_trade_time"),
        *("open", "high", "low", "close", "oi_day_high", "oi_day_low"),
    )
)
"""What an instrument repeats from tick to tick."""
ASKED_FOR: Final = frozenset(("last_price", "bid_price_1", "ask_price_1"))
"""Prices that are asked for most."""
_RUNS: Final = frozenset(("instrument_token", "oi_day_high", "oi_day_low"))
"""Integers of which an instrument has the same for a long time."""
_STEADY: Final = frozenset(("exchange_timestamp", "volume_traded"))
"""Integers of which the differences are mostly the same."""
_TIMES_IN_SECONDS: Final = frozenset(("last_trade_time", "exchange_timestamp"))
_BOOK: Final = ("bid_", "ask_")
_FOUND_BY: Final = frozenset(("received_at", "stream", "seq", "instrument_token", *_TIMES_IN_SECONDS))
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True)
class StagedFile:
    """A file that is written and synced, and not yet where its table has its files. `file` is what it will be."""

    file: DataFile
    path: Path


def write_file(
    spec: Table, rows: pa.Table, *, values: Mapping[str, str], stem: str, table_folder: Path, staging: Path
) -> DataFile:
    """Write `rows` (the table's `file_schema`; strings may be dictionary-encoded) as `<partition>/<stem>.parquet`.

    A file of that name that is there already is replaced. Raises RowsError for rows of another schema, TableError if
    the disk does not take the file.
    """
    return move_file(stage_file(spec, [rows], values=values, stem=stem, staging=staging), table_folder)


def stage_file(
    spec: Table, pieces: Iterable[pa.Table], *, values: Mapping[str, str], stem: str, staging: Path
) -> StagedFile:
    """The first half of `write_file`, for rows that come piece by piece: each is a row group. Raises as it does.

    The schema of the first piece says which columns have no null. One that has some all the same is not written:
    ArrowInvalid or ValueError.
    """
    relative = table_file(values, stem)
    staged = staging / f"{spec.name}-{relative.replace('/', '-')}"
    rows = 0
    bounds: dict[str, list[pa.Scalar]] = {name: [] for name in spec.stats}
    nulls = dict.fromkeys(spec.stats, 0)
    with _refusals(staged):
        staging.mkdir(parents=True, exist_ok=True)
        checked_pieces = (canonical_rows(spec, piece) for piece in pieces)
        first = next(checked_pieces, spec.file_schema.empty_table())
        with parquet_writer(first.schema, staged, quick=spec is TICKS) as writer:
            for checked in chain([first], checked_pieces):
                rows_alike = checked if checked.schema.equals(first.schema) else checked.cast(first.schema)
                writer.write_table(rows_alike, row_group_size=ROW_GROUP_ROWS)
                rows += checked.num_rows
                _add_stats(checked, bounds, nulls)
        sync_file(staged)
        size = staged.stat().st_size
    extremes = {name: pa.array(found, spec.file_schema.field(name).type) for name, found in bounds.items()}
    stats = {**column_stats(pa.table(extremes), spec.stats), "numRecords": rows, "nullCount": nulls}
    text = json.dumps(stats, separators=(",", ":"), allow_nan=False)
    return StagedFile(DataFile(relative, size, dict(values), rows, text), staged)


def move_file(staged: StagedFile, table_folder: Path) -> DataFile:
    """The second half of `write_file`. Raises TableError."""
    target = table_folder / staged.file.relative
    with _refusals(target):
        make_folders(target.parent, table_folder)
        staged.path.replace(target)
        sync_folder(target.parent)
    return staged.file


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """The system's errors as ours."""
    try:
        yield
    except OSError as error:
        raise TableError(f"file {path}: cannot write: {error.strerror or error}") from error


def _add_stats(rows: pa.Table, bounds: Mapping[str, list[pa.Scalar]], nulls: dict[str, int]) -> None:
    """Take in what `column_stats` of all pieces needs of one: of each column the least and the greatest."""
    import pyarrow.compute as pc

    for name, found in bounds.items():
        column = rows.column(name)
        nulls[name] += column.null_count
        if pa.types.is_dictionary(column.type):
            column = pc.unique(column.combine_chunks()).dictionary_decode()
        extremes = pc.min_max(column)
        found += [extremes["min"], extremes["max"]]


def write_parquet(rows: pa.Table, path: Path | BinaryIO) -> None:
    """Write one Parquet file with the project's encodings, stamped with its digest. Raises OSError."""
    with parquet_writer(rows.schema, path) as writer:
        writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)


@contextlib.contextmanager
def parquet_writer(schema: pa.Schema, path: Path | BinaryIO, *, quick: bool = False) -> Iterator["pq.ParquetWriter"]:
    """The same piece by piece: each table written is a row group. A file that ends in an exception has no digest.

    `quick`: encoded as ticks of a segment are.
    """
    import pyarrow.parquet as pq  # an opened lake writes none

    with contextlib.ExitStack() as opened:
        sink: Any = path
        if isinstance(path, Path):  # else each page's header and each page would be a call of the system
            sink = opened.enter_context(pa.BufferedOutputStream(pa.OSFile(str(path), "wb"), BUFFER_BYTES))
        writer = opened.enter_context(
            pq.ParquetWriter(
                sink,
                schema,
                max_rows_per_page=PAGE_ROWS,
                write_page_checksum=True,
                store_schema=False,
                **(_quick_choices(schema) if quick else _small_choices(schema)),
            )
        )
        yield writer
        writer.add_key_value_metadata(NO_DIGEST)
    stamp(path)


def _small_choices(schema: pa.Schema) -> dict[str, Any]:
    dictionaries, encodings = [], {}
    codecs = dict.fromkeys(schema.names, "zstd")
    for field in schema:
        if field.name in REPEATED | ASKED_FOR:
            dictionaries.append(field.name)
        elif pa.types.is_floating(field.type):
            encodings[field.name] = "PLAIN"
        elif _is_whole(field.type):
            encodings[field.name] = "DELTA_BINARY_PACKED"
            codecs[field.name] = "zstd" if field.name in _STEADY else "snappy"
        elif not pa.types.is_binary(field.type):
            dictionaries.append(field.name)
    return {
        "compression": codecs,
        "compression_level": {name: 1 for name, codec in codecs.items() if codec == "zstd"},
        "use_dictionary": dictionaries or False,
        "column_encoding": encodings or None,
        "write_statistics": [name for name in schema.names if not name.startswith(_BOOK)],
    }


def _quick_choices(schema: pa.Schema) -> dict[str, Any]:
    dictionaries, encodings, codecs = [], {}, {}
    for field in schema:
        name, is_whole = field.name, _is_whole(field.type)
        packed = name in _TIMES_IN_SECONDS or (is_whole and name not in _RUNS)
        codecs[name] = "none" if packed else "snappy"
        if name in _TIMES_IN_SECONDS or not (is_whole or pa.types.is_floating(field.type)):
            dictionaries.append(name)
        else:
            encodings[name] = "DELTA_BINARY_PACKED" if packed else "PLAIN"
    return {
        "compression": codecs,
        "use_dictionary": dictionaries,
        "column_encoding": encodings,
        "write_statistics": [name for name in schema.names if name in _FOUND_BY],
    }


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_temporal(kind))


def column_stats(rows: pa.Table, columns: Sequence[str]) -> dict[str, object]:
    """The statistics of a Delta add action: row count, and null count and bounds of `columns`.

    Bounds hold but need not be met: times are widened to whole milliseconds, as the Delta protocol has them, and long
    strings cut. A column with NaN has no bounds, since engines differ in where NaN sorts; nor has an infinite bound.
    """
    import pyarrow.compute as pc  # a tenth of a second, which readers of tables need not wait for

    least: dict[str, object] = {}
    most: dict[str, object] = {}
    nulls: dict[str, int] = {}
    for name in columns:
        column = rows.column(name)
        nulls[name] = column.null_count
        if pa.types.is_dictionary(column.type):
            column = pc.unique(column.combine_chunks()).dictionary_decode()
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
            continue
        bounds = pc.min_max(column).as_py()
        low, high = _lower_bound(bounds["min"]), _upper_bound(bounds["max"])
        if low is not None:
            least[name] = low
        if high is not None:
            most[name] = high
    return {"numRecords": rows.num_rows, "minValues": least, "maxValues": most, "nullCount": nulls}


def canonical_rows(spec: Table, rows: pa.Table) -> pa.Table:
    """The rows in one chunk a column, so that equal rows give equal pages. Raises RowsError for other columns."""
    expected, schema = spec.file_schema, rows.schema
    got = dict(zip(schema.names, schema.types, strict=True))
    for name, kind in zip(expected.names, expected.types, strict=True):
        one = got.get(name)
        if (one.value_type if isinstance(one, pa.DictionaryType) else one) != kind:
            raise RowsError(f"rows for {spec.name}: got {name} as {one}, expected {kind}")
    if len(schema) != len(expected):
        extra = sorted(got.keys() - set(expected.names))
        raise RowsError(f"rows for {spec.name}: got columns {extra} that the table does not have")
    in_order = rows if schema.names == expected.names else rows.select(expected.names)
    return in_order.unify_dictionaries().combine_chunks()


def _lower_bound(value: object) -> object:
    if isinstance(value, str):
        return value[:BOUND_CHARACTERS]
    if isinstance(value, datetime):
        return _milliseconds(value)
    return _plain(value)


def _upper_bound(value: object) -> object:
    if isinstance(value, str):
        return value if len(value) <= BOUND_CHARACTERS else _string_above(value[:BOUND_CHARACTERS])
    if isinstance(value, datetime):
        whole = value.microsecond % 1000 == 0
        return _milliseconds(value if whole else value + _MILLISECOND)
    return _plain(value)


def _plain(value: object) -> object:
    if isinstance(value, float) and math.isinf(value):
        return None
    return value.isoformat() if isinstance(value, date) else value


def _milliseconds(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"


def _string_above(prefix: str) -> str | None:
    """The shortest text above every text that begins with `prefix`, or None if there is none."""
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at]) + 1
        if 0xD800 <= code <= 0xDFFF:  # no characters, and no UTF-8 has them
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[:at] + chr(code)
    return None
