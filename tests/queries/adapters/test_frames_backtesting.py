"""backtesting.py itself, over bars as its frame."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from kitelake import adapters
from kitelake.lake import Lake
from tests.support.crossover import EDGE, FAST, SLOW, SYMBOL, WIDTH, Trade, at_next_opens, example

backtesting: Any = pytest.importorskip("backtesting", reason="`make adapters` runs it: backtesting is not installed")


def mean(values: Any, count: int) -> Any:
    """From the first bar on: backtesting.py would pass over the first at which all indicators have a value."""
    import pandas as pd  # type: ignore[import-untyped]

    return pd.Series(values).rolling(count, min_periods=1).mean()


def test_the_same_trades_as_a_plain_loop(lake: Lake) -> None:
    class Cross(backtesting.Strategy):  # type: ignore[misc]
        def init(self) -> None:
            self.fast = self.I(mean, self.data.Close, FAST)
            self.slow = self.I(mean, self.data.Close, SLOW)

        def next(self) -> None:
            wants = len(self.data) >= SLOW and self.fast[-1] - self.slow[-1] > EDGE
            if wants and not self.position:
                self.buy(size=1)
            elif self.position and not wants:
                self.position.close()

    frame = adapters.backtesting_frame(lake, SYMBOL, WIDTH)
    ran = backtesting.Backtest(frame, Cross, cash=1e9, finalize_trades=True).run()._trades
    bought = [
        Trade(time.to_pydatetime(), 1, price) for time, price in zip(ran["EntryTime"], ran["EntryPrice"], strict=True)
    ]
    sold = [
        Trade(time.to_pydatetime(), -1, price) for time, price in zip(ran["ExitTime"], ran["ExitPrice"], strict=True)
    ]
    expected = at_next_opens(lake)
    assert len(expected) > 10
    got = sorted(bought + sold)[: len(expected)]  # what is held at the end is sold then
    assert got == expected
    assert got[0].time.utcoffset() == dt.timedelta(hours=5, minutes=30)


def test_the_example(two_days: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert example("backtesting.py", two_days, monkeypatch, tmp_path)["stats"]["# Trades"] > 0
