"""What marks a packet that tells of the past: the cached one, which a connection gets when it asks for an instrument.

A packet is cached if the exchange's time in it is not later than the second in which its connection was asked for the
instrument, or is of another day than its receipt. Nothing else is looked at, so a mark depends on no other packet. A
packet that does not say the exchange's time (`quote`, `ltp`) is not marked: null. In a folder of a replay times and the
moment of asking are those of `queries.history.dated`.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from queries.feed.reading import FOREVER_US, last_before, numbers_of
from queries.history import DATED_TICKS, is_replayed, shift_us
from queries.lake import LakeState, among, sources_sql, with_before
from storage.clock import NS_PER_US, day_bounds_ns
from storage.memory import arrow_flags, missing_of

NEEDS: Final = ("received_at", "instrument_token", "exchange_timestamp")
_SECOND_US: Final = 1_000_000


class Marks:
    """The marks of a day's rows."""

    def __init__(self, state: LakeState, day: dt.date, tokens: Sequence[int] | None) -> None:
        begin, end = (bound // NS_PER_US for bound in day_bounds_ns(day))
        self._day_us = begin, end
        self._shift_us = shift_us(state, day)
        which = None if tokens is None else tuple(sorted(tokens))
        if is_replayed(state):
            asked = _replayed(state, day, which)
        else:
            asked = state.remembered("asked", (day, which), ["events"], lambda: _asked(state, day, which, begin))
        self._token, self._from, self._until, self._since = map(numbers_of, asked.columns)

    def of(self, columns: Mapping[str, pa.Array]) -> pa.Array:
        """Of rows, in any order: true, false or null."""
        stamped_at = columns["exchange_timestamp"]
        unsaid = missing_of(stamped_at)
        stamped, received = numbers_of(stamped_at) + self._shift_us, numbers_of(columns["received_at"])
        cached = (stamped < self._day_us[0]) | (stamped >= self._day_us[1])
        if len(self._since) and len(received):
            # Later than all that was asked until the last of these rows: nearly always.
            latest = int(self._since[self._from <= received.max()].max(initial=0))
            suspects = np.flatnonzero((stamped // _SECOND_US <= latest // _SECOND_US) & ~cached & ~unsaid)
            if len(suspects):
                token, at = numbers_of(columns["instrument_token"])[suspects], received[suspects]
                place = last_before(self._token, self._from, token, at)
                known = (place >= 0) & (at < self._until[place])
                cached[suspects] = known & (stamped[suspects] // _SECOND_US <= self._since[place] // _SECOND_US)
        return arrow_flags(cached, unsaid)


def _asked(state: LakeState, day: dt.date, tokens: Sequence[int] | None, begin_us: int) -> pa.Table:
    """When connections were asked for instruments: instrument_token, from_us, until_us and since_us, ascending."""
    # What was noted earlier than the day before may have ended since.
    (asked,) = state.read(
        [
            f"""
        SELECT instrument_token, epoch_us(rows_from) AS from_us,
            CASE WHEN isfinite(rows_until) THEN epoch_us(rows_until) ELSE {FOREVER_US} END AS until_us,
            epoch_us(since) AS since_us
        FROM ({sources_sql(among(with_before([day])), _which(tokens))})
        WHERE epoch_us(noted) >= {begin_us - 24 * 3600 * _SECOND_US}
        ORDER BY instrument_token, from_us
        """
        ]
    )
    return asked


def _replayed(state: LakeState, day: dt.date, tokens: Sequence[int] | None) -> pa.Table:
    """The same of a replay, by the exchange's clock."""
    (asked,) = state.read(
        [
            f"""
        SELECT instrument_token, from_us, coalesce(lead(from_us) OVER (
                PARTITION BY instrument_token ORDER BY from_us
            ), {FOREVER_US}) AS until_us, asked_us AS since_us
        FROM (
            SELECT instrument_token, asked_us, min(epoch_us(received_at)) AS from_us FROM {DATED_TICKS.name}
            WHERE date = DATE '{day}' AND {_which(tokens)} AND asked_us IS NOT NULL GROUP BY ALL
        ) ORDER BY instrument_token, from_us
        """
        ]
    )
    return asked


def _which(tokens: Sequence[int] | None) -> str:
    return "true" if tokens is None else f"instrument_token IN ({', '.join(map(str, tokens)) or 'NULL'})"
