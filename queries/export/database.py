"""One DuckDB file: the tables with their rows, and the views and macros of a lake over them.

The table `ticks` has what the view of that name has in a lake. A view or a macro whose tables or columns are not
exported is not there. What a lake works out in Python, a row or more a day, is a table of the days that are.
"""

from collections.abc import Collection, Iterator, Sequence

import duckdb

from queries.export.choice import Choice, Part
from queries.export.readme import ABOUT, about_columns, about_table
from queries.lake import LakeState, Macro, Relation, literal, quoted

PLACE = "exported"
"""The name of the file's database while it is written."""


def create_tables(con: duckdb.DuckDBPyConnection, choice: Choice) -> None:
    """Create the tables, empty, with comments that say what they and their columns are."""
    for table in dict.fromkeys(choice.tables):
        columns = choice.names(table)
        con.execute(f"CREATE TABLE {PLACE}.{table} AS SELECT {', '.join(map(quoted, columns))} FROM {table} LIMIT 0")
        con.execute(f"COMMENT ON TABLE {PLACE}.{table} IS {literal(about_table(table))}")
        for name, text in about_columns(table, columns):
            con.execute(f"COMMENT ON COLUMN {PLACE}.{table}.{quoted(name)} IS {literal(text)}")


def insert(con: duckdb.DuckDBPyConnection, part: Part, columns: Sequence[str]) -> int:
    """Put a part's rows into its table. Returns how many there are."""
    select = part.select([quoted(name) for name in columns])
    ((rows,),) = con.execute(f"INSERT INTO {PLACE}.{part.table} {select}").fetchall()
    return int(rows)


def create_views(
    con: duckdb.DuckDBPyConnection,
    state: LakeState,
    relations: Sequence[Relation],
    macros: Sequence[Macro],
    parts: Collection[Part],
) -> list[str]:
    """Create what goes by names beside the tables, which are there: the connection is one of `SqlLake.connect`.

    It uses the file's database from then on. Returns the names.
    """
    days = ", ".join(sorted({f"DATE {literal(part.values['date'])}" for part in parts}))
    for relation in relations:
        if not relation.uses:
            own = f"memory.main.{quoted(relation.name)}"
            day = quoted(con.sql(f"FROM {own}").columns[0])
            con.execute(f"CREATE TABLE {PLACE}.{quoted(relation.name)} AS FROM {own} WHERE {day} IN ({days})")
    con.execute(f"USE {PLACE}")
    return [*_views(con, state, relations), *_macros(con, macros)]


def _views(con: duckdb.DuckDBPyConnection, state: LakeState, relations: Sequence[Relation]) -> Iterator[str]:
    for relation in relations:
        if relation.uses and relation.name != "ticks":
            text = relation.make(state, state.dates("ticks"))
            if _is_done(con, f"CREATE VIEW {quoted(relation.name)} AS {text}"):
                yield relation.name


def _macros(con: duckdb.DuckDBPyConnection, macros: Sequence[Macro]) -> Iterator[str]:
    for macro in macros:
        if not _is_done(con, macro.create(f"{PLACE}.main")):
            continue
        # Some of its names are looked up only when it is called.
        if all(_is_done(con, f"EXPLAIN FROM {macro.name}({_nulls(parameters)})") for parameters, _ in macro.overloads):
            yield f"{macro.name}(…)"
        else:
            con.execute(f"DROP MACRO TABLE {macro.name}")


def _nulls(parameters: str) -> str:
    """Arguments for those that have no default: `symbols VARCHAR[], start := NULL` -> `NULL::VARCHAR[]`."""
    needed = (each.split() for each in parameters.split(",") if ":=" not in each)
    return ", ".join(f"NULL::{kind}" for _, kind in needed)


def _is_done(con: duckdb.DuckDBPyConnection, statement: str) -> bool:
    """Whether all that it names is there."""
    try:
        con.execute(statement)
    except (duckdb.BinderException, duckdb.CatalogException):
        return False
    return True


def write_about(con: duckdb.DuckDBPyConnection, text: str) -> None:
    """Put what the file is into a table of one row."""
    con.execute(f"CREATE TABLE {PLACE}.{ABOUT} AS SELECT $text::VARCHAR AS text", {"text": text})
