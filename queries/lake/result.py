"""What a query returns: rows that are fetched in the form that is asked for, when it is asked for.

A result keeps to the snapshot of the call that made it, however much is captured until it is fetched, and may be
fetched several times. Each fetch runs the query.

Overloads are for type checkers alone: typing would remember them to the end of the process, and DuckDB with them, which
tells of leaks then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Final

import duckdb
import numpy as np
import pyarrow as pa

from queries.errors import RestrictedError
from queries.lake.forms import (
    HTML_ROWS,
    counted,
    frames_of,
    in_zone,
    require,
    schema_in_zone,
    tables_of,
    to_html,
    to_numpy,
    to_pandas,
    to_polars,
    zone_of,
)
from queries.lake.running import Clock, Turns, typed, typed_errors
from queries.pictures import Pictured
from queries.processes import InProcess, Process

if TYPE_CHECKING:
    from typing import overload

    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl
    from duckdb.sqltypes import DuckDBPyType

BATCH_ROWS: Final = 65_536
Again = Callable[[], tuple[duckdb.DuckDBPyRelation, duckdb.DuckDBPyConnection]]


class Result(Pictured):
    """The rows of one query. Times are `timestamp[us, Asia/Kolkata]`: the same instants as stored, shown in IST.

    Methods that take `tz` show them in another zone, by its IANA name; columns of times without a zone, which are the
    user's own, stay as they are. Those that take `count` give an iterator of so many rows each instead of all at once.
    Each fetch has the timeout of the call of `sql`, which counts the time that DuckDB takes.

    Every method that fetches raises QueryError with DuckDB's message when the query fails while it runs,
    QueryTimeoutError when it takes too long, and TimeZoneError for a zone that there is not.
    """

    def __init__(
        self,
        relation: duckdb.DuckDBPyRelation,
        again: Again | None,
        keep: object,
        turns: Turns,
        rows: pa.Table | None = None,
    ) -> None:
        """`again` makes the same relation on a connection of its own; `keep` must live as long as the result.

        `rows` are those of the relation as DuckDB would give them, if they are there.
        """
        self._relation = relation
        self._again = again
        self._keep = keep
        self._turns = turns
        self._rows = rows
        self._process = Process(self)

    @property
    def relation(self) -> duckdb.DuckDBPyRelation:
        """The DuckDB relation: to go on with `filter`, `aggregate`, `join`, …

        It has no timeout, and shows times in IST. Raises RestrictedError in a restricted lake, as it can do anything.
        """
        self._process.check()
        if self._turns.restricted:
            raise RestrictedError(
                "got a DuckDB relation, which could run any SQL; of a restricted lake take arrow(), df(), pl(), "
                "numpy() or reader()"
            )
        return self._relation

    @property
    def columns(self) -> list[str]:
        """The names, in order; a query may give one name twice."""
        self._process.check()
        with typed_errors():
            return list(self._relation.columns)

    @property
    def types(self) -> list[DuckDBPyType]:
        """DuckDB's types of the columns."""
        self._process.check()
        with typed_errors():
            return list(self._relation.types)

    def project(self, expressions: str) -> Result:
        """The result of SQL expressions over each row. They name its columns by their places: `#1`, `#2`, …"""
        self._process.check()
        again = self._again
        self._turns.check(f"SELECT {expressions}")

        def projected() -> tuple[duckdb.DuckDBPyRelation, duckdb.DuckDBPyConnection]:
            assert again is not None
            relation, con = again()
            return relation.project(expressions), con

        with typed_errors():
            relation = self._relation.project(expressions)
        return Result(relation, None if again is None else projected, (self, self._keep), self._turns)

    if TYPE_CHECKING:

        @overload
        def arrow(self, *, tz: str | None = None, count: None = None) -> pa.Table: ...
        @overload
        def arrow(self, *, tz: str | None = None, count: int) -> Iterator[pa.Table]: ...

    def arrow(self, *, tz: str | None = None, count: int | None = None) -> pa.Table | Iterator[pa.Table]:
        """The rows as Arrow tables."""
        zone = zone_of(tz)
        if count is not None:
            return InProcess(tables_of(self._reader(counted(count), zone), count))
        self._process.check()
        if self._rows is not None:
            return in_zone(self._rows, zone)
        with self._turn():
            rows = self._relation.to_arrow_table()
        return in_zone(rows, zone)

    def reader(self, batch_rows: int = BATCH_ROWS, *, tz: str | None = None) -> pa.RecordBatchReader:
        """The rows in batches of about `batch_rows`, made as they are read: for more than fits in memory.

        It has a connection of its own, so other queries may run meanwhile. (A query over temporary tables, which no
        other connection sees, is fetched as a whole instead.) Raises QueryError for what is no number.
        """
        return self._reader(counted(batch_rows, "batch_rows"), zone_of(tz))

    def _reader(self, batch_rows: int, zone: str) -> pa.RecordBatchReader:
        self._process.check()
        made = None
        if self._again is not None:
            with typed_errors(), suppress(duckdb.CatalogException):
                made = self._again()
        if made is None:
            return self.arrow(tz=zone).to_reader(batch_rows)
        relation, con = made
        clock = Clock(self._turns.timeout)
        with clock.running(con):
            source = relation.to_arrow_reader(batch_rows)
        schema = schema_in_zone(source.schema, zone)
        batches = _batches(source, zone, clock, con, (self, relation))
        return pa.RecordBatchReader.from_batches(schema, InProcess(batches))

    def count(self) -> int:
        """How many rows there are. It runs the query, but does not fetch the rows."""
        with self._turn():
            return int(self._relation.aggregate("count(*)").fetchall()[0][0])

    def head(self, rows: int) -> pa.Table:
        """The first rows as an Arrow table; the others are not fetched. Raises QueryError for what is no number."""
        wanted = counted(rows, "rows", 0)
        with self._turn():
            return self._relation.limit(wanted).to_arrow_table()

    if TYPE_CHECKING:

        @overload
        def df(self, *, tz: str | None = None, count: None = None) -> pd.DataFrame: ...
        @overload
        def df(self, *, tz: str | None = None, count: int) -> Iterator[pd.DataFrame]: ...

    def df(self, *, tz: str | None = None, count: int | None = None) -> pd.DataFrame | Iterator[pd.DataFrame]:
        """The rows as pandas DataFrames. Raises MissingLibraryError without pandas."""
        require("pandas")
        zone = zone_of(tz)
        if count is not None:
            return InProcess(frames_of(self.reader(counted(count)), count, to_pandas, zone))
        with self._turn():
            return to_pandas(self._relation, zone)

    if TYPE_CHECKING:

        @overload
        def pl(self, *, tz: str | None = None, count: None = None) -> pl.DataFrame: ...
        @overload
        def pl(self, *, tz: str | None = None, count: int) -> Iterator[pl.DataFrame]: ...

    def pl(self, *, tz: str | None = None, count: int | None = None) -> pl.DataFrame | Iterator[pl.DataFrame]:
        """The rows as Polars DataFrames. Raises MissingLibraryError without Polars."""
        require("polars")
        return to_polars(self.arrow(tz=tz)) if count is None else map(to_polars, self.arrow(tz=tz, count=count))

    if TYPE_CHECKING:

        @overload
        def numpy(self, *, tz: str | None = None, count: None = None) -> dict[str, np.ndarray]: ...
        @overload
        def numpy(self, *, tz: str | None = None, count: int) -> Iterator[dict[str, np.ndarray]]: ...

    def numpy(
        self, *, tz: str | None = None, count: int | None = None
    ) -> dict[str, np.ndarray] | Iterator[dict[str, np.ndarray]]:
        """The rows as a NumPy array a column, by its name; a name that comes twice is `name_1` the second time.

        NumPy knows no zones: times are `datetime64[us]` as a clock in IST, or in `tz`, shows them. Nulls are NaN, NaT
        or None; integers and booleans with nulls are masked arrays.
        """
        zone = zone_of(tz)
        if count is not None:
            return InProcess(frames_of(self.reader(counted(count)), count, to_numpy, zone))
        with self._turn():
            return to_numpy(self._relation, zone)

    def show(self, *, max_rows: int = 40, max_width: int | None = None) -> None:
        """Print the first rows."""
        with self._turn():
            self._relation.show(max_rows=max_rows, max_width=max_width)

    def __repr__(self) -> str:
        with self._turn():
            return str(self._relation)

    def _repr_html_(self) -> str:
        with self._turn():
            # As text by DuckDB: as Python objects, times with a zone would need pytz.
            rows = self._relation.limit(HTML_ROWS + 1).project("columns(*)::varchar").to_arrow_table()
        count = self.count() if len(rows) > HTML_ROWS else len(rows)
        return to_html(self.columns, self.types, rows.slice(0, HTML_ROWS), count)

    def _turn(self) -> AbstractContextManager[None]:
        self._process.check()
        return self._turns.turn()


def _batches(
    source: pa.RecordBatchReader, zone: str, clock: Clock, con: duckdb.DuckDBPyConnection, keep: object
) -> Iterator[pa.RecordBatch]:
    """The source's batches. `keep`, and with it the views that the source reads, lives until they are read."""
    try:
        while True:
            with clock.running(con):
                batch = next(source, None)
            if batch is None:
                return
            yield from in_zone(pa.Table.from_batches([batch]), zone).to_batches()
    except OSError as error:  # what DuckDB says while it streams comes through Arrow, which knows only this
        raise typed(str(error)) from error
    finally:
        source.close()
        del keep
