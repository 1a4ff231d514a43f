"""The paper broker: accounts, their REST calls, and the market that their orders meet.

Everything goes by the market's clock: arrivals, limits of calls, and what an answer may know. A limit of calls by the
clock on the wall would refuse a strategy on a fast replay what it is granted on a slow one.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from fractions import Fraction
from functools import partial
from typing import Any, Final

import pyarrow as pa

from ingest.server import AccountOrder, CallRefusedError, RestCall
from kitelake.paper import fields
from kitelake.paper.accounts import Account
from kitelake.paper.answers import (
    SEGMENTS,
    CandleCall,
    candle_call,
    shown_candles,
    shown_ltp,
    shown_margins,
    shown_ohlc,
    shown_quote,
    tables_of,
)
from kitelake.paper.exchange import Exchange
from kitelake.paper.market import Instrument, Snapshot
from kitelake.paper.orders import Order, day_of, shown_trade
from kitelake.paper.settings import NO_LIMIT, PaperSettings, read_limits
from storage.clock import US_PER_SECOND

REQUESTS_PER_SECOND: Final = 10
"""Vendor's forum, discussion 15912: order requests of an account; more are answered with 429."""
_MINUTE_US: Final = 60 * US_PER_SECOND
_NOT_SERVED: Final = ("gtt", "mf", "margins", "charges", "alerts", "portfolio", "session", "instruments")

Answer = Callable[[RestCall], Any]


class PaperBroker:
    """Accounts of a replayed day. Call `advance` with every packet of what is `watched`, and send on the `updates`."""

    def __init__(
        self,
        settings: PaperSettings,
        instruments: Mapping[int, Instrument],
        *,
        snapshot: Callable[[int], Snapshot | None],
        clock: Callable[[], int],
        shift_us: int = 0,
        candles: Callable[[CandleCall], list[list[Any]]] | None = None,
    ) -> None:
        """`snapshot` gives the last packet that was served of a token as of the clock, or None; `clock` the market's
        now; `shift_us` later is what clients are shown as a time. `candles` answers the historical API with rows of
        time (with a zone), open, high, low, close, volume, oi. Raises `PaperError` for a file of limits that is none.
        """
        self._settings = settings
        self._instruments = instruments
        self._listed = {one.symbol: one for one in instruments.values()}
        self._limits = read_limits(settings.limits, instruments.values()) if settings.limits else {}
        self._snapshot = snapshot
        self._clock = clock
        self._shift_us = shift_us
        self._candles = candles
        self._capital = Fraction(str(settings.capital))
        self._percent = Fraction(str(settings.margin_percent))
        self._latency_us = round(settings.latency_seconds * US_PER_SECOND)
        self.reset()

    def reset(self) -> None:
        """Forget every account, as if nobody had called yet."""
        self._accounts: dict[str, Account] = {}
        self._exchange = Exchange(self._settings, self._accounts, self._limits, self._snapshot, self._shift_us)
        self._placed = 0
        self._minute_us = 0
        self._closed = False

    # ── the market's time ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def watched(self) -> Set[int]:
        """Tokens whose every packet it needs: of orders in the market or on their way, and of what is held."""
        return self._exchange.watched

    def advance(self, until_us: int, snapshots: Iterable[Snapshot]) -> None:
        """Take in the packets of what is watched, in order, and let the time go on until then. What is due in the
        microsecond of a packet comes before it, so that it does not matter in which slice the packet is."""
        for snapshot in snapshots:
            self._run(snapshot.received_us)
            self._exchange.packet(snapshot)
        self._run(until_us)

    def _run(self, until_us: int) -> None:
        while self._accounts and not self._closed and self._minute_us <= until_us:
            self._exchange.run(self._minute_us)
            for account in self._accounts.values():
                account.sample(self._minute_us)
            self._minute_us += _MINUTE_US
        self._exchange.run(until_us)

    def close(self) -> None:
        """The day ends: what is open is cancelled, and nothing more is taken."""
        if not self._closed:
            now_us = self._clock()
            self._run(now_us)
            self._closed = True
            self._exchange.close(now_us)
            for account in self._accounts.values():
                account.sample(now_us)

    def updates(self) -> list[AccountOrder]:
        """The postbacks since this was last asked."""
        found, self._exchange.updates = self._exchange.updates, []
        return found

    def tables(self) -> dict[str, pa.Table]:
        """`orders`, `trades`, `positions` and `equity` of all accounts (see `tables_of`)."""
        return tables_of(self._accounts.values())

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────

    def route(self, method: str, path: str) -> Answer | None:
        """What answers a call; None: the broker has no such call."""
        match method, path.strip("/").split("/"):
            case "GET", ["user", "margins", *rest] if len(rest) <= 1:
                return partial(self._margins, rest)
            case "GET", ["quote"]:
                return partial(self._quotes, self._quote)
            case "GET", ["quote", "ltp"]:
                return partial(self._quotes, shown_ltp)
            case "GET", ["quote", "ohlc"]:
                return partial(self._quotes, shown_ohlc)
            case "GET", ["instruments", "historical", token, interval]:
                return partial(self._historical, token, interval)
            case "DELETE", ["session", "token"]:
                return lambda _: True  # every token is as good as another
            case "GET", ["portfolio", "holdings"]:
                return lambda _: []
            case "GET", ["portfolio", "positions"]:
                return self._positions
            case _, ["orders" | "trades", *_] as parts:
                return self._order_route(method, parts)
            case _, [first, *_] if first in _NOT_SERVED:
                return _not_served
        return None

    def _order_route(self, method: str, parts: list[str]) -> Answer | None:
        match method, parts:
            case "GET", ["orders"]:
                return lambda call: [one.current for one in self._account(call).orders.values()]
            case "GET", ["trades"]:
                return lambda call: [shown_trade(one, self._shift_us) for one in self._account(call).trades]
            case "GET", ["orders", order_id]:
                return lambda call: self._order(call, order_id).history
            case "GET", ["orders", order_id, "trades"]:
                return partial(self._order_trades, order_id)
            case "POST", ["orders", variety]:
                return partial(self._place, variety)
            case "PUT", ["orders", variety, order_id]:
                return partial(self._modify, variety, order_id)
            case "DELETE", ["orders", variety, order_id]:
                return partial(self._cancel, variety, order_id)
        return None

    def _account(self, call: RestCall) -> Account:
        """Whose call it is: an account is made when it first calls."""
        label = call.account.label
        if label not in self._accounts:
            if not self._accounts:
                self._minute_us = (self._clock() // _MINUTE_US + 1) * _MINUTE_US
            self._accounts[label] = Account(label, call.account.user_id, self._capital, self._percent)
        return self._accounts[label]

    def _margins(self, segments: list[str], call: RestCall) -> dict[str, Any]:
        if not set(segments) <= set(SEGMENTS):
            raise fields.malformed("Invalid `segment`.")
        margins = shown_margins(self._account(call))
        return margins if segments else dict.fromkeys(SEGMENTS, margins)

    def _positions(self, call: RestCall) -> dict[str, Any]:
        account = self._account(call)
        found = [one.shown() for one in account.positions.values()]
        return {"net": found, "day": found}

    # ── the market ───────────────────────────────────────────────────────────────────────────────────────────────

    def _quote(self, snapshot: Snapshot, divisor: int) -> dict[str, Any]:
        return shown_quote(snapshot, divisor, self._limits.get(snapshot.token, NO_LIMIT), self._shift_us)

    def _quotes(self, show: Callable[[Snapshot, int], dict[str, Any]], call: RestCall) -> dict[str, Any]:
        """By the names that were asked for; what is unknown, or was not captured, is left out, as the broker does."""
        names = call.query.get("i")
        if not names:
            raise fields.malformed("Missing or empty field `i`")
        found = {}
        for name in names:
            token = fields.whole_number(name)
            one = self._listed.get(name) if token is None else self._instruments.get(token)
            snapshot = self._snapshot(one.token) if one else None
            if one and snapshot:
                found[name] = show(snapshot, one.divisor)
        return found

    def _historical(self, token: str, interval: str, call: RestCall) -> dict[str, Any]:
        asked = candle_call(token, interval, call.query, self._shift_us)
        if self._candles is None:
            raise _refusal("Historical candles are not served.")
        if asked.token not in self._instruments:
            raise fields.malformed("invalid token")
        oi = call.query.get("oi", ["0"])[0] == "1"
        return shown_candles(self._candles(asked), oi=oi, shift_us=self._shift_us)

    # ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _order(self, call: RestCall, order_id: str) -> Order:
        order = self._account(call).orders.get(order_id)
        if order is None:
            raise fields.refused("Couldn't find that `order_id`.")
        return order

    def _order_trades(self, order_id: str, call: RestCall) -> list[dict[str, Any]]:
        order = self._order(call, order_id)
        trades = (one for one in self._account(call).trades if one.order_id == order.order_id)
        return [shown_trade(one, self._shift_us) for one in trades]

    def _place(self, variety: str, call: RestCall) -> dict[str, Any]:
        account, now_us = self._begin_request(variety, call)
        asked = fields.placed(call.form, self._listed, day_of(now_us))
        self._placed += 1
        order_id = f"{day_of(now_us):%y%m%d}{self._placed:09d}"
        order = Order(order_id, account.label, account.user_id, asked, now_us)
        account.orders[order_id] = order
        return self._send(order, {}, now_us)

    def _modify(self, variety: str, order_id: str, call: RestCall) -> dict[str, Any]:
        _, now_us = self._begin_request(variety, call)
        order = self._open_order(call, order_id, "modified")
        changes = fields.changes(call.form, order.fields.instrument)
        fields.check(fields.changed(order.fields, changes), day_of(now_us))
        return self._send(order, changes, now_us)

    def _cancel(self, variety: str, order_id: str, call: RestCall) -> dict[str, Any]:
        _, now_us = self._begin_request(variety, call)
        return self._send(self._open_order(call, order_id, "cancelled"), None, now_us)

    def _open_order(self, call: RestCall, order_id: str, what: str) -> Order:
        order = self._order(call, order_id)
        if order.final:
            raise fields.refused(f"Order cannot be {what} as it is already {order.status}.")
        return order

    def _begin_request(self, variety: str, call: RestCall) -> tuple[Account, int]:
        """Whose request about orders it is, and when; refused if it is one too many, or of another variety."""
        account, now_us = self._account(call), self._clock()
        calls = account.calls
        while calls and calls[0] <= now_us - US_PER_SECOND:
            calls.popleft()
        if len(calls) >= REQUESTS_PER_SECOND:
            raise CallRefusedError(429, "NetworkException", "Too many requests")
        calls.append(now_us)
        fields.check_variety(variety)
        if self._closed:
            raise fields.refused("The replayed day has ended: no orders are taken.")
        return account, now_us

    def _send(self, order: Order, changes: dict[str, Any] | None, now_us: int) -> dict[str, Any]:
        self._exchange.send(order, changes, now_us, now_us + self._latency_us)
        self._exchange.run(now_us)
        return {"order_id": order.order_id}


def _refusal(message: str) -> CallRefusedError:
    return CallRefusedError(403, "PermissionException", message)


def _not_served(call: RestCall) -> Any:
    raise _refusal(f"{call.method} {call.path} is not served on paper.")
