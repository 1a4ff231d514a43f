"""One WebSocket to the broker, kept alive: the shell around `ingest.connection.session` that has the socket and the clock.

Frames go from the socket to the sink inside of `ingest.connection.receiver`, which has no tasks and no queues. Here are the tasks:
connect, subscribe, watch, wait, connect again.

What happens to the connection is journalled beside the frames, as `Kind.EVENT` records with the JSON
`{"event": …, "message": …, "data": {…}}`, in the order in which it happened. See `Event`.

The access token is in the URL's query, see `ingest.connection.handshake`. The library's logger is a `RedactingLogger`, and exceptions
of the library end here as redacted texts.
"""

import asyncio
import contextlib
import json
import logging
import random as chance
import time
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ingest.accounts import Account, Credentials, RedactingLogger
from ingest.connection.feeds import Feeds
from ingest.connection.handshake import WS_URL, check_ws_url, dial
from ingest.connection.hub import Hub
from ingest.connection.receiver import Receiver, Sink, Traffic
from ingest.connection.session import (
    Action,
    Failure,
    Input,
    Message,
    Reason,
    Session,
    State,
    as_mode,
    as_token,
    classify,
)
from ingest.connection.stats import ConnectionStats
from ingest.connection.watchdog import Watch
from ingest.errors import CapacityError
from ingest.settings import MAX_INSTRUMENTS, StreamSettings
from ingest.wire import Mode
from storage.journal import Kind

MAX_MESSAGE: Final = 500  # characters of an event's message
LOOK_FRAMES: Final = 256  # so many frames at most are looked into at once
CHECK_SECONDS: Final = 0.5
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
    ASKED_AGAIN = (
        "asked again"  # the server does not stream what it was asked for. silent, wrong_mode, unwanted: tokens
    )


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


def check_room(instruments: int) -> None:
    """Raises CapacityError for more instruments than one connection carries."""
    if instruments > MAX_INSTRUMENTS:
        raise CapacityError(
            f"{instruments:,} instruments do not fit on a connection: {MAX_INSTRUMENTS:,} is the capacity",
            wanted=instruments,
            capacity=MAX_INSTRUMENTS,
        )


class KiteConnection(Feeds):
    """One connection of one account: `start`, `subscribe`, read, `close`; reconnects by itself until closed.

    `async with KiteConnection(account) as connection: …` starts and closes it. Belongs to one event loop. What it wants
    to stream may be set at any time, connected or not. Nothing here raises because of the network: what happens is told
    by `events()` and `stats()`. `sink`, such as a journal, gets every record; a `Hub` may be shared.
    """

    def __init__(
        self,
        account: Account,
        number: int = 1,
        settings: StreamSettings | None = None,
        sink: Sink | None = None,
        *,
        ws_url: str = WS_URL,
        credentials: Credentials | None = None,
        changed: Callable[["KiteConnection"], None] = lambda _: None,
        random: Callable[[], float] = chance.random,
    ) -> None:
        """`changed` is called whenever it opens or ends. Raises ValueError for a bad address."""
        self.account = account
        self.number = number
        self.settings = settings if settings is not None else StreamSettings()
        self.session = Session(self.settings, random)
        self.watch = Watch(self.settings)
        self.failure: Failure | None = None
        hub = sink if isinstance(sink, Hub) else Hub(sink)
        super().__init__(hub, self.settings)
        self._owns_hub = hub is not sink
        self._ws_url = check_ws_url(ws_url)
        self._credentials = credentials if credentials is not None else Credentials(account, self.settings)
        self._owns_credentials = credentials is None
        self._tell = changed
        self._channel = hub.channel(account.name, number)
        self._frames: list[bytes] = []
        if not self.settings.raw_only:
            hub.tap(self._channel, self._tapped)
        self._redact = account.redactor()
        self._logger = RedactingLogger(logging.getLogger(f"{__name__}.websocket"), self._redact)
        self._traffic = Traffic()
        self._receiver: Receiver | None = None
        self._task: asyncio.Task[None] | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._check_timer: asyncio.TimerHandle | None = None
        self._checking: asyncio.Task[None] | None = None
        self._dead: Failure | None = None
        self._lost_at: float | None = None
        self._sending = asyncio.Lock()

    def __repr__(self) -> str:
        return f"KiteConnection({self.account.name!r}, {self.number}, {self.session.state})"

    @property
    def instruments(self) -> Mapping[int, Mode]:
        """What is wanted: token -> mode."""
        return self.session.wanted

    def stats(self) -> ConnectionStats:
        """The counts of this moment. Costs some microseconds."""
        self._look_into_frames()
        now = time.monotonic()
        last = self._traffic.last_bytes_at
        is_open = self.session.state is State.OPEN
        raw = self.settings.raw_only
        p50, p99 = self._hub.latencies(self.account.name, self.number) or (None, None)
        return ConnectionStats(
            account=self.account.name,
            connection=self.number,
            state=self.session.state,
            instruments=len(self.session.wanted),
            frames=self._traffic.frames,
            packets=None if raw else self.watch.packets,
            bytes=self._traffic.bytes,
            decode_failures=None if raw else self.watch.decode_failures,
            reconnects=max(0, self.session.openings - 1),
            silent=len(self.watch.silent),
            wrong_mode=len(self.watch.wrong_mode),
            asked_again=self.watch.asked_again,
            last_frame_age_seconds=None if last is None else now - last,
            uptime_seconds=now - self.session.opened_at if is_open else None,
            latency_p50_seconds=p50,
            latency_p99_seconds=p99,
            problem=None if is_open or self.failure is None else self._redact(self.failure.message)[:MAX_MESSAGE],
        )

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to connect, in a task of the running loop. Safe to call twice; after `close` it begins anew."""
        if self._task is None or self._task.done():
            if self._owns_hub:
                self._hub.open()
            self.session.step(Input.START)
            self._task = asyncio.create_task(self._run(), name=f"kitelake {self.account.name}/{self.number}")

    async def want(self, instruments: Mapping[int, Mode]) -> None:
        """Stream these (token -> mode) and no others from now on; only the difference is sent.

        Raises InstrumentError or CapacityError, with nothing changed, for what is no token or mode, or too many.
        """
        instruments = {as_token(token): as_mode(mode) for token, mode in instruments.items()}
        check_room(len(instruments))
        self.session.want(instruments)
        await self._send()

    async def subscribe(self, tokens: Iterable[int], mode: Mode = Mode.QUOTE) -> None:
        """Stream these instruments in this mode from now on, also after reconnects. Sent at once when connected.

        Raises InstrumentError for what is no token or mode, CapacityError for more than 3000 in all; nothing is sent
        then.
        """
        new, mode = dict.fromkeys(map(as_token, tokens)), as_mode(mode)
        check_room(len(new.keys() | self.session.wanted.keys()))
        self.session.subscribe(new, mode)
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
        if self._owns_credentials:
            await self._credentials.close()
        if self._owns_hub:
            self._hub.close()

    async def _run(self) -> None:
        try:
            while True:
                delay = self._ended(await self._live())
                self._changed()
                if self.session.state is State.UNAUTHORIZED:
                    await self._credentials.wait()
                elif delay is not None:
                    await asyncio.sleep(delay)
                else:
                    return
                self.session.step(Input.DUE)
        except asyncio.CancelledError:
            if self.session.state is not State.CLOSED:  # not by `close`: whoever cancels the task wants to know
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
            for timer in (self._watch_timer, self._check_timer):
                if timer is not None:
                    timer.cancel()
            if self._checking is not None:
                self._checking.cancel()
            if self._receiver is not None:
                self._receiver.transport.abort()
                self._receiver = None
        return failure if self._dead is None else self._dead

    async def _connect(self, token: SecretStr) -> ClientConnection:
        receiver = partial(
            Receiver,
            sink=self._hub,
            channel=self._channel,
            traffic=self._traffic,
            opened=self._opened,
            max_frame_bytes=self.settings.max_frame_bytes,
            redact=self._redact,
        )
        return await dial(self._ws_url, self.account.api_key, token, self.settings, receiver, self._logger)

    def _opened(self, receiver: Receiver) -> None:
        """The handshake is done. Called from inside of the read, so that this event stands before the first frame."""
        if self.session.state is not State.CONNECTING:  # closed a moment ago
            receiver.transport.abort()
            return
        self._receiver = receiver
        self.session.opened(time.monotonic())
        self._event(Event.CONNECTED, f"opening {self.session.openings}", opening=self.session.openings)
        self._look_into_frames()  # those of the socket before
        self.watch.opened(time.monotonic())
        self._look()
        if not self.settings.raw_only:
            self._check_later()
        self._changed()

    def _changed(self) -> None:
        try:
            self._tell(self)
        except Exception as error:  # whoever is told must not end the connection
            log.error("%s/%d: %s: %s", self.account.name, self.number, type(error).__name__, error)

    def _look(self) -> None:
        """Is the peer alive? Looks again at the earliest moment at which it may count as dead."""
        assert self._receiver is not None
        assert self._traffic.last_bytes_at is not None
        now = time.monotonic()
        silence = self.session.silent_for(now, self._traffic.last_bytes_at)
        if silence is None:
            rest = self._traffic.last_bytes_at + self.settings.liveness_seconds - now
            self._watch_timer = asyncio.get_running_loop().call_later(max(rest, 0.001), self._look)
            return
        text = f"nothing came for {silence:.1f} s: the peer counts as dead"
        self._event(Event.SILENT, text, silent_seconds=round(silence, 3))
        self._give_up(Failure(Reason.SILENT, f"nothing came for {silence:.1f} s"))

    def _give_up(self, failure: Failure) -> None:
        """End this socket for a reason of ours."""
        self._dead = failure
        if self._receiver is not None:
            self._receiver.transport.abort()

    def _tapped(self, frame: bytes) -> None:
        self._frames.append(frame)
        if len(self._frames) >= LOOK_FRAMES:
            self._look_into_frames()

    def _look_into_frames(self) -> None:
        if self._frames:
            frames, self._frames = self._frames, []
            try:
                self.watch.frames(frames, time.monotonic())
            except Exception as error:  # called from inside of the read: what only looks must not end the socket
                log.error("%s/%d: frames were not looked into: %r", self.account.name, self.number, error)

    def _check_later(self) -> None:
        pause = min(CHECK_SECONDS, self.settings.answer_seconds / 4, self.settings.stall_seconds / 4)
        self._check_timer = asyncio.get_running_loop().call_later(pause, self._check)

    def _check(self) -> None:
        """Does the server stream what it was asked for?"""
        self._look_into_frames()
        complaints = self.watch.complaints(time.monotonic())
        if complaints.barren:
            text = f"no packet for {self.settings.answer_seconds:.0f} s after an instrument was asked for anew"
            self._give_up(Failure(Reason.BARREN, text))
            return
        asked = {"silent": complaints.silent, "wrong_mode": complaints.wrong_mode, "unwanted": complaints.unwanted}
        if any(asked.values()):
            text = ", ".join(f"{len(tokens):,} {what.replace('_', ' of ')}" for what, tokens in asked.items() if tokens)
            self._event(Event.ASKED_AGAIN, text, **asked)
        self.session.ask_anew([*complaints.silent, *([complaints.probe] if complaints.probe else [])])
        self.session.ask_mode(complaints.wrong_mode)
        self.session.ask_to_stop(complaints.unwanted)
        self._checking = asyncio.create_task(self._send())
        self._check_later()

    async def _send(self) -> None:
        """Send what is to be sent, in order. What cannot be sent is told again after the next opening."""
        async with self._sending:
            receiver = self._receiver
            if receiver is None:
                return
            with contextlib.suppress(ConnectionClosed):
                for message in (messages := self.session.messages_to_send()):
                    await receiver.send(message.text)
                    self._sent(message)
                if messages:
                    self._look_into_frames()
                    self.watch.told(self.session.wanted, time.monotonic())

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
        self.failure = failure
        dead, self._dead = self._dead, None
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
            by = "us" if failure is dead else "peer"
            self._event(Event.CLOSED, failure.message, by=by, clean=clean, **data)
        elif self.session.state is not State.FAILED:
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
            self._hub.append(Kind.EVENT, self._channel, time.time_ns(), payload)
        except Exception as error:  # a sink that fails must not end the connection as well
            log.error("event %s was not journalled: %s: %s", event, type(error).__name__, error)
