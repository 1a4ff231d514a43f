"""Events for hftbacktest: an array an instrument, of its records of 64 bytes.

A packet is up to twelve records, all with its times in ns: the book is cleared, five levels a side are set (an empty
one has no record), and the trade, if one was seen. `exch_ts` is the exchange's time, or that of receipt if it is
earlier; the exchange says whole seconds, so it is up to a second too early, and the latency of the feed that much too
long. `local_ts` is the time of receipt.

Who began a trade is an estimate, too: at more than the mid of the book before it a buyer, at less a seller, at the mid
itself or without a book before it neither is said, and such a trade fills no order.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from queries.adapters.packets import Packets, packets_of
from queries.errors import AdapterError
from queries.feed import FeedMethods
from queries.history import Moment, Symbols
from storage.schema import DEPTH_LEVELS

EXCHANGE: Final = 1 << 31
LOCAL: Final = 1 << 30
BUY: Final = 1 << 29
SELL: Final = 1 << 28
TRADE: Final = 2
CLEAR: Final = 3
SNAPSHOT: Final = 4

EVENT: Final = np.dtype(
    [
        ("ev", "u8"),
        ("exch_ts", "i8"),
        ("local_ts", "i8"),
        ("px", "f8"),
        ("qty", "f8"),
        ("order_id", "u8"),
        ("ival", "i8"),
        ("fval", "f8"),
    ],
    align=True,
)
_SIDES: Final = (("bid", BUY), ("ask", SELL))
_COLUMNS: Final = [
    f"{side}_{what}_{level}"
    for side, _ in _SIDES
    for what in ("price", "quantity")
    for level in range(1, DEPTH_LEVELS + 1)
]
_RECORDS: Final = 2 * DEPTH_LEVELS + 2


def hftbacktest_events(
    lake: FeedMethods, symbols: Symbols, start: Moment | None = None, stop: Moment | None = None
) -> dict[str, NDArray[np.void]]:
    """By symbol the events of each instrument, in the order that hftbacktest's `validate_event_order` asks for.

    Prices are in rupees, quantities in units; `Lake.feed(…).instruments(day)` has tick and lot sizes. hftbacktest is
    not needed for it: `numpy.savez_compressed(path, data=events)` makes a file of its own. Raises AdapterError for an
    index, or if there was no packet; and what `Lake.feed` does.
    """
    parts: dict[str, list[NDArray[np.void]]] = {}
    for packets in packets_of(lake, symbols, start, stop, _COLUMNS):
        parts.setdefault(packets.facts["symbol"], []).append(_events(packets))
    if not parts:
        raise AdapterError(f"got no packet of {symbols!r} from {start} to {stop}, expected some")
    return {symbol: _in_order(np.concatenate(days)) for symbol, days in parts.items()}


def _events(packets: Packets) -> NDArray[np.void]:
    """Without the flags of exchange and local."""
    columns = packets.columns
    events = np.zeros((len(packets), _RECORDS), EVENT)
    there = np.zeros((len(packets), _RECORDS), np.bool_)
    events["exch_ts"] = packets.exchange_ns[:, np.newaxis]
    events["local_ts"] = packets.received_ns[:, np.newaxis]
    events["ev"][:, 0] = CLEAR
    at = 1
    for side, flag in _SIDES:
        for level in range(1, DEPTH_LEVELS + 1):
            events["ev"][:, at] = SNAPSHOT | flag
            events["px"][:, at] = columns[f"{side}_price_{level}"]
            events["qty"][:, at] = quantity = columns[f"{side}_quantity_{level}"]
            there[:, at] = quantity > 0
            at += 1
    there[:, 0] = there[:, 1:at].any(axis=1)
    events["ev"][:, at] = TRADE | _begun_by(packets)
    events["px"][:, at] = columns["last_price"]
    events["qty"][:, at] = packets.traded
    there[:, at] = packets.traded > 0
    return events[there]


def _begun_by(packets: Packets) -> NDArray[np.int64]:
    """Of each packet's trade who began it, by the book of the last packet before it that has both sides."""
    bid, ask = packets.columns["bid_price_1"], packets.columns["ask_price_1"]
    rows = np.arange(len(packets))
    known = np.maximum.accumulate(np.where((bid > 0) & (ask > 0), rows, -1))
    before = np.concatenate(([-1], known[:-1]))
    away = packets.columns["last_price"] - (bid + ask)[before] / 2
    found: NDArray[np.int64] = np.where(before < 0, 0, np.where(away > 0, BUY, np.where(away < 0, SELL, 0)))
    return found


def _in_order(events: NDArray[np.void]) -> NDArray[np.void]:
    """With the flags: both where the exchange's times ascend too; a record that comes late by them is parted in two,
    one for the exchange at its place in the exchange's order, and one here where it was received."""
    exchange = events["exch_ts"]
    late = exchange < np.maximum.accumulate(exchange)
    here, apart = events.copy(), events[late]
    here["ev"] |= np.where(late, LOCAL, LOCAL | EXCHANGE).astype(np.uint64)
    apart["ev"] |= np.uint64(EXCHANGE)
    kept = np.flatnonzero(~late)
    places = np.append(kept, len(events))[np.searchsorted(exchange[kept], apart["exch_ts"], side="right")]
    order = np.argsort(apart["exch_ts"], kind="stable")
    return np.insert(here, places[order], apart[order])
