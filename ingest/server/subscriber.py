"""One open connection as the source sees it: what it gets, what keeps it from getting it, and the booking of both.

A frame is handed to the transport synchronously, so that nothing comes between the check that the connection is open,
the sending and the booking. A client that does not read is not waited for: while more than `send_buffer_bytes` of its
frames are unread its packets are counted as unsent ("slow"), which is what a conflating feed amounts to. A `lossless`
one loses nothing: whoever sends to it waits while it is `behind`.

Many frames at once are written as one piece: a server's frames are unmasked, and go without compression here, so that
a message on the wire is its header and its payload (RFC 6455, 5.2). They come between two messages of the library,
which writes whole ones only.
"""

import asyncio
import fcntl
import math
import socket
import struct
import termios
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.protocol import State

from ingest.server.admission import AccountSettings, ServerSettings
from ingest.server.record import Ledger, Sent
from ingest.server.source import HEARTBEAT, CachedPackets, Frames, Ints, Modes
from ingest.server.subscriptions import NOTHING, Subscriptions, subscribed

FLUSH_SECONDS: Final = 5.0
_UNKNOWN_LENGTH: Final = 13
_BINARY: Final = 0x82  # a whole message, of bytes


class Subscriber:
    """A connection, its subscriptions and the truth about it."""

    def __init__(
        self,
        connection: ServerConnection,
        account: AccountSettings,
        subscriptions: Subscriptions,
        cached: CachedPackets,
        sent: Sent,
        ledger: Ledger,
        settings: ServerSettings,
        *,
        lossless: bool = False,
    ) -> None:
        self.socket = connection
        self.account = account
        self.subscriptions = subscriptions
        self.sent = sent
        self.leaving = False  # on its way out: nothing is sent any more
        self.delay_seconds = 0.0
        self.stalled_since: float | None = None
        self.silent_until = -math.inf
        self._deaf = False
        self._lossless = lossless
        self._cached = cached
        self._ledger = ledger
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._random = np.random.Generator(np.random.PCG64([settings.seed, 4, sent.ordinal]))
        self._due_first: list[Ints] = []
        self._delayed: deque[tuple[float, bytes, Ints]] = deque()
        self._delayed_bytes = 0
        self._last_sent = self._loop.time()

    # ── what may be sent ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def open(self) -> bool:
        """Whether a frame handed over now reaches a client that keeps reading."""
        return not self.leaving and self.socket.state is State.OPEN and not self.socket.transport.is_closing()

    @property
    def unread_bytes(self) -> int:
        """What the client has not taken yet: neither it nor its kernel."""
        return self.socket.transport.get_write_buffer_size()

    @property
    def behind(self) -> bool:
        """Whether it has more unread than the settings allow."""
        return self.unread_bytes + self._delayed_bytes > self._settings.send_buffer_bytes

    def _obstacle(self) -> str | None:
        """Why packets cannot be sent now, or None."""
        if not self.open:
            return "down"
        if self._loop.time() < self.silent_until:
            return "silent"
        if self.behind and not self._lossless:
            return "slow"
        return None

    def watch(self, now: float) -> bool:
        """Keep an eye on it, a few times a second: end of silence, stalling. True: it has stalled for too long."""
        if self._deaf and now >= self.silent_until:
            self._deaf = False
            self.socket.transport.resume_reading()
        if self.unread_bytes <= self._settings.send_buffer_bytes:
            self.stalled_since = None
        elif self.stalled_since is None:
            self.stalled_since = now
        return self.stalled_since is not None and now - self.stalled_since > self._settings.stall_seconds

    def silence(self, seconds: float | None, deaf: bool) -> None:
        self.silent_until = math.inf if seconds is None else self._loop.time() + seconds
        if deaf and not self._deaf:
            self._deaf = True
            self.socket.transport.pause_reading()

    def speak(self) -> None:
        """End silence and delay."""
        self.silent_until = -math.inf
        self.delay_seconds = 0.0

    # ── packets ──────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, ticked: Ints) -> None:
        """Send of `ticked` what is subscribed, after cached packets that wait; book what is not sent."""
        self.send_first()
        ignored = subscribed(self.subscriptions.ignored, ticked)
        if len(ignored):
            self._unsent("ignored", ignored, self.subscriptions.ignored[ignored])
        rows = subscribed(self.subscriptions.modes, ticked)
        if len(rows):
            self._send_rows(rows)

    def tick_many(self, frames: Callable[[Modes], Frames]) -> None:
        """The same for frames that are made already, for subscriptions in these modes (instruments,): all at once."""
        self.send_first()
        if self.subscriptions.ignored.any():
            self._ledger.many(self.sent, frames(self.subscriptions.ignored), time.time_ns(), "ignored")
        if len(self.subscriptions):
            self._send_many(frames(self.subscriptions.modes))

    def due_first(self, rows: Ints) -> None:
        """Cached packets to send as soon as possible."""
        if len(rows):
            self._due_first.append(rows)

    def send_first(self) -> None:
        """Send the cached packets that wait."""
        if self._due_first and self._obstacle() is None:
            waiting, self._due_first = self._due_first, []
            for rows in waiting:
                still = self._cached.known(subscribed(self.subscriptions.modes, rows))
                if len(still):
                    self._send_rows(still)

    def _send_rows(self, rows: Ints) -> None:
        for cut in frame_cuts(len(rows), self._settings.max_packets_per_frame, self._random):
            part = rows[cut]
            modes = self.subscriptions.modes[part]
            obstacle = self._obstacle()
            if obstacle is not None:
                self._unsent(obstacle, part, modes)
                continue
            frame = self._cached.frame(part, modes)
            if self.delay_seconds or self._delayed:
                self._delay(frame, part)
            else:
                self._hand_over(frame)
                self._ledger.packets(self.sent, frame, part, time.time_ns())

    def _send_many(self, frames: Frames) -> None:
        obstacle = self._obstacle()
        if obstacle is not None:
            self._ledger.many(self.sent, frames, time.time_ns(), obstacle)
        elif self.delay_seconds or self._delayed:
            for frame, rows in frames.each():
                self._delay(frame, rows)
        elif len(frames.lengths):
            self.socket.transport.write(messages(frames))
            self._last_sent = self._loop.time()
            self._ledger.many(self.sent, frames, time.time_ns())

    def _unsent(self, reason: str, rows: Ints, modes: Modes) -> None:
        frame = self._cached.frame(rows, modes) if self._ledger.recording else b""
        self._ledger.unsent(self.sent, reason, rows, frame, time.time_ns())

    def _hand_over(self, message: bytes | str) -> None:
        broadcast((self.socket,), message)
        self._last_sent = self._loop.time()

    # ── delay ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _delay(self, frame: bytes, rows: Ints) -> None:
        due = self._loop.time() + self.delay_seconds
        self._delayed.append((due, frame, rows))
        self._delayed_bytes += len(frame)
        self._loop.call_at(due, self._pump)

    def _pump(self) -> None:
        while self._delayed and self._delayed[0][0] <= self._loop.time():
            _, frame, rows = self._delayed.popleft()
            self._delayed_bytes -= len(frame)
            if self.open:
                self._hand_over(frame)
                self._ledger.packets(self.sent, frame, rows, time.time_ns())
            else:
                self._ledger.unsent(self.sent, "down", rows, frame, time.time_ns())

    # ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────

    def text(self, text: str) -> bool:
        """Send a text message, unless packets could not be sent either."""
        if self._obstacle() is not None:
            self.sent.unsent_texts += 1
            return False
        self._hand_over(text)
        self._ledger.text(self.sent, text, time.time_ns())
        return True

    def heartbeat(self) -> None:
        """Send a heartbeat if nothing was sent for as long as the settings say."""
        if self._loop.time() - self._last_sent >= self._settings.heartbeat_seconds and self._obstacle() is None:
            self._hand_over(HEARTBEAT)
            self._ledger.heartbeat(self.sent, HEARTBEAT, time.time_ns())

    def damage(self, form: str, count: int) -> int:
        """Send `count` frames that are wrong on purpose (see `faults`); returns how many went."""
        sent = 0
        if form == "truncated" and not len(self._streamed()):
            return sent
        for _ in range(count):
            if self._obstacle() is None:
                frame, rows = self._damaged(form)
                self._hand_over(frame)
                self._ledger.damaged(self.sent, frame, rows, time.time_ns())
                sent += 1
        return sent

    def _damaged(self, form: str) -> tuple[bytes, Ints]:
        """A wrong frame and the instruments of its whole packets."""
        draw = self._random
        if form == "empty":
            return b"", NOTHING
        if form == "noise":  # its first packet claims more bytes than follow, so none is whole
            return b"\x00\x07\xff\xff" + draw.bytes(int(draw.integers(1, 400))), NOTHING
        rows = draw.permutation(self._streamed())[: int(draw.integers(2, 9))]
        frame = self._cached.frame(rows, self.subscriptions.modes[rows])
        if form == "count":
            return (len(rows) + 3).to_bytes(2, "big") + frame[2:], rows
        if form == "length":
            odd = _UNKNOWN_LENGTH.to_bytes(2, "big") + draw.bytes(_UNKNOWN_LENGTH)
            return (len(rows) + 1).to_bytes(2, "big") + odd + frame[2:], rows
        if form == "trailing":
            return frame + draw.bytes(int(draw.integers(1, 8))), rows
        whole = self._cached.frame(rows[:-1], self.subscriptions.modes[rows[:-1]])
        return frame[: int(draw.integers(len(whole) + 1, len(frame)))], rows[:-1]

    def _streamed(self) -> Ints:
        """Instruments whose cached packet a damaged frame can hold."""
        return self._cached.known(np.flatnonzero(self.subscriptions.modes))

    # ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────────

    def abandon(self) -> None:
        """Send nothing any more; what waits is booked as unsent."""
        self.leaving = True
        while self._delayed:
            _, frame, rows = self._delayed.popleft()
            self._ledger.unsent(self.sent, "down", rows, frame, time.time_ns())
        self._delayed_bytes = 0

    async def flushed(self, seconds: float) -> None:
        """Wait until all that was sent has reached the client's kernel, but not for longer."""
        deadline = self._loop.time() + seconds
        while self._in_flight() and self._loop.time() < deadline:  # noqa: ASYNC110 (the kernel signals nothing)
            await asyncio.sleep(0.005)

    async def cut(self, how: str, code: int) -> None:
        """End an abandoned connection by a reset (rst), a close frame (close) or plainly (eof), once it is flushed."""
        await self.flushed(FLUSH_SECONDS)
        transport = self.socket.transport
        if transport.is_closing():
            return
        if how == "close":
            await self.socket.close(code, "simulated")
            return
        if how == "rst":
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()

    def _in_flight(self) -> bool:
        """Whether something that was sent is not acknowledged by the client's kernel yet."""
        if self.socket.transport.is_closing():
            return False
        if self.unread_bytes:
            return True
        number = self.socket.transport.get_extra_info("socket").fileno()
        queued: int = struct.unpack("i", fcntl.ioctl(number, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        return queued > 0


def messages(frames: Frames) -> bytes:
    """Frames as WebSocket messages end to end, as a server sends them."""
    payload = frames.payload.data
    headers: dict[int, bytes] = {}
    pieces: list[bytes | memoryview] = []
    start = 0
    for length in frames.lengths.tolist():
        header = headers.get(length)
        if header is None:
            header = headers[length] = _message_header(length)
        pieces += (header, payload[start : start + length])
        start += length
    return b"".join(pieces)


def _message_header(length: int) -> bytes:
    """RFC 6455, 5.2: the length in 7 bits, or in 16 after 126, or in 64 after 127."""
    if length < 126:
        return bytes((_BINARY, length))
    if length < 2**16:
        return struct.pack(">BBH", _BINARY, 126, length)
    return struct.pack(">BBQ", _BINARY, 127, length)


def frame_cuts(size: int, most: int, random: np.random.Generator) -> Iterator[slice]:
    """Cut `size` packets into frames of at most `most`; about one time in four into more frames than needed."""
    cuts = set(range(most, size, most))
    if size > 1 and random.random() < 0.25:
        cuts.update(random.integers(1, size, 2).tolist())
    start = 0
    for cut in [*sorted(cuts), size]:
        yield slice(start, cut)
        start = cut
