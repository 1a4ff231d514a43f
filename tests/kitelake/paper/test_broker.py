"""Orders and the account: each call as the official client makes it and reads its answer, and what is refused."""

import json
from typing import Any

import pytest
from kiteconnect import exceptions

from ingest.server import CallRefusedError
from tests.support.paper import BEFORE_PROTECTION, INFY, MORNING, Desk, place

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
