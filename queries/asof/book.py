"""The book as of moments: the five best levels of both sides, as the last packet that carried them had them.

Only `full` packets of instruments that are traded carry a book. Where none was received on the moment's day up to the
moment there is no row: an index has none, nor has what was captured in `ltp` or `quote` mode. After a change to such a
mode the last book stays, and `received_at` says how old it is.
"""

from collections.abc import Sequence
from typing import Final

from queries.asof.latest import Asked, macro_rows_sql
from queries.history import Moment, Symbols, overloads
from queries.lake import LakeState, Result
from storage.schema import DEPTH_LEVELS

CARRIES_BOOK: Final = "mode = 'full' AND price_change IS NULL"
"""The condition for a row of ticks: only packets of indices have a `price_change`. (That the first bid is not null says
the same, but takes longer to read.)"""

_LEVELS: Final = range(1, DEPTH_LEVELS + 1)
_ORIGIN: Final = "received_at, exchange_timestamp, instrument_token, symbol"


def level_value(side: str, what: str, level: int) -> str:
    """The expression of a level's price, quantity or orders: null where the level is empty.

    An empty level's quantity is 0 in the packet. A price of 0 beside a quantity, before the open, is none.
    """
    name = f"{side}_{what}_{level}"
    value = f"nullif({name}, 0)" if what == "price" else name
    return f"CASE WHEN {side}_quantity_{level} > 0 THEN {value} END"


_WHATS: Final = ("price", "quantity", "orders")
_WIDE: Final = [(side, what, level) for level in _LEVELS for side in ("bid", "ask") for what in _WHATS]
_COLUMNS: Final = ", ".join([_ORIGIN, *(f"{side}_{what}_{level}" for side, what, level in _WIDE)])
_VALUES: Final = ", ".join(f"{level_value(*each)} AS {each[0]}_{each[1]}_{each[2]}" for each in _WIDE)
_BOOKS: Final = f"SELECT as_of AS moment, {_ORIGIN}, {_VALUES} FROM ({{rows}}) ORDER BY symbol, as_of, instrument_token"


def _book() -> str:
    """One row a level, laid out as a book is shown, the prices in the middle."""
    names = [("bid", "orders"), ("bid", "quantity"), ("bid", "price")]
    names += [("ask", "price"), ("ask", "quantity"), ("ask", "orders")]
    values = [
        ", ".join(f"'{side}_{what}': {level_value(side, what, level)}" for side, what in names) for level in _LEVELS
    ]
    levels = ", ".join(f"{{'level': {level}, {each}}}" for level, each in zip(_LEVELS, values, strict=True))
    shown = ", ".join(f"entry.{name} AS {name}" for name in ["level", *(f"{side}_{what}" for side, what in names)])
    return f"""
    SELECT as_of AS moment, {_ORIGIN}, {shown}
    FROM (SELECT as_of, {_ORIGIN}, unnest([{levels}]) AS entry FROM ({{rows}}))
    ORDER BY symbol, as_of, instrument_token, level
    """


_BOOK: Final = _book()


def book(state: LakeState, symbols: Symbols, moment: Moment | Sequence[Moment] | None) -> Result:
    """One row a level. Raises SymbolError, MomentError."""
    return _shown(_BOOK, state, symbols, moment)


def books(state: LakeState, symbols: Symbols, moment: Moment | Sequence[Moment] | None) -> Result:
    """One row a symbol and moment. Raises SymbolError, MomentError."""
    return _shown(_BOOKS, state, symbols, moment)


def _shown(text: str, state: LakeState, symbols: Symbols, moment: Moment | Sequence[Moment] | None) -> Result:
    rows = Asked.of(state, symbols, moment, CARRIES_BOOK).rows_sql(_COLUMNS)
    return state.sql(text.replace("{rows}", rows))


_ROWS: Final = macro_rows_sql(_COLUMNS, "{which}", CARRIES_BOOK)

BOOK_OVERLOADS: Final = overloads("moment := NULL", _BOOK.replace("{rows}", _ROWS))
BOOKS_OVERLOADS: Final = overloads("moment := NULL", _BOOKS.replace("{rows}", _ROWS))
