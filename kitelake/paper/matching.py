"""What an order gets of a snapshot. Pure: fields, levels, what own orders took of them; prices are the wire's integers.

Buying takes asks and selling takes bids, best first. Prices are compared after multiplying by `sign`, 1 for a buyer
and -1 for a seller, so that "worse" is "more" for both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final, NamedTuple

from kitelake.paper.fields import OWN_BAND, OrderFields, is_option
from kitelake.paper.market import Instrument, PriceLevel, Snapshot
from kitelake.paper.settings import Limit, PaperSettings

_OPTION_BANDS: Final = ((10, 5.0), (100, 3.0), (500, 2.0))
_OTHER_BANDS: Final = ((100, 2.0), (500, 1.0))
_LAST_BANDS: Final = (1.0, 0.5)

LEVELS: Final = 5
OUTSIDE: Final = "Price exceeds circuit limits for the instrument. Place an order within the daily range."
EMPTY: Final = "No quantity is left in the order book for a market order."


class Fill(NamedTuple):
    """One price that it got, and how much of it."""

    price: int
    quantity: int


def opposite(snapshot: Snapshot, buying: bool) -> tuple[PriceLevel, ...]:
    """The side that an order takes from, best first."""
    return snapshot.asks if buying else snapshot.bids


def walk(
    levels: Sequence[PriceLevel], taken: Mapping[int, int], buying: bool, quantity: int, limit: int | None
) -> list[Fill]:
    """What is there of `quantity`, up to `limit` (None: any price), less what was `taken` before, by price."""
    sign = 1 if buying else -1
    fills = []
    for level in levels:
        if quantity <= 0 or (limit is not None and sign * level.price > sign * limit):
            break
        got = min(quantity, level.quantity - taken.get(level.price, 0))
        if got > 0:
            fills.append(Fill(level.price, got))
            quantity -= got
    return fills


def obtainable(
    fields: OrderFields, wanted: int, snapshot: Snapshot, taken: Mapping[int, int], settings: PaperSettings
) -> list[Fill]:
    """What an order gets at once of `wanted`: the levels, and if the settings say so what lies beyond all five: where
    there are fewer, nothing does."""
    levels = opposite(snapshot, fields.buying)
    fills = walk(levels, taken, fields.buying, wanted, fields.price or None)
    rest = wanted - sum(one.quantity for one in fills)
    hidden = len(levels) == LEVELS and fields.at_market and fields.validity == "DAY"
    if rest > 0 and hidden and settings.beyond == "slippage":
        fills.append(Fill(beyond(levels, fields.buying, settings.slippage_percent, fields.instrument.tick), rest))
    return fills


def beyond(levels: Sequence[PriceLevel], buying: bool, percent: float, tick: int) -> int:
    """The price of what lies beyond the levels: that much worse than the last of them, rounded to a worse tick."""
    worst = levels[-1].price
    return _rounded(worst, percent if buying else -percent, tick, up=buying)


def protected(fields: OrderFields, snapshot: Snapshot) -> OrderFields:
    """A market order with protection as the limit order that it becomes; a stop is then one with a price."""
    if not fields.at_market or not fields.protection:
        return fields
    price = protected_price(fields.instrument, snapshot.last_price, fields.buying, fields.protection)
    return replace(fields, order_type="SL" if fields.stop else "LIMIT", price=price)


def protected_price(instrument: Instrument, last_price: int, buying: bool, percent: float) -> int:
    """The limit price of a market order with protection: that far from the last price, rounded to the tick towards
    it. -1 is the broker's own band (`own_band`). At least one tick."""
    if percent == OWN_BAND:
        percent = own_band(instrument, last_price)
    tick = max(instrument.tick, 1)
    return max(_rounded(last_price, percent if buying else -percent, tick, up=not buying), tick)


def own_band(instrument: Instrument, last_price: int) -> float:
    """The broker's own market protection in percent, by price, as its help pages had it in 2026.

    Options: up to ₹10 5 %, ₹100 3 %, ₹500 2 %, above 1 %; all else: up to ₹100 2 %, ₹500 1 %, above 0.5 %. An
    assumption: it is nowhere said that these are the bands behind -1.
    """
    option = is_option(instrument)
    for up_to, percent in _OPTION_BANDS if option else _OTHER_BANDS:
        if last_price <= up_to * instrument.divisor:
            return percent
    return _LAST_BANDS[0 if option else 1]


def reach(snapshot: Snapshot, buying: bool) -> int | None:
    """How far the market came to resting orders of a side: the better for them of last price and opposite best."""
    best = opposite(snapshot, buying)[:1]
    prices = [price for price in (snapshot.last_price, *(level.price for level in best)) if price > 0]
    return (min(prices) if buying else max(prices)) if prices else None


def reached(came: int | None, buying: bool, limit: int, passed: bool) -> bool:
    """Whether the market, which `came` so far (`reach`), was at a resting order's price; or `passed` it, if asked."""
    if came is None or (passed and came == limit):
        return False
    return came <= limit if buying else came >= limit


def triggered(last_price: int, buying: bool, trigger: int) -> bool:
    """Whether the last price has reached the trigger of a stop: from below for a buyer, from above for a seller."""
    return last_price > 0 and (last_price >= trigger if buying else last_price <= trigger)


def reason_not(fields: OrderFields, fills: Sequence[Fill], snapshot: Snapshot, limit: Limit) -> str | None:
    """Why the market does not take an order that would get these fills at once; None: it does."""
    symbol = fields.instrument.symbol
    if fields.instrument.segment == "INDICES":
        return f"{symbol} is an index: it has no order book."
    if snapshot.mode != "full":
        return f"No order book of {symbol} was captured: its packets are in {snapshot.mode} mode."
    if limit.freeze_quantity is not None and fields.quantity > limit.freeze_quantity:
        return f"Order quantity exceeds the freeze quantity ({limit.freeze_quantity}) of the instrument."
    low, high = limit.lower, limit.upper
    if fields.price and ((low is not None and fields.price < low) or (high is not None and fields.price > high)):
        return OUTSIDE
    if fields.order_type == "MARKET" and not fills:
        return EMPTY
    return None


def outside_protection(instrument: Instrument, price: int, reference: Fraction) -> bool:
    """Whether the exchange's limit price protection refuses a limit price of an option.

    ±40 % of the reference where that is above ₹50, else ±₹20 (public threads of 2026).
    """
    fifty, twenty = 50 * instrument.divisor, 20 * instrument.divisor
    width = reference * 2 / 5 if reference > fifty else Fraction(twenty)
    return abs(price - reference) > width


def _rounded(price: int, percent: float, tick: int, *, up: bool) -> int:
    exact = price * (1 + Fraction(str(percent)) / 100) / max(tick, 1)
    return int(-(-exact // 1) if up else exact // 1) * max(tick, 1)
