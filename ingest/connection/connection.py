"""One WebSocket to the broker, kept alive: what its owner sees of it.

What it wants to stream is in `session`, the tasks and the socket are in `lifecycle`, and who reads from it in `hub`.
"""

import random as chance
import time
from collections.abc import Callable, Iterable, Mapping
from operator import index
from types import TracebackType
from typing import Self, SupportsIndex

from ingest.accounts import Account, Credentials
from ingest.connection.consumers import Consumers
from ingest.connection.handshake import WS_URL, check_ws_url
from ingest.connection.hub import Hub
from ingest.connection.lifecycle import MAX_MESSAGE, Lifecycle
from ingest.connection.receiver import Sink
from ingest.connection.session import Failure, State, StreamSession
from ingest.connection.stats import ConnectionStats
from ingest.errors import CapacityError, InstrumentError
from ingest.settings import MAX_INSTRUMENTS, MAX_TOKEN, StreamSettings
from ingest.wire import Mode


def as_token(value: SupportsIndex) -> int:
    """The value as an instrument token. Raises InstrumentError for what cannot be one."""
    try:
        number = 0 if isinstance(value, bool) else index(value)
    except TypeError:
        number = 0
    if not 0 < number <= MAX_TOKEN:
        raise InstrumentError(f"got {value!r} as an instrument token, expected a whole number from 1 to {MAX_TOKEN}")
    return number


def as_mode(value: str) -> Mode:
    """The value as a mode. Raises InstrumentError for what is none."""
    try:
        return Mode(value)
    except ValueError:
        raise InstrumentError(f"got {value!r} as a mode, expected one of {', '.join(Mode)}") from None


def check_room(instruments: int) -> None:
    """Raises CapacityError for more instruments than one connection carries."""
    if instruments > MAX_INSTRUMENTS:
        raise CapacityError(
            f"{instruments:,} instruments do not fit on a connection: {MAX_INSTRUMENTS:,} is the capacity",
            wanted=instruments,
            capacity=MAX_INSTRUMENTS,
        )


class KiteConnection(Consumers):
    """One connection of one account: `start`, `subscribe`, read, `close`; reconnects by itself until closed.

    `async with KiteConnection(account) as connection: …` starts and closes it. Belongs to one event loop. What it wants
    to stream may be set at any time, connected or not. Nothing here raises because of the network: what happens is
    reported by `events()` and `stats()`. `sink`, such as a journal, gets every record; a `Hub` may be shared.
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
        self.session = StreamSession(self.settings, random)
        hub = sink if isinstance(sink, Hub) else Hub(sink)
        super().__init__(hub, self.settings)
        self._owns_hub = hub is not sink
        self._credentials = credentials if credentials is not None else Credentials(account, self.settings)
        self._owns_credentials = credentials is None
        self._redact = account.redactor()
        self._life = Lifecycle(
            account,
            number,
            self.session,
            self.settings,
            hub,
            self._credentials,
            check_ws_url(ws_url),
            lambda: changed(self),
        )

    def __repr__(self) -> str:
        return f"KiteConnection({self.account.name!r}, {self.number}, {self.session.state})"

    @property
    def instruments(self) -> Mapping[int, Mode]:
        """What is wanted: token -> mode."""
        return self.session.wanted

    @property
    def failure(self) -> Failure | None:
        """Why the last attempt or socket ended."""
        return self._life.failure

    def stats(self) -> ConnectionStats:
        """The counts of this moment. Costs some microseconds."""
        self._life.supervisor.look()
        now = time.monotonic()
        traffic, watchdog, failure = self._life.traffic, self._life.watchdog, self.failure
        is_open = self.session.state is State.OPEN
        raw = self.settings.raw_only
        p50, p99 = self._hub.latencies(self.account.name, self.number) or (None, None)
        return ConnectionStats(
            account=self.account.name,
            connection=self.number,
            state=self.session.state,
            instruments=len(self.session.wanted),
            frames=traffic.frames,
            packets=None if raw else watchdog.packets,
            bytes=traffic.bytes,
            decode_failures=None if raw else watchdog.decode_failures,
            reconnects=max(0, self.session.openings - 1),
            silent=len(watchdog.silent),
            wrong_mode=len(watchdog.wrong_mode),
            asked_again=watchdog.asked_again,
            last_frame_age_seconds=None if traffic.last_bytes_at is None else now - traffic.last_bytes_at,
            uptime_seconds=now - self.session.opened_at if is_open else None,
            latency_p50_seconds=p50,
            latency_p99_seconds=p99,
            problem=None if is_open or failure is None else self._redact(failure.message)[:MAX_MESSAGE],
        )

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to connect, in a task of the running loop. Safe to call twice; after `close` it begins again."""
        if not self._life.runs:
            if self._owns_hub:
                self._hub.open()
            self._life.start()

    async def want(self, instruments: Mapping[int, Mode]) -> None:
        """Stream these (token -> mode) and no others from now on; only the difference is sent.

        Raises InstrumentError or CapacityError, with nothing changed, for what is no token or mode, or too many.
        """
        instruments = {as_token(token): as_mode(mode) for token, mode in instruments.items()}
        check_room(len(instruments))
        self.session.want(instruments)
        await self._life.send()

    async def subscribe(self, tokens: Iterable[int], mode: Mode = Mode.QUOTE) -> None:
        """Stream these instruments in this mode from now on, also after reconnects. Sent at once when connected.

        Raises InstrumentError for what is no token or mode, CapacityError for more than 3000 in all; nothing is sent
        then.
        """
        new, mode = dict.fromkeys(map(as_token, tokens)), as_mode(mode)
        check_room(len(new.keys() | self.session.wanted.keys()))
        self.session.subscribe(new, mode)
        await self._life.send()

    async def unsubscribe(self, tokens: Iterable[int]) -> None:
        """Stream these no more; unknown ones are ignored."""
        self.session.unsubscribe(tokens)
        await self._life.send()

    def note_held(self) -> None:
        """Journal what the server was asked for and when: to be called when a new day begins, in IST."""
        self._life.note_held()

    async def close(self) -> None:
        """Close cleanly, forcibly after `close_timeout_seconds`. Safe to call twice.

        Every frame that the server sent before its close frame is in the sink when this returns.
        """
        await self._life.close()
        if self._owns_credentials:
            await self._credentials.close()
        if self._owns_hub:
            self._hub.close()
