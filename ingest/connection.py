"""One WebSocket to the broker, kept alive: the shell around `ingest.session` that has the socket and the clock.

Frames go from the socket to the sink inside of `ingest.receiver`, which has no tasks and no queues. Here are the tasks:
connect, subscribe, watch, wait, connect again.

What happens to the connection is journalled beside the frames, as `Kind.EVENT` records with the JSON
`{"event": …, "message": …, "data": {…}}`, in the order in which it happened. See `Event`.

The access token is in the URL's query. The URL is made for the call that connects and kept nowhere, the library's
logger is a `RedactingLogger`, exceptions of the library end here as redacted texts, and redirects are not followed.
"""

import asyncio
import contextlib
import ipaddress
import json
import logging
import random as chance
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from typing import Any, Final, cast
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ingest.receiver import Receiver, Sink, Traffic
from ingest.redact import Account, RedactingLogger
from ingest.session import Action, ConnectionSettings, Failure, Input, Message, Reason, Session, State, classify
from ingest.wire import Mode
from storage.journal import Kind

HEADERS: Final = {"X-Kite-Version": "3"}
USER_AGENT: Final = "kitelake"
WRITE_LIMIT_BYTES: Final = 1 << 20  # all messages of a full connection fit, so that sending hardly ever waits
MAX_MESSAGE: Final = 500  # characters of an event's message
FORCE_SECONDS: Final = 0.25  # on top of the close timeout, for a peer that does not even read

log = logging.getLogger(__name__)


class Event(StrEnum):
    """What is told about a connection. `data` has what is named here."""

    CONNECTED = "connected"  # the handshake is done. opening: its number, from 1
    RESUMED = "resumed"  # after a reconnect everything is subscribed again. down_seconds, instruments
    CLOSED = "closed"  # an open socket ended. by: us or peer; clean; if not as wanted: reason, code, retry_in_seconds
    REFUSED = "refused"  # an attempt failed. reason, code, retry_in_seconds
    FAILED = "failed"  # no further attempt is made. reason, code
    SILENT = "silent"  # nothing came for too long: the peer counts as dead. silent_seconds
    SUBSCRIBED = "subscribed"  # was sent. tokens
    UNSUBSCRIBED = "unsubscribed"  # was sent. tokens
    MODE = "mode"  # was sent. mode, tokens


_LEVEL: Final = {
    Event.SILENT: logging.WARNING,
    Event.SUBSCRIBED: logging.DEBUG,
    Event.UNSUBSCRIBED: logging.DEBUG,
    Event.MODE: logging.DEBUG,
}
_SENT: Final = {
    Action.SUBSCRIBE: Event.SUBSCRIBED,
    Action.UNSUBSCRIBE: Event.UNSUBSCRIBED,
    Action.MODE: Event.MODE,
}


@dataclass(frozen=True)
class ConnectionStats:
    """One connection at one moment. `bytes` as read from the socket; ages in seconds, None before the first byte."""

    account: str
    connection: int
    state: State
    instruments: int
    frames: int
    bytes: int
    reconnects: int
    last_frame_age_seconds: float | None

    @property
    def connected(self) -> bool:
        return self.state is State.OPEN


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow none: the token is for this server only."""
        return exc


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the system's certificates takes longer than many frames."""
    return ssl.create_default_context()


def _is_loopback(host: str | None) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host or "").is_loopback
    return host == "localhost"


def check_ws_url(url: str) -> str:
    """The address as it is. Raises ValueError, without quoting what may hold a token, for one that cannot be used."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("expected ws://HOST or wss://HOST as the address of the stream, without user and query")
    return url


class KiteConnection:
    """One connection of one account: `start`, `subscribe`, `close`; reconnects by itself until closed.

    Belongs to one event loop. What it wants to stream may be set at any time, connected or not. Nothing here raises
    because of the network: what happens is told by events and `stats`.
    """

    def __init__(
        self,
        account: Account,
        number: int,
        settings: ConnectionSettings,
        sink: Sink,
        *,
        ws_url: str,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self.account = account
        self.number = number
        self.settings = settings
        self.session = Session(settings, random)
        self._ws_url = check_ws_url(ws_url)
        self._sink = sink
        self._channel = sink.channel(account.name, number)
        self._redact = account.redactor()
        self._logger = RedactingLogger(logging.getLogger(f"{__name__}.websocket"), self._redact)
        self._traffic = Traffic()
        self._receiver: Receiver | None = None
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._silence: float | None = None
        self._lost_at: float | None = None
        self._sending = asyncio.Lock()

    def __repr__(self) -> str:
        return f"KiteConnection({self.account.name!r}, {self.number}, {self.session.state})"

    @property
    def instruments(self) -> Mapping[int, Mode]:
        """What is wanted: token -> mode."""
        return self.session.wanted

    def stats(self) -> ConnectionStats:
        """The counts of this moment. Costs about a microsecond."""
        last = self._traffic.last_bytes_at
        return ConnectionStats(
            account=self.account.name,
            connection=self.number,
            state=self.session.state,
            instruments=len(self.session.wanted),
            frames=self._traffic.frames,
            bytes=self._traffic.bytes,
            reconnects=max(0, self.session.openings - 1),
            last_frame_age_seconds=None if last is None else time.monotonic() - last,
        )

    def start(self) -> None:
        """Begin to connect, in a task of the running loop. Safe to call twice; after `close` it begins anew."""
        if self._task is None or self._task.done():
            self.session.step(Input.START)
            self._task = asyncio.create_task(self._run(), name=f"kitelake {self.account.name}/{self.number}")

    async def subscribe(self, tokens: Iterable[int], mode: Mode = Mode.QUOTE) -> None:
        """Stream these instruments in this mode from now on, also after reconnects. Sent at once when connected."""
        self.session.subscribe(tokens, mode)
        await self._send()

    async def unsubscribe(self, tokens: Iterable[int]) -> None:
        """Stream these no more; unknown ones are ignored."""
        self.session.unsubscribe(tokens)
        await self._send()

    async def close(self) -> None:
        """Close cleanly, forcibly after `close_timeout_seconds`. Safe to call twice.

        Every frame that the server sent before its close frame is in the sink when this returns.
        """
        receiver = self._receiver
        if self.session.state is State.OPEN and receiver is not None:
            self.session.step(Input.CLOSE)
            try:
                async with asyncio.timeout(self.settings.close_timeout_seconds + FORCE_SECONDS):
                    await receiver.close()
            except TimeoutError:
                receiver.transport.abort()
        elif self.session.state is not State.CLOSING:
            self.session.step(Input.CLOSE)
            if self._task is not None:
                self._task.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            while (delay := self._ended(await self._live())) is not None:
                await asyncio.sleep(delay)
                self.session.step(Input.DUE)
        except asyncio.CancelledError:
            if self.session.state is not State.CLOSED:  # not by `close`: whoever cancels the task wants to know
                raise
            self._event(Event.CLOSED, "closed while not connected", by="us", clean=True)

    async def _live(self) -> Failure:
        """One socket, from the attempt to its end. Returns why it ended."""
        self._silence = None
        try:
            receiver = await self._connect()
            await self._send()
            if self._lost_at is not None:
                down_seconds = round(time.monotonic() - self._lost_at, 3)
                instruments = len(self.session.wanted)
                text = f"{instruments:,} instruments subscribed again after {down_seconds:.1f} s"
                self._event(Event.RESUMED, text, down_seconds=down_seconds, instruments=instruments)
            await receiver.wait_closed()
            failure = classify(receiver.close_exc)
        except Exception as error:  # whatever it is, the connection goes on: it has nobody else
            failure = classify(error)
        finally:
            if self._watch is not None:
                self._watch.cancel()
            if self._receiver is not None:
                self._receiver.transport.abort()
                self._receiver = None
        if self._silence is not None:
            return Failure(Reason.SILENT, f"nothing came for {self._silence:.1f} s")
        return failure

    async def _connect(self) -> ClientConnection:
        query = urlencode(
            {"api_key": self.account.api_key, "access_token": self.account.access_token.get_secret_value()}
        )
        parts = urlsplit(self._ws_url)
        settings = self.settings
        receiver = partial(
            Receiver,
            sink=self._sink,
            channel=self._channel,
            traffic=self._traffic,
            opened=self._opened,
            max_frame_bytes=settings.max_frame_bytes,
            redact=self._redact,
        )
        return await _Connect(
            f"{self._ws_url}?{query}",
            additional_headers=HEADERS,
            user_agent_header=USER_AGENT,
            compression=None,
            proxy=None if _is_loopback(parts.hostname) else True,
            open_timeout=settings.open_timeout_seconds,
            close_timeout=settings.close_timeout_seconds,
            ping_interval=None,  # the server's heartbeats say more, and sooner
            max_size=settings.max_frame_bytes,
            max_queue=None,  # nothing is queued
            write_limit=WRITE_LIMIT_BYTES,
            logger=self._logger,
            create_connection=cast("type[ClientConnection]", receiver),
            ssl=_tls() if parts.scheme == "wss" else None,
        )

    def _opened(self, receiver: Receiver) -> None:
        """The handshake is done. Called from inside of the read, so that this event stands before the first frame."""
        if self.session.state is not State.CONNECTING:  # closed a moment ago
            receiver.transport.abort()
            return
        self._receiver = receiver
        self.session.opened(time.monotonic())
        self._event(Event.CONNECTED, f"opening {self.session.openings}", opening=self.session.openings)
        self._look()

    def _look(self) -> None:
        """Is the peer alive? Looks again at the earliest moment at which it may count as dead."""
        assert self._receiver is not None
        assert self._traffic.last_bytes_at is not None
        now = time.monotonic()
        self._silence = self.session.silent_for(now, self._traffic.last_bytes_at)
        if self._silence is None:
            rest = self._traffic.last_bytes_at + self.settings.liveness_seconds - now
            self._watch = asyncio.get_running_loop().call_later(max(rest, 0.001), self._look)
            return
        text = f"nothing came for {self._silence:.1f} s: the peer counts as dead"
        self._event(Event.SILENT, text, silent_seconds=round(self._silence, 3))
        self._receiver.transport.abort()

    async def _send(self) -> None:
        """Send what is to be sent, in order. What cannot be sent is told again after the next opening."""
        async with self._sending:
            receiver = self._receiver
            if receiver is None:
                return
            with contextlib.suppress(ConnectionClosed):
                for message in self.session.messages_to_send():
                    await receiver.send(message.text)
                    self._sent(message)

    def _sent(self, message: Message) -> None:
        data: dict[str, Any] = {"tokens": message.tokens}
        text = f"{len(message.tokens):,} instruments"
        if message.mode is not None:
            data["mode"] = message.mode
            text += f" in mode {message.mode}"
        self._event(_SENT[message.action], text, **data)

    def _ended(self, failure: Failure) -> float | None:
        """Tell why the attempt or the socket ended. Returns how long to wait before the next attempt, None for none."""
        before = self.session.state
        delay = self.session.lost(failure, time.monotonic())
        data: dict[str, Any] = {"reason": failure.reason, "code": failure.code}
        if delay is not None:
            data["retry_in_seconds"] = round(delay, 3)
        clean = failure.code is not None  # a close frame came
        if before is State.CLOSING:
            text = "closed by us" if clean else f"closed by us, by force: {failure.message}"
            self._event(Event.CLOSED, text, by="us", clean=clean)
            self._lost_at = None
        elif before is State.OPEN:
            self._lost_at = self._traffic.last_bytes_at
            by = "us" if failure.reason is Reason.SILENT else "peer"
            self._event(Event.CLOSED, failure.message, by=by, clean=clean, **data)
        elif delay is not None:
            self._event(Event.REFUSED, failure.message, **data)
        if self.session.state is State.FAILED:
            self._event(Event.FAILED, f"no further attempt: {failure.message}", **data)
        return delay

    def _event(self, event: Event, message: str, **data: Any) -> None:
        text = self._redact(message)[:MAX_MESSAGE]  # in this order: half a secret would pass
        level = logging.WARNING if "reason" in data else _LEVEL.get(event, logging.INFO)
        log.log(level, "%s/%d %s: %s", self.account.name, self.number, event, text)
        payload = json.dumps({"event": event, "message": text, "data": data}).encode()
        try:
            self._sink.append(Kind.EVENT, self._channel, time.time_ns(), payload)
        except Exception as error:  # a sink that fails must not end the connection as well
            log.error("event %s was not journalled: %s: %s", event, type(error).__name__, error)
