"""Rows that a user hands to a helper: a Result, an Arrow table, a data frame, columns, or SQL text."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from queries.arguments import number_of
from queries.errors import QueryError
from queries.history import sql_parameter
from queries.lake import LakeState, Result, quoted

Rows = Any
"""A Result, an Arrow table, a pandas or Polars frame, a mapping of columns, a SELECT, or the name of a table."""

_LONGEST: Final = 100 * 366 * 86_400
_NAME: Final = re.compile(r"\s*\w+\s*")
_WITH_ZONE: Final = "TIMESTAMP WITH TIME ZONE"
_TIMES: Final = re.compile(r'TIMESTAMP(_S|_MS|_NS)?|DATE|VARCHAR|"NULL"')  # the last of a column without a value


@dataclass(frozen=True)
class Source:
    """Rows as SQL: `text` is a SELECT, `columns` its names and the types that DuckDB has for them."""

    what: str
    text: str
    columns: dict[str, str]

    def has(self, names: Sequence[str]) -> None:
        """Raises QueryError unless these are columns."""
        if missing := [name for name in names if name not in self.columns]:
            raise QueryError(
                f"{self.what}: got columns {', '.join(self.columns)}, expected among them {', '.join(missing)}"
            )

    def instant(self, name: str) -> str:
        """The expression of a column of times: IST, unless they name a zone. Raises QueryError if it has none."""
        self.has([name])
        kind = self.columns[name]
        if kind == _WITH_ZONE:
            return quoted(name)
        if _TIMES.fullmatch(kind) is None:
            raise QueryError(f"{self.what}: got column {name} of type {kind}, expected times")
        return (
            sql_parameter(quoted(name)) if kind == "VARCHAR" else f"timezone('Asia/Kolkata', {quoted(name)}::TIMESTAMP)"
        )


def source_of(state: LakeState, rows: Rows, what: str) -> Source:
    """The rows in a state of the lake; SQL text is of that state. `what` is for errors. Raises QueryError."""
    if isinstance(rows, str):
        text = f"FROM {quoted(rows.strip())}" if _NAME.fullmatch(rows) else rows.strip().rstrip(";")
    else:
        text = f"FROM {state.rows_view('given', _table(rows, what)).name}"
    found = state.sql(f"SELECT * FROM (\n{text}\n)")
    return Source(what, text, dict(zip(found.columns, map(str, found.types), strict=True)))


def _table(rows: Rows, what: str) -> pa.Table:
    if isinstance(rows, Result):
        return rows.arrow()
    try:
        if isinstance(rows, Mapping):
            return pa.table(dict(rows))
        if hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__dataframe__"):
            return pa.table(rows)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise QueryError(f"{what}: not understood as a table: {error}") from error
    raise QueryError(
        f"{what}: got {type(rows).__name__}, expected a Result, an Arrow table, a data frame, a mapping of columns, "
        "or SQL text"
    )


def microseconds(value: object, what: str) -> int:
    """A length of time; a number is seconds. Raises QueryError for what is none."""
    if isinstance(value, dt.timedelta):
        return value // dt.timedelta(microseconds=1)
    seconds = number_of(value)
    if seconds is None or not abs(seconds) <= _LONGEST:  # NaN is neither
        raise QueryError(f"{what}: got {value!r}, expected seconds or a timedelta")
    return round(seconds * 1_000_000)
