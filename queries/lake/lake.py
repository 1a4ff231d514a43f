"""A data folder as SQL: `Lake` answers queries over everything that was captured until that moment.

Reading never writes to the folder and takes no lock, so any number of processes may query while another captures.
"""

import contextlib
import functools
import threading
import weakref
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import duckdb
import pyarrow as pa

from queries.errors import ClosedError, QueryError, QueryTimeoutError, RestrictedError
from queries.lake.forms import is_given_back
from queries.lake.restricted import Gate, Limits, bound_sizes, lock
from queries.lake.result import Result
from queries.lake.running import INTERRUPTED, Clock, Turns, end, fetched, fetched_ahead, typed_errors
from queries.lake.sources import RELATIONS
from queries.lake.state import (
    LakeState,
    Macro,
    Parameters,
    Relation,
    called,
    needed,
    seconds_of,
    values_of,
    words,
)
from queries.lake.statements import (
    BEGINS,
    ENDS,
    LISTS,
    PLAINLY,
    SAYS_LATER,
    explained,
    is_select,
    moved_up,
    plain_root,
    refuse_writing_into,
    valid,
)
from queries.lake.views import (
    SCHEMA,
    Fixed,
    RowsView,
    Views,
    check_folder,
    name_in_sql,
    open_duckdb,
    own_names,
)
from queries.processes import InProcess, Process
from queries.tail import Snapshots
from storage import schema
from storage.commit import TailDecoder
from storage.layout import DataLayout

READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
OWN_ROWS = f"memory.{SCHEMA}."
"""Where helpers name rows that they have worked out: these are where they are, whatever plain names lead to."""
COUNTED = "SET enable_progress_bar = true; SET enable_progress_bar_print = false"
FIXABLE = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI)  # PIVOT is several statements


class SqlLake:
    """The tables of a data folder as DuckDB views: `ticks`, `instruments`, `orders`, `events`, `quarantine`; and beside
    them `quotes` and `depth` of ticks, and `ticks_all`, with every row where instruments were captured redundantly.

    Each call of `sql` sees what was captured until then, committed or not, each row once. Safe to use from several
    threads, which take turns. Use it as a context manager, or `close` it.
    """

    relations: ClassVar[Sequence[Relation]] = RELATIONS
    """What can be named beside the tables; each after those that it uses."""
    macros: ClassVar[Sequence[Macro]] = ()

    def __init__(
        self, root: Path | str, decoder: TailDecoder, *, restricted: bool = False, limits: Limits | None = None
    ) -> None:
        """`restricted` is what queries.lake.restricted says. Raises NoLakeError; QueryError for impossible limits."""
        self.root = Path(root).absolute()
        limits = limits or Limits()
        self._timeout = seconds_of(limits.seconds)
        check_folder(self.root)
        self._process = Process(self)
        self._turns = threading.RLock()
        layout = DataLayout(plain_root(self.root))
        self._snapshots = Snapshots(layout, decoder)
        self._con = open_duckdb()
        self._views = Views(self._con, may_set=not restricted)
        self._gate: Gate | None = None
        with typed_errors():
            limits.apply(self._con)
            if restricted:
                bound_sizes(self._con)
                lock(self._con, map(layout.table, schema.TABLES))
                self._gate = Gate(self._con, self._names(), [macro.name for macro in self.macros])
        self._closed = False
        self._interrupts = 0
        self._altered = False
        self._announced = False
        self._followed = False
        self._leading: LakeState | None = None
        self._memo: dict[str, dict[Any, Any]] = {}
        self._readers: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        # Also at the end of the process, while DuckDB's own module is still whole.
        self._finalizer = weakref.finalize(self, _close, self._process, self._con, self._views, self._snapshots)

    @property
    def tables(self) -> tuple[str, ...]:
        """What SQL may name as a table."""
        return tuple(sorted(self._names()))

    def sql(self, query: str, params: Parameters = None, *, timeout: float | None = None) -> Result:
        """Run a query. `params` fill `?` by position or `$name` by name.

        Anything DuckDB knows may be said, but for a COPY, EXPORT or ATTACH to a path in the data folder. Of several
        statements, the last one's result is returned. A SELECT runs when its result is fetched, over what was captured
        until this call; everything else runs now. A table or view that the user made and named like one of ours, where
        the plain name leads to it, is what that name means.

        `timeout` is how many seconds this call may take in DuckDB, and each fetch of its result. A lake's own limit
        holds beside it.

        Raises QueryError with DuckDB's message, QueryTimeoutError; RestrictedError in a restricted lake for all that is
        no question to it, ProtectedFolderError for what would write into the data folder.
        """
        with self._lock, typed_errors():
            return self.run(query, params, self._look(self._tables_of(valid(query))), timeout)

    def look(self) -> LakeState:
        """Everything that was captured until now, to query it several times as one state."""
        return self._look(schema.TABLES)

    def _look(self, tables: Collection[str]) -> LakeState:
        """These tables as of now."""
        with self._lock, typed_errors():
            if self._closed:
                raise ClosedError(f"{self!r}: it cannot be queried any more; open it anew with kitelake.open(…)")
            views = self._views.update(self._snapshots.look(tables) if tables else ())
            if self._altered:
                self._views.lead(views.values(), altered=True)
            return LakeState(
                self.root,
                views,
                self.relations,
                self.macros,
                run=self.run,
                read=self.read,
                result_of=self._result_of,
                view_of=self._view_of,
                tables=self._views,
                memo=self._memo,
            )

    def _view_of(self, name: str, rows: pa.Table) -> RowsView:
        with self._lock, typed_errors():  # helpers of several threads may work out rows at a time
            return self._views.of_rows(name, rows)

    def _tables_of(self, query: str) -> Collection[str]:
        """The tables that a query may read: all where it does not say so itself."""
        if ENDS.match(query):
            return ()
        named = needed(words(query), self.relations, self.macros)
        by_python = {relation.name for relation in self.relations if relation.first is None}
        if self._altered or BEGINS.match(query) or named & (by_python | SAYS_LATER):
            return schema.TABLES
        return [name for name, spec in schema.TABLES.items() if name_in_sql(spec) in named]

    def run(self, query: str, params: Parameters, state: LakeState, timeout: float | None = None) -> Result:
        """As `sql`, over this state as far as it is a SELECT."""
        with self._lock, typed_errors():
            seconds = min((each for each in (seconds_of(timeout), self._timeout) if each is not None), default=None)
            if self._gate is not None:
                self._gate.check(valid(query))
            statements = self._con.extract_statements(valid(query))
            if not statements:
                raise QueryError("the query is empty: expected an SQL statement")
            named = words(query)
            values = values_of(params)
            clock = Clock(seconds)
            turns = Turns(self._con, self._lock, seconds, None if self._gate is None else self._gate.check)
            macros = [one for one in self.macros if one.name in (named if named & SAYS_LATER else called(query))]
            *first, last = statements
            plainly = bool(words(query.replace(OWN_ROWS, "")) & PLAINLY)
            alone = [statement.type for statement in statements] == [duckdb.StatementType.SELECT]
            if not alone or plainly or macros or LISTS.search(query):
                self._announce()
            for macro in macros:
                self._views.define(macro.name, macro.create())
            if any(statement.type not in READING for statement in statements):
                self._altered = True
            if first or last.type not in FIXABLE or plainly:
                self._publish(query, state)
            for statement in first:
                refuse_writing_into(self.root, self._con, statement, values)
                with clock.running(self._con):
                    self._con.execute(statement).complete()
            is_asked = self._altered and last.type != duckdb.StatementType.TRANSACTION
            theirs = own_names(self._con, self._names()) if is_asked else set()
            head, text = explained(last.query) if last.type == duckdb.StatementType.EXPLAIN else ("", last.query)
            if last.type not in FIXABLE and not (head and is_select(self._con, text)):
                refuse_writing_into(self.root, self._con, last, values)
                with clock.running(self._con):
                    return Result(self._con.sql(last, params=values), None, state, turns)
            fixed = state.fixed(text, values, without=theirs, plainly=plainly or self._altered)
            if head:
                fixed = replace(fixed, text=f"{head} {fixed.text}")
            relation = self._bound(fixed, values, clock)
            # A relation that is all that is left of a result still needs its views.
            weakref.finalize(relation, _let_go, state).atexit = False
            # No other connection sees what is the user's own: not the same names, at least. An EXPLAIN has run.
            again = None if theirs or head else functools.partial(self._again, fixed, values)
            return Result(relation, again, state, turns)

    def _bound(self, fixed: Fixed, values: object, clock: Clock) -> duckdb.DuckDBPyRelation:
        """The SELECT on the lake's connection. Raises QueryError with the line as the user counts."""
        try:
            with clock.running(self._con):
                return self._con.sql(fixed.on(self._con), params=values)
        except (QueryTimeoutError, RestrictedError, ClosedError):
            raise
        except QueryError as error:
            if self._announced or not str(error).startswith(("Catalog Error", "Binder Error")):
                raise QueryError(moved_up(str(error), fixed.has_head)) from error
        self._announce()  # what is wrong may be a name, and DuckDB says which are like it
        return self._bound(fixed, values, clock)

    def _announce(self) -> None:
        """Put the names of tables and relations into the catalog, for what looks there. It takes a while: queries that
        read what they name do without."""
        if not self._announced:
            self._announced = True
            self._views.announce()
            for relation in self.relations:
                if relation.first is not None:
                    self._views.publish(relation.name, relation.first, altered=self._altered)

    def read(self, queries: Iterable[str], many: bool, state: LakeState) -> Iterator[pa.Table]:
        """See `LakeState.read`."""
        return InProcess(self._read(queries, many, state))

    def _read(self, queries: Iterable[str], many: bool, state: LakeState) -> Iterator[pa.Table]:
        clock = Clock(self._timeout)
        interrupts = self._interrupts
        texts = (self._checked_text(query, state) for query in queries)
        with contextlib.closing(self._fetched(texts, clock, many=many)) as found:
            for rows in found:
                if self._interrupts != interrupts:  # between two queries, where DuckDB does not hear it
                    raise QueryError(INTERRUPTED)
                yield rows

    def _fetched(self, texts: Iterable[Fixed], clock: Clock, *, many: bool) -> Generator[pa.Table, None, None]:
        if many and not self._altered:  # no other connection sees what is the user's own
            with self._lock, typed_errors():
                con = self._cursor()
            yield from fetched_ahead(con, texts, clock)
            return
        for text in texts:
            with self._lock:
                rows = fetched(self._con, text, clock, many=many)
            yield rows

    def _checked_text(self, query: str, state: LakeState) -> Fixed:
        """A SELECT of ours, fixed to the state."""
        with self._lock, typed_errors():
            if self._gate is not None:
                self._gate.check(query)
            theirs = own_names(self._con, self._names()) if self._altered else set()
            return state.fixed(query, without=theirs, plainly=self._altered)

    def _result_of(self, rows: pa.Table, state: LakeState) -> Result:
        def again() -> tuple[duckdb.DuckDBPyRelation, duckdb.DuckDBPyConnection]:
            self._readers.add(cursor := self._con.cursor())
            return cursor.from_arrow(rows), cursor

        with self._lock, typed_errors():
            check = None if self._gate is None else self._gate.check
            turns = Turns(self._con, self._lock, self._timeout, check)
            return Result(self._con.from_arrow(rows), again, state, turns, rows if is_given_back(rows) else None)

    def connect(self, *, macros: bool = True) -> duckdb.DuckDBPyConnection:
        """A DuckDB database of its own with the views as of now, which the caller closes; and with the macros, which
        take most of half a second to make.

        The views stay as they are: what is captured later is not in them. Nothing watches over it: what is said there
        may write anywhere, into the data folder too. Raises RestrictedError in a restricted lake.
        """
        if self._gate is not None:
            raise RestrictedError("connect() gives a database that is not restricted; ask a restricted lake by sql()")
        with self._lock, typed_errors():
            return self.look().database(macros=macros)

    def interrupt(self) -> None:
        """End queries that run in other threads: they raise QueryError."""
        self._process.check()
        self._interrupts += 1
        with typed_errors():
            for con in (self._con, *self._readers):
                con.interrupt()

    def follow_progress(self) -> None:
        """Have DuckDB keep count of what it has done of each query from now on, for `progress`; it prints nothing."""
        if self._gate is None:  # whose settings are locked
            with self._lock, typed_errors():
                self._followed = True
                self._con.execute(COUNTED)

    def progress(self) -> float | None:
        """How much of what runs in another thread is done, in percent as far as DuckDB can tell; None if it cannot."""
        self._process.check()
        done = -1.0
        with contextlib.suppress(duckdb.Error, RuntimeError):  # closed meanwhile, or one reader more
            # What an idle connection says is of its query before.
            done = max(con.query_progress() for con in (list(self._readers) or [self._con]))
        return done if done >= 0 else None

    def close(self) -> None:
        """Close files and the database, when what other threads are asking is answered (see `interrupt`). Results that
        were not fetched can no longer be. Idempotent."""
        self._closed = True
        if self._process.is_this:
            with self._lock:
                self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Lake({str(self.root)!r}{', closed' if self._closed else ''})"

    def _repr_html_(self) -> str | None:
        return None if self._closed else self.look().html(repr(self))

    @property
    def _lock(self) -> threading.RLock:
        """For the time of a query. Raises ForkedError."""
        self._process.check()  # whoever had it when the process was forked is not there to give it back
        return self._turns

    def _names(self) -> list[str]:
        return [*map(name_in_sql, schema.TABLES.values()), *(relation.name for relation in self.relations)]

    def _publish(self, query: str, state: LakeState) -> None:
        """Bring the plain names of what statements that are no SELECT name up to the state."""
        self._views.lead(state.views.values(), altered=self._altered)
        self._leading = state  # whose views of rows are in what the names lead to
        named = needed(words(query), self.relations, self.macros)
        for relation in self.relations:
            if relation.name in named:
                self._views.publish(relation.name, state.text(relation.name), altered=self._altered)

    def _again(self, fixed: Fixed, values: object) -> tuple[duckdb.DuckDBPyRelation, duckdb.DuckDBPyConnection]:
        """The same relation on a connection of its own."""
        cursor = self._cursor()
        relation = cursor.sql(fixed.on(cursor), params=values)
        # As long as it is read, it can be interrupted.
        weakref.finalize(relation, _let_go, cursor).atexit = False
        return relation, cursor

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own that can be interrupted."""
        cursor = self._con.cursor()
        self._readers.add(cursor)
        if self._followed:
            cursor.execute(COUNTED)
        return cursor


def _let_go(_: object) -> None:
    """What a finalizer calls that only keeps something alive until then."""


def _close(process: Process, con: duckdb.DuckDBPyConnection, views: Views, snapshots: Snapshots) -> None:
    if process.is_this:
        snapshots.close()
        views.close()
        end(con)
