"""What instruments showed last, as of moments of a day: by receipt, and of that day only.

The last row says what holds, whatever its mode: what it does not carry is unknown, not what an earlier row had. Packets
that the exchange stamped on another day, as the first one after a subscription may be, tell nothing of this one.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.history import DATED_TICKS, sql_moment
from queries.lake import LakeState
from storage.clock import IST
from storage.market import exchange_of_token
from storage.memory import arrow_of, numpy_of

Floats = NDArray[np.float64]

RECENT: Final = dt.timedelta(minutes=5)
"""Most instruments had a row within this time. A day's file is in the order of instruments: what lies before is read
for the others alone."""
_VALUES: Final = {
    "bid": "if(bid_quantity_1 > 0, bid_price_1, NULL)",
    "ask": "if(ask_quantity_1 > 0, ask_price_1, NULL)",
    "last": "nullif(last_price, 0)",
    "volume": "volume_traded",
    "oi": "oi",
    "received_us": "epoch_us(received_at)",
}


def _last(**values: str) -> str:
    """The values of the last row, as an aggregate."""
    fields = ", ".join(f"'{name}': {text}" for name, text in values.items())
    return f"max_by({{{fields}}}, (received_at, stream, seq))"


LAST: Final = _last(**_VALUES)
"""Those of `Quotes`; the same for methods and macros."""


def of_today(midnight: str) -> str:
    """The SQL condition that one of `dated_ticks` is not of a day before that which begins at this instant."""
    return f"(exchange_timestamp IS NULL OR exchange_timestamp >= {midnight})"


@dataclass(frozen=True)
class Quotes:
    """A row a moment, a column an instrument; NaN where there is none. Prices in rupees, `received_us` in µs."""

    bid: Floats
    ask: Floats
    last: Floats
    volume: Floats
    oi: Floats
    received_us: Floats

    def __getitem__(self, columns: slice | Sequence[int]) -> "Quotes":
        return Quotes(*(getattr(self, name)[:, columns] for name in _VALUES))

    @property
    def mid(self) -> Floats:
        """Between bid and ask, where there are both and they do not cross."""
        with np.errstate(invalid="ignore"):
            return np.where(self.bid <= self.ask, (self.bid + self.ask) / 2, np.nan)

    @property
    def price(self) -> Floats:
        """Mid, else the last price."""
        mid = self.mid
        return np.where(np.isnan(mid), self.last, mid)


def quotes(state: LakeState, day: dt.date, tokens: Sequence[Sequence[int]], moments: Sequence[dt.datetime]) -> Quotes:
    """Of all these tokens, in groups that lie close to each other, as of moments of the day, ascending.

    A token of 0 is that of no instrument; some is that of one.
    """
    columns = [token for group in tokens for token in group]
    place = {token: number for number, token in enumerate(columns)}
    tokens = [[token for token in group if token] for group in tokens]
    grid = {name: np.full((len(moments), len(columns)), np.nan) for name in _VALUES}
    first = moments[0]

    def fill(found: pa.Table) -> set[int]:
        """Returns the tokens of the rows."""
        filled: list[int] = found["instrument_token"].to_pylist()
        at = np.array([place[token] for token in filled], np.int64)
        for name in _VALUES:
            grid[name][numpy_of(found["place"]), at] = numpy_of(found[name])
        return set(filled)

    seen = fill(_recent_rows(state, day, tokens, first))
    if others := [left for group in tokens if (left := [token for token in group if token not in seen])]:
        fill(_last_rows(state, day, others, None, [first]))
    if len(moments) > 1:
        fill(_last_rows(state, day, tokens, first, moments[1:], first_place=1))
        _fill_forward(grid)
    return Quotes(**grid)


def _fill_forward(grid: dict[str, Floats]) -> None:
    """An instrument without a row since the moment before shows what it did then: all values of the same row."""
    there = ~np.isnan(grid["received_us"])
    rows = np.maximum.accumulate(np.where(there, np.arange(len(there))[:, None], 0), axis=0)
    for values in grid.values():
        values[:] = np.take_along_axis(values, rows, axis=0)


def _asked(groups: Sequence[Sequence[int]]) -> str:
    """The condition that a token is one of these, in a form that DuckDB does not ask of each row that it reads."""
    return f"instrument_token IN (SELECT unnest({[token for group in groups for token in group]}))"


def _recent_rows(state: LakeState, day: dt.date, groups: Sequence[Sequence[int]], moment: dt.datetime) -> pa.Table:
    """As `_last_rows`, of those whose last row within RECENT counts.

    Most of what a chain takes. So what hardly any row fails is not asked of each row, but of the last ones, and whose
    these are is not asked of DuckDB at all: it costs a third less.
    """
    rows = _rows(day, groups, f"received_at <= {sql_moment(moment)} AND received_at > {sql_moment(moment - RECENT)}")
    query = f"""
        SELECT instrument_token, 0 AS place, unnest(found)
        FROM (
            SELECT instrument_token, {_last(**_VALUES, counts=of_today(_midnight(day)))} AS found FROM ({rows})
            GROUP BY ALL
        ) WHERE found.counts
    """
    (found,) = state.read([query])
    mine = np.isin(numpy_of(found["instrument_token"]), [token for group in groups for token in group])
    return found.take(arrow_of(np.flatnonzero(mine), None, pa.int64()))


def _last_rows(
    state: LakeState,
    day: dt.date,
    groups: Sequence[Sequence[int]],
    after: dt.datetime | None,
    moments: Sequence[dt.datetime],
    first_place: int = 0,
) -> pa.Table:
    """instrument_token, place, and values of the last row after `after` up to each moment.

    A row belongs to the first moment that is not before it.
    """
    since = "" if after is None else f" AND received_at > {sql_moment(after)}"
    upto = f"received_at <= {sql_moment(moments[-1])}{since}"
    rows = _rows(day, groups, f"{upto} AND {_asked(groups)} AND {of_today(_midnight(day))}")
    if len(moments) == 1:
        source, place = f"({rows})", str(first_place)
    else:
        listed = ", ".join(f"({sql_moment(each)}, {first_place + number})" for number, each in enumerate(moments))
        source = f"({rows}) AS rows ASOF JOIN (VALUES {listed}) AS ends (ends_at, place) ON received_at <= ends_at"
        place = "place"
    query = f"""
        SELECT instrument_token, place, unnest(found)
        FROM (SELECT instrument_token, {place} AS place, {LAST} AS found FROM {source} GROUP BY ALL)
    """
    (found,) = state.read([query])
    return found


def _rows(day: dt.date, groups: Sequence[Sequence[int]], where: str) -> str:
    """The SELECT of the rows between the first and the last of each group."""
    return " UNION ALL ".join(
        f"SELECT * FROM {DATED_TICKS.name} WHERE date = DATE '{day}' AND exchange = '{exchange}'"
        f" AND instrument_token BETWEEN {min(some)} AND {max(some)} AND {where}"
        for group in groups
        for exchange, some in _by_exchange(group).items()
    )


def _midnight(day: dt.date) -> str:
    return sql_moment(dt.datetime.combine(day, dt.time(), IST))


def _by_exchange(tokens: Sequence[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for token in tokens:
        found.setdefault(exchange_of_token(token), []).append(token)
    return found
