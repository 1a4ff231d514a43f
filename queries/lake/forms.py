"""The forms that rows take: pandas, NumPy, and a number of rows at a time; and the zone in which times are shown."""

from __future__ import annotations

import datetime as dt
import importlib.util
import sys
import warnings
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from queries.arguments import is_whole
from queries.errors import MissingLibraryError, QueryError, TimeZoneError
from queries.lake.statements import quoted
from queries.lake.views import ZONE, open_duckdb

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl

PATH_CHARACTERS: Final = 60
HTML_ROWS: Final = 100
BATCH_ROWS: Final = 1 << 20
Form = TypeVar("Form")


def zone_of(tz: str | None) -> str:
    """The IANA name of a zone, IST for None. Raises TimeZoneError if there is none of that name."""
    if tz is None:
        return ZONE
    try:
        return zoneinfo.ZoneInfo(tz).key
    except (ValueError, OSError, TypeError, AttributeError, zoneinfo.ZoneInfoNotFoundError):
        near = [ZONE] if tz == "IST" else get_close_matches(str(tz), zoneinfo.available_timezones(), 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TimeZoneError(f"tz: got {tz!r}, expected an IANA name such as 'UTC' or 'Asia/Kolkata'{hint}") from None


def in_zone(rows: pa.Table, zone: str) -> pa.Table:
    """The same instants, in lists and structs too, shown in the zone. Times without a zone stay as they are."""
    schema = schema_in_zone(rows.schema, zone)
    return rows if schema == rows.schema else rows.cast(schema)


def schema_in_zone(schema: pa.Schema, zone: str) -> pa.Schema:
    """The schema of the same columns with their times in the zone."""
    return pa.schema([field.with_type(_type_in_zone(field.type, zone)) for field in schema])


def _type_in_zone(kind: pa.DataType, zone: str) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return kind if kind.tz is None else pa.timestamp(kind.unit, zone)
    if pa.types.is_map(kind):
        return pa.map_(_type_in_zone(kind.key_type, zone), _type_in_zone(kind.item_type, zone))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_type_in_zone(field.type, zone)) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_type_in_zone(kind.value_type, zone)), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_type_in_zone(kind.value_type, zone)))
    return kind


def executed(con: duckdb.DuckDBPyConnection, query: str, *, many: bool) -> pa.Table:
    """The rows of a query: planned once, or without a copy for `many` rows."""
    if many:
        return pa.RecordBatchReader.read_all(con.sql(query).to_arrow_reader(BATCH_ROWS))
    with warnings.catch_warnings():
        # That rows are copied once more: of a few, that takes less than to plan twice, as a relation does.
        warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)
        reader = con.execute(query).to_arrow_reader(BATCH_ROWS)
    return pa.RecordBatchReader.read_all(reader)


def is_given_back(rows: pa.Table) -> bool:
    """Whether DuckDB would give the columns' types back as it takes them."""
    return {field.type for field in rows.schema} <= {pa.string(), pa.int64(), pa.float64(), pa.timestamp("us", ZONE)}


def to_pandas(relation: duckdb.DuckDBPyRelation, zone: str) -> pd.DataFrame:
    """A data frame whose columns of times are in the zone."""
    with warnings.catch_warnings():
        # DuckDB 2.0 still says `inplace` to pandas, which is nothing that the user could change.
        warnings.filterwarnings("ignore", "The inplace keyword", DeprecationWarning)
        frame = relation.df()
    if zone != ZONE:
        for name, kind in frame.dtypes.items():
            if getattr(kind, "tz", None) is not None:
                frame[name] = frame[name].dt.tz_convert(zone)
    return frame


def to_polars(rows: pa.Table) -> pl.DataFrame:
    """A data frame. Raises QueryError for what Polars has not, such as two columns of one name."""
    import polars

    try:
        frame = polars.from_arrow(rows)
    except polars.exceptions.PolarsError as error:
        raise QueryError(f"Polars cannot hold the result: {error}") from error
    assert isinstance(frame, polars.DataFrame)
    return frame


def to_numpy(relation: duckdb.DuckDBPyRelation, zone: str) -> dict[str, np.ndarray]:
    """An array a column; see `Result.numpy`."""
    shown = [
        f"timezone('{zone}', #{at}) AS {quoted(name)}" if str(kind) == "TIMESTAMP WITH TIME ZONE" else f"#{at}"
        for at, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True), 1)
    ]
    return {name: _without_mask(array) for name, array in relation.project(", ".join(shown)).fetchnumpy().items()}


def _without_mask(array: np.ndarray) -> np.ndarray:
    if not isinstance(array, np.ma.MaskedArray):
        return array
    if array.dtype.kind == "f":
        return array.filled(np.nan)
    if array.dtype.kind in "mM":
        return np.where(array.mask, np.array("NaT", array.dtype), array.data)
    if array.dtype.kind == "O":
        array.data[array.mask] = None
        return array.data
    if array.dtype.kind == "i":
        # Who overlooks the mask should not take a null for 0.
        array.data[array.mask] = np.iinfo(array.dtype).min
    return array


def to_html(columns: Sequence[str], types: Sequence[object], rows: pa.Table, count: int) -> str:
    """A result for notebooks: its first rows, which are text, of so many."""
    names = [(name, str(kind).lower()) for name, kind in zip(columns, types, strict=True)]
    note = f"{count:,} row{'s' * (count != 1)}"
    if count > len(rows):
        note = f"the first {len(rows)} of {note}"
    cells = zip(*(column.to_pylist() for column in rows.columns), strict=True)
    return f"{_html(names, cells)}<p><small>{note}</small></p>"


def tables_to_html(title: str, tables: Iterable[tuple[str, int, Sequence[dt.date]]]) -> str:
    """A lake for notebooks: of each table how many rows it has, and the days of which there are some, ascending."""
    cells = [
        (name, f"{count:,}", f"{len(days):,}", *(map(str, (days[0], days[-1])) if days else ("–", "–")))
        for name, count, days in tables
    ]
    names = [("table", ""), ("rows", ""), ("days", ""), ("first", ""), ("last", "")]
    return f"{_html([(title, '')], ())}{_html(names, cells)}"


def _html(names: Iterable[tuple[str, str]], rows: Iterable[Sequence[str | None]]) -> str:
    """A table for notebooks, which style the class that data frames have. What stands below a name is small."""
    from html import escape  # with a table of all its entities, which nobody else needs

    head = "".join(
        f"<th>{escape(name)}{f'<br><small>{escape(below)}</small>' * bool(below)}</th>" for name, below in names
    )
    body = "".join(f"<tr>{''.join(f'<td>{escape(_null(text))}</td>' for text in row)}</tr>" for row in rows)
    return f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _null(text: str | None) -> str:
    return "NULL" if text is None else text


def tables_of(reader: pa.RecordBatchReader, count: int) -> Iterator[pa.Table]:
    """The reader's rows, `count` a table; the last has what is left, and there is none without rows."""
    kept: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        while rows + batch.num_rows >= count:
            kept.append(batch.slice(0, count - rows))
            batch = batch.slice(count - rows)  # noqa: PLW2901 - what is left of it
            yield pa.Table.from_batches(kept, reader.schema)
            kept, rows = [], 0
        if batch.num_rows:
            kept.append(batch)
            rows += batch.num_rows
    if kept:
        yield pa.Table.from_batches(kept, reader.schema)


def frames_of(
    reader: pa.RecordBatchReader, count: int, form: Callable[[duckdb.DuckDBPyRelation, str], Form], zone: str
) -> Iterator[Form]:
    """As `tables_of`, each in a form that DuckDB makes."""
    with open_duckdb() as con:
        for rows in tables_of(reader, count):
            yield form(con.from_arrow(rows), zone)


def counted(count: int, what: str = "count", least: int = 1) -> int:
    """The same. Raises QueryError if it is no number of rows."""
    if not is_whole(count, least):
        raise QueryError(f"{what}: got {count!r}, expected a number of rows from {least}")
    return int(count)


def require(library: str) -> None:
    """Raises MissingLibraryError, with what to do, if it is not installed."""
    if importlib.util.find_spec(library) is None:
        # For this very Python, if it can be said in a line: `pip` alone may be another one's.
        pip = f"{sys.executable} -m pip" if len(sys.executable) <= PATH_CHARACTERS else "pip"
        raise MissingLibraryError(f"{library} is not installed; to install it: {pip} install {library}")
