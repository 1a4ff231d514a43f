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
from typing import Self

import duckdb

from queries.errors import NoLakeError, QueryError
from queries.lake.result import Result, typed_errors
from queries.lake.snapshot import Snapshots, TableSource
from queries.lake.views import View, Views, create_view, open_duckdb, own_names, plain_root
from storage import schema
from storage.commit import Decoder
from storage.layout import DataLayout

__all__ = ["Lake", "Parameters"]

Parameters = Sequence[object] | Mapping[str, object] | None
READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
FIXABLE = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI)  # PIVOT is several statements


class Lake:
    """The tables of a data folder as DuckDB views: `ticks`, `instruments`, `orders`, `events`, `quarantine`.

    Each call of `sql` sees what was captured until then, committed or not, each row once. Safe to use from several
    threads, which take turns. Use it as a context manager, or `close` it.
    """

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
        self._readers: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        # Also at the end of the process, while DuckDB's own module is still whole.
        self._finalizer = weakref.finalize(self, _close, self._con, self._views, self._snapshots)

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the views."""
        return tuple(schema.TABLES)

    def sql(self, query: str, params: Parameters = None) -> Result:
        """Run a query. `params` fill `?` by position or `$name` by name.

        Anything DuckDB knows may be said. Of several statements, the last one's result is returned. A SELECT runs
        when its result is fetched, over what was captured until this call; everything else runs now. A table or view
        that the user made and named like one of ours, where the plain name leads to it, is what that name means.

        Raises QueryError with DuckDB's message.
        """
        with self._lock, typed_errors():
            views = self._look()
            statements = self._con.extract_statements(_valid(query))
            if not statements:
                raise QueryError("the query is empty: expected an SQL statement")
            *first, last = statements
            if any(statement.type not in READING for statement in statements):
                self._altered = True
            for statement in first:
                self._con.execute(statement).complete()
            if self._altered:
                theirs = own_names(self._con)
                views = {name: view for name, view in views.items() if name not in theirs}
            values = _values(params)
            if last.type not in FIXABLE:
                return Result(self._con.sql(last, params=values), None, views)
            text = fixed_text(last.query, views)
            try:
                relation = self._con.sql(text, params=values)
            except duckdb.Error as error:
                raise QueryError(_moved_up(str(error), text != last.query)) from error
            # A relation that is all that is left of a result still needs its views.
            weakref.finalize(relation, _let_go, views).atexit = False
            # No other connection sees what is the user's own: not the same names, at least.
            again = None if self._altered and theirs else functools.partial(self._again, text, values, views)
            return Result(relation, again, views)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB database of its own with the views as of now, which the caller closes.

        The views stay as they are: what is captured later is not in them.
        """
        with self._lock, typed_errors():
            self._look()
            con = open_duckdb()
            for source in self._sources:
                create_view(con, source)
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

    def _look(self) -> Mapping[str, View]:
        """Bring the views up to date."""
        if self._closed:
            raise QueryError(f"{self!r}: it cannot be queried any more")
        self._sources: list[TableSource] = self._snapshots.latest()
        return self._views.update(self._sources, altered=self._altered)

    def _again(self, text: str, values: object, views: Mapping[str, View]) -> duckdb.DuckDBPyRelation:
        """The same relation on a connection of its own."""
        cursor = self._con.cursor()
        self._readers.add(cursor)
        for view in views.values():
            if view.files is not None:
                view.files.tell(cursor)
        relation = cursor.sql(text, params=values)
        # As long as it is read, it can be interrupted.
        weakref.finalize(relation, _let_go, cursor).atexit = False
        return relation


def fixed_text(query: str, views: Mapping[str, View]) -> str:
    """A SELECT that reads these views, and no newer ones, by the plain names that it says.

    One line is put before it.
    """
    named = [view for name, view in views.items() if re.search(rf"\b{name}\b", query, re.IGNORECASE)]
    if not named:
        return query
    head = "WITH " + ", ".join(view.cte() for view in named)
    if re.match(r"\s*(select|from)\b", query, re.IGNORECASE):
        return f"{head}\n{query}"
    # It may have a WITH of its own, or be one of the statements that take none, such as SUMMARIZE.
    return f"{head} SELECT * FROM (\n{_without_semicolon(query)}\n)"  # noqa: S608 - it is the user's own SQL


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
