"""Many connections of many accounts as one: instruments are placed, connections are opened as they are needed.

A connection exists once an instrument is placed on it. Each runs in a task of its own and looks after itself, so what
befalls one never stops another. Nothing is sent before the whole of a call is known to fit.
"""

import asyncio
import random as chance
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index
from types import TracebackType
from typing import Final, Self, SupportsIndex

from pydantic import Field

from ingest.connection import ConnectionStats, KiteConnection, check_ws_url
from ingest.errors import AuthError, InstrumentError
from ingest.placement import MAX_CONNECTIONS, MAX_INSTRUMENTS, Slot, place, slots_of
from ingest.receiver import Sink
from ingest.redact import Account
from ingest.session import ConnectionSettings
from ingest.wire import Mode

WS_URL: Final = "wss://ws.kite.trade"
MAX_TOKEN: Final = 2**32 - 1


class ManagerSettings(ConnectionSettings):
    """How a manager and its connections behave. Checked when made; an unknown key is refused."""

    connections: int = Field(
        default=MAX_CONNECTIONS,
        ge=1,
        le=MAX_CONNECTIONS,
        description="connections an account, at most (the broker allows 3)",
    )
    instruments_per_connection: int = Field(
        default=MAX_INSTRUMENTS, ge=1, le=MAX_INSTRUMENTS, description="at most (the broker allows 3000)"
    )
    default_mode: Mode = Field(default=Mode.QUOTE, description="for instruments that are subscribed without a mode")


@dataclass(frozen=True)
class TotalStats:
    """Sums over all connections; `connected` counts the open ones."""

    connections: int
    connected: int
    instruments: int
    frames: int
    bytes: int
    reconnects: int


@dataclass(frozen=True)
class ManagerStats:
    """All connections at one moment, ordered by account and number."""

    connections: Sequence[ConnectionStats]

    @cached_property
    def total(self) -> TotalStats:
        each = self.connections
        return TotalStats(
            connections=len(each),
            connected=sum(one.connected for one in each),
            instruments=sum(one.instruments for one in each),
            frames=sum(one.frames for one in each),
            bytes=sum(one.bytes for one in each),
            reconnects=sum(one.reconnects for one in each),
        )


class TickerManager:
    """Streams instruments over all connections of all accounts into a sink.

    `async with TickerManager(accounts, settings, sink) as manager: await manager.subscribe(tokens, mode=Mode.FULL)`

    Belongs to one event loop. Subscriptions may be made before `start`, and outlive `stop`.
    """

    def __init__(
        self,
        accounts: Iterable[Account],
        settings: ManagerSettings | None = None,
        sink: Sink | None = None,
        *,
        ws_url: str = WS_URL,
        random: Callable[[], float] = chance.random,
    ) -> None:
        """Raises AuthError for an account without an access token, ValueError for a bad address or equal names."""
        if sink is None:
            raise ValueError("expected a sink, such as a JournalWriter")
        self.accounts = tuple(accounts)
        self.settings = settings if settings is not None else ManagerSettings()
        for account in self.accounts:
            if not account.access_token.get_secret_value():
                raise AuthError(f"account {account.name} has no access token: log in first")
        self._by_name = {account.name: account for account in self.accounts}
        self._slots = slots_of((account.name for account in self.accounts), self.settings.connections)
        self._sink = sink
        self._ws_url = check_ws_url(ws_url)
        self._random = random
        self._connections: dict[Slot, KiteConnection] = {}
        self._slot_of: dict[int, Slot] = {}
        self._running = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to connect; does not wait for it. Safe to call twice."""
        self._running = True
        for connection in self._connections.values():
            connection.start()

    async def stop(self) -> None:
        """Close every connection, all at once, within about `close_timeout_seconds`. Safe to call twice."""
        self._running = False
        await asyncio.gather(*(connection.close() for connection in self._connections.values()))

    async def subscribe(self, tokens: Iterable[int], mode: Mode | None = None) -> None:
        """Stream these instruments in this mode. Those that are streamed already change their mode where they are.

        Raises CapacityError when not all of them fit, InstrumentError for what cannot be a token; then nothing is sent
        and nothing changes.
        """
        mode = mode if mode is not None else self.settings.default_mode
        wanted = dict.fromkeys(map(_token, tokens), mode)
        placed = {slot: connection.instruments for slot, connection in self._connections.items()}
        new = {token: mode for token in wanted if token not in self._slot_of}
        changes = place(new, self._slots, capacity=self.settings.instruments_per_connection, placed=placed)
        for token in wanted:
            if (slot := self._slot_of.get(token)) is not None:
                changes.setdefault(slot, {})[token] = mode
        self._slot_of |= {token: slot for slot, there in changes.items() for token in there}
        await asyncio.gather(*(self._connection(slot).subscribe(there, mode) for slot, there in changes.items()))

    async def set_mode(self, tokens: Iterable[int], mode: Mode) -> None:
        """Change the mode of instruments that are streamed. Raises InstrumentError when one of them is not."""
        tokens = list(tokens)
        if unknown := [token for token in tokens if token not in self._slot_of]:
            raise InstrumentError(
                f"{len(unknown):,} of {len(tokens):,} instruments are not subscribed, as {unknown[0]!r}"
            )
        await self.subscribe(tokens, mode)

    async def unsubscribe(self, tokens: Iterable[int]) -> None:
        """Stream these no more; their places are free. Unknown ones are ignored."""
        by_slot: dict[Slot, list[int]] = {}
        for token in tokens:
            if (slot := self._slot_of.pop(token, None)) is not None:
                by_slot.setdefault(slot, []).append(token)
        await asyncio.gather(*(self._connections[slot].unsubscribe(there) for slot, there in by_slot.items()))

    def placement(self) -> Mapping[Slot, Mapping[int, Mode]]:
        """What each connection streams: token -> mode."""
        return {slot: dict(connection.instruments) for slot, connection in sorted(self._connections.items())}

    def stats(self) -> ManagerStats:
        """The counts of this moment. Costs a few microseconds a connection."""
        return ManagerStats([connection.stats() for _, connection in sorted(self._connections.items())])

    def _connection(self, slot: Slot) -> KiteConnection:
        connection = self._connections.get(slot)
        if connection is None:
            connection = KiteConnection(
                self._by_name[slot.account],
                slot.connection,
                self.settings,
                self._sink,
                ws_url=self._ws_url,
                random=self._random,
            )
            self._connections[slot] = connection
            if self._running:
                connection.start()
        return connection


def _token(value: SupportsIndex) -> int:
    try:
        number = index(value)
    except TypeError:
        number = 0
    if not 0 < number <= MAX_TOKEN:
        raise InstrumentError(f"got {value!r} as an instrument token, expected a whole number from 1 to {MAX_TOKEN}")
    return number
