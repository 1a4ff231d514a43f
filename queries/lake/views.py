"""The tables as DuckDB views: committed files and the live tail in one.

A view is made once for a state of its table and never changed; a newer state gets a view of its own. So a result that
is fetched later still reads what its query saw. The views are numbered, in a schema of their own; the plain names
(`ticks`, …) in `main` are views over the newest. A numbered view is dropped when nothing refers to it any more.
"""

import atexit
import functools
import os
import re
import tempfile
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from queries.lake.snapshot import Source
from storage import schema

ZONE: Final = "Asia/Kolkata"
SCHEMA: Final = "kitelake"
SPECIAL: Final = re.compile(r"[=*?\[]")


def open_duckdb() -> duckdb.DuckDBPyConnection:
    """An empty database in memory whose connections show times in IST."""
    con = duckdb.connect()
    con.execute(f"SET GLOBAL TimeZone = '{ZONE}'")
    return con


@dataclass(frozen=True, eq=False)
class View:
    """One state of a table. `name` is how SQL names it; it exists as long as this object does."""

    name: str
    source: Source

    def cte(self) -> str:
        """What fixes the table's plain name to this state, for the head of a query."""
        # Not materialised, because DuckDB would else read the whole table when a query names it twice.
        return f"{quoted(self.source.spec.name)} AS NOT MATERIALIZED (FROM {self.name})"


class Views:
    """Keeps the views of one database up to date."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._current: dict[str, View] = {}
        self._count = 0
        self._unused: deque[str] = deque()
        con.execute(f"CREATE SCHEMA {SCHEMA}")

    def update(self, sources: Iterable[Source]) -> Mapping[str, View]:
        """The views of these states, by the table's name. The plain names lead to them from now on."""
        changed = [s for s in sources if s.spec.name not in self._current or self._current[s.spec.name].source is not s]
        if changed:
            # On a cursor: the user's connection may have another schema in use.
            with self._con.cursor() as cursor:
                cursor.execute(f"USE memory.{SCHEMA}")
                for source in changed:
                    self._current[source.spec.name] = self._make(cursor, source)
        self._drop_unused()
        return dict(self._current)

    def _make(self, cursor: duckdb.DuckDBPyConnection, source: Source) -> View:
        self._count += 1
        name = f"{source.spec.name}_{self._count}"
        create_view(cursor, name, source)
        view = View(f"memory.{SCHEMA}.{name}", source)
        cursor.execute(f"CREATE OR REPLACE VIEW memory.main.{quoted(source.spec.name)} AS FROM {view.name}")
        weakref.finalize(view, self._unused.append, view.name).atexit = False
        return view

    def _drop_unused(self) -> None:
        # Not in the finalizer, which runs at any time in any thread.
        while self._unused:
            self._con.execute(f"DROP VIEW IF EXISTS {self._unused.popleft()}")


def create_view(con: duckdb.DuckDBPyConnection, name: str, source: Source) -> None:
    """Create the view in the schema in use. It owns the live rows."""
    _relation(con, view_text(source), source.live).create_view(name)


def _relation(con: duckdb.DuckDBPyConnection, text: str, live: pa.Table) -> duckdb.DuckDBPyRelation:
    # DuckDB finds `live` by its name, in this frame.
    return con.sql(text)


def view_text(source: Source) -> str:
    """The view's SQL, in which `live` is the live rows."""
    spec = source.spec
    columns = ", ".join(quoted(name) for name in spec.schema.names)
    live = f"SELECT {columns} FROM live"  # noqa: S608 - names of ours, quoted
    if not source.files:
        return live
    files = f"read_parquet([{', '.join(literal(path) for path in source.files)}], {_options(spec)})"
    committed = f"SELECT {columns} FROM {files}"  # noqa: S608
    if not len(source.live):
        return committed
    if spec.unique is not None:
        # What the writer does when it commits: equal rows of one partition are stored once.
        live += f" ANTI JOIN {files} USING ({', '.join(quoted(name) for name in (*spec.partition_by, spec.unique))})"
    return f"{committed} UNION ALL {live}"


def _options(spec: schema.Table) -> str:
    fields = [spec.schema.field(name) for name in spec.partition_by]
    types = [f"'{field.name}': '{'DATE' if pa.types.is_date(field.type) else 'VARCHAR'}'" for field in fields]
    return f"hive_partitioning = true, hive_types = {{{', '.join(types)}}}"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
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
