"""Many connections of many accounts as one: instruments are placed, connections are opened as they are needed.

A connection exists once an instrument is placed on it. Each runs in a task of its own and looks after itself, so what
befalls one never stops another. Nothing is sent before the whole of a call is known to fit.

Who streams what is decided in `ingest.manager.allocation`, without sockets. A connection that the broker will not have
(a refused token, a place that another program takes) is lost until it opens: its instruments move to where there is
room, or something less important gives way, and return when it is back.
"""

import asyncio
import logging
import random as chance
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import index
from types import TracebackType
from typing import Self

from ingest.accounts import Account, Credentials, Token
from ingest.connection import (
    WS_URL,
    Consumers,
    Health,
    Hub,
    KiteConnection,
    ManagerStats,
    Reason,
    Sink,
    State,
    as_mode,
    as_token,
    check_ws_url,
    health_of,
)
from ingest.errors import AuthError
from ingest.manager.allocation import Allocation, Moved
from ingest.manager.want import Slot, Want
from ingest.settings import ManagerSettings
from ingest.wire import Mode

log = logging.getLogger(__name__)


class TickerManager(Consumers):
    """Streams instruments over all connections of all accounts.

    `async with TickerManager(accounts) as manager: await manager.subscribe(tokens, mode=Mode.FULL)`, and read from
    `batches()`, `ticks()`, `frames()`, `order_updates()` or `events()`. `sink`, such as a journal, gets every record
    before them. Belongs to one event loop. Subscriptions may be made before `start`, and outlive `stop`.
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
        """Raises AuthError for an account without a token or a source of one, ValueError for a bad address or equal
        names."""
        self.settings = settings if settings is not None else ManagerSettings()
        super().__init__(Hub(sink), self.settings)
        self._accounts: dict[str, Account] = {}
        self._credentials: dict[str, Credentials] = {}
        self._connections: dict[Slot, KiteConnection] = {}
        self._ws_url = check_ws_url(ws_url)
        self._random = random
        self._running = False
        self._turning = asyncio.Lock()  # starting and stopping, one after the other
        self._updates: set[asyncio.Task[None]] = set()
        accounts = list(accounts)
        names = [account.name for account in accounts]
        if len(set(names)) != len(names):
            raise ValueError(f"got accounts {', '.join(names)}, expected different names")
        for account in accounts:
            self._take_on(account)
        self._allocation = Allocation(
            names,
            connections=self.settings.connections,
            capacity=self.settings.instruments_per_connection,
            strategy=self.settings.strategy,
            replicas=self.settings.copies,
        )

    @property
    def accounts(self) -> tuple[Account, ...]:
        return tuple(self._accounts.values())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to connect; does not wait for it. Safe to call twice."""
        async with self._turning:
            self._running = True
            self._hub.open()
            for connection in self._connections.values():
                connection.start()

    async def stop(self) -> None:
        """Close every connection, all at once, within about `close_timeout_seconds`, and end every iterator behind what
        it holds. Safe to call twice."""
        async with self._turning:
            self._running = False
            try:
                await asyncio.gather(*(connection.close() for connection in self._connections.values()))
                await asyncio.gather(*(credentials.close() for credentials in self._credentials.values()))
                await asyncio.gather(*self._updates)
            finally:
                self._hub.close()

    async def subscribe(
        self,
        tokens: Iterable[int],
        mode: Mode | None = None,
        *,
        account: str | Collection[str] | None = None,
        connection: int | None = None,
        copies: int | None = None,
        priority: int = 0,
        leave_out: bool = False,
    ) -> list[int]:
        """Stream these instruments in this mode. Those that are streamed already change their mode where they are.

        They are placed by the strategy, or by hand on one `account` or several; with one, also on a `connection` (from
        1). `copies` is on how many accounts each is streamed. What does not fit raises CapacityError before anything is
        sent; or, with `leave_out`, the least important rest (largest `priority`, then last in order) is left out and
        returned. A call that repeats another changes and sends nothing.

        Raises InstrumentError for what cannot be a token, ValueError for an account or connection that there is not, no
        account at all, or more copies than accounts that are named; then nothing changes.
        """
        want = Want(
            mode=as_mode(mode) if mode is not None else self.settings.default_mode,
            priority=index(priority),
            replicas=copies,
            accounts=_names(account),
            connection=connection,
        )
        left_out = self._allocation.subscribe(map(as_token, tokens), want, leave_out=leave_out)
        await self._apply()
        return left_out

    async def bring_to(self, wants: Mapping[int, Want]) -> list[int]:
        """Stream these instruments (by token) and nothing else, the most important first. Returns those that have no
        room. Raises as `subscribe` does, but for CapacityError."""
        left_out = self._allocation.bring_to({as_token(token): want for token, want in wants.items()})
        await self._apply()
        return left_out

    async def set_mode(self, tokens: Iterable[int], mode: Mode) -> None:
        """Change the mode of instruments that are streamed. Raises InstrumentError when one of them is not."""
        self._allocation.set_mode(tokens, as_mode(mode))
        await self._apply()

    async def unsubscribe(self, tokens: Iterable[int]) -> None:
        """Stream these no more; their places are free. Unknown ones are ignored."""
        self._allocation.unsubscribe(tokens)
        await self._apply()

    async def add_account(self, account: Account) -> Moved:
        """Use this account, too. If it was here before, its instruments return to it; those that wait for room get it.

        Raises ValueError if an account of this name is here, AuthError if it has no token and no source of one.
        """
        if account.name in self._accounts:
            raise ValueError(f"got account {account.name!r}, which is here already")
        self._take_on(account)
        moved = self._allocation.add_account(account.name)
        await self._apply()
        return moved

    async def remove_account(self, name: str) -> Moved:
        """Close this account's connections. Its instruments move to where there is room, or something less important
        gives way; the result names those that wait for room now. Raises ValueError for an account that is not here."""
        moved = self._allocation.remove_account(name)
        gone = [self._connections.pop(slot) for slot in list(self._connections) if slot.account == name]
        del self._accounts[name]
        credentials = self._credentials.pop(name)
        await self._apply()
        await asyncio.gather(*(connection.close() for connection in gone))
        await credentials.close()
        return moved

    def set_access_token(self, account: str, token: Token) -> None:
        """Use this token from the next handshake on; connections that wait for one go on. Open ones are left alone.

        Raises ValueError for an account that is not here.
        """
        if account not in self._credentials:
            raise ValueError(f"got account {account!r}, expected one of {', '.join(self._accounts)}")
        self._credentials[account].replace(token)

    def placement(self) -> Mapping[Slot, Mapping[int, Mode]]:
        """What each connection streams: token -> mode."""
        return self._allocation.placement()

    @property
    def waiting(self) -> tuple[int, ...]:
        """Instruments that stream from fewer connections than wanted: theirs is lost, or taken by what is more
        important, and no other has room."""
        return self._allocation.waiting

    @property
    def unserved(self) -> tuple[int, ...]:
        """Those of `waiting` that stream from no connection at all."""
        return self._allocation.unserved

    def note_held(self) -> None:
        """Journal what each connection was asked for and when: to be called when a new day begins, in IST."""
        for connection in self._connections.values():
            connection.note_held()

    def stats(self) -> ManagerStats:
        """The counts of this moment. Costs some microseconds a connection."""
        return ManagerStats([connection.stats() for _, connection in sorted(self._connections.items())])

    def health(self) -> Health:
        """How the connections stand, with reasons in words. Recovers when the cause is gone."""
        waiting = self.waiting
        notes = [f"{len(waiting):,} instruments wait for room on another connection"] if waiting else []
        somewhere = {token for there in self.placement().values() for token in there} if waiting else set()
        return health_of(self.stats().connections, notes, nowhere=sum(token not in somewhere for token in waiting))

    def _take_on(self, account: Account) -> None:
        if not account.access_token.get_secret_value() and account.token_source is None:
            raise AuthError(f"account {account.name} has no access token: log in first")
        self._accounts[account.name] = account
        self._credentials[account.name] = Credentials(account, self.settings)

    async def _apply(self) -> None:
        """Bring every connection to what the allocation says."""
        changes = []
        for slot in self._allocation.slots:
            wanted = self._allocation.at(slot)
            if wanted or slot in self._connections:
                connection = self._connection(slot)
                if connection.instruments != wanted:
                    changes.append(connection.want(wanted))
        await asyncio.gather(*changes)

    def _connection(self, slot: Slot) -> KiteConnection:
        connection = self._connections.get(slot)
        if connection is None:
            connection = KiteConnection(
                self._accounts[slot.account],
                slot.connection,
                self.settings,
                self._hub,
                ws_url=self._ws_url,
                credentials=self._credentials[slot.account],
                changed=self._changed,
                random=self._random,
            )
            self._connections[slot] = connection
            if self._running:
                connection.start()
        return connection

    def _changed(self, connection: KiteConnection) -> None:
        """A connection has opened or ended: is it lost, or back?"""
        slot = Slot(connection.account.name, connection.number)
        if self._connections.get(slot) is not connection or not self._running:
            return
        state, failure = connection.session.state, connection.failure
        if state is State.OPEN:
            moved = self._allocation.regain([slot])
        elif state in (State.UNAUTHORIZED, State.FAILED) or (failure is not None and failure.reason is Reason.BUSY):
            moved = self._allocation.lose([slot])
        else:
            return
        if moved.moved or moved.waiting:
            log.warning(
                "%s/%d is %s: %s instruments moved, %s wait for room",
                *(slot.account, slot.connection, state, len(moved.moved), len(moved.waiting)),
            )
            update = asyncio.ensure_future(self._apply())
            self._updates.add(update)
            update.add_done_callback(self._updates.discard)


def _names(account: str | Collection[str] | None) -> tuple[str, ...]:
    if account is None:
        return ()
    names = (account,) if isinstance(account, str) else tuple(dict.fromkeys(account))
    if not names:
        raise ValueError("got no name in account=, expected one or more, or None for all accounts")
    return names
