"""Rows of ticks as bars and trades look at them: when the last trade was, and whether it was seen to happen.

The first packet after a connection was asked for an instrument is the cached last value, perhaps of another day: it
tells what there was, and is no trade. A packet that says when its last trade was is taken by that, in whole seconds as
the exchange has them; one that does not, in `quote` and `ltp` mode, is a trade if the cumulative volume grew.
"""

from dataclasses import dataclass
from typing import Final, Self

from queries.bars.listening import Listening
from queries.bars.sessions import hours_sql
from queries.history import (
    DATED_TICKS,
    PLACE_SQL,
    SQL_FIRST_DAY,
    SQL_FROM_DAY,
    SQL_STOP,
    SQL_UPTO_DAY,
    Selection,
    Symbols,
    TimeRange,
    chosen,
    days_of,
    sql_moment,
)
from queries.lake import LakeState, among, sources_sql
from storage.clock import IST_OFFSET_NS, NS_PER_US


def midnight_sql(date: str) -> str:
    """When a day begins, in microseconds: by numbers alone, which is ten times as fast as by the zone."""
    return f"(epoch_us({date}::TIMESTAMP) - {IST_OFFSET_NS // NS_PER_US})"


_DAY_US: Final = midnight_sql("ticks.date")
_DATED: Final = "ticks.exchange_timestamp IS NOT NULL"
_OWN: Final = f"""(
    epoch_us(ticks.exchange_timestamp) >= {_DAY_US} AND epoch_us(ticks.exchange_timestamp) < {_DAY_US} + 86400000000
    AND (ticks.last_trade_time IS NULL OR epoch_us(ticks.last_trade_time) >= {_DAY_US})
)"""
"""Whether a packet that says its time is of the day on which it was received, and so is the trade that it shows."""

CLOCKS: Final = ("exchange_timestamp", "last_trade_time", "received_at")
"""What `timed_by` says, by its number."""
AWAY: Final = (
    "CASE WHEN heard_us IS NULL THEN NOT coalesce(since_us <= opens_us AND {live}, false) "
    "ELSE coalesce(since_us > heard_us AND since_us IS DISTINCT FROM since_before, false) END"
)
"""Whether something may have been missed before a row. `heard_us` is when the row before it was received and
`since_before` its `since_us`, if there was one on this day.

The connection was asked after that; or there was none, and this one is no trade that was seen, or the connection was
asked after the session's open, or it is not known when.
"""


def rows_sql(joined: str, clock: str, upto_us: str) -> str:
    """The SELECT of rows of ticks with what bars and trades ask of them.

    `joined` is a FROM clause of `dated_ticks`, as `ticks`, and, for each of its rows, opens_us, closes_us and since_us:
    the session, and when the connection was asked for the instrument. `clock` is an expression that is 'exchange' or
    'received'. `at_us` is the time of the last trade by that clock, or of the packet where it does not say, in
    microseconds, and less than `upto_us` unless that is null; `live` whether it is one that was seen to happen: not
    cached, not of another day. What is of another day has a volume of 0: on this one nothing was traded yet. `epoch`
    is -1 for rows that say their time, and else how often the volume began anew.
    """
    own_clock = f"(({clock}) = 'exchange' AND {_DATED})"
    own = f"({_OWN} OR NOT ({_DATED}))"

    def columns(own: str) -> str:
        return f"""
        ticks.date, ticks.exchange, ticks.instrument_token, ticks.symbol, nullif(ticks.last_price, 0) AS last_price,
        CASE WHEN {own} THEN nullif(ticks.high, 0) END AS high, CASE WHEN {own} THEN nullif(ticks.low, 0) END AS low,
        CASE WHEN {own} THEN ticks.oi END AS oi, ticks.received_at, {PLACE_SQL} AS place,
        epoch_us(ticks.received_at) AS received_us, coalesce(opens_us, {_DAY_US}) AS opens_us,
        coalesce(closes_us, {_DAY_US} + 86400000000) AS closes_us, since_us,
        CASE WHEN {own} THEN ticks.volume_traded WHEN ticks.volume_traded IS NOT NULL THEN 0 END AS volume_traded,
        CASE WHEN {own} THEN ticks.average_traded_price * ticks.volume_traded
            WHEN ticks.volume_traded IS NOT NULL THEN 0 END AS traded_value
        """

    whole = "PARTITION BY date, instrument_token ORDER BY place"
    return f"""
    WITH joined AS NOT MATERIALIZED (SELECT * {joined})
    SELECT * EXCLUDE (asked_us),
        is_trade AND last_price > 0 AND at_us // 1000000 > coalesce(asked_us, since_us, 0) // 1000000 AS live
    FROM (
        SELECT {columns(_OWN)}, ticks.asked_us, -1::BIGINT AS epoch,
            CASE WHEN {_OWN} THEN epoch_us(coalesce(ticks.last_trade_time, ticks.exchange_timestamp))
                ELSE epoch_us(ticks.received_at) END AS at_us,
            CASE WHEN ticks.last_trade_time IS NULL THEN 0 ELSE 1 END AS timed_by,
            {_OWN} AND (ticks.volume_traded IS NULL OR ticks.last_trade_time IS NOT NULL) AS is_trade
        FROM joined AS ticks WHERE {own_clock}
    ) WHERE ({upto_us}) IS NULL OR at_us < ({upto_us})
    UNION ALL
    SELECT * EXCLUDE (own, dated, first, before, begins_anew)
        -- What was there before the volume began anew, or is all there is, and does not say its day, is of another one.
        REPLACE (
            CASE WHEN bool_or(live OR dated) OVER of_epoch THEN volume_traded
                WHEN volume_traded IS NOT NULL THEN 0 END AS volume_traded,
            CASE WHEN bool_or(live OR dated) OVER of_epoch THEN traded_value
                WHEN volume_traded IS NOT NULL THEN 0 END AS traded_value,
            CASE WHEN bool_or(live OR dated) OVER of_epoch THEN high END AS high,
            CASE WHEN bool_or(live OR dated) OVER of_epoch THEN low END AS low
        )
    FROM (
        SELECT * EXCLUDE (at_us, timed_by),
            (sum(begins_anew::INTEGER) OVER ({whole}))::BIGINT AS epoch, at_us, timed_by,
            coalesce(own AND last_price > 0, false) AND NOT first AS is_trade,
            coalesce(own AND last_price > 0, false) AND NOT first
                AND (volume_traded IS NULL OR begins_anew OR volume_traded > coalesce(before, 0)) AS live
        FROM (
            SELECT *, lag(nullif(volume_traded, 0) IGNORE NULLS) OVER earlier AS before,
                coalesce(volume_traded > 0 AND volume_traded < before / 2, false) AS begins_anew,
                -- That of a stretch which began since the row before, or that of the day.
                lag(received_us) OVER earlier IS NULL OR coalesce(since_us > lag(received_us) OVER earlier
                    AND since_us IS DISTINCT FROM lag(since_us) OVER earlier, false) AS first
            FROM (
                SELECT {columns(own)}, epoch_us(ticks.received_at) AS at_us, 2 AS timed_by, {own} AS own,
                    {_DATED} AND {own} AS dated
                FROM joined AS ticks WHERE NOT {own_clock}
            ) WINDOW earlier AS ({whole})
        )
    ) WHERE ({upto_us}) IS NULL OR at_us < ({upto_us}) WINDOW of_epoch AS (PARTITION BY date, instrument_token, epoch)
    """


def clock_sql(timed_by: str) -> str:
    """The name of the clock, of an expression of its number."""
    names = ", ".join(f"'{name}'" for name in CLOCKS)
    return f"([{names}])[{timed_by} + 1]"


@dataclass(frozen=True)
class Rows:
    """What a method asks for: `text` as `rows_sql` gives it, of the instruments on these days."""

    text: str
    selection: Selection
    listening: Listening

    @classmethod
    def of(cls, state: LakeState, symbols: Symbols, when: TimeRange, clock: str) -> Self:
        """Those of the symbols, of whole days, since a day's volume is told from its beginning. Raises SymbolError."""
        days = days_of(state, when)
        selection = chosen(state, symbols, days)
        upto = "NULL" if when.stop_us is None else str(when.stop_us)
        ticks = f"FROM {DATED_TICKS.name} WHERE {among(days)} AND {selection.where()}"
        if clock == "received" and when.stop is not None:
            ticks += f" AND received_at < {sql_moment(when.stop)}"
        listening = Listening.of(state, days, selection.tokens)
        joined = f"""
            FROM ({ticks}) AS ticks LEFT JOIN {listening.view.name} AS listening
            ON ticks.instrument_token = listening.instrument_token AND ticks.date = listening.date
            AND epoch_us(ticks.received_at) >= listening.from_us AND epoch_us(ticks.received_at) < listening.until_us
        """
        return cls(rows_sql(joined, f"'{clock}'", upto), selection, listening)

    @property
    def sessions(self) -> str:
        """The SELECT of date, instrument_token, symbol, opens_us and closes_us of the instruments on each day."""
        return f"""
            SELECT DISTINCT date, instrument_token, symbol, opens_us, closes_us FROM {self.listening.view.name}
            WHERE opens_us IS NOT NULL AND ({self.selection.which()})
        """


def macro_rows_sql(clock: str) -> str:
    """The same for a macro with the parameters symbols, start and stop; with {which} where rows are chosen."""
    upto_last = f"date <= {SQL_UPTO_DAY}"
    joined = joined_sql(
        f"(FROM {DATED_TICKS.name} WHERE {{which}} AND date >= {SQL_FROM_DAY} AND {upto_last})",
        listed=upto_last,
        events=f"date >= coalesce({SQL_FIRST_DAY} - 1, DATE '-infinity') AND {upto_last}",
    )
    return rows_sql(joined, clock, f"epoch_us({SQL_STOP})")


def joined_sql(ticks: str, *, listed: str = "true", events: str = "true") -> str:
    """The FROM clause for any rows of `dated_ticks`; `listed` and `events` are conditions on the dates of instruments
    and events."""
    return f"""
        FROM (
            SELECT ticks.*, hours.opens_us, hours.closes_us,
                CASE WHEN epoch_us(sources.noted) >= {_DAY_US} - 86400000000 THEN epoch_us(sources.since) END
                    AS since_us
            FROM {ticks} AS ticks LEFT JOIN ({hours_sql("sessions", listed)}) AS hours
                ON ticks.date = hours.date AND ticks.instrument_token = hours.instrument_token
            LEFT JOIN ({sources_sql(events)}) AS sources ON ticks.instrument_token = sources.instrument_token
                AND ticks.received_at >= sources.rows_from AND ticks.received_at < sources.rows_until
        ) AS ticks
    """
