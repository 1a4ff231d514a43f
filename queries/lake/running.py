"""How a query runs: in its turn on the connection, within its time, and with errors of ours."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Final

import duckdb
import pyarrow as pa

from queries.errors import ClosedError, QueryError, QueryTimeoutError, RestrictedError
from queries.interrupts import heard
from queries.lake.forms import executed
from queries.lake.restricted import TOO_LARGE
from queries.lake.views import Fixed
from queries.threads import submitted

AGAIN_SECONDS: Final = 0.05
INTERRUPTED: Final = "the query was interrupted"
FAULTS: Final = {
    "INTERNAL Error": "The lake works on. A helper cannot take its parameters from another table of the query: give "
    "them as values, as in bars(['NSE:INFY', 'NSE:TCS']), or join its rows with that table by symbol",
    "FATAL Error": "The lake has to be opened anew, with kitelake.open(…)",
}
"""How DuckDB begins to tell of what broke in it, with a list of its functions below; and what to do about it."""


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
        with typed_errors(), heard(con):
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


def fetched(con: duckdb.DuckDBPyConnection, query: Fixed, clock: Clock, *, many: bool) -> pa.Table:
    """The rows of a query of ours, `many` or a few, as `forms.executed` reads them. Raises as a result's fetch does."""
    try:
        with clock.running(con):
            return executed(con, query.on(con), many=many)
    except OSError as error:  # what DuckDB says while it streams comes through Arrow, which knows only this
        raise typed(str(error)) from error


def fetched_ahead(con: duckdb.DuckDBPyConnection, queries: Iterable[Fixed], clock: Clock) -> Iterator[pa.Table]:
    """The many rows of each of several, read while the caller works on those before, on a connection of its own."""
    pool = ThreadPoolExecutor(1, "lake-read")
    ahead: deque[Future[pa.Table]] = deque()
    try:
        for query in queries:
            ahead.append(submitted(pool, partial(fetched, con, query, clock, many=True)))
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


def end(con: duckdb.DuckDBPyConnection) -> None:
    """Close a database and its connections, once no other thread reads on one of them."""
    while True:
        try:
            return con.close()
        except duckdb.ResourceInUseException:
            time.sleep(AGAIN_SECONDS / 10)


@contextmanager
def typed_errors() -> Iterator[None]:
    """DuckDB's errors as QueryError, with the same text; but not its own account of what broke in it."""
    try:
        yield
    except duckdb.Error as error:
        if any(line.startswith("KeyboardInterrupt") for line in str(error).splitlines()):
            # It came while Python was giving DuckDB rows.
            raise KeyboardInterrupt from error
        raise typed(str(error)) from error


def typed(text: str) -> QueryError:
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
