"""One Parquet file against what the log says of it.

Every byte by the file's digest of itself, every page by its checksum, and the rows by count, bounds, null counts and
day. Large row groups are read a column at a time, so memory goes by a row group's widest columns, not by the file.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.clock import IST_OFFSET_NS, NS_PER_DAY, microseconds
from storage.schema import Table
from storage.tables import column_stats, first_line, is_as_stamped
from storage.verify.actions import LoggedFile

_IST_OFFSET_US: Final = microseconds(IST_OFFSET_NS)
_DAY_US: Final = microseconds(NS_PER_DAY)
SMALL_VALUES: Final = 1 << 20
"""So many values, of some 10 bytes each, may be in memory together."""


def check_file(spec: Table, folder: Path, file: LoggedFile, on_rows: Callable[[pa.Table], None]) -> Iterator[str]:
    """What is wrong with a file, in words; nothing if it is as it was written.

    `on_rows` gets the key, `unique` and statistics columns of each row group. A file whose bytes have changed is not
    read at all: nothing in it can be believed.
    """
    path = folder / file.relative
    try:
        size = path.stat().st_size
        stamped = size == file.size and is_as_stamped(path)
    except FileNotFoundError:
        yield "it is not there"
        return
    except OSError as error:
        yield f"cannot read it: {error.strerror}"
        return
    if size != file.size:
        yield f"got {size} bytes, expected {file.size}"
    elif stamped is None:
        yield "got a file without a digest"
    elif not stamped:
        yield "got other bytes than were written: they do not have the file's digest"
    else:
        try:
            yield from _check_rows(spec, path, file, on_rows)
        except (OSError, ValueError, pa.ArrowException) as error:
            yield f"cannot read it: {first_line(error)}"


def key_columns(spec: Table) -> list[str]:
    """The columns inside of the files that identify a row or must be unique."""
    names = [*spec.key, *([spec.unique] if spec.unique else [])]
    return [name for name in names if name not in spec.partition_by]


def open_parquet(path: Path, dictionaries: Collection[str] = ()) -> pq.ParquetFile:
    """A file whose pages are checked while they are read. Raises as pyarrow does."""
    return pq.ParquetFile(path, read_dictionary=list(dictionaries), page_checksum_verification=True)


def read_together(names: Sequence[str], rows: int) -> Iterator[Sequence[str]]:
    """The columns of so many rows as they are to be read: in one call, or one after the other if that is much."""
    if len(names) * rows <= SMALL_VALUES:
        yield names
    else:
        yield from ([name] for name in names)


def _check_rows(spec: Table, path: Path, file: LoggedFile, on_rows: Callable[[pa.Table], None]) -> Iterator[str]:
    schema = pq.read_schema(path)
    if (schema.names, schema.types) != (spec.file_schema.names, spec.file_schema.types):
        yield f"got other columns than those of {spec.name}"
        return
    together = sorted({*spec.stats, *key_columns(spec)})
    alone = [name for name in schema.names if name not in together]
    rows = 0
    nulls = dict.fromkeys(spec.stats, 0)
    bounds: dict[str, list[object]] = {name: [] for name in spec.stats}
    other_days = 0
    with open_parquet(path, {"stream", "symbol"} & set(together)) as parquet:
        for number in range(parquet.num_row_groups):
            group = parquet.read_row_group(number, together, use_threads=False)
            rows += group.num_rows
            for name in spec.stats:
                column = group.column(name)
                nulls[name] += column.null_count
                if pa.types.is_dictionary(column.type):
                    column = pc.unique(column.combine_chunks()).dictionary_decode()
                extremes = pc.min_max(column)
                bounds[name] += [extremes["min"].as_py(), extremes["max"].as_py()]
            if "received_at" in spec.stats:
                other_days += _of_other_days(group.column("received_at"), file.values["date"])
            on_rows(group)
            for names in read_together(alone, group.num_rows):
                parquet.read_row_group(number, names, use_threads=False)
    if rows != file.rows:
        yield f"got {rows} rows, expected {file.rows}"
    if other_days:
        yield f"got {other_days} rows that were not received on {file.values['date']}"
    extreme_rows = pa.table({name: pa.array(bounds[name], schema.field(name).type) for name in spec.stats})
    stats = {**column_stats(extreme_rows, spec.stats), "numRecords": rows, "nullCount": nulls}
    wrong = [part for part, value in stats.items() if file.stats[part] != value]
    if wrong:
        yield f"got other statistics in the log than its rows have: {', '.join(wrong)}"


def _of_other_days(received_at: pa.ChunkedArray, date: str) -> int:
    """How many times are not of the IST day."""
    times = received_at.cast(pa.int64()).to_numpy()
    day = np.datetime64(date, "D").astype(np.int64)
    return int(np.count_nonzero((times + _IST_OFFSET_US) // _DAY_US != day))
