"""Stretches of time as sets of moments. What is made of runs is tested by the report's gaps."""

import datetime as dt
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kitelake.report import Gaps
from queries.connections import Stretch, merged, within
from tests.support.reports import at

TIMES = st.integers(0, 40).map(lambda minutes: at("09:00:00") + dt.timedelta(minutes=minutes))
STRETCHES = st.lists(st.tuples(TIMES, TIMES).map(sorted).map(tuple))


def minutes_in(stretches: list[Stretch]) -> set[int]:
    minutes = (at("09:00:00") + dt.timedelta(minutes=number) for number in range(41))
    return {number for number, time in enumerate(minutes) if any(begin <= time < end for begin, end in stretches)}


@given(STRETCHES, STRETCHES)
def test_stretches_are_sets_of_moments(some: list[Stretch], others: list[Stretch]) -> None:
    assert minutes_in(merged(some)) == minutes_in(some)
    found = within(some, others)
    assert minutes_in(found) == minutes_in(some) & minutes_in(others)
    assert all(one[1] < another[0] for one, another in pairwise(found))
    assert Gaps.of(found).total_seconds == 60 * len(minutes_in(found))
