"""Rows beside what was last known of their symbol."""

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitelake.lake import Lake
from queries.errors import QueryError
from queries.lake import Result
from tests.support.asof_days import MONDAY
from tests.support.by_hand import ist
from tests.support.scaled import scaled

OPEN = ist(f"{MONDAY} 09:15")


def rows(result: Result) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in result.arrow().to_pylist()]


def after(*seconds: float) -> list[dt.datetime]:
    return [OPEN + dt.timedelta(seconds=each) for each in seconds]


LEFT = {"symbol": ["B", "A", "A", "C"], "received_at": after(5, 10, 1, 3), "n": [1, 2, 3, 4]}
RIGHT = {"symbol": ["A", "A", "B", "D"], "received_at": after(4, 10, 5.000001, 0), "price": [1.5, 2.5, 3.5, 4.5]}


class TestAsof:
    def test_each_row_gets_the_last_of_its_symbol_at_that_instant_or_before(self, lake: Lake) -> None:
        found = lake.asof(LEFT, RIGHT)
        assert found.columns == ["symbol", "received_at", "n", "received_at_right", "price"]
        assert rows(found) == [
            ("A", *after(1), 3, None, None),
            ("A", *after(10), 2, *after(10), 2.5),
            ("B", *after(5), 1, None, None),
            ("C", *after(3), 4, None, None),
        ]

    @pytest.mark.parametrize(
        ("tolerance", "price"),
        [(6, 1.5), (dt.timedelta(seconds=6), 1.5), (5.999999, None), (0, None), (np.int64(6), 1.5)],
    )
    def test_what_is_older_than_the_tolerance_does_not_count(self, lake: Lake, tolerance: Any, price: Any) -> None:
        one = {"symbol": ["A"], "received_at": after(9.9)}
        right = {"symbol": ["A"], "received_at": after(3.9), "price": [1.5]}
        assert rows(lake.asof(one, right, tolerance)) == [("A", *after(9.9), *(after(3.9) if price else [None]), price)]

    def test_names_the_columns_of_time_and_of_what_must_be_equal(self, lake: Lake) -> None:
        left = {"t": after(3), "x": [1], "y": [1], "price": [7]}
        right = {"at": after(1, 2), "x": [1, 1], "y": [1, 2], "Price": [8, 9]}
        assert rows(lake.asof(left, right, on=("t", "at"), by=["x", "y"])) == [(*after(3), 1, 1, 7, *after(1), 8)]
        both = lake.asof(left, {"at": after(1, 2), "z": [8, 9]}, on=("t", "at"), by=())
        assert rows(both) == [(*after(3), 1, 1, 7, *after(2), 9)]
        assert lake.asof(left, right, on=("t", "at"), by=["x", "y"]).columns[-1] == "Price_right"

    def test_ticks_of_the_lake_as_results_and_as_sql(self, lake: Lake) -> None:
        trades = lake.ticks(
            "NSE:INFY", f"{MONDAY} 10:00", f"{MONDAY} 11:00", columns=["symbol", "received_at", "last_price"]
        )
        query = f"select symbol, received_at, mid from quotes where date = '{MONDAY}' -- of all;\n;"
        expected = [("NSE:INFY", ist(f"{MONDAY} 10:00"), 1510.0, ist(f"{MONDAY} 09:15:02"))]
        assert [row[:4] for row in rows(lake.asof(trades, query))] == expected
        assert lake.asof(trades, " quotes ").arrow()["received_at_right"].to_pylist() == [expected[0][3]]


def test_without_rows_on_either_side(lake: Lake) -> None:
    nothing: dict[str, list[Any]] = {"symbol": [], "received_at": [], "price": []}
    assert lake.asof(nothing, RIGHT).count() == 0
    assert lake.asof(LEFT, nothing).arrow()["price"].to_pylist() == [None] * 4


@pytest.mark.parametrize(
    "made",
    [
        pa.table,
        pd.DataFrame,
        pl.DataFrame,
        lambda columns: pa.table(columns).to_reader(),
        lambda columns: columns | {"received_at": [each.replace(tzinfo=None) for each in columns["received_at"]]},
        lambda columns: columns | {"received_at": [f"{each:%Y-%m-%d %H:%M:%S.%f}" for each in columns["received_at"]]},
        lambda columns: (
            columns | {"received_at": [each.astimezone(dt.UTC).isoformat() for each in columns["received_at"]]}
        ),
    ],
)
def test_rows_may_be_of_any_kind_and_times_without_a_zone_are_ist(lake: Lake, made: Any) -> None:
    found = lake.asof(made(LEFT), made(RIGHT)).arrow()
    assert found["n"].to_pylist() == [3, 2, 1, 4]
    assert found["price"].to_pylist() == [None, 2.5, None, None]


@pytest.mark.parametrize(
    ("left", "options", "message"),
    [
        ([1, 2], {}, "left: got list, expected a Result, an Arrow table"),
        ({"symbol": ["A"]}, {}, "left: got columns symbol, expected among them received_at"),
        ({"symbol": ["A"], "received_at": [1]}, {}, "left: got column received_at of type BIGINT, expected times"),
        ("select 1 as symbol, 2 as symbol", {}, "left: got columns symbol, symbol_1, expected among them received_at"),
        ({"a": [1], "b": [1, 2]}, {}, "left: not understood as a table"),
        ("no_such_table", {}, "no_such_table"),
        ("drop table ticks", {}, "syntax error"),
        (LEFT, {"tolerance": -1}, "tolerance: got -1, expected what is not negative"),
        (LEFT, {"tolerance": "1s"}, "tolerance: got '1s', expected seconds or a timedelta"),
        (LEFT, {"tolerance": float("nan")}, "tolerance: got nan, expected seconds"),
        (LEFT, {"by": "token"}, "left: got columns symbol, received_at, n, expected among them token"),
    ],
)
def test_mistakes_are_named(lake: Lake, left: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        lake.asof(left, RIGHT, **options)


TIMED = st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 20)), max_size=12, unique=True)


@pytest.mark.slow
@settings(max_examples=scaled(15, 100), deadline=None)
@given(TIMED, TIMED, st.none() | st.integers(0, 5))
def test_as_a_loop_over_all_pairs_finds_them(
    lake: Lake, left: list[tuple[str, int]], right: list[tuple[str, int]], tolerance: int | None
) -> None:
    def made(pairs: list[tuple[str, int]], name: str) -> pa.Table:
        times = pa.array([OPEN + dt.timedelta(seconds=at) for _, at in pairs], pa.timestamp("us", "UTC"))
        columns = [
            pa.array([symbol for symbol, _ in pairs], pa.string()),
            times,
            pa.array([at for _, at in pairs], pa.int64()),
        ]
        return pa.table(columns, names=["symbol", "received_at", name])

    expected = []
    for symbol, at in sorted(left):
        known = [then for other, then in right if other == symbol and then <= at]
        newest = max(known, default=None)
        fresh = newest is not None and (tolerance is None or at - newest <= tolerance)
        expected.append((symbol, at, newest if fresh else None))
    found = lake.asof(made(left, "one"), made(right, "other"), tolerance).arrow().to_pylist()
    assert [(row["symbol"], row["one"], row["other"]) for row in found] == expected
