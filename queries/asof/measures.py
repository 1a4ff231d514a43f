"""Measures of quotes and prices: spread, imbalance of the book, returns, realized volatility.

All go by `received_at`. A quote is a row of ticks that carries a book; where a side of it is empty its price is null,
and so is what follows from it: an older quote never stands in for it.
"""

import datetime as dt
from typing import Final, Literal

from queries.arguments import is_text
from queries.asof.book import CARRIES_BOOK, level_value
from queries.bars import Measure, width_of
from queries.errors import QueryError, WidthError
from queries.history import Symbols, TimeRange, chosen
from queries.lake import LakeState, Result
from storage.schema import DEPTH_LEVELS

Price = Literal["mid", "last"]

BID: Final = level_value("bid", "price", 1)
ASK: Final = level_value("ask", "price", 1)
MID: Final = f"(({BID}) + ({ASK})) / 2"
"""The expression of the mid: null unless both sides have a price."""

_ORDER: Final = "ORDER BY symbol, received_at, stream, seq, instrument_token"
_PRICES: Final = {"mid": (MID, CARRIES_BOOK), "last": ("nullif(last_price, 0)", "true")}


def spread(state: LakeState, symbols: Symbols, when: TimeRange) -> Result:
    """What `AsofMethods.spread` says. Raises SymbolError."""
    return state.sql(
        f"""
        SELECT symbol, instrument_token, received_at, bid, ask, (bid + ask) / 2 AS mid, ask - bid AS spread,
            1e4 * (ask - bid) / ((bid + ask) / 2) AS spread_bps
        FROM (SELECT *, {BID} AS bid, {ASK} AS ask FROM ticks WHERE {CARRIES_BOOK} AND {_which(state, symbols, when)})
        {_ORDER}
        """
    )


def imbalance(state: LakeState, symbols: Symbols, when: TimeRange, levels: int) -> Result:
    """What `AsofMethods.imbalance` says. Raises SymbolError; QueryError for levels that there are not."""
    if levels not in range(1, DEPTH_LEVELS + 1):
        raise QueryError(f"levels: got {levels!r}, expected 1 to {DEPTH_LEVELS}")
    bids, asks = (" + ".join(f"{side}_quantity_{level + 1}" for level in range(int(levels))) for side in ("bid", "ask"))
    return state.sql(
        f"""
        SELECT symbol, instrument_token, received_at, bids AS bid_quantity, asks AS ask_quantity,
            (bids - asks) / nullif(bids + asks, 0) AS imbalance
        FROM (
            SELECT *, {bids} AS bids, {asks} AS asks FROM ticks
            WHERE {CARRIES_BOOK} AND {_which(state, symbols, when)}
        ) {_ORDER}
        """
    )


def returns(state: LakeState, symbols: Symbols, width: str | dt.timedelta, when: TimeRange, price: Price) -> Result:
    """What `AsofMethods.returns` says. Raises SymbolError, WidthError, QueryError."""
    return state.sql(
        f"""
        SELECT symbol, instrument_token, time, price, log_return
        FROM ({_returns_sql(state, symbols, width, when, price)}) ORDER BY symbol, time, instrument_token
        """
    )


def realized_volatility(
    state: LakeState, symbols: Symbols, width: str | dt.timedelta, when: TimeRange, price: Price
) -> Result:
    """What `AsofMethods.realized_volatility` says. Raises SymbolError, WidthError, QueryError."""
    return state.sql(
        f"""
        SELECT symbol, instrument_token, date, count(log_return) AS returns,
            sqrt(sum(log_return * log_return)) AS realized_volatility
        FROM ({_returns_sql(state, symbols, width, when, price)})
        GROUP BY symbol, instrument_token, date ORDER BY symbol, date, instrument_token
        """
    )


def _returns_sql(state: LakeState, symbols: Symbols, width: str | dt.timedelta, when: TimeRange, price: Price) -> str:
    """The SELECT of date, instrument_token, symbol, time, price, log_return of each interval with a row."""
    if not is_text(price) or price not in _PRICES:
        raise QueryError(f"price: got {price!r}, expected {' or '.join(_PRICES)}")
    found = width_of(width)
    if found.measure is not Measure.TIME:
        raise WidthError(f"width: got {width!r}, expected a time such as 30s, 1m or 1h")
    value, carries = _PRICES[price]
    midnight = "epoch_us(timezone('Asia/Kolkata', date::TIMESTAMP))"
    return f"""
    SELECT date, instrument_token, symbol, make_timestamptz(ends_us) AS time, price,
        CASE WHEN lag(ends_us) OVER day = ends_us - {found.size} THEN ln(price / lag(price) OVER day) END AS log_return
    FROM (
        SELECT date, instrument_token, max(symbol) AS symbol, {midnight} + number * {found.size} AS ends_us,
            max_by({{'price': price}}, (received_at, stream, seq)).price AS price
        FROM (
            SELECT date, instrument_token, symbol, received_at, stream, seq, {value} AS price,
                (epoch_us(received_at) - {midnight} + {found.size - 1}) // {found.size} AS number
            FROM ticks WHERE {carries} AND {_which(state, symbols, when)}
        ) GROUP BY date, instrument_token, number
    ) WINDOW day AS (PARTITION BY date, instrument_token ORDER BY ends_us)
    """


def _which(state: LakeState, symbols: Symbols, when: TimeRange) -> str:
    return f"{chosen(state, symbols, when.days(state.dates('ticks'))).where()} AND {when.where()}"
