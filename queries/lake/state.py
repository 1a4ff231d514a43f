"""One state of a lake, and what it knows by name beside its tables: relations over them, and table macros.

A relation is SQL over tables and other relations, or rows that Python works out from a state of the lake. Both are
named in queries as tables are, and a query that names one, or a macro whose body does, sees the same state through all.
"""

import datetime as dt
import math
import re
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import duckdb
import pyarrow as pa

from queries.arguments import number_of
from queries.errors import QueryError
from queries.lake.forms import tables_to_html
from queries.lake.result import Result
from queries.lake.statements import fixed_text, quoted
from queries.lake.views import FEW_FILES, Fixed, RowsView, View, Views, create_rows, create_view, open_duckdb
from queries.partitions import EVERYTHING, Asked, asked_of, chosen
from storage.clock import ist_date

Parameters = Sequence[object] | Mapping[str, object] | None
Overloads = Sequence[tuple[str, str]]
"""Of a table macro: the parameters of each, as `symbols VARCHAR, start := NULL`, and its SELECT."""
Known = TypeVar("Known")

KEPT: Final = 64


@dataclass(frozen=True)
class Relation:
    """`make` gives its SELECT or its rows in a state, as far as they are of some days, those of the lake's ticks or of
    fewer; `uses` are the names that the former may have in it.

    `first` is a SELECT that stands for it in the catalog of a lake of which no query has named it yet. It `keeps`
    partitions of those that it uses of which a row has no part but in rows of its own date and exchange.
    """

    name: str
    make: "Callable[[LakeState, Sequence[dt.date]], str | pa.Table]"
    uses: frozenset[str] = frozenset()
    first: str | None = None
    keeps: frozenset[str] = frozenset()

    @classmethod
    def view(cls, name: str, text: str) -> "Relation":
        """One whose SELECT is the same in each state, and of each row by itself."""
        return cls(name, lambda *_: text, words(text), text, words(text))


@dataclass(frozen=True)
class Macro:
    """A table macro. `make` gives its overloads, when they are first needed."""

    name: str
    make: Callable[[], Overloads]

    @cached_property
    def overloads(self) -> Overloads:
        """See `Overloads`."""
        return self.make()

    @cached_property
    def uses(self) -> frozenset[str]:
        """The names in its bodies."""
        return frozenset().union(*(words(body) for _, body in self.overloads))

    def create(self, place: str = "memory.main") -> str:
        """The statement that makes it in a schema."""
        overloads = ", ".join(f"({parameters}) AS TABLE ({body})" for parameters, body in self.overloads)
        return f"CREATE OR REPLACE MACRO {place}.{self.name}{overloads}"


def words(text: str) -> frozenset[str]:
    """What may be a name in SQL, in small letters."""
    return frozenset(re.findall(r"\w+", text.lower()))


def called(text: str) -> frozenset[str]:
    """What may be a name of a macro that SQL calls, in small letters: it comes before a parenthesis or a comment."""
    # Without going back over what was read, which takes minutes of one long word.
    return frozenset(re.findall(r"(?<!\w)(\w++)\"?\s*+(?:\(|--|/\*)", text.lower()))


def needed(named: Collection[str], relations: Iterable[Relation], macros: Iterable[Macro]) -> set[str]:
    """The names out of `named` and, of relations and macros among them, those that they use, and so on."""
    by_name: dict[str, list[Relation | Macro]] = {}
    everything: list[Relation | Macro] = [*relations, *macros]
    for one in everything:  # a macro may have the name of a table or a relation
        by_name.setdefault(one.name, []).append(one)
    found: set[str] = set()
    todo = set(named)
    while todo:
        found |= todo
        todo = {name for each in todo for one in by_name.get(each, ()) for name in one.uses} - found
    return found


def values_of(params: Parameters) -> list[object] | dict[str, object] | None:
    """Parameters as DuckDB takes them. Raises QueryError for a text."""
    if params is None:
        return None
    if isinstance(params, str | bytes) or not isinstance(params, Iterable):
        raise QueryError(f"params: got {type(params).__name__}, expected a list or a dict")
    return dict(params) if isinstance(params, Mapping) else list(params)


def seconds_of(timeout: float | None) -> float | None:
    """The same. Raises QueryError if it is no length of time."""
    if timeout is None:
        return None
    seconds = number_of(timeout)
    if seconds is None or not 0 < seconds < math.inf:
        raise QueryError(f"timeout: got {timeout!r}, expected seconds above 0, such as 30.0")
    return seconds


class LakeState:
    """What `SqlLake.look` returns. `root` is the data folder, `views` the state of each table by the table's name."""

    def __init__(
        self,
        root: Path,
        views: Mapping[str, View],
        relations: Sequence[Relation],
        macros: Sequence[Macro],
        *,
        run: "Callable[[str, Parameters, LakeState, float | None], Result]",
        read: "Callable[[Iterable[str], bool, LakeState], Iterator[pa.Table]]",
        result_of: "Callable[[pa.Table, LakeState], Result]",
        view_of: Callable[[str, pa.Table], RowsView],
        tables: Views,
        memo: dict[str, dict[Any, Any]],
    ) -> None:
        """`run` runs a SELECT over a state, `read` several; `result_of` and `view_of` make a result and a view of rows.

        `tables` is where `views` are from. `memo` is the database's, for what was worked out of earlier states: see
        `remembered`.
        """
        self.root = root
        self.views = views
        self._relations = {relation.name: relation for relation in relations}
        self._macros = macros
        self._run = run
        self._read = read
        self._result_of = result_of
        self._view_of = view_of
        self._tables = tables
        self.memo = memo
        self._kept: list[RowsView | View] = []
        self._texts: dict[tuple[str, Sequence[dt.date]], str] = {}

    def sql(self, query: str, params: Parameters = None, *, timeout: float | None = None) -> Result:
        """As `SqlLake.sql`, over this state. For one SELECT."""
        return self._run(query, params, self, timeout)

    def read(self, queries: Iterable[str], *, many: bool = False) -> Iterator[pa.Table]:
        """The rows of each of these SELECTs of ours over this state, one after the other, times in IST.

        What a helper reads to work on: each is planned once, which `sql(…).arrow()` does twice, and which is most of
        what a few rows cost. With `many` rows, that they are not copied counts for more; and the next are read while
        the caller works on these. A lake's timeout holds for all of them together. Raises as a result's fetch does.
        """
        return self._read(queries, many, self)

    def rows(self, rows: pa.Table) -> Result:
        """Rows worked out from this state, as a result."""
        return self._result_of(rows, self)

    def partitions(self, table: str) -> set[tuple[str, ...]]:
        """The values of the partitions in which the table has rows, in the order of its partition columns."""
        return self.views[table].source.partitions

    def dates(self, table: str) -> list[dt.date]:
        """The IST days of which the table has rows, ascending."""
        return sorted({dt.date.fromisoformat(values[0]) for values in self.partitions(table)})

    def html(self, title: str) -> str:
        """For notebooks: how many rows each table has, and of which days."""
        return tables_to_html(
            title, [(name, self.sql(f"FROM {name}").count(), self.dates(name)) for name in self.views]
        )

    def text(self, name: str, asked: Asked = EVERYTHING) -> str:
        """A relation's SELECT for the days that are asked for, made when it is first asked for."""
        there = sorted({(day,) for day, *_ in self.partitions("ticks")}) if "ticks" in self.views else []
        days = tuple(dt.date.fromisoformat(day) for (day,) in chosen(asked, ("date",), there))
        if (name, days) not in self._texts:
            made = self._relations[name].make(self, days)
            self._texts[name, days] = made if isinstance(made, str) else f"FROM {self.rows_view(name, made).name}"
        return self._texts[name, days]

    def rows_view(self, name: str, rows: pa.Table) -> RowsView:
        """Rows as a view, for the text of a relation: it lives as long as this state. `name` is for its name."""
        view = self._view_of(name, rows)
        self.keep(view)
        return view

    def remembered(self, what: str, key: Hashable, of: Sequence[str], make: Callable[[], Known]) -> Known:
        """What `make` gave for this key in an earlier state, if the tables `of` were as they are in this one; else what
        it gives now. So many answers are kept of each kind, the latest."""
        sources = [self.views[name].source for name in of]  # which are equal if they are the same
        return self.remembered_at(sources, what, key, make)

    def remembered_at(self, version: object, what: str, key: Hashable, make: Callable[[], Known]) -> Known:
        """The same, if `version` was equal to this one then."""
        memo = self.memo.setdefault(what, {})
        before, known = memo.pop(key, (None, None))
        if before != version:
            known = make()
        memo[key] = version, known
        if len(memo) > KEPT:
            memo.pop(next(iter(memo)), None)
        return cast("Known", known)

    def database(self, *, macros: bool) -> duckdb.DuckDBPyConnection:
        """A database of its own with the same views, and with the macros if they are wanted; the caller closes it."""
        con = open_duckdb()
        for view in self.views.values():
            create_view(con, view.source)

        def view_of(name: str, rows: pa.Table) -> RowsView:
            create_rows(con, name := f"kitelake_{name}", rows)
            return RowsView(quoted(name))

        relations = list(self._relations.values())
        theirs = LakeState(
            self.root,
            self.views,
            relations,
            self._macros,
            run=self._run,
            read=self._read,
            result_of=self._result_of,
            view_of=view_of,
            tables=self._tables,
            memo={},
        )
        for relation in relations:
            made = relation.make(theirs, theirs.dates("ticks"))
            if isinstance(made, str):
                con.execute(f"CREATE VIEW {quoted(relation.name)} AS {made}")
            else:
                create_rows(con, relation.name, made)
        for macro in self._macros if macros else ():
            con.execute(macro.create())
        return con

    def keep(self, view: RowsView | View) -> None:
        """Have the view live as long as this state."""
        self._kept.append(view)

    def fixed(
        self, query: str, params: object = None, *, without: Collection[str] = (), plainly: bool = False
    ) -> Fixed:
        """The SELECT with each name that it needs fixed to this state, in the order of their needs.

        Views of rows live as long as this state, so a result must keep it. `without` these names. `plainly`: it may
        reach what the plain names lead to as well, and anything in it.
        """
        names = needed(words(query), self._relations.values(), self._macros).difference(without)
        views = [view for view in self.views.values() if view.name_in_sql in names]
        files = [each for view in self.views.values() for each in view.files] if plainly else []
        asked: Mapping[str, Asked] = dict.fromkeys(names, EVERYTHING)
        if not plainly and any(len(view.source.files) > FEW_FILES for view in views):
            asked = self._asked(query, params)
            views = [self._tables.choose(view, asked.get(view.name_in_sql, frozenset())) for view in views]
            for view in views:
                self.keep(view)
        # Not materialised, because DuckDB would else read all of it when a query names it twice.
        relations = [
            f"{quoted(name)} AS NOT MATERIALIZED ({self.text(name, asked.get(name, frozenset()))})"
            for name in self._relations
            if name in names
        ]
        files += [each for view in views for each in view.files]
        if not plainly:  # the user may have locked the settings, or have made this one
            self._tables.suit(files)
        ctes = [view.cte() for view in views] + relations
        return Fixed(fixed_text(query, ctes), files, has_head=bool(ctes))

    def _asked(self, query: str, params: object) -> Mapping[str, Asked]:
        """What the query asks of each table and relation, by what it says and by what those that it names use."""
        names = {*self._relations, *(view.name_in_sql for view in self.views.values())}
        tree = self._tables.tree(query)
        if tree is None:
            return dict.fromkeys(names, EVERYTHING)
        asked = asked_of(tree, names, params, ist_date(time.time_ns()))
        calls = called(query)
        by_macros = {name for macro in self._macros if macro.name in calls for name in macro.uses}
        asked |= dict.fromkeys(needed(by_macros, self._relations.values(), self._macros), EVERYTHING)
        for relation in reversed(self._relations.values()):  # each before those that it uses
            if relation.name in asked:
                for name in relation.uses & names:
                    by_it = asked[relation.name] if name in relation.keeps else EVERYTHING
                    asked[name] = asked.get(name, frozenset()) | by_it
        return asked
