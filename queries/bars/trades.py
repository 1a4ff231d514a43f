"""Trades as far as snapshots show them: changes of the cumulative volume from one packet to the next.

An estimate: the broker sends one or two snapshots a second, so a row is all that traded since the snapshot before, at
the last one's price. What grew while nothing was received is no trade. Quantities of bars without what they missed are
sums of these.
"""

from typing import Final

from queries.bars.choices import check, checked_sql
from queries.bars.rows import AWAY, Rows, clock_sql, joined_sql, macro_rows_sql, rows_sql
from queries.history import DATED_TICKS, Symbols, TimeRange, overloads, sql_range_us
from queries.lake import LakeState, Result

_SHOWN: Final = (
    f"symbol, time, price, quantity, value, oi, received_at, {clock_sql('timed_by')} AS clock, exchange, date, "
    "instrument_token"
)


def trades_sql(rows: str) -> str:
    """The SELECT of trades over rows as `rows_sql` gives them."""
    whole = "PARTITION BY date, exchange, instrument_token"
    return f"""
    SELECT date, exchange, symbol, instrument_token, make_timestamptz(at_us) AS time, last_price AS price,
        volume_traded - volume_then AS quantity, (volume_traded - volume_then) * last_price AS value, oi, received_at,
        timed_by, place, at_us, opens_us, closes_us
    FROM (
        SELECT *, coalesce(max(volume_traded) OVER (
                {whole}, times_anew ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ), 0) AS volume_then
        FROM (
            SELECT *, {AWAY.format(live="live")} AS away,
                sum(begins_anew::INTEGER) OVER ({whole} ORDER BY place) AS times_anew
            FROM (
                SELECT *, lag(received_us) OVER earlier AS heard_us, lag(since_us) OVER earlier AS since_before,
                    coalesce(
                    volume_traded > 0 AND volume_traded < lag(nullif(volume_traded, 0) IGNORE NULLS) OVER earlier / 2,
                    false) AS begins_anew
                FROM ({rows}) WINDOW earlier AS ({whole} ORDER BY place)
            )
        )
    ) WHERE volume_traded > volume_then AND last_price > 0 AND NOT away
    """


def _shown(rows: str, which: str) -> str:
    return f"SELECT {_SHOWN} FROM ({trades_sql(rows)}) WHERE {which} ORDER BY symbol, time, place"


def trades(state: LakeState, symbols: Symbols, when: TimeRange, clock: str) -> Result:
    """See `BarMethods.trades`."""
    check("clock", clock)
    return state.sql(_shown(Rows.of(state, symbols, when, clock).text, when.where_us("at_us")))


OVERLOADS: Final = overloads(
    "start := NULL, stop := NULL, clock := 'exchange'",
    _shown(macro_rows_sql(checked_sql("clock")), sql_range_us("at_us")),
)
ALL: Final = f"SELECT {_SHOWN} FROM (" + trades_sql(rows_sql(joined_sql(DATED_TICKS.name), "'exchange'", "NULL")) + ")"
"""The relation: all there are, by the exchange's clock."""
