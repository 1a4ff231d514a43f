"""A data folder as SQL: `Lake` answers queries over everything that was captured until that moment.

Reading never writes to the folder and takes no lock, so any number of processes may query while another captures.
"""

import functools
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import duckdb
import pyarrow as pa

from queries.errors import NoLakeError, QueryError
from queries.lake.result import Result, typed_errors
from queries.lake.shown import RELATIONS
from queries.lake.snapshot import Snapshots, TableSource
from queries.lake.state import LakeState, Macro, Parameters, Relation, needed, words
from queries.lake.views import (
    RowsView,
    Views,
    create_rows,
    create_view,
    name_in_sql,
    open_duckdb,
    own_names,
    plain_root,
    quoted,
)
from storage import schema
from storage.commit import Decoder
from storage.layout import DataLayout

READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
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

    def __init__(self, root: Path | str, decoder: Decoder) -> None:
        """Raises NoLakeError if `root` is no data folder."""
        self.root = Path(root).absolute()
        _check_folder(self.root)
        self._lock = threading.RLock()
        self._snapshots = Snapshots(DataLayout(plain_root(self.root)), decoder)
        self._con = open_duckdb()
        self._views = Views(self._con)
        self._closed = False
        self._altered = False
        self._published = False
        self._memo: dict[str, dict[Any, Any]] = {}
        self._readers: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        # Also at the end of the process, while DuckDB's own module is still whole.
        self._finalizer = weakref.finalize(self, _close, self._con, self._views, self._snapshots)

    @property
    def tables(self) -> tuple[str, ...]:
        """What SQL may name as a table."""
        return tuple(sorted(self._names()))

    def sql(self, query: str, params: Parameters = None) -> Result:
        """Run a query. `params` fill `?` by position or `$name` by name.

        Anything DuckDB knows may be said. Of several statements, the last one's result is returned. A SELECT runs
        when its result is fetched, over what was captured until this call; everything else runs now. A table or view
        that the user made and named like one of ours, where the plain name leads to it, is what that name means.

        Raises QueryError with DuckDB's message.
        """
        with self._lock, typed_errors():
            return self.run(query, params, self.look())

    def look(self) -> LakeState:
        """Everything that was captured until now, to query it several times as one state."""
        with self._lock, typed_errors():
            if self._closed:
                raise QueryError(f"{self!r}: it cannot be queried any more")
            self._sources: list[TableSource] = self._snapshots.latest()
            views = self._views.update(self._sources, altered=self._altered)
            state = LakeState(
                self.root,
                views,
                self.relations,
                self.macros,
                run=self.run,
                view_of=self._views.of_rows,
                memo=self._memo,
            )
            if not self._published:
                self._published = True
                for relation in self.relations:
                    if relation.first is not None:
                        self._views.publish(relation.name, relation.first, altered=self._altered)
            return state

    def run(self, query: str, params: Parameters, state: LakeState) -> Result:
        """As `sql`, over this state as far as it is a SELECT."""
        with self._lock, typed_errors():
            statements = self._con.extract_statements(_valid(query))
            if not statements:
                raise QueryError("the query is empty: expected an SQL statement")
            for macro in self.macros:
                if macro.name in words(query):
                    self._views.define(macro.name, macro.create())
            *first, last = statements
            if any(statement.type not in READING for statement in statements):
                self._altered = True
                self._publish(query, state)
            for statement in first:
                self._con.execute(statement).complete()
            theirs = own_names(self._con, self._names()) if self._altered else set()
            values = _values(params)
            if last.type not in FIXABLE:
                return Result(self._con.sql(last, params=values), None, state)
            text = fixed_text(last.query, state.ctes(last.query, without=theirs))
            try:
                relation = self._con.sql(text, params=values)
            except duckdb.Error as error:
                raise QueryError(_moved_up(str(error), text != last.query)) from error
            # A relation that is all that is left of a result still needs its views.
            weakref.finalize(relation, _let_go, state).atexit = False
            # No other connection sees what is the user's own: not the same names, at least.
            again = None if theirs else functools.partial(self._again, text, values, state)
            return Result(relation, again, state)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB database of its own with the views as of now, which the caller closes.

        The views stay as they are: what is captured later is not in them.
        """
        with self._lock, typed_errors():
            state = self.look()
            con = open_duckdb()
            for source in self._sources:
                create_view(con, source)

            def view_of(name: str, rows: pa.Table) -> RowsView:
                create_rows(con, name := f"kitelake_{name}", rows)
                return RowsView(quoted(name))

            theirs = LakeState(
                self.root, state.views, self.relations, self.macros, run=self.run, view_of=view_of, memo=self._memo
            )
            for relation in self.relations:
                made = relation.make(theirs)
                if isinstance(made, str):
                    con.execute(f"CREATE VIEW {quoted(relation.name)} AS {made}")
                else:
                    create_rows(con, relation.name, made)
            for macro in self.macros:
                con.execute(macro.create())
            return con

    def interrupt(self) -> None:
        """End queries that run in other threads: they raise QueryError."""
        for con in (self._con, *self._readers):
            con.interrupt()

    def close(self) -> None:
        """Close files and the database. Results that were not fetched can no longer be. Idempotent."""
        with self._lock:
            self._closed = True
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Lake({str(self.root)!r}{', closed' if self._closed else ''})"

    def _names(self) -> list[str]:
        return [*map(name_in_sql, schema.TABLES.values()), *(relation.name for relation in self.relations)]

    def _publish(self, query: str, state: LakeState) -> None:
        """Bring the plain names of what a statement that is no SELECT names up to the state."""
        named = needed(words(query), self.relations, self.macros)
        for relation in self.relations:
            if relation.name in named:
                made = state.made(relation.name)
                text = made if isinstance(made, str) else f"FROM {made.name}"
                self._views.publish(relation.name, text, altered=True)

    def _again(self, text: str, values: object, state: LakeState) -> duckdb.DuckDBPyRelation:
        """The same relation on a connection of its own."""
        cursor = self._con.cursor()
        self._readers.add(cursor)
        for view in state.views.values():
            if view.files is not None:
                view.files.tell(cursor)
        relation = cursor.sql(text, params=values)
        # As long as it is read, it can be interrupted.
        weakref.finalize(relation, _let_go, cursor).atexit = False
        return relation


def fixed_text(query: str, ctes: Sequence[str]) -> str:
    """A SELECT whose plain names are these, whatever they lead to elsewhere. One line is put before it."""
    if not ctes:
        return query
    head = "WITH " + ", ".join(ctes)
    if re.match(r"\s*(select|from)\b", query, re.IGNORECASE):
        return f"{head}\n{query}"
    # It may have a WITH of its own, or be one of the statements that take none, such as SUMMARIZE.
    return f"{head} SELECT * FROM (\n{_without_semicolon(query)}\n)"


def _without_semicolon(query: str) -> str:
    at = [offset for offset, kind in duckdb.tokenize(query) if kind != duckdb.token_type.comment]
    end = len(query)
    while at and query.startswith(";", at[-1]):
        end = at.pop()
    return query[:end]


def _moved_up(message: str, moved: bool) -> str:
    """DuckDB's message, with the line as the user counts."""
    if not moved:
        return message
    return re.sub(r"^LINE (\d+):", lambda found: f"LINE {int(found[1]) - 1}:", message, flags=re.MULTILINE)


def _valid(query: str) -> str:
    """Raises QueryError for text that holds what is no character, as a shell may pass it on."""
    try:
        query.encode()
    except UnicodeEncodeError as error:
        at = error.start
        raise QueryError(f"the query is not valid text: got {query[at]!a} at position {at}, expected UTF-8") from None
    return query


def _values(params: Parameters) -> object:
    if params is None:
        return None
    if isinstance(params, str | bytes):
        raise QueryError(f"params: got {type(params).__name__}, expected a list or a dict")
    return dict(params) if isinstance(params, Mapping) else list(params)


def _check_folder(root: Path) -> None:
    """Raises NoLakeError if the folder is not what a capture makes."""
    start = "To capture some ticks of a simulated market: kitelake demo"
    try:
        found = sorted(path.name for path in root.iterdir())
    except FileNotFoundError:
        raise NoLakeError(f"{root}: there is no such folder. {start}") from None
    except NotADirectoryError:
        raise NoLakeError(f"{root}: got a file, expected a data folder. {start}") from None
    except OSError as error:
        raise NoLakeError(f"{root}: cannot be read: {error.strerror}") from error
    layout = DataLayout(root)
    if any(path.exists() for path in (layout.journal, layout.lock, *map(layout.table, schema.TABLES))):
        return
    if not found:
        raise NoLakeError(f"{root}: the folder is empty, nothing was captured yet. {start}")
    some = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
    raise NoLakeError(f"{root}: got a folder with {some}; expected a data folder with a journal and tables")


def _let_go(_: object) -> None:
    """What a finalizer calls that only keeps something alive until then."""


def _close(con: duckdb.DuckDBPyConnection, views: Views, snapshots: Snapshots) -> None:
    snapshots.close()
    views.close()
    con.close()
