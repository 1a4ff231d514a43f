"""Ticks in columns: of whole runs, in the order of receipt, however they lie and however much is read at once."""

import itertools
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import kitelake
from queries.history import Symbol, batches_of, chosen, in_order, names_of, run_of
from tests.support.captured import CALL, CRUDE, INFY, NIFTY_FUT, TINY, Captured
from tests.support.scaled import scaled

COLUMNS = {"last_price": "last_price", "oi": "oi"}
SYMBOLS: list[Symbol] = ["NSE:INFY", "NFO:NIFTY26NOVFUT", 424242]


SIZES = list(itertools.product([1, 25, 100, 1_000_000], [1, 40, 1000], [1, 1000]))
"""Rows that are read at once, rows of a block, and rows from which a piece is long: pieces are put in order, or rows.
Each fifth has every number of them."""


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    """Two days of some instruments, of which one is in no list; the first in two files and partly in the journal."""
    with Captured(tmp_path_factory.mktemp("blocks") / "data") as captured:
        line = captured.run("08:49").line()
        for day in ("2026-11-23", "2026-11-24"):
            captured.on(day).instruments()
            for hour in ("10", "11", "12"):
                for minute in range(10):
                    for token in (INFY, TINY, NIFTY_FUT, CALL, CRUDE, 424242):
                        line.full(f"{hour}:0{minute}:01", token, 100 + minute, volume=minute, oi=minute)
                line.ltp(f"{hour}:30", INFY, 99)
                if hour != "12":
                    captured.commit()
        captured.flush()
        yield captured


@pytest.mark.slow
@pytest.mark.parametrize(("read", "block", "long"), SIZES[:: scaled(5, 1)])
def test_are_runs_in_the_order_of_receipt(captured: Captured, read: int, block: int, long: int) -> None:
    sizes: dict[str, Any] = {"_READ_ROWS": read, "_BLOCK_ROWS": block, "_LONG_PIECE": long}
    with patch.multiple("queries.history.blocks", **sizes), kitelake.open(captured.root) as lake:
        state = lake.look()
        days = state.dates("ticks")
        selection = chosen(state, SYMBOLS, days)
        found = [block for batches in batches_of(state, selection, COLUMNS) for block in in_order(batches)]
    runs = [run for each in found for run in np.unique(each["run"]).tolist()]
    assert sorted(runs) == sorted(run_of(day, token) for day in days for token in (INFY, NIFTY_FUT, 424242))
    for each in found:
        assert ((np.diff(each["run"]) > 0) | ((np.diff(each["run"]) == 0) & (np.diff(each["place"]) > 0))).all()
    rows = {
        run: (each["last_price"][which], each["oi"][which])
        for each in found
        for run in runs
        if (which := each["run"] == run).any()
    }
    assert len(rows) == len(runs)  # each in one block
    hour = np.arange(10.0)
    for run, (prices, oi) in rows.items():
        ltp = [99.0] if run in (run_of(day, INFY) for day in days) else []
        assert prices.tolist() == [*(100 + hour), *ltp] * 3
        assert np.array_equal(oi, [*hour, *(np.nan for _ in ltp)] * 3, equal_nan=True)


def test_may_stay_in_pieces(captured: Captured) -> None:
    """Where nobody needs whole runs, no row is moved; else, or where a run is not in order, they are put in order."""
    with patch("queries.history.blocks._LONG_PIECE", 0), kitelake.open(captured.root) as lake:
        state = lake.look()
        selection = chosen(state, SYMBOLS, state.dates("ticks"))
        for batches in batches_of(state, selection, COLUMNS):
            blocks = list(in_order(batches, in_pieces=True))
            for name in batches[0]:
                as_they_lie, found = (np.concatenate([each[name] for each in some]) for some in (batches, blocks))
                assert np.array_equal(as_they_lie, found, equal_nan=True)
            turned = [{name: values[::-1] for name, values in batch.items()} for batch in batches]
            (whole,), (again,) = in_order(batches), in_order(turned, in_pieces=True)
            assert (np.diff(whole["run"]) >= 0).all()
            for name, values in whole.items():
                assert np.array_equal(values, again[name], equal_nan=True)


def test_small_batches_come_together_unless_a_run_would_go_back() -> None:
    rows = [([1, 1], [1, 2]), ([1, 2], [3, 1]), ([2, 3], [5, 1]), ([3], [0]), ([3, 4], [3, 1]), ([5], [1])]
    batches = [{"run": np.array(runs), "place": np.array(places)} for runs, places in rows]
    with patch("queries.history.blocks._LONG_PIECE", 0):
        found = list(in_order(batches, in_pieces=True))
        assert [each["run"].tolist() for each in found] == [[1, 1, 1, 2, 2, 3], [3, 3, 4, 5]]
        assert [each["place"].tolist() for each in found] == [[1, 2, 3, 1, 5, 1], [0, 3, 1, 1]]
        with patch("queries.history.blocks._BLOCK_ROWS", 3):
            found = list(in_order(batches, in_pieces=True))
            assert [each["run"].tolist() for each in found] == [[1, 1], [1, 2], [2, 3], [3, 3, 4], [5]]


def test_names_are_those_of_the_list_and_else_of_the_rows(captured: Captured) -> None:
    with kitelake.open(captured.root) as lake:
        state = lake.look()
        (first, second) = state.dates("ticks")
        selection = chosen(state, SYMBOLS, [first, second])
        runs = [run_of(first, INFY), run_of(second, NIFTY_FUT), run_of(second, 424242)]
        assert names_of(state, selection, np.array(runs)) == ["NSE:INFY", "NFO:NIFTY26NOVFUT", None]
