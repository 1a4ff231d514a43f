"""What an order asks for: read from a form, and checked against the day's list, in the broker's words.

What is malformed is an `InputException`, what is well-formed and not allowed is an `OrderException`; both come with
HTTP 400, and no order is made. What depends on the market or on the account is decided when the order arrives.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from ingest.server import CallRefusedError
from kitelake.paper.market import Instrument

TYPES: Final = ("MARKET", "LIMIT", "SL", "SL-M")
PROTECTED_SINCE: Final = dt.date(2026, 4, 1)
"""Vendor's forum, discussion 15912: from this day on MARKET and SL-M need `market_protection`."""
OWN_BAND: Final = -1.0
_EQUITY: Final = ("NSE", "BSE")
_VARIETIES: Final = ("amo", "co", "iceberg", "auction")
_MAX_TAG: Final = 20
_MAX_QUANTITY: Final = 10**9
_MAX_DIGITS: Final = 15
_DECIMAL: Final = re.compile(r"[+-]?(\d{1,15}(\.\d{0,15})?|\.\d{1,15})")

Form = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class OrderFields:
    """An order as it was asked for. Prices are the wire's integers, 0 where the type has none; `protection` is in
    percent, -1 the broker's own band, 0 none."""

    instrument: Instrument
    buying: bool
    quantity: int
    product: str
    order_type: str
    validity: str = "DAY"
    price: int = 0
    trigger: int = 0
    disclosed: int = 0
    protection: float = 0.0
    tag: str | None = None

    @property
    def stop(self) -> bool:
        return self.order_type in ("SL", "SL-M")

    @property
    def at_market(self) -> bool:
        """It has no price of its own."""
        return self.order_type in ("MARKET", "SL-M")


def is_equity(instrument: Instrument) -> bool:
    return instrument.exchange in _EQUITY


def is_option(instrument: Instrument) -> bool:
    return instrument.instrument_type in ("CE", "PE")


def whole_number(text: str) -> int | None:
    """What a text of digits says; None if it is none, or has too many."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def malformed(message: str) -> CallRefusedError:
    return CallRefusedError(400, "InputException", message)


def refused(message: str) -> CallRefusedError:
    return CallRefusedError(400, "OrderException", message)


def check_variety(variety: str) -> None:
    """Raises `CallRefusedError` unless it is regular."""
    if variety in _VARIETIES:
        raise refused(f"Orders of the variety `{variety}` are not taken on paper. Place a `regular` order.")
    if variety != "regular":
        raise malformed("Invalid `variety`.")


def placed(form: Form, listed: Mapping[str, Instrument], day: dt.date) -> OrderFields:
    """The order of a request to place one; `listed` by symbol. Raises `CallRefusedError`."""
    texts = _texts(form)
    for name in ("exchange", "tradingsymbol", "transaction_type", "quantity", "product", "order_type"):
        if not texts.get(name):
            raise malformed(f"Missing or empty field `{name}`")
    if texts.get("autoslice", "false").lower() not in ("false", "0"):
        raise refused("Orders are not sliced on paper. Place them one by one, without `autoslice`.")
    instrument = listed.get(f"{texts['exchange']}:{texts['tradingsymbol']}")
    if instrument is None:
        raise malformed("The instrument you are placing an order for has either expired or does not exist.")
    tag = texts.get("tag")
    if tag is not None and len(tag) > _MAX_TAG:
        raise malformed(f"Invalid `tag`. It can have at most {_MAX_TAG} characters.")
    fields = OrderFields(
        instrument,
        buying=_one_of(texts, "transaction_type", ("BUY", "SELL")) == "BUY",
        quantity=0,
        product=_one_of(texts, "product", ("CNC", "NRML", "MIS")),
        order_type=texts["order_type"],
        tag=tag,
    )
    return check(changed(fields, changes(form, instrument)), day)


def changes(form: Form, instrument: Instrument) -> dict[str, Any]:
    """The fields of `OrderFields` that a request sets, of those that may be modified. Raises `CallRefusedError`."""
    texts = _texts(form)
    found: dict[str, Any] = {}
    if "quantity" in texts:
        found["quantity"] = _whole(texts["quantity"], "quantity")
    if "order_type" in texts:
        found["order_type"] = _one_of(texts, "order_type", TYPES)
    if "validity" in texts:
        found["validity"] = _one_of(texts, "validity", ("DAY", "IOC"))
    if "disclosed_quantity" in texts:
        found["disclosed"] = _whole(texts["disclosed_quantity"], "disclosed_quantity")
    for name, field in (("price", "price"), ("trigger_price", "trigger")):
        if name in texts:
            found[field] = _price(texts[name], name, instrument)
    if "market_protection" in texts:
        found["protection"] = _protection(texts["market_protection"])
    return found


def changed(fields: OrderFields, changes: Mapping[str, Any]) -> OrderFields:
    """The fields with those of `changes`, not checked."""
    return replace(fields, **changes)


def check(fields: OrderFields, day: dt.date) -> OrderFields:
    """The same, without what its type has none of. `day` is the market's. Raises `CallRefusedError`."""
    _check_quantity(fields)
    _check_kind(fields)
    if fields.at_market and fields.protection == 0 and day >= PROTECTED_SINCE:
        raise refused(
            "Market orders without market protection are not allowed via API. "
            "Please set market protection or use a Limit order."
        )
    if not fields.at_market and fields.price <= 0:
        raise malformed("Invalid `price`.")
    if fields.stop and fields.trigger <= 0:
        raise malformed("Invalid `trigger_price`.")
    if (
        fields.order_type == "SL"
        and (fields.price < fields.trigger) == fields.buying
        and fields.price != fields.trigger
    ):
        side, where = ("buy", "above") if fields.buying else ("sell", "below")
        raise malformed(f"Trigger price for stoploss {side} orders cannot be {where} the limit price.")
    return replace(
        fields,
        price=0 if fields.at_market else fields.price,
        trigger=fields.trigger if fields.stop else 0,
    )


def _check_quantity(fields: OrderFields) -> None:
    lot = max(fields.instrument.lot_size, 1)
    if not 0 < fields.quantity <= _MAX_QUANTITY:
        raise malformed("Invalid `quantity`.")
    if fields.quantity % lot:
        raise malformed(f"Invalid `quantity`. Quantity should be in multiples of the lot size ({lot}).")
    if fields.disclosed > fields.quantity:
        raise malformed("Invalid `disclosed_quantity`. It cannot be more than the quantity.")


def _check_kind(fields: OrderFields) -> None:
    exchange = fields.instrument.exchange
    if fields.product == ("NRML" if is_equity(fields.instrument) else "CNC"):
        raise refused(f"Orders of the product `{fields.product}` are not allowed at {exchange}.")
    if fields.validity == "IOC" and exchange == "MCX":
        raise refused("IOC orders are not allowed via API at MCX. Place an order of the validity `DAY`.")


def _texts(form: Form) -> dict[str, str]:
    return {name: values[0].strip() for name, values in form.items() if values}


def _one_of(texts: Mapping[str, str], name: str, allowed: Sequence[str]) -> str:
    if texts[name] not in allowed:
        raise malformed(f"Invalid `{name}`.")
    return texts[name]


def _whole(text: str, name: str) -> int:
    if (number := whole_number(text)) is None:
        raise malformed(f"Invalid `{name}`.")
    return number


def _price(text: str, name: str, instrument: Instrument) -> int:
    if not _DECIMAL.fullmatch(text):
        raise malformed(f"Invalid `{name}`.")
    price = Decimal(text) * instrument.divisor
    tick = max(instrument.tick, 1)
    if price % tick:
        shown = Decimal(tick) / instrument.divisor
        raise malformed(
            f"Tick size for this script is {shown}. Kindly enter price in the multiple of tick size for this script."
        )
    if price < 0:
        raise malformed(f"Invalid `{name}`.")
    return int(price)


def _protection(text: str) -> float:
    if not _DECIMAL.fullmatch(text):
        raise malformed(f"Invalid request (failed to decode market_protection, got: {text} (expected decimal))")
    percent = float(text)
    if percent != OWN_BAND and not 0 <= percent <= 100:
        raise malformed("Invalid `market_protection`. Expected -1, or a percentage above 0 and up to 100.")
    return percent
