"""What a query returns: rows that are fetched in the form that is asked for, when it is asked for.

A result keeps to the snapshot of the call that made it, however much is captured until it is fetched, and may be
fetched several times. Each fetch runs the query.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html import escape
from typing import TYPE_CHECKING, Final

import duckdb
import pyarrow as pa

from queries.errors import MissingLibraryError, QueryError

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl
    from duckdb.sqltypes import DuckDBPyType

BATCH_ROWS: Final = 65_536
HTML_ROWS: Final = 100
PATH_CHARACTERS: Final = 60


class Result:
    """The rows of one query. Times are `timestamp[us, Asia/Kolkata]`: the same instants as stored, shown in IST.

    Every method that fetches raises QueryError with DuckDB's message when the query fails while it runs.
    """

    def __init__(
        self, relation: duckdb.DuckDBPyRelation, again: Callable[[], duckdb.DuckDBPyRelation] | None, keep: object
    ) -> None:
        """`again` makes the same relation on a connection of its own; `keep` must live as long as the result."""
        self._relation = relation
        self._again = again
        self._keep = keep

    @property
    def relation(self) -> duckdb.DuckDBPyRelation:
        """The DuckDB relation: to go on with `filter`, `aggregate`, `join`, …"""
        return self._relation

    @property
    def columns(self) -> list[str]:
        """The names, in order; a query may give one name twice."""
        with typed_errors():
            return list(self._relation.columns)

    @property
    def types(self) -> list[DuckDBPyType]:
        """DuckDB's types of the columns."""
        with typed_errors():
            return list(self._relation.types)

    def project(self, expressions: str) -> Result:
        """The result of SQL expressions over each row. They name its columns by their places: `#1`, `#2`, …"""
        again = self._again
        with typed_errors():
            relation = self._relation.project(expressions)
        return Result(relation, None if again is None else lambda: again().project(expressions), (self, self._keep))

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        with typed_errors():
            return self._relation.to_arrow_table()

    def reader(self, batch_rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """The rows in batches of about `batch_rows`, made as they are read: for more than fits in memory.

        It has a connection of its own, so other queries may run meanwhile. (A query over temporary tables, which no
        other connection sees, is fetched as a whole instead.)
        """
        relation = None
        if self._again is not None:
            with typed_errors(), suppress(duckdb.CatalogException):
                relation = self._again()
        if relation is None:
            return self.arrow().to_reader(batch_rows)
        with typed_errors():
            source = relation.to_arrow_reader(batch_rows)
        return pa.RecordBatchReader.from_batches(source.schema, _batches(source, (self, relation)))

    def count(self) -> int:
        """How many rows there are. It runs the query, but does not fetch the rows."""
        with typed_errors():
            return int(self._relation.aggregate("count(*)").fetchall()[0][0])

    def head(self, rows: int) -> pa.Table:
        """The first rows as an Arrow table; the others are not fetched."""
        with typed_errors():
            return self._relation.limit(rows).to_arrow_table()

    def df(self) -> pd.DataFrame:
        """All rows as a pandas DataFrame. Raises MissingLibraryError without pandas."""
        _require("pandas")
        with typed_errors(), warnings.catch_warnings():
            # DuckDB 2.0 still says `inplace` to pandas, which is nothing that the user could change.
            warnings.filterwarnings("ignore", "The inplace keyword", DeprecationWarning)
            return self._relation.df()

    def pl(self) -> pl.DataFrame:
        """All rows as a Polars DataFrame. Raises MissingLibraryError without Polars."""
        _require("polars")
        with typed_errors():
            frame: pl.DataFrame = self._relation.pl()
        return frame

    def show(self, *, max_rows: int = 40, max_width: int | None = None) -> None:
        """Print the first rows."""
        with typed_errors():
            self._relation.show(max_rows=max_rows, max_width=max_width)

    def __repr__(self) -> str:
        with typed_errors():
            return str(self._relation)

    def _repr_html_(self) -> str:
        with typed_errors():
            # As text by DuckDB: as Python objects, times with a zone would need pytz.
            rows = self._relation.limit(HTML_ROWS + 1).project("columns(*)::varchar").to_arrow_table()
        return _html(self.columns, rows)


def _html(columns: list[str], rows: pa.Table) -> str:
    """A table for notebooks, which style the class that data frames have."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    cells = zip(*(column.to_pylist() for column in rows.slice(0, HTML_ROWS).columns), strict=True)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text or _null(text))}</td>' for text in row)}</tr>" for row in cells)
    more = f"<p><small>the first {HTML_ROWS} rows</small></p>" if len(rows) > HTML_ROWS else ""
    return f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}'


def _null(text: str | None) -> str:
    return "NULL" if text is None else text


def _batches(source: pa.RecordBatchReader, keep: object) -> Iterator[pa.RecordBatch]:
    """The source's batches. `keep`, and with it the views that the source reads, lives until they are read."""
    try:
        with typed_errors():
            yield from source
    except OSError as error:  # what DuckDB says while it streams comes through Arrow, which knows only this
        raise QueryError(str(error)) from error
    finally:
        source.close()
        del keep


def _require(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        # For this very Python, if it can be said in a line: `pip` alone may be another one's.
        pip = f"{sys.executable} -m pip" if len(sys.executable) <= PATH_CHARACTERS else "pip"
        raise MissingLibraryError(f"{library} is not installed; to install it: {pip} install {library}")


@contextmanager
def typed_errors() -> Iterator[None]:
    """DuckDB's errors as QueryError, with the same text."""
    try:
        yield
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
