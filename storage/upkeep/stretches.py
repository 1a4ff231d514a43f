"""The rows of some files of a table, one stretch of time after another, in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.clock import US_PER_SECOND
from storage.errors import SealError
from storage.memory import arrow_of, missing_of, numpy_of
from storage.schema import Table

if TYPE_CHECKING:
    import pyarrow.parquet as pq
    from duckdb import DuckDBPyConnection

_TIME: Final = "received_at"
_WORD_BITS: Final = 64


@dataclass(frozen=True)
class Source:
    """A file by its footer: `first_us` and `last_us` bound `received_at`, in microseconds since the epoch, `full` are
    the columns without nulls, and `width` is what a row takes that is decompressed and not decoded.
    """

    path: Path
    rows: int
    first_us: int
    last_us: int
    full: frozenset[str]
    width: float


@dataclass(frozen=True)
class Stretch:
    """A time, from `first_us` until before `end_us`, in microseconds since the epoch, and how many rows came in it."""

    first_us: int
    end_us: int
    rows: int


def look_at(spec: Table, path: Path) -> Source:
    """Read the footer of a file of ours. Raises SealError if it has other columns than the table, and what pyarrow
    raises if there is none.
    """
    import pyarrow.parquet as pq  # here as below: a tenth of a second, which readers of tables need not wait for

    with pq.ParquetFile(path) as file:
        footer, schema = file.metadata, file.schema_arrow
    if (schema.names, schema.types) != (spec.file_schema.names, spec.file_schema.types):
        raise SealError(f"file {path.name} has other columns than those of {spec.name}")
    groups = [group for at in range(footer.num_row_groups) if (group := footer.row_group(at)).num_rows]
    spans = [_span(group) for group in groups] or [(0, 0)]
    full = [footer.schema.column(at).name for at in range(footer.num_columns) if _is_full(footer, groups, at)]
    return Source(
        path,
        footer.num_rows,
        first_us=min(first for first, _ in spans),
        last_us=max(last for _, last in spans),
        full=frozenset(full),
        width=sum(group.total_byte_size for group in groups) / max(footer.num_rows, 1),
    )


def schema_of(spec: Table, sources: Sequence[Source]) -> pa.Schema:
    """That of the rows of stretches: texts are dictionaries, and a column without nulls in all sources has none."""
    texts = pa.dictionary(pa.int32(), pa.string())
    fields = [field.with_type(texts) if pa.types.is_string(field.type) else field for field in spec.file_schema]
    return pa.schema([each.with_nullable(any(each.name not in one.full for one in sources)) for each in fields])


def stretches(con: "DuckDBPyConnection", sources: Sequence[Source], at_once: int) -> Iterator[Stretch]:
    """Whole seconds, as many as have `at_once` rows, of the rows of `sources`, of which each has some."""
    first, end = min(source.first_us for source in sources), max(source.last_us for source in sources) + 1
    seconds = con.sql(
        f"SELECT us // {US_PER_SECOND} - (us % {US_PER_SECOND} < 0)::BIGINT, count(*) "  # noqa: S608 - downwards
        f"FROM (SELECT epoch_us({_TIME}) AS us "
        "FROM read_parquet($files, hive_partitioning = false)) GROUP BY 1 ORDER BY 1",
        params={"files": [str(source.path) for source in sources]},
    ).fetchall()
    rows = 0
    for second, count in seconds:
        rows += count
        if rows >= at_once:
            at = (second + 1) * US_PER_SECOND
            yield Stretch(first, at, rows)
            first, rows = at, 0
    if rows:
        yield Stretch(first, end, rows)


def read_stretch(spec: Table, sources: Sequence[Source], stretch: Stretch) -> pa.Table:
    """Its rows, each column in one piece, texts as dictionaries in their order. Raises SealError if others came."""
    # Numbers are copied to where they stay, so that what is read of one file is there for the next one.
    words = {field.name: _Words(field.type, stretch.rows) for field in spec.file_schema if _is_word(field.type)}
    pieces: dict[str, list[pa.Array]] = {name: [] for name in spec.file_schema.names if name not in words}
    count = 0
    there = [one for one in sources if one.first_us < stretch.end_us and one.last_us >= stretch.first_us]
    for rows in chain.from_iterable(_read(spec, source, stretch) for source in there):
        if count + len(rows) > stretch.rows:
            raise SealError(f"more rows were read than {stretch.rows} counted: the files are not what they were")
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            at = count
            for chunk in column.chunks:
                if name in words:
                    words[name].put(at, chunk)
                else:
                    pieces[name].append(chunk)
                at += len(chunk)
        count += len(rows)
    if count != stretch.rows:
        raise SealError(f"{count} rows were read, {stretch.rows} counted: the files are not what they were")
    columns = [words[name].column() if name in words else _joined(pieces[name]) for name in spec.file_schema.names]
    return pa.table(columns, names=spec.file_schema.names)


def with_texts_in_use(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """The column with no other texts in its dictionary, if it has one, than are in its rows."""
    if not pa.types.is_dictionary(column.type):
        return column
    (chunk,) = column.chunks
    codes = numpy_of(chunk.indices, 0)
    used = np.zeros(len(chunk.dictionary), np.bool_)
    used[codes[~missing_of(chunk.indices)] if chunk.null_count else codes] = True
    return _recoded(chunk, np.cumsum(used) - 1, np.flatnonzero(used))


def _read(spec: Table, source: Source, stretch: Stretch) -> Iterator[pa.Table]:
    """Its rows, one row group after another: those of a sealed file lie all over the time of the file."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    first, end = stretch.first_us, stretch.end_us
    texts = [field.name for field in spec.file_schema if pa.types.is_string(field.type)]
    with pq.ParquetFile(source.path, read_dictionary=texts) as file:
        for at in range(file.num_row_groups):
            group = file.metadata.row_group(at)
            low, high = _span(group) if group.num_rows else (end, end)
            if low >= end or high < first:
                continue
            rows = file.read_row_group(at, columns=spec.file_schema.names, use_threads=False)
            if low < first or high >= end:
                times = rows.column(_TIME).cast(pa.int64())
                rows = rows.filter(pc.and_(pc.greater_equal(times, first), pc.less(times, end)))
            yield rows


def _is_word(kind: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(kind) and kind.bit_width == _WORD_BITS)


class _Words:
    """A column of numbers of 64 bits."""

    def __init__(self, kind: pa.DataType, rows: int) -> None:
        self._kind = kind
        self._words = np.empty(rows, np.int64)
        self._missing: NDArray[np.bool_] | None = None

    def put(self, at: int, values: pa.Array) -> None:
        end = at + len(values)
        self._words[at:end] = np.frombuffer(values.buffers()[1], np.int64, len(values), values.offset * _WORD_BITS // 8)
        if values.null_count:
            if self._missing is None:
                self._missing = np.zeros(len(self._words), np.bool_)
            self._missing[at:end] = missing_of(values)

    def column(self) -> pa.Array:
        return arrow_of(self._words, self._missing, self._kind)


def _joined(pieces: Sequence[pa.Array]) -> pa.Array:
    """One piece, a dictionary in the order of its texts."""
    import pyarrow.compute as pc

    whole = pa.chunked_array(pieces).unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(whole.type) or not len(whole.dictionary):
        return whole
    places = numpy_of(pc.sort_indices(whole.dictionary).cast(pa.int64()))
    codes = np.empty(len(places), np.int64)
    codes[places] = np.arange(len(places))
    return _recoded(whole, codes, places)


def _span(group: "pq.RowGroupMetaData") -> tuple[int, int]:
    """Between which times its rows came."""
    (bounds,) = (
        column.statistics for at in range(group.num_columns) if (column := group.column(at)).path_in_schema == _TIME
    )
    return bounds.min_raw, bounds.max_raw


def _is_full(footer: "pq.FileMetaData", groups: Sequence["pq.RowGroupMetaData"], at: int) -> bool:
    """Whether a column is known to have no nulls."""
    if footer.schema.column(at).max_definition_level == 0:
        return True
    found = (group.column(at).statistics for group in groups)
    return all(some is not None and some.has_null_count and not some.null_count for some in found)


def _recoded(column: pa.DictionaryArray, codes: NDArray[np.int64], places: NDArray[np.int64]) -> pa.DictionaryArray:
    """The same values by a dictionary that has only those at `places`; `codes` says what each code becomes."""
    indices = column.indices
    missing = missing_of(indices) if indices.null_count else None
    # A column of nulls alone has no texts, and null has the first code.
    found = np.append(np.maximum(codes, 0), 0).astype(np.int32)[numpy_of(indices, 0)]
    return pa.DictionaryArray.from_arrays(
        arrow_of(found, missing, pa.int32()), column.dictionary.take(pa.array(places))
    )
