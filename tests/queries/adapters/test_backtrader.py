"""backtrader itself, over its feeds of bars and of ticks."""

import datetime as dt
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kitelake import adapters
from kitelake.lake import Lake
from queries.errors import AdapterError
from queries.feed import FeedTick
from storage.clock import IST
from tests.support.crossover import EDGE, FAST, SLOW, SYMBOL, WIDTH, Trade, at_next_opens, example

bt: Any = pytest.importorskip("backtrader", reason="`make adapters` runs it: backtrader is not installed")
NEAR = dt.timedelta(microseconds=50)
"""Times are days as floats."""


def run(feed: Any, strategy: Any) -> Any:
    cerebro = bt.Cerebro()
    cerebro.broker.set_cash(1e9)
    cerebro.adddata(feed)
    cerebro.addstrategy(strategy)
    return cerebro.run()[0]


def test_the_same_trades_as_a_plain_loop(lake: Lake) -> None:
    class Cross(bt.Strategy):  # type: ignore[misc]
        def __init__(self) -> None:
            self.fast = bt.ind.SMA(period=FAST)
            self.slow = bt.ind.SMA(period=SLOW)
            self.got: list[Trade] = []

        def next(self) -> None:
            wants = self.fast[0] - self.slow[0] > EDGE
            if wants and not self.position:
                self.buy(size=1)
            elif self.position and not wants:
                self.close()

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                time = bt.num2date(order.executed.dt).replace(tzinfo=dt.UTC)
                self.got.append(Trade(time, 1 if order.isbuy() else -1, order.executed.price))

    got = run(adapters.backtrader_bars(lake, SYMBOL, WIDTH), Cross).got
    expected = at_next_opens(lake)
    assert len(expected) > 10
    assert [trade[1:] for trade in got] == [trade[1:] for trade in expected]
    assert all(abs(one.time - other.time) < NEAR for one, other in zip(got, expected, strict=True))


def test_ticks_have_bid_and_ask(lake: Lake) -> None:
    class Look(bt.Strategy):  # type: ignore[misc]
        def __init__(self) -> None:
            self.got: list[tuple[Any, ...]] = []

        def next(self) -> None:
            data = self.data
            values = (data.close[0], data.bid[0], data.ask[0], data.volume_traded[0], data.openinterest[0])
            self.got.append((data.datetime.datetime(0).replace(tzinfo=IST), values))

    day = "2026-11-13"
    got = run(adapters.backtrader_ticks(lake, "NFO:NIFTY26NOVFUT", day), Look).got
    ticks = [tick for tick in lake.feed("NFO:NIFTY26NOVFUT", day) if isinstance(tick, FeedTick) and not tick.cached]
    assert len(ticks) > 700
    assert [values for _, values in got] == [
        (tick.last_price, tick.bid_price_1, tick.ask_price_1, tick.volume_traded, tick.oi) for tick in ticks
    ]
    assert all(abs(time - tick.received_at) < NEAR for (time, _), tick in zip(got, ticks, strict=True))
    assert all(one[0] < other[0] for one, other in pairwise(got))


def test_one_instrument_and_a_width_of_time(lake: Lake) -> None:
    with pytest.raises(AdapterError, match="several instruments, expected one"):
        adapters.backtrader_bars(lake, ["INFY", "TCS"], WIDTH)
    with pytest.raises(AdapterError, match="got '100 ticks', expected a time"):
        adapters.backtrader_bars(lake, "INFY", "100 ticks")


def test_the_example(two_days: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    space = example("backtrader", two_days, monkeypatch, tmp_path)
    assert space["cerebro"].broker.getvalue() != space["cerebro"].broker.startingcash
