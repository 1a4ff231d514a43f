"""NautilusTrader itself: instruments with the facts of their day, a catalog by its own API, and its engine over it."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

import kitelake
from kitelake import adapters
from kitelake.lake import Lake
from queries.errors import AdapterError
from queries.feed import FeedTick, Progress
from storage.clock import EPOCH, IST, nanoseconds
from tests.support.captured import Captured
from tests.support.crossover import EDGE, FAST, SLOW, SYMBOL, WIDTH, Trade, at_quotes, example
from tests.support.two_days import DAYS, LOT, MONTHLY

pytest.importorskip("nautilus_trader", reason="`make adapters` runs it: nautilus_trader is not installed")
FUTURE, OPTION = "NFO:NIFTY26NOVFUT", "NFO:NIFTY26NOV24400CE"
BARS = "INFY.NSE-1-MINUTE-LAST-EXTERNAL"


@pytest.fixture(scope="module")
def said() -> list[Progress]:
    """How far the catalog was, each time that it was told."""
    return []


@pytest.fixture(scope="module")
def catalog(lake: Lake, said: list[Progress], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("catalog")
    return adapters.write_catalog(lake, folder, [SYMBOL, FUTURE, OPTION], bars=WIDTH, depth=True, progress=said.append)


def price(said: Any) -> float:
    """As the broker says it: Nautilus keeps whole numbers of its own."""
    return round(float(said), 2)


def live(lake: Lake, symbol: str) -> list[FeedTick]:
    return [t for t in lake.feed(symbol, columns="all") if isinstance(t, FeedTick) and not t.cached]


def test_it_says_how_far_it_is(lake: Lake, catalog: Any, said: list[Progress]) -> None:
    assert [(each.day, each.number, each.days) for each in said] == [(day, at, 2) for at, day in enumerate(DAYS, 1)]
    assert said[-1].ticks == sum(len(live(lake, symbol)) for symbol in (SYMBOL, FUTURE, OPTION))


def test_instruments_are_what_the_list_of_the_day_says(catalog: Any) -> None:
    found = {str(each.id): each for each in catalog.instruments()}
    assert {type(each).__name__ for each in found.values()} == {"Equity", "FuturesContract", "OptionContract"}
    share, future, option = found["INFY.NSE"], found["NIFTY26NOVFUT.NFO"], found["NIFTY26NOV24400CE.NFO"]
    for each in (share, future, option):
        assert (str(each.quote_currency), str(each.price_increment)) == ("INR", "0.05")
    assert [int(each.lot_size) for each in (share, future, option)] == [1, LOT, LOT]
    closes = nanoseconds(dt.datetime.combine(MONTHLY, dt.time(15, 40), IST))  # NFO's, since August 2026
    assert future.expiration_ns == option.expiration_ns == closes
    assert (future.underlying, int(option.strike_price), option.option_kind.name) == ("NIFTY", 24_400, "CALL")
    begins = {each.ts_init for each in catalog.instruments() if str(each.id) == "NIFTY26NOVFUT.NFO"}
    assert begins == {nanoseconds(dt.datetime.combine(day, dt.time(), IST)) for day in DAYS}


def test_facts_are_those_of_the_day(tmp_path: Path) -> None:
    line = "12345602,48225,NIFTY26NOVFUT,NIFTY,0,2026-11-24,0,0.05,{},FUT,NFO-FUT,NFO\n"
    with Captured(tmp_path) as captured:
        for day, lot in (("2026-11-23", 75), ("2026-11-24", 65)):
            captured.on(day).instruments(line.format(lot))
            own = captured.run("08:55").line()
            own.begin("09:00", 12345602)
            own.full("09:15:01", 12345602, 24_000.0, volume=lot)
        captured.commit()
    with kitelake.open(tmp_path) as lake:
        lots = [
            int(adapters.nautilus_instruments(lake, FUTURE, day)[0].lot_size) for day in ("2026-11-23", "2026-11-24")
        ]
    assert lots == [75, 65]


def test_names_and_prices_that_a_catalog_can_read(tmp_path: Path) -> None:
    share, currency = 519937, 100_000_003
    with Captured(tmp_path / "data") as captured:
        captured.instruments(
            "519937,2031,M&M,MAHINDRA,0,,0,0.05,1,EQ,NSE,NSE\n"
            "100000003,390625,USDINR26DECFUT,USDINR,0,2026-12-28,0,0.0025,1,FUT,CDS-FUT,CDS\n"
        )
        line = captured.run("08:55").line()
        line.begin("08:56", share, currency)
        for time, price in (("09:15:01", 80.25), ("09:15:02", 80.2525)):
            line.full(time, share, 3_000.05, volume=int(time[-2:]))
            line.full(time, currency, price, volume=int(time[-2:]))
        captured.commit()
    with kitelake.open(tmp_path / "data") as lake:
        catalog = adapters.write_catalog(lake, tmp_path / "catalog", [share, currency], bars="1m")
    made = {str(each.id): each for each in catalog.instruments()}
    assert {name: str(each.raw_symbol) for name, each in made.items()} == {
        "M_M.NSE": "M&M",
        "USDINR26DECFUT.CDS": "USDINR26DECFUT",
    }
    assert [str(trade.price) for trade in catalog.trade_ticks(["M_M.NSE"])] == ["3000.05"]
    assert [str(trade.price) for trade in catalog.trade_ticks(["USDINR26DECFUT.CDS"])] == ["80.2525"]
    assert len(catalog.bars()) == 2


def test_quotes_trades_and_depths_are_what_was_captured(lake: Lake, catalog: Any) -> None:
    for symbol, name in ((SYMBOL, "INFY.NSE"), (FUTURE, "NIFTY26NOVFUT.NFO")):
        ticks = live(lake, symbol)
        received = [nanoseconds(tick.received_at) for tick in ticks]
        event = [
            min(nanoseconds(tick.exchange_timestamp or tick.received_at), at)
            for tick, at in zip(ticks, received, strict=True)
        ]
        quotes = catalog.quote_ticks([name])
        assert [quote.ts_init for quote in quotes] == received
        assert [quote.ts_event for quote in quotes] == event
        assert [(price(quote.bid_price), price(quote.ask_price)) for quote in quotes] == [
            (tick.bid_price_1, tick.ask_price_1) for tick in ticks
        ]
        assert [(int(quote.bid_size), int(quote.ask_size)) for quote in quotes] == [
            (tick.bid_quantity_1, tick.ask_quantity_1) for tick in ticks
        ]
        depths = catalog.order_book_depth10([name])
        assert [depth.ts_init for depth in depths] == received
        for depth, tick in zip(depths[::50], ticks[::50], strict=True):
            for side, levels in ((depth.bids, tick.bids), (depth.asks, tick.asks)):
                found = [(price(order.price), int(order.size)) for order in side[:5]]
                assert found == [(level.price, level.quantity) for level in levels]
        trades = lake.trades(symbol, clock="received").arrow()
        made = catalog.trade_ticks([name])
        assert [int(trade.size) for trade in made] == trades["quantity"].to_pylist()
        assert [price(trade.price) for trade in made] == trades["price"].to_pylist()
        assert [EPOCH + dt.timedelta(microseconds=trade.ts_init // 1000) for trade in made] == trades[
            "received_at"
        ].to_pylist()
        assert len({str(trade.trade_id) for trade in made}) == len(made)


def engine_over(catalog: Any, strategy: Any) -> Any:
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig
    from nautilus_trader.model import Money, Venue
    from nautilus_trader.model.currencies import Currency
    from nautilus_trader.model.enums import AccountType, OmsType

    rupees = Currency.from_str("INR")
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(
        Venue("NSE"),
        OmsType.NETTING,
        AccountType.MARGIN,
        base_currency=rupees,
        starting_balances=[Money(1e9, rupees)],
        bar_execution=False,
        trade_execution=False,
    )
    engine.add_instrument(catalog.instruments(instrument_ids=["INFY.NSE"])[-1])
    for data in (catalog.quote_ticks(["INFY.NSE"]), catalog.bars([BARS])):
        engine.add_data(data)
    engine.add_strategy(strategy)
    engine.run()
    return engine


def test_the_same_trades_as_a_plain_loop(lake: Lake, catalog: Any) -> None:
    from nautilus_trader.indicators import SimpleMovingAverage
    from nautilus_trader.model import BarType, InstrumentId
    from nautilus_trader.model.enums import OrderSide
    from nautilus_trader.trading.strategy import Strategy

    class Cross(Strategy):  # type: ignore[misc]
        def on_start(self) -> None:
            self.name = InstrumentId.from_str("INFY.NSE")
            self.fast, self.slow = SimpleMovingAverage(FAST), SimpleMovingAverage(SLOW)
            for average in (self.fast, self.slow):
                self.register_indicator_for_bars(BarType.from_str(BARS), average)
            self.subscribe_bars(BarType.from_str(BARS))
            self.got: list[Trade] = []

        def on_bar(self, bar: Any) -> None:
            wants = self.slow.initialized and self.fast.value - self.slow.value > EDGE
            if wants != self.portfolio.is_net_long(self.name):
                side = OrderSide.BUY if wants else OrderSide.SELL
                one = self.cache.instrument(self.name).make_qty(1)
                self.submit_order(self.order_factory.market(self.name, side, one))

        def on_order_filled(self, fill: Any) -> None:
            time = (EPOCH + dt.timedelta(microseconds=fill.ts_event // 1000)).astimezone(IST)
            self.got.append(Trade(time, 1 if fill.order_side == OrderSide.BUY else -1, price(fill.last_px)))

    strategy = Cross()
    engine = engine_over(catalog, strategy)
    expected = at_quotes(lake)
    assert len(expected) > 10
    assert strategy.got == expected
    engine.dispose()


def test_what_it_cannot_write(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="got the index NSE:NIFTY 50"):
        adapters.write_catalog(lake, tmp_path / "a", "NSE:NIFTY 50")
    with pytest.raises(AdapterError, match="bars: got '100 ticks', expected a time"):
        adapters.write_catalog(lake, tmp_path / "b", SYMBOL, bars="100 ticks")
    with pytest.raises(AdapterError, match="bars: got '7m', which Nautilus has not"):
        adapters.write_catalog(lake, tmp_path / "b", SYMBOL, bars="7m")
    (tmp_path / "there").touch()
    with pytest.raises(AdapterError, match="which is not empty, expected a new folder"):
        adapters.write_catalog(lake, tmp_path, SYMBOL)


def test_the_example(two_days: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert example("NautilusTrader", two_days, monkeypatch, tmp_path)["engine"].iteration > 1_000
