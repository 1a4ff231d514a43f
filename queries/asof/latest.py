"""The last row of each instrument as of moments: what a strategy that looked then had received that day.

A row counts from the instant at which it was received, that instant included, and until the end of its IST day: no
price of yesterday is shown today. Of rows received in the same microsecond the last is the later in its stream.

It takes two passes. The first reads instrument and time alone and finds when each instrument's last row was received;
the second reads the other columns, of those rows only. So it costs little more to ask for all columns. Of all
instruments, the first pass looks into the last minutes, where most of them are, and into the rest of the day for the
others alone.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pyarrow as pa

from queries.history import (
    COLUMNS,
    SQL_MOMENT,
    Moment,
    Symbols,
    chosen,
    known_columns,
    moments_of,
    overloads,
    sql_moment,
)
from queries.lake import LakeState, Result, among, quoted
from storage.clock import IST
from storage.schema import TICKS

RECENT: Final = dt.timedelta(minutes=5)
_LATER_LAST: Final = "ORDER BY stream DESC, seq DESC"


@dataclass(frozen=True)
class Asked:
    """Moments, each once and ascending, and the SQL condition for rows of ticks that may be the last as of one.

    `recent` is one more condition, which most last rows meet, and the name of rows with all instruments of the day;
    None where it is not worth while to look there first.
    """

    moments: tuple[dt.datetime, ...]
    where: str
    recent: tuple[str, str] | None = None

    @classmethod
    def of(
        cls, state: LakeState, symbols: Symbols | None, moment: Moment | Sequence[Moment] | None, also: str = "true"
    ) -> Self:
        """Of all instruments if `symbols` is None; as of now if `moment` is. `also` is one more condition for a row.

        Raises MomentError, SymbolError.
        """
        several = [dt.datetime.now(IST)] if moment is None else moments_of(moment, "moment")
        moments = tuple(sorted(set(several)))
        days = sorted({each.date() for each in moments})
        parts = [among(days), f"received_at <= {sql_moment(moments[-1])}", also]
        recent = None
        if symbols is not None:
            parts.append(chosen(state, symbols, days).where())
        elif len(moments) == 1 and (until := state.views[TICKS.name].source.received_until(days[0])):
            since = f"received_at > {sql_moment(min(until, moments[0]) - RECENT)}"
            recent = since, state.rows_view("instruments", _instruments(state, days[0])).name
        return cls(moments, " AND ".join(f"({part})" for part in parts), recent)

    def rows_sql(self, columns: str) -> str:
        """The SELECT of the rows: `as_of`, and these columns of ticks."""
        if len(self.moments) == 1:
            moment = sql_moment(self.moments[0])
            if self.recent is None:
                return last_rows_sql(self.where, columns, moment)
            where = f"{self.where} AND received_at >= (SELECT min(received_at) FROM newest)"
            return last_rows_sql(where, columns, moment, self._newest_of_all(*self.recent))
        values = ", ".join(f"({sql_moment(each)}, DATE '{each.date()}')" for each in self.moments)
        # Each row is put to the first moment that knows it, and what a moment has none of comes from the one before.
        return f"""
        WITH moments(as_of, day) AS (VALUES {values}), placed AS MATERIALIZED (
            SELECT as_of, day, instrument_token, max(received_at) AS received_at
            FROM (SELECT date, instrument_token, received_at FROM ticks WHERE {self.where}) AS rows
            ASOF JOIN moments ON rows.date = moments.day AND rows.received_at <= moments.as_of
            GROUP BY as_of, day, instrument_token
        ), newest AS MATERIALIZED (
            SELECT as_of, instrument_token, max(received_at) OVER (
                PARTITION BY day, instrument_token ORDER BY as_of
            ) AS received_at
            FROM moments JOIN (SELECT DISTINCT day, instrument_token FROM placed) USING (day)
            LEFT JOIN placed USING (as_of, day, instrument_token)
        )
        SELECT as_of, {columns} FROM (FROM ticks WHERE {self.where}) AS ticks
        JOIN newest USING (instrument_token, received_at)
        QUALIFY row_number() OVER (PARTITION BY as_of, instrument_token {_LATER_LAST}) = 1
        """

    def _newest_of_all(self, recent: str, every: str) -> str:
        """The CTE `newest` and those before it."""
        return f"""
        recent AS MATERIALIZED ({_newest(f"{self.where} AND {recent}")}),
        others AS MATERIALIZED (FROM {every} ANTI JOIN recent USING (instrument_token)),
        newest AS MATERIALIZED (
            FROM recent UNION ALL
            {_newest(f"{self.where} AND instrument_token IN (SELECT instrument_token FROM others)")}
        )
        """


def _instruments(state: LakeState, day: dt.date) -> pa.Table:
    """The instrument_token of each instrument that has ticks of the day; perhaps of others, of which none are found.

    To ask the committed ticks for them costs a quarter of what the rest does, so it is done once for the same files.
    """
    source = state.views[TICKS.name].source
    files = tuple(path for values, paths in source.parts.items() if values[0] == str(day) for path in paths)

    def look() -> frozenset[int]:
        (found,) = state.read([f"SELECT DISTINCT instrument_token FROM ticks_all WHERE date = DATE '{day}'"])
        return frozenset(found["instrument_token"].to_pylist())

    tokens = state.remembered_at(files, "instruments of a day", day, look)
    every = np.array(sorted(tokens | source.live_instruments(day)), np.int64)
    # `pa.array` would import pandas where that is installed, which takes longer than all of this.
    column = pa.Array.from_buffers(pa.int64(), len(every), [None, pa.py_buffer(every)])
    return pa.Table.from_arrays([column], ["instrument_token"])


def last_rows_sql(where: str, columns: str, moment: str, newest: str | None = None) -> str:
    """The SELECT of the last row of each instrument among rows of ticks of one day: `as_of` and these columns.

    `where` chooses the rows, those of later moments not among them; `moment` is only shown. `newest` is the CTE of when
    each instrument's last row was received, with those that it needs.
    """
    return f"""
    WITH {newest or f"newest AS MATERIALIZED ({_newest(where)})"}
    SELECT {moment} AS as_of, {columns} FROM (FROM ticks WHERE {where}) AS ticks
    SEMI JOIN newest USING (instrument_token, received_at)
    QUALIFY row_number() OVER (PARTITION BY instrument_token {_LATER_LAST}) = 1
    """


def _newest(where: str) -> str:
    return (
        f"SELECT instrument_token, max(received_at) AS received_at FROM ticks WHERE {where} GROUP BY instrument_token"
    )


def macro_rows_sql(columns: str, which: str, also: str = "true") -> str:
    """The same for a macro with the parameter `moment`; `which` chooses instruments."""
    day = f"timezone('Asia/Kolkata', {SQL_MOMENT})::DATE"
    where = f"date = {day} AND received_at <= {SQL_MOMENT} AND ({also}) AND {which}"
    return last_rows_sql(where, columns, f"({SQL_MOMENT})")


def latest(
    state: LakeState,
    symbols: Symbols | None,
    moment: Moment | Sequence[Moment] | None,
    columns: Sequence[str] | None,
) -> Result:
    """Last rows as of the moments. Raises SymbolError, MomentError; QueryError for a column that ticks has not."""
    shown = ", ".join(map(quoted, known_columns(columns)))
    rows = Asked.of(state, symbols, moment).rows_sql("ticks.*")
    return state.sql(f"SELECT as_of AS moment, {shown} FROM ({rows}) ORDER BY symbol, as_of, instrument_token")


_SHOWN: Final = (
    f"SELECT as_of AS moment, {', '.join(map(quoted, COLUMNS))} FROM ({{rows}}) ORDER BY symbol, instrument_token"
)

OVERLOADS: Final = (
    ("moment := NULL", _SHOWN.replace("{rows}", macro_rows_sql("ticks.*", "true"))),
    *overloads("moment := NULL", _SHOWN.replace("{rows}", macro_rows_sql("ticks.*", "{which}"))),
)
