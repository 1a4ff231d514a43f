"""Orders and trades, and how the broker shows them.

The life of an order, by its status:

    PUT ORDER REQ RECEIVED   asked for, on its way
    OPEN PENDING             arrived, and waits for a snapshot that it can be matched against
    TRIGGER PENDING          a stop whose trigger was not reached
    OPEN                     in the market, perhaps filled in part
    COMPLETE, CANCELLED, REJECTED   final

Each step is kept as the broker would have shown the order then; of a modification or a cancellation that is on its way
there is a step too (MODIFY PENDING, CANCEL PENDING), which does not change the order's status.
"""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from kitelake.paper.fields import OrderFields
from storage.clock import NS_PER_US, ist_time

RECEIVED: Final = "PUT ORDER REQ RECEIVED"
WAITING: Final = "OPEN PENDING"
TRIGGER: Final = "TRIGGER PENDING"
OPEN: Final = "OPEN"
COMPLETE: Final = "COMPLETE"
CANCELLED: Final = "CANCELLED"
REJECTED: Final = "REJECTED"
FINAL: Final = (COMPLETE, CANCELLED, REJECTED)


class Trade(NamedTuple):
    """One price that an order got. `price` is the wire's integer; `fields` are the order's when it got it."""

    trade_id: str
    order_id: str
    fields: OrderFields
    price: int
    quantity: int
    ordered_us: int
    time_us: int


@dataclass(slots=True, eq=False)
class Order:
    """One order. `filled_value` is the sum of price × quantity, in the wire's integers; `current` is how the order is
    listed now, and `history` how it was at each step."""

    order_id: str
    account: str
    user_id: str
    fields: OrderFields
    placed_us: int
    status: str = RECEIVED
    message: str | None = None
    updated_us: int = 0
    arrived_us: int | None = None
    entered: bool = False
    triggered: bool = False
    modified: bool = False
    filled: int = 0
    filled_value: int = 0
    cancelled: int = 0
    current: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def pending(self) -> int:
        """What may still be filled."""
        return 0 if self.final else self.fields.quantity - self.filled

    @property
    def average_price(self) -> float:
        """In rupees; 0 if nothing was filled."""
        return self.filled_value / (self.filled * self.fields.instrument.divisor) if self.filled else 0.0

    @property
    def awaits_trigger(self) -> bool:
        return self.fields.stop and not self.triggered


def shown_time(us: int, shift_us: int) -> str:
    """A time of the market as the broker writes times: IST, in whole seconds, `shift_us` later."""
    return f"{_ist(us + shift_us):%Y-%m-%d %H:%M:%S}"


def day_of(us: int) -> dt.date:
    """The day in India."""
    return _ist(us).date()


def shown(order: Order, shift_us: int) -> dict[str, Any]:
    """The order as the broker lists it: prices in rupees; what is the exchange's is null until it took the order."""
    fields = order.fields
    divisor = fields.instrument.divisor
    updated = shown_time(order.updated_us, shift_us)
    arrived_us = order.arrived_us if order.entered else None
    return {
        "placed_by": order.user_id,
        "order_id": order.order_id,
        "exchange_order_id": None if arrived_us is None else f"1{order.order_id}",
        "parent_order_id": None,
        "status": order.status,
        "status_message": order.message,
        "status_message_raw": order.message,
        "order_timestamp": updated,
        "exchange_update_timestamp": None if arrived_us is None else updated,
        "exchange_timestamp": None if arrived_us is None else shown_time(arrived_us, shift_us),
        "variety": "regular",
        "modified": order.modified,
        "exchange": fields.instrument.exchange,
        "tradingsymbol": fields.instrument.tradingsymbol,
        "instrument_token": fields.instrument.token,
        "order_type": fields.order_type,
        "transaction_type": "BUY" if fields.buying else "SELL",
        "validity": fields.validity,
        "validity_ttl": 0,
        "product": fields.product,
        "quantity": fields.quantity,
        "disclosed_quantity": fields.disclosed,
        "price": fields.price / divisor,
        "trigger_price": fields.trigger / divisor,
        "average_price": order.average_price,
        "filled_quantity": order.filled,
        "pending_quantity": order.pending,
        "cancelled_quantity": order.cancelled,
        "market_protection": fields.protection,
        "meta": {},
        "tag": fields.tag,
        "tags": [fields.tag] if fields.tag else [],
        "guid": f"{order.order_id}X",
    }


def postback(data: dict[str, Any], user_id: str) -> dict[str, Any]:
    """What is pushed of an order that is shown so. Its checksum is empty: it would be made with the app's secret,
    which is not kept here."""
    return {"account_id": user_id, "unfilled_quantity": 0, "checksum": "", **data}


def shown_trade(trade: Trade, shift_us: int) -> dict[str, Any]:
    """The trade as the broker lists it: prices in rupees; its `order_timestamp` has no date."""
    instrument = trade.fields.instrument
    filled = shown_time(trade.time_us, shift_us)
    return {
        "trade_id": trade.trade_id,
        "order_id": trade.order_id,
        "exchange_order_id": f"1{trade.order_id}",
        "exchange": instrument.exchange,
        "tradingsymbol": instrument.tradingsymbol,
        "instrument_token": instrument.token,
        "product": trade.fields.product,
        "average_price": trade.price / instrument.divisor,
        "quantity": trade.quantity,
        "transaction_type": "BUY" if trade.fields.buying else "SELL",
        "fill_timestamp": filled,
        "order_timestamp": shown_time(trade.ordered_us, shift_us)[11:],
        "exchange_timestamp": filled,
    }


def _ist(us: int) -> dt.datetime:
    return ist_time(us * NS_PER_US)
