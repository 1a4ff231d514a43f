"""What a query returns: rows that are fetched in the form that is asked for, when it is asked for.

A result keeps to the snapshot of the call that made it, however much is captured until it is fetched, and may be
fetched several times. Each fetch runs the query.

Overloads are for type checkers alone: typing would remember them to the end of the process, and DuckDB with them, which
tells of leaks then.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final

import duckdb
import numpy as np
import pyarrow as pa

from queries.errors import ClosedError, QueryError, QueryTimeoutError, RestrictedError
from queries.lake.forms import (
    HTML_ROWS,
    counted,
    executed,
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
from queries.lake.restricted import TOO_LARGE
from queries.lake.views import Fixed
from queries.pictures import Pictured

if TYPE_CHECKING:
    from typing import overload

    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl
    from duckdb.sqltypes import DuckDBPyType

BATCH_ROWS: Final = 65_536
AGAIN_SECONDS: Final = 0.05
INTERRUPTED: Final = "the query was interrupted"
FAULTS: Final = {
    "INTERNAL Error": "The lake works on. A helper cannot take its parameters from another table of the query: give "
    "them as values, as in bars(['NSE:INFY', 'NSE:TCS']), or join its rows with that table by symbol",
    "FATAL Error": "The lake has to be opened anew, with kitelake.open(…)",
}
"""How DuckDB begins to tell of what broke in it, with a list of its functions below; and what to do about it."""

Again = Callable[[], tuple[duckdb.DuckDBPyRelation, duckdb.DuckDBPyConnection]]


class Turns:
    """A connection on which the queries of several threads take turns, and how long each may take."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        lock: AbstractContextManager[object] | None = None,
        timeout: float | None = None,
        check: Callable[[str], None] | None = None,
    ) -> None:
        """`timeout` in seconds; `check` raises for SQL that the lake does not allow, if it does not allow all."""
        self.timeout = timeout
        self._con = con
        self._lock = lock or nullcontext()
        self._check = check

    @property
    def restricted(self) -> bool:
        """Whether there is SQL that the lake does not allow."""
        return self._check is not None

    def check(self, query: str) -> None:
        """Raises RestrictedError for SQL that the lake does not allow."""
        if self._check is not None:
            with self._lock, typed_errors():
                self._check(query)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Run a query on the connection. Raises QueryTimeoutError, QueryError."""
        with self._lock, Clock(self.timeout).running(self._con):
            yield


class Clock:
    """The time that a query has, over all stretches in which it runs."""

    def __init__(self, seconds: float | None) -> None:
        self._limit = seconds
        self._left = seconds

    @contextmanager
    def running(self, con: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Run it, or go on with it, on a connection that nobody else uses meanwhile, which is interrupted in time."""
        with typed_errors():
            if self._left is None:
                yield
                return
            ended = threading.Event()
            interrupted = threading.Event()
            # Between the two questions the query may end, and the connection be another query's.
            between = threading.Lock()
            begun = time.monotonic()

            def interrupt() -> None:
                wait = self._left
                while not ended.wait(wait):
                    with between:
                        if not ended.is_set():
                            interrupted.set()
                            con.interrupt()
                    wait = AGAIN_SECONDS  # it may not have been in DuckDB yet

            threading.Thread(target=interrupt, name="query-timeout", daemon=True).start()
            try:
                yield
            except (duckdb.Error, OSError) as error:
                if interrupted.is_set():
                    raise QueryTimeoutError(
                        f"the query was ended after its limit of {self._limit:g} s; ask for fewer days, instruments or "
                        "columns, or set a longer timeout"
                    ) from error
                raise
            finally:
                with between:
                    ended.set()
                self._left = max(0.0, self._left - (time.monotonic() - begun))


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

    @property
    def relation(self) -> duckdb.DuckDBPyRelation:
        """The DuckDB relation: to go on with `filter`, `aggregate`, `join`, …

        It has no timeout, and shows times in IST. Raises RestrictedError in a restricted lake, as it can do anything.
        """
        if self._turns.restricted:
            raise RestrictedError(
                "got a DuckDB relation, which could run any SQL; of a restricted lake take arrow(), df(), pl(), "
                "numpy() or reader()"
            )
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
            return tables_of(self._reader(counted(count), zone), count)
        if self._rows is not None:
            return in_zone(self._rows, zone)
        with self._turns.turn():
            rows = self._relation.to_arrow_table()
        return in_zone(rows, zone)

    def reader(self, batch_rows: int = BATCH_ROWS, *, tz: str | None = None) -> pa.RecordBatchReader:
        """The rows in batches of about `batch_rows`, made as they are read: for more than fits in memory.

        It has a connection of its own, so other queries may run meanwhile. (A query over temporary tables, which no
        other connection sees, is fetched as a whole instead.) Raises QueryError for what is no number.
        """
        return self._reader(counted(batch_rows, "batch_rows"), zone_of(tz))

    def _reader(self, batch_rows: int, zone: str) -> pa.RecordBatchReader:
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
        return pa.RecordBatchReader.from_batches(schema, _batches(source, zone, clock, con, (self, relation)))

    def count(self) -> int:
        """How many rows there are. It runs the query, but does not fetch the rows."""
        with self._turns.turn():
            return int(self._relation.aggregate("count(*)").fetchall()[0][0])

    def head(self, rows: int) -> pa.Table:
        """The first rows as an Arrow table; the others are not fetched. Raises QueryError for what is no number."""
        wanted = counted(rows, "rows", 0)
        with self._turns.turn():
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
            return frames_of(self.reader(counted(count)), count, to_pandas, zone)
        with self._turns.turn():
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
            return frames_of(self.reader(counted(count)), count, to_numpy, zone)
        with self._turns.turn():
            return to_numpy(self._relation, zone)

    def show(self, *, max_rows: int = 40, max_width: int | None = None) -> None:
        """Print the first rows."""
        with self._turns.turn():
            self._relation.show(max_rows=max_rows, max_width=max_width)

    def __repr__(self) -> str:
        with self._turns.turn():
            return str(self._relation)

    def _repr_html_(self) -> str:
        with self._turns.turn():
            # As text by DuckDB: as Python objects, times with a zone would need pytz.
            rows = self._relation.limit(HTML_ROWS + 1).project("columns(*)::varchar").to_arrow_table()
        count = self.count() if len(rows) > HTML_ROWS else len(rows)
        return to_html(self.columns, self.types, rows.slice(0, HTML_ROWS), count)


def fetched(con: duckdb.DuckDBPyConnection, query: Fixed, clock: Clock, *, many: bool) -> pa.Table:
    """The rows of a query of ours, `many` or a few, as `forms.executed` reads them. Raises as a result's fetch does."""
    try:
        with clock.running(con):
            return executed(con, query.on(con), many=many)
    except OSError as error:  # what DuckDB says while it streams comes through Arrow, which knows only this
        raise _typed(str(error)) from error


def fetched_ahead(con: duckdb.DuckDBPyConnection, queries: Iterable[Fixed], clock: Clock) -> Iterator[pa.Table]:
    """The many rows of each of several, read while the caller works on those before, on a connection of its own."""
    pool = ThreadPoolExecutor(1, "lake-read")
    ahead: deque[Future[pa.Table]] = deque()
    try:
        for query in queries:
            ahead.append(pool.submit(fetched, con, query, clock, many=True))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        begun = [each for each in ahead if not each.cancelled()]  # what was cancelled before it began is never done
        while wait(begun, 0).not_done:
            con.interrupt()  # it may not have been in DuckDB yet
            wait(begun, AGAIN_SECONDS)


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
        raise _typed(str(error)) from error
    finally:
        source.close()
        del keep


@contextmanager
def typed_errors() -> Iterator[None]:
    """DuckDB's errors as QueryError, with the same text; but not its own account of what broke in it."""
    try:
        yield
    except duckdb.Error as error:
        if any(line.startswith("KeyboardInterrupt") for line in str(error).splitlines()):
            # It came while Python was giving DuckDB rows.
            raise KeyboardInterrupt from error
        raise _typed(str(error)) from error


def _typed(text: str) -> QueryError:
    """What DuckDB says, as an error of ours."""
    if text.startswith("INTERRUPT Error"):  # which is not always an InterruptException
        return QueryError(INTERRUPTED)
    if text.startswith(f"Invalid Input Error: {TOO_LARGE}"):
        return RestrictedError(text.splitlines()[0].partition(": ")[2])
    if text.startswith("Connection Error"):
        return ClosedError("the lake was closed: fetch results before, or open it anew with kitelake.open(…)")
    for fault, advice in FAULTS.items():
        if text.startswith(fault):
            return QueryError(f"DuckDB cannot run this query: {text.splitlines()[0]}\n{advice}")
    return QueryError(text)
