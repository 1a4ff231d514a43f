"""What is told of the market and of accounts: the broker's answers, and the tables of the end.

Prices are in rupees. What the captured mode does not carry is null, where the broker would have a number; the book of a
full packet has five levels a side, of which the missing ones are zeros, as the broker has them.
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

import pyarrow as pa

from kitelake.paper.accounts import Account
from kitelake.paper.fields import malformed, refused, whole_number
from kitelake.paper.market import PriceLevel, Snapshot
from kitelake.paper.matching import LEVELS
from kitelake.paper.orders import Order, shown_time
from kitelake.paper.settings import Limit
from storage.clock import IST

INTERVALS: Final = ("minute", "3minute", "5minute", "10minute", "15minute", "30minute", "60minute", "day")
SEGMENTS: Final = ("equity", "commodity")
_MOMENT: Final = re.compile(r"[12]\d{3}-\d\d-\d\d( \d\d:\d\d:\d\d)?")
_TIME: Final = pa.timestamp("us", "Asia/Kolkata")


class CandleCall(NamedTuple):
    """Which candles are asked for: those that begin in [start, stop], times with a zone, by the market's clock."""

    token: int
    interval: str
    start: dt.datetime
    stop: dt.datetime


# ── the market ───────────────────────────────────────────────────────────────────────────────────────────────────────


def shown_ltp(snapshot: Snapshot, divisor: int) -> dict[str, Any]:
    return {"instrument_token": snapshot.token, "last_price": snapshot.last_price / divisor}


def shown_ohlc(snapshot: Snapshot, divisor: int) -> dict[str, Any]:
    prices = {name: _rupees(getattr(snapshot, name), divisor) for name in ("open", "high", "low", "close")}
    return {**shown_ltp(snapshot, divisor), "ohlc": prices}


def shown_quote(snapshot: Snapshot, divisor: int, limit: Limit, shift_us: int) -> dict[str, Any]:
    """`timestamp` is the exchange's, or where the packet has none when it was received, `shift_us` later. Times of
    the packet are shown as it says them."""
    exchange_us = snapshot.received_us + shift_us if snapshot.exchange_us is None else snapshot.exchange_us
    traded_us = snapshot.last_trade_us
    return {
        **shown_ohlc(snapshot, divisor),
        "timestamp": shown_time(exchange_us, 0),
        "last_trade_time": None if traded_us is None else shown_time(traded_us, 0),
        "last_quantity": snapshot.last_traded_quantity,
        "average_price": _rupees(snapshot.average_traded_price, divisor),
        "volume": snapshot.volume_traded,
        "buy_quantity": snapshot.total_buy_quantity,
        "sell_quantity": snapshot.total_sell_quantity,
        "net_change": _rupees(snapshot.last_price - snapshot.close, divisor) if snapshot.close else None,
        "oi": snapshot.oi,
        "oi_day_high": snapshot.oi_day_high,
        "oi_day_low": snapshot.oi_day_low,
        "lower_circuit_limit": _rupees(limit.lower, divisor),
        "upper_circuit_limit": _rupees(limit.upper, divisor),
        "depth": {
            side: _levels(levels, divisor) if snapshot.mode == "full" else []
            for side, levels in (("buy", snapshot.bids), ("sell", snapshot.asks))
        },
    }


def _levels(levels: Sequence[PriceLevel], divisor: int) -> list[dict[str, Any]]:
    missing = [PriceLevel(0, 0, 0)] * (LEVELS - len(levels))
    return [{"price": price / divisor, "quantity": quantity, "orders": n} for price, quantity, n in [*levels, *missing]]


def _rupees(price: int | None, divisor: int) -> float | None:
    return None if price is None else price / divisor


def candle_call(token: str, interval: str, query: Mapping[str, Sequence[str]], shift_us: int) -> CandleCall:
    """What a call of the historical API asks for; its times are those that clients are shown. Raises
    `CallRefusedError`."""
    number = whole_number(token)
    if number is None:
        raise malformed("invalid token")
    if interval not in INTERVALS:
        raise malformed(f"invalid interval: expected one of {', '.join(INTERVALS)}")
    if query.get("continuous", ["0"])[0] == "1":
        raise refused("Continuous data of expired contracts is not served on paper.")
    start, stop = (_moment(query, name) for name in ("from", "to"))
    if stop < start:
        raise malformed("invalid date range: `to` is before `from`")
    shift = dt.timedelta(microseconds=shift_us)
    return CandleCall(number, interval, start - shift, stop - shift)


def _moment(query: Mapping[str, Sequence[str]], name: str) -> dt.datetime:
    text = query.get(name, [""])[0]
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError
        return dt.datetime.fromisoformat(text).replace(tzinfo=IST)
    except ValueError:
        raise malformed(f"invalid {name} date: expected yyyy-mm-dd or yyyy-mm-dd hh:mm:ss") from None


def shown_candles(rows: Iterable[Sequence[Any]], *, oi: bool, shift_us: int) -> dict[str, Any]:
    """Candles of time, open, high, low, close, volume and oi; times are shown `shift_us` later. What an index does not
    carry is 0, as the broker has it: its Go client reads nothing else."""
    shift = dt.timedelta(microseconds=shift_us)
    columns = 7 if oi else 6
    shown = (
        [f"{(time + shift).astimezone(IST):%Y-%m-%dT%H:%M:%S+0530}", *prices, volume or 0, interest or 0][:columns]
        for time, *prices, volume, interest in rows
    )
    return {"candles": list(shown)}


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def shown_margins(account: Account) -> dict[str, Any]:
    """Of a segment: all have the same purse."""
    used = float(account.used)
    free = float(account.funds)
    available = {"adhoc_margin": 0, "cash": free, "opening_balance": float(account.capital), "live_balance": free}
    utilised = {"debits": used, "m2m_realised": float(account.realised), "m2m_unrealised": float(account.unrealised)}
    nothing = (
        *("exposure", "option_premium", "payout", "span", "holding_sales", "turnover"),
        *("liquid_collateral", "stock_collateral", "equity", "delivery"),
    )
    return {
        "enabled": True,
        "net": free,
        "available": {**available, "collateral": 0, "intraday_payin": 0},
        "utilised": {**utilised, **dict.fromkeys(nothing, 0)},
    }


_WHAT: Final = [
    ("symbol", pa.string()),
    ("instrument_token", pa.int64()),
    ("transaction_type", pa.string()),
    ("product", pa.string()),
]
ORDERS: Final = pa.schema(
    [
        ("account", pa.string()),
        ("order_id", pa.string()),
        ("placed_at", _TIME),
        ("updated_at", _TIME),
        *_WHAT,
        ("order_type", pa.string()),
        ("validity", pa.string()),
        ("quantity", pa.int64()),
        ("price", pa.float64()),
        ("trigger_price", pa.float64()),
        ("market_protection", pa.float64()),
        ("status", pa.string()),
        ("status_message", pa.string()),
        ("filled_quantity", pa.int64()),
        ("pending_quantity", pa.int64()),
        ("cancelled_quantity", pa.int64()),
        ("average_price", pa.float64()),
        ("tag", pa.string()),
    ]
)
TRADES: Final = pa.schema(
    [
        ("account", pa.string()),
        ("trade_id", pa.string()),
        ("order_id", pa.string()),
        ("time", _TIME),
        *_WHAT,
        ("quantity", pa.int64()),
        ("price", pa.float64()),
    ]
)
POSITIONS: Final = pa.schema(
    [
        ("account", pa.string()),
        ("symbol", pa.string()),
        ("instrument_token", pa.int64()),
        ("product", pa.string()),
        ("quantity", pa.int64()),
        *((name, pa.float64()) for name in ("average_price", "last_price")),
        *((name, pa.int64()) for name in ("buy_quantity", "sell_quantity")),
        *((name, pa.float64()) for name in ("buy_value", "sell_value", "realised", "unrealised", "pnl")),
    ]
)
EQUITY: Final = pa.schema(
    [("account", pa.string()), ("time", _TIME), *((name, pa.float64()) for name in ("cash", "positions", "equity"))]
)


def tables_of(accounts: Iterable[Account]) -> dict[str, pa.Table]:
    """orders, trades, positions, equity of accounts, each in the order of time; prices and money in rupees, times by
    the market's clock. What an order has no price of is null."""
    rows: dict[str, list[dict[str, Any]]] = {"orders": [], "trades": [], "positions": [], "equity": []}
    for account in accounts:
        label = account.label
        rows["orders"] += [{"account": label, **_order_row(one)} for one in account.orders.values()]
        for trade in account.trades:
            row = {"account": label, "time": trade.time_us, "price": trade.price / trade.fields.instrument.divisor}
            ids = {"trade_id": trade.trade_id, "order_id": trade.order_id, "quantity": trade.quantity}
            rows["trades"].append({**row, **ids, **_what(trade)})
        for position in account.positions.values():
            shown = {name: value for name, value in position.shown().items() if name in POSITIONS.names}
            rows["positions"].append({"account": label, "symbol": position.instrument.symbol, **shown})
        for point in account.equity:
            money = {"cash": point.cash, "positions": point.positions, "equity": point.cash + point.positions}
            rows["equity"].append({"account": label, "time": point.time_us, **_floats(money)})
    schemas = {"orders": ORDERS, "trades": TRADES, "positions": POSITIONS, "equity": EQUITY}
    return {name: pa.Table.from_pylist(found, schema=schemas[name]) for name, found in rows.items()}


def _floats(money: Mapping[str, Fraction]) -> dict[str, float]:
    return {name: float(value) for name, value in money.items()}


def _what(one: Any) -> dict[str, Any]:
    fields = one.fields
    return {
        "symbol": fields.instrument.symbol,
        "instrument_token": fields.instrument.token,
        "transaction_type": "BUY" if fields.buying else "SELL",
        "product": fields.product,
    }


def _order_row(order: Order) -> dict[str, Any]:
    fields = order.fields
    divisor = fields.instrument.divisor
    return {
        "order_id": order.order_id,
        "placed_at": order.placed_us,
        "updated_at": order.updated_us,
        **_what(order),
        "order_type": fields.order_type,
        "validity": fields.validity,
        "quantity": fields.quantity,
        "price": fields.price / divisor if fields.price else None,
        "trigger_price": fields.trigger / divisor if fields.trigger else None,
        "market_protection": fields.protection or None,
        "status": order.status,
        "status_message": order.message,
        "filled_quantity": order.filled,
        "pending_quantity": order.pending,
        "cancelled_quantity": order.cancelled,
        "average_price": order.average_price if order.filled else None,
        "tag": fields.tag,
    }
