"""What is to be exported, as SELECTs over a lake: one a table and partition, so that no sort is larger than that.

Symbols choose rows of `ticks` and `orders`. Instrument lists are whole, since what a list says of one instrument may
depend on others of it: whether a share has derivatives, say. Events and quarantined bytes are of no instrument. Events
are those of whole days, and of the day before: what bars are made by.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from queries.errors import QueryError
from queries.history import ORDER, Symbols, TimeRange, chosen, days_of, known_columns, lists_in_force
from queries.lake import LakeState, literal, quoted, with_before
from storage import schema
from storage.market import exchange_of_token

TABLES: Final = ("ticks", "instruments", "events")
"""What is exported if nothing is said: what macros need. Orders are nobody else's business."""


@dataclass(frozen=True)
class Choice:
    """What is asked for. `symbols` None: all; `columns` are of `ticks`, None: all.

    Raises QueryError for tables that there are not, and for columns that `ticks` has not.
    """

    when: TimeRange
    symbols: Symbols | None = None
    columns: Sequence[str] | None = None
    tables: Sequence[str] = TABLES

    def __post_init__(self) -> None:
        unknown = [name for name in self.tables if name not in schema.TABLES]
        if unknown or not self.tables:
            got = ", ".join(map(repr, unknown)) or "an empty list"
            raise QueryError(f"tables: got {got}, expected some of {', '.join(schema.TABLES)}")
        known_columns(self.columns)

    def names(self, table: str) -> Sequence[str]:
        """The columns of a table, in their order."""
        return list(dict.fromkeys(known_columns(self.columns))) if table == "ticks" else _spec(table).schema.names


@dataclass(frozen=True)
class Part:
    """One partition of a table: its values by the names of the partition columns, and the SELECT of its rows."""

    table: str
    values: dict[str, str]
    query: str

    def select(self, expressions: Sequence[str]) -> str:
        """These expressions of its rows, in their order."""
        return f"SELECT {', '.join(expressions)} {self.query}"


def parts_of(state: LakeState, choice: Choice) -> list[Part]:
    """In the order of tables and days. Raises SymbolError for what is no symbol."""
    days = days_of(state, choice.when)
    selection = None if choice.symbols is None else chosen(state, choice.symbols, days)
    exchanges = None if selection is None else set(map(exchange_of_token, selection.tokens))
    noted = set(with_before(choice.when.days(state.dates("ticks"))))
    lists = {*lists_in_force(state, days).values(), *choice.when.days(state.dates("instruments"))}

    def parts(table: str) -> Iterator[Part]:
        spec = _spec(table)
        for values in sorted(state.partitions(table)):
            named = dict(zip(spec.partition_by, values, strict=True))
            if _is_asked_for(table, named):
                yield Part(table, named, _query(table, named))

    def _is_asked_for(table: str, named: dict[str, str]) -> bool:
        day = dt.date.fromisoformat(named["date"])
        if table in ("instruments", "events"):
            return day in (lists if table == "instruments" else noted)
        return bool(choice.when.days([day])) and (exchanges is None or named.get("exchange", "") in {"", *exchanges})

    def _query(table: str, named: dict[str, str]) -> str:
        here = " AND ".join(f"{quoted(name)} = {literal(value)}" for name, value in named.items())
        if table == "instruments":
            return f"FROM instruments WHERE {here} ORDER BY symbol, instrument_token"
        order = "received_at, stream, record"
        if table == "events":
            return f"FROM events WHERE {here} ORDER BY {order}"
        where = f"{here} AND {choice.when.where()}"
        if table == "ticks":
            which = "" if selection is None else f" AND {selection.where()}"
            return f"FROM ticks WHERE {where}{which} ORDER BY {ORDER}, instrument_token"
        if table == "orders" and selection is not None:
            named_so = "(SELECT *, concat(exchange, ':', tradingsymbol) AS symbol FROM orders)"
            return f"FROM {named_so} WHERE {where} AND ({selection.which()}) ORDER BY {order}"
        return f"FROM {table} WHERE {where} ORDER BY {order}"

    return [part for table in dict.fromkeys(choice.tables) for part in parts(table)]


def _spec(table: str) -> schema.Table:
    return schema.TABLES[table]
