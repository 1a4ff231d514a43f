"""What the paper broker is told of the market: the instruments of the day, and packets as they are sent.

Prices are the wire's integers, `round(price × divisor)`, so that nothing is rounded between a packet and a fill.
Times are microseconds since the epoch, by the market's clock: when the packet was received on the replayed day.
"""

import datetime as dt
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Instrument:
    """What the day's list says of one. `tick` is its tick size, in the wire's integers; 0 if the list has none.
    `strike` is in rupees."""

    token: int
    exchange_token: int
    exchange: str
    tradingsymbol: str
    name: str
    segment: str
    instrument_type: str
    expiry: dt.date | None
    strike: float
    tick: int
    lot_size: int
    divisor: int

    @property
    def symbol(self) -> str:
        """As people name it, such as NSE:INFY."""
        return f"{self.exchange}:{self.tradingsymbol}"


class PriceLevel(NamedTuple):
    """One level of a side of the book."""

    price: int
    quantity: int
    orders: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One packet of an instrument. What its mode does not carry is None, or an empty side; a level without a quantity
    or a price is left out.

    `live` is False for a cached packet, which tells of before its connection asked: it fills and triggers nothing.
    `after_gap`: it is the first that was received after an outage, so what happened since the one before is not known.
    `last_trade_us` and `exchange_us` are as the packet says them to clients, shifted ones too.
    """

    token: int
    received_us: int
    mode: str
    last_price: int
    last_traded_quantity: int | None = None
    average_traded_price: int | None = None
    volume_traded: int | None = None
    total_buy_quantity: int | None = None
    total_sell_quantity: int | None = None
    open: int | None = None
    high: int | None = None
    low: int | None = None
    close: int | None = None
    price_change: int | None = None
    last_trade_us: int | None = None
    oi: int | None = None
    oi_day_high: int | None = None
    oi_day_low: int | None = None
    exchange_us: int | None = None
    bids: tuple[PriceLevel, ...] = ()
    asks: tuple[PriceLevel, ...] = ()
    live: bool = True
    after_gap: bool = False
