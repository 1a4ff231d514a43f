"""When connections listened to the instruments of a part, as sets on the line, and what their packets make of it. Pure.

A packet without a time of its own (ltp, quote and index quote) is live unless it is the first since it was asked for.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from queries.connections import Wanted
from queries.quality.intervals import BLOCK, Bools, Ints, Stretches, united
from storage.clock import US_PER_DAY

_NEVER: Final = 1 << 62

Source = tuple[str, tuple[str, int]]
"""A stream, and a connection in it: account and number."""


class Periods:
    """From when to when a connection was asked for an instrument. `places` are the connections by their numbers."""

    def __init__(self, wanted: Wanted, places: Sequence[Source], tokens: Ints, begin_us: int) -> None:
        number = {token: each for each, token in enumerate(tokens.tolist())}
        place_of = {place: each for each, place in enumerate(dict.fromkeys([*places, *wanted.periods]))}
        self._count = len(tokens)
        rows = [
            (place_of[place], number[period.token], period.begin - begin_us, period.end - begin_us, period.asked)
            for place, periods in wanted.periods.items()
            for period in periods
            if period.token in number and period.end > begin_us
        ]
        columns = np.array(rows, np.int64).reshape(-1, 5).T
        order = np.lexsort((columns[2], columns[1], columns[0]))
        place, self._number, begin, end, asked = columns[:, order]
        self._begun_before = begin < 0
        self._begin, self._end = begin.clip(0, US_PER_DAY), end.clip(0, US_PER_DAY)
        self._asked = asked.astype(np.bool_) & ~self._begun_before
        self._keys = (place * self._count + self._number) * BLOCK + self._begin

    def of(self, place: Ints, number: Ints, us: Ints) -> Ints:
        """In which period each packet was received; -1 for none."""
        if not len(self._keys):
            return np.full(len(us), -1)
        key = place * self._count + number
        at = np.searchsorted(self._keys, key * BLOCK + us, "right") - 1
        return np.where((at >= 0) & (self._keys[at] // BLOCK == key) & (us <= self._end[at]), at, -1)

    def sets(self, which: Ints, us: Ints, *, timed: Bools, new: Bools) -> tuple[Stretches, Stretches, Stretches, Bools]:
        """Where something was asked for, where a packet had come since, and where a live one had; and which of the
        packets came in the last. `which` is as from `of`, `timed` who says when it is of, and `new` whose time is new.

        What was asked for on a day before counts as live from the day's begin on.
        """
        there = which >= 0
        first = np.where(self._begun_before, 0, _NEVER)
        np.minimum.at(first, which[there], us[there])
        is_live = np.where(timed, new, ~there | ~self._asked[which] | (us > first[which])) if len(first) else ~there
        is_live &= there
        live = np.where(self._begun_before, 0, _NEVER)
        np.minimum.at(live, which[is_live], us[is_live])
        block = self._number * BLOCK
        sets = [united(block + start.clip(max=US_PER_DAY), block + self._end) for start in (self._begin, first, live)]
        since = live[which] if len(live) else us
        return sets[0], sets[1], sets[2], there & (us >= since)


def waits(wanted: Wanted, tokens: Ints, begin_us: int) -> Stretches:
    """Where instruments were wanted, and the connection was none."""
    found = np.array([tuple(wait) for wait in wanted.waits], np.int64).reshape(-1, 3)
    token, begin, end = found[np.isin(found[:, 0], tokens)].T
    block = np.searchsorted(tokens, token) * BLOCK
    return united(block + (begin - begin_us).clip(0, US_PER_DAY), block + (end - begin_us).clip(0, US_PER_DAY))
