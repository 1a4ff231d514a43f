"""The simulator itself: the WebSocket side, the market's clockwork, and the faults, on one event loop.

Order of events on a connection: handshake checks, the meta texts, then whatever its requests bring. One task advances
the market and hands every connection what it subscribed to; nothing in it waits for a client.

A connection that ended without the client's wish leaves a ghost behind: its subscriptions, whose packets are booked as
unsent ("down") until another connection of the account has taken over each of them.
"""

import asyncio
import datetime as dt
import json
import logging
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ingest.server import faults
from ingest.server.admission import Gate
from ingest.server.record import Ledger, Sent
from ingest.server.rest import RestServer
from ingest.server.settings import AccountSettings, SimulatorError, SimulatorSettings
from ingest.server.source import Modes
from ingest.server.subscriber import Subscriber
from ingest.server.subscriptions import Subscriptions, subscribed
from ingest.simulator import Market, OrderBook

CLOSE_SECONDS: Final = 0.5
END_FLUSH_SECONDS: Final = 0.25
LATE_SECONDS: Final = 1.0  # a market further behind its clock skips steps
WATCH_SECONDS: Final = 0.25
NO_LIMIT: Final = 2**62
CLEAN_CODES: Final = (1000, 1001, 1005)  # 1005: a close frame without a code, as the official client sends


@dataclass
class _Ghost:
    account: str
    sent: Sent
    modes: Modes


class Simulator:
    """A running simulator: `async with Simulator(settings) as simulator: …`."""

    def __init__(self, settings: SimulatorSettings) -> None:
        """Lists the market; raises `SimulatorError` if the record's folder cannot be written."""
        start = settings.start or dt.datetime.now(dt.UTC)
        self.settings = settings
        self.market = Market(
            size=settings.instruments,
            seed=settings.seed,
            start=start,
            rate=settings.rate,
            steps_per_second=settings.steps_per_second,
        )
        self.ledger = Ledger(self.market.tokens, settings.record)
        self.standing = faults.Standing()
        self.paused = False
        self._orders = OrderBook(self.market)
        self.gate = Gate(settings, self.standing)
        self._subscribers: list[Subscriber] = []
        self._ghosts: list[_Ghost] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self._rest: RestServer | None = None

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> "Simulator":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; raises `SimulatorError`, with nothing started, if a port is taken."""
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        try:
            self._server = await serve(
                self._handle,
                settings.host,
                settings.port,
                process_request=self.gate.check,
                compression=None,
                open_timeout=120,
                ping_interval=None,  # a silent simulator is silent
                close_timeout=CLOSE_SECONDS,
                max_size=2**20,
                write_limit=NO_LIMIT,  # the subscriber keeps one: it never waits for a client
                logger=_silent_logger(),
            )
        except OSError as error:
            self.ledger.close()
            raise _port_error(settings.host, settings.port, error) from None
        try:
            self._rest = RestServer(settings, self.market, self.standing, self.gate.tokens, self.control)
        except OSError as error:
            self._server.close()
            await self._server.wait_closed()
            self.ledger.close()
            raise _port_error(settings.host, settings.api_port, error) from None
        self._rest.start(self._loop)
        for duty in (self._run_market(), self._run_watch(), self._run_orders()):
            self._spawn(duty)

    async def stop(self) -> None:
        """Close every socket with a close frame, then everything else. Takes less than a second."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        leaving = list(self._subscribers)
        for one in leaving:
            self._leave(one, "shutdown", wanted=True)
        await asyncio.gather(*(one.flushed(END_FLUSH_SECONDS) for one in leaving))
        if self._server is not None:
            self._server.close(code=1001, reason="simulator ends")
            await self._server.wait_closed()
        if self._rest is not None:
            await asyncio.to_thread(self._rest.stop)
        self.ledger.close()

    @property
    def urls(self) -> dict[str, str]:
        """Where it listens: `ws`, `api` and `control`."""
        assert self._server is not None
        assert self._rest is not None
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        ws_port = self._server.sockets[0].getsockname()[1]
        api = f"http://{host}:{self._rest.port}"
        return {"ws": f"ws://{host}:{ws_port}", "api": api, "control": f"{api}/simulator"}

    def _spawn(self, duty: Any) -> None:
        task = self._loop.create_task(duty)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        account = self.gate.account_of(connection.request)
        subscriptions = Subscriptions(self.market, self.settings.max_subscriptions)
        sent = self.ledger.open(account.label, time.time_ns())
        one = Subscriber(connection, account, subscriptions, self.market.images, sent, self.ledger, self.settings)
        self._subscribers.append(one)
        try:
            meta = {"count": len(self.market), "etag": f'W/"{self.settings.seed:x}-{len(self.market):x}"'}
            one.text(json.dumps({"type": "instruments_meta", "data": meta}))
            one.text(json.dumps({"type": "app_code", "timestamp": dt.datetime.now(dt.UTC).isoformat()}))
            async for message in connection:
                self._request(one, message)
        except ConnectionClosed:
            pass
        finally:
            self._leave(one, f"client {connection.close_code}", wanted=connection.close_code in CLEAN_CODES)

    def _request(self, one: Subscriber, message: str | bytes) -> None:
        if one.leaving:
            return

        def ignore_every() -> int:
            ignoring = self.standing.take(faults.Ignore, one.account.label, time.monotonic())
            return ignoring.every if ignoring else 0

        answer = one.subscriptions.request(message, ignore_every)
        if answer.error is not None:
            one.text(json.dumps({"type": "error", "data": answer.error}))
        for ghost in self._ghosts:
            if ghost.account == one.account.label:
                ghost.modes[answer.taken] = 0
        self._ghosts = [ghost for ghost in self._ghosts if ghost.modes.any()]
        one.due_first(answer.first)
        if not self.paused:
            one.send_first()

    def _leave(self, one: Subscriber, reason: str, *, wanted: bool) -> None:
        """Send no more on it; it has ended, or is about to. Not `wanted`: what it misses from now on is booked."""
        if one.leaving:
            return
        one.abandon()
        self._subscribers.remove(one)
        self.ledger.closed(one.sent, reason, time.time_ns())
        if wanted:
            return
        modes = np.maximum(one.subscriptions.modes, one.subscriptions.ignored)
        for other in self._subscribers:  # one that has already taken over
            if other.account is one.account and other.sent.ordinal > one.sent.ordinal:
                modes[(other.subscriptions.modes > 0) | (other.subscriptions.ignored > 0)] = 0
        if modes.any():
            self._ghosts.append(_Ghost(one.account.label, one.sent, modes))

    # ── duties ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_market(self) -> None:
        step = 1 / self.settings.steps_per_second
        due = self._loop.time() + step
        while True:
            await asyncio.sleep(max(due - self._loop.time(), 0))
            late = self._loop.time() - due
            if late > LATE_SECONDS:
                skipped = int(late / step)
                self.market.skip(skipped)
                due += skipped * step
            due += step
            if self.paused:
                self.market.skip(1)
                continue
            ticked = self.market.step()
            for one in list(self._subscribers):
                one.tick(ticked)
            for ghost in self._ghosts:
                rows = subscribed(ghost.modes, ticked)
                if len(rows):
                    frame = self.market.images.frame(rows, ghost.modes[rows]) if self.ledger.recording else b""
                    self.ledger.unsent(ghost.sent, "down", rows, frame, time.time_ns())

    async def _run_watch(self) -> None:
        every = min(WATCH_SECONDS, self.settings.heartbeat_seconds / 4)
        while True:
            await asyncio.sleep(every)
            for one in list(self._subscribers):
                one.heartbeat()
                if one.watch(self._loop.time()):
                    self._leave(one, "stalled", wanted=False)
                    one.socket.transport.abort()

    async def _run_orders(self) -> None:
        while self.settings.order_seconds:
            await asyncio.sleep(self.settings.order_seconds)
            for account in self.settings.accounts if not self.paused else ():
                self._push_order(account, faults.Order(kind="order"))

    def _push_order(self, account: AccountSettings, order: faults.Order) -> int:
        text = json.dumps(self._orders.update(account, order.data))
        return sum(one.text(text) for one in self._targets(order) if one.account is account)

    # ── control ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def control(self, command: str, values: Any) -> dict[str, Any]:
        """`stats` (values: with every instrument or not) or `faults` (values: one fault as JSON has it).

        Raises `FaultError` for what is no fault.
        """
        if command == "stats":
            return self.stats(instruments=bool(values))
        return await self.apply(faults.parse_fault(values))

    def stats(self, *, instruments: bool = False) -> dict[str, Any]:
        """What was sent up to now, in total and by connection; with `instruments` also by instrument token.

        `packets` is what a receiver that loses nothing has; `unsent` says by reason what its subscriptions did not
        bring: `down`, `silent`, `slow`, `ignored`.
        """
        self.ledger.flush()
        unread = {one.sent.ordinal: one for one in self._subscribers}
        connections = []
        for sent in self.ledger.connections:
            one = unread.get(sent.ordinal)
            connections.append(
                {
                    **sent.summary(),
                    "open": one is not None and one.open,
                    "subscribed": len(one.subscriptions) if one else 0,
                    "unread_bytes": one.unread_bytes if one else 0,
                    **(self.ledger.by_instrument(sent) if instruments else {}),
                }
            )
        return {
            **self.ledger.totals(),
            "steps": self.market.steps,
            "market_seconds": self.market.seconds,
            "instruments_listed": len(self.market),
            "orders": self._orders.made,
            "paused": self.paused,
            "refused": {str(status): count for status, count in self.gate.refused.items()},
            "connections": connections,
        }

    async def apply(self, fault: faults.Fault) -> dict[str, Any]:
        """Do what a fault says; returns `{"applied": how many connections, frames or orders it concerned}`."""
        applied = 0
        match fault:
            case faults.Plain():
                self._plain(fault.kind)
            case faults.Token():
                account = self.gate.named(fault.account)
                self.gate.tokens[account.api_key] = fault.access_token.get_secret_value()
            case faults.Drop():
                targets = self._targets(fault)
                for one in targets:
                    self._leave(one, f"close {fault.code}" if fault.how == "close" else fault.how, wanted=False)
                await asyncio.gather(*(one.cut(fault.how, fault.code) for one in targets))
                applied = len(targets)
            case faults.Silent():
                for one in (targets := self._targets(fault)):
                    one.silence(fault.seconds, fault.deaf)
                applied = len(targets)
            case faults.Garbage():
                applied = sum(one.damage(fault.form, fault.count) for one in self._targets(fault))
            case faults.Truncated():
                applied = sum(one.damage("truncated", fault.count) for one in self._targets(fault))
            case faults.Order():
                accounts = [self.gate.named(fault.account)] if fault.account else self.settings.accounts
                applied = sum(self._push_order(account, fault) for account in accounts)
            case faults.Text():
                text = fault.raw if fault.raw is not None else json.dumps({"type": fault.type, "data": fault.data})
                applied = sum(one.text(text) for one in self._targets(fault))
            case faults.Delay(what="frames"):
                for one in (targets := self._targets(faults.Silent(kind="silent", account=fault.account))):
                    one.delay_seconds = fault.by_seconds
                    if fault.seconds is not None:
                        self._loop.call_later(fault.seconds, setattr, one, "delay_seconds", 0.0)
                applied = len(targets)
            case faults.Refuse() | faults.Rest() | faults.Delay() | faults.Ignore():
                self.standing.add(fault, time.monotonic())
        return {"applied": applied}

    def _plain(self, kind: str) -> None:
        if kind == "clear":
            self.standing.clear()
            for one in self._subscribers:
                one.speak()
        else:
            self.paused = kind == "pause"

    def _targets(self, fault: Any) -> list[Subscriber]:
        return [
            one
            for one in self._subscribers
            if one.open
            and fault.account in {None, one.account.label}
            and fault.connection in {None, one.sent.id.connection}
        ]


def _port_error(host: str, port: int, error: OSError) -> SimulatorError:
    return SimulatorError(f"cannot listen on {host} port {port}: {error.strerror or error}")


def _silent_logger() -> logging.Logger:
    """The library's messages may contain request lines, and those the access token: they go nowhere."""
    logger = logging.getLogger("ingest.simulator.websocket")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    return logger
