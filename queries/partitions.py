"""What a SELECT asks of tables that lie in partitions by `date` and `exchange`, as its parse tree says it. Pure.

A place where a query names a table can do without the rows for which a condition of its own WHERE is false, if the
condition is one of the row alone. So of each place the conditions that compare a partition column with constants are
kept, as ranges of text: dates are written so that their order is that of their text. What is said in any other way
is taken for true, and a place of which nothing is known asks for everything. Ranges may be wider than what was said,
never narrower.
"""

import datetime as dt
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

Partition = tuple[str, ...]
"""The values of the partition columns, as text."""
Range = tuple[str, str]
"""From one text to another, both included."""
Asked = frozenset["Place"]
"""The places in which a query names a table: it asks for the partitions that one of them asks for."""
Tree = Mapping[str, Any]

PARTITION_COLUMNS: Final = ("date", "exchange")
_ONE_DAY: Final = dt.timedelta(days=1)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_LEAST: Final = ""
_MOST: Final = "\U0010ffff"
_FLIPPED: Final = {
    "COMPARE_EQUAL": "COMPARE_EQUAL",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
}
_LEAVES: Final = frozenset({"COLUMN_REF", "CONSTANT", "PARAMETER", "TYPE"})
"""What names no table: there are many in a long list."""
_TODAY: Final = frozenset({"current_date", "today"})
_OF_NAMES: Final = frozenset({"histogram", "histogram_values"})
"""DuckDB's own macros that read from the table that an argument names."""
_OF_LEFT: Final = frozenset({"INNER", "LEFT", "SEMI", "ANTI"})
"""Joins in which a row on the left has no part in what comes of the other rows there."""
_OF_BOTH: Final = frozenset({"REGULAR", "CROSS"})
"""Of inner joins those in which that holds for the right, too: not for the nearest row, say."""


@dataclass(frozen=True)
class Within:
    """A value of the column lies in one of the ranges."""

    column: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True)
class Place:
    """What holds for each row that is needed there."""

    tests: frozenset[Within]


EVERYTHING: Final[Asked] = frozenset({Place(frozenset())})


def chosen(asked: Asked, columns: Sequence[str], partitions: Iterable[Partition]) -> tuple[Partition, ...]:
    """Those of the partitions of which rows are asked for. Of what is no partition column, nothing is known."""
    places = [[_tried(columns.index(test.column), test.ranges) for test in place.tests if test.column in columns]
              for place in asked]  # fmt: skip
    return tuple(part for part in partitions if any(_passes(part, tests) for tests in places))


_Tried = tuple[int, Set[str], Sequence[Range]]
"""Where the value of a partition is, and what it may be: one of these, or in one of these ranges."""


def _tried(at: int, ranges: Iterable[Range]) -> _Tried:
    single = {lowest for lowest, highest in ranges if lowest == highest}
    return at, single, [(lowest, highest) for lowest, highest in ranges if lowest != highest]


def _passes(partition: Partition, tests: Iterable[_Tried]) -> bool:
    return all(
        partition[at] in single or any(lowest <= partition[at] <= highest for lowest, highest in wide)
        for at, single, wide in tests
    )


def asked_of(tree: Tree, names: Collection[str], params: object, today: dt.date) -> dict[str, Asked]:
    """What the query asks of each of these names, in small letters, that it reads from: of others, nothing is said.

    `tree` is what DuckDB's json_serialize_sql gives for one SELECT. `params` are as for `SqlLake.sql`. What a query
    calls today may be a day more or less: it is what the day is in any zone.
    """
    reading = _Reading(tree, frozenset(names), _values(params), today)
    reading.visit(tree)
    if reading.is_unknown:
        return dict.fromkeys(names, EVERYTHING)
    return {name: frozenset(places) for name, places in reading.places.items()}


def _values(params: object) -> dict[str, object]:
    """Parameters by what the tree calls them."""
    if isinstance(params, Mapping):
        return dict(params)
    if isinstance(params, Sequence):
        return {str(at): value for at, value in enumerate(params, 1)}
    return {}


class _Reading:
    def __init__(self, tree: Tree, names: frozenset[str], params: Mapping[str, object], today: dt.date) -> None:
        self._tree = tree
        self._names = names
        self._params = params
        self._today = today
        self.places: dict[str, set[Place]] = {}
        # A CTE of the query has such a name, wherever it is in scope, or something reads tables by what it is given.
        self.is_unknown = False

    def visit(self, part: Any) -> None:
        if isinstance(part, list):
            for each in part:
                self.visit(each)
        elif isinstance(part, dict) and part.get("class") not in _LEAVES:
            if part.get("type") == "BASE_TABLE":
                self._name(part, (), None)
            if "cte_map" in part:
                named = [entry["key"] for entry in part["cte_map"]["map"]] + [part.get("cte_name", "")]
                self.is_unknown |= any(name.lower() in self._names for name in named)
            if part.get("type") == "TABLE_FUNCTION":
                self.is_unknown |= part["function"]["function_name"].lower() in _OF_NAMES
            if part.get("type") == "SELECT_NODE":
                tests = () if part["sample"] else tuple(self._tests(part["where_clause"]))
                self._source(part["from_table"], tests, None)
                part = {name: value for name, value in part.items() if name != "from_table"}
            self.visit(list(part.values()))

    def _source(self, source: Tree, tests: Sequence[tuple[str, Within]], shared: Collection[str] | None) -> None:
        """What stands behind FROM. `tests` with what their columns are qualified by; `shared` are the columns that may
        go without: None for all of a single table, else what all that are joined have in common."""
        if source["type"] == "BASE_TABLE":
            self._name(source, tests, shared)
        elif source["type"] == "JOIN":
            using = {name.lower() for name in source["using_columns"]}
            shared = using if shared is None else using.intersection(shared)
            is_inner = source["join_type"] == "INNER" and source["ref_type"] in _OF_BOTH
            of_left = source["join_type"] in _OF_LEFT and source["ref_type"] != "POSITIONAL"
            self._source(source["left"], tests if of_left else (), shared)
            self._source(source["right"], tests if is_inner else (), shared)
            self.visit(source["condition"])
        else:
            self.visit(source)

    def _name(self, source: Tree, tests: Sequence[tuple[str, Within]], shared: Collection[str] | None) -> None:
        *where, name = (part.lower() for part in source["qualified_name"]["path"])
        if name not in self._names:
            return
        plain = not (where or source["sample"] or source["at_clause"] or source["column_name_alias"])
        alias = (source["alias"] or name).lower()
        own = frozenset(
            test
            for qualifier, test in tests
            if plain and (qualifier == alias or (not qualifier and (shared is None or test.column in shared)))
        )
        self.places.setdefault(name, set()).add(Place(own))

    def _tests(self, condition: Tree | None) -> Iterator[tuple[str, Within]]:
        """What the condition says of partition columns, with what each is qualified by."""
        if condition is None:
            return
        if condition["type"] == "CONJUNCTION_AND":
            for each in condition["children"]:
                yield from self._tests(each)
            return
        for column, ranges in self._compared(condition):
            *qualifiers, name = (part.lower() for part in column.get("column_names", [""]))
            if name not in PARTITION_COLUMNS or len(qualifiers) > 1:
                continue
            found = [each for constant in ranges if (each := self._range(constant, name)) is not None]
            if len(found) == len(ranges):
                yield "".join(qualifiers), Within(name, tuple(found))

    def _compared(self, condition: Tree) -> Iterable[tuple[Tree, list[tuple[Tree | None, Tree | None]]]]:
        """What is compared, and the lowest and highest constants of the ranges; None for none."""
        kind = condition["type"]
        if kind == "COMPARE_BETWEEN":
            return [(condition["input"], [(condition["lower"], condition["upper"])])]
        if kind == "COMPARE_IN":
            column, *constants = condition["children"]
            return [(column, [(each, each) for each in constants])]
        if kind in _FLIPPED:
            left, right = condition["left"], condition["right"]
            return [(left, [_bounds(kind, right)]), (right, [_bounds(_FLIPPED[kind], left)])]
        return ()

    def _range(self, constants: tuple[Tree | None, Tree | None], column: str) -> Range | None:
        lowest, highest = constants
        least = (_LEAST, _LEAST) if lowest is None else self._constant(lowest, column)
        most = (_MOST, _MOST) if highest is None else self._constant(highest, column)
        return None if least is None or most is None else (least[0], most[1])

    def _constant(self, tree: Tree, column: str) -> Range | None:
        """What a constant may be as text; None if that is not known."""
        kind = tree["type"]
        if kind == "VALUE_CONSTANT" and tree["literal"].get("kind") == "STRING":
            return _text_range(tree["literal"]["text"], column)
        if kind == "VALUE_PARAMETER":
            return _text_range(self._params.get(tree["identifier"]), column)
        if column != "date":
            return None
        if kind == "OPERATOR_CAST" and [part.lower() for part in tree["type_expr"]["qualified_name"]["path"]] == [
            "date"
        ]:
            return self._constant(tree["child"], column)
        names = tree.get("column_names") if kind == "COLUMN_REF" else [tree.get("function_name")]
        is_named = names and len(names) == 1 and str(names[0]).lower() in _TODAY
        if is_named and (kind == "FUNCTION" or self._today_is_no_column):
            return str(self._today - _ONE_DAY), str(self._today + _ONE_DAY)
        return None

    @cached_property
    def _today_is_no_column(self) -> bool:
        """Whether nothing that the query reads or makes can have a column of such a name, which would come first."""
        ctes: set[str] = set()
        todo: list[Any] = [self._tree]
        tables: set[str] = set()
        while todo:
            part = todo.pop()
            if isinstance(part, list):
                todo += part
            elif isinstance(part, dict):
                if part.get("type") == "TABLE_FUNCTION":
                    return False
                if part.get("type") == "BASE_TABLE":
                    tables.add(".".join(part["qualified_name"]["path"]).lower())
                if "cte_map" in part:
                    ctes.update(entry["key"].lower() for entry in part["cte_map"]["map"])
                todo += [value for name, value in part.items() if name not in ("column_names", "function_name")]
            elif isinstance(part, str) and part.lower() in _TODAY:
                return False
        return tables <= self._names | ctes


def _bounds(kind: str, constant: Tree) -> tuple[Tree | None, Tree | None]:
    lowest = None if kind.startswith("COMPARE_LESS") else constant
    return lowest, None if kind.startswith("COMPARE_GREATER") else constant


def _text_range(value: object, column: str) -> Range | None:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime) and column == "date":
        value = value.isoformat()
    if not isinstance(value, str) or (column == "date" and not _DATE.fullmatch(value)):
        return None
    return value, value
