"""One paper account: its orders, trades and positions, and what it can pay.

Theory. Money is counted in fractions of rupees, so that nothing is rounded before it is shown. A position has an
average price of what is open in it; what closes a part of it is realised against that average, and the average stays.

    cash     = capital - what was bought + what was sold
    equity   = cash + quantity × last price of each position
    funds    = capital + realised - margin of positions - margin of open orders

The margin of a unit is its price where it is paid in full (shares and options that were bought), else a percentage: of
the strike for options sold, of the price for futures and for shares sold. An order blocks the margin of the part that
closes nothing. What is not realised counts for nothing in the funds. There is one purse for all segments.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from kitelake.paper.fields import OrderFields, is_equity, is_option
from kitelake.paper.market import Instrument
from kitelake.paper.orders import Order, Trade


class EquityPoint(NamedTuple):
    """What the account was worth at a time of the market, in rupees: cash and positions together."""

    time_us: int
    cash: Fraction
    positions: Fraction


@dataclass(slots=True, eq=False)
class Position:
    """What is held of an instrument by one product. Prices and values are the wire's integers, or fractions of them;
    `last_price` is the last one that is known."""

    instrument: Instrument
    product: str
    quantity: int = 0
    average: Fraction = Fraction(0)
    realised: Fraction = Fraction(0)
    buy_quantity: int = 0
    buy_value: int = 0
    sell_quantity: int = 0
    sell_value: int = 0
    last_price: int = 0

    def trade(self, buying: bool, price: int, quantity: int) -> None:
        if buying:
            self.buy_quantity += quantity
            self.buy_value += price * quantity
        else:
            self.sell_quantity += quantity
            self.sell_value += price * quantity
        signed = quantity if buying else -quantity
        closed = min(quantity, abs(self.quantity)) if self.quantity * signed < 0 else 0
        self.realised += closed * (self.average - price) * (1 if buying else -1)
        opened = quantity - closed
        before = self.quantity
        self.quantity += signed
        if not self.quantity:
            self.average = Fraction(0)
        elif opened:
            held = abs(before) if not closed else 0
            self.average = (held * self.average + opened * price) / (held + opened)

    @property
    def unrealised(self) -> Fraction:
        return self.quantity * (self.last_price - self.average)

    @property
    def value(self) -> Fraction:
        """In rupees, at the last price."""
        return Fraction(self.quantity * self.last_price, self.instrument.divisor)

    def margin(self, percent: Fraction) -> Fraction:
        """What it blocks, in rupees."""
        return abs(self.quantity) * unit_margin(self.instrument, self.quantity > 0, self.average, percent)

    def shown(self) -> dict[str, Any]:
        """As the broker lists it. All of it was traded today, so that what is of the day and what is net agree."""
        divisor = self.instrument.divisor
        pnl = float((self.realised + self.unrealised) / divisor)
        buy = _side("buy", self.buy_quantity, self.buy_value, divisor)
        sell = _side("sell", self.sell_quantity, self.sell_value, divisor)
        return {
            "tradingsymbol": self.instrument.tradingsymbol,
            "exchange": self.instrument.exchange,
            "instrument_token": self.instrument.token,
            "product": self.product,
            "quantity": self.quantity,
            "overnight_quantity": 0,
            "multiplier": 1,
            "average_price": float(self.average / divisor),
            "close_price": 0,
            "last_price": self.last_price / divisor,
            "value": (self.sell_value - self.buy_value) / divisor,
            "pnl": pnl,
            "m2m": pnl,
            "unrealised": float(self.unrealised / divisor),
            "realised": float(self.realised / divisor),
            **buy,
            **sell,
            **{f"day_{name}": value for name, value in {**buy, **sell}.items() if "m2m" not in name},
        }


def _side(side: str, quantity: int, value: int, divisor: int) -> dict[str, Any]:
    return {
        f"{side}_quantity": quantity,
        f"{side}_price": value / (quantity * divisor) if quantity else 0.0,
        f"{side}_value": value / divisor,
        f"{side}_m2m": value / divisor,
    }


def unit_margin(instrument: Instrument, buying: bool, price: Fraction, percent: Fraction) -> Fraction:
    """What one unit blocks, in rupees; `price` is the wire's."""
    rupees = price / instrument.divisor
    if buying and (is_equity(instrument) or is_option(instrument)):
        return rupees
    return (Fraction(instrument.strike) if is_option(instrument) else rupees) * percent / 100


@dataclass(slots=True, eq=False)
class Account:
    """One api_key's. `open_orders` are those in the market, in the order of time in which they arrived; `calls` when
    it asked for something to be ordered, within the last second."""

    label: str
    user_id: str
    capital: Fraction
    percent: Fraction
    orders: dict[str, Order] = field(default_factory=dict)
    open_orders: dict[str, Order] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    positions: dict[tuple[int, str], Position] = field(default_factory=dict)
    equity: list[EquityPoint] = field(default_factory=list)
    calls: deque[int] = field(default_factory=deque)
    cash: Fraction = field(init=False)

    def __post_init__(self) -> None:
        self.cash = self.capital

    def position(self, fields: OrderFields) -> Position:
        """The one that an order is for, made if there is none yet."""
        key = (fields.instrument.token, fields.product)
        if key not in self.positions:
            self.positions[key] = Position(fields.instrument, fields.product)
        return self.positions[key]

    def book(self, trade: Trade) -> Position:
        """Take a trade in; returns the position that it changed."""
        fields = trade.fields
        self.trades.append(trade)
        position = self.position(fields)
        position.trade(fields.buying, trade.price, trade.quantity)
        value = Fraction(trade.price * trade.quantity, fields.instrument.divisor)
        self.cash += -value if fields.buying else value
        return position

    def sample(self, time_us: int) -> None:
        """Note what the account is worth at that time."""
        worth = sum((each.value for each in self.positions.values()), Fraction(0))
        self.equity.append(EquityPoint(time_us, self.cash, worth))

    # ── funds ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def realised(self) -> Fraction:
        """In rupees."""
        found = (each.realised / each.instrument.divisor for each in self.positions.values())
        return sum(found, Fraction(0))

    @property
    def unrealised(self) -> Fraction:
        """In rupees."""
        found = (each.unrealised / each.instrument.divisor for each in self.positions.values())
        return sum(found, Fraction(0))

    @property
    def used(self) -> Fraction:
        """The margin of positions and open orders, in rupees."""
        held = sum((each.margin(self.percent) for each in self.positions.values()), Fraction(0))
        return held + sum((margin for _, margin in self._opening(self._asked(None))), Fraction(0))

    @property
    def funds(self) -> Fraction:
        """What a new order may block, in rupees."""
        return self.capital + self.realised - self.used

    def refusal(self, order: Order, fields: OrderFields, price: Fraction) -> str | None:
        """Why the account cannot have this order with these fields, in the broker's words; None: it can.

        `price` (the wire's) is what a unit may cost. An order that is open already is seen as withdrawn.
        """
        others = list(self._asked(order))
        asked = (fields, fields.quantity - order.filled, price)
        *before, (opening, margin) = self._opening([*others, asked])
        if fields.product == "CNC" and not fields.buying and opening:
            had = asked[1] - opening
            return f"Insufficient holdings. Required quantity is {asked[1]} but available quantity is {had}."
        held = sum((each.margin(self.percent) for each in self.positions.values()), Fraction(0))
        funds = self.capital + self.realised - held - sum((each for _, each in before), Fraction(0))
        if margin > funds:
            return (
                f"Insufficient funds. Required margin is {float(margin):.2f} but available margin is "
                f"{float(funds):.2f}. Check the orderbook for open orders."
            )
        return None

    def _asked(self, but: Order | None) -> Iterator[tuple[OrderFields, int, Fraction]]:
        """Of the open orders fields, pending quantity and price."""
        for one in self.open_orders.values():
            if one is not but:
                yield one.fields, one.pending, Fraction(one.fields.price or one.fields.trigger)

    def _opening(self, asked: Iterable[tuple[OrderFields, int, Fraction]]) -> Iterator[tuple[int, Fraction]]:
        """Of orders in the order of time: how much of each closes nothing, and the margin of that in rupees."""
        closable: dict[tuple[int, str, bool], int] = {}
        for fields, pending, price in asked:
            key = (fields.instrument.token, fields.product, fields.buying)
            if key not in closable:
                position = self.positions.get(key[:2])
                held = position.quantity if position else 0
                closable[key] = max(-held if fields.buying else held, 0)
            closing = min(closable[key], pending)
            closable[key] -= closing
            unit = unit_margin(fields.instrument, fields.buying, price, self.percent)
            yield pending - closing, (pending - closing) * unit
