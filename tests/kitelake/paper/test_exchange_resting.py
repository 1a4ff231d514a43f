"""What rests in the hand-written book of tests/support/paper.py: when the market fills it, and when a stop triggers."""

from typing import Any

import pytest

from tests.support.paper import BEFORE_PROTECTION, Desk

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
