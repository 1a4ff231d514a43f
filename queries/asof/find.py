"""What symbols are, by the instrument lists of days: all of it, a part, or nothing, and then what looks like it."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from queries.history import Moment, Resolved, Symbol, Symbols, lists_in_force, moments_of, near_matches, resolve
from queries.lake import LakeState, Result, quoted
from storage.clock import IST
from storage.schema import INSTRUMENTS

FOUND: Final = "found"
IN_PART: Final = "in part"
NOT_FOUND: Final = "not found"

_LINES: Final = 40
_DETAILS: Final = tuple(
    name for name in INSTRUMENTS.schema.names if name not in ("date", "symbol", "instrument_token", "last_price")
)
_SCHEMA: Final = pa.schema(
    [
        ("place", pa.int64()),
        ("asked", pa.string()),
        ("outcome", pa.string()),
        ("days", pa.list_(pa.date32())),
        ("near_matches", pa.list_(pa.string())),
        ("instrument_token", pa.int64()),
        ("symbol", pa.string()),
        ("listed", pa.date32()),
    ]
)


@dataclass(frozen=True)
class Found:
    """What `find` found. Each of `found`, `in_part` and `not_found` is of what was asked for, as it was asked.

    `in_part` is what is something on some of the days only. `rows` is a Result with a row for each instrument, and one
    for what was not found: asked, outcome, the days of those asked for on which it is anything, symbol,
    instrument_token, near_matches, and the columns of the newest list of these days that has the instrument.
    """

    days: tuple[dt.date, ...]
    found: tuple[Symbol, ...]
    in_part: tuple[Symbol, ...]
    not_found: tuple[Symbol, ...]
    rows: Result = field(repr=False, compare=False)
    _lines: tuple[str, ...] = field(repr=False, compare=False)

    def __repr__(self) -> str:
        more = len(self._lines) - _LINES
        return "\n".join([*self._lines[:_LINES], *([f"… and {more} more"] if more > 0 else [])])


@dataclass(frozen=True)
class _Answer:
    """What one thing is. `instruments` are (token, symbol) with the day of the newest list that has them."""

    asked: Symbol
    days: tuple[dt.date, ...]
    instruments: dict[tuple[int, str], dt.date]
    outcome: str
    near: list[str]

    def line(self, width: int, days: int) -> str:
        if not self.instruments:
            what = f"; near it: {', '.join(self.near)}" if self.near else ""
        elif len(self.instruments) == 1:
            ((token, symbol),) = self.instruments
            what = f": {symbol}, token {token}"
        else:
            what = f": {len(self.instruments)} instruments"
        if self.outcome == IN_PART:
            what += f"; on {len(self.days)} of {days} days, from {self.days[0]} to {self.days[-1]}"
        return f"{self.asked!s:{width}}  {self.outcome}{what}"


def find(state: LakeState, symbols: Symbols, day: Moment | Sequence[Moment] | None) -> Found:
    """What they are on the day, or the days, or today. Raises MomentError, and SymbolError for what is no symbol."""
    moments = [dt.datetime.now(IST)] if day is None else moments_of(day, "day")
    days = sorted({each.date() for each in moments})
    lists = lists_in_force(state, days)
    selection = resolve(state, symbols, days)
    listed = _listed(state, sorted(set(lists.values())), selection.tokens)
    answers = [_answer(state, each, listed, lists, days) for each in selection.resolved]
    width = max(len(str(each.asked)) for each in answers)
    by_outcome = {
        outcome: tuple(each.asked for each in answers if each.outcome == outcome)
        for outcome in (FOUND, IN_PART, NOT_FOUND)
    }
    return Found(
        tuple(days),
        by_outcome[FOUND],
        by_outcome[IN_PART],
        by_outcome[NOT_FOUND],
        rows=_rows(state, answers),
        _lines=tuple(each.line(width, len(days)) for each in answers),
    )


def _listed(state: LakeState, lists: Sequence[dt.date], tokens: Sequence[int]) -> dict[int, list[tuple[str, dt.date]]]:
    """By token the symbols that it has in these lists, and each one's day; ascending by day."""
    found = state.sql(
        """
        SELECT instrument_token, symbol, date FROM instruments
        WHERE date IN (SELECT unnest($lists)) AND instrument_token IN (SELECT unnest($tokens)) ORDER BY date
        """,
        {"lists": list(lists), "tokens": list(tokens)},
    ).arrow()
    by_token: dict[int, list[tuple[str, dt.date]]] = {}
    for token, symbol, day in zip(*(column.to_pylist() for column in found.columns), strict=True):
        by_token.setdefault(token, []).append((symbol, day))
    return by_token


def _answer(
    state: LakeState,
    resolved: Resolved,
    listed: Mapping[int, list[tuple[str, dt.date]]],
    lists: Mapping[dt.date, dt.date],
    days: Sequence[dt.date],
) -> _Answer:
    asked = resolved.asked
    instruments = {
        (token, symbol): day
        for token, name in resolved.instruments
        for symbol, day in listed.get(token, ())
        if name in (None, symbol)
    }
    if isinstance(asked, int):  # it resolves wherever there is a list
        there = {day for _, day in listed.get(asked, ())}
        held = tuple(day for day in days if lists.get(day) in there)
    else:
        held = tuple(sorted(resolved.days))
    near = [] if held or not isinstance(asked, str) else near_matches(state, asked, days[-1])
    return _Answer(asked, held, instruments, FOUND if len(held) == len(days) else IN_PART if held else NOT_FOUND, near)


def _rows(state: LakeState, answers: Sequence[_Answer]) -> Result:
    rows: list[tuple[object, ...]] = []
    for place, each in enumerate(answers):
        fixed = (place, str(each.asked), each.outcome, list(each.days), each.near)
        rows += [(*fixed, *pair, day) for pair, day in each.instruments.items()] or [(*fixed, None, None, None)]
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)]
    view = state.rows_view("found", pa.Table.from_arrays(arrays, schema=_SCHEMA)).name
    details = ", ".join(f"instruments.{quoted(name)}" for name in _DETAILS)
    return state.sql(
        f"""
        SELECT asked, outcome, days, found.symbol, found.instrument_token, {details}, near_matches
        FROM {view} AS found LEFT JOIN instruments ON instruments.date = found.listed
            AND instruments.instrument_token = found.instrument_token AND instruments.symbol = found.symbol
        ORDER BY place, found.symbol, found.instrument_token
        """
    )
