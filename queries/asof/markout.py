"""Where the mid was some time before and after given events."""

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from typing import Final

from queries.asof.book import CARRIES_BOOK
from queries.asof.inputs import Rows, microseconds, source_of
from queries.asof.measures import MID
from queries.errors import QueryError
from queries.history import chosen
from queries.lake import LakeState, Result, among, literal, quoted

_ADDED: Final = ("horizon", "quoted_at", "mid", "change")
_PATTERN: Final = re.compile(r"[*?]")


def markout(
    state: LakeState,
    events: Rows,
    horizons: float | dt.timedelta | Sequence[float | dt.timedelta],
    tolerance: float | dt.timedelta,
    symbol: str,
    time: str,
) -> Result:
    """What `AsofMethods.markout` says. Raises QueryError, SymbolError."""
    several = list(horizons) if isinstance(horizons, Iterable) else [horizons]
    wanted = sorted({microseconds(each, "horizons") for each in several})
    if not wanted:
        raise QueryError("horizons: got an empty list, expected seconds, such as [-5, 1, 10, 60]")
    oldest = microseconds(tolerance, "tolerance")
    source = source_of(state, events, "events")
    source.has([symbol, time])
    if taken := [name for name in _ADDED if name in source.columns]:
        raise QueryError(f"events: got a column {taken[0]}, which is what markout adds; expected another name")
    at = source.instant(time)
    every = sorted({0, *wanted})  # the event itself is always looked up, for the change since then
    names, which = _instruments(state, source.text, symbol, at, every)
    fresh = f"epoch_us(_moment) - epoch_us(mids.received_at) <= {oldest}"
    own = ", ".join(f"wanted.{quoted(name)}" for name in source.columns)
    return state.sql(
        f"""
        WITH given AS MATERIALIZED (
            SELECT *, {at} AS _at, row_number() OVER () AS _event FROM (\n{source.text}\n)
        ), wanted AS (
            SELECT given.*, names.name AS _name, _horizon, _at + to_microseconds(_horizon) AS _moment
            FROM given CROSS JOIN (SELECT unnest({every}::BIGINT[]) AS _horizon)
            LEFT JOIN (VALUES {names}) AS names(asked, name) ON names.asked = given.{quoted(symbol)}
        ), mids AS (
            SELECT symbol, date, received_at, max_by({{'mid': {MID}}}, (stream, seq)).mid AS mid
            FROM ticks WHERE {CARRIES_BOOK} AND {which} GROUP BY symbol, date, received_at
        ), found AS (
            SELECT {own}, _name, _at, _event, _horizon, CASE WHEN {fresh} THEN mids.mid END AS _mid,
                CASE WHEN {fresh} THEN mids.received_at END AS _quoted_at
            FROM wanted ASOF LEFT JOIN mids ON mids.symbol = _name
                AND mids.date = timezone('Asia/Kolkata', _moment)::DATE AND _moment >= mids.received_at
        )
        SELECT {own.replace("wanted.", "")}, _horizon / 1e6 AS horizon, _quoted_at AS quoted_at, _mid AS mid,
            _mid - max(_mid) FILTER (_horizon = 0) OVER (PARTITION BY _event) AS change
        FROM found QUALIFY _horizon IN ({", ".join(map(str, wanted))}) ORDER BY _name, _at, _event, _horizon
        """
    )


def _instruments(state: LakeState, events: str, symbol: str, at: str, horizons: Sequence[int]) -> tuple[str, str]:
    """As SQL: pairs of what the events' symbols say and the instrument's name; and the condition for their quotes."""
    found = state.sql(
        f"""
        SELECT DISTINCT symbol, timezone('Asia/Kolkata', moment + to_microseconds(horizon))::DATE AS day
        FROM (SELECT {quoted(symbol)} AS symbol, {at} AS moment FROM (\n{events}\n))
        CROSS JOIN (SELECT unnest({horizons}::BIGINT[]) AS horizon) WHERE symbol IS NOT NULL AND moment IS NOT NULL
        """
    ).arrow()
    asked = sorted(set(found.column("symbol").to_pylist()), key=str)
    if not asked:
        return "(NULL, NULL)", "false"
    if odd := [each for each in asked if not isinstance(each, str) or _PATTERN.search(each)]:
        raise QueryError(f"events: got {odd[0]!r} in column {symbol}, expected names such as NSE:INFY")
    days = sorted(set(found.column("day").to_pylist()))
    selection = chosen(state, asked, days)
    names = {(str(each.asked), name) for each in selection.resolved for _, name in each.instruments if name}
    pairs = ", ".join(f"({literal(one)}, {literal(name)})" for one, name in sorted(names))
    return pairs, f"{among(days)} AND {selection.where()}"
