"""The tables for DuckDB: committed files and the live tail in one SELECT.

A view is made once for a state of its table and never changed; a newer state gets a view of its own. So a result that
is fetched later still reads what its query saw. It is no view of the catalog, since DuckDB binds that when it is made,
which takes it long for many files: a query has its SELECT in its head. What of it has to have a name, the live rows
and the list of files, is numbered, in a schema of its own, and dropped when nothing refers to it any more. The plain
names (`ticks`, …) in `main` are brought up to date only for statements that cannot have a head.

To bind a list of files takes DuckDB some 20 µs a file, whatever is asked of them, and most of that is for what their
folders say. So a query gets those files alone that lie in partitions that it asks for; and where there are many in few
partitions, what their folders say is written into the SELECT.
"""

import functools
import json
import weakref
from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import duckdb
import pyarrow as pa

from queries.errors import NoLakeError
from queries.lake.statements import literal, quoted
from queries.partitions import Asked, Partition, Tree, chosen
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
FEW_FILES: Final = 32
"""It does not pay to choose among so many."""
MANY_IN_EACH: Final = 100
"""Files a partition, from which on a SELECT for each partition takes less than to have all in one."""
SMALL_FILES: Final = 16
"""So many in a partition are not sealed and have every instrument: of most a query needs a page or two a column."""
CHOICES: Final = 16
"""That are kept of a state of a table."""


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
    except ValueError as error:
        raise NoLakeError(f"{str(root)!r}: got no path: {error}. {start}") from error
    layout = DataLayout(root)
    if any(path.exists() for path in (layout.journal, layout.lock, *map(layout.table, schema.TABLES))):
        return
    if not found:
        raise NoLakeError(f"{root}: the folder is empty, nothing was captured yet. {start}")
    some = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
    raise NoLakeError(f"{root}: got a folder with {some}; expected a data folder with a journal and tables")


def open_duckdb() -> duckdb.DuckDBPyConnection:
    """An empty database in memory whose connections show times in IST."""
    # Without threads that read ahead: what is captured is on this machine, and mostly in its memory, so that handing
    # each read over to them and back costs a tenth of a query, and gains nothing where files have to be read from disk.
    con = duckdb.connect(config={"async_threads": 0})
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
    """A list of committed files. Thousands of names are slow as SQL text: the list is in a variable, which each
    connection needs to have, and which exists as long as this object does."""

    variable: str
    paths: Sequence[str]
    partitions: int
    told: "weakref.WeakSet[duckdb.DuckDBPyConnection]" = field(default_factory=weakref.WeakSet)
    """The connections that have it."""

    def tell(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the files readable on a connection."""
        if con not in self.told:
            con.execute(f"SET VARIABLE {self.variable} = $paths", {"paths": list(self.paths)})
            self.told.add(con)


@dataclass(frozen=True)
class Fixed:
    """SQL that reads these lists of files, and whether there is a line before what was asked."""

    text: str
    files: Sequence[Files]
    has_head: bool

    def on(self, con: duckdb.DuckDBPyConnection) -> str:
        """The SQL, on a connection that can read them."""
        for each in self.files:
            each.tell(con)
        return self.text


@dataclass(frozen=True, eq=False)
class RowsView:
    """Rows as a view. `name` is how SQL names it; it exists as long as this object does."""

    name: str


@dataclass(frozen=True, eq=False)
class View:
    """One state of a table, as the SELECT `text`, as long as this object exists; or of some partitions of it."""

    source: TableSource
    files: Sequence[Files]
    live: RowsView | None
    text: str
    chosen: dict[Sequence[Partition], "View"] = field(default_factory=dict)
    """The same without other partitions than these."""

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

    def __init__(self, con: duckdb.DuckDBPyConnection, *, may_set: bool = True) -> None:
        """`may_set`: the database's settings are not locked."""
        self._con = con
        self._may_set = may_set
        self._by_page = False
        # The user's connection may have another schema in use.
        self._own = con.cursor()
        self._own.execute(f"CREATE SCHEMA {SCHEMA}; USE memory.{SCHEMA}")
        self._current: dict[str, View] = {}
        self._leading: dict[str, View] = {}
        self._count = 0
        self._files: weakref.WeakValueDictionary[tuple[str, Sequence[Partition]], Files] = weakref.WeakValueDictionary()
        self._unused: deque[tuple[Container[duckdb.DuckDBPyConnection], str]] = deque()
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
            reason = literal(f"{plain}: a query reads the tables that it names itself, which this one does not")
            # In each column as well: else a condition on one makes DuckDB answer without a look at the other.
            columns = _each_column(spec, f"error({reason})")
            self.publish(plain, f"SELECT {columns} WHERE error({reason})::BOOLEAN", altered=False)

    def lead(self, views: Iterable[View], *, altered: bool) -> None:
        """Have the plain names lead to these views: for what is no SELECT, and cannot have them in its head.

        `altered`: the user may have put something else in the place of a plain name, which then stays.
        """
        for view in views:
            if self._leading.get(view.name_in_sql) is not view:
                for files in view.files:
                    files.tell(self._own)
                    files.tell(self._con)
                self.publish(view.name_in_sql, view.text, altered=altered)
                self._leading[view.name_in_sql] = view

    def close(self) -> None:
        """Close the connection that is not the user's. Idempotent."""
        self._own.close()

    def of_rows(self, name: str, rows: "pa.Table | Dataset") -> RowsView:
        """A view of rows that are of no table. It exists as long as the object does."""
        view = RowsView(f"memory.{SCHEMA}.{self._next_name(name)}")
        create_rows(self._own, view.name.rpartition(".")[2], rows)
        self._drop_after(view, (self._own,), f"DROP VIEW IF EXISTS {view.name}")
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

    def tree(self, query: str) -> Tree | None:
        """The parse tree of one SELECT; None for anything else."""
        found = self._own.execute("SELECT json_serialize_sql($query::VARCHAR)", {"query": query}).fetchall()
        tree = json.loads(found[0][0])
        return None if tree["error"] or len(tree["statements"]) != 1 else cast("Tree", tree["statements"][0])

    def choose(self, view: View, asked: Asked) -> View:
        """The same state, of which no more files need to be there than have rows that are asked for."""
        if len(view.source.files) <= FEW_FILES:
            return view
        parts = view.source.parts
        some = chosen(asked, view.source.spec.partition_by, parts)
        if len(some) == len(parts):
            return view
        some = some or tuple(parts)[:1]
        if some not in view.chosen:
            if len(view.chosen) >= CHOICES:
                del view.chosen[next(iter(view.chosen))]
            view.chosen[some] = self._view(view.source, {part: parts[part] for part in some}, view.live)
        return view.chosen[some]

    def suit(self, files: Iterable[Files]) -> None:
        """Have the database read files in the way that suits most of these. To read the columns of a row group ahead,
        as it does by itself, is quick for sealed files, but costs a fourth more where little of them is needed."""
        counts = [(len(each.paths), len(each.paths) >= SMALL_FILES * each.partitions) for each in files]
        by_page = 2 * sum(count for count, small in counts if small) > sum(count for count, _ in counts)
        if by_page is not self._by_page and self._may_set:
            self._own.execute(f"SET GLOBAL disable_parquet_prefetching = {by_page}")
            self._by_page = by_page

    def _make(self, source: TableSource) -> View:
        live = self.of_rows(f"{source.spec.name}_live", _live(source)) if len(source.live) else None
        return self._view(source, source.parts, live)

    def _view(self, source: TableSource, parts: Mapping[Partition, Sequence[str]], live: RowsView | None) -> View:
        paths = [path for part in parts.values() for path in part]
        if len(paths) < MANY_IN_EACH * len(parts):
            files = [self._files_of(source, tuple(parts), paths)]
            committed = _read_parquet(source.spec, f"getvariable('{files[0].variable}')")
        else:
            files = [self._files_of(source, (part,), each) for part, each in parts.items()]
            committed = " UNION ALL ".join(
                _partition(source.spec, part, f"getvariable('{each.variable}')")
                for part, each in zip(parts, files, strict=True)
            )
            committed = f"({committed})"
        text = view_text(source, committed if parts else None, "" if live is None else live.name)
        return View(source, files if parts else (), live, text)

    def _is_taken(self, name: str) -> bool:
        with self._own.cursor() as elsewhere:  # a connection that uses memory.main, whatever the user's does
            return name in own_names(elsewhere, [name])

    def _files_of(self, source: TableSource, parts: Sequence[Partition], paths: Sequence[str]) -> Files:
        """The files of some partitions, which are mostly those that they had before: a commit is to a few."""
        key = source.spec.name, parts
        files = self._files.get(key)
        if files is None or files.paths != paths:
            files = self._files[key] = Files(self._next_name(f"{source.spec.name}_files"), paths, len(parts))
            self._drop_after(files, files.told, f"RESET VARIABLE {files.variable}")
        return files

    def _next_name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def _drop_after(
        self, thing: RowsView | Files, known_to: Container[duckdb.DuckDBPyConnection], statement: str
    ) -> None:
        # Not in the finalizer itself, which runs at any time in any thread.
        weakref.finalize(thing, self._unused.append, (known_to, statement)).atexit = False

    def _drop_unused(self) -> None:
        while self._unused:
            known_to, statement = self._unused.popleft()
            for con in (self._own, self._con):
                if con in known_to:
                    con.execute(statement)


def create_rows(con: duckdb.DuckDBPyConnection, name: str, rows: "pa.Table | Dataset") -> None:
    """Create a view of these rows, which owns them."""
    con.from_arrow(rows).create_view(name)


def create_view(con: duckdb.DuckDBPyConnection, source: TableSource) -> None:
    """Create a table's view in a database where nothing comes after it: every connection to it can read it."""
    paths = ", ".join(literal(path) for path in source.files)
    committed = _read_parquet(source.spec, f"[{paths}]") if source.files else None
    text = view_text(source, committed, "live")
    # The view that is made of the relation owns the rows. (DuckDB would find `live` as a name of Python's too, but not
    # in a restricted lake.)
    relation = con.from_arrow(_live(source)).query("live", text)
    assert relation is not None  # as it is for a SELECT
    relation.create_view(name_in_sql(source.spec))


def _live(source: TableSource) -> "pa.Table | Dataset":
    """What DuckDB reads the live rows from."""
    if not isinstance(source.live, LiveTicks):
        return source.live
    from queries.tail import TicksDataset  # where pandas is installed, this loads it

    return TicksDataset(source.live)


def view_text(source: TableSource, committed: str | None, live_name: str) -> str:
    """A table's SELECT. `committed` is SQL for what its committed files have, `live_name` where its live rows are."""
    spec = source.spec
    if committed is None and not live_name:
        return f"SELECT {_each_column(spec, 'NULL')} WHERE false"
    columns = _columns(tuple(spec.schema.names))
    live = f"SELECT {columns} FROM {live_name}"
    if committed is None:
        return live
    text = f"SELECT {columns} FROM {committed}"
    if not len(source.live):
        return text
    if spec.unique is not None:
        # What the writer does when it commits: equal rows of one partition are stored once.
        live += f" ANTI JOIN {committed} USING ({_columns((*spec.partition_by, spec.unique))})"
    return f"{text} UNION ALL {live}"


@functools.lru_cache(2 * len(schema.TABLES))
def _columns(names: tuple[str, ...]) -> str:
    return ", ".join(map(quoted, names))


def _each_column(spec: schema.Table, value: str) -> str:
    """The columns with this for a value."""
    return ", ".join(f"{value}::{SQL_TYPES[field.type]} AS {quoted(field.name)}" for field in spec.schema)


def _hive_types(spec: schema.Table) -> dict[str, str]:
    fields = [spec.schema.field(name) for name in spec.partition_by]
    return {field.name: "DATE" if pa.types.is_date(field.type) else "VARCHAR" for field in fields}


def _read_parquet(spec: schema.Table, paths: str) -> str:
    types = ", ".join(f"'{name}': '{kind}'" for name, kind in _hive_types(spec).items())
    return f"read_parquet({paths}, hive_partitioning = true, hive_types = {{{types}}})"


def _partition(spec: schema.Table, partition: Partition, paths: str) -> str:
    """The same of the files of one partition."""
    columns = _columns(tuple(name for name in spec.schema.names if name not in spec.partition_by))
    values = zip(partition, _hive_types(spec).items(), strict=True)
    said = ", ".join(f"{literal(value)}::{kind} AS {quoted(name)}" for value, (name, kind) in values)
    return f"SELECT {columns}, {said} FROM read_parquet({paths}, hive_partitioning = false)"
