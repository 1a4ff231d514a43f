"""Which packets are live, and how late they are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kitelake.report.latency import StreamConnection, _Judge
from tests.support.reports import DAY, at


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(-3, 60)), max_size=30), max_size=4),
    st.lists(st.tuples(st.integers(0, 1), st.none() | st.integers(0, 4), st.integers(0, 60)), max_size=6),
    st.sampled_from([4, 40_000]),
)
def test_packets_are_live_as_one_by_one(
    batches: list[list[tuple[int, int, int]]], asks: list[tuple[int, int | None, int]], instruments: int
) -> None:
    """Two connections of two streams; received in the order of the list, a second apart, from the day's begin on.

    With 40,000 instruments there are more keys than numpy sorts by radix.
    """
    begin = int(at("00:00:00").timestamp())
    tokens = [256 * number + 257 for number in range(instruments)]
    places = [StreamConnection("one", "asha", 1), StreamConnection("two", "asha", 1)]
    columns = [[place, 0 if number is None else 256 * number + 257, (begin + s) * 10**6] for place, number, s in asks]
    judge = _Judge(DAY, places, np.array(tokens), *np.array(columns, np.int64).reshape(-1, 3).T)
    latest: dict[tuple[int, int], int] = {}
    expected: list[int] = []
    second = packets = 0
    for batch in batches:
        rows = []
        for place, number, ago in batch:
            second, exchange = second + 1, second + 1 - ago
            rows.append([place, tokens[number], (begin + second) * 10**6, (begin + exchange) * 10**6])
            asked = [s for p, n, s in asks if p == place and n in (None, number) and s <= second]
            is_new = exchange > latest.get((place, number), -(10**9))
            if exchange >= 0 and exchange > max(asked, default=-(10**9)) and is_new:
                expected.append(ago)
            latest[place, number] = max(exchange, latest.get((place, number), -(10**9)))
        judge.look_at(*np.array(rows, np.int64).reshape(-1, 4).T)
        packets += len(rows)
    live = judge.latency()
    assert (0 if live is None else live.packets, judge.not_live) == (len(expected), packets - len(expected))
    if live is not None:
        ordered = sorted(expected)
        assert live.max_seconds == ordered[-1]
        assert live.p50_seconds == ordered[(len(ordered) - 1) // 2]
