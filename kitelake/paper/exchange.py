"""The market that orders on paper meet: what arrives when, what rests, and what each packet changes.

Theory. A request arrives a latency after it was made, and is matched against the last snapshot of its instrument that
was received before. What own orders took of a snapshot's levels is gone until the next one; what does not fill rests,
and shares the volume that the next snapshots show, in order of time. Packets and arrivals are handled in the order of
their times alone, so that the same requests at the same times end the same way. docs/paper.md has the rules in full.

A snapshot is a basis for arrivals if it is live, not too old, and no gap is known to have begun after it. An order
that finds none waits for the next live packet. Where the market's clock is ahead of the packets, that may be one of
before its arrival: then it arrives once more, at the same time, on the last of those before.
"""

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, NamedTuple

from ingest.server import AccountOrder, CallRefusedError
from kitelake.paper import orders
from kitelake.paper.accounts import Account, Position
from kitelake.paper.fields import OrderFields, changed, check, is_option
from kitelake.paper.market import Instrument, Snapshot
from kitelake.paper.matching import (
    EMPTY,
    OUTSIDE,
    Fill,
    obtainable,
    outside_protection,
    protected,
    reach,
    reached,
    reason_not,
    triggered,
)
from kitelake.paper.orders import Order, Trade, day_of, postback, shown
from kitelake.paper.settings import NO_LIMIT, Limit, PaperSettings
from storage.clock import US_PER_SECOND

_REFERENCE_US: Final = 30 * US_PER_SECOND
_MOST_RECENT: Final = 300
"""More packets than an instrument has in that time."""
_ENDED: Final = "The day has ended."


class _Request(NamedTuple):
    """Something on its way. `changes` are of a modification; None cancels, and {} of an order that did not arrive yet
    places it."""

    due_us: int
    number: int
    order: Order
    changes: dict[str, Any] | None


@dataclass(slots=True, eq=False)
class _Book:
    """What is known of an instrument, and who wants something of it.

    `taken` by own orders of the last snapshot, bought and sold, by price; `volume` is the last that a live packet had;
    `gap`: one has begun since the last snapshot; `recent` are times and prices of packets that showed trades.
    """

    instrument: Instrument
    last: Snapshot | None = None
    volume: int | None = None
    gap: bool = False
    taken: dict[bool, dict[int, int]] = field(default_factory=lambda: {True: {}, False: {}})
    moving: int = 0
    waiting: list[_Request] = field(default_factory=list)
    resting: list[Order] = field(default_factory=list)
    positions: dict[Position, None] = field(default_factory=dict)
    recent: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_MOST_RECENT))

    @property
    def wanted(self) -> bool:
        return bool(self.moving or self.waiting or self.resting or any(each.quantity for each in self.positions))

    def resting_at(self, now_us: int) -> list[Order]:
        """Those that had arrived by then: an earlier packet says nothing to the others."""
        return [one for one in self.resting if one.arrived_us is not None and one.arrived_us <= now_us]

    def recent_prices(self, snapshot: Snapshot) -> list[int]:
        """Of the half minute before, as far as packets tell; else the last one."""
        since_us = snapshot.received_us - _REFERENCE_US
        return [price for time_us, price in self.recent if time_us >= since_us] or [snapshot.last_price]

    def begin(self, snapshot: Snapshot) -> None:
        """A newer snapshot, live or not, is the last."""
        self.last, self.gap = snapshot, False
        self.taken = {True: {}, False: {}}
        if snapshot.live and snapshot.volume_traded is not None:
            self.volume = snapshot.volume_traded


class Exchange:
    """All books. `watched` are the tokens whose packets it needs: of orders, and of what is held."""

    def __init__(
        self,
        settings: PaperSettings,
        accounts: Mapping[str, Account],
        limits: Mapping[int, Limit],
        snapshot: Callable[[int], Snapshot | None],
        shift_us: int,
    ) -> None:
        self.watched: set[int] = set()
        self.updates: list[AccountOrder] = []
        self._settings = settings
        self._accounts = accounts
        self._limits = limits
        self._snapshot = snapshot
        self._shift_us = shift_us
        self._books: dict[int, _Book] = {}
        self._requests: list[_Request] = []
        self._numbers = 0
        self._trades = 0

    # ── what the broker asks of it ───────────────────────────────────────────────────────────────────────────────

    def send(self, order: Order, changes: dict[str, Any] | None, now_us: int, due_us: int) -> None:
        """Have an order placed or modified (`changes`), or cancelled (None), at `due_us`."""
        book = self._watch(order.fields.instrument)
        book.moving += 1
        self._numbers += 1
        heapq.heappush(self._requests, _Request(due_us, self._numbers, order, changes))
        if not order.history:
            self._step(order, now_us, orders.RECEIVED, push=False)
        else:
            status = "CANCEL PENDING" if changes is None else "MODIFY PENDING"
            time = orders.shown_time(now_us, self._shift_us)
            order.history.append({**order.current, "status": status, "order_timestamp": time})

    def run(self, until_us: int) -> None:
        """Handle what arrives until then."""
        while self._requests and self._requests[0].due_us <= until_us:
            request = heapq.heappop(self._requests)
            order = request.order
            book = self._books[order.fields.instrument.token]
            book.moving -= 1
            if request.changes is None:
                self._cancel(order, book, request.due_us)
            elif order.arrived_us is None:
                self._arrive(request, book)
            else:
                self._modify(request, request.changes, book, request.due_us)
            self._settle(book)

    def packet(self, snapshot: Snapshot) -> None:
        """Take in a packet: what it fills, what it triggers, and who waited for it."""
        if snapshot.token not in self.watched:
            return
        book = self._books[snapshot.token]
        if not snapshot.live:
            book.gap |= snapshot.after_gap
            return
        gap = snapshot.after_gap or book.gap or book.last is None or not book.last.live
        before, after = None if gap else book.volume, snapshot.volume_traded
        traded = 0 if before is None or after is None else max(after - before, 0)
        book.volume = before
        book.begin(snapshot)
        for position in book.positions:
            position.last_price = snapshot.last_price or position.last_price
        if traded and self._settings.price_protection:
            book.recent.append((snapshot.received_us, snapshot.last_price))
        if traded:
            self._fill_resting(book, snapshot, traded)
        if not gap:
            self._trigger(book, snapshot)
        waiting, book.waiting = book.waiting, []
        for request in waiting:
            order, changes = request.order, request.changes
            if request.due_us > snapshot.received_us:
                self._send_again(request, book)
            elif order.entered and changes is not None:
                self._modify(request, changes, book, snapshot.received_us)
            else:
                self._enter(order, order.fields, book, snapshot, snapshot.received_us)
        self._settle(book)

    def close(self, now_us: int) -> None:
        """Cancel all that is not final."""
        self._requests.clear()
        for account in self._accounts.values():
            for order in account.orders.values():
                if not order.final:
                    self._end(order, orders.CANCELLED, _ENDED, now_us)
        for book in self._books.values():
            book.moving = 0
            book.waiting.clear()
            book.resting.clear()
            self._settle(book)

    # ── books ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _watch(self, instrument: Instrument) -> _Book:
        token = instrument.token
        book = self._books.setdefault(token, _Book(instrument))
        if token not in self.watched:
            self.watched.add(token)
            snapshot = self._snapshot(token)
            book.recent.clear()
            if snapshot is not None and snapshot != book.last:
                book.volume = None
                book.begin(snapshot)
        return book

    def _settle(self, book: _Book) -> None:
        if not book.wanted:
            self.watched.discard(book.instrument.token)

    def _basis(self, book: _Book, now_us: int) -> Snapshot | None:
        """The snapshot that an arrival is matched against; None: the next live one."""
        last = book.last
        oldest_us = now_us - self._settings.stale_seconds * US_PER_SECOND
        return last if last and last.live and not book.gap and last.received_us >= oldest_us else None

    # ── arrivals ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _send_again(self, request: _Request, book: _Book) -> None:
        """The clock was ahead of the packets: one came of before its arrival, which there may be a basis for now."""
        book.moving += 1
        if not request.order.entered:
            request.order.arrived_us = None
        heapq.heappush(self._requests, request)

    def _arrive(self, request: _Request, book: _Book) -> None:
        now_us, order = request.due_us, request.order
        order.arrived_us = now_us
        if book.last is None:
            symbol = book.instrument.symbol
            return self._end(order, orders.REJECTED, f"Nothing of {symbol} was captured up to now.", now_us)
        snapshot = self._basis(book, now_us)
        if snapshot is None:
            book.waiting.append(request)
            return None if order.status == orders.WAITING else self._step(order, now_us, orders.WAITING)
        return self._enter(order, order.fields, book, snapshot, now_us)

    def _modify(self, request: _Request, changes: dict[str, Any], book: _Book, now_us: int) -> None:
        order = request.order
        if order.final:
            return self._step(order, now_us, order.status, "Modification came too late.", push=False)
        try:
            fields = check(changed(order.fields, changes), day_of(now_us))
        except CallRefusedError as error:
            return self._step(order, now_us, order.status, f"Modification rejected: {error}")
        if not order.entered:
            order.fields, order.modified = fields, True
            book.waiting = [one._replace(due_us=now_us) if one.order is order else one for one in book.waiting]
            return self._step(order, now_us, order.status)
        snapshot = self._basis(book, now_us)
        if snapshot is None:
            book.waiting.append(request)
            return None
        return self._enter(order, fields, book, snapshot, now_us)

    def _cancel(self, order: Order, book: _Book, now_us: int) -> None:
        if order.final:
            return self._step(order, now_us, order.status, "Cancellation came too late.", push=False)
        book.waiting = [one for one in book.waiting if one.order is not order]
        if order in book.resting:
            book.resting.remove(order)
        return self._end(order, orders.CANCELLED, None, now_us)

    def _enter(self, order: Order, fields: OrderFields, book: _Book, snapshot: Snapshot, now_us: int) -> None:
        """Into the market, for the first time or with changed fields; or not, with the reason."""
        stops = (
            fields.stop and not order.triggered and not triggered(snapshot.last_price, fields.buying, fields.trigger)
        )
        if not stops and fields.at_market and fields.protection:
            if not snapshot.last_price:
                return self._refuse(order, "There is no last price from which market protection could count.", now_us)
            fields = protected(fields, snapshot)
        fills = [] if stops else self._obtainable(order, fields, book, snapshot)
        reason = self._refusal(order, fields, fills, book, snapshot)
        if reason is not None:
            return self._refuse(order, reason, now_us)
        if order.entered:
            order.modified = True
            book.resting.remove(order)
        open_orders = self._accounts[order.account].open_orders
        open_orders.pop(order.order_id, None)
        open_orders[order.order_id] = order
        order.fields, order.entered, order.arrived_us = fields, True, now_us
        if stops:
            book.resting.append(order)
            return self._step(order, now_us, orders.TRIGGER)
        order.triggered = fields.stop
        self._step(order, now_us, orders.OPEN)
        return self._take(order, fills, book, now_us)

    def _refuse(self, order: Order, reason: str, now_us: int) -> None:
        if order.entered:
            self._step(order, now_us, order.status, f"Modification rejected: {reason}")
        else:
            self._end(order, orders.REJECTED, reason, now_us)

    def _refusal(
        self, order: Order, fields: OrderFields, fills: list[Fill], book: _Book, snapshot: Snapshot
    ) -> str | None:
        """Why the order is rejected as it arrives; None: it is not."""
        reason = reason_not(fields, fills, snapshot, self._limits.get(book.instrument.token, NO_LIMIT))
        if reason is not None:
            return reason
        if fields.quantity <= order.filled:
            return f"Quantity cannot be less than or equal to what is filled ({order.filled})."
        if self._settings.price_protection and fields.price and is_option(fields.instrument):
            prices = book.recent_prices(snapshot)
            if outside_protection(fields.instrument, fields.price, Fraction(sum(prices), len(prices))):
                return OUTSIDE
        if fills and not fields.price:
            price = Fraction(sum(one.price * one.quantity for one in fills), sum(one.quantity for one in fills))
        else:
            price = Fraction(fields.price or fields.trigger)
        return self._accounts[order.account].refusal(order, fields, price)

    # ── fills ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _obtainable(self, order: Order, fields: OrderFields, book: _Book, snapshot: Snapshot) -> list[Fill]:
        wanted = fields.quantity - order.filled
        return obtainable(fields, wanted, snapshot, book.taken[fields.buying], self._settings)

    def _take(self, order: Order, fills: list[Fill], book: _Book, now_us: int) -> None:
        """Fill it with what there is; what is left rests, or ends."""
        taken = book.taken[order.fields.buying]
        for price, quantity in fills:
            taken[price] = taken.get(price, 0) + quantity
        self._fill(order, fills, book, now_us)
        if not order.pending:
            return
        if order.fields.at_market:
            self._end(order, orders.CANCELLED, EMPTY, now_us)
        elif order.fields.validity == "IOC":
            self._end(order, orders.CANCELLED, "What an IOC order does not get at once is cancelled.", now_us)
        else:
            book.resting.append(order)

    def _fill_resting(self, book: _Book, snapshot: Snapshot, traded: int) -> None:
        passed = self._settings.fill == "through"
        came = {buying: reach(snapshot, buying) for buying in (True, False)}
        for order in book.resting_at(snapshot.received_us):
            fields = order.fields
            if order.awaits_trigger or not reached(came[fields.buying], fields.buying, fields.price, passed):
                continue
            quantity = min(order.pending, traded)
            if not quantity:
                return
            traded -= quantity
            self._fill(order, [Fill(fields.price, quantity)], book, snapshot.received_us)
            if not order.pending:
                book.resting.remove(order)

    def _trigger(self, book: _Book, snapshot: Snapshot) -> None:
        for order in book.resting_at(snapshot.received_us):
            fields = order.fields
            if order.awaits_trigger and triggered(snapshot.last_price, fields.buying, fields.trigger):
                book.resting.remove(order)
                order.triggered = True
                order.fields = protected(fields, snapshot)
                self._step(order, snapshot.received_us, orders.OPEN)
                fills = self._obtainable(order, order.fields, book, snapshot)
                self._take(order, fills, book, snapshot.received_us)

    def _fill(self, order: Order, fills: list[Fill], book: _Book, now_us: int) -> None:
        if not fills:
            return
        account = self._accounts[order.account]
        for price, quantity in fills:
            order.filled += quantity
            order.filled_value += price * quantity
            self._trades += 1
            trade_id = f"{self._trades:08d}"
            trade = Trade(trade_id, order.order_id, order.fields, price, quantity, order.placed_us, now_us)
            position = account.book(trade)
            book.positions[position] = None
            position.last_price = (book.last and book.last.last_price) or price
        if order.pending:
            self._step(order, now_us, orders.OPEN)
        else:
            self._end(order, orders.COMPLETE, None, now_us)
        account.sample(now_us)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _end(self, order: Order, status: str, message: str | None, now_us: int) -> None:
        order.cancelled = order.pending if status == orders.CANCELLED else 0
        self._accounts[order.account].open_orders.pop(order.order_id, None)
        self._step(order, now_us, status, message)

    def _step(self, order: Order, now_us: int, status: str, message: str | None = None, *, push: bool = True) -> None:
        order.status, order.message, order.updated_us = status, message, now_us
        order.current = shown(order, self._shift_us)
        order.history.append(order.current)
        if push:
            self.updates.append(AccountOrder(order.account, postback(order.current, order.user_id)))
