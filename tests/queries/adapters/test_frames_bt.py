"""bt itself, over a frame of prices."""

from pathlib import Path
from typing import Any

import pytest

from kitelake import adapters
from kitelake.lake import Lake
from tests.support.crossover import EDGE, FAST, SLOW, SYMBOL, WIDTH, Trade, at_closes, example

bt: Any = pytest.importorskip("bt", reason="`make adapters` runs it: bt is not installed")


def test_the_same_trades_as_a_plain_loop(lake: Lake) -> None:
    prices = adapters.price_frame(lake, SYMBOL, WIDTH)
    wants = prices.rolling(FAST).mean() - prices.rolling(SLOW).mean() > EDGE
    weights = wants[wants != wants.shift(fill_value=False)].dropna().astype(float)
    strategy = bt.Strategy("cross", [bt.algos.WeighTarget(weights), bt.algos.Rebalance()])
    transactions = bt.run(bt.Backtest(strategy, prices, progress_bar=False)).get_transactions().reset_index()
    got = [
        Trade(row.Date.to_pydatetime(), 1 if row.quantity > 0 else -1, row.price) for row in transactions.itertuples()
    ]
    assert len(got) > 10
    assert got == at_closes(lake)


def test_the_example(two_days: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(example("bt", two_days, monkeypatch, tmp_path)["result"].get_transactions()) > 10
