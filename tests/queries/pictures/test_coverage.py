"""The states of instruments by minutes, and the heat map of them."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries.pictures import STATES, Picture, minutes_of, subject_of
from tests.support.pictured import TIME, at, intervals, marks, texts

FIRST = at("09:15")
STATES_OF_A_LIFE = st.lists(st.tuples(st.integers(1, 200), st.sampled_from(STATES)), min_size=1, max_size=12)


def life(symbol: str, parts: list[tuple[int, str]]) -> pa.Table:
    """States one after the other from 09:15 on, each for so many half seconds."""
    ends = np.cumsum([half_seconds for half_seconds, _ in parts]).tolist()
    times = [FIRST + dt.timedelta(seconds=end / 2) for end in (0, *ends)]
    return pa.table(
        {
            "symbol": [symbol] * len(parts),
            "start": pa.array(times[:-1], TIME),
            "stop": pa.array(times[1:], TIME),
            "state": [state for _, state in parts],
        }
    )


@given(STATES_OF_A_LIFE)
def test_a_minute_has_the_worst_state_that_it_holds_for_a_second(parts: list[tuple[int, str]]) -> None:
    states = [state for half_seconds, state in parts for _ in range(half_seconds)]
    expected = []
    for begin in range(0, len(states), 120):
        counts = {state: states[begin : begin + 120].count(state) for state in STATES}
        long = [state for state in STATES if counts[state] >= 2]
        expected.append(long[-1] if long else next(state for state in STATES if counts[state]))
    found = minutes_of(life("NSE:A", parts), 9).states
    assert [STATES[place] for place in found[0].tolist()] == expected


def test_those_served_least_are_shown() -> None:
    served = {"NSE:A": 500, "NSE:B": 100, "NSE:C": 300, "NSE:D": 200}
    rows = pa.concat_tables([life(name, [(each, "served"), (9, "silent")]) for name, each in served.items()])
    minutes = minutes_of(rows, 2)
    assert (minutes.symbols, minutes.of) == (["NSE:B", "NSE:D"], 4)


def test_where_nothing_is_said_there_is_nothing() -> None:
    minutes = minutes_of(
        intervals(("NSE:A", "09:15", "09:16", "served"), ("NSE:B", "09:17", "09:18", "disconnected")), 9
    )
    assert minutes.states.tolist() == [[0, -1, -1], [-1, -1, STATES.index("disconnected")]]
    assert minutes_of(intervals(), 9).symbols == []


@pytest.mark.slow
def test_the_picture_has_a_cell_for_minutes_of_one_state() -> None:
    pytest.importorskip("altair", reason="the extra `plot` is not installed")
    rows = intervals(
        ("NSE:A", "09:15", "11:00", "served"),
        ("NSE:A", "11:00", "11:05", "disconnected"),
        ("NSE:A", "11:05", "15:30", "served"),
        ("NSE:B", "09:15", "15:30", "silent"),
    )
    svg = Picture(subject_of(rows)).svg()
    assert marks(svg, "rect mark") == 4
    said = texts(svg)
    assert {"NSE:A", "NSE:B", "served", "silent", "disconnected", "time, IST", "11:00", "15:00"} <= set(said)
    assert "not subscribed" not in said
