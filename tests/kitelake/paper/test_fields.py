"""What is refused before there is an order, in which words, and from which day on."""

import datetime as dt
from typing import Any

import pytest

from ingest.server import CallRefusedError
from kitelake.paper import Instrument
from kitelake.paper.fields import placed
from tests.support.paper import CALL, CRUDE, DAY, FUT, INFY, INSTRUMENTS, USDINR

LISTED = {one.symbol: one for one in INSTRUMENTS.values()}
UNPROTECTED = (
    "Market orders without market protection are not allowed via API. "
    "Please set market protection or use a Limit order."
)
TICK = "Tick size for this script is {}. Kindly enter price in the multiple of tick size for this script."


def form(of: Instrument = INFY, **changed: Any) -> dict[str, list[str]]:
    """A good limit order; None leaves a field out."""
    values = {
        "exchange": of.exchange,
        "tradingsymbol": of.tradingsymbol,
        "transaction_type": "BUY",
        "quantity": of.lot_size,
        "product": "MIS",
        "order_type": "LIMIT",
        "price": 100,
        **changed,
    }
    return {name: [str(value)] for name, value in values.items() if value is not None}


REFUSED = [
    *((name, {name: None}, f"Missing or empty field `{name}`") for name in
      ("exchange", "tradingsymbol", "transaction_type", "quantity", "product", "order_type")),
    *((f"{name} of no kind", {name: "NONE"}, f"Invalid `{name}`.") for name in
      ("transaction_type", "quantity", "product", "order_type", "validity", "price", "disclosed_quantity")),
    ("TTL", {"validity": "TTL"}, "Invalid `validity`."),
    ("unknown", {"tradingsymbol": "NONE"},
     "The instrument you are placing an order for has either expired or does not exist."),
    ("other exchange", {"exchange": "BSE"},
     "The instrument you are placing an order for has either expired or does not exist."),
    ("no quantity", {"quantity": 0}, "Invalid `quantity`."),
    ("less than none", {"quantity": -1}, "Invalid `quantity`."),
    ("half a share", {"quantity": 1.5}, "Invalid `quantity`."),
    ("too many", {"quantity": 10**9 + 1}, "Invalid `quantity`."),
    ("part of a lot", {"of": FUT, "quantity": 76},
     "Invalid `quantity`. Quantity should be in multiples of the lot size (75)."),
    ("disclosed", {"disclosed_quantity": 2},
     "Invalid `disclosed_quantity`. It cannot be more than the quantity."),
    ("no price", {"price": None}, "Invalid `price`."),
    ("price of 0", {"price": 0}, "Invalid `price`."),
    ("price below 0", {"price": -100}, "Invalid `price`."),
    ("no number", {"price": "nan"}, "Invalid `price`."),
    ("between ticks", {"price": 100.05}, TICK.format("0.1")),
    ("less than a paisa", {"of": CALL, "price": "100.051"}, TICK.format("0.05")),
    ("between ticks of a currency", {"of": USDINR, "price": "83.0024"}, TICK.format("0.0025")),
    ("stop without a trigger", {"order_type": "SL"}, "Invalid `trigger_price`."),
    ("stop between ticks", {"order_type": "SL", "trigger_price": 99.95}, TICK.format("0.1")),
    ("stop without a price", {"order_type": "SL", "trigger_price": 100, "price": None}, "Invalid `price`."),
    ("stop above its price", {"order_type": "SL", "trigger_price": 100.1},
     "Trigger price for stoploss buy orders cannot be above the limit price."),
    ("stop below its price", {"order_type": "SL", "trigger_price": 99.9, "transaction_type": "SELL"},
     "Trigger price for stoploss sell orders cannot be below the limit price."),
    ("stop at market without a trigger", {"order_type": "SL-M", "market_protection": 1}, "Invalid `trigger_price`."),
    ("protection is a truth",  {"order_type": "MARKET", "market_protection": True},
     "Invalid request (failed to decode market_protection, got: True (expected decimal))"),
    ("protection is none", {"order_type": "MARKET", "market_protection": "inf"},
     "Invalid request (failed to decode market_protection, got: inf (expected decimal))"),
    ("protection below 0", {"order_type": "MARKET", "market_protection": -2},
     "Invalid `market_protection`. Expected -1, or a percentage above 0 and up to 100."),
    ("protection above 100", {"order_type": "MARKET", "market_protection": 101},
     "Invalid `market_protection`. Expected -1, or a percentage above 0 and up to 100."),
    ("a long tag", {"tag": "x" * 21}, "Invalid `tag`. It can have at most 20 characters."),
]  # fmt: skip
NOT_ALLOWED = [
    ("market without protection", {"order_type": "MARKET"}, UNPROTECTED),
    ("market with a protection of 0", {"order_type": "MARKET", "market_protection": 0}, UNPROTECTED),
    ("stop at market", {"order_type": "SL-M", "trigger_price": 100}, UNPROTECTED),
    ("delivery of a future", {"of": FUT, "product": "CNC"}, "Orders of the product `CNC` are not allowed at NFO."),
    ("shares overnight", {"product": "NRML"}, "Orders of the product `NRML` are not allowed at NSE."),
    ("IOC at MCX", {"of": CRUDE, "validity": "IOC"},
     "IOC orders are not allowed via API at MCX. Place an order of the validity `DAY`."),
    ("sliced", {"autoslice": "true"}, "Orders are not sliced on paper. Place them one by one, without `autoslice`."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [("InputException", *case[1:]) for case in REFUSED] + [("OrderException", *case[1:]) for case in NOT_ALLOWED],
    ids=[case[0] for case in REFUSED + NOT_ALLOWED],
)
def test_refused(kind: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(CallRefusedError) as caught:
        placed(form(**values), LISTED, DAY)
    assert (caught.value.status, caught.value.error_type, str(caught.value)) == (400, kind, message)


@pytest.mark.parametrize("order", [{"order_type": "MARKET"}, {"order_type": "SL-M", "trigger_price": 100}])
def test_market_orders_need_protection_since_april_2026(order: dict[str, Any]) -> None:
    assert placed(form(**order), LISTED, dt.date(2026, 3, 31)).protection == 0
    for protection in (-1, 0.5, 1, 100):
        fields = placed(form(**order, market_protection=protection), LISTED, dt.date(2026, 4, 1))
        assert (fields.protection, fields.price) == (protection, 0)
    with pytest.raises(CallRefusedError, match="without market protection"):
        placed(form(**order), LISTED, dt.date(2026, 4, 1))


def test_prices_are_the_wires_integers() -> None:
    fields = placed(form(USDINR, order_type="SL", price="83.0025", trigger_price="83"), LISTED, DAY)
    assert (fields.price, fields.trigger) == (830_025_000, 830_000_000)
    assert placed(form(price="100.10"), LISTED, DAY).price == 10_010


def test_what_the_type_has_none_of_is_dropped() -> None:
    market = placed(form(order_type="MARKET", trigger_price=100, market_protection=1, tag="a b_c"), LISTED, DAY)
    limit = placed(form(trigger_price=100), LISTED, DAY)
    assert (market.price, market.trigger, market.tag, limit.price, limit.trigger) == (0, 0, "a b_c", 10_000, 0)
