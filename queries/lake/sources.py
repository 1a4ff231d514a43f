"""Which connection an instrument's ticks are shown from at each moment, by the events of the connections.

A connection is a source of an instrument from the moment at which it was asked for it until that ends: the connection
was lost, it was asked to stop, its run of the service stopped or, if that was killed, the next run started. Of several
sources at a time the one that was asked first is shown; a row of another is in `ticks_all` alone. So the stretches of
an instrument do not overlap. Contents of packets are never compared.

Where nothing is known of a row, from a source that no event tells of, it is shown.

Beside these ticks a lake has what is in a tick in the shape in which it is asked for: quotes and depth.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from queries.lake.state import LakeState, Relation
from queries.lake.statements import among
from queries.lake.views import RowsView
from storage.schema import DEPTH_LEVELS

_ONE_DAY: Final = dt.timedelta(days=1)
_LOST: Final = "'closed', 'refused', 'failed', 'connected'"
_ALL: Final = "SELECT *, NULL::TIMESTAMPTZ AS source_since FROM ticks_all"


def sources_sql(days: str = "true", tokens: str = "true") -> str:
    """The SELECT of the stretches: instrument_token, stream, account, connection, since, noted, shown_from, until,
    rows_from, rows_until.

    The connection was asked at `since`, and the last event that says so is of `noted`: a service that runs for days
    notes at the beginning of each what it holds, so the events of a day and of the one before are enough. Rows are
    shown from `shown_from` up to `until`. If `shown_from` is later than `since`, another was shown up to there, and
    nothing was missed between. A row of `ticks` is judged by that stretch of its instrument with `received_at >=
    rows_from AND received_at < rows_until`: the first packet may be there a moment before it is noted that it was asked
    for, and the last one a moment after it is noted that no more is wanted. `days` is a condition on the `date` of
    events, which should include the day before; `tokens` one on `instrument_token`.
    """
    return f"""
    SELECT * EXCLUDE (lost_before), coalesce(lead(rows_from) OVER (
            PARTITION BY instrument_token ORDER BY since, stream, account, connection
        ), 'infinity') AS rows_until
    FROM (
        SELECT *, greatest(since - INTERVAL 1 SECOND, lost_before) AS rows_from
        FROM ({_asked_sql(days, tokens)}) WHERE shown_from < until
    )
    """


def _asked_sql(days: str, tokens: str) -> str:
    """The same of all that were asked for an instrument, with those that are never shown."""
    return f"""
    SELECT *, greatest(since, lost_before) AS shown_from FROM (
        SELECT *, max(until) OVER (
            PARTITION BY instrument_token ORDER BY since, stream, account, connection
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS lost_before
        FROM (
            SELECT asked.*, least(
                coalesce(lost.at, 'infinity'), coalesce(dropped.at, 'infinity'), coalesce(ended.at, 'infinity')
            ) AS until
            FROM (
                SELECT instrument_token, stream, account, connection, since, max(noted) AS noted
                FROM ({_told_sql(days)}) WHERE {tokens} GROUP BY ALL
            ) AS asked
            ASOF LEFT JOIN (
                SELECT stream, account, connection, received_at AS at FROM events WHERE event IN ({_LOST}) AND {days}
                UNION ALL
                SELECT stream, account, connection,
                    received_at - to_microseconds((1e6 * (data->'$.silent_seconds')::DOUBLE)::BIGINT)
                FROM events WHERE event = 'silent' AND {days}
            ) AS lost ON asked.stream = lost.stream AND asked.account = lost.account
                AND asked.connection = lost.connection AND asked.since < lost.at
            ASOF LEFT JOIN (
                SELECT stream, account, connection, received_at AS at,
                    unnest((data->'$.tokens')::BIGINT[]) AS instrument_token
                FROM events WHERE event = 'unsubscribed' AND {days}
            ) AS dropped ON asked.stream = dropped.stream AND asked.account = dropped.account
                AND asked.connection = dropped.connection AND asked.instrument_token = dropped.instrument_token
                AND asked.since < dropped.at
            ASOF LEFT JOIN (
                SELECT received_at AS at FROM events
                WHERE event IN ('started', 'stopped') AND account IS NULL AND {days}
            ) AS ended ON asked.since < ended.at
        )
    )
    """


def _told_sql(days: str) -> str:
    """A row for each instrument that an event says a connection was asked for: at `since`, as `noted` then."""
    return f"""
    SELECT date, stream, account, connection, received_at AS noted,
        unnest((data->'$.tokens')::BIGINT[]) AS instrument_token,
        coalesce(make_timestamptz(unnest((data->'$.since_us')::BIGINT[])), received_at) AS since
    FROM events WHERE event IN ('subscribed', 'held') AND {days}
    """


def _by_day(state: LakeState) -> dict[dt.date, tuple[object, ...]]:
    """Of each day with events what they are read from: equal values mean equal events."""
    source = state.views["events"].source
    found: dict[dt.date, tuple[object, ...]] = {}
    for path in source.files:  # …/date=2026-11-24/name.parquet
        day = dt.date.fromisoformat(path.rpartition("/")[0].rpartition("=")[2])
        found[day] = (*found.get(day, ()), path)
    if isinstance(source.live, pa.Table):  # of events they are
        for day in set(source.live["date"].to_pylist()):  # `unique` would load pyarrow.compute: a tenth of a second
            found[day] = (*found.get(day, ()), source.live)
    return found


def _suspects(state: LakeState, days: Sequence[dt.date]) -> set[dt.date]:
    """Those of the days on which an instrument was asked for on several connections, perhaps one after the other; or
    on one after it had been asked for on another the day before, which may have gone on."""
    query = f"""
        WITH asked AS (
            SELECT DISTINCT date, stream, account, connection, instrument_token
            FROM ({_told_sql(among(with_before(days)))})
        )
        SELECT date FROM asked GROUP BY date, instrument_token HAVING count(*) > 1
        UNION SELECT date FROM (
            SELECT DISTINCT unnest([date, date + 1]) AS date, account, connection, instrument_token FROM asked
        ) GROUP BY date, instrument_token HAVING count(*) > 1
        """
    (found,) = state.read([query])
    return set(days).intersection(found.column("date").to_pylist())


def with_before(days: Iterable[dt.date]) -> list[dt.date]:
    """The days, and the day before each."""
    return sorted({each for day in days for each in (day - _ONE_DAY, day)})


def _redundant(state: LakeState, days: Sequence[dt.date]) -> pa.Table:
    """The stretches of the instruments that had several sources at the same time on one of these days, ascending.

    What began on one of them may have ended on a day between them, so the events of those are read as well.
    """
    around = f"date BETWEEN DATE '{days[0] - _ONE_DAY}' AND DATE '{days[-1]}'"
    query = f"""
        WITH asked AS ({_asked_sql(around, "true")})
        FROM asked WHERE shown_from < until AND instrument_token IN (
            SELECT one.instrument_token FROM asked AS one JOIN asked AS other USING (instrument_token)
            WHERE one.shown_from > one.since AND other.since <= one.since AND other.until > one.since
            AND (one.stream, one.account, one.connection) <> (other.stream, other.account, other.connection)
        ) ORDER BY ALL
        """
    (found,) = state.read([query])
    return found


def _ticks(state: LakeState, asked: Sequence[dt.date]) -> str:
    """`ticks_all` as it is, but for the days on which some instruments had several sources at a time."""
    days, shown = shown_sources(state, asked)
    if shown is None:
        return _ALL
    return f"""
        SELECT *, NULL::TIMESTAMPTZ AS source_since FROM ticks_all WHERE NOT ({among(days)})
        UNION ALL
        SELECT ticks_all.*, shown.shown_from AS source_since
        FROM ticks_all LEFT JOIN {shown.name} AS shown ON ticks_all.instrument_token = shown.instrument_token
            AND ticks_all.received_at >= shown.shown_from AND ticks_all.received_at < shown.until
        WHERE {among(days)} AND (shown.stream IS NULL OR (
            ticks_all.stream = shown.stream AND ticks_all.account = shown.account
            AND ticks_all.connection = shown.connection))
    """


def shown_sources(state: LakeState, asked: Sequence[dt.date]) -> tuple[Sequence[dt.date], RowsView | None]:
    """Those of the days on which some instruments had several sources at a time, and a view of the stretches of these:
    of a row that was received in one of its instrument's, on such a day, another source's is left out. None without
    such days.

    Which days these are is read off the events of the days that are asked for, of each once, as long as no more of it
    come.
    """
    days, shown = state.remembered("sources", tuple(asked), ["events"], lambda: _shown(state, asked))
    if shown is not None:
        state.keep(shown)
    return days, shown


def _shown(state: LakeState, asked: Sequence[dt.date]) -> tuple[Sequence[dt.date], RowsView | None]:
    memo = state.memo.setdefault("days with sources", {})
    events = _by_day(state)
    # What was asked for may last into the next day.
    now = {day: (events.get(day - _ONE_DAY), events.get(day)) for day in asked}
    fresh = [day for day, parts in now.items() if memo.get(day, (None,))[0] != parts]
    suspects = _suspects(state, fresh) if fresh else set()
    memo.update({day: (now[day], day in suspects) for day in fresh})
    days = sorted(day for day in now if memo[day][1])
    rows = _redundant(state, days) if days else ()
    return (days, state.rows_view("sources", rows)) if len(rows) else ((), None)


TICKS: Final = Relation("ticks", _ticks, frozenset({"ticks_all", "events"}), _ALL, keeps=frozenset({"ticks_all"}))
"""The view; `source_since` is null but where an instrument had several sources: since when this one is shown."""

_QUOTES: Final = """
    SELECT date, exchange, received_at, instrument_token, symbol, last_price,
        bid_price_1 AS bid, bid_quantity_1 AS bid_quantity, ask_price_1 AS ask, ask_quantity_1 AS ask_quantity,
        (bid_price_1 + ask_price_1) / 2 AS mid,
        (bid_price_1 * ask_quantity_1 + ask_price_1 * bid_quantity_1) / (bid_quantity_1 + ask_quantity_1) AS microprice,
        ask_price_1 - bid_price_1 AS spread, exchange_timestamp, stream, seq
    FROM ticks WHERE bid_price_1 IS NOT NULL
"""


def _depth() -> str:
    """One row a side and level; a level that is empty, whose quantity the packet has as 0, is none."""
    levels = ", ".join(
        f"{{'side': '{side}', 'level': {level}, 'price': {side}_price_{level}, "
        f"'quantity': {side}_quantity_{level}, 'orders': {side}_orders_{level}}}"
        for side in ("bid", "ask")
        for level in range(1, DEPTH_LEVELS + 1)
    )
    return f"""
    SELECT date, exchange, received_at, instrument_token, symbol, entry.side, entry.level, entry.price, entry.quantity,
        entry.orders, exchange_timestamp, stream, seq
    FROM (
        SELECT date, exchange, received_at, instrument_token, symbol, exchange_timestamp, stream, seq,
            unnest([{levels}]) AS entry
        FROM ticks WHERE mode = 'full' AND bid_price_1 IS NOT NULL
    ) WHERE entry.quantity > 0
    """


RELATIONS: Final = (TICKS, Relation.view("quotes", _QUOTES), Relation.view("depth", _depth()))
"""Those that every lake has beside its tables."""
