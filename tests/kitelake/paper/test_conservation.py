"""Any day of any orders: nothing is filled that was not there, nothing is lost, and it ends the same way again."""

import datetime as dt
import itertools
from collections import Counter
from fractions import Fraction
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.server import CallRefusedError
from kitelake.paper import Snapshot
from tests.support.paper import BEFORE_PROTECTION, Desk

PRICES = st.integers(995, 1005).map(lambda tenths: tenths / 10)
QUANTITIES = st.integers(1, 40)


class Packet(NamedTuple):
    last: float
    spread: int
    quantities: list[int]
    traded: int
    live: bool
    after_gap: bool


class Request(NamedTuple):
    what: str
    which: int
    form: dict[str, Any]


SOMETIMES = st.integers(0, 9).map(lambda n: n == 0)
PACKETS = st.builds(
    Packet,
    PRICES,
    st.integers(1, 3),
    st.lists(QUANTITIES, min_size=10, max_size=10),
    st.integers(0, 60),
    SOMETIMES.map(lambda rare: not rare),
    SOMETIMES,
)
FORMS = st.fixed_dictionaries(
    {
        "side": st.sampled_from(["BUY", "SELL"]),
        "quantity": QUANTITIES,
        "kind": st.sampled_from(["LIMIT", "LIMIT", "MARKET", "SL", "SL-M"]),
        "price": PRICES,
        "trigger_price": PRICES,
        "validity": st.sampled_from(["DAY", "DAY", "IOC"]),
        "product": st.sampled_from(["MIS", "CNC"]),
        "market_protection": st.sampled_from([0, -1, 0.3]),
    }
)
CHANGES = st.fixed_dictionaries({}, optional={"quantity": QUANTITIES, "price": PRICES, "trigger_price": PRICES})
REQUESTS = (
    st.builds(Request, st.just("place"), st.just(0), FORMS)
    | st.builds(Request, st.just("modify"), st.integers(0, 5), CHANGES)
    | st.builds(Request, st.just("cancel"), st.integers(0, 5), st.just({}))
)
EVENTS = st.lists(PACKETS | REQUESTS, max_size=40)


class Played(NamedTuple):
    desk: Desk
    updates: list[Any]
    packets: list[Snapshot]


def play(events: list[Packet | Request], *, sliced: bool = False, **values: Any) -> Played:
    """An event each 300 ms; `sliced`: packets are served in slices, when the next request comes or the day ends."""
    desk = Desk(BEFORE_PROTECTION, **values)
    orders: list[str] = []
    updates, packets, due = [], [], []
    volume = 0
    for number, event in enumerate(events):
        seconds = 0.3 * number
        if isinstance(event, Packet):
            volume += event.traded
            bids, asks = (
                [
                    (
                        round(event.last + sign * 0.1 * (event.spread + n), 1),
                        event.quantities[n + (5 if sign > 0 else 0)],
                    )
                    for n in range(5)
                ]
                for sign in (-1, 1)
            )
            packet = desk.snapshot(
                seconds, event.last, bids=bids, asks=asks, volume=volume, live=event.live, after_gap=event.after_gap
            )
            packets.append(packet)
            due.append(packet)
        if not sliced or isinstance(event, Request):
            desk.serve(seconds, *due)
            due = []
        if isinstance(event, Request):
            try:
                if event.what == "place":
                    orders.append(desk.place(**event.form))
                elif orders:
                    getattr(desk, event.what)(orders[event.which % len(orders)], **event.form)
            except CallRefusedError:
                pass
        updates += desk.broker.updates()
    desk.serve(0.3 * len(events) + 10, *due)
    updates += desk.broker.updates()
    return Played(desk, updates, packets)


@settings(max_examples=50, deadline=None)
@given(
    events=EVENTS,
    fill=st.sampled_from(["touch", "through"]),
    latency=st.sampled_from([0, 0.1, 0.7]),
    close=st.booleans(),
)
def test_conservation(events: list[Packet | Request], fill: str, latency: float, close: bool) -> None:
    played = play(events, fill=fill, latency_seconds=latency)
    desk = played.desk
    if close:
        desk.broker.close()
    orders, trades = desk.call("GET", "/orders"), desk.call("GET", "/trades")
    for order in orders:
        own = [one for one in trades if one["order_id"] == order["order_id"]]
        assert order["filled_quantity"] == sum(one["quantity"] for one in own)
        if order["status"] == "REJECTED":
            assert not own
        else:
            counts = (order[f"{kind}_quantity"] for kind in ("filled", "pending", "cancelled"))
            assert sum(counts) == order["quantity"]
        assert (order["status"] == "COMPLETE") == (order["filled_quantity"] == order["quantity"] > 0)
        assert not (close and order["pending_quantity"])
    _check_nothing_from_nowhere(played)
    table = desk.broker.tables()
    value = Fraction(0)
    for row in table["trades"].to_pylist():
        paid = Fraction(round(row["price"] * 100), 100) * row["quantity"]
        value += -paid if row["transaction_type"] == "BUY" else paid
    for row in table["equity"].to_pylist()[-1:]:
        assert row["cash"] == float(1_000_000 + value)
        assert round(row["equity"] * 100) == round(row["cash"] * 100) + round(row["positions"] * 100)
    assert not desk.broker.watched or not close or table["positions"].num_rows


def _check_nothing_from_nowhere(played: Played) -> None:
    """Between a live packet and the next no more is bought at a price than was asked there and traded, and in all."""
    live = [packet for packet in played.packets if packet.live]
    rows = played.desk.broker.tables()["trades"].to_pylist()
    ends = [*(packet.received_us for packet in live[1:]), 2**62][: len(live)]
    volumes = [packet.volume_traded or 0 for packet in live]
    for packet, end, (before, after) in zip(live, ends, itertools.pairwise([*volumes[:1], *volumes]), strict=True):
        during = [row for row in rows if packet.received_us <= _us(row["time"]) < end]
        for side, levels in (("BUY", packet.asks), ("SELL", packet.bids)):
            got: Counter[int] = Counter()
            for row in during:
                if row["transaction_type"] == side:
                    got[round(row["price"] * 100)] += row["quantity"]
            there = {level.price: level.quantity for level in levels}
            assert all(quantity <= there.get(price, 0) + after - before for price, quantity in got.items())
            assert sum(got.values()) <= sum(there.values()) + after - before
    assert live or not rows


def _us(time: dt.datetime) -> int:
    return round(time.timestamp() * 1_000_000)


@settings(max_examples=50, deadline=None)
@given(events=EVENTS, latency=st.sampled_from([0.1, 0.7]))
def test_it_ends_the_same_way_again_in_any_slices(events: list[Packet | Request], latency: float) -> None:
    first, again, sliced = (play(events, latency_seconds=latency, sliced=each) for each in (False, False, True))
    assert first.updates == again.updates == sliced.updates
    for played in (again, sliced):
        for name, table in first.desk.broker.tables().items():
            assert played.desk.broker.tables()[name].equals(table), name
