"""What was missed in an interval, by the packet that ends it: lower bounds, never more than what was really missed.

Nothing is said without a packet that shows it. Of what the day's packets carry, the cumulative volume, the day's high
and low, and open interest tell of what happened between two packets:

- While an instrument could not be received (not subscribed, disconnected, not yet served), all that the next packet
  shows beyond the one before is missed, cached or not. Without one before, that is what the day has brought so far.
- While it could, a packet brings what has just happened, and nothing is missed; unless it tells of a last trade, or for
  open interest of a time, that was longer ago than it takes to count as silent.

The volume and the extremes of a packet are those of the day if its last trade is, else the day has brought nothing yet.
Packets that do not say when the last trade was (quote mode) are compared as they are, and the first says nothing.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from queries.quality.intervals import AWAY, BLOCK, Bools, Intervals, Ints

Floats = NDArray[np.float64]

UNKNOWN: Final = -1
"""Of whole numbers. Of prices it is NaN."""
_SECOND_US: Final = 1_000_000


class Packets(NamedTuple):
    """All packets of some instruments, ascending on the line (see `queries.quality.intervals`).

    Times in µs since the day began, from before it as well; `UNKNOWN_TIME` where there is none.
    """

    at: Ints
    exchange: Ints
    traded: Ints
    volume: Ints
    high: Floats
    low: Floats
    oi: Ints
    price: Floats


UNKNOWN_TIME: Final = -(1 << 62)


class Missed(NamedTuple):
    """One value an interval. `missed` is 1, 0 or UNKNOWN; `volume` UNKNOWN and prices NaN if there is nothing to say;
    `oi` is what it moved by, and counts where `oi_known`."""

    missed: Ints
    volume: Ints
    high: Floats
    low: Floats
    oi: Ints
    oi_known: Bools


def missed_in(intervals: Intervals, packets: Packets, open_us: Ints, close_us: Ints, silent_us: int) -> Missed:
    """What was missed in each of the intervals. Of several in a row in which nothing could be received, it stands in
    the one that has most of the hours of trading, which go from `open_us` to `close_us` of each instrument's day."""
    away = intervals.states <= AWAY
    end, holds = _ends_of_runs(intervals, away, open_us, close_us)
    count = len(packets.at)
    after = np.searchsorted(packets.at, end)
    known = holds & (after < count)
    after = np.where(known, after, 0)
    if not count:
        known = np.zeros(len(end), np.bool_)
        return _nothing(len(end))
    known &= packets.at[after] == end
    before = after - 1
    has_before = known & (before >= 0) & (packets.at[before] // BLOCK == end // BLOCK)
    then, now = _Values(packets, before, has_before), _Values(packets, after, known)
    late_trade = now.traded + _SECOND_US <= end % BLOCK - silent_us
    late_packet = now.exchange + _SECOND_US <= end % BLOCK - silent_us
    index = now.raw == UNKNOWN
    sayable = away | (np.where(index, now.exchange, now.traded) != UNKNOWN_TIME)
    told = away | (sayable & np.where(index, late_packet, late_trade))

    volume = np.where(known & sayable, np.where(told, _grown(then, now), _zero_if_known(now)), UNKNOWN)
    high = np.where(told, _risen(then, now, 1), np.nan)
    low = np.where(told, -_risen(then, now, -1), np.nan)
    oi_known = (then.oi > 0) & (now.oi > 0) & (away | (now.dated & late_packet))
    oi = np.where(oi_known, now.oi - then.oi, 0)
    moved = away & has_before & (then.price > 0) & (now.price > 0) & (then.price != now.price)
    shown = (volume > 0) | ~np.isnan(high) | ~np.isnan(low) | (oi != 0) | moved
    comparable = sayable & (has_before | (volume != UNKNOWN))
    missed = np.where(known & comparable, shown.astype(np.int64), UNKNOWN)
    return Missed(missed, volume, high, low, oi, oi_known)


def _nothing(count: int) -> Missed:
    none, nan = np.full(count, UNKNOWN), np.full(count, np.nan)
    return Missed(none, none, nan, nan, np.zeros(count, np.int64), np.zeros(count, np.bool_))


def _ends_of_runs(intervals: Intervals, away: Bools, open_us: Ints, close_us: Ints) -> tuple[Ints, Bools]:
    """Of each interval where the next packet may be: its stop, or that of the last of a row in which nothing could be
    received. And which intervals hold what was missed there."""
    starts, stops, _ = intervals
    count = len(starts)
    if not count:
        return stops, away
    joined = away[1:] & away[:-1] & (starts[1:] == stops[:-1]) & (starts[1:] // BLOCK == starts[:-1] // BLOCK)
    run = np.cumsum(np.append(True, ~joined)) - 1
    last = np.flatnonzero(np.append(~joined, True))
    number = starts // BLOCK
    begin, end = starts % BLOCK, stops - number * BLOCK
    trading = (np.minimum(end, close_us[number]) - np.maximum(begin, open_us[number])).clip(min=0)
    best = np.lexsort((starts, begin - end, -trading, run))  # the most first, in each row
    first = np.append(True, np.diff(run[best]) != 0)
    holds = np.zeros(count, np.bool_)
    holds[best[first]] = True
    return stops[last[run]], holds


class _Values:
    """What some of the packets carry; unknown where there is none."""

    def __init__(self, packets: Packets, which: Ints, there: Bools) -> None:
        self.there = there
        self.exchange = np.where(there, packets.exchange[which], UNKNOWN_TIME)
        self.traded = np.where(there, packets.traded[which], UNKNOWN_TIME)
        self.raw = np.where(there, packets.volume[which], UNKNOWN)
        self.price = np.where(there, packets.price[which], np.nan)
        self.oi = np.where(there, packets.oi[which], UNKNOWN)
        self.high = np.where(there, packets.high[which], np.nan)
        self.low = np.where(there, packets.low[which], np.nan)
        tradable = self.raw != UNKNOWN
        self.dated = there & (self.exchange != UNKNOWN_TIME)
        """Whether it says of what day it is."""
        self.is_of_the_day = self.dated & (np.where(tradable, self.traded, self.exchange) >= 0)
        """… and that is this one: an instrument that has not traded today has nothing of today."""
        self.of_day = np.where(self.is_of_the_day, self.raw, np.where(self.dated & tradable, 0, UNKNOWN))


def _grown(then: _Values, now: _Values) -> Ints:
    """The volume that came in between, at least."""
    dated = now.of_day != UNKNOWN
    base = np.where(dated & (then.of_day != UNKNOWN), then.of_day, then.raw)
    base = np.where(then.there, base, np.where(dated, 0, UNKNOWN))
    grown = (np.where(dated, now.of_day, now.raw) - base).clip(min=0)
    return np.where((now.raw != UNKNOWN) & (base != UNKNOWN), grown, UNKNOWN)


def _zero_if_known(now: _Values) -> Ints:
    return np.where(now.raw != UNKNOWN, 0, UNKNOWN)


def _risen(then: _Values, now: _Values, sign: int) -> Floats:
    """The day's high, with its sign, if it rose in between; NaN if not. With -1 the same of the low."""
    value, was = (sign * (each.high if sign > 0 else each.low) for each in (now, then))
    value = np.where((value == 0) | (now.dated & ~now.is_of_the_day), np.nan, value)
    fresh = now.is_of_the_day & (now.raw != UNKNOWN) & (~then.there | (then.dated & ~then.is_of_the_day))
    risen = fresh | (then.there & (value > was) & (was != 0))
    return np.where(risen, value, np.nan)
