"""Why there is nothing of some instruments in a range: what can be said of it without a helper's work."""

from typing import Any

from queries.history import Symbols, TimeRange, chosen
from queries.lake import LakeState, among, with_before
from storage.clock import IST


def why_nothing(state: LakeState, symbols: Symbols | None, when: TimeRange) -> str | None:
    """Why a helper shows nothing of the symbols, or of all there are; None if it is not known.

    Raises SymbolError for what resolves to nothing.
    """
    captured = state.dates("ticks")
    days = when.days(captured)
    if not captured:
        return "nothing was captured yet"
    if not days:
        first, last = when.first_day or captured[0], when.last_day or captured[-1]
        span = f"on {first}" if first == last else f"from {first} to {last}"
        return f"nothing was captured {span}, but from {captured[0]} to {captured[-1]}"
    selection = None if symbols is None else chosen(state, symbols, days)
    which = "true" if selection is None else selection.where()
    ((packets, then, first_at, last_at),) = _rows(
        state,
        f"SELECT count(*), count(*) FILTER ({when.where()}), min(received_at), max(received_at) FROM ticks_all "
        f"WHERE {which} AND {among(days)}",
    )
    span = f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"
    if then and selection is None:
        return None
    if then:
        return f"what was received in that range, {_packets(then)}, has nothing of what is asked for"
    if packets:
        begin, end = (f"{each.astimezone(IST):%Y-%m-%d %H:%M:%S}" for each in (first_at, last_at))
        return f"what was received {span}, {_packets(packets)}, came from {begin} to {end} IST, none in that range"
    if selection is None:
        return None
    tokens = ", ".join(map(str, selection.tokens))
    asked = _rows(
        state,
        f"""
        SELECT token FROM (
            SELECT unnest((data->'$.tokens')::BIGINT[]) AS token FROM events
            WHERE event IN ('subscribed', 'held') AND {among(with_before(days))}
        ) WHERE token IN ({tokens}) LIMIT 1
        """,
    )
    return f"it was subscribed, but no packet came {span}" if asked else f"it was not subscribed {span}"


def _rows(state: LakeState, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in state.sql(query).arrow().to_pylist()]


def _packets(number: int) -> str:
    return f"{number:,} packet{'' if number == 1 else 's'}"
