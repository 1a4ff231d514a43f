"""Orders in the course of time: what waits for its moment or a packet, is modified or cancelled, and is watched."""

from typing import Any

import pytest

from tests.support.paper import FUT, INFY, Desk

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
