"""When each instrument was listened to on a day, and its session: worked out once for a day, and kept.

Events and instrument lists say it, in a query that costs more than the bars of one instrument. So it is done for all
instruments of a few days at once, and kept for what is asked next; for many days, for those alone that are asked for.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from queries.bars.sessions import hours_sql, sessions_of
from queries.history import PLACE_BITS, RUN_SQL, lists_in_force, midnights_of
from queries.lake import LakeState, RowsView, among, sources_sql, with_before
from storage.clock import US_PER_DAY
from storage.memory import numpy_of

Ints = NDArray[np.int64]

FEW_DAYS: Final = 5
_FOREVER_US: Final = 1 << 62


@dataclass(frozen=True)
class Listening:
    """`view` is a view of date, instrument_token, symbol, opens_us, closes_us, since_us, from_us and until_us.

    Rows of a day and an instrument follow each other without a gap: a row of ticks, received from `from_us` up to
    `until_us`, came from a connection that was asked for it at `since_us`, which is null where no event of the day or
    of the day before tells of it. `columns` are the same by run and from_us, in floats, with NaN for null.
    """

    view: RowsView
    columns: dict[str, NDArray[Any]]

    @staticmethod
    def of(state: LakeState, days: Sequence[dt.date], tokens: Sequence[int]) -> "Listening":
        """That of the instruments on these days; perhaps of others, too."""
        asked = None if len(days) <= FEW_DAYS else tuple(tokens)

        def look() -> "Listening":
            (rows,) = state.read([_listening_sql(state, days, asked)])
            names = ("run", "from_us", "since_us", "opens_us", "closes_us")
            columns = {name: numpy_of(rows[name]) for name in names}
            return Listening(state.rows_view("listening", rows), columns)

        found = state.remembered("listening", (tuple(days), asked), ["events", "instruments"], look)
        state.keep(found.view)
        return found

    def stretches(self, runs: Ints, bounds: Ints, place: Ints) -> dict[str, NDArray[Any]]:
        """The stretches in which the rows of some runs were received, one array a column.

        `bounds` are where the runs begin and where the last ends, and `place` is as `history.blocks` has it. `rows` is
        where a stretch begins, `run` the number of its run, day_us the beginning of that day, and the rest as above,
        with the whole day as the session where nothing is known of it.
        """
        known = self.columns
        low, high = (np.searchsorted(known["run"], runs, side) for side in ("left", "right"))
        counts = np.maximum(high - low, 1)
        of = np.repeat(np.arange(len(runs)), counts)
        at = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts) + low[of]
        there = (low < high)[of]
        at[~there] = len(known["run"])
        values = {name: np.append(each, np.nan)[at] for name, each in known.items() if name != "run"}
        begins = _begins(np.where(there, values["from_us"], 0).astype(np.int64) << PLACE_BITS, bounds, of, place)
        # Those with rows; and one that was asked for on two connections at the same time is one.
        last = np.append(begins[1:], len(place))
        kept = begins < last
        of, since, begins = of[kept], values["since_us"][kept], begins[kept]
        same = np.append(False, (of[1:] == of[:-1]) & (since[1:] == since[:-1]))
        found = {name: each[kept][~same] for name, each in values.items()}
        of = of[~same]
        day_us = midnights_of(runs)[of]
        return {
            "rows": begins[~same],
            "run": runs[of],
            "day_us": day_us,
            "since_us": found["since_us"],
            "opens_us": _or(found["opens_us"], day_us),
            "closes_us": _or(found["closes_us"], day_us + US_PER_DAY),
        }


def _or(values: NDArray[Any], others: Ints) -> Ints:
    """The others where there is none."""
    return np.where(np.isnan(values), others, values).astype(np.int64)


def _begins(places: Ints, bounds: Ints, of: Ints, place: Ints) -> Ints:
    """Where rows from these places on begin in the run `of` each."""
    begins, ends = bounds[:-1][of], bounds[1:][of]
    found = np.where(places <= place[begins], begins, ends)
    for at in np.flatnonzero((places > place[begins]) & (places <= place[ends - 1])).tolist():
        found[at] = begins[at] + np.searchsorted(place[begins[at] : ends[at]], places[at])
    return found


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
        ON sources.from_us < days.day_us + {US_PER_DAY} AND sources.until_us > days.day_us
            AND sources.noted_us >= days.day_us - {US_PER_DAY}
    ), stretches AS (
        FROM asked UNION ALL
        SELECT date, instrument_token, NULL, 0, min(from_us) FROM asked GROUP BY date, instrument_token
    ), listening AS (
        SELECT coalesce(hours.date, stretches.date) AS date,
            coalesce(hours.instrument_token, stretches.instrument_token) AS instrument_token, symbol, opens_us,
            closes_us, since_us, coalesce(from_us, 0) AS from_us, coalesce(until_us, {_FOREVER_US}) AS until_us
        FROM hours FULL JOIN stretches
            ON hours.date = stretches.date AND hours.instrument_token = stretches.instrument_token
    )
    SELECT *, {RUN_SQL} AS run FROM listening ORDER BY run, from_us
    """
