"""vectorbt itself, over bars as wide frames."""

from pathlib import Path
from typing import Any

import pytest

from kitelake import adapters
from kitelake.lake import Lake
from tests.support.crossover import EDGE, FAST, SLOW, SYMBOL, WIDTH, Trade, at_closes, example

vbt: Any = pytest.importorskip("vectorbt", reason="`make adapters` runs it: vectorbt is not installed")


def test_the_same_trades_as_a_plain_loop(lake: Lake) -> None:
    close = adapters.wide_frames(lake, [SYMBOL, "NSE:TCS"], WIDTH)["close"]
    fast, slow = (vbt.MA.run(close[SYMBOL], count).ma for count in (FAST, SLOW))
    wants = fast - slow > EDGE
    portfolio = vbt.Portfolio.from_signals(close[SYMBOL], wants, ~wants, size=1, init_cash=1e9, freq=WIDTH)
    orders = portfolio.orders.records_readable
    sides = orders["Side"].map({"Buy": 1, "Sell": -1})
    got = [
        Trade(time.to_pydatetime(), side, price)
        for time, side, price in zip(orders["Timestamp"], sides, orders["Price"], strict=True)
    ]
    assert len(got) > 10
    assert got == at_closes(lake)


def test_the_example(two_days: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    portfolio = example("vectorbt", two_days, monkeypatch, tmp_path)["portfolio"]
    assert (portfolio.orders.count() > 10).all()
