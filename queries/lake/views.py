"""The tables for DuckDB: committed files and the live tail in one SELECT.

A view is made once for a state of its table and never changed; a newer state gets a view of its own. So a result that
is fetched later still reads what its query saw. It is no view of the catalog, since DuckDB binds that when it is made,
which takes it long for many files: a query has its SELECT in its head. What of it has to have a name, the live rows
and the list of files, is numbered, in a schema of its own, and dropped when nothing refers to it any more. The plain
names (`ticks`, …) in `main` are brought up to date only for statements that cannot have a head.
"""

import atexit
import datetime as dt
import functools
import os
import re
import tempfile
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb
import pyarrow as pa

from queries.errors import NoLakeError
from queries.tail import LiveTicks, TableSource
from storage import schema
from storage.layout import DataLayout

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

ZONE: Final = "Asia/Kolkata"
SCHEMA: Final = "kitelake"
OURS: Final = "kitelake"
"""The comment on what we put into the catalog under a plain name."""
OWN_NAMES: Final = f"""
    WITH things AS (
        SELECT database_name AS base, schema_name AS home, table_name AS name, '' AS comment FROM duckdb_tables()
        UNION ALL
        SELECT database_name, schema_name, view_name, comment FROM duckdb_views()
    )
    SELECT DISTINCT lower(name) FROM things
    WHERE lower(name) IN $names
    AND (base = 'temp' OR (base = current_database() AND home = current_schema()))
    AND NOT (base = 'memory' AND home = 'main' AND comment IS NOT DISTINCT FROM '{OURS}')
"""
SQL_TYPES: Final = {
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.binary(): "BLOB",
    pa.date32(): "DATE",
    schema.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
}
"""What DuckDB makes of the types of our columns: to ask it takes longer than to open a lake."""
SPECIAL: Final = re.compile(r"[=*?\[]")


def check_folder(root: Path) -> None:
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


def open_duckdb() -> duckdb.DuckDBPyConnection:
    """An empty database in memory whose connections show times in IST."""
    con = duckdb.connect()
    con.execute(f"SET GLOBAL TimeZone = '{ZONE}'")
    con.execute("SET GLOBAL parquet_metadata_cache = true")  # files never change
    return con


def own_names(con: duckdb.DuckDBPyConnection, names: Iterable[str]) -> set[str]:
    """Those of these names of ours that lead a connection to something of the user's: a temporary table, say."""
    return {name for (name,) in con.execute(OWN_NAMES, {"names": list(names)}).fetchall()}


def name_in_sql(spec: schema.Table) -> str:
    """How SQL names a table: `ticks` is what is left of `ticks_all` where instruments were captured redundantly."""
    return "ticks_all" if spec is schema.TICKS else spec.name


@dataclass(frozen=True, eq=False)
class Files:
    """The committed files of one state of a table. Thousands of names are slow as SQL text: the list is in a variable,
    which each connection needs to have, and which exists as long as this object does."""

    variable: str
    paths: tuple[str, ...]

    def tell(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the files readable on a connection."""
        con.execute(f"SET VARIABLE {self.variable} = $paths", {"paths": list(self.paths)})


@dataclass(frozen=True, eq=False)
class RowsView:
    """Rows as a view. `name` is how SQL names it; it exists as long as this object does."""

    name: str


@dataclass(frozen=True, eq=False)
class View:
    """One state of a table, as the SELECT `text`, as long as this object exists."""

    source: TableSource
    files: Files | None
    live: RowsView | None
    text: str

    @property
    def name_in_sql(self) -> str:
        """The table's plain name."""
        return name_in_sql(self.source.spec)

    def cte(self) -> str:
        """What fixes the table's plain name to this state, for the head of a query."""
        # Not materialised, because DuckDB would else read the whole table when a query names it twice.
        return f"{quoted(self.name_in_sql)} AS NOT MATERIALIZED ({self.text})"


class Views:
    """Keeps the views of one database up to date."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        # The user's connection may have another schema in use.
        self._own = con.cursor()
        self._own.execute(f"CREATE SCHEMA {SCHEMA}; USE memory.{SCHEMA}")
        self._current: dict[str, View] = {}
        self._leading: dict[str, View] = {}
        self._count = 0
        self._unused: deque[str] = deque()
        self._macros: set[str] = set()

    def update(self, sources: Iterable[TableSource]) -> Mapping[str, View]:
        """The views of these states, by the table's name."""
        views = {}
        for source in sources:
            name = source.spec.name
            if name not in self._current or self._current[name].source is not source:
                self._current[name] = self._make(source)
            views[name] = self._current[name]
        self._drop_unused()
        return views

    def announce(self) -> None:
        """Put the plain names of the tables into the catalog. To read one before `lead` is an error."""
        for spec in schema.TABLES.values():
            plain = name_in_sql(spec)
            columns = ", ".join(f"NULL::{SQL_TYPES[field.type]} AS {quoted(field.name)}" for field in spec.schema)
            reason = literal(f"{plain}: a query reads the tables that it names itself, which this one does not")
            self.publish(plain, f"SELECT {columns} WHERE error({reason})::BOOLEAN", altered=False)

    def lead(self, views: Iterable[View], *, altered: bool) -> None:
        """Have the plain names lead to these views: for what is no SELECT, and cannot have them in its head.

        `altered`: the user may have put something else in the place of a plain name, which then stays.
        """
        for view in views:
            if self._leading.get(view.name_in_sql) is not view:
                if view.files is not None:
                    view.files.tell(self._own)
                self.publish(view.name_in_sql, view.text, altered=altered)
                self._leading[view.name_in_sql] = view

    def close(self) -> None:
        """Close the connection that is not the user's. Idempotent."""
        self._own.close()

    def of_rows(self, name: str, rows: "pa.Table | Dataset") -> RowsView:
        """A view of rows that are of no table. It exists as long as the object does."""
        view = RowsView(f"memory.{SCHEMA}.{self._next_name(name)}")
        _relation(self._own, "FROM live", rows).create_view(view.name.rpartition(".")[2])
        self._drop_after(view, f"DROP VIEW IF EXISTS {view.name}")
        return view

    def publish(self, name: str, text: str, *, altered: bool) -> None:
        """Have the plain name lead to this SELECT, unless the user has put something else in its place."""
        if not (altered and self._is_taken(name)):
            place = f"memory.main.{quoted(name)}"
            self._own.execute(f"CREATE OR REPLACE VIEW {place} AS {text}; COMMENT ON VIEW {place} IS '{OURS}'")

    def define(self, name: str, statement: str) -> None:
        """Make a macro, the first time it is asked for."""
        if name not in self._macros:
            self._own.execute(statement)
            self._macros.add(name)

    def _make(self, source: TableSource) -> View:
        files = self._files(source)
        paths = None if files is None else f"getvariable('{files.variable}')"
        live = self.of_rows(f"{source.spec.name}_live", _live(source)) if len(source.live) or files is None else None
        return View(source, files, live, view_text(source, paths, "" if live is None else live.name))

    def _is_taken(self, name: str) -> bool:
        with self._own.cursor() as elsewhere:  # a connection that uses memory.main, whatever the user's does
            return name in own_names(elsewhere, [name])

    def _files(self, source: TableSource) -> Files | None:
        """The committed files: as they are there, if nothing was committed since."""
        if not source.files:
            return None
        current = self._current.get(source.spec.name)
        if current and current.files and current.files.paths is source.files:
            return current.files
        files = Files(self._next_name(f"{source.spec.name}_files"), source.files)
        self._drop_after(files, f"RESET VARIABLE {files.variable}")
        files.tell(self._con)
        return files

    def _next_name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def _drop_after(self, thing: RowsView | Files, statement: str) -> None:
        # Not in the finalizer itself, which runs at any time in any thread.
        weakref.finalize(thing, self._unused.append, statement).atexit = False

    def _drop_unused(self) -> None:
        while self._unused:
            statement = self._unused.popleft()
            for con in (self._own, self._con):
                con.execute(statement)


def create_rows(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """Create a view of these rows in a database where nothing comes after it."""
    _relation(con, "FROM live", rows).create_view(name)


def create_view(con: duckdb.DuckDBPyConnection, source: TableSource) -> None:
    """Create a table's view in a database where nothing comes after it: every connection to it can read it."""
    paths = ", ".join(literal(path) for path in source.files)
    text = view_text(source, f"[{paths}]" if source.files else None, "live")
    _relation(con, text, _live(source)).create_view(name_in_sql(source.spec))


def _live(source: TableSource) -> "pa.Table | Dataset":
    """What DuckDB reads the live rows from."""
    if not isinstance(source.live, LiveTicks):
        return source.live
    from queries.tail import TicksDataset  # where pandas is installed, this loads it

    return TicksDataset(source.live)


def _relation(con: duckdb.DuckDBPyConnection, text: str, live: "pa.Table | Dataset") -> duckdb.DuckDBPyRelation:
    # The view that is made of the relation owns the rows. (DuckDB would find `live` as a name of Python's too, but not
    # in a restricted lake.)
    relation = con.from_arrow(live).query("live", text)
    assert relation is not None  # as it is for a SELECT
    return relation


def view_text(source: TableSource, paths: str | None, live_name: str) -> str:
    """A table's SELECT. `paths` is SQL for the list of its committed files, `live_name` where its live rows are."""
    spec = source.spec
    columns = _columns(spec)
    live = f"SELECT {columns} FROM {live_name}"
    if paths is None:
        return live
    files = _read_parquet(spec, paths)
    committed = f"SELECT {columns} FROM {files}"
    if not len(source.live):
        return committed
    if spec.unique is not None:
        # What the writer does when it commits: equal rows of one partition are stored once.
        live += f" ANTI JOIN {files} USING ({', '.join(quoted(name) for name in (*spec.partition_by, spec.unique))})"
    return f"{committed} UNION ALL {live}"


def _columns(spec: schema.Table) -> str:
    return ", ".join(quoted(name) for name in spec.schema.names)


def _read_parquet(spec: schema.Table, paths: str) -> str:
    fields = [spec.schema.field(name) for name in spec.partition_by]
    types = [f"'{field.name}': '{'DATE' if pa.types.is_date(field.type) else 'VARCHAR'}'" for field in fields]
    return f"read_parquet({paths}, hive_partitioning = true, hive_types = {{{', '.join(types)}}})"


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def among(days: Iterable[dt.date]) -> str:
    """The SQL condition that `date` is one of these."""
    several = ", ".join(f"DATE '{day}'" for day in days)
    return f"date IN ({several or 'NULL'})"


def literal(text: str) -> str:
    """Text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


@functools.cache
def plain_root(root: Path) -> Path:
    """A path to the same folder that DuckDB takes literally.

    It takes `name=value` anywhere in a path for a partition, and `*`, `?` and `[` for patterns, and knows no escape.
    Such a folder is reached by a link in the system's folder for temporary files, until the process ends.
    """
    if SPECIAL.search(str(root)) is None:
        return root
    folder = tempfile.TemporaryDirectory(prefix="kitelake-")
    atexit.register(folder.cleanup)
    link = Path(folder.name) / "lake"
    os.symlink(root, link, target_is_directory=True)  # noqa: PTH211 - the same thing, and says what links to what
    return link
