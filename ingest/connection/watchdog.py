"""Does the server live, and does it stream what it was asked for? Frames and times in, complaints out: no I/O.

A connection that is open and alive may still not serve: an instrument never comes, one comes in another mode than
asked for (the length of its packets says so, since no acknowledgement does), one comes that was given up, or nothing
comes but heartbeats. What is noticed is counted, and asked for again where that helps:

- Every instrument brings its cached last packet soon after it is subscribed (Kite Connect v3 streaming docs). One that
  brought nothing for `answer_seconds` is silent. It is asked for again, each time after twice the wait.
- A packet of another mode, `answer_seconds` after the mode was asked for, is wrong. The mode is asked for again.
- A socket without a packet for `stall_seconds` is asked for one instrument again, which is to bring a packet. If it
  brings none within `answer_seconds`, the socket is barren, and better replaced. As long as nothing but the answers
  comes (the market is closed), the waits double up to `LONGEST_SECONDS`.

Which instruments frames hold is looked into batch by batch, but only while something is wrong or new, and else every
`SAMPLE_SECONDS`. In between, packets are only counted, as soon as they have come: while the caches have them, and
before their memory is wanted for others.

`StreamWatchdog` knows what was asked for and what came; `Supervisor` is the clock around it and around the session's
rule of silence, as long as a socket is open.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ingest.connection.session import StreamSession
from ingest.connection.stats import Traffic
from ingest.settings import WatchdogSettings
from ingest.wire import MODE_CODE, MODES, Mode, PacketCounter, packets_of, walk_frames

LONGEST_SECONDS: Final = 960.0
SAMPLE_SECONDS: Final = 8.0
"""After so long frames are looked into again although all is well."""
MAX_UNWANTED: Final = 3000
LOOK_FRAMES: Final = 1024
"""So many frames at most are looked into at once …"""
LOOK_BYTES: Final = 1 << 18
"""… or so many bytes and a frame: a look holds up the event loop, and more than the caches hold is dear."""
ALWAYS: Final = -math.inf
"""Frames are looked into at any time: something is wrong or new."""
CHECK_SECONDS: Final = 0.5
"""How often complaints are asked for, unless the settings have shorter waits."""
_CODE: Final = {mode: MODES.index(mode) for mode in Mode}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Complaints:
    """What is to be done: tokens to ask for again, to set the mode of, to stop; and whether the socket is barren.

    `probe` is one more token to ask for again, of which nothing is known to be wrong.
    """

    silent: tuple[int, ...] = ()
    wrong_mode: tuple[int, ...] = ()
    unwanted: tuple[int, ...] = ()
    probe: int | None = None
    barren: bool = False


class StreamWatchdog:
    """What one connection was asked for, and what came of it. Times are monotonic seconds."""

    def __init__(self, settings: WatchdogSettings) -> None:
        self._settings = settings
        self.packets = 0
        """Good packets, over all sockets of the connection."""
        self.decode_failures = 0
        """Ranges of bytes that were no good packet."""
        self.asked_again = 0
        """Instruments that were asked for once more, for any reason."""
        self._quiet_wait = settings.stall_seconds
        self._packets_at_probe = 0  # or at the opening
        self._counter = PacketCounter()
        self._forget()

    def _forget(self) -> None:
        self._tokens: NDArray[np.uint32] = np.zeros(0, np.uint32)  # sorted; the arrays below go with it
        self._mode: NDArray[np.int8] = np.zeros(0, np.int8)
        self._asked_at: NDArray[np.float64] = np.zeros(0, np.float64)
        self._tries: NDArray[np.int64] = np.zeros(0, np.int64)
        self._came: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._wrong: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._unwanted: dict[int, None] = {}
        self._look_from = ALWAYS
        self._told_at = 0.0
        self._packet_at = 0.0
        self._probed_at: float | None = None
        self._packets_at_probe = self.packets

    @property
    def silent(self) -> tuple[int, ...]:
        """Instruments that were asked for long enough ago and brought nothing yet."""
        return _numbers(self._tokens[~self._came & (self._tries > 0)])

    @property
    def wrong_mode(self) -> tuple[int, ...]:
        """Instruments whose last packet was of another mode than asked for."""
        return _numbers(self._tokens[self._wrong])

    def opened(self, now: float) -> None:
        """A new socket, which was told nothing yet."""
        self._end_long_waits()
        self._forget()
        self._packet_at = now

    def told(self, instruments: Mapping[int, Mode], now: float) -> None:
        """The server has been told that these are wanted, and no others."""
        tokens = np.fromiter(instruments, np.uint32, len(instruments))
        modes = np.fromiter(map(_CODE.__getitem__, instruments.values()), np.int8, len(instruments))
        order = np.argsort(tokens)
        tokens, modes = tokens[order], modes[order]
        at, known = self._find(tokens)
        known[known] = self._mode[at[known]] == modes[known]  # another mode counts as newly asked for
        old = at[known]
        self._asked_at = _carried(known, self._asked_at[old], now)
        self._tries = _carried(known, self._tries[old], 0)
        self._came = _carried(known, self._came[old], False)
        self._wrong = _carried(known, self._wrong[old], False)
        if not len(self._tokens):
            self._packet_at = now
        self._tokens, self._mode = tokens, modes
        self._told_at = now
        self._unwanted.clear()
        self._look_from = ALWAYS

    def count(self, frames: Sequence[bytes], now: float) -> Sequence[bytes]:
        """Count the packets of these frames, if that is all there is to do. Returns the frames for `look_into`."""
        if now >= self._look_from:
            self._look_from = ALWAYS  # until all is well: all frames, not only those that are odd
            return frames
        packets, odd = self._counter.count(frames)
        if packets:
            self.packets += packets
            self._packet_at = now
        return odd

    def look_into(self, frames: Sequence[bytes], now: float) -> None:
        """Count the packets of these frames, and note which instruments came."""
        payload = np.frombuffer(b"".join(frames), np.uint8)
        found = walk_frames(payload, np.fromiter(map(len, frames), np.int64, len(frames)))
        self.decode_failures += len(found.range_frames)
        if len(found.offsets):
            self._note(packets_of(found).tokens, MODE_CODE.take(found.lengths), now)
            self.packets += len(found.offsets)
            self._packet_at = now
        if not self._came.all() or self._wrong.any() or self._is_fresh(now):
            self._look_from = ALWAYS
        elif self._look_from == ALWAYS and len(found.offsets):  # else only heartbeats and odd ones, which are no sample
            self._look_from = now + SAMPLE_SECONDS

    def _is_fresh(self, now: float) -> bool:
        return now - self._told_at < 2 * self._settings.answer_seconds

    def _note(self, tokens: NDArray[np.uint32], modes: NDArray[np.int8], now: float) -> None:
        at, known = self._find(tokens)
        if not known.all() and now - self._told_at >= self._settings.answer_seconds:
            for token in np.unique(tokens[~known])[: MAX_UNWANTED - len(self._unwanted)].tolist():
                self._unwanted.setdefault(token)
        at, modes = at[known], modes[known]
        self._came[at] = True
        settled = now - self._asked_at[at] >= self._settings.answer_seconds
        wrong = self._mode[at] != modes
        self._wrong[at] = wrong & settled  # of an instrument's packets the last one counts

    def complaints(self, now: float) -> Complaints:
        """What is wrong at this moment, each reported once until its next wait is over."""
        if self._look_from > ALWAYS and not self._unwanted:  # all came, and as they were asked for
            probe, barren = self._quiet(now)
            return Complaints(probe=probe, barren=barren)
        wait = self._settings.answer_seconds
        due = now - self._asked_at >= np.minimum(wait * 2.0 ** np.minimum(self._tries, 30), LONGEST_SECONDS)
        silent, wrong = due & ~self._came, due & self._wrong
        again = silent | wrong
        self._tries[again] += 1
        self._asked_at[again] = now
        unwanted = tuple(self._unwanted)
        if unwanted:
            self._unwanted.clear()
            self._told_at = now  # what is on its way until the next answer is not unwanted again
            self._look_from = ALWAYS
        self.asked_again += int(np.count_nonzero(again)) + len(unwanted)
        probe, barren = self._quiet(now)
        return Complaints(_numbers(self._tokens[silent]), _numbers(self._tokens[wrong]), unwanted, probe, barren)

    def _quiet(self, now: float) -> tuple[int | None, bool]:
        """The token to ask for because no packet came for long, if it is time; and whether that brought none."""
        if not len(self._tokens):
            return None, False
        self._end_long_waits()
        if self._probed_at is not None:
            if self.packets > self._packets_at_probe:
                self._probed_at = None
            elif now - self._probed_at >= self._settings.answer_seconds:
                return None, True
            return None, False
        if now - self._packet_at < self._quiet_wait:
            return None, False
        self._probed_at = now
        self._packets_at_probe = self.packets
        self._quiet_wait = min(2 * self._quiet_wait, max(LONGEST_SECONDS, self._settings.stall_seconds))
        return int(self._tokens[np.argmax(self._came)]), False  # one that came before, if any did

    def _end_long_waits(self) -> None:
        """If more has come than the answer to the probe."""
        if self.packets > self._packets_at_probe + 1:
            self._quiet_wait = self._settings.stall_seconds

    def _find(self, tokens: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where these stand among those asked for, and whether they do."""
        if not len(self._tokens):
            return np.zeros(len(tokens), np.int64), np.zeros(len(tokens), np.bool_)
        at = np.searchsorted(self._tokens, tokens).clip(max=len(self._tokens) - 1)
        return at, self._tokens[at] == tokens


def _carried(known: NDArray[np.bool_], old: NDArray[Any], new: float) -> NDArray[Any]:
    """The old values where known, and the new one elsewhere."""
    values = np.full(len(known), new, old.dtype)
    values[known] = old
    return values


def _numbers(tokens: NDArray[np.uint32]) -> tuple[int, ...]:
    return tuple(tokens.tolist())


class Supervisor:
    """Looks after the sockets of one connection, one after the other, by the timers of the event loop.

    `silent` is called with the seconds of silence when a peer counts as dead, `barren` when a socket serves nothing,
    and `complain` with what to ask for again, at every check that is not barren. `name` is for the log, `clock` gives
    monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        settings: WatchdogSettings,
        session: StreamSession,
        watchdog: StreamWatchdog,
        traffic: Traffic,
        *,
        silent: Callable[[float], None],
        barren: Callable[[], None],
        complain: Callable[[Complaints], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._settings = settings
        self._session = session
        self._watchdog = watchdog
        self._traffic = traffic
        self._silent = silent
        self._barren = barren
        self._complain = complain
        self._clock = clock
        self._frames: list[bytes] = []  # to be looked into
        self._bytes = 0  # of all of them
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle] | None = None

    def opened(self, call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle]) -> None:
        """A socket is open: look after it until `stop`."""
        self._call_later = call_later
        self.look()  # into the frames of the socket before
        self._watchdog.opened(self._clock())
        self._check_life()
        if not self._settings.raw_only:
            self._check_later()

    def stop(self) -> None:
        """The socket is gone. Safe to call twice."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def take(self, frames: Sequence[bytes]) -> None:
        """Binary frames have come. They are counted; those that have to be are looked into, later and with others."""
        came_at = self._traffic.last_bytes_at
        assert came_at is not None, "they were read"
        try:
            frames = self._watchdog.count(frames, came_at)
        except Exception as error:
            self._say(error)
        if frames:
            self._frames += frames
            self._bytes += sum(map(len, frames))
            if self._bytes >= LOOK_BYTES or len(self._frames) >= LOOK_FRAMES:
                self.look()

    def look(self) -> None:
        """Look into the frames that have to be, of those that have come up to now."""
        if self._frames:
            frames, self._frames = self._frames, []
            self._bytes = 0
            try:
                self._watchdog.look_into(frames, self._clock())
            except Exception as error:
                self._say(error)

    def _say(self, error: Exception) -> None:
        """Called from inside of the read: what only looks must not end the socket."""
        log.error("%s: frames were not looked into: %r", self._name, error)

    def _later(self, seconds: float, check: Callable[[], None]) -> None:
        assert self._call_later is not None
        self._timers[check] = self._call_later(seconds, check)

    def _check_life(self) -> None:
        """Is the peer alive? Looks again at the earliest moment at which it may count as dead."""
        last = self._traffic.last_bytes_at
        assert last is not None, "the answer to the handshake has come"
        now = self._clock()
        silence = self._session.silent_for(now, last)
        if silence is None:
            self._later(max(last + self._settings.liveness_seconds - now, 0.001), self._check_life)
        else:
            self._silent(silence)

    def _check_later(self) -> None:
        settings = self._settings
        self._later(min(CHECK_SECONDS, settings.answer_seconds / 4, settings.stall_seconds / 4), self._check)

    def _check(self) -> None:
        self.look()
        complaints = self._watchdog.complaints(self._clock())
        if complaints.barren:
            self._barren()
            return
        self._complain(complaints)
        self._check_later()
