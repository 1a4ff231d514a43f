"""One instrument's day beside the broker's candles, with what is known of both."""

import datetime as dt

import pyarrow as pa

from queries.bars import hours_sql, sessions_of
from queries.errors import SymbolError
from queries.history import Symbols, chosen, lists_in_force
from queries.lake import LakeState, Result, among
from queries.quality.compare import Differences, compare_bars
from storage.schema import TIMESTAMP


class Comparison:
    """Bars beside candles: a line, and the differences as rows (see `queries.quality.compare`)."""

    def __init__(self, rows: Result, found: Differences) -> None:
        self.rows = rows
        self.summary = found.summary
        self.reasons = found.reasons

    def __repr__(self) -> str:
        return f"{self.summary}\n{self.rows!r}" if self.reasons else self.summary


def comparison(
    state: LakeState,
    symbols: Symbols,
    date: dt.date,
    ours: pa.Table,
    theirs: pa.Table,
    gaps: pa.Table,
    width: dt.timedelta,
) -> Comparison:
    """The bars of a day beside candles as `read_candles` gives them. Raises SymbolError for several instruments."""
    session = _session_of(state, _one_token(state, symbols, date), date)
    found = compare_bars(
        ours,
        _named_by_session(theirs, width, session),
        gaps,
        width_us=width // dt.timedelta(microseconds=1),
        session=session,
    )
    return Comparison(state.sql(f"FROM {state.rows_view('differences', found.rows).name}"), found)


def _one_token(state: LakeState, symbols: Symbols, date: dt.date) -> int:
    found = chosen(state, symbols, [date]).tokens
    if len(found) > 1:
        raise SymbolError(f"symbol: got {symbols!r}, which is {len(found)} instruments, expected one")
    return found[0]


def _session_of(state: LakeState, token: int, date: dt.date) -> tuple[int, int] | None:
    """The continuous session of an instrument, in µs since 1970; None if it is not known."""
    sessions = state.rows_view("sessions", sessions_of(state, [date])).name
    lists = among(lists_in_force(state, [date]).values())
    rows = state.sql(
        f"SELECT opens_us, closes_us FROM ({hours_sql(sessions, lists, f'instrument_token = {token}')})"
    ).arrow()
    return (rows["opens_us"][0].as_py(), rows["closes_us"][0].as_py()) if len(rows) else None


def _named_by_session(candles: pa.Table, width: dt.timedelta, session: tuple[int, int] | None) -> pa.Table:
    """A day's candle is named by its midnight, our bar by the beginning of the session."""
    if width < dt.timedelta(days=1) or session is None:
        return candles
    return candles.set_column(0, "time", pa.array([session[0]] * len(candles), TIMESTAMP))
