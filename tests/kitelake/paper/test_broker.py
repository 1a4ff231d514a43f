"""Each call as the official client makes it and reads its answer, and what the broker does with time."""

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from kiteconnect import exceptions
from kiteconnect.connect import KiteConnect

from ingest.server import CallRefusedError
from kitelake.paper import CandleCall
from storage.clock import IST
from tests.support.paper import BEFORE_PROTECTION, CALL, FUT, INFY, NIFTY, Desk

MORNING = dt.datetime(2026, 11, 13, 9, 15)  # noqa: DTZ001 (the client's times are naive)


def place(kite: KiteConnect, **changed: Any) -> str:
    values = {
        "variety": kite.VARIETY_REGULAR,
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "transaction_type": "BUY",
        "quantity": 150,
        "product": "MIS",
        "order_type": "LIMIT",
        "price": 100.1,
    }
    order_id: str = kite.place_order(**{**values, **changed})
    return order_id


# ── orders, through the official client ──────────────────────────────────────────────────────────────────────────────


def test_an_order_is_placed_changed_and_cancelled() -> None:
    desk = Desk()
    desk.tick(1)
    with desk.client() as kite:
        order_id = place(kite, tag="t_1")
        assert order_id == "261113000000001"
        desk.go(2)
        assert kite.modify_order("regular", order_id, price=100.2, quantity=400) == order_id
        desk.go(3)
        assert kite.cancel_order("regular", order_id) == order_id
        [order] = kite.orders()
        history = kite.order_history(order_id)
        trades, own = kite.trades(), kite.order_trades(order_id)
    assert order == {
        "placed_by": "KL0001",
        "order_id": order_id,
        "exchange_order_id": f"1{order_id}",
        "parent_order_id": None,
        "status": "CANCELLED",
        "status_message": None,
        "status_message_raw": None,
        "order_timestamp": MORNING.replace(second=3),
        "exchange_update_timestamp": "2026-11-13 09:15:03",
        "exchange_timestamp": MORNING.replace(second=2),
        "variety": "regular",
        "modified": True,
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "instrument_token": INFY.token,
        "order_type": "LIMIT",
        "transaction_type": "BUY",
        "validity": "DAY",
        "validity_ttl": 0,
        "product": "MIS",
        "quantity": 400,
        "disclosed_quantity": 0,
        "price": 100.2,
        "trigger_price": 0,
        "average_price": pytest.approx(30050 / 300),
        "filled_quantity": 300,
        "pending_quantity": 0,
        "cancelled_quantity": 100,
        "market_protection": 0,
        "meta": {},
        "tag": "t_1",
        "tags": ["t_1"],
        "guid": f"{order_id}X",
    }
    assert [(one["status"], one["order_timestamp"].second, one["filled_quantity"]) for one in history] == [
        ("PUT ORDER REQ RECEIVED", 1, 0),
        ("OPEN", 1, 0),
        ("OPEN", 1, 100),
        ("MODIFY PENDING", 2, 100),
        ("OPEN", 2, 100),
        ("OPEN", 2, 300),
        ("CANCEL PENDING", 3, 300),
        ("CANCELLED", 3, 300),
    ]
    assert trades == own
    assert trades[0] == {
        "trade_id": "00000001",
        "order_id": order_id,
        "exchange_order_id": f"1{order_id}",
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "instrument_token": INFY.token,
        "product": "MIS",
        "average_price": 100.1,
        "quantity": 100,
        "transaction_type": "BUY",
        "fill_timestamp": MORNING.replace(second=1),
        "order_timestamp": "09:15:01",
        "exchange_timestamp": MORNING.replace(second=1),
    }


def test_what_the_exchange_did_not_take_has_nothing_of_it() -> None:
    desk = Desk(latency_seconds=1)
    desk.tick(0)
    asked, rejected = desk.place(price=99), desk.place("SELL", product="CNC", price=100)
    desk.go(0.5)
    names = ("exchange_order_id", "exchange_timestamp", "exchange_update_timestamp")
    assert [desk.order(asked)[name] for name in names] == [None] * 3
    desk.go(1)
    assert [desk.order(rejected)[name] for name in names] == [None] * 3
    assert [desk.order(asked)[name] for name in names] == [f"1{asked}", *["2026-11-13 09:15:01"] * 2]


def test_a_postback_has_the_brokers_keys() -> None:
    desk = Desk(BEFORE_PROTECTION)
    desk.tick(0)
    desk.place("BUY", 10, "MARKET")
    first, last = desk.broker.updates()
    assert (first.account, last.account) == ("paper-key", "paper-key")
    assert {"account_id": "KL0001", "unfilled_quantity": 0, "checksum": ""}.items() <= last.data.items()
    assert (first.data["status"], last.data["status"], last.data["average_price"]) == ("OPEN", "COMPLETE", 100.1)
    assert json.loads(json.dumps(last.data)) == last.data
    assert desk.broker.updates() == []


REFUSALS = [
    (lambda kite: place(kite, quantity=0), exceptions.InputException, 400, "Invalid `quantity`."),
    (
        lambda kite: place(kite, order_type="MARKET"),
        exceptions.OrderException,
        400,
        "Market orders without market protection are not allowed via API. "
        "Please set market protection or use a Limit order.",
    ),
    (
        lambda kite: place(kite, order_type="MARKET", market_protection=True),
        exceptions.InputException,
        400,
        "Invalid request (failed to decode market_protection, got: True (expected decimal))",
    ),
    *(
        (
            lambda kite, variety=variety: place(kite, variety=variety),
            exceptions.OrderException,
            400,
            f"Orders of the variety `{variety}` are not taken on paper. Place a `regular` order.",
        )
        for variety in ("amo", "co", "iceberg", "auction")
    ),
    (lambda kite: place(kite, variety="odd"), exceptions.InputException, 400, "Invalid `variety`."),
    (lambda kite: kite.order_history("1"), exceptions.OrderException, 400, "Couldn't find that `order_id`."),
    (lambda kite: kite.order_trades("1"), exceptions.OrderException, 400, "Couldn't find that `order_id`."),
    (
        lambda kite: kite.cancel_order("regular", "1"),
        exceptions.OrderException,
        400,
        "Couldn't find that `order_id`.",
    ),
    (lambda kite: kite.margins("gold"), exceptions.InputException, 400, "Invalid `segment`."),
    (lambda kite: kite.ltp(), exceptions.InputException, 400, "Missing or empty field `i`"),
    *(
        (call, exceptions.PermissionException, 403, f"{what} is not served on paper.")
        for call, what in (
            (lambda kite: kite.get_gtts(), "GET /gtt/triggers"),
            (lambda kite: kite.delete_gtt(1), "DELETE /gtt/triggers/1"),
            (lambda kite: kite.mf_orders(), "GET /mf/orders"),
            (lambda kite: kite.order_margins([]), "POST /margins/orders"),
            (lambda kite: kite.get_virtual_contract_note([]), "POST /charges/orders"),
            (lambda kite: kite.get_auction_instruments(), "GET /portfolio/holdings/auctions"),
            (lambda kite: kite.trigger_range("BUY", "NSE:INFY"), "GET /instruments/trigger_range/buy"),
            (
                lambda kite: kite.convert_position("NSE", "INFY", "BUY", "day", 1, "MIS", "CNC"),
                "PUT /portfolio/positions",
            ),
        )
    ),
]


@pytest.mark.parametrize(("call", "error", "code", "message"), REFUSALS)
def test_refusals_are_the_clients_errors(call: Any, error: type[Exception], code: int, message: str) -> None:
    desk = Desk()
    desk.tick(0)
    with desk.client() as kite, pytest.raises(error) as caught:
        call(kite)
    assert (type(caught.value), caught.value.code, str(caught.value)) == (error, code, message)  # type: ignore[attr-defined]
    assert desk.call("GET", "/orders") == []


def test_what_is_final_cannot_be_changed() -> None:
    desk = Desk()
    desk.tick(0)
    placed = desk.place(price=100.1)
    for change, what in ((desk.cancel, "cancelled"), (desk.modify, "modified")):
        with pytest.raises(CallRefusedError, match=f"Order cannot be {what} as it is already COMPLETE"):
            change(placed)


def test_a_modification_is_checked_when_it_is_asked_for() -> None:
    desk = Desk()
    desk.tick(0)
    placed = desk.place(price=99)
    for changes, message in (({"price": 99.05}, "Tick size"), ({"order_type": "MARKET"}, "without market protection")):
        with pytest.raises(CallRefusedError, match=message):
            desk.modify(placed, **changes)
    assert desk.steps(placed) == ["PUT ORDER REQ RECEIVED", "OPEN"]


def test_an_order_is_its_accounts_own() -> None:
    desk = Desk()
    desk.tick(0)
    placed = desk.place(price=99)
    assert desk.call("GET", "/orders", key="other") == []
    with pytest.raises(CallRefusedError, match="Couldn't find"):
        desk.call("DELETE", f"/orders/regular/{placed}", key="other")


def test_ten_requests_a_second_of_the_market() -> None:
    desk = Desk()
    desk.tick(0)
    placed = desk.place(price=99)
    for _ in range(4):
        desk.modify(placed, quantity=20)
    with pytest.raises(CallRefusedError):
        desk.modify(placed, quantity=0)  # counts, too
    for _ in range(3):
        desk.place(price=99)
    desk.cancel(placed)
    for request in (lambda: desk.place(price=99), lambda: desk.cancel(placed), lambda: desk.modify(placed)):
        with pytest.raises(CallRefusedError) as caught:
            request()
        assert (caught.value.status, caught.value.error_type) == (429, "NetworkException")
    desk.call("GET", "/orders")
    desk.call("POST", "/orders/regular", key="other", exchange="NSE", tradingsymbol="INFY", transaction_type="BUY",
              quantity=1, product="MIS", order_type="LIMIT", price=99)  # fmt: skip
    desk.go(0.999999)
    with pytest.raises(CallRefusedError):
        desk.place(price=99)
    desk.go(1)
    desk.place(price=99)


# ── the account ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_positions_and_margins() -> None:
    desk = Desk(capital=100_000)
    desk.tick(0)
    with desk.client() as kite:
        place(kite, quantity=300, price=100.2)
        place(kite, quantity=100, price=99.9, transaction_type="SELL")
        desk.tick(1, 101)
        positions, margins = kite.positions(), kite.margins()
        assert kite.margins("equity") == margins["equity"] == margins["commodity"]
        assert (kite.holdings(), kite.invalidate_access_token()) == ([], True)
    assert positions["net"] == positions["day"]
    [position] = positions["net"]
    average = 30050 / 300
    assert position == {
        "tradingsymbol": "INFY",
        "exchange": "NSE",
        "instrument_token": INFY.token,
        "product": "MIS",
        "quantity": 200,
        "overnight_quantity": 0,
        "multiplier": 1,
        "average_price": pytest.approx(average),
        "close_price": 0,
        "last_price": 101.0,
        "value": 9990 - 30050,
        "pnl": pytest.approx(140),
        "m2m": pytest.approx(140),
        "unrealised": pytest.approx(200 * (101 - average)),
        "realised": pytest.approx(100 * (99.9 - average)),
        "buy_quantity": 300,
        "buy_price": pytest.approx(average),
        "buy_value": 30050,
        "buy_m2m": 30050,
        "sell_quantity": 100,
        "sell_price": 99.9,
        "sell_value": 9990,
        "sell_m2m": 9990,
        "day_buy_quantity": 300,
        "day_buy_price": pytest.approx(average),
        "day_buy_value": 30050,
        "day_sell_quantity": 100,
        "day_sell_price": 99.9,
        "day_sell_value": 9990,
    }
    equity = margins["equity"]
    assert equity["enabled"]
    assert equity["net"] == equity["available"]["live_balance"] == pytest.approx(100_000 + 100 * 99.9 - 300 * average)
    assert equity["available"]["opening_balance"] == 100_000
    assert equity["utilised"]["debits"] == pytest.approx(200 * average)


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
