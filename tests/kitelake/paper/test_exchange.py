"""A hand-written book: what each kind of order gets of it, at arrival and later.

The book (`BIDS`, `ASKS`): the last price is 100.0, asks are 100 at 100.1, 200 at .2, 300 at .3, 400 at .4, 500 at .5,
bids the same below 99.9. It is received at second 0; orders arrive at second 1 unless said.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support.paper import BEFORE_PROTECTION, CALL, NIFTY, Desk

ALL_ASKS = [(100.1, 100), (100.2, 200), (100.3, 300), (100.4, 400), (100.5, 500)]
ALL_BIDS = [(99.9, 100), (99.8, 200), (99.7, 300), (99.6, 400), (99.5, 500)]


class Case(NamedTuple):
    """An order on the book, and what becomes of it at arrival."""

    name: str
    order: dict[str, Any]
    status: str
    fills: list[tuple[float, int]]
    settings: Mapping[str, Any] = MappingProxyType({})
    shown: Mapping[str, Any] = MappingProxyType({})


AT_ARRIVAL = [
    # MARKET without protection, before it was asked for
    Case("market buys the first level", {"kind": "MARKET", "quantity": 60}, "COMPLETE", [(100.1, 60)]),
    Case("market sells the first level", {"kind": "MARKET", "side": "SELL", "quantity": 60}, "COMPLETE", [(99.9, 60)]),
    Case("market walks", {"kind": "MARKET", "quantity": 350}, "COMPLETE", [(100.1, 100), (100.2, 200), (100.3, 50)]),
    Case("market walks all", {"kind": "MARKET", "quantity": 1500}, "COMPLETE", ALL_ASKS),
    Case(
        "market, beyond: refused",
        {"kind": "MARKET", "quantity": 1600},
        "CANCELLED",
        ALL_ASKS,
        shown={
            "cancelled_quantity": 100,
            "status_message": "No quantity is left in the order book for a market order.",
        },
    ),
    Case(
        "market buys beyond at 1 % more than the last level, on a tick",
        {"kind": "MARKET", "quantity": 1600},
        "COMPLETE",
        [*ALL_ASKS, (101.6, 100)],
        {"beyond": "slippage", "slippage_percent": 1.0},
    ),
    Case(
        "market sells beyond at 1 % less than the last level, on a tick",
        {"kind": "MARKET", "side": "SELL", "quantity": 1600},
        "COMPLETE",
        [*ALL_BIDS, (98.5, 100)],
        {"beyond": "slippage", "slippage_percent": 1.0},
    ),
    Case("market IOC", {"kind": "MARKET", "validity": "IOC", "quantity": 60}, "COMPLETE", [(100.1, 60)]),
    Case(
        "market IOC never goes beyond",
        {"kind": "MARKET", "validity": "IOC", "quantity": 1600},
        "CANCELLED",
        ALL_ASKS,
        {"beyond": "slippage"},
    ),
    # MARKET with protection: a limit order
    Case(
        "protected market, within",
        {"kind": "MARKET", "quantity": 150, "market_protection": 1},
        "COMPLETE",
        [(100.1, 100), (100.2, 50)],
        shown={"order_type": "LIMIT", "price": 101.0, "market_protection": 1.0},
    ),
    Case(
        "protected market rests at its limit, which is rounded to the last price",
        {"kind": "MARKET", "quantity": 400, "market_protection": 0.25},
        "OPEN",
        [(100.1, 100), (100.2, 200)],
        shown={"order_type": "LIMIT", "price": 100.2, "pending_quantity": 100},
    ),
    Case(
        "protected market sells",
        {"kind": "MARKET", "side": "SELL", "quantity": 400, "market_protection": 0.25},
        "OPEN",
        [(99.9, 100), (99.8, 200)],
        shown={"price": 99.8},
    ),
    Case(
        "the broker's own band: 2 % up to ₹100",
        {"kind": "MARKET", "quantity": 10, "market_protection": -1},
        "COMPLETE",
        [(100.1, 10)],
        shown={"price": 102.0, "market_protection": -1.0},
    ),
    Case(
        "protected market IOC",
        {"kind": "MARKET", "validity": "IOC", "quantity": 400, "market_protection": 0.25},
        "CANCELLED",
        [(100.1, 100), (100.2, 200)],
    ),
    # LIMIT
    Case("limit, marketable", {"price": 100.2, "quantity": 150}, "COMPLETE", [(100.1, 100), (100.2, 50)]),
    Case("limit, partly", {"price": 100.2, "quantity": 400}, "OPEN", [(100.1, 100), (100.2, 200)]),
    Case("limit sells partly", {"side": "SELL", "price": 99.9, "quantity": 400}, "OPEN", [(99.9, 100)]),
    Case("limit rests", {"price": 100.0}, "OPEN", [], shown={"pending_quantity": 10, "average_price": 0}),
    Case(
        "limit IOC, all", {"validity": "IOC", "price": 100.2, "quantity": 150}, "COMPLETE", [(100.1, 100), (100.2, 50)]
    ),
    Case(
        "limit IOC, partly",
        {"validity": "IOC", "price": 100.1, "quantity": 150},
        "CANCELLED",
        [(100.1, 100)],
        shown={"cancelled_quantity": 50, "status_message": "What an IOC order does not get at once is cancelled."},
    ),
    Case("limit IOC, nothing", {"validity": "IOC", "price": 100.0}, "CANCELLED", []),
    # SL and SL-M
    Case("stop waits", {"kind": "SL", "trigger_price": 100.5, "price": 100.6}, "TRIGGER PENDING", []),
    Case("stop sells waits", {"kind": "SL", "side": "SELL", "trigger_price": 99, "price": 98}, "TRIGGER PENDING", []),
    Case("stop at market waits", {"kind": "SL-M", "trigger_price": 100.5}, "TRIGGER PENDING", []),
    Case(
        "stop IOC waits", {"kind": "SL", "validity": "IOC", "trigger_price": 101, "price": 102}, "TRIGGER PENDING", []
    ),
    Case(
        "stop whose trigger was reached",
        {"kind": "SL", "trigger_price": 100.0, "price": 101},
        "COMPLETE",
        [(100.1, 10)],
    ),
    Case("stop sells at once", {"kind": "SL-M", "side": "SELL", "trigger_price": 100.0}, "COMPLETE", [(99.9, 10)]),
    Case(
        "stop IOC whose trigger was reached",
        {"kind": "SL", "validity": "IOC", "trigger_price": 100.0, "price": 100.1, "quantity": 150},
        "CANCELLED",
        [(100.1, 100)],
    ),
    Case(
        "protected stop at once",
        {"kind": "SL-M", "trigger_price": 100.0, "market_protection": 0.1, "quantity": 150},
        "OPEN",
        [(100.1, 100)],
        shown={"order_type": "SL", "price": 100.1, "trigger_price": 100.0},
    ),
]


@pytest.mark.parametrize("case", AT_ARRIVAL, ids=lambda case: case.name)
def test_at_arrival(case: Case) -> None:
    desk = Desk(BEFORE_PROTECTION, **case.settings)
    desk.tick(0)
    desk.go(1)
    placed = desk.place(**case.order)
    shown = desk.order(placed)
    assert (shown["status"], desk.fills(placed)) == (case.status, case.fills)
    assert case.shown.items() <= shown.items()
    assert shown["filled_quantity"] == sum(quantity for _, quantity in case.fills)
    assert shown["filled_quantity"] + shown["pending_quantity"] + shown["cancelled_quantity"] == shown["quantity"]


# ── rejected as it arrives ───────────────────────────────────────────────────────────────────────────────────────────

NO_BOOK = "No order book of NSE:INFY was captured: its packets are in {} mode."
REJECTED = [
    ("quote mode", {}, {"mode": "quote", "bids": (), "asks": ()}, NO_BOOK.format("quote")),
    ("ltp mode", {}, {"mode": "ltp", "bids": (), "asks": ()}, NO_BOOK.format("ltp")),
    ("index", {"of": NIFTY}, {"of": NIFTY, "bids": (), "asks": ()}, "NSE:NIFTY 50 is an index: it has no order book."),
    ("no asks", {"kind": "MARKET"}, {"asks": ()}, "No quantity is left in the order book for a market order."),
    (
        "no last price",
        {"kind": "MARKET", "market_protection": 1},
        {"last": 0},
        "There is no last price from which market protection could count.",
    ),
    (
        "too dear",
        {"quantity": 10_001, "price": 100.0},
        {},
        "Insufficient funds. Required margin is 1000100.00 but available margin is 1000000.00. "
        "Check the orderbook for open orders.",
    ),
    (
        "shares that are not held",
        {"side": "SELL", "product": "CNC", "price": 100.0},
        {},
        "Insufficient holdings. Required quantity is 10 but available quantity is 0.",
    ),
]


@pytest.mark.parametrize(("order", "packet", "message"), [case[1:] for case in REJECTED], ids=[c[0] for c in REJECTED])
def test_rejected_at_arrival(order: dict[str, Any], packet: dict[str, Any], message: str) -> None:
    desk = Desk(BEFORE_PROTECTION)
    desk.tick(0, **packet)
    placed = desk.place(**{"price": 100.0, **order})
    shown = desk.order(placed)
    assert (shown["status"], shown["status_message"]) == ("REJECTED", message)
    assert (shown["filled_quantity"], shown["pending_quantity"]) == (0, 0)
    assert desk.steps(placed) == ["PUT ORDER REQ RECEIVED", "REJECTED"]
    assert desk.updates() == [("REJECTED", 0)]


def test_nothing_was_captured_of_it() -> None:
    desk = Desk()
    shown = desk.order(desk.place(price=100))
    assert (shown["status"], shown["status_message"]) == ("REJECTED", "Nothing of NSE:INFY was captured up to now.")


def test_limits_of_the_file(tmp_path: Any) -> None:
    path = tmp_path / "limits.csv"
    path.write_text("symbol,freeze_quantity,lower_circuit_limit,upper_circuit_limit\nNSE:INFY,1000,90,110.00\n")
    desk = Desk(limits=path)
    desk.tick(0)
    outcomes = {
        (quantity, price): desk.order(desk.place(quantity=quantity, price=price))["status_message"]
        for quantity, price in ((1000, 90), (1001, 90), (10, 89.9), (10, 110), (10, 110.1))
    }
    circuit = "Price exceeds circuit limits for the instrument. Place an order within the daily range."
    assert outcomes == {
        (1000, 90): None,
        (1001, 90): "Order quantity exceeds the freeze quantity (1000) of the instrument.",
        (10, 89.9): circuit,
        (10, 110): None,
        (10, 110.1): circuit,
    }


def option_order(desk: Desk, price: float) -> str:
    shown: str = desk.order(desk.place(of=CALL, quantity=75, product="NRML", price=price))["status"]
    return shown


def test_price_protection_of_options() -> None:
    desk = Desk(price_protection=True)
    desk.tick(0, 100, of=CALL)
    assert [option_order(desk, price) for price in (59.95, 60, 140, 140.05)] == [
        "REJECTED",
        "OPEN",
        "COMPLETE",
        "REJECTED",
    ]
    desk.tick(1, 40, of=CALL, bids=[(39, 75)], asks=[(90, 75)])
    assert [option_order(desk, price) for price in (19.95, 20, 60, 60.05)] == ["REJECTED", "OPEN", "OPEN", "REJECTED"]


def test_price_protection_goes_by_the_trades_of_half_a_minute() -> None:
    desk = Desk(price_protection=True)
    desk.tick(0, 100, of=CALL, volume=0)
    desk.place(of=CALL, quantity=75, product="NRML", price=90)  # from here on its packets are seen
    desk.tick(10, 100, of=CALL, volume=10)
    desk.tick(20, 300, of=CALL, volume=20)
    desk.go(21)
    assert [option_order(desk, price) for price in (119.95, 120)] == ["REJECTED", "COMPLETE"]  # of 200
    desk.tick(45, 300, of=CALL, volume=20)
    assert [option_order(desk, price) for price in (179.95, 180)] == ["REJECTED", "COMPLETE"]  # of 300


def test_price_protection_only_if_asked_for() -> None:
    desk = Desk()
    desk.tick(0, 100, of=CALL)
    assert option_order(desk, 5) == "OPEN"


def test_where_fewer_than_five_levels_are_shown_nothing_lies_beyond() -> None:
    desk = Desk(BEFORE_PROTECTION, beyond="slippage")
    desk.tick(0, asks=ALL_ASKS[:4])
    placed = desk.place("BUY", 1100, "MARKET")
    assert (desk.order(placed)["status"], desk.fills(placed)) == ("CANCELLED", ALL_ASKS[:4])


# ── what own orders took ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_taken_is_gone_until_a_newer_snapshot() -> None:
    desk = Desk(BEFORE_PROTECTION)
    desk.tick(0)
    assert desk.fills(desk.place("BUY", 150, "MARKET")) == [(100.1, 100), (100.2, 50)]
    desk.go(1)
    assert desk.fills(desk.place("BUY", 200, "MARKET")) == [(100.2, 150), (100.3, 50)]
    assert desk.fills(desk.place("SELL", 150, "MARKET")) == [(99.9, 100), (99.8, 50)]
    assert desk.fills(desk.place("SELL", 200, "MARKET")) == [(99.8, 150), (99.7, 50)]
    assert not desk.broker.watched
    assert desk.fills(desk.place("BUY", 10, "MARKET")) == [(100.3, 10)]
    desk.tick(2)
    assert desk.fills(desk.place("BUY", 150, "MARKET")) == [(100.1, 100), (100.2, 50)]


def test_what_other_accounts_took_is_gone_too() -> None:
    desk = Desk(BEFORE_PROTECTION)
    desk.tick(0)
    form = {"exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "product": "MIS"}
    for key in ("one", "two"):
        desk.call("POST", "/orders/regular", key=key, quantity=80, order_type="MARKET", **form)
    fills = [desk.call("GET", "/trades", key=key) for key in ("one", "two")]
    assert [[(one["average_price"], one["quantity"]) for one in each] for each in fills] == [
        [(100.1, 80)],
        [(100.1, 20), (100.2, 60)],
    ]
