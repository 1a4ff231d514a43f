"""A captured day as the server wants it: its instruments and REST calls, the last packets, and what comes next."""

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from ingest.server import (
    EXCHANGES,
    AccountOrder,
    AccountSettings,
    CachedPackets,
    Ints,
    Modes,
    PacketSource,
    RestCall,
)
from kitelake.paper import PaperBroker, Snapshot
from kitelake.replay.day import ReplayDay
from kitelake.replay.packets import Latest, Slice

MOST_PACKETS: Final = 65_535
NO_PACKETS: Final = b"\0\0"


class LastServed(CachedPackets):
    """The last packet served of each instrument. `latest` is set again when the day begins again."""

    def __init__(self, latest: Latest) -> None:
        self.latest = latest

    def known(self, rows: Ints) -> Ints:
        return rows[self.latest.times[rows] > 0]

    def frame(self, rows: Ints, modes: Modes) -> bytes:
        wanted = np.zeros(len(self.latest.times), np.uint8)
        wanted[rows] = modes
        return self.latest.frames(rows, wanted, MOST_PACKETS).payload.tobytes() or NO_PACKETS


class ReplaySource(PacketSource):
    """A captured day, and the paper broker that answers for it, if there is one."""

    name = "replay"

    def __init__(self, day: ReplayDay) -> None:
        self.day = day
        self.served = LastServed(day.latest(day.first_us))
        super().__init__(day.tokens, self.served)
        self.broker: PaperBroker | None = None
        self._made = 0

    @property
    def etag(self) -> str:
        return self.day.etag

    def instruments(self, exchange: str) -> str:
        return self.day.csv(exchange)

    def profile(self, account: AccountSettings) -> dict[str, Any]:
        return {
            "user_id": account.user_id,
            "user_type": "individual",
            "email": "paper@example.invalid",
            "user_name": account.label,
            "user_shortname": account.label,
            "broker": "ZERODHA",
            "exchanges": list(EXCHANGES),
            "products": ["CNC", "NRML", "MIS"],
            "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
            "avatar_url": None,
            "meta": {"demat_consent": "physical"},
        }

    def stats(self) -> dict[str, Any]:
        return {"instruments_with_packets": int(np.count_nonzero(self.served.latest.times))}

    def make_order(self, account: AccountSettings, fields: Mapping[str, Any]) -> AccountOrder:
        self._made += 1
        data = {"account_id": account.user_id, "order_id": f"made-{self._made}", "status": "UPDATE", "meta": {}}
        return AccountOrder(account.label, {**data, **fields})

    def order_updates(self) -> Iterable[AccountOrder]:
        return self.broker.updates() if self.broker else ()

    def route(self, method: str, path: str) -> Callable[[RestCall], Any] | None:
        route = self.broker.route(method, path) if self.broker else None
        if route is None or not path.startswith("/instruments/historical/"):
            return route
        return lambda call: asyncio.to_thread(route, call)  # a query of the lake, while the packets go on

    def snapshot(self, token: int) -> Snapshot | None:
        """The last packet served of an instrument; None if there was none yet."""
        row = self.day.row(token)
        return None if row is None else self.served.latest.snapshot(row)

    def rows_of(self, tokens: Iterable[int]) -> list[int]:
        """Places of the instruments that the day has."""
        return [row for token in tokens if (row := self.day.row(token)) is not None]


class Part(NamedTuple):
    """Packets from `start` to `stop` of a piece of the day."""

    piece: Slice
    start: int
    stop: int

    @property
    def rows(self) -> Ints:
        return self.piece.rows[self.start : self.stop]


class ReadAhead:
    """The day's packets from some moment on, read in a thread, one piece ahead of what is asked for."""

    def __init__(self, pieces: Generator[Slice, None, None]) -> None:
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self._piece: Slice | None = None
        self._at = 0
        self._coming = self._ask()

    async def until(self, us: int) -> list[Part]:
        """What comes next and was received before that moment."""
        parts = []
        while True:
            if self._piece is not None:
                stop = self._piece.until(us)
                if stop > self._at:
                    parts.append(Part(self._piece, self._at, stop))
                    self._at = stop
                if self._at < len(self._piece):
                    return parts
            piece = await asyncio.shield(self._coming)
            if piece is None:
                return parts
            self._piece, self._at, self._coming = piece, 0, self._ask()

    async def close(self) -> None:
        """Wait for what is being read, and read no more."""
        await asyncio.wait([self._coming])
        await asyncio.to_thread(self._pieces.close)

    def _ask(self) -> asyncio.Future[Slice | None]:
        return self._loop.run_in_executor(None, next, self._pieces, None)
