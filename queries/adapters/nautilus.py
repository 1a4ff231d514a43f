"""Instruments for NautilusTrader, with what the list of a day says of them; and packets as its quotes, trades, depths.

Prices are in INR; sizes are whole units as the broker counts them, and the multiplier of a contract is 1 (for MCX,
whose list counts lots, it is for the user to say). An instrument is named TRADINGSYMBOL.EXCHANGE, as INFY.NSE,
with `_` for what a catalog cannot have in a name: M_M.NSE; `raw_symbol` has M&M.
"""

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from queries.adapters.extras import needed
from queries.adapters.packets import Packets, facts_of
from queries.feed import FeedMethods
from queries.history import Moment, Symbols, moment_of
from storage.clock import IST, day_bounds_ns, nanoseconds
from storage.market import (
    COMMODITIES,
    CURRENCIES,
    END_OF_DAY,
    INDEX_DERIVATIVES,
    InstrumentKind,
    Phase,
    usual_sessions,
)
from storage.schema import DEPTH_LEVELS

_RESOLUTION: Final = 0.01
"""Of prices in packets, in rupees: of an instrument whose list says no tick size."""
_LEVELS: Final = 10
"""Of a side of an OrderBookDepth10."""
_KINDS: Final = {"FUT": InstrumentKind.FUTURE, "CE": InstrumentKind.OPTION, "PE": InstrumentKind.OPTION}


def nautilus_instruments(lake: FeedMethods, symbols: Symbols, day: Moment) -> list[Any]:
    """Equity, FuturesContract and OptionContract objects, with tick size, lot size, strike and expiry of that day's
    list. Raises MissingLibraryError, AdapterError for an index, and what `Lake.feed` does."""
    date = moment_of(day, "day").date()
    return [nautilus_instrument(facts, date) for facts in facts_of(lake, symbols, date)]


def nautilus_instrument(facts: Mapping[str, Any], day: dt.date) -> Any:
    """The instrument of a row of an instrument list, as of the day's beginning."""
    model = needed("nautilus_trader.model", "nautilus")
    instruments = needed("nautilus_trader.model.instruments", "nautilus")
    tick = facts["tick_size"] or _RESOLUTION
    precision = max(2, _decimals(tick))
    begins_ns = day_bounds_ns(day)[0]
    common = {
        "instrument_id": model.InstrumentId.from_str(f"{_name(facts)}.{facts['exchange']}"),
        "raw_symbol": model.Symbol(facts["tradingsymbol"]),
        "currency": model.Currency.from_str("INR"),
        "price_precision": precision,
        "price_increment": model.Price(tick, precision),
        "lot_size": model.Quantity.from_int(max(1, facts["lot_size"] or 1)),
        "ts_event": begins_ns,
        "ts_init": begins_ns,
    }
    if facts["instrument_type"] not in _KINDS or facts["expiry"] is None:
        return instruments.Equity(**common)
    enums = needed("nautilus_trader.model.enums", "nautilus")
    contract = common | {
        "asset_class": getattr(enums.AssetClass, _asset_class(facts)),
        "multiplier": model.Quantity.from_int(1),
        "underlying": facts["name"] or facts["tradingsymbol"],
        "activation_ns": 0,  # the list does not say since when it is traded
        "expiration_ns": _expires_ns(facts),
    }
    if facts["instrument_type"] == "FUT":
        return instruments.FuturesContract(**contract)
    kind = enums.OptionKind.CALL if facts["instrument_type"] == "CE" else enums.OptionKind.PUT
    return instruments.OptionContract(
        **contract, option_kind=kind, strike_price=model.Price(facts["strike"], max(2, _decimals(facts["strike"])))
    )


def quotes_of(packets: Packets, instrument: Any) -> list[Any]:
    """A QuoteTick a packet: its best bid and ask. One with an empty side is none, since Nautilus has none such."""
    model = needed("nautilus_trader.model", "nautilus")
    price, size, name = _maker(model.Price, instrument.price_precision), _maker(model.Quantity, 0), instrument.id
    columns = packets.columns
    both = (columns["bid_quantity_1"] > 0) & (columns["ask_quantity_1"] > 0)
    names = ("bid_price_1", "ask_price_1", "bid_quantity_1", "ask_quantity_1")
    values = [columns[each][both].tolist() for each in names]
    times = [packets.exchange_ns[both].tolist(), packets.received_ns[both].tolist()]
    return [
        model.QuoteTick(name, price(bid), price(ask), size(bids), size(asks), event, received)
        for bid, ask, bids, asks, event, received in zip(*values, *times, strict=True)
    ]


def trades_of(packets: Packets, instrument: Any) -> list[Any]:
    """A TradeTick a packet that shows a trade: an estimate, of whose side nothing is said."""
    model, enums = needed("nautilus_trader.model", "nautilus"), needed("nautilus_trader.model.enums", "nautilus")
    price, size = _maker(model.Price, instrument.price_precision), _maker(model.Quantity, 0)
    some = packets.traded > 0
    values = [packets.columns["last_price"], packets.traded, packets.exchange_ns, packets.received_ns]
    return [
        model.TradeTick(
            instrument.id,
            price(last),
            size(traded),
            enums.AggressorSide.NO_AGGRESSOR,
            model.TradeId(f"{received // 1000}-{seq}"),
            event,
            received,
        )
        for last, traded, event, received, seq in zip(
            *(each[some].tolist() for each in (*values, packets.columns["seq"])), strict=True
        )
    ]


def depths_of(packets: Packets, instrument: Any) -> list[Any]:
    """An OrderBookDepth10 a packet with a book, of five levels a side; the others are empty."""
    model, enums = needed("nautilus_trader.model", "nautilus"), needed("nautilus_trader.model.enums", "nautilus")
    data = needed("nautilus_trader.model.data", "nautilus")
    price, size = _maker(model.Price, instrument.price_precision), _maker(model.Quantity, 0)
    columns = packets.columns
    some = (columns["bid_quantity_1"] > 0) | (columns["ask_quantity_1"] > 0)
    levels = range(1, DEPTH_LEVELS + 1)
    nothing = data.BookOrder(enums.OrderSide.NO_ORDER_SIDE, price(0.0), size(0), 0)
    # Levels that there are not have the precision of the others, which a catalog asks of all.
    padding, zeros = [nothing] * (_LEVELS - DEPTH_LEVELS), [0] * (_LEVELS - DEPTH_LEVELS)
    sides = []
    for side, kind in (("bid", enums.OrderSide.BUY), ("ask", enums.OrderSide.SELL)):
        prices, sizes, counts = (
            zip(*(columns[f"{side}_{what}_{level}"][some].tolist() for level in levels), strict=True)
            for what in ("price", "quantity", "orders")
        )
        books = [
            [
                data.BookOrder(kind, price(each), size(many), 0) if many else nothing
                for each, many in zip(*book, strict=True)
            ]
            + padding
            for book in zip(prices, sizes, strict=True)
        ]
        sides.append(zip(books, ([*each, *zeros] for each in counts), strict=True))
    times = (each[some].tolist() for each in (packets.columns["seq"], packets.exchange_ns, packets.received_ns))
    return [
        model.OrderBookDepth10(instrument.id, bids, asks, bid_counts, ask_counts, 0, seq, event, received)
        for (bids, bid_counts), (asks, ask_counts), seq, event, received in zip(*sides, *times, strict=True)
    ]


def _maker(kind: Any, precision: int) -> Any:
    """Of numbers that come again and again, each object once."""
    made: dict[float, Any] = {}

    def make(value: float) -> Any:
        found = made.get(value)
        if found is None:
            found = made[value] = kind(value, precision)
        return found

    return make


def _name(facts: Mapping[str, Any]) -> str:
    """The tradingsymbol in letters, digits and `-`, with `_` for all else: by others a catalog cannot be read."""
    return re.sub(r"[^A-Za-z0-9-]", "_", facts["tradingsymbol"])


def _decimals(value: float) -> int:
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


def _asset_class(facts: Mapping[str, Any]) -> str:
    exchange = facts["exchange"]
    if exchange in COMMODITIES or exchange in CURRENCIES:
        return "COMMODITY" if exchange in COMMODITIES else "FX"
    return "INDEX" if facts["name"] in INDEX_DERIVATIVES.values() else "EQUITY"


def _expires_ns(facts: Mapping[str, Any]) -> int:
    """When trading of the exchange usually ends on the day of expiry; where that is not known, the end of the day."""
    sessions = usual_sessions(facts["exchange"], facts["expiry"]).get(_KINDS[facts["instrument_type"]], ())
    stops = [each.hours.stop for each in sessions if each.phase is Phase.CONTINUOUS]
    if not stops or max(stops) == END_OF_DAY:
        return day_bounds_ns(facts["expiry"])[1]
    return nanoseconds(dt.datetime.combine(facts["expiry"], max(stops), IST))
