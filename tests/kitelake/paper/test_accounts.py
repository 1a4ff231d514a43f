"""Positions and funds: against identities that hold for any trades, and against numbers by hand."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitelake.paper import Instrument
from kitelake.paper.accounts import Account, Position
from kitelake.paper.fields import OrderFields
from kitelake.paper.orders import Trade
from tests.support.paper import CALL, CRUDE, FUT, INFY, Desk

TRADES = st.lists(st.tuples(st.booleans(), st.integers(1, 500), st.integers(1, 50)), max_size=20)


@given(trades=TRADES, last=st.integers(1, 500))
def test_what_holds_for_any_trades(trades: list[tuple[bool, int, int]], last: int) -> None:
    position = Position(INFY, "MIS")
    account = Account("a", "u", Fraction(1000), Fraction(20))
    for buying, price, quantity in trades:
        position.trade(buying, price, quantity)
        fields = OrderFields(INFY, buying, quantity, "MIS", "LIMIT", price=price)
        held = account.book(Trade("1", "1", fields, price, quantity, 0, 0))
        held.last_price = last
    position.last_price = last
    account.sample(0)
    net = sum(quantity if buying else -quantity for buying, _, quantity in trades)
    paid = sum(price * quantity if buying else -price * quantity for buying, price, quantity in trades)
    assert position.quantity == net == position.buy_quantity - position.sell_quantity
    assert position.realised + position.unrealised == net * last - paid
    assert account.cash == 1000 - Fraction(paid, 100)
    assert account.equity[0].cash + account.equity[0].positions == 1000 + account.realised + account.unrealised
    assert (position.average == 0) == (net == 0)


def test_the_average_price_of_what_is_open() -> None:
    position = Position(INFY, "MIS")
    seen: list[tuple[Any, Any, Any]] = []
    for buying, price, quantity in (
        (True, 100, 10),
        (True, 130, 20),
        (False, 150, 15),
        (False, 90, 35),
        (True, 80, 20),
    ):
        position.trade(buying, price, quantity)
        seen.append((position.quantity, position.average, position.realised))
    assert seen == [(10, 100, 0), (30, 120, 0), (15, 120, 450), (-20, 90, 0), (0, 0, 200)]


@pytest.mark.parametrize(
    ("of", "side", "margin"),
    [
        (INFY, "BUY", 10_000.0),  # 100 shares at 100
        (INFY, "SELL", 2000.0),
        (CALL, "BUY", 7500.0),  # 75 at 100
        (CALL, "SELL", 360_000.0),  # 20 % of 75 × 24,000
        (FUT, "BUY", 1500.0),  # 20 % of 75 × 100
        (FUT, "SELL", 1500.0),
        (CRUDE, "BUY", 2000.0),
    ],
)
def test_the_margin_of_an_order_and_of_the_position_that_it_makes(of: Instrument, side: str, margin: float) -> None:
    desk = Desk()
    desk.tick(0, of=of, asks=[(101, 100)], bids=[(99, 100)])
    quantity = of.lot_size if of.lot_size > 1 else 100
    placed = desk.place(side, quantity, of=of, price=100)
    assert desk.order(placed)["status"] == "OPEN"
    margins = desk.call("GET", "/user/margins/equity")
    assert (margins["utilised"]["debits"], margins["net"]) == (margin, 1_000_000 - margin)
    desk.tick(1, 100, of=of, volume=quantity)
    assert desk.order(placed)["status"] == "COMPLETE"
    assert desk.call("GET", "/user/margins")["commodity"]["utilised"]["debits"] == margin


def test_what_closes_a_position_needs_no_margin() -> None:
    desk = Desk(capital=10_010)
    desk.tick(0)
    assert desk.order(desk.place("BUY", 100, price=100.1))["status"] == "COMPLETE"
    assert desk.order(desk.place("BUY", 1, price=99))["status"] == "REJECTED"
    closing = [desk.place("SELL", 60, price=100.2), desk.place("SELL", 40, price=100.2)]
    assert [desk.order(one)["status"] for one in closing] == ["OPEN", "OPEN"]
    assert desk.order(desk.place("SELL", 1, price=100.2))["status_message"].startswith("Insufficient funds. Required")
    desk.cancel(closing[1])
    assert desk.order(desk.place("SELL", 1, price=100.2))["status"] == "OPEN"


def test_delivery_sells_what_was_bought_today_and_no_more() -> None:
    desk = Desk()
    desk.tick(0)
    desk.place("BUY", 100, product="CNC", price=100.1)
    assert desk.order(desk.place("SELL", 101, product="CNC", price=99.9))["status_message"] == (
        "Insufficient holdings. Required quantity is 101 but available quantity is 100."
    )
    assert desk.order(desk.place("SELL", 100, product="CNC", price=99.9))["status"] == "COMPLETE"


def test_an_order_that_is_changed_is_counted_once() -> None:
    desk = Desk(capital=1000)
    desk.tick(0)
    placed = desk.place("BUY", 10, price=99.9)
    desk.modify(placed, price=100)
    assert desk.order(placed)["price"] == 100
    assert desk.call("GET", "/user/margins/equity")["net"] == 0
