"""A connection in a thread of its own, for callers in other threads."""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable

from ingest.accounts import Account
from ingest.connection import Buffer, Gap, KiteConnection, Record, State
from ingest.settings import StreamSettings
from ingest.wire import Mode
from storage.journal import Kind


class Inbox:
    """A sink whose records another thread takes: at once after a pause, else so many seconds after it took the last."""

    def __init__(self, settings: StreamSettings) -> None:
        self._company_seconds = settings.batch_seconds
        self._buffer = Buffer(settings, frozenset(Kind), None, None)
        self._lock = threading.Condition()
        self._is_awaited = False
        self._taken_at = -math.inf

    def channel(self, account: str, connection: int) -> int:
        """There is one connection only."""
        self._account, self._connection = account, connection
        return 0

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        """Take what came together. For the network thread."""
        record = Record(kind, self._account, self._connection, received_at_ns, time.monotonic(), payloads, channel)
        with self._lock:
            self._buffer.put(record)
            if self._is_awaited:
                self._lock.notify()

    def take(self) -> list[Record] | Gap | None:
        """What has come, as soon as there is something; None after the end. For the other thread."""
        seconds = self._taken_at + self._company_seconds - time.monotonic()
        if seconds > 0 and not self._buffer.closed:
            time.sleep(seconds)
        with self._lock:
            self._is_awaited = True
            try:
                self._lock.wait_for(lambda: self._buffer.records or self._buffer.closed)
            finally:
                self._is_awaited = False
            self._taken_at = time.monotonic()
            return self._buffer.take_gap() or self._buffer.take() or None

    def close(self) -> None:
        """Nothing more will come; what waits may still be taken."""
        with self._lock:
            self._buffer.close()
            self._lock.notify()


class ConnectionRun:
    """A connection from `connect()` to its end, with the network thread, and what the two threads know of it.

    The network thread alone decides whether another attempt follows: the callbacks may be far behind.
    """

    def __init__(
        self, account: Account, settings: StreamSettings, root: str, modes: dict[int, Mode], tries: int | None
    ) -> None:
        """Starts it. `tries` is None for no second attempt at all."""
        self.reader = threading.current_thread()
        self.done = threading.Event()
        self.closed = False
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.over = False  # it is about to end, or has ended
        self.retrying = tries is not None
        self.most_tries = tries or 0
        self.told_open = False
        self.told_losses = 0
        self._losses = 0
        self._wanted = modes
        self._news = asyncio.Event()
        self._inbox = Inbox(settings)
        self.connection = KiteConnection(account, 1, settings, self._inbox, ws_url=root, changed=self._changed)
        self.connection.session.want(modes)
        self._loop: asyncio.AbstractEventLoop
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="kitelake network", daemon=True
        )
        self._thread.start()
        started.wait()

    def take(self) -> list[Record] | Gap | None:
        """What has come, as soon as there is something; None after the end. For the callbacks' thread."""
        return self._inbox.take()

    def want(self, modes: dict[int, Mode]) -> None:
        """Stream these and no others."""
        self._wanted = modes
        self._soon(self._news.set)

    def end(self) -> None:
        """Close the connection; what has come may still be taken."""
        self._soon(self._end)

    def stop_retry(self) -> None:
        """Let the connection end with its socket."""
        self.retrying = False
        self._soon(self._stop_waiting)

    def finish(self) -> None:
        """Close it, take nothing more, and wait for the network thread."""
        self.end()
        self._thread.join()

    def _soon(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: everything has ended already
            self._loop.call_soon_threadsafe(call)

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self.connection.start()
        started.set()
        try:
            while not self.over:
                await self._news.wait()
                self._news.clear()
                await self.connection.want(self._wanted)
            await self.connection.close()
        finally:
            self._inbox.close()

    def _changed(self, connection: KiteConnection) -> None:
        if connection.session.state is State.OPEN:
            self._losses = 0
            return
        self._losses += 1
        if not self.retrying or self._losses > self.most_tries or connection.session.state is State.FAILED:
            self._end()

    def _stop_waiting(self) -> None:
        if self.connection.session.state in (State.WAITING, State.UNAUTHORIZED):
            self._end()

    def _end(self) -> None:
        self.over = True
        self._news.set()
