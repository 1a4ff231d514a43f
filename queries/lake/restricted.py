"""A lake that answers questions and does nothing else, for queries of people who are not trusted with the machine.

Two layers, each of which would do by itself against what is known:

1. What may be said: one SELECT, DESCRIBE, SUMMARIZE or EXPLAIN of one. Its parse tree, as DuckDB itself gives it, may
   name our tables, relations and macros, its own CTEs where they are in scope, table functions of a short list, and
   scalar functions but for a few. So there is no path, no other catalog, no variable of Python's.
2. What the database can do: nothing outside of the tables' folders can be opened, links resolved; no extension is
   loaded, no Python name is looked up, nothing is spilled to disk; memory and threads are limited, and all of this is
   locked. (DuckDB would let a COPY write into a folder that it may read: the first layer alone forbids that.)

An interrupt is not heard, nor the limit of memory kept, while DuckDB makes one value. So functions that make a value as
large as a number says, or as two texts together, are macros here that refuse large ones, whatever they are worked out
from.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from queries.arguments import is_whole
from queries.errors import QueryError, RestrictedError
from queries.lake.statements import explained, literal
from queries.lake.views import SCHEMA

ALLOWED: Final = "one SELECT, DESCRIBE, SUMMARIZE or EXPLAIN at a time over the lake's own tables and macros"
TABLE_FUNCTIONS: Final = frozenset(
    {"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"}
)
REFUSED_FUNCTIONS: Final = frozenset(
    {
        *("current_setting", "getenv", "getvariable"),  # tell of the machine, and where the files lie
        *("json_execute_serialized_sql", "json_serialize_plan"),  # take SQL as text
        *("currval", "nextval", "setseed", "setval", "write_log"),  # change something
        *("sleep_ms", "stats", "vector_type"),  # of no use to a question
    }
)
_STEP_BY_STEP: Final = frozenset({"array_reduce", "list_reduce", "reduce"})
"""What makes a value out of itself many times, while no interrupt is heard."""
_VARIANT: Final = "variant"
"""A type of which DuckDB breaks down, and the process with it, when one is made of deeply nested JSON."""
_FORMATS: Final = frozenset({"format", "printf"})
_WIDE: Final = re.compile(r"\d{4}|\*|\{[^}]*\{")
"""What a format has for a width that may be large: a long number, or one that is an argument."""
_REFUSED_BEGINNINGS: Final = ("__internal", "pg_")  # the latter look into the catalog
_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_SOURCES: Final = frozenset(
    {"BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "PIVOT", "SHOW_REF", "SUBQUERY", "TABLE_FUNCTION"}
)
_OWN_ROWS: Final = ["memory", SCHEMA]
"""Where the rows are that helpers have worked out of the lake."""
_PLACES: Final[tuple[list[str], ...]] = ([], ["main"], ["memory"], ["memory", "main"])


TOO_LARGE: Final = "a restricted lake makes texts and lists"
"""How the text of an error begins that says that a value would be too large."""
MOST: Final = 10_000
"""How long a text or a list may be that a function makes, in bytes and elements. DuckDB makes 2,048 at a time."""


def _up_to(size: str, value: str, most: int = MOST) -> str:
    """The SQL of a value, if the size that it leads to is no more than `most`."""
    # An error by itself is not worked out while a query is planned, so neither is what depends on it.
    return f"if({size} > {most}, error('{TOO_LARGE} of at most {most:,} bytes or elements'), {value})"


def _sized() -> dict[str, list[tuple[str, str]]]:
    """Parameters and arguments of those functions, an overload each."""
    steps = [
        (f"start {kind}, stop {kind}, step {by}", f"start, stop, {_up_to(f'abs(({gap}) / nullif({each}, 0))', 'step')}")
        for kind, by, gap, each in (
            ("BIGINT", "BIGINT", "stop::HUGEINT - start", "step"),
            ("TIMESTAMP", "INTERVAL", "epoch(stop) - epoch(start)", "epoch(step)"),
            ("TIMESTAMPTZ", "INTERVAL", "epoch(stop) - epoch(start)", "epoch(step)"),
        )
    ]
    series = [
        ("size", _up_to("size", "size")),
        ("start, stop", f"start, {_up_to('stop::HUGEINT - start', 'stop')}"),
        *steps,
    ]
    resize = [("list, size", f"list, {_up_to('size', 'size')}")]
    resize += [("list, size, value", f"list, {_up_to('size', 'size')}, value")]
    pad = [("text, size, filler", f"text, {_up_to('size', 'size')}, filler")]
    lengths = ("text VARCHAR", "strlen(text)"), ("text BLOB", "octet_length(text)"), ("text", "len(text)")
    grown = _up_to("strlen(text) * strlen(new)", "new", 10 * MOST)  # also where little is replaced
    # These go through a table of as many numbers, not heeding any limit.
    distance = [("text, other", f"text, {_up_to('strlen(text) * strlen(other)', 'other', 10 * MOST)}")]
    return {
        "array_resize": resize,
        **dict.fromkeys(("damerau_levenshtein", "editdist3", "levenshtein"), distance),
        "bitstring": [("bits, size", f"bits, {_up_to('size', 'size')}")],
        "generate_series": series,
        "list_resize": resize,
        "lpad": pad,
        "range": series,
        "repeat": [(f"{text}, times", f"text, {_up_to(f'times * {size}', 'times')}") for text, size in lengths],
        "regexp_replace": [
            ("text, pattern, new", f"text, pattern, {grown}"),
            ("text, pattern, new, options", f"text, pattern, {grown}, options"),
        ],
        "replace": [("text, old, new", f"text, old, {grown}")],
        "rpad": pad,
    }


SIZED: Final = _sized()


def bound_sizes(con: duckdb.DuckDBPyConnection) -> None:
    """Have those functions refuse what is too large, in the whole database."""
    for name, overloads in SIZED.items():
        texts = ", ".join(f"({parameters}) AS system.main.{name}({given})" for parameters, given in overloads)
        con.execute(f"CREATE MACRO memory.main.{name}{texts}")


@dataclass(frozen=True)
class Limits:
    """What the queries of a lake may use. `memory` as DuckDB reads it, such as `"1GB"`; None is no limit of ours.

    `spill` is the folder for what memory does not hold, which is made when it is needed; None: where DuckDB has it.
    """

    memory: str | None = None
    threads: int | None = None
    seconds: float | None = None
    spill: Path | None = None

    def apply(self, con: duckdb.DuckDBPyConnection) -> None:
        """Set all but the seconds for the whole database."""
        if self.memory is not None:
            if not isinstance(self.memory, str):
                raise QueryError(f"memory_limit: got {self.memory!r}, expected a text such as '1GB'")
            con.execute(f"SET memory_limit = {literal(self.memory)}")
        if self.threads is not None:
            if not is_whole(self.threads, 1):
                raise QueryError(f"threads: got {self.threads!r}, expected a whole number of at least 1")
            con.execute(f"SET threads = {int(self.threads)}")
        if self.spill is not None:
            con.execute(f"SET temp_directory = {literal(str(self.spill))}")


RESTRICTED: Final = Limits("1GB", 2, 30.0)
"""What a restricted lake's queries may use if it is not said."""


def lock(con: duckdb.DuckDBPyConnection, folders: Iterable[Path]) -> None:
    """Have the whole database open nothing but what lies in these folders, for good."""
    readable = ", ".join(literal(f"{folder}/") for folder in folders)
    for setting in (
        f"allowed_directories = [{readable}]",
        "allow_community_extensions = false",
        "allow_extension_repositories = 'forbidden'",
        "allow_persistent_secrets = false",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "temp_directory = ''",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        con.execute(f"SET GLOBAL {setting}")


def _functions_in(part: Any) -> Iterator[str]:
    """The functions that a part of a parse tree names."""
    if isinstance(part, dict) and "function_name" in part:
        yield part["function_name"].lower()
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _functions_in(each)


class Gate:
    """Says whether a restricted lake runs a query. `tables` and `macros` are what it may name."""

    def __init__(self, con: duckdb.DuckDBPyConnection, tables: Collection[str], macros: Collection[str]) -> None:
        self._con = con
        self._tables = frozenset(name.lower() for name in tables)
        self._macros = frozenset(name.lower() for name in macros)

    def check(self, query: str) -> None:
        """Raise RestrictedError for what is more than a question, QueryError for what is no SQL."""
        statements = self._con.extract_statements(query)
        if not statements:
            raise QueryError("the query is empty: expected an SQL statement")
        if len(statements) > 1:
            raise RestrictedError(f"got {len(statements)} statements; this lake is restricted to {ALLOWED}")
        kind = statements[0].type
        text = explained(query)[1] if kind == duckdb.StatementType.EXPLAIN else query
        if kind == duckdb.StatementType.MULTI:
            raise RestrictedError(
                "got a PIVOT without its values; in a restricted lake they are said: "
                "PIVOT ticks ON exchange IN ('NSE', 'NFO') USING count(*)"
            )
        if kind not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
            raise RestrictedError(f"got {kind.name.replace('_', ' ')}; this lake is restricted to {ALLOWED}")
        ((tree,),) = self._con.execute("SELECT json_serialize_sql($query::VARCHAR)", {"query": text}).fetchall()
        try:
            tree = json.loads(tree)
            if tree.get("error", True) or len(tree["statements"]) != 1:
                raise RestrictedError(f"got {text.strip()[:60]!r}; this lake is restricted to {ALLOWED}")
            self._visit(tree["statements"][0], frozenset())
        except RecursionError:
            raise RestrictedError("the query is nested too deeply; say it in steps, by WITH") from None

    def _visit(self, part: Any, ctes: frozenset[str]) -> None:
        if isinstance(part, list):
            for each in part:
                self._visit(each, ctes)
        elif isinstance(part, dict):
            if "cte_map" in part:
                self._visit_node(part, ctes)
            elif "class" in part:
                self._visit_expression(part, ctes)
            elif "sample" in part and "alias" in part:
                self._visit_source(part, ctes)
            else:
                self._visit(list(part.values()), ctes)

    def _visit_node(self, node: Mapping[str, Any], ctes: frozenset[str]) -> None:
        """A SELECT or what is made of several. A CTE is in scope in those that come after it, and in the node."""
        if node["type"] not in _NODES:
            kind = str(node["type"]).removesuffix("_NODE")
            raise RestrictedError(f"got {kind} inside of a query; this lake is restricted to {ALLOWED}")
        for entry in node["cte_map"]["map"]:
            self._visit(entry["value"], ctes)
            ctes |= {entry["key"].lower()}
        for name, value in node.items():
            if name != "cte_map":
                # What repeats may name itself, but what it begins with may not.
                own = {node["cte_name"].lower()} if name == "right" and "cte_name" in node else frozenset()
                self._visit(value, ctes | own)

    def _visit_expression(self, expression: Mapping[str, Any], ctes: frozenset[str]) -> None:
        if "function_name" in expression:
            self._check_scalar(expression)
        if expression["class"] == "TYPE" and expression["type_name"].lower() == _VARIANT:
            raise RestrictedError("got the type VARIANT; in a restricted lake use JSON")
        if expression["class"] == "LAMBDA" and (large := SIZED.keys() & set(_functions_in(expression))):
            raise RestrictedError(
                f"got the function {min(large)} in a lambda; a restricted lake has it outside of lambdas alone"
            )
        self._visit(list(expression.values()), ctes)

    def _check_scalar(self, function: Mapping[str, Any]) -> None:
        name = function["function_name"].lower()
        if name in REFUSED_FUNCTIONS or name.startswith(_REFUSED_BEGINNINGS):
            raise RestrictedError(
                f"got the function {name}; a restricted lake has none that reach outside of the query"
            )
        if name.startswith(f"{_VARIANT}_"):
            raise RestrictedError(f"got the function {name}; in a restricted lake use JSON and json_…")
        if name in _STEP_BY_STEP:
            raise RestrictedError(f"got the function {name}; in a restricted lake use list_sum, list_product, …")
        if name in SIZED and len(function["qualified_name"]["path"]) > 1:
            raise RestrictedError(f"got the function {name} by its schema; a restricted lake has it as {name} alone")
        if name in _FORMATS:
            first = function["arguments"][0]["expression"] if function["arguments"] else {}
            text = first.get("literal", {}).get("text", "{{")
            if _WIDE.search(text):
                raise RestrictedError(
                    f"got the function {name} with a format that may be long; in a restricted lake a format is a text "
                    "in quotes, with widths below 1000"
                )

    def _visit_source(self, source: Mapping[str, Any], ctes: frozenset[str]) -> None:
        """What may stand behind FROM."""
        kind = source["type"]
        if kind not in _SOURCES:
            raise RestrictedError(f"got {kind} behind FROM; this lake is restricted to {ALLOWED}")
        if kind == "BASE_TABLE":
            self._check_table(source["qualified_name"]["path"], ctes)
        elif kind == "TABLE_FUNCTION":
            self._check_function(source["function"]["qualified_name"]["path"])
        elif kind == "SHOW_REF" and source["query"] is None and source["table_name"] != '"tables"':
            raise RestrictedError("got a SHOW; a restricted lake has SHOW TABLES, and DESCRIBE for one of them")
        self._visit(list(source.values()), ctes)

    def _check_table(self, path: list[str], ctes: frozenset[str]) -> None:
        *place, name = path
        if (not place and name.lower() in ctes) or [each.lower() for each in place] == _OWN_ROWS:
            return
        if name.lower() not in self._tables or [each.lower() for each in place] not in _PLACES:
            known = ", ".join(sorted(self._tables))
            raise RestrictedError(f"got {'.'.join(path)!r} as a table; a restricted lake has {known}")

    def _check_function(self, path: list[str]) -> None:
        *place, name = path
        known = self._macros | TABLE_FUNCTIONS
        if name.lower() not in known or [each.lower() for each in place] not in _PLACES:
            raise RestrictedError(
                f"got {'.'.join(path)}(…) as a table; of functions a restricted lake has {', '.join(sorted(known))}"
            )
