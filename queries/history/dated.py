"""Ticks with the exchange's times as of the day on which they were received: whether one is of another day.

A packet is of the day if its time, and that of its trade, is of the IST day of receipt. In a folder of a replay it is
if they are of the replayed day, whenever that is captured: there the days between the two are added to its times. Then
everything that compares them with the day of receipt is right in both, and has to know nothing of replays.

The market's clock of a replay is not this machine's, so that a time of the exchange says nothing about when connections
were asked for an instrument. There the first packet since then that says its time tells it: it is the cached one.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from queries.lake import LakeState, Relation, sources_sql
from storage.clock import US_PER_DAY
from storage.datafolder import replayed_day

_AS_THEY_ARE: Final = "SELECT *, NULL::BIGINT AS asked_us FROM ticks"


def is_replayed(state: LakeState) -> bool:
    """Whether the packets are of a replay: then the exchange's clock is not that of receipt."""
    return replayed_day(state.root) is not None


def shift_us(state: LakeState, day: dt.date) -> int:
    """What is added to the exchange's times of packets received on this day; 0 but in a folder of a replay."""
    replayed = replayed_day(state.root)
    return 0 if replayed is None else (day - replayed).days * US_PER_DAY


def _dated(state: LakeState, _: Sequence[dt.date]) -> str:
    replayed = replayed_day(state.root)
    if replayed is None:
        return _AS_THEY_ARE
    shift = f"(date - DATE '{replayed}') * {US_PER_DAY}"
    times = ", ".join(
        f"make_timestamptz(epoch_us({name}) + {shift}) AS {name}" for name in ("exchange_timestamp", "last_trade_time")
    )
    return f"""
    SELECT * EXCLUDE (since) REPLACE ({times}), epoch_us(first_value(exchange_timestamp IGNORE NULLS) OVER (
            PARTITION BY date, exchange, instrument_token, since ORDER BY received_at, stream, seq
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        )) + {shift} AS asked_us
    FROM (
        SELECT ticks.*, sources.since
        FROM ticks LEFT JOIN ({sources_sql()}) AS sources ON ticks.instrument_token = sources.instrument_token
            AND ticks.received_at >= sources.rows_from AND ticks.received_at < sources.rows_until
    )
    """


DATED_TICKS: Final = Relation(
    "dated_ticks", _dated, frozenset({"ticks", "events"}), _AS_THEY_ARE, keeps=frozenset({"ticks"})
)
"""`ticks`, and `asked_us`: in a folder of a replay when, by the exchange's clock, a row's connection was asked for its
instrument; else null."""
