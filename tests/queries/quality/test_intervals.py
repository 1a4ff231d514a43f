"""Sets of points of the line, and intervals that tile, against a look at every point."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from queries.quality.intervals import BLOCK, State, Stretches, silences, tiled, united

TOKENS, MOMENTS = 3, 24
POINTS = np.array([token * BLOCK + moment for token in range(TOKENS) for moment in range(MOMENTS)])
SETS = st.lists(
    st.tuples(st.integers(0, TOKENS - 1), st.integers(0, MOMENTS), st.integers(0, MOMENTS)).map(
        lambda drawn: (drawn[0] * BLOCK + min(drawn[1:]), drawn[0] * BLOCK + max(drawn[1:]))
    ),
    max_size=8,
)

Stretch = tuple[int, int]


def set_of(stretches: list[Stretch]) -> Stretches:
    starts, stops = np.array(stretches, np.int64).reshape(-1, 2).T
    return united(starts, stops)


def points_in(stretches: list[Stretch]) -> set[int]:
    return {int(point) for point in POINTS if any(start <= point < stop for start, stop in stretches)}


@given(SETS)
def test_a_union_has_the_points_of_its_stretches(stretches: list[Stretch]) -> None:
    found = set_of(stretches)
    assert set(POINTS[found.has(POINTS)].tolist()) == points_in(stretches)
    assert (found.starts < found.stops).all()
    assert (found.stops[:-1] < found.starts[1:]).all()


@given(SETS, st.sets(st.sampled_from(POINTS.tolist())), st.integers(1, 6))
def test_silences_are_longer_than_they_may_be_and_have_no_packet(
    stretches: list[Stretch], packets: set[int], silent: int
) -> None:
    listening = set_of(stretches)
    inside = points_in(stretches)
    heard = np.array(sorted(packets & inside), np.int64)
    found = silences(listening, heard, silent)
    expected = set()
    for begin, end in zip(listening.starts.tolist(), listening.stops.tolist(), strict=True):
        marks = [begin, *(point for point in heard.tolist() if begin < point < end), end]
        for one, other in itertools.pairwise(marks):
            if other - one > silent:
                expected.add((one, other))
    assert set(zip(found.starts.tolist(), found.stops.tolist(), strict=True)) == expected


@given(SETS, SETS, SETS, SETS, SETS, st.lists(st.integers(0, MOMENTS), min_size=2 * TOKENS, max_size=2 * TOKENS))
def test_intervals_tile_each_span_and_each_point_is_in_one_state(
    waited: list[Stretch],
    asked: list[Stretch],
    cached: list[Stretch],
    live: list[Stretch],
    silent: list[Stretch],
    ends: list[int],
) -> None:
    pairs = [sorted(ends[2 * token : 2 * token + 2]) for token in range(TOKENS)]
    spans = [(token * BLOCK + begin, token * BLOCK + end) for token, (begin, end) in enumerate(pairs)]
    starts, stops = np.array(spans).T
    found = tiled(
        Stretches(starts, stops),
        waited=set_of(waited),
        asked=set_of(asked),
        cached=set_of(cached),
        live=set_of(live),
        silent=set_of(silent),
    )
    seen: dict[int, State] = {}
    states = list(State)
    for start, stop, state in zip(*(column.tolist() for column in found), strict=True):
        assert start < stop
        for point in range(start, stop):
            assert point not in seen
            seen[point] = states[state]
    assert set(seen) == points_in(spans)  # no point is left out
    sets = [points_in(each) for each in (waited, asked, cached, live, silent)]
    for point, state in seen.items():
        if point in sets[3]:
            expected = State.SILENT if point in sets[4] else State.SERVED
        elif point in sets[2]:
            expected = State.CACHED_ONLY
        elif point in sets[1]:
            expected = State.NOT_YET_SERVED
        else:
            expected = State.DISCONNECTED if point in sets[0] else State.NOT_SUBSCRIBED
        assert state is expected
    united_silences = set_of(silent).starts.tolist()
    for place in range(1, len(found.starts)):
        start = int(found.starts[place])
        if found.stops[place - 1] == start and start not in starts and found.states[place - 1] == found.states[place]:
            assert start in united_silences  # only silences lie side by side
