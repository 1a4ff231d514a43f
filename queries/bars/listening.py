"""When each instrument was listened to on a day, and its session: worked out once for a day, and kept.

Events and instrument lists say it, in a query that costs more than the bars of one instrument. So it is done for all
instruments of a few days at once, and kept for what is asked next; for many days, for those alone that are asked for.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from queries.bars.sessions import hours_sql, sessions_of
from queries.history import lists_in_force
from queries.lake import LakeState, among, sources_sql, with_before

FEW_DAYS: Final = 5
_FOREVER_US: Final = 1 << 62


def listening_view(state: LakeState, days: Sequence[dt.date], tokens: Sequence[int]) -> str:
    """The name of a view of date, instrument_token, symbol, opens_us, closes_us, since_us, from_us and until_us.

    Rows of a day and an instrument follow each other without a gap: a row of ticks, received from `from_us` up to
    `until_us`, came from a connection that was asked for it at `since_us`, which is null where no event of the day or
    of the day before tells of it.
    """
    asked = None if len(days) <= FEW_DAYS else tuple(tokens)
    view = state.remembered(
        "listening",
        (tuple(days), asked),
        ["events", "instruments"],
        lambda: state.rows_view("listening", state.sql(_listening_sql(state, days, asked)).arrow()),
    )
    state.keep(view)
    return view.name


def _listening_sql(state: LakeState, days: Sequence[dt.date], tokens: Sequence[int] | None) -> str:
    sessions = state.rows_view("sessions", sessions_of(state, days)).name
    lists = sorted(set(lists_in_force(state, days).values()))
    which = "true" if tokens is None else f"instrument_token IN ({', '.join(map(str, tokens)) or 'NULL'})"
    events = among(with_before(days))
    return f"""
    WITH days AS (
        SELECT date, epoch_us(timezone('Asia/Kolkata', date::TIMESTAMP)) AS day_us
        FROM (SELECT unnest([{", ".join(f"DATE '{day}'" for day in days)}]::DATE[]) AS date)
    ), hours AS ({hours_sql(sessions, among(lists), which)}), sources AS (
        SELECT instrument_token, epoch_us(since) AS since_us, epoch_us(noted) AS noted_us,
            epoch_us(rows_from) AS from_us,
            CASE WHEN isfinite(rows_until) THEN epoch_us(rows_until) ELSE {_FOREVER_US} END AS until_us
        FROM ({sources_sql(events, which)})
    ), asked AS (
        SELECT date, sources.* EXCLUDE (noted_us) FROM sources JOIN days
        ON sources.from_us < days.day_us + 86400000000 AND sources.until_us > days.day_us
            AND sources.noted_us >= days.day_us - 86400000000
    ), stretches AS (
        FROM asked UNION ALL
        SELECT date, instrument_token, NULL, 0, min(from_us) FROM asked GROUP BY date, instrument_token
    )
    SELECT coalesce(hours.date, stretches.date) AS date, coalesce(hours.instrument_token, stretches.instrument_token)
            AS instrument_token, symbol, opens_us, closes_us, since_us,
        coalesce(from_us, 0) AS from_us, coalesce(until_us, {_FOREVER_US}) AS until_us
    FROM hours FULL JOIN stretches
        ON hours.date = stretches.date AND hours.instrument_token = stretches.instrument_token
    """
