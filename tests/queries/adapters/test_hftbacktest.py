"""Events for hftbacktest: what they hold; and, where it is installed, its own check and its engine."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kitelake
from kitelake import adapters
from kitelake.lake import Lake
from queries.adapters import packets
from queries.adapters.hftbacktest import BUY, CLEAR, EVENT, EXCHANGE, LOCAL, SELL, SNAPSHOT, TRADE
from queries.errors import AdapterError
from queries.feed import Bar, FeedTick
from storage.clock import IST, nanoseconds
from tests.support.captured import INFY, Captured
from tests.support.crossover import EDGE, FAST, SLOW, SYMBOL, WIDTH, Trade, at_quotes, example

WHY = "`make adapters` runs it: hftbacktest is not installed"
KIND = 0xFF


def rows_of(events: Any, since_seconds: int) -> list[tuple[Any, ...]]:
    """Flags and kind apart, the exchange's and our time in seconds since that of the day, price and quantity."""
    since = nanoseconds(dt.datetime(2026, 11, 24, tzinfo=IST)) + since_seconds * 10**9
    return [
        (ev & ~KIND, ev & KIND, (exchange - since) / 1e9, (local - since) / 1e9, price, quantity)
        for ev, exchange, local, price, quantity, *_ in events.tolist()
    ]


def test_records_are_of_64_bytes_and_a_packet_is_a_book_and_a_trade(lake: Lake) -> None:
    events = adapters.hftbacktest_events(lake, SYMBOL, "2026-11-13")[SYMBOL]
    assert EVENT.itemsize == 64
    kinds = events["ev"] & KIND
    count = sum(1 for tick in lake.feed(SYMBOL, "2026-11-13") if isinstance(tick, FeedTick) and not tick.cached)
    assert (kinds == CLEAR).sum() == count
    for flag in (BUY, SELL):
        assert ((kinds == SNAPSHOT) & ((events["ev"] & flag) > 0)).sum() == 5 * count
    traded = lake.trades(SYMBOL, "2026-11-13", clock="received").arrow()
    mine = events[kinds == TRADE]
    assert mine["qty"].tolist() == traded["quantity"].to_pylist()
    assert mine["px"].tolist() == traded["price"].to_pylist()
    assert (events["exch_ts"] <= events["local_ts"]).all()
    assert (events["ev"] & (EXCHANGE | LOCAL) == EXCHANGE | LOCAL).all()


def test_instruments_that_are_read_together_have_the_events_that_each_has_alone(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = [SYMBOL, "NFO:NIFTY26NOVFUT", "NFO:NIFTY26NOV24400CE"]
    alone = {symbol: adapters.hftbacktest_events(lake, symbol)[symbol] for symbol in symbols}
    monkeypatch.setattr(packets, "_AT_ONCE", 2)
    together = adapters.hftbacktest_events(lake, iter(symbols))  # type: ignore[arg-type]
    assert sorted(together) == sorted(symbols)
    for symbol, events in alone.items():
        assert len(events) > 100
        assert np.array_equal(together[symbol], events)


def test_late_packets_are_parted_and_the_cached_are_left_out(tmp_path: Path) -> None:
    with Captured(tmp_path) as captured:
        captured.instruments()
        line = captured.run("08:55").line()
        line.begin("09:00", INFY)
        line.full("09:00:00.1", INFY, 100.0, stamped="08:59:30")
        line.full("09:15:01.5", INFY, 101.0, volume=10, traded="09:15:01", stamped="09:15:01")
        line.full("09:15:02.2", INFY, 102.0, volume=30, traded="09:15:02", stamped="09:15:03")
        line.full("09:15:02.7", INFY, 103.0, volume=35, traded="09:15:01", stamped="09:15:01")
        line.full("09:15:04.5", INFY, 103.0, volume=35, traded="09:15:01", stamped="09:15:04")
        captured.commit()
    with kitelake.open(tmp_path) as lake:
        events = adapters.hftbacktest_events(lake, "INFY", "2026-11-24")["NSE:INFY"]
    morning = 9 * 3600 + 15 * 60
    assert rows_of(events, morning) == [
        (EXCHANGE | LOCAL, TRADE, 1.0, 1.5, 101.0, 10.0),
        (EXCHANGE, TRADE, 1.0, 2.7, 103.0, 5.0),
        (EXCHANGE | LOCAL, TRADE, 2.2, 2.2, 102.0, 20.0),
        (LOCAL, TRADE, 1.0, 2.7, 103.0, 5.0),
    ]


def test_what_it_cannot_take(lake: Lake) -> None:
    with pytest.raises(AdapterError, match="got the index NSE:NIFTY 50, expected what is traded"):
        adapters.hftbacktest_events(lake, ["INFY", "NSE:NIFTY 50"])
    with pytest.raises(AdapterError, match="got no packet of 'INFY'"):
        adapters.hftbacktest_events(lake, "INFY", "2026-11-13 20:00", "2026-11-13 21:00")


def test_its_own_check_finds_nothing(lake: Lake) -> None:
    validation: Any = pytest.importorskip("hftbacktest.data.validation", reason=WHY)
    types: Any = pytest.importorskip("hftbacktest.types", reason=WHY)
    assert types.event_dtype == EVENT
    for events in adapters.hftbacktest_events(lake, ["INFY", "NFO:NIFTY26N*"]).values():
        validation.validate_event_order(events)


def test_the_same_trades_as_a_plain_loop(lake: Lake) -> None:
    hft: Any = pytest.importorskip("hftbacktest", reason=WHY)
    numba: Any = pytest.importorskip("numba", reason=WHY)
    orders: Any = pytest.importorskip("hftbacktest.order", reason=WHY)
    at_once, limit = orders.IOC, orders.LIMIT

    @numba.njit  # type: ignore[untyped-decorator]
    def cross(engine: Any, times: Any, closes: Any, out: Any) -> int:
        found, position = 0, 0.0
        engine.elapse(1)  # to the first event; before that there is no time
        for at in range(len(times)):
            engine.elapse(times[at] - engine.current_timestamp)
            if at + 1 < SLOW:
                continue
            wants = closes[at + 1 - FAST : at + 1].mean() - closes[at + 1 - SLOW : at + 1].mean() > EDGE
            if wants != (position > 0):
                depth = engine.depth(0)
                if wants:
                    engine.submit_buy_order(0, at, depth.best_ask + 50, 1.0, at_once, limit, True)
                else:
                    engine.submit_sell_order(0, at, depth.best_bid - 50, 1.0, at_once, limit, True)
                order = engine.orders(0).get(at)
                out[found, 0], out[found, 1], out[found, 2] = at, order.side, order.exec_price_tick * 0.05
                found += 1
                engine.clear_inactive_orders(0)
                position = engine.position(0)
        return found

    events = adapters.hftbacktest_events(lake, SYMBOL)[SYMBOL]
    bars = [bar for bar in lake.feed(SYMBOL, bars=WIDTH, ticks=False) if isinstance(bar, Bar)]
    asset = (
        hft.BacktestAsset()
        .data(events)
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(0.05)
        .lot_size(1.0)
    )
    engine = hft.HashMapMarketDepthBacktest([asset])
    out = np.zeros((len(bars), 3))
    closes = np.array([bar.close for bar in bars])
    count = cross(engine, np.array([nanoseconds(bar.time) for bar in bars]), closes, out)
    engine.close()
    got = [Trade(bars[int(at)].time, int(side), round(price, 2)) for at, side, price in out[:count].tolist()]
    assert len(got) > 10
    expected = at_quotes(lake)
    assert [trade[:2] for trade in got] == [trade[:2] for trade in expected]
    # An order meets the exchange's book, which may be that of a packet still on its way here.
    ticks = [tick for tick in lake.feed(SYMBOL) if isinstance(tick, FeedTick) and not tick.cached]
    for trade in got:
        last = [tick for tick in ticks if (tick.exchange_timestamp or tick.received_at) <= trade.time][-1]
        assert trade.price == (last.ask_price_1 if trade.side > 0 else last.bid_price_1)


def test_the_example(two_days: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("hftbacktest", reason=WHY)
    assert example("hftbacktest", two_days, monkeypatch, tmp_path)["spread"] > 0
