"""Rows of ticks as bars and trades look at them: when the last trade was, and whether it was seen to happen.

The first packet after a connection was asked for an instrument is the cached last value, perhaps of another day: it
tells what there was, and is no trade. A packet that says when its last trade was is taken by that, in whole seconds as
the exchange has them; one that does not, in `quote` and `ltp` mode, is a trade if the cumulative volume grew.
"""

from dataclasses import dataclass
from typing import Final, Self

from queries.history.listening import among, listening_view
from queries.history.moments import SQL_START, SQL_STOP, TimeRange, sql_moment
from queries.history.sessions import hours_sql
from queries.history.symbols import Selection, Symbols, chosen
from queries.lake import LakeState, sources_sql
from storage.clock import IST_OFFSET_NS, NS_PER_US

_IST_US: Final = IST_OFFSET_NS // NS_PER_US
CLOCKS: Final = ("last_trade_time", "exchange_timestamp", "received_at")
"""What `timed_by` says, by its number."""
# Of rows that are received in the same microsecond, the later in the stream is the later.
_PLACE: Final = "(epoch_us(ticks.received_at) << 12) + (ticks.seq & 4095)"


def rows_sql(joined: str, clock: str, upto_us: str) -> str:
    """The SELECT of rows of ticks with what bars and trades ask of them.

    `joined` is a FROM clause of `ticks` and, for each of its rows, opens_us, closes_us and since_us: the session, and
    when the connection was asked for the instrument. `clock` is an expression that is 'exchange' or
    'received'. `at_us` is the time of the last trade by that clock, or of the packet where it does not say, in
    microseconds, and less than `upto_us` unless that is null; `live` whether it is one that was seen to happen: not
    cached, not of another day. `timed_by` is the place of the clock in CLOCKS.
    """
    own_clock = f"({clock} = 'exchange' AND ticks.exchange_timestamp IS NOT NULL)"
    day_us = f"(epoch_us(ticks.date::TIMESTAMP) - {_IST_US})"  # by numbers alone: ten times as fast as by the zone
    own_day = f"epoch_us(ticks.exchange_timestamp) BETWEEN {day_us} AND {day_us} + 86399999999"
    columns = f"""
        ticks.date, ticks.exchange, ticks.instrument_token, ticks.symbol, ticks.last_price, ticks.volume_traded,
        ticks.average_traded_price * ticks.volume_traded AS traded_value, ticks.high AS day_high,
        ticks.low AS day_low, ticks.oi, ticks.received_at, {_PLACE} AS place,
        epoch_us(ticks.received_at) AS received_us,
        coalesce(opens_us, {day_us}) AS opens_us, coalesce(closes_us, {day_us} + 86400000000) AS closes_us,
        since_us
    """
    own_rows = f"{joined} WHERE (ticks.exchange_timestamp IS NULL OR {own_day})"
    return f"""
    SELECT *, last_price > 0 AND is_trade AND at_us // 1000000 > coalesce(since_us // 1000000, 0) AS live
    FROM (
        SELECT {columns}, epoch_us(coalesce(ticks.last_trade_time, ticks.exchange_timestamp)) AS at_us,
            ticks.volume_traded IS NULL OR coalesce(epoch_us(ticks.last_trade_time) >= {day_us}, false) AS is_trade,
            CASE WHEN ticks.last_trade_time IS NULL THEN 1 ELSE 0 END AS timed_by
        {own_rows} AND {own_clock}
    ) WHERE ({upto_us}) IS NULL OR at_us < ({upto_us})
    UNION ALL
    SELECT * EXCLUDE (nth), coalesce(last_price > 0 AND is_trade AND (since_us IS NULL OR nth > 1), false) AS live
    FROM (
        SELECT {columns}, epoch_us(ticks.received_at) AS at_us,
            ticks.volume_traded IS NULL OR ticks.volume_traded > lag(ticks.volume_traded IGNORE NULLS) OVER (
                PARTITION BY ticks.date, ticks.instrument_token ORDER BY {_PLACE}
            ) AS is_trade,
            2 AS timed_by,
            row_number() OVER (PARTITION BY ticks.instrument_token, since_us ORDER BY {_PLACE}) AS nth
        {own_rows} AND NOT {own_clock}
    ) WHERE ({upto_us}) IS NULL OR at_us < ({upto_us})
    """


@dataclass(frozen=True)
class Rows:
    """What a method asks for: `text` as `rows_sql` gives it, of the instruments on these days."""

    text: str
    selection: Selection
    listening: str

    @classmethod
    def of(cls, state: LakeState, symbols: Symbols, when: TimeRange, clock: str) -> Self:
        """Those of the symbols, of whole days, since a day's volume is told from its beginning. Raises SymbolError."""
        days = when.days(state.dates("ticks"))
        selection = chosen(state, symbols, days)
        upto = "NULL" if when.stop is None else f"epoch_us({sql_moment(when.stop)})"
        ticks = f"FROM ticks WHERE {among(days)} AND {selection.where()}"
        if clock == "received" and when.stop is not None:
            ticks += f" AND received_at < {sql_moment(when.stop)}"
        listening = listening_view(state, days, selection.tokens)
        joined = f"""
            FROM ({ticks}) AS ticks LEFT JOIN {listening} AS listening
            ON ticks.instrument_token = listening.instrument_token AND ticks.date = listening.date
            AND epoch_us(ticks.received_at) >= listening.from_us AND epoch_us(ticks.received_at) < listening.until_us
        """
        return cls(rows_sql(joined, f"'{clock}'", upto), selection, listening)

    @property
    def sessions(self) -> str:
        """The SELECT of date, instrument_token, symbol, opens_us and closes_us of the instruments on each day."""
        tokens = ", ".join(map(str, self.selection.tokens)) or "NULL"
        return f"""
            SELECT DISTINCT date, instrument_token, symbol, opens_us, closes_us FROM {self.listening}
            WHERE instrument_token IN ({tokens}) AND opens_us IS NOT NULL
        """


def clock_sql(timed_by: str) -> str:
    """The name of the clock, of an expression of its number."""
    names = ", ".join(f"'{name}'" for name in CLOCKS)
    return f"([{names}])[{timed_by} + 1]"


def macro_rows_sql(clock: str) -> str:
    """The same for a macro with the parameters symbols, start and stop; with {which} where rows are chosen."""
    first = f"timezone('Asia/Kolkata', {SQL_START})::DATE"
    last = f"timezone('Asia/Kolkata', {SQL_STOP} - INTERVAL 1 MICROSECOND)::DATE"
    upto_last = f"(({SQL_STOP}) IS NULL OR date <= {last})"
    joined = joined_sql(
        f"(FROM ticks WHERE {{which}} AND (({SQL_START}) IS NULL OR date >= {first}) AND {upto_last})",
        listed=upto_last,
        events=f"(({SQL_START}) IS NULL OR date >= {first} - 1) AND {upto_last}",
    )
    return rows_sql(joined, clock, f"epoch_us({SQL_STOP})")


def joined_sql(ticks: str, *, listed: str = "true", events: str = "true") -> str:
    """The FROM clause for any rows; `listed` and `events` are conditions on the dates of instruments and events."""
    return f"""
        FROM (
            SELECT ticks.*, hours.opens_us, hours.closes_us, epoch_us(sources.since) AS since_us
            FROM {ticks} AS ticks LEFT JOIN ({hours_sql("sessions", listed)}) AS hours
                ON ticks.date = hours.date AND ticks.instrument_token = hours.instrument_token
            LEFT JOIN ({sources_sql(events)}) AS sources ON ticks.instrument_token = sources.instrument_token
                AND ticks.received_at >= sources.shown_from AND ticks.received_at < sources.until
        ) AS ticks
    """
