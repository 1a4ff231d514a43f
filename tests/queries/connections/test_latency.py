"""Which packets are live, and how late they are."""

from collections import Counter
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from queries.connections.latency import Latencies
from queries.connections.packets import Asks, Place, Survey
from tests.support.reports import DAY, at

BUCKET = 20


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(-3, 60)), max_size=90),
    st.lists(st.tuples(st.integers(0, 1), st.none() | st.integers(0, 4), st.integers(0, 60)), max_size=6),
    st.randoms(use_true_random=False),
)
def test_packets_are_live_as_one_by_one(
    packets: list[tuple[int, int, int]], asks: list[tuple[int, int | None, int]], random: Random
) -> None:
    """Two connections of two streams; received in the order of the list, a second apart, from the day's begin on, and
    read in any order."""
    begin = int(at("00:00:00").timestamp())
    tokens = [256 * number + 257 for number in range(4)]
    places = [Place("one", "asha", 1), Place("two", "ravi", 2)]
    asked = [[place, 0 if number is None else 256 * number + 257, (begin + s) * 10**6] for place, number, s in asks]
    latest: dict[tuple[int, int], int] = {}
    expected: list[tuple[int, int, int]] = []
    others: Counter[tuple[int, int]] = Counter()
    rows = []
    for second, (place, number, ago) in enumerate(packets, 1):
        exchange = second - ago
        rows.append([place, tokens[number], second, (begin + second) * 10**6, (begin + exchange) * 10**6])
        since = max((s for p, n, s in asks if p == place and n in (None, number) and s <= second), default=-(10**9))
        is_new = exchange > latest.get((place, number), -(10**9))
        if exchange >= 0 and exchange > since and is_new:
            expected.append((place, second // BUCKET, ago))
        else:
            others[place, second // BUCKET] += 1
        latest[place, number] = max(exchange, latest.get((place, number), -(10**9)))
    random.shuffle(rows)
    none = np.zeros(0, np.int64)
    found = Latencies(Survey(DAY, places, none, none, none, none, none), BUCKET)
    which = np.array(tokens)
    found.add(
        which, Asks(which, *np.array(asked, np.int64).reshape(-1, 3).T), *np.array(rows, np.int64).reshape(-1, 5).T
    )

    live = found.total()
    assert (0 if live is None else live.packets, found.not_live) == (len(expected), others.total())
    if live is not None:
        ordered = sorted(ago for _, _, ago in expected)
        assert live.most == ordered[-1]
        assert live.p50 == ordered[(len(ordered) - 1) // 2]
    table = found.table().to_pylist()
    slots = sorted({(place, bucket) for place, bucket, _ in expected} | set(others))
    assert [(row["account"], row["connection"], row["time"].timestamp()) for row in table] == [
        (*places[place][1:], begin + bucket * BUCKET) for place, bucket in slots
    ]
    for row, (place, bucket) in zip(table, slots, strict=True):
        within = [ago for p, b, ago in expected if (p, b) == (place, bucket)]
        assert (row["packets"], row["not_live"]) == (len(within), others[place, bucket])
        assert row["max_seconds"] == (max(within) if within else None)
