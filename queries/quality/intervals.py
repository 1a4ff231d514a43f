"""Stretches of the day of many instruments as sets on one line, and what they say together. Pure.

Each instrument has a block of the line to itself, `BLOCK` long: a point is the number of the instrument times `BLOCK`
and the microseconds since the day began. So a union, or the question what a point is in, is one operation for all of
them. A set is (starts, stops), ascending, without overlaps; it has its starts and not its stops.
"""

from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BLOCK: Final = 1 << 37
"""More microseconds than a day has."""


class State(StrEnum):
    """What became of an instrument in an interval; of several that may hold, by several connections, the last."""

    NOT_SUBSCRIBED = "not subscribed"  # no connection was to bring it
    DISCONNECTED = "disconnected"  # the connection that was to is lost, the service is away, or frames had no room
    NOT_YET_SERVED = "not yet served"  # it was asked for, and no packet has come
    CACHED_ONLY = "cached packet only"  # the last value from before, and nothing that is live
    SILENT = "silent"  # nothing came for longer than packets may take
    SERVED = "served"


AWAY: Final = 2
"""The places of states up to this one are those in which nothing can be received."""


class Stretches(NamedTuple):
    """A set of points of the line."""

    starts: Ints
    stops: Ints

    def has(self, points: Ints) -> Bools:
        """Which of these points are in the set."""
        if not len(self.starts):
            return np.zeros(len(points), np.bool_)
        at = np.searchsorted(self.starts, points, "right") - 1
        return (at >= 0) & (points < self.stops[at])


def united(starts: Ints, stops: Ints) -> Stretches:
    """The union of stretches in any order; those that touch are one, empty ones none."""
    there = starts < stops
    starts, stops = starts[there], stops[there]
    if not len(starts):
        return Stretches(starts, stops)
    order = np.argsort(starts, kind="stable")
    starts, latest = starts[order], np.maximum.accumulate(stops[order])
    first = np.append(True, starts[1:] > latest[:-1])
    return Stretches(starts[first], latest[np.append(first[1:], True)])


def silences(listening: Stretches, packets: Ints, silent_us: int) -> Stretches:
    """Where nothing came for longer than `silent_us` while it was listened: from a packet, or the beginning, to the
    next one, or the end. `packets` are ascending."""
    points = _distinct(np.concatenate((packets, listening.starts, listening.stops)))
    starts, stops = points[:-1], points[1:]
    found = (stops - starts > silent_us) & listening.has(starts)
    return Stretches(starts[found], stops[found])


def _distinct(points: Ints) -> Ints:
    """Ascending, each once. (`np.unique` hashes, which takes longer for what is nearly in order.)"""
    points = np.sort(points, kind="stable")
    found: Ints = points[np.append(True, points[1:] != points[:-1])[: len(points)]]
    return found


class Intervals(NamedTuple):
    """Intervals that tile the span of each instrument, in order: points of the line, and places of states."""

    starts: Ints
    stops: Ints
    states: Ints


def tiled(
    spans: Stretches, *, waited: Stretches, asked: Stretches, cached: Stretches, live: Stretches, silent: Stretches
) -> Intervals:
    """The intervals of each of the spans, one an instrument: by where it was wanted but not connected, asked for, had a
    packet, had a live one, and was silent. Two silences with a packet between them are two."""
    sets = (waited, asked, cached, live, silent)
    points = _distinct(np.concatenate([*spans, *(each for one in sets for each in one)]))
    starts, stops = points[:-1], points[1:]
    inside = spans.has(starts)
    starts, stops = starts[inside], stops[inside]
    states = np.select(
        [live.has(starts) & ~silent.has(starts), live.has(starts), cached.has(starts), asked.has(starts)],
        [5, 4, 3, 2],
        waited.has(starts).astype(np.int64),
    )
    new = np.append(True, (states[1:] != states[:-1]) | (starts[1:] != stops[:-1]))[: len(states)]
    new |= np.isin(starts, silent.starts) | np.isin(starts, spans.starts)
    return Intervals(starts[new], stops[np.append(new[1:], True)[: len(states)]], states[new])
