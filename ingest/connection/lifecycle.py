"""The life of one connection, with its socket and its tasks: connect, subscribe, watch, wait, connect again.

Frames go from the socket to the sink inside of `receiver`, which has no tasks and no queues. What happens is journalled
beside the frames, as `Kind.EVENT` records with the JSON `{"event": …, "message": …, "data": {…}}`, in the order in
which it happened; see `storage.events.Event`. No text leaves that has not passed through the account's redactor: the
access token is in the URL's query, see `handshake`, and the library's exceptions may quote it.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ingest.accounts import Account, Credentials, RedactingLogger
from ingest.connection.handshake import shake_hands
from ingest.connection.hub import Hub
from ingest.connection.receiver import Receiver
from ingest.connection.session import (
    Action,
    Failure,
    Input,
    Reason,
    State,
    StreamSession,
    SubscriptionMessage,
    classify,
)
from ingest.connection.stats import Traffic
from ingest.connection.watchdog import Complaints, StreamWatchdog, Supervisor
from ingest.settings import StreamSettings
from storage.clock import NS_PER_US
from storage.events import Event
from storage.journal import Kind

MAX_MESSAGE: Final = 500
"""Characters of an event's message."""
FORCE_SECONDS: Final = 0.25
"""On top of the close timeout, for a peer that does not even read."""

log = logging.getLogger(__name__)

_LEVEL: Final = {
    Event.SILENT: logging.WARNING,
    Event.SUBSCRIBED: logging.DEBUG,
    Event.UNSUBSCRIBED: logging.DEBUG,
    Event.MODE: logging.DEBUG,
    Event.HELD: logging.DEBUG,
}
_SENT: Final = {
    Action.SUBSCRIBE: Event.SUBSCRIBED,
    Action.UNSUBSCRIBE: Event.UNSUBSCRIBED,
    Action.MODE: Event.MODE,
}


class Lifecycle:
    """Keeps one connection open from `start` to `close`, whatever befalls its sockets. Belongs to one event loop.

    `failure` is why the last attempt or socket ended. `changed` is called whenever it opens or ends.
    """

    def __init__(
        self,
        account: Account,
        number: int,
        session: StreamSession,
        settings: StreamSettings,
        hub: Hub,
        credentials: Credentials,
        ws_url: str,
        changed: Callable[[], None],
    ) -> None:
        self.failure: Failure | None = None
        self.traffic = Traffic()
        self.watchdog = StreamWatchdog(settings)
        self._session = session
        self._settings = settings
        self._account = account
        self._name = f"{account.name}/{number}"
        self._credentials = credentials
        self._ws_url = ws_url
        self._report = changed
        self._redact = account.redactor()
        self._logger = RedactingLogger(logging.getLogger(f"{__name__}.websocket"), self._redact)
        self._hub = hub
        self._channel = hub.channel(account.name, number)
        self._receiver: Receiver | None = None
        self._task: asyncio.Task[None] | None = None
        self._dead: Failure | None = None  # why we have ended a socket, until its end is reported
        self._lost_at: float | None = None
        self._asked_ns: dict[int, int] = {}  # when the server was asked for an instrument, on this socket
        self._asking: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
        self.supervisor = Supervisor(
            self._name,
            settings,
            session,
            self.watchdog,
            self.traffic,
            silent=self._silent,
            barren=self._barren,
            complain=self._ask_again,
        )
        if not settings.raw_only:
            hub.tap(self._channel, self.supervisor.take)

    @property
    def runs(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin to connect, in a task of the running loop."""
        self._session.step(Input.START)
        self._task = asyncio.create_task(self._run(), name=f"kitelake {self._name}")

    async def close(self) -> None:
        """Close cleanly, forcibly after `close_timeout_seconds`. Safe to call twice, and before `start`."""
        receiver = self._receiver
        if self._session.state is State.OPEN and receiver is not None:
            self._session.step(Input.CLOSE)
            try:
                async with asyncio.timeout(self._settings.close_timeout_seconds + FORCE_SECONDS):
                    await receiver.close()
            except TimeoutError:
                receiver.transport.abort()
        elif self._session.state is not State.CLOSING:
            self._session.step(Input.CLOSE)
            if self._task is not None:
                self._task.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def send(self) -> None:
        """Send what is to be sent, in order. What cannot be sent follows after the next opening."""
        async with self._sending:
            receiver = self._receiver
            if receiver is None:
                return
            with contextlib.suppress(ConnectionClosed):
                for message in (messages := self._session.messages_to_send()):
                    await receiver.send(message.text)
                    self._sent(message)
                if messages:
                    self.supervisor.look()
                    self.watchdog.told(self._session.wanted, time.monotonic())

    def note_held(self) -> None:
        """Journal what the server was asked for and when, if there is something: for readers of one day's events."""
        if self._receiver is not None and self._asked_ns:
            since_us = [ns // NS_PER_US for ns in self._asked_ns.values()]
            text = f"{len(since_us):,} instruments"
            self._event(Event.HELD, text, tokens=list(self._asked_ns), since_us=since_us)

    async def _run(self) -> None:
        try:
            while True:
                delay = self._ended(await self._live())
                self._changed()
                if self._session.state is State.UNAUTHORIZED:
                    await self._credentials.wait()
                elif delay is not None:
                    await asyncio.sleep(delay)
                else:
                    return
                self._session.step(Input.DUE)
        except asyncio.CancelledError:
            if self._session.state is not State.CLOSED:  # not by `close`: whoever cancels the task wants to know
                raise
            self._event(Event.CLOSED, "closed while not connected", by="us", clean=True)

    async def _live(self) -> Failure:
        """One socket, from the attempt to its end. Returns why it ended."""
        try:
            token = await self._credentials.token()
            try:
                receiver = await self._connect(token)
            except Exception as error:
                if (failure := classify(error)).reason is Reason.CREDENTIALS:
                    self._credentials.refuse(token)
                return failure
            self._credentials.accept(token)
            await self.send()
            if self._lost_at is not None:
                down_seconds = round(time.monotonic() - self._lost_at, 3)
                instruments = len(self._session.wanted)
                text = f"{instruments:,} instruments subscribed again after {down_seconds:.1f} s"
                self._event(Event.RESUMED, text, down_seconds=down_seconds, instruments=instruments)
            await receiver.wait_closed()
            failure = classify(receiver.close_exc)
        except Exception as error:  # whatever it is, the connection goes on: it has nobody else
            failure = classify(error)
        finally:
            self.supervisor.stop()
            if self._asking is not None:
                self._asking.cancel()
            if self._receiver is not None:
                self._receiver.transport.abort()
                self._receiver = None
        return failure if self._dead is None else self._dead

    async def _connect(self, token: SecretStr) -> ClientConnection:
        receiver = partial(
            Receiver,
            sink=self._hub,
            channel=self._channel,
            traffic=self.traffic,
            opened=self._opened,
            max_frame_bytes=self._settings.max_frame_bytes,
            redact=self._redact,
            pacer=self._hub.pacer,
            rest_seconds=self._settings.rest_seconds,
        )
        return await shake_hands(self._ws_url, self._account.api_key, token, self._settings, receiver, self._logger)

    def _opened(self, receiver: Receiver) -> None:
        """The handshake is done. Called from inside of the read, so that this event stands before the first frame."""
        if self._session.state is not State.CONNECTING:  # closed a moment ago
            receiver.transport.abort()
            return
        self._receiver = receiver
        self._asked_ns.clear()
        self._session.opened(time.monotonic())
        self._event(Event.CONNECTED, f"opening {self._session.openings}", opening=self._session.openings)
        self.supervisor.opened(asyncio.get_running_loop().call_later)
        self._changed()

    def _ended(self, failure: Failure) -> float | None:
        """Report why the attempt or the socket ended. Returns how long to wait before the next attempt, None for none.

        An open socket that ends is `closed`, by us if the owner closed it or we gave it up; an attempt that fails is
        `refused`. If no further attempt makes sense, `failed` says so, and once only.
        """
        before = self._session.state
        self.failure = failure
        dead, self._dead = self._dead, None
        delay = self._session.lost(failure, time.monotonic())
        data: dict[str, Any] = {"reason": failure.reason, "code": failure.code}
        if delay is not None:
            data["retry_in_seconds"] = round(delay, 3)
        clean = failure.code is not None  # a close frame came
        if before is State.CLOSING:
            text = "closed by us" if clean else f"closed by us, by force: {failure.message}"
            self._event(Event.CLOSED, text, by="us", clean=clean)
            self._lost_at = None
        elif before is State.OPEN:
            self._lost_at = self.traffic.last_bytes_at
            by = "us" if failure is dead else "peer"
            self._event(Event.CLOSED, failure.message, by=by, clean=clean, **data)
        elif self._session.state is not State.FAILED:
            self._event(Event.REFUSED, failure.message, **data)
        if self._session.state is State.FAILED:
            self._event(Event.FAILED, f"no further attempt: {failure.message}", **data)
        return delay

    def _changed(self) -> None:
        try:
            self._report()
        except Exception as error:  # whoever listens must not end the connection
            log.error("%s: %s: %s", self._name, type(error).__name__, error)

    def _silent(self, seconds: float) -> None:
        text = f"nothing came for {seconds:.1f} s"
        self._event(Event.SILENT, f"{text}: the peer counts as dead", silent_seconds=round(seconds, 3))
        self._give_up(Failure(Reason.SILENT, text))

    def _barren(self) -> None:
        seconds = self._settings.answer_seconds
        text = f"no packet for {seconds:.0f} s after an instrument was asked for again"
        self._give_up(Failure(Reason.BARREN, text))

    def _give_up(self, failure: Failure) -> None:
        """End this socket for a reason of ours."""
        self._dead = failure
        if self._receiver is not None:
            self._receiver.transport.abort()

    def _ask_again(self, complaints: Complaints) -> None:
        """Ask once more for what does not come as it was asked for. That of the probe alone is no news."""
        asked = {"silent": complaints.silent, "wrong_mode": complaints.wrong_mode, "unwanted": complaints.unwanted}
        if any(asked.values()):
            text = ", ".join(f"{len(tokens):,} {what.replace('_', ' of ')}" for what, tokens in asked.items() if tokens)
            self._event(Event.ASKED_AGAIN, text, **asked)
        self._session.ask_again([*complaints.silent, *([complaints.probe] if complaints.probe else [])])
        self._session.ask_mode(complaints.wrong_mode)
        self._session.ask_to_stop(complaints.unwanted)
        self._asking = asyncio.create_task(self.send())

    def _sent(self, message: SubscriptionMessage) -> None:
        data: dict[str, Any] = {"tokens": message.tokens}
        text = f"{len(message.tokens):,} instruments"
        if message.mode is not None:
            data["mode"] = message.mode
            text += f" in mode {message.mode}"
        at_ns = self._event(_SENT[message.action], text, **data)
        for token in message.tokens:
            if message.action is Action.SUBSCRIBE:
                self._asked_ns.setdefault(token, at_ns)
            elif message.action is Action.UNSUBSCRIBE:
                self._asked_ns.pop(token, None)

    def _event(self, event: Event, message: str, **data: Any) -> int:
        """Log and journal it. Returns when it happened, in ns since 1970."""
        text = self._redact(message)[:MAX_MESSAGE]  # in this order: half a secret would pass
        level = logging.WARNING if "reason" in data else _LEVEL.get(event, logging.INFO)
        log.log(level, "%s %s: %s", self._name, event, text)
        payload = json.dumps({"event": event, "message": text, "data": data}).encode()
        at_ns = time.time_ns()
        try:
            self._hub.append(Kind.EVENT, self._channel, at_ns, payload)
        except Exception as error:  # a sink that fails must not end the connection as well
            log.error("event %s was not journalled: %s: %s", event, type(error).__name__, error)
        return at_ns
