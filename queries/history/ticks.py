"""The captured ticks of instruments, as they came."""

from collections.abc import Sequence

from queries.errors import QueryError
from queries.history.moments import TimeRange, sql_range
from queries.history.symbols import Symbols, chosen, days_of
from queries.lake import LakeState, Macro, Result, quoted
from storage.schema import TICKS

COLUMNS = (*TICKS.schema.names, "source_since")
"""What rows of the view `ticks` have."""
ORDER = "symbol, received_at, stream, seq"
"""How rows of ticks come: by symbol, then time, then as they were received."""


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


_PARAMETERS = "start := NULL, stop := NULL"


def overloads(parameters: str, body: str) -> Sequence[tuple[str, str]]:
    """A macro's for a name and for a list of names; `body` has {which} where rows of ticks are chosen.

    Files of other exchanges are skipped: rows of an instrument are in its own, in INDICES or in UNKNOWN. A name alone
    is compared by `=`, since `in` on a text would match parts of it.
    """
    parts = (
        ("symbols VARCHAR", "symbol = symbols AND exchange IN (split_part(symbols, ':', 1), 'INDICES', 'UNKNOWN')"),
        (
            "symbols VARCHAR[]",
            "symbol IN symbols AND (exchange IN ('INDICES', 'UNKNOWN')"
            " OR exchange IN list_transform(symbols, lambda name: split_part(name, ':', 1)))",
        ),
    )
    return [(f"{symbols}, {parameters}", body.replace("{which}", which)) for symbols, which in parts]


MACRO = Macro(
    "ticks", overloads(_PARAMETERS, f"SELECT * FROM ticks WHERE {{which}} AND {sql_range()} ORDER BY {ORDER}")
)
