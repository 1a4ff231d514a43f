"""Bars: one definition, written down in docs/queries.md, for the method and for the macro.

The method works it out in columns (`packets`, `assemble`), the macro in SQL, since a macro cannot call Python.

Three steps, of which only the first looks at ticks, and none at one tick beside another where packets say when the
last trade was:

1. Rows of an instrument in the same interval, part of the day (before, in or after its session) and stretch of
   listening are one group: its first and last cumulative volume, the prices of its live rows, the day's extremes.
2. Groups in the order of receipt, one beside the other: what the volume grew by since the group before, and how much of
   that while nothing was received; whether the day's high rose in it.
3. Groups of one interval are one bar.

The cumulative volume counts as the largest so far: a correction that lowers it takes nothing back, and a fall to less
than half is a new beginning from 0.
"""

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.bars.assemble import as_table, assemble
from queries.bars.choices import (
    WHOLE_SECONDS,
    Clock,
    Fill,
    Label,
    Measure,
    Sessions,
    check,
    checked_sql,
    width_of,
)
from queries.bars.packets import ASKED, COLUMNS, Asked, groups_of
from queries.bars.rows import AWAY, Rows, clock_sql, macro_rows_sql, midnight_sql
from queries.bars.trades import trades_sql
from queries.errors import QueryError
from queries.history import (
    FEW_RUNS,
    Symbols,
    TimeRange,
    batches_of,
    is_replayed,
    names_of,
    overloads,
    sql_moment,
    sql_range_us,
)
from queries.lake import LakeState, Result
from queries.threads import made_ahead
from storage.clock import US_PER_DAY

_COLUMNS: Final = (
    "symbol", "time", "open", "high", "low", "close", "volume", "volume_missed", "value", "vwap", "oi", "ticks",
    "clock",
)  # fmt: skip
THREADS: Final = min(os.cpu_count() or 1, 4)
"""On more cores than these the engine is busy with reading; and each has a part of the rows in memory. NumPy lets other
threads work meanwhile."""
MAX_BUCKETS: Final = 10_000_000
"""Intervals are numbered from the session's open; this makes numbers of earlier ones positive."""


def grouped_sql(rows: str, width_us: str, sessions: str) -> str:
    """The SELECT of the groups, of rows as `rows_sql` gives them; the first step.

    `width_us` is an expression of microseconds, a day's for whole sessions, and `sessions` one that is 'continuous' or
    'all'.
    """
    part = "CASE WHEN at_us < opens_us THEN -1 WHEN at_us >= closes_us THEN 1 ELSE 0 END"
    part = f"CASE WHEN ({sessions}) = 'all' THEN 0 ELSE {part} END"
    since = f"(at_us - opens_us + {MAX_BUCKETS} * ({width_us}))"
    bucket = f"CASE WHEN ({width_us}) >= {US_PER_DAY} THEN 0 ELSE {since} // ({width_us}) END"
    return f"""
        SELECT date, instrument_token, any_value(symbol) AS symbol, since_us, part, bucket,
            min(opens_us) AS opens_us, min(closes_us) AS closes_us,
            min(place) AS place, min(CASE WHEN live THEN place END) AS live_place, max(received_us) AS last_us,
            arg_min(volume_traded, place) AS first_volume, arg_max(nullif(volume_traded, 0), place) AS last_volume,
            max(volume_traded) AS most_volume,
            arg_min(traded_value, place) AS first_value, arg_max(nullif(traded_value, 0), place) AS last_value,
            max(traded_value) AS most_value,
            arg_min(high, place) AS first_high, arg_min_null(high, place) AS high_at_first, max(high) AS most_high,
            arg_min(low, place) AS first_low, arg_min_null(low, place) AS low_at_first, min(low) AS least_low,
            arg_min(live_price, place) AS open, max(live_price) AS high, min(live_price) AS low,
            arg_max(live_price, place) AS close, arg_max(last_price, place) AS last_price,
            arg_max(oi, place) AS oi, count(live_price) AS ticks, max(timed_by) AS timed_by
        FROM (
            SELECT *, CASE WHEN part = 0 THEN {bucket} ELSE 0 END AS bucket,
                CASE WHEN live THEN last_price END AS live_price
            FROM (SELECT *, {part} AS part FROM ({rows}))
        )
        GROUP BY date, instrument_token, since_us, part, bucket, epoch
    """


def bars_sql(rows: str, width_us: str, sessions: str) -> str:
    """The SELECT of bars of time over rows as `rows_sql` gives them: the other steps, as `assemble` takes them.

    The arguments are as in `grouped_sql`.
    """
    return f"""
    WITH grouped AS ({grouped_sql(rows, width_us, sessions)}
    ), beside AS (
        SELECT *, lag(last_volume IGNORE NULLS) OVER earlier AS volume_before,
            lag(since_us) OVER earlier AS since_before,
            max(last_us) OVER (earlier ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS heard_us
        FROM grouped WINDOW earlier AS (PARTITION BY date, instrument_token ORDER BY place)
    ), apart AS (
        -- away: we may have missed something since the group before, or since the day began. fell: in the group itself.
        SELECT *, {AWAY.format(live="live_place = place")} AS away,
            coalesce(last_volume < most_volume / 2, false) AS fell,
            coalesce(nullif(first_volume, 0), last_volume) < volume_before / 2 AS begins_anew
        FROM beside
    ), numbered AS (
        SELECT *, coalesce(lag(fell) OVER earlier, false) AS fell_before,
            sum(CASE WHEN begins_anew THEN 1 ELSE 0 END) OVER earlier AS times_anew
        FROM apart WINDOW earlier AS (PARTITION BY date, instrument_token ORDER BY place)
    ), grown AS (
        SELECT *,
            coalesce(max(most_volume) OVER so_far, CASE WHEN fell_before THEN volume_before END, 0) AS volume_then,
            coalesce(last_value(last_value IGNORE NULLS) OVER so_far,
                CASE WHEN fell_before THEN last_value(last_value IGNORE NULLS) OVER day_so_far END, 0) AS value_then,
            max(most_high) OVER day_so_far AS high_then, min(least_low) OVER day_so_far AS low_then
        FROM (
            SELECT *, times_anew + sum(CASE WHEN fell_before THEN 1 ELSE 0 END) OVER (
                PARTITION BY date, instrument_token ORDER BY place) AS epoch
            FROM numbered
        ) WINDOW so_far AS (
                PARTITION BY date, instrument_token, epoch ORDER BY place
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ),
            day_so_far AS (
                PARTITION BY date, instrument_token ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )
    ), counted AS (
        SELECT *, CASE WHEN most_volume IS NOT NULL
                THEN greatest(most_volume - volume_then, 0) + CASE WHEN fell THEN last_volume ELSE 0 END
            END AS volume_grown,
            CASE WHEN most_volume IS NOT NULL
                THEN CASE WHEN away THEN greatest(first_volume - volume_then, 0) ELSE 0 END
            END AS volume_away,
            CASE WHEN fell THEN greatest(most_value - value_then, 0) + last_value
                ELSE coalesce(last_value, first_value) - CASE WHEN last_value IS NULL THEN 0 ELSE value_then END
            END AS value_grown,
            CASE WHEN away AND first_value > 0 THEN first_value - value_then ELSE 0 END AS value_away,
            CASE WHEN most_high > greatest(high_then, CASE WHEN high_then IS NULL THEN first_high
                    WHEN away THEN high_at_first END)
                THEN most_high END AS high_rose,
            CASE WHEN least_low < least(low_then, CASE WHEN low_then IS NULL THEN first_low
                    WHEN away THEN low_at_first END)
                THEN least_low END AS low_fell,
            count(*) FILTER (ticks > 0) OVER (
                PARTITION BY date, instrument_token, part ORDER BY place
                ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
            ) AS live_ahead
        FROM grown
    ), carried AS (
        -- What a group tells goes into the next bar that has a trade; where none comes, into one of its own.
        SELECT *, CASE WHEN live_ahead = 0 THEN volume_grown ELSE sum(volume_grown) OVER next_bar END AS volume_in,
            CASE WHEN live_ahead = 0 THEN volume_away ELSE sum(volume_away) OVER next_bar END AS missed_in,
            CASE WHEN live_ahead = 0 THEN value_grown ELSE sum(value_grown) OVER next_bar END AS value_in,
            CASE WHEN live_ahead = 0 THEN value_away ELSE sum(value_away) OVER next_bar END AS value_missed_in,
            max(high_rose) OVER next_bar AS high_in, min(low_fell) OVER next_bar AS low_in
        FROM counted WINDOW next_bar AS (PARTITION BY date, instrument_token, part, live_ahead)
    )
    SELECT date, instrument_token, any_value(symbol) AS symbol, bucket, any_value(opens_us) AS opens_us,
        any_value(closes_us) AS closes_us,
        coalesce(arg_min(open, place) FILTER (ticks > 0), arg_min(last_price, place)) AS open,
        coalesce(max(greatest(high, high_in)) FILTER (ticks > 0), max(last_price)) AS high,
        coalesce(min(least(low, low_in)) FILTER (ticks > 0), min(last_price)) AS low,
        coalesce(arg_max(close, place) FILTER (ticks > 0), arg_max(last_price, place)) AS close,
        sum(volume_in) AS volume, sum(missed_in) AS volume_missed, sum(value_in) AS value,
        sum(value_missed_in) AS value_missed, arg_max(oi, place) AS oi, sum(ticks) AS ticks,
        max(timed_by) AS timed_by
    FROM carried WHERE part = 0 AND (ticks > 0 OR live_ahead = 0)
    GROUP BY date, instrument_token, bucket
    HAVING coalesce(sum(volume_in) > 0, sum(ticks) > 0)
    """


def timed_sql(bars: str, width_us: str, sessions: str) -> str:
    """Bars of time as those of counts are: with begin_us and end_us, and what follows from the other columns."""
    day = f"({width_us}) >= {US_PER_DAY}"
    begins = f"opens_us + CASE WHEN {day} THEN 0 ELSE (bucket - {MAX_BUCKETS}) * ({width_us}) END"
    ends = f"CASE WHEN {day} THEN closes_us ELSE {begins} + ({width_us}) END"
    midnight = midnight_sql("date")
    last = f"CASE WHEN ({sessions}) = 'all' THEN {midnight} + {US_PER_DAY} ELSE closes_us END"
    begins, ends = f"greatest({begins}, {midnight})", f"least({ends}, {last})"
    return f"""
    SELECT date, symbol, instrument_token, {begins} AS begin_us, {ends} AS end_us, open, high, low, close,
        volume::BIGINT AS volume, volume_missed::BIGINT AS volume_missed, value,
        CASE WHEN volume > volume_missed
            THEN greatest(low, least(high, (value - value_missed) / (volume - volume_missed))) END AS vwap,
        oi, ticks::BIGINT AS ticks, {clock_sql("timed_by")} AS timed_by
    FROM ({bars})
    """


def counted_bars_sql(trades: str, measure: Measure, size: int, sessions: str) -> str:
    """The same of bars that are full by a number of trades, or by their volume or value; each day begins its own.

    `trades` is as `trades_sql` gives them. A trade belongs to the bar in which it begins.
    """
    before = {
        Measure.TICKS: "row_number() OVER day - 1",
        Measure.VOLUME: "sum(quantity) OVER day - quantity",
        Measure.VALUE: "sum(value) OVER day - value",
    }[measure]
    part = "true" if sessions == "all" else "at_us >= opens_us AND at_us < closes_us"
    return f"""
    SELECT date, any_value(symbol) AS symbol, instrument_token, min(at_us) AS begin_us, max(at_us) AS end_us,
        arg_min(price, place) AS open, max(price) AS high, min(price) AS low, arg_max(price, place) AS close,
        sum(quantity)::BIGINT AS volume, 0::BIGINT AS volume_missed, sum(value) AS value,
        greatest(min(price), least(max(price), sum(value) / sum(quantity))) AS vwap,
        arg_max(oi, place) AS oi, count(*) AS ticks, number,
        {clock_sql("max(timed_by)")} AS timed_by
    FROM (
        SELECT *, floor(({before}) / {size})::BIGINT AS number FROM ({trades}) WHERE {part}
        WINDOW day AS (PARTITION BY date, instrument_token ORDER BY place)
    ) GROUP BY date, instrument_token, number
    """


def filled_sql(bars: str, hours: str, which: str, width_us: int, fill: Fill) -> str:
    """The same with a row for every interval of the session that has begun, of each instrument of the day's list.

    `which` is a condition on begin_us. With "previous" prices and oi are those of the bar before, with nothing traded.
    """
    before = "last_value({0} IGNORE NULLS) OVER before" if fill == "previous" else "NULL"
    sources = {"open": "bars.close", "high": "bars.close", "low": "bars.close", "close": "bars.close", "oi": "bars.oi"}
    carried = {name: f"coalesce(bars.{name}, {before.format(source)})" for name, source in sources.items()}
    # None where the bar before has none, as that of an index.
    nothing = {
        name: f"coalesce(bars.{name}, CASE WHEN bars.begin_us IS NULL THEN 0 * {before.format(f'bars.{name}')} END)"
        for name in ("volume", "volume_missed", "value", "ticks")
    }
    shown = ", ".join(f"{text} AS {name}" for name, text in {**carried, **nothing}.items())
    return f"""
    WITH bars AS ({bars}), hours AS ({hours}), slots AS (
        SELECT date, instrument_token, symbol, closes_us, begin_us
        FROM hours, range(opens_us, closes_us, CASE WHEN {width_us} >= {US_PER_DAY} THEN closes_us - opens_us
            ELSE {width_us} END) AS slots(begin_us)
    )
    SELECT coalesce(bars.date, slots.date) AS date, coalesce(bars.symbol, slots.symbol) AS symbol,
        coalesce(bars.instrument_token, slots.instrument_token) AS instrument_token,
        coalesce(bars.begin_us, slots.begin_us) AS begin_us,
        coalesce(bars.end_us, CASE WHEN {width_us} >= {US_PER_DAY} THEN slots.closes_us
            ELSE least(slots.begin_us + {width_us}, slots.closes_us) END) AS end_us,
        {shown}, bars.vwap, bars.timed_by
    FROM bars FULL JOIN (FROM slots WHERE begin_us <= epoch_us(now()) AND {which}) AS slots
        ON bars.date = slots.date AND bars.instrument_token = slots.instrument_token AND bars.begin_us = slots.begin_us
    WINDOW before AS (
        PARTITION BY coalesce(bars.symbol, slots.symbol) ORDER BY coalesce(bars.begin_us, slots.begin_us)
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
    """


def shown_sql(bars: str, label: str, which: str, order: str = "date, instrument_token") -> str:
    """The bars as they are given, those for which `which` holds; `label` is an expression, 'open' or 'close'. Those of
    a symbol that begin together lie in this order."""
    return f"""
    SELECT symbol, make_timestamptz(CASE WHEN ({label}) = 'close' THEN end_us ELSE begin_us END) AS time,
        open, high, low, close, volume, volume_missed, value, vwap, oi, ticks, timed_by AS clock
    FROM ({bars}) WHERE {which} ORDER BY symbol, begin_us, {order}
    """


def bars(
    state: LakeState,
    symbols: Symbols,
    width: str | dt.timedelta,
    when: TimeRange,
    *,
    clock: Clock,
    sessions: Sessions,
    fill: Fill,
    label: Label,
) -> Result:
    """See `BarMethods.bars`."""
    for name, value in (("clock", clock), ("sessions", sessions), ("fill", fill), ("label", label)):
        check(name, value)
    size = width_of(width)
    if fill != "none" and size.measure is not Measure.TIME:
        raise QueryError(f"fill: got {fill!r} for bars by {size.measure}, expected 'none': they have no fixed times")
    chosen_rows = Rows.of(state, symbols, when, clock)
    begins = when.where_us("begin_us")
    if size.measure is not Measure.TIME:
        made = counted_bars_sql(trades_sql(chosen_rows.text), size.measure, size.size, sessions)
        return state.sql(shown_sql(made, f"'{label}'", begins, "date, instrument_token, number"))
    found = _of_time(state, chosen_rows, Asked(size.size, clock, sessions, when.stop_us), when, label)
    if fill == "none":
        return state.rows(found.select(_COLUMNS))
    made = f"SELECT * EXCLUDE (time) RENAME (clock AS timed_by) FROM {state.rows_view('bars', found).name}"
    made = filled_sql(made, chosen_rows.sessions, begins, size.size, fill)
    return state.sql(shown_sql(made, f"'{label}'", begins))


def _of_time(state: LakeState, rows: Rows, asked: Asked, when: TimeRange, label: Label) -> pa.Table:
    """Bars of time that begin in the range, as `as_table` has them, from packets in columns."""
    columns = COLUMNS | ASKED if is_replayed(state) else COLUMNS
    only = "true" if when.stop is None or asked.clock != "received" else f"received_at < {sql_moment(when.stop)}"

    def made(batches: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        groups = groups_of(batches, rows.listening, asked)
        if not groups:
            return groups
        bars = assemble(groups, asked)
        begins = bars["begin_us"]
        inside = np.ones(len(begins), np.bool_) if when.start_us is None else begins >= when.start_us
        inside &= True if when.stop_us is None else begins < when.stop_us
        return bars if inside.all() else {name: values[inside] for name, values in bars.items()}

    parts = batches_of(state, rows.selection, columns, only)
    few = len(rows.selection.days) * len(rows.selection.tokens) <= FEW_RUNS
    found = [bars for bars in (map(made, parts) if few else made_ahead(made, parts, THREADS)) if bars]
    return as_table(found, partial(names_of, state, rows.selection), label)


WIDTH_US: Final = f"""
    CASE WHEN epoch_us((width)::INTERVAL) BETWEEN 1000000 AND {US_PER_DAY} AND epoch_us((width)::INTERVAL) % 1000000 = 0
        THEN epoch_us((width)::INTERVAL)
    ELSE error('width: got ' || coalesce(width::VARCHAR, 'NULL') || ', expected {WHOLE_SECONDS}') END
"""
_SESSIONS: Final = checked_sql("sessions")
OVERLOADS: Final = overloads(
    "width := '1 minute', start := NULL, stop := NULL, clock := 'exchange', sessions := 'continuous', label := 'open'",
    shown_sql(
        timed_sql(bars_sql(macro_rows_sql(checked_sql("clock")), WIDTH_US, _SESSIONS), WIDTH_US, _SESSIONS),
        checked_sql("label"),
        sql_range_us("begin_us"),
    ),
)
