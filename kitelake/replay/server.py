"""A captured day served as the broker would: one market clock for all clients, and nobody loses a packet.

Order of events in a slice, the packets that were received since the last one: they are sent to the clients, the
market's clock is there, orders on paper are matched on them, and what became of these is pushed. So no client sees a
fill before the packet that brought it.

What is due is sent within a quarter of a second of the market's clock, since the clock goes no further than that ahead
of what was sent: it waits for the disk, for a client that does not read, and for a machine that is too slow.

In lockstep a slice ends when all that the clients did about it is done: each has answered a ping that was sent after
it, and has no REST call open; and once more if that brought anything new. A client whose callbacks run in the thread
that answers pings, as those of the official ones do, has run them by then.

A seek sends nothing of what lies between, and what a new subscription brings at once is of the moment where it ends.
If the paper broker waits for packets, for orders or for what is held, those between are read and matched on as any
others; if it waits for none they are passed over.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from websockets.exceptions import ConnectionClosed

from ingest.server import BrokerServer, Frames, Modes, Subscriber
from kitelake.paper import PaperBroker, Snapshot
from kitelake.replay.control import ReplaySettings, ist, parse_nothing, parse_seek, parse_speed, shown_speed
from kitelake.replay.day import ReplayDay
from kitelake.replay.market_clock import MarketClock
from kitelake.replay.packets import Slice
from kitelake.replay.source import ReadAhead, ReplaySource
from storage.clock import US_PER_SECOND

AHEAD_SECONDS: Final = 0.2  # so far, in real seconds, the clock goes before what is sent
POLL_SECONDS: Final = 0.01
LOOK_SECONDS: Final = 0.002  # how often a client that is waited for is looked at
SEEK_US: Final = 60 * US_PER_SECOND


class ReplayServer(BrokerServer):
    """`async with ReplayServer(settings, day) as server: …`. `clock` is the market's; `ended` is set at its end."""

    lossless: ClassVar[bool] = True
    settings: ReplaySettings

    def __init__(
        self,
        settings: ReplaySettings,
        day: ReplayDay,
        make_broker: Callable[["ReplayServer"], PaperBroker] | None = None,
    ) -> None:
        """`make_broker` makes the paper broker, if there is to be one, of the server's `clock` and `snapshot`. Raises
        `ServerError` if the record's folder cannot be written."""
        self.day = day
        self.clock = MarketClock(day.first_us, day.last_us + 1, settings.speed, paused=settings.paused)
        self.ended = asyncio.Event()
        self._replayed = ReplaySource(day)
        super().__init__(settings, self._replayed)
        self.paused = settings.paused
        self.snapshot = self._replayed.snapshot
        self._replayed.broker = None if make_broker is None else make_broker(self)
        self._started = False
        self._sent_us = day.first_us  # all that was received before is sent
        self._seek_us = 0
        self._to_reset = asyncio.Event()
        self._was_reset = asyncio.Event()
        self._wake = asyncio.Event()
        self._slice_us = max(int(settings.slice_seconds * US_PER_SECOND), 1)
        self._behind: list[Subscriber] = []
        self._unanswered: list[Subscriber] = []
        self._settled = -1

    @property
    def broker(self) -> PaperBroker | None:
        return self._replayed.broker

    # ── control ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def control(self, method: str, command: str, values: Any) -> dict[str, Any]:
        """Besides what every server answers: `GET status`, and `POST pause`, `resume`, `seek`, `speed` and `reset`,
        which are answered with the status. A seek is on its way then, a reset is done."""
        match method, command:
            case "GET", "status":
                pass
            case "POST", "pause" | "resume":
                parse_nothing(command, values)
                self.pause(command == "pause")
            case "POST", "seek":
                self._seek_us = parse_seek(values, self.clock)
            case "POST", "speed":
                self.clock.set_speed(parse_speed(values))
            case "POST", "reset":
                parse_nothing(command, values)
                await self.reset()
            case _:
                return await super().control(method, command, values)
        self._wake.set()
        return self.status()

    def status(self) -> dict[str, Any]:
        """Where the replay is, and who waits for whom. `held_by` are the connections that the clock waits for: they
        have too much unread, or, in lockstep, have not answered yet."""
        now = self.clock.now_us()
        waits = self.settings.wait_for_clients or self.settings.wait_for_instruments
        return {
            "day": self.day.told_date.isoformat(),
            "clock": ist(now),
            "clock_us": now,
            "first": ist(self.clock.start_us),
            "end": ist(self.clock.stop_us),
            "speed": shown_speed(self.clock.speed),
            "lockstep": self.settings.lockstep,
            "started": self._started,
            "waits_for": None
            if self._started or not waits
            else {"clients": self.settings.wait_for_clients, "instruments": self.settings.wait_for_instruments},
            "paused": self.paused,
            "seeks": ist(self._seek_us) if self._seek_us > now else None,
            "held_by": [_name(one) for one in [*self._behind, *self._unanswered]],
            "ended": self.ended.is_set(),
            "packets": self.ledger.totals()["packets"],
            "clients": [
                {
                    "name": _name(one),
                    "subscribed": len(one.subscriptions),
                    "packets": one.sent.packets,
                    "unread_bytes": one.unread_bytes,
                }
                for one in self._subscribers
            ],
        }

    def pause(self, paused: bool) -> None:
        super().pause(paused)
        if paused:
            self.clock.pause()
        else:
            self.clock.resume()
        self._wake.set()

    async def reset(self) -> None:
        """Begin the day again for all who are connected; as paused, and as fast, as it is."""
        self._was_reset.clear()
        self._to_reset.set()
        self._wake.set()
        await self._was_reset.wait()

    def _requested(self, one: Subscriber) -> None:
        one.send_first()
        self._wake.set()

    # ── the day ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_clockwork(self) -> None:
        while True:
            await self._gather()
            await self._play()
            await self._to_reset.wait()
            await self._begin_again()

    async def _gather(self) -> None:
        """Wait for those that the settings name, and for what they had asked for by then."""
        settings = self.settings
        while not self._to_reset.is_set():
            subscribed = [len(one.subscriptions) for one in self._subscribers if one.open]
            clients = sum(size > 0 for size in subscribed)
            if clients >= settings.wait_for_clients and sum(subscribed) >= settings.wait_for_instruments:
                break
            await self._sleep(math.inf)
        if settings.lockstep or settings.wait_for_clients or settings.wait_for_instruments:
            await self._settle()

    async def _play(self) -> None:
        """To the end of the day, or until it is to begin again."""
        self._ahead = ReadAhead(self.day.slices(self.day.first_us))
        try:
            self._started = True
            self.clock.release()
            while not self._to_reset.is_set() and self._sent_us < self.clock.stop_us:
                await self._have_room()
                await self._sleep(await self._go_on())
        finally:
            await self._ahead.close()
        if not self._to_reset.is_set():
            if self.broker is not None:
                self.broker.close()
                self._push(self.broker.updates())
            if self.settings.lockstep:
                await self._settle()
            self.ended.set()

    async def _begin_again(self) -> None:
        self.clock.reset()
        self.ended.clear()
        self._started = False
        self._sent_us, self._seek_us = self.day.first_us, 0
        self._replayed.served.latest = await asyncio.to_thread(self.day.latest, self.day.first_us)
        if self.broker is not None:
            self.broker.reset()
        self._to_reset.clear()
        self._was_reset.set()

    async def _go_on(self) -> float:
        """Send what is due, a slice at most; returns in how many seconds there may be more."""
        if self._seek_us > self._sent_us:
            if self.broker is None or not self.broker.watched:
                await self._jump(self._seek_us)
            else:
                await self._serve(min(self._sent_us + SEEK_US, self._seek_us), unseen=True)
            return 0.0
        due, wait = self._due()
        if due > self._sent_us:
            await self._serve(due)
            if self.settings.lockstep:
                await self._settle()
        return wait

    def _due(self) -> tuple[int, float]:
        """Up to which moment packets are due, and in how many seconds there may be more."""
        clock, sent = self.clock, self._sent_us
        end = min(sent + self._slice_us, clock.stop_us)
        if not self.settings.lockstep and math.isfinite(clock.speed):
            due = min(clock.now_us(), end)
            clock.limit(due + int(AHEAD_SECONDS * US_PER_SECOND * clock.speed))
            if due == end:
                return due, 0.0
            return due, math.inf if clock.paused else POLL_SECONDS
        if clock.paused:
            return sent, math.inf
        if math.isfinite(clock.speed):
            clock.limit(end)
            wait = clock.seconds_until(end)
            return (sent, wait) if wait else (end, 0.0)
        return end, 0.0

    async def _jump(self, us: int) -> None:
        latest = await asyncio.to_thread(self.day.latest, us)
        await self._ahead.close()
        self._ahead = ReadAhead(self.day.slices(us))
        self._replayed.served.latest = latest
        self._reached(us, [])

    async def _serve(self, us: int, *, unseen: bool = False) -> None:
        """Send what was received before that moment, and be there. `unseen`: to nobody."""
        parts = await self._ahead.until(us)
        watched = self._replayed.rows_of(self.broker.watched) if self.broker is not None else []
        snapshots: list[Snapshot] = []
        for piece, start, stop in parts:
            if not unseen:
                self._send(piece, start, stop)
            snapshots += piece.snapshots(start, stop, watched)
            self._replayed.served.latest.update(piece, start, stop)
        self._reached(us, snapshots)

    def _reached(self, us: int, watched: list[Snapshot]) -> None:
        """All that was received before that moment is sent, or passed over."""
        self._sent_us = us
        self.clock.seek(us)
        if self.broker is not None:
            self.broker.advance(us, watched)
            self._push(self.broker.updates())

    def _send(self, piece: Slice, start: int, stop: int) -> None:
        def frames(modes: Modes) -> Frames:
            return piece.frames(start, stop, modes, self.settings.max_packets_per_frame)

        for one in list(self._subscribers):
            one.tick_many(frames)
        for sent, _, modes in self._ghosts.missed(piece.rows[start:stop]):
            self.ledger.many(sent, frames(modes), time.time_ns(), "down")

    # ── waiting for clients ──────────────────────────────────────────────────────────────────────────────────────

    async def _have_room(self) -> None:
        """Hold the clock while a client has too much unread."""
        while not self._to_reset.is_set():
            self._behind = [one for one in self._subscribers if one.open and one.behind]
            if not self._behind:
                break
            if not self.clock.held:
                self.clock.hold()
            await asyncio.sleep(LOOK_SECONDS)
        if self.clock.held:
            self.clock.release()

    async def _settle(self) -> None:
        """Wait until nothing follows any more from what was sent."""
        while not self._to_reset.is_set():
            pushed = sum(sent.frames + sent.texts for sent in self.ledger.connections)
            if pushed == self._settled and not self._open_calls:
                return
            answers = {self._loop.create_task(self._answered(one)) for one in self._subscribers if one.open}
            while (answers or self._open_calls) and not self._to_reset.is_set():
                if answers:
                    _, answers = await asyncio.wait(answers, timeout=LOOK_SECONDS)
                else:
                    await asyncio.sleep(LOOK_SECONDS)
            for answer in answers:
                answer.cancel()
            self._settled = pushed

    async def _answered(self, one: Subscriber) -> None:
        self._unanswered.append(one)
        try:
            await (await one.socket.ping())
        except ConnectionClosed:
            pass
        finally:
            self._unanswered.remove(one)

    @property
    def _open_calls(self) -> int:
        assert self._rest is not None
        return self._rest.open_calls

    async def _sleep(self, seconds: float) -> None:
        """Until something happens that the clockwork should look at, but not for longer."""
        if seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                    await self._wake.wait()
        else:
            await asyncio.sleep(0)
        self._wake.clear()


def _name(one: Subscriber) -> str:
    """A connection as people name it: the account, and how many it had opened by then."""
    return f"{one.sent.id.account}/{one.sent.id.connection}"
