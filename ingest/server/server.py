"""The server itself: the WebSocket side, a clockwork, and the faults, on one event loop.

Order of events on a connection: handshake checks, the meta texts, then whatever its requests bring. One task, the
clockwork, hands every connection what it subscribed to. That of `SteppedServer` takes the source from step to step, and
nothing in it waits for a client.

A connection that ended without the client's wish leaves a ghost behind: its subscriptions, whose packets are booked as
unsent ("down") until another connection of the account has taken over each of them.
"""

import asyncio
import datetime as dt
import inspect
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, ClassVar, Final, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ingest.server import faults
from ingest.server.admission import Accounts, Admission, ServerSettings, SteppedSettings
from ingest.server.http import HttpError, ListenError
from ingest.server.record import Ledger
from ingest.server.rest import RestServer
from ingest.server.source import AccountOrder, Ints, PacketSource, RestCall, SteppedSource
from ingest.server.subscriber import Subscriber
from ingest.server.subscriptions import Ghosts, Subscriptions

CLOSE_SECONDS: Final = 0.5
END_FLUSH_SECONDS: Final = 0.25
LATE_SECONDS: Final = 1.0  # a source further behind its clock skips steps
WATCH_SECONDS: Final = 0.25
NO_LIMIT: Final = 2**62
CLEAN_CODES: Final = (1000, 1001, 1005)  # 1005: a close frame without a code, as the official client sends


class BrokerServer(ABC):
    """The broker's protocol for what a source gives: `async with` one of them, it listens from then on."""

    lossless: ClassVar[bool] = False
    """Whether the clockwork waits for clients that are behind, which lose nothing then."""

    def __init__(self, settings: ServerSettings, source: PacketSource) -> None:
        """Raises `ServerError` if the record's folder cannot be written."""
        self.settings = settings
        self.source = source
        self.ledger = Ledger(source.tokens, settings.record)
        self.standing = faults.StandingFaults()
        self.accounts = Accounts(settings)
        self.admission = Admission(settings, self.accounts, self.standing)
        self.paused = False
        self._subscribers: list[Subscriber] = []
        self._ghosts = Ghosts()
        self._duties: list[asyncio.Task[None]] = []
        self._server: Server | None = None
        self._rest: RestServer | None = None

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; raises `ListenError`, with nothing started, if a port is taken."""
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        try:
            self._server = await serve(
                self._handle,
                settings.host,
                settings.port,
                process_request=self.admission.check,
                compression=None,
                open_timeout=120,
                ping_interval=None,  # a silent server is silent
                close_timeout=CLOSE_SECONDS,
                max_size=2**20,
                write_limit=NO_LIMIT,  # the subscriber keeps one: it never waits for a client
                logger=_silent_logger(),
            )
        except OSError as error:
            self.ledger.close()
            raise ListenError(settings.host, settings.port, error) from None
        try:
            self._rest = RestServer(settings, self.source, self.standing, self.accounts, self.control, self._call)
        except ListenError:
            self._server.close()
            await self._server.wait_closed()
            self.ledger.close()
            raise
        self._rest.start(self._loop)
        self._duties = [self._loop.create_task(duty) for duty in (self._run_clockwork(), self._run_watch())]

    async def serve_until(self, end: asyncio.Event) -> None:
        """Return once `end` is set. Raises what the source has failed of, if it does: nothing ticks then."""
        ended = self._loop.create_task(end.wait())
        await asyncio.wait([ended, *self._duties], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        for duty in self._duties:
            if duty.done():
                duty.result()

    async def stop(self) -> None:
        """Close every socket with a close frame, then everything else. Takes less than a second."""
        for duty in self._duties:
            duty.cancel()
        await asyncio.gather(*self._duties, return_exceptions=True)
        leaving = list(self._subscribers)
        for one in leaving:
            self._leave(one, "shutdown", wanted=True)
        await asyncio.gather(*(one.flushed(END_FLUSH_SECONDS) for one in leaving))
        if self._server is not None:
            self._server.close(code=1001, reason=f"{self.source.name} ends")
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
        return {"ws": f"ws://{host}:{ws_port}", "api": api, "control": f"{api}/{self.source.name}"}

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        account = self.admission.account_of(connection.request)
        subscriptions = Subscriptions(self.source, self.settings.max_subscriptions)
        sent = self.ledger.open(account.label, time.time_ns())
        cached, lossless = self.source.cached, self.lossless
        one = Subscriber(
            connection, account, subscriptions, cached, sent, self.ledger, self.settings, lossless=lossless
        )
        self._subscribers.append(one)
        try:
            meta = {"count": len(self.source), "etag": self.source.etag}
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
        self._ghosts.take_over(one.account.label, answer.taken)
        one.due_first(answer.first)
        self._requested(one)

    @abstractmethod
    def _requested(self, one: Subscriber) -> None:
        """It has asked for something, and its cached packets wait to be sent."""

    def _leave(self, one: Subscriber, reason: str, *, wanted: bool) -> None:
        """Send no more on it; it has ended, or is about to. Not `wanted`: what it misses from now on is booked."""
        if one.leaving:
            return
        one.abandon()
        self._subscribers.remove(one)
        self.ledger.closed(one.sent, reason, time.time_ns())
        if not wanted:
            same_account = [other for other in self._subscribers if other.account is one.account]
            newer = (other.subscriptions for other in same_account if other.sent.ordinal > one.sent.ordinal)
            self._ghosts.leave(one.sent, one.subscriptions, newer)

    # ── duties ───────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    async def _run_clockwork(self) -> None:
        """Hand out what ticks, as long as the server lives."""

    async def _run_watch(self) -> None:
        every = min(WATCH_SECONDS, self.settings.heartbeat_seconds / 4)
        while True:
            await asyncio.sleep(every)
            for one in list(self._subscribers):
                one.heartbeat()
                if one.watch(self._loop.time()):
                    self._leave(one, "stalled", wanted=False)
                    one.socket.transport.abort()

    def _push(self, updates: Iterable[AccountOrder], connection: int | None = None) -> int:
        """Push order updates to the sockets of their accounts, or to one of these; returns how many texts went."""
        pushed = 0
        for update in updates:
            text = json.dumps({"type": "order", "data": update.data})
            pushed += sum(one.text(text) for one in self._targets(update.account, connection))
        return pushed

    async def _call(self, route: Callable[[RestCall], Any], call: RestCall) -> Any:
        answer = route(call)
        if inspect.isawaitable(answer):
            answer = await answer
        self._push(self.source.order_updates())
        return answer

    # ── control ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def control(self, method: str, command: str, values: Any) -> dict[str, Any]:
        """What the control address answers. `values`: the query by name, or what was posted as JSON.

        `GET stats` (`instruments=1`: with every instrument), `POST faults` (one fault). Raises `ControlError` for
        what makes no sense, `HttpError` for an unknown command.
        """
        match method, command:
            case "GET", "stats":
                return self.stats(instruments=values.get("instruments", "").lower() in {"1", "true"})
            case "POST", "faults":
                return await self.apply(faults.parse_fault(values))
        raise HttpError(HTTPStatus.NOT_FOUND, "Route not found")

    def stats(self, *, instruments: bool = False) -> dict[str, Any]:
        """What was sent up to now, in total and by connection; with `instruments` also by instrument token.

        `packets` is what a receiver that loses nothing has; `unsent` says by reason what its subscriptions did not
        bring: `down`, `silent`, `slow`, `ignored`.
        """
        self.ledger.flush()
        open_ones = {one.sent.ordinal: one for one in self._subscribers}
        connections = []
        for sent in self.ledger.connections:
            one = open_ones.get(sent.ordinal)
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
            **self.source.stats(),
            "instruments_listed": len(self.source),
            "paused": self.paused,
            "refused": {str(status): count for status, count in self.admission.refused.items()},
            "connections": connections,
        }

    def pause(self, paused: bool) -> None:
        """No new packets from now on, or again; heartbeats go on."""
        self.paused = paused

    async def apply(self, fault: faults.Fault) -> dict[str, Any]:
        """Do what a fault says; returns `{"applied": how many connections, frames or orders it concerned}`."""
        applied = 0
        match fault:
            case faults.Switch(kind="clear"):
                self.standing.clear()
                for one in self._subscribers:
                    one.speak()
            case faults.Switch():
                self.pause(fault.kind == "pause")
            case faults.ReplaceToken():
                self.accounts.replace_token(fault.account, fault.access_token)
            case faults.PushOrder():
                accounts = [self.accounts.named(fault.account)] if fault.account else self.accounts
                made = [self.source.make_order(account, fault.data) for account in accounts]
                applied = self._push(made, fault.connection)
            case faults.Delay(what="frames"):
                targets = self._targets(fault.account, None)
                for one in targets:
                    one.delay_seconds = fault.by_seconds
                    if fault.seconds is not None:
                        self._loop.call_later(fault.seconds, setattr, one, "delay_seconds", 0.0)
                applied = len(targets)
            case faults.Refuse() | faults.RefuseRest() | faults.Delay() | faults.Ignore():
                self.standing.add(fault, time.monotonic())
            case _:
                applied = await self._disturb(fault, self._targets(fault.account, fault.connection))
        return {"applied": applied}

    async def _disturb(self, fault: faults.Disturbance, targets: list[Subscriber]) -> int:
        """Do it to these connections now; returns how many of them, or of frames or texts, it concerned."""
        match fault:
            case faults.Drop():
                for one in targets:
                    self._leave(one, f"close {fault.code}" if fault.how == "close" else fault.how, wanted=False)
                await asyncio.gather(*(one.cut(fault.how, fault.code) for one in targets))
            case faults.Silent():
                for one in targets:
                    one.silence(fault.seconds, fault.deaf)
            case faults.Garbage():
                return sum(one.damage(fault.form, fault.count) for one in targets)
            case faults.Truncated():
                return sum(one.damage("truncated", fault.count) for one in targets)
            case faults.PushText():
                text = fault.raw if fault.raw is not None else json.dumps({"type": fault.type, "data": fault.data})
                return sum(one.text(text) for one in targets)
        return len(targets)

    def _targets(self, account: str | None, connection: int | None) -> list[Subscriber]:
        """The open connections of an account (None: of all), or the one of that number of each."""
        return [
            one
            for one in self._subscribers
            if one.open and account in {None, one.account.label} and connection in {None, one.sent.id.connection}
        ]


class SteppedServer(BrokerServer):
    """A server whose source goes from step to step; steps that are too late are skipped."""

    def __init__(self, settings: SteppedSettings, source: SteppedSource) -> None:
        """Raises `ServerError` if the record's folder cannot be written."""
        super().__init__(settings, source)
        self._stepped = source
        self._step_seconds = 1 / settings.steps_per_second

    def _requested(self, one: Subscriber) -> None:
        if not self.paused:
            one.send_first()

    async def _run_clockwork(self) -> None:
        step = self._step_seconds
        due = self._loop.time() + step
        while True:
            await asyncio.sleep(max(due - self._loop.time(), 0))
            late = self._loop.time() - due
            if late > LATE_SECONDS:
                skipped = int(late / step)
                self._stepped.skip(skipped)
                due += skipped * step
            due += step
            if self.paused:
                self._stepped.skip(1)
                continue
            for ticked in self._stepped.step():
                self._send(ticked)
            self._push(self.source.order_updates())

    def _send(self, ticked: Ints) -> None:
        for one in list(self._subscribers):
            one.tick(ticked)
        for sent, rows, modes in self._ghosts.missed(ticked):
            frame = self.source.cached.frame(rows, modes[rows]) if self.ledger.recording else b""
            self.ledger.unsent(sent, "down", rows, frame, time.time_ns())


def _silent_logger() -> logging.Logger:
    """The library's messages may contain request lines, and those the access token: they go nowhere."""
    logger = logging.getLogger("ingest.server.websocket")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    return logger
