"""A strategy decides live as it does afterwards, over what was captured then."""

import threading
from collections import defaultdict, deque
from pathlib import Path
from typing import Final

import pytest

import kitelake
from tests.support.running import running
from tests.support.simulation import simulation
from tests.support.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

TICKS: Final = 2_000
DROP_AT: Final = 1_000
SPAN: Final = 8


class Crossings:
    """Where the price of an instrument crosses its moving average over some ticks."""

    def __init__(self) -> None:
        self.prices: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=SPAN))
        self.above: dict[int, bool] = {}
        self.decisions: list[tuple[object, ...]] = []

    def take(self, tick: kitelake.FeedTick) -> None:
        """Decide, by this and what was before it."""
        prices = self.prices[tick.instrument_token]
        if tick.cached or tick.last_price is None:
            return
        prices.append(tick.last_price)
        above = tick.last_price > sum(prices) / len(prices)
        if len(prices) == SPAN and above != self.above.get(tick.instrument_token, above):
            side = "buy" if above else "sell"
            self.decisions.append((tick.received_at, tick.symbol, side, tick.last_price, tick.bid_price_1))
        self.above[tick.instrument_token] = above


def decided(feed: kitelake.TickFeed, drop: object = None) -> tuple[list[tuple[object, ...]], kitelake.Position | None]:
    """Over the first ticks of the feed; `drop` is called on the way."""
    strategy = Crossings()
    for number, tick in enumerate(feed, 1):
        assert isinstance(tick, kitelake.FeedTick)
        strategy.take(tick)
        if number == DROP_AT and callable(drop):
            drop()
        if number == TICKS:
            break
    assert number == TICKS
    return strategy.decisions, feed.position


def test_live_and_afterwards(tmp_path: Path) -> None:
    """From the first tick over into what comes, with a connection that drops; and again from tables and journal."""
    with simulation(instruments=100, rate=150) as simulator, running(tmp_path, simulator) as service:
        wait_until(lambda: bool(service.rows("select 1 as n from ticks limit 1")))
        with kitelake.open(service.data) as lake, lake.feed(follow=True) as feed:
            guard = threading.Timer(PATIENCE_SECONDS, feed.close)
            guard.start()
            live, position = decided(feed, lambda: simulator.fault("drop", how="rst", account="one"))
            guard.cancel()
        simulator.pause()
        service.stop()
        with kitelake.open(service.data) as lake:
            assert decided(lake.feed()) == (live, position)
    assert len(live) > 20
