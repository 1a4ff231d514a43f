"""What can be named in a lake's SQL: tables and views with their columns, macros with their parameters, symbols."""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kitelake.errors import KitelakeError
from kitelake.lake import Lake
from queries.history import lists_in_force
from queries.lake import Macro, quoted
from storage.clock import IST


@dataclass(frozen=True)
class Names:
    """`relations` have the type of each column by its name, `macros` what they are called with, an overload each;
    `symbols` are sorted."""

    relations: Mapping[str, Mapping[str, str]]
    macros: Mapping[str, Sequence[str]] = field(default_factory=dict)
    symbols: Sequence[str] = ()

    def parameters(self, macro: str) -> list[str]:
        """What a macro's parameters may be named by: those with a default."""
        found = re.findall(r"(\w+) :=", ", ".join(self.macros.get(macro, ())))
        return list(dict.fromkeys(found))


class Vocabulary:
    """The names of a lake as of now, each kind looked up when it is first asked for."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._relations: dict[str, dict[str, str]] = {}
        self._symbols: tuple[dt.date | None, list[str]] = None, []
        self._macros = signatures(lake.macros)

    def forget(self) -> None:
        """Something was said that may have made or dropped a table."""
        self._relations = {}

    def names(self, *, symbols: bool) -> Names:
        """The names, with or without those of instruments, of which there may be 100,000."""
        self._relations = self._relations or relations_of(self._lake)
        return Names(self._relations, self._macros, self._symbols_in_force() if symbols else ())

    def _symbols_in_force(self) -> list[str]:
        state = self._lake.look()
        today = dt.datetime.now(IST).date()
        listed = lists_in_force(state, [today]).get(today)
        if listed is None:
            return []
        if self._symbols[0] != listed:
            rows = state.sql("SELECT DISTINCT symbol FROM instruments WHERE date = $day", {"day": listed}).arrow()
            self._symbols = listed, sorted(rows.column(0).to_pylist())
        return self._symbols[1]


def relations_of(lake: Lake) -> dict[str, dict[str, str]]:
    """The columns of each relation; also of what the user made, where the lake tells of it."""
    try:
        rows = lake.sql("SHOW ALL TABLES").arrow().to_pylist()
    except KitelakeError:
        rows = []  # a restricted lake, in which nobody makes anything
    listed = {
        row["name"]: dict(zip(row["column_names"], row["column_types"], strict=True))
        for row in rows
        if row["schema"] == "main"
    }
    return {name: listed.get(name) or columns_of(lake, name) for name in sorted({*lake.tables, *listed})}


def columns_of(lake: Lake, relation: str) -> dict[str, str]:
    """The types of a relation's columns by their names. Raises QueryError if there is no such relation."""
    rows = lake.sql(f"DESCRIBE {quoted(relation)}").arrow()
    return dict(zip(rows.column("column_name").to_pylist(), rows.column("column_type").to_pylist(), strict=True))


def signatures(macros: Iterable[Macro]) -> dict[str, list[str]]:
    """What each macro is called with."""
    return {macro.name: [parameters for parameters, _ in macro.overloads] for macro in macros}
