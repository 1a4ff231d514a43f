"""What the broker says of the market and of how an account did in it: quotes, candles, the equity curve, tables."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from ingest.server import CallRefusedError
from kitelake.paper import CandleCall
from storage.clock import IST
from tests.support.paper import CALL, FUT, INFY, MORNING, NIFTY, Desk, place

# ── the market ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_quotes_go_by_the_markets_clock() -> None:
    desk = Desk()
    full = {
        "last_traded_quantity": 5,
        "average_traded_price": 10012,
        "total_buy_quantity": 7,
        "total_sell_quantity": 8,
        "open": 9950,
        "high": 10100,
        "low": 9900,
        "last_trade_us": desk.us(1),
        "exchange_us": desk.us(2),
        "oi": 0,
        "oi_day_high": 0,
        "oi_day_low": 0,
    }
    desk.tick(3, volume=12, asks=[(100.1, 100)], **full)
    desk.tick(3, 24_000, of=NIFTY, mode="ltp", bids=(), asks=(), volume=None, close=None)
    with desk.client() as kite:
        quotes = kite.quote("NSE:INFY", "256265", "NSE:NONE", "NFO:NIFTY26NOVFUT", "²", "9" * 5000)
        assert kite.ltp(["NSE:NIFTY 50"]) == {"NSE:NIFTY 50": {"instrument_token": NIFTY.token, "last_price": 24_000}}
        assert kite.ohlc("NSE:INFY") == {
            "NSE:INFY": {
                "instrument_token": INFY.token,
                "last_price": 100.0,
                "ohlc": {"open": 99.5, "high": 101.0, "low": 99.0, "close": 99.0},
            }
        }
    nothing = {"price": 0, "quantity": 0, "orders": 0}
    assert list(quotes) == ["NSE:INFY", "256265"]
    assert quotes["NSE:INFY"] == {
        "instrument_token": INFY.token,
        "last_price": 100.0,
        "ohlc": {"open": 99.5, "high": 101.0, "low": 99.0, "close": 99.0},
        "timestamp": MORNING.replace(second=2),
        "last_trade_time": MORNING.replace(second=1),
        "last_quantity": 5,
        "average_price": 100.12,
        "volume": 12,
        "buy_quantity": 7,
        "sell_quantity": 8,
        "net_change": 1.0,
        "oi": 0,
        "oi_day_high": 0,
        "oi_day_low": 0,
        "lower_circuit_limit": None,
        "upper_circuit_limit": None,
        "depth": {
            "buy": [
                {"price": price, "quantity": quantity, "orders": 1}
                for price, quantity in ((99.9, 100), (99.8, 200), (99.7, 300), (99.6, 400), (99.5, 500))
            ],
            "sell": [{"price": 100.1, "quantity": 100, "orders": 1}, *[nothing] * 4],
        },
    }
    index = quotes["256265"]
    assert (index["timestamp"], index["last_trade_time"], index["volume"]) == (MORNING.replace(second=3), None, None)
    assert (index["ohlc"]["open"], index["net_change"], index["depth"]) == (None, None, {"buy": [], "sell": []})


ROWS: list[list[Any]] = [
    [dt.datetime(2026, 11, 13, 9, 15, tzinfo=IST), 1.0, 2.0, 0.5, 1.5, 10, 3],
    [dt.datetime(2026, 11, 13, 9, 16, tzinfo=IST), 1.5, 1.5, 1.5, 1.5, 1, None],
]


def answering(asked: list[CandleCall]) -> Callable[[CandleCall], list[list[Any]]]:
    """Candles that note what they are asked for."""

    def candles(call: CandleCall) -> list[list[Any]]:
        asked.append(call)
        return ROWS

    return candles


def test_historical_candles() -> None:
    asked: list[CandleCall] = []
    desk = Desk(candles=answering(asked))
    with desk.client() as kite:
        plain = kite.historical_data(INFY.token, MORNING, "2026-11-14", "5minute")
        interest = kite.historical_data(INFY.token, "2026-11-12", MORNING, "day", oi=True)
    first = {"date": ROWS[0][0], "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 10}
    assert plain[0] == first
    assert [one["oi"] for one in interest] == [3, 0]
    texts = ("2026-11-13 09:15", "2026-11-14 00:00", "2026-11-12 00:00")
    times = [dt.datetime.fromisoformat(text).replace(tzinfo=IST) for text in texts]
    assert asked == [
        CandleCall(INFY.token, "5minute", times[0], times[1]),
        CandleCall(INFY.token, "day", times[2], times[0]),
    ]


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("x/minute", {}, "invalid token"),
        ("1/minute", {}, "invalid token"),
        ("²/minute", {}, "invalid token"),
        ("9" * 5000 + "/minute", {}, "invalid token"),
        ("408065/minute", {"to": "9999-12-31"}, "invalid to date"),
        ("408065/minute", {"from": "0001-01-01"}, "invalid from date"),
        ("408065/2minute", {}, "invalid interval: expected one of minute, 3minute"),
        ("408065/minute", {"from": "yesterday"}, "invalid from date: expected yyyy-mm-dd"),
        ("408065/minute", {"from": "2026-13-01"}, "invalid from date"),
        ("408065/minute", {"to": ""}, "invalid to date"),
        ("408065/minute", {"to": "2026-11-12"}, "invalid date range: `to` is before `from`"),
        ("408065/minute", {"continuous": "1"}, "Continuous data of expired contracts is not served on paper."),
    ],
)
def test_historical_calls_that_are_refused(path: str, query: dict[str, str], message: str) -> None:
    desk = Desk(candles=lambda _: [])
    asked = {"from": ["2026-11-13"], "to": ["2026-11-13"], **{name: [value] for name, value in query.items()}}
    with pytest.raises(CallRefusedError, match=message) as caught:
        desk.call("GET", f"/instruments/historical/{path}", query=asked)
    assert caught.value.status == 400


def test_without_candles_there_is_no_history() -> None:
    query = {"from": ["2026-11-13"], "to": ["2026-11-13"]}
    with pytest.raises(CallRefusedError, match="Historical candles are not served"):
        Desk().call("GET", f"/instruments/historical/{INFY.token}/minute", query=query)


def test_times_are_shown_shifted_and_understood_so() -> None:
    asked: list[CandleCall] = []
    desk = Desk(shift_us=86_400_000_000, candles=answering(asked))
    desk.tick(0)
    with desk.client() as kite:
        place(kite)
        [order] = kite.orders()
        assert order["order_timestamp"] == kite.trades()[0]["fill_timestamp"] == MORNING + dt.timedelta(days=1)
        assert kite.quote("NSE:INFY")["NSE:INFY"]["timestamp"] == MORNING + dt.timedelta(days=1)
        desk.tick(0, exchange_us=desk.us(3), last_trade_us=desk.us(2))  # a packet's own times are as it says them
        quote = kite.quote("NSE:INFY")["NSE:INFY"]
        assert (quote["timestamp"].second, quote["last_trade_time"].second) == (3, 2)
        assert quote["timestamp"].date() == MORNING.date()
        candles = kite.historical_data(
            INFY.token, MORNING + dt.timedelta(days=1), MORNING + dt.timedelta(days=1), "day"
        )
    assert candles[0]["date"] == ROWS[0][0] + dt.timedelta(days=1)
    assert asked[0].start == asked[0].stop == MORNING.replace(tzinfo=IST)
    assert order["order_id"].startswith("261113")
    assert desk.broker.tables()["orders"]["placed_at"][0].as_py() == MORNING.replace(tzinfo=IST)


def test_calls_that_there_are_not() -> None:
    broker = Desk().broker
    for method, path in (
        ("GET", "/"),
        ("GET", "/none"),
        ("POST", "/quote"),
        ("DELETE", "/orders"),
        ("POST", "/trades"),
    ):
        assert broker.route(method, path) is None


# ── the market's time ────────────────────────────────────────────────────────────────────────────────────────────────


def curve(desk: Desk) -> list[tuple[str, float]]:
    rows = desk.broker.tables()["equity"].to_pylist()
    return [(f"{row['time']:%H:%M:%S}", round(row["equity"], 6)) for row in rows]


def test_the_equity_curve_has_every_fill_and_every_minute() -> None:
    desk = Desk(capital=10_000)
    desk.tick(1)
    desk.place("BUY", 10, price=100.1)
    desk.serve(130, desk.snapshot(59.999999, 101), desk.snapshot(60, 102), desk.snapshot(125, 103))
    desk.place("SELL", 10, price=99.9)
    desk.go(200)
    assert curve(desk) == [
        ("09:15:01", 9999.0),
        ("09:16:00", 10009.0),
        ("09:17:00", 10019.0),
        ("09:17:10", 9998.0),
        ("09:18:00", 9998.0),
    ]


def test_the_curve_is_the_same_in_any_slices() -> None:
    packets = [(second, 100 + second % 7) for second in range(5, 400, 5)]
    curves = []
    for step in (1, 5, 40):
        for late in (0, 1):  # a packet of the moment at which a slice ends is in it, or in the next
            desk = Desk()
            desk.tick(0)
            desk.place("BUY", 100, price=100.1)
            for slice_end in range(step, 401, step):
                due = [desk.snapshot(s, last) for s, last in packets if slice_end - step < s + late <= slice_end]
                desk.serve(slice_end, *due)
            curves.append(curve(desk))
    assert all(one == curves[0] for one in curves)
    assert len(curves[0]) == 7


def test_at_the_end_what_is_open_is_cancelled() -> None:
    desk = Desk(latency_seconds=1)
    desk.tick(0)
    resting = desk.place(price=99)
    desk.go(2)
    moving = desk.place(price=99)
    desk.updates()
    desk.broker.close()
    desk.broker.close()
    assert desk.updates() == [("CANCELLED", 0)] * 2
    assert [desk.order(one)["status_message"] for one in (resting, moving)] == ["The day has ended."] * 2
    assert desk.broker.watched == set()
    with pytest.raises(CallRefusedError, match="The replayed day has ended"):
        desk.place(price=99)
    assert curve(desk) == [("09:15:02", 1_000_000.0)]


def test_reset_forgets_everything() -> None:
    desk = Desk()
    desk.tick(0)
    first = desk.place(price=100.1)
    desk.broker.reset()
    assert (desk.updates(), desk.broker.watched, desk.call("GET", "/orders")) == ([], set(), [])
    assert desk.place(price=100.1) == first
    assert desk.call("GET", "/trades")[0]["trade_id"] == "00000001"


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tables() -> None:
    desk = Desk()
    desk.tick(0)
    desk.tick(0, of=FUT)
    filled = desk.place("BUY", 150, "MARKET", market_protection=1, tag="x")
    rejected = desk.place("SELL", 10, product="CNC", price=100)
    waiting = desk.place("SELL", 75, "SL", of=FUT, product="NRML", trigger_price=99, price=98)
    tables = desk.broker.tables()
    times = [field.type for table in tables.values() for field in table.schema if pa.types.is_timestamp(field.type)]
    assert set(times) == {pa.timestamp("us", "Asia/Kolkata")}
    orders = {row["order_id"]: row for row in tables["orders"].to_pylist()}
    assert list(orders) == [filled, rejected, waiting]
    start = MORNING.replace(tzinfo=IST)
    assert orders[filled] == {
        "account": "paper-key",
        "order_id": filled,
        "placed_at": start,
        "updated_at": start,
        "symbol": "NSE:INFY",
        "instrument_token": INFY.token,
        "transaction_type": "BUY",
        "product": "MIS",
        "order_type": "LIMIT",
        "validity": "DAY",
        "quantity": 150,
        "price": 101.0,
        "trigger_price": None,
        "market_protection": 1.0,
        "status": "COMPLETE",
        "status_message": None,
        "filled_quantity": 150,
        "pending_quantity": 0,
        "cancelled_quantity": 0,
        "average_price": pytest.approx(15_020 / 150),
        "tag": "x",
    }
    assert (orders[rejected]["status"], orders[rejected]["average_price"]) == ("REJECTED", None)
    assert (orders[waiting]["status"], orders[waiting]["trigger_price"]) == ("TRIGGER PENDING", 99.0)
    assert tables["trades"].select(["symbol", "transaction_type", "quantity", "price", "time"]).to_pylist() == [
        {"symbol": "NSE:INFY", "transaction_type": "BUY", "quantity": 100, "price": 100.1, "time": start},
        {"symbol": "NSE:INFY", "transaction_type": "BUY", "quantity": 50, "price": 100.2, "time": start},
    ]
    [position] = tables["positions"].to_pylist()
    assert (position["symbol"], position["quantity"], position["buy_value"]) == ("NSE:INFY", 150, 15_020.0)
    assert position["pnl"] == pytest.approx(150 * 100 - 15_020)
    [point] = tables["equity"].to_pylist()
    assert (point["cash"], point["positions"], point["equity"]) == (984_980.0, 15_000.0, 999_980.0)


def test_tables_without_an_account() -> None:
    tables = Desk().broker.tables()
    assert {name: table.num_rows for name, table in tables.items()} == dict.fromkeys(
        ("orders", "trades", "positions", "equity"), 0
    )


def test_options_are_listed_and_traded_by_name() -> None:
    desk = Desk()
    desk.tick(0, of=CALL)
    placed = desk.place("BUY", 75, of=CALL, product="NRML", price=100.1)
    assert desk.order(placed)["tradingsymbol"] == "NIFTY26NOV24000CE"
    assert desk.fills(placed) == [(100.1, 75)]
