"""The captured ticks of instruments, as they came."""

from collections.abc import Sequence

from queries.errors import QueryError
from queries.history.macro import ORDER
from queries.history.moments import TimeRange
from queries.history.naming import Symbols
from queries.history.symbols import chosen, days_of
from queries.lake import LakeState, Result, quoted
from storage.schema import TICKS

COLUMNS = (*TICKS.schema.names, "source_since")
"""What rows of the view `ticks` have."""


def ticks(state: LakeState, symbols: Symbols, when: TimeRange, columns: Sequence[str] | None) -> Result:
    """Rows of the view `ticks`, by symbol and time. Raises SymbolError; QueryError for a column that it has not."""
    selection = chosen(state, symbols, days_of(state, when))
    names = ", ".join(map(quoted, known_columns(columns)))
    return state.sql(
        f"SELECT {names} FROM ticks WHERE {selection.where()} AND {when.where()} ORDER BY {ORDER}, instrument_token"
    )


def known_columns(columns: Sequence[str] | None) -> Sequence[str]:
    """These, or all for None. Raises QueryError for none at all, and for what `ticks` has not."""
    if columns is None:
        return COLUMNS
    wanted = [columns] if isinstance(columns, str) else list(columns)
    if unknown := [name for name in wanted if name not in COLUMNS]:
        raise QueryError(f"columns: got {', '.join(map(repr, unknown))}, expected some of {', '.join(COLUMNS)}")
    if not wanted:
        raise QueryError(f"columns: got an empty list, expected some of {', '.join(COLUMNS)}; None for all")
    return wanted
