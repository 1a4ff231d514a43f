"""A hand-written book: what each kind of order gets of it, at arrival and later.

The book (`BIDS`, `ASKS`): the last price is 100.0, asks are 100 at 100.1, 200 at .2, 300 at .3, 400 at .4, 500 at .5,
bids the same below 99.9. It is received at second 0; orders arrive at second 1 unless said.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support.paper import BEFORE_PROTECTION, CALL, FUT, INFY, NIFTY, Desk

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


# ── resting ──────────────────────────────────────────────────────────────────────────────────────────────────────────

TOUCHING = [
    ("last price reaches it", {"last": 99.9}, True, False),
    ("last price passes it", {"last": 99.8}, True, True),
    ("last price does not", {"last": 100.0}, False, False),
    ("best ask reaches it", {"last": 100.0, "asks": [(99.9, 5)]}, True, False),
    ("best ask passes it", {"last": 100.0, "asks": [(99.8, 5)]}, True, True),
    ("nothing was traded", {"last": 99.0, "volume": 1000}, False, False),
    ("no book any more", {"last": 99.8, "mode": "quote", "bids": (), "asks": ()}, True, True),
    ("no volume any more", {"last": 99.8, "mode": "ltp", "bids": (), "asks": (), "volume": None}, False, False),
    ("a cached packet", {"last": 99.0, "live": False}, False, False),
    ("after a gap", {"last": 99.0, "after_gap": True}, False, False),
    ("no price", {"last": 0, "asks": ()}, False, False),
]


@pytest.mark.parametrize(("packet", "touch", "through"), [c[1:] for c in TOUCHING], ids=[c[0] for c in TOUCHING])
@pytest.mark.parametrize("fill", ["touch", "through"])
def test_a_resting_order(packet: dict[str, Any], touch: bool, through: bool, fill: str) -> None:
    desk = Desk(fill=fill)
    desk.tick(0, volume=1000)
    placed = desk.place("BUY", 10, price=99.9)
    desk.tick(1, **{"volume": 1100, **packet})
    expected = touch if fill == "touch" else through
    assert desk.fills(placed) == ([(99.9, 10)] if expected else [])
    assert desk.order(placed)["status"] == ("COMPLETE" if expected else "OPEN")


@pytest.mark.parametrize(("last", "filled"), [(100.0, False), (100.1, True), (100.2, True)])
def test_a_resting_order_that_sells(last: float, filled: bool) -> None:
    desk = Desk()
    desk.tick(0, volume=1000)
    placed = desk.place("SELL", 10, price=100.1)
    assert desk.order(placed)["status"] == "OPEN"
    desk.tick(1, last, volume=1100, asks=[(100.5, 1)])
    assert desk.fills(placed) == ([(100.1, 10)] if filled else [])


def test_the_traded_volume_is_shared_in_order_of_time() -> None:
    desk = Desk()
    desk.tick(0, volume=1000)
    first, second, third = (
        desk.place("BUY", quantity, price=price) for quantity, price in ((50, 99.8), (50, 99.9), (50, 99.8))
    )
    desk.tick(1, 99.8, volume=1070)
    assert [desk.fills(one) for one in (first, second, third)] == [[(99.8, 50)], [(99.9, 20)], []]
    desk.tick(2, 99.8, volume=1070)
    assert desk.fills(second) == [(99.9, 20)]
    desk.tick(3, 99.8, volume=1200)
    assert [desk.fills(one) for one in (second, third)] == [[(99.9, 20), (99.9, 30)], [(99.8, 50)]]
    assert desk.updates() == [
        *[("OPEN", 0)] * 3,
        ("COMPLETE", 50),
        ("OPEN", 20),
        ("COMPLETE", 50),
        ("COMPLETE", 50),
    ]


def test_nothing_is_filled_across_a_gap() -> None:
    """The first packet after it is the base of what comes, whether it says so or a cached one before it did."""
    for live in (True, False):
        desk = Desk()
        desk.tick(0, volume=1000)
        placed = desk.place("BUY", 10, price=99.9)
        stop = desk.place("SELL", 10, "SL", trigger_price=99, price=98)
        desk.tick(100, 98.9, volume=5000, after_gap=True, live=live)
        if not live:
            desk.tick(101, 98.9, volume=5000)
        assert (desk.order(placed)["status"], desk.order(stop)["status"]) == ("OPEN", "TRIGGER PENDING")
        desk.tick(102, 99.5, volume=5000)
        assert (desk.order(placed)["status"], desk.order(stop)["status"]) == ("OPEN", "TRIGGER PENDING")
        desk.tick(103, 99.5, volume=5004)
        assert desk.fills(placed) == [(99.9, 4)]


def test_what_was_traded_in_a_gap_is_nobodys_though_the_first_packet_after_it_has_no_volume() -> None:
    desk = Desk()
    desk.tick(0, volume=1000)
    placed = desk.place("BUY", 10, price=99.9)
    desk.tick(100, 99.0, volume=None, mode="ltp", bids=(), asks=(), after_gap=True)
    desk.tick(101, 99.0, volume=5000)
    assert desk.fills(placed) == []
    desk.tick(102, 99.0, volume=5003)
    assert desk.fills(placed) == [(99.9, 3)]


def test_the_book_after_a_gap_counts_for_arrivals() -> None:
    desk = Desk(BEFORE_PROTECTION)
    desk.tick(100, after_gap=True)
    assert desk.fills(desk.place("BUY", 10, "MARKET")) == [(100.1, 10)]


def test_a_packet_from_before_its_arrival_says_nothing_to_an_order() -> None:
    desk = Desk()
    desk.tick(0, volume=1000)
    desk.go(2)
    placed = desk.place("BUY", 10, price=99.9)
    desk.serve(3, desk.snapshot(1, 99.0, volume=1100))
    assert desk.fills(placed) == []


# ── stops ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("side", "trigger", "packet", "fills"),
    [
        ("BUY", 101, {"last": 101.0, "asks": [(101.1, 30)]}, [(101.1, 10)]),
        ("BUY", 101, {"last": 100.9}, None),
        ("BUY", 101, {"last": 101.0, "live": False}, None),
        ("BUY", 101, {"last": 101.0, "after_gap": True}, None),
        ("BUY", 101, {"last": 101.0, "asks": [(101.1, 4)]}, [(101.1, 4)]),
        ("BUY", 101, {"last": 101.0, "asks": [(101.3, 30)]}, []),
        ("SELL", 99, {"last": 99.0, "bids": [(98.9, 30)]}, [(98.9, 10)]),
        ("SELL", 99, {"last": 99.1}, None),
    ],
)
def test_a_stop_triggers(
    side: str, trigger: float, packet: dict[str, Any], fills: list[tuple[float, int]] | None
) -> None:
    desk = Desk()
    desk.tick(0)
    price = trigger + (0.2 if side == "BUY" else -0.2)
    placed = desk.place(side, 10, "SL", trigger_price=trigger, price=round(price, 1))
    desk.tick(1, **packet)
    shown = desk.order(placed)
    if fills is None:
        assert shown["status"] == "TRIGGER PENDING"
    else:
        assert desk.fills(placed) == fills
        assert shown["status"] == ("COMPLETE" if sum(n for _, n in fills) == 10 else "OPEN")
        assert desk.steps(placed)[:4] == ["PUT ORDER REQ RECEIVED", "TRIGGER PENDING", "OPEN", *desk.steps(placed)[3:4]]


def test_a_protected_stop_becomes_one_with_a_price_when_it_triggers() -> None:
    desk = Desk()
    desk.tick(0)
    placed = desk.place("BUY", 10, "SL-M", trigger_price=101, market_protection=1)
    assert desk.order(placed)["price"] == 0
    desk.tick(1, 101.5, asks=[(103, 50)])
    shown = desk.order(placed)
    assert (shown["status"], shown["order_type"], shown["price"]) == ("OPEN", "SL", 102.5)
    desk.tick(2, 102.5, volume=10)
    assert desk.fills(placed) == [(102.5, 10)]


def test_a_stop_at_market_that_finds_nothing_is_cancelled() -> None:
    desk = Desk(BEFORE_PROTECTION)
    desk.tick(0)
    placed = desk.place("BUY", 10, "SL-M", trigger_price=101)
    desk.tick(1, 101, asks=[(101, 4)])
    assert (desk.order(placed)["status"], desk.fills(placed)) == ("CANCELLED", [(101, 4)])


# ── arrivals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_order_arrives_a_latency_later_and_meets_the_snapshot_of_then() -> None:
    desk = Desk(latency_seconds=0.5)
    desk.tick(0)
    placed = desk.place("BUY", 10, price=100.5)
    assert (desk.order(placed)["status"], desk.broker.watched, desk.updates()) == (
        "PUT ORDER REQ RECEIVED",
        {INFY.token},
        [],
    )
    early, late = desk.snapshot(0.4, asks=[(100.2, 4)]), desk.snapshot(0.6, asks=[(100.3, 100)])
    desk.serve(1, early, late)
    assert desk.fills(placed) == [(100.2, 4)]
    assert desk.order(placed)["status"] == "OPEN"
    assert [one["order_timestamp"][-8:] for one in desk.call("GET", f"/orders/{placed}")] == ["09:15:00"] * 3


def test_a_packet_of_the_moment_of_arrival_comes_after_it_whatever_slice_it_is_in() -> None:
    for slices in ([0.5, 1], [1]):
        desk = Desk(latency_seconds=0.5)
        desk.tick(0)
        placed = desk.place("BUY", 150, price=100.1)
        packet = desk.snapshot(0.5, asks=[(100.1, 1)], volume=20)
        for end in slices:
            desk.serve(end, *([packet] if end == 1 else []))
        assert desk.fills(placed) == [(100.1, 100), (100.1, 20)]


@pytest.mark.parametrize("packet", [{"live": False}, {}], ids=["cached", "stale"])
def test_without_a_basis_it_waits_for_the_next_live_snapshot(packet: dict[str, Any]) -> None:
    desk = Desk(stale_seconds=30)
    desk.tick(0, **packet)
    desk.go(31)
    placed = desk.place("BUY", 10, price=100.5)
    assert desk.order(placed)["status"] == "OPEN PENDING"
    desk.tick(32, live=False)
    assert desk.order(placed)["status"] == "OPEN PENDING"
    desk.tick(33, asks=[(100.3, 100)])
    assert desk.fills(placed) == [(100.3, 10)]
    assert desk.steps(placed) == ["PUT ORDER REQ RECEIVED", "OPEN PENDING", "OPEN", "COMPLETE"]


def test_what_waits_can_be_changed_and_cancelled() -> None:
    desk = Desk()
    desk.tick(0, live=False)
    changed, cancelled = desk.place("BUY", 10, price=100.5), desk.place("BUY", 10, price=100.5)
    desk.modify(changed, quantity=20, price=100.1)
    desk.cancel(cancelled)
    desk.tick(1)
    assert (desk.fills(changed), desk.fills(cancelled)) == ([(100.1, 20)], [])
    assert desk.order(cancelled)["status"] == "CANCELLED"


@pytest.mark.parametrize("unknown", [{"live": False}, {"received_us": 0}], ids=["cached", "stale"])
def test_what_waits_while_the_clock_is_ahead_of_the_packets_fills_on_none_of_after_it(unknown: dict[str, Any]) -> None:
    desk = Desk()
    desk.tick(0, **unknown)
    desk.now_us = desk.us(90)
    placed = desk.place("BUY", 10, price=100.5)
    desk.serve(80, desk.snapshot(20, asks=[(100.2, 100)]), desk.snapshot(80, asks=[(100.3, 100)]))
    assert desk.order(placed)["status"] == "OPEN PENDING"
    desk.serve(100, desk.snapshot(95, asks=[(100.4, 100)]))
    assert desk.fills(placed) == [(100.3, 10)]
    assert desk.order(placed)["exchange_timestamp"][-8:] == "09:16:30"
    assert desk.steps(placed) == ["PUT ORDER REQ RECEIVED", "OPEN PENDING", "OPEN", "COMPLETE"]


def test_what_waits_while_the_clock_is_ahead_waits_on_if_the_packets_of_before_are_stale() -> None:
    desk = Desk(stale_seconds=30)
    desk.tick(0, live=False)
    desk.now_us = desk.us(90)
    placed = desk.place("BUY", 10, price=100.5)
    desk.serve(100, desk.snapshot(20, asks=[(100.2, 100)]))
    assert desk.steps(placed) == ["PUT ORDER REQ RECEIVED", "OPEN PENDING"]
    desk.tick(110, asks=[(100.4, 100)])
    assert desk.fills(placed) == [(100.4, 10)]


def test_a_modification_that_waits_while_the_clock_is_ahead_changes_nothing_before_it() -> None:
    desk = Desk()
    desk.tick(0, live=False)
    desk.now_us = desk.us(10)
    early, late = desk.place("BUY", 10, price=99.0), desk.place("BUY", 10, price=99.0)
    desk.now_us = desk.us(50)
    desk.modify(early, price=100.5)
    desk.serve(40, desk.snapshot(5), desk.snapshot(40, asks=[(100.2, 100)]))
    assert (desk.fills(early), desk.order(late)["status"]) == ([], "OPEN")
    desk.go(50)
    assert desk.fills(early) == [(100.2, 10)]

    desk.serve(60, desk.snapshot(60, live=False, after_gap=True))
    desk.now_us = desk.us(80)
    desk.modify(late, price=100.5)
    desk.serve(70, desk.snapshot(70, asks=[(100.4, 100)]))
    assert desk.fills(late) == []
    desk.go(80)
    assert desk.fills(late) == [(100.4, 10)]


# ── modified and cancelled ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_modification_keeps_what_was_filled_and_is_matched_anew() -> None:
    desk = Desk()
    desk.tick(0)
    placed = desk.place("BUY", 150, price=100.1)
    desk.modify(placed, price=100.2, quantity=400)
    assert desk.fills(placed) == [(100.1, 100), (100.2, 200)]
    shown = desk.order(placed)
    assert (shown["status"], shown["pending_quantity"], shown["modified"]) == ("OPEN", 100, True)
    assert desk.steps(placed) == ["PUT ORDER REQ RECEIVED", "OPEN", "OPEN", "MODIFY PENDING", "OPEN", "OPEN"]


def test_a_modification_arrives_late_and_until_then_the_old_order_stands() -> None:
    desk = Desk(latency_seconds=1)
    desk.tick(0)
    placed = desk.place("BUY", 10, price=99.9)
    desk.go(2)
    desk.modify(placed, price=99.0)
    desk.serve(4, desk.snapshot(2.5, 99.9, volume=4), desk.snapshot(3.5, 99.9, volume=10))
    assert (desk.fills(placed), desk.order(placed)["price"]) == ([(99.9, 4)], 99.0)


def test_a_modification_goes_to_the_end_of_the_order_of_time() -> None:
    desk = Desk()
    desk.tick(0)
    first, second = (desk.place("BUY", 10, price=99.9) for _ in range(2))
    desk.modify(first, quantity=20)
    desk.tick(1, 99.9, volume=15)
    assert (desk.fills(first), desk.fills(second)) == ([(99.9, 5)], [(99.9, 10)])


def test_a_modification_is_checked_anew() -> None:
    desk = Desk()
    desk.tick(0)
    placed = desk.place("BUY", 150, price=100.1)
    for changes, message in (
        ({"quantity": 100}, "Quantity cannot be less than or equal to what is filled (100)."),
        ({"quantity": 100_000}, "Insufficient funds. Required margin is 9999990.00 but available margin is 989990.00."),
    ):
        desk.modify(placed, **changes)
        shown = desk.order(placed)
        assert (shown["status"], shown["quantity"], shown["pending_quantity"]) == ("OPEN", 150, 50)
        assert shown["status_message"].startswith(f"Modification rejected: {message}")


def test_a_limit_order_becomes_one_at_market_and_a_stop_one_with_a_limit() -> None:
    desk = Desk()
    desk.tick(0)
    placed = desk.place("BUY", 10, price=99.0)
    desk.modify(placed, order_type="MARKET", market_protection=-1)
    assert desk.fills(placed) == [(100.1, 10)]
    stop = desk.place("SELL", 10, "SL", trigger_price=99, price=98)
    desk.modify(stop, order_type="LIMIT", price=99.9)
    assert desk.fills(stop) == [(99.9, 10)]


def test_a_stop_is_moved() -> None:
    desk = Desk()
    desk.tick(0)
    stop = desk.place("SELL", 10, "SL", trigger_price=99, price=98)
    desk.modify(stop, trigger_price=99.5)
    assert desk.order(stop)["status"] == "TRIGGER PENDING"
    desk.tick(1, 99.5)
    assert desk.fills(stop) == [(99.9, 10)]


def test_a_triggered_stop_stays_triggered() -> None:
    desk = Desk()
    desk.tick(0)
    stop = desk.place("BUY", 10, "SL", trigger_price=100, price=100)
    desk.modify(stop, price=100.1)
    assert desk.fills(stop) == [(100.1, 10)]


def test_a_cancellation_keeps_what_was_filled_and_takes_its_time() -> None:
    desk = Desk(latency_seconds=1)
    desk.tick(0)
    placed = desk.place("BUY", 150, price=100.1)
    desk.go(1)
    desk.cancel(placed)
    assert desk.order(placed)["status"] == "CANCEL PENDING"
    assert desk.call("GET", "/orders")[0]["status"] == "OPEN"
    desk.serve(2, desk.snapshot(1.5, 100, volume=7))
    shown = desk.order(placed)
    assert (shown["status"], shown["filled_quantity"], shown["cancelled_quantity"]) == ("CANCELLED", 107, 43)


def test_what_comes_too_late_changes_nothing() -> None:
    desk = Desk(latency_seconds=1)
    desk.tick(0)
    placed = desk.place("BUY", 10, price=99.9)
    desk.go(2)
    desk.updates()
    desk.cancel(placed)
    desk.modify(placed, price=99)
    desk.serve(4, desk.snapshot(2.5, 99.9, volume=100))
    assert desk.updates() == [("COMPLETE", 10)]
    assert [one["status_message"] for one in desk.call("GET", f"/orders/{placed}")][-2:] == [
        "Cancellation came too late.",
        "Modification came too late.",
    ]
    assert desk.order(placed)["status"] == "COMPLETE"


# ── what is watched ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_watched_is_what_orders_and_positions_need() -> None:
    desk = Desk()
    desk.tick(0)
    desk.tick(0, of=FUT)
    assert desk.broker.watched == set()
    placed = desk.place("BUY", 10, price=99)
    assert desk.broker.watched == {INFY.token}
    desk.cancel(placed)
    assert desk.broker.watched == set()
    desk.place("BUY", 75, of=FUT, product="NRML", price=100.1)
    assert desk.broker.watched == {FUT.token}
    desk.place("SELL", 75, of=FUT, product="NRML", price=99.9)
    assert desk.broker.watched == set()
