"""From the bytes of a socket to whole frames in the sink, in one call of the event loop.

`Receiver` has the system write into a buffer that is used again and again, cuts the frames there and appends those of a
read together, with its time: no queue, no task switch, no decoding, and no fresh memory but the frames' own bytes.
So nothing that was read can be lost on the way, whatever ends the connection, and a close loses no frame that the
server sent before its own close frame. The common frame (binary, whole, unmasked) is cut here; everything else
(handshake, texts, pings, fragments, closing, errors) goes through `websockets`.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.protocol import Event, State

from ingest.connection.stats import Traffic
from storage.journal import Kind

HEAD_END: Final = b"\r\n\r\n"
READ_BYTES: Final = 1 << 18  # at most at once; an answer's head must fit, too
HEADER_BYTES: Final = 10  # the longest header of an unmasked frame
WHOLE_BINARY: Final = 0x82  # FIN and opcode 2, no reserved bit (RFC 6455, 5.2)
MUCH_BYTES: Final = 1 << 16
"""Who has read so much at once reads on: what a wake-up costs is little beside it."""


class Sink(Protocol):
    """Where frames go. `storage.journal.writer.JournalWriter` is one. Called on the event loop; must not block."""

    def channel(self, account: str, connection: int) -> int:
        """The number under which records of this connection are appended."""
        ...

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        """Take records that came together, one or more; `received_at_ns` is wall clock nanoseconds since the epoch."""
        ...


class Pacer:
    """Has the busy sockets of an event loop rest together, so that one wake-up reads what has come over all of them.

    A wake-up and a read cost many times what a frame costs, so at thousands of small frames a second most of the work
    would be waking up. What comes meanwhile waits in the system's buffers.
    """

    def __init__(self) -> None:
        self._resting: dict[asyncio.Transport, ReadableFrom | None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def rest(self, transport: asyncio.Transport, seconds: float, readable_from: "ReadableFrom | None" = None) -> None:
        """Do not read from this one for so long, or until the others read again: whichever is sooner.

        What `readable_from` gave for it is quicker than to have the loop forget the socket and know it again.
        """
        if transport in self._resting:
            return
        if readable_from is None:
            transport.pause_reading()
        else:
            readable_from(MUCH_BYTES)
        self._resting[transport] = readable_from
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.wake)

    def wake(self) -> None:
        """Read on, in the loop's next turn."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        resting, self._resting = self._resting, {}
        for transport, readable_from in resting.items():
            if transport.is_closing():
                continue
            if readable_from is None:
                transport.resume_reading()
            else:
                readable_from(1)


ReadableFrom = Callable[[int], object]
"""Has the system call a socket readable from so many bytes on, or at its end."""


def readable_from(transport: asyncio.BaseTransport) -> ReadableFrom | None:
    """That of this socket; None if its kind, or the system, has none."""
    one = transport.get_extra_info("socket")
    if one is None or one.family not in (socket.AF_INET, socket.AF_INET6):  # others take it and do not heed it
        return None
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    except OSError:
        return None
    return partial(one.setsockopt, socket.SOL_SOCKET, socket.SO_RCVLOWAT)


class Receiver(ClientConnection, asyncio.BufferedProtocol):
    """A client connection whose frames go to a sink from inside of the read.

    Invariant: `websockets` is only ever handed whole frames, so that its parser stands between two frames and this
    class may cut the next one itself. From the moment that no longer holds (a header that is not in order, an
    oversized frame, a close frame or an error seen) everything goes to the library, which then fails the connection
    or discards, as RFC 6455 demands.
    """

    def __init__(
        self,
        protocol: ClientProtocol,
        *,
        sink: Sink,
        channel: int,
        traffic: Traffic,
        opened: Callable[["Receiver"], None],
        max_frame_bytes: int,
        redact: Callable[[str], str],
        pacer: Pacer,
        rest_seconds: float,
        **options: Any,
    ) -> None:
        super().__init__(protocol, **options)
        self._pacer = pacer
        self._rest_seconds = rest_seconds
        self._redact = redact
        self._append = sink.append
        self._channel = channel
        self._traffic = traffic
        self._opened = opened
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0  # bytes of the buffer that are not taken yet
        self._handed_over = False  # everything goes to the library
        self._fragments: list[bytes] = []
        self._fragments_kind = Kind.BINARY
        self._received_at_ns = 0
        self._readable_from: ReadableFrom | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        super().connection_made(transport)
        self._readable_from = readable_from(transport)
        limit = getattr(transport, "set_read_buffer_limits", None)
        if limit is not None:  # TLS: without a limit the bytes are read while it rests, and only not decrypted
            limit(1)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: behind those that are not taken yet."""
        return self._view[self._filled :] if self._filled else self._view

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        self._received_at_ns = time.time_ns()
        now, traffic = time.monotonic(), self._traffic
        before = traffic.frames
        is_soon = traffic.last_bytes_at is not None and now - traffic.last_bytes_at < self._rest_seconds
        traffic.last_bytes_at = now
        traffic.bytes += nbytes
        self._filled += nbytes
        at = 0
        if self.response is None and not self._handed_over:
            at = self._finish_handshake()
        needed = 0
        if at < self._filled and self.response is not None and not self._handed_over:
            at, needed = self._cut(at)
        if self._handed_over:
            self._hand_over(at)
        elif at:
            self._filled -= at
            if self._filled:
                self._view[: self._filled] = self._view[at : at + self._filled]
        if needed > len(self._buffer) or (len(self._buffer) > READ_BYTES and needed <= READ_BYTES):
            self._resize(max(needed, self._filled + HEADER_BYTES, READ_BYTES))
        # Busy is who has read a moment ago, or has found several frames although it has rested.
        is_busy = is_soon or traffic.frames - before > 1
        if is_busy and self._rest_seconds and nbytes < MUCH_BYTES and not self._handed_over:
            self._pacer.rest(self.transport, self._rest_seconds, self._readable_from)

    def data_received(self, data: bytes) -> None:
        """The same from an event loop that brings bytes of its own, as uvloop does to any `asyncio.Protocol`."""
        rest = memoryview(data)
        while rest:
            buffer = self.get_buffer(len(rest))[: len(rest)]
            buffer[:] = rest[: len(buffer)]
            self.buffer_updated(len(buffer))
            rest = rest[len(buffer) :]

    def _finish_handshake(self) -> int:
        """Give the library the answer's head when it is whole; returns where the rest begins."""
        end = self._buffer.find(HEAD_END, 0, self._filled) + len(HEAD_END)
        if end >= len(HEAD_END):
            super().data_received(bytes(self._view[:end]))
            self._handed_over = self.protocol.state is not State.OPEN  # the body of a refusal follows
            return end
        self._handed_over = self._filled == len(self._buffer)
        return 0

    def _cut(self, at: int) -> tuple[int, int]:
        """Take the whole frames. Returns where the rest begins, and how many bytes make it a frame (0: unknown yet).

        One loop without calls, since it runs for every frame: common ones are collected here, and appended before any
        other is handed to the library whole. The first that is not in order stops the cutting for good.
        """
        largest = self._max_frame_bytes
        data, view, end = self._buffer, self._view, self._filled
        frames: list[bytes] = []
        needed = 0
        whole_binary = -1 if self._fragments else WHOLE_BINARY  # inside of a fragmented message it is an error
        while end - at >= 2:
            length = data[at + 1]
            start = at + 2
            if length >= 126:
                if length > 127:  # masked, which a server must not do
                    self._handed_over = True
                    break
                start = at + (4 if length == 126 else HEADER_BYTES)
                if start > end:
                    break
                if length == 126:
                    length = data[at + 2] << 8 | data[at + 3]
                else:
                    length = int.from_bytes(view[at + 2 : start], "big")
                if length > largest:
                    self._handed_over = True
                    break
            stop = start + length
            if stop > end:
                needed = stop - at
                break
            if data[at] == whole_binary:
                if not frames and (behind := self._behind_alike(at, start, stop)) > stop:
                    run, size = bytes(view[start:behind]), stop - at
                    frames += [run[first : first + length] for first in range(0, behind - at, size)]
                    stop = behind
                else:
                    frames.append(bytes(view[start:stop]))
            else:
                self._take(frames)
                super().data_received(bytes(view[at:stop]))
                whole_binary = -1 if self._fragments else WHOLE_BINARY
                if self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None:
                    self._handed_over = True
                    at = stop
                    break
            at = stop
        self._take(frames)
        return at, needed

    def _behind_alike(self, at: int, start: int, stop: int) -> int:
        """Where the whole frames end, if all of them have the header of the first; else where the first ends."""
        data, size = self._buffer, stop - at
        count = (self._filled - at) // size
        behind = at + count * size
        for byte in range(at, start):
            if data[byte:behind:size] != count * data[byte : byte + 1]:
                return stop
        return behind

    def _take(self, frames: list[bytes]) -> None:
        """Append these binary frames, and forget them."""
        if frames:
            self._append(Kind.BINARY, self._channel, self._received_at_ns, *frames)
            self._traffic.frames += len(frames)
            frames.clear()

    def _hand_over(self, at: int) -> None:
        rest = bytes(self._view[at : self._filled])
        self._filled = 0
        if rest:
            super().data_received(rest)

    def _resize(self, size: int) -> None:
        """A buffer that the frame fits in; back to the usual size once it is taken."""
        if size != len(self._buffer):
            buffer = bytearray(size)
            buffer[: self._filled] = self._view[: self._filled]
            self._buffer, self._view = buffer, memoryview(buffer)

    def process_event(self, event: Event) -> None:
        """An event from the library: the handshake's answer, or a frame that was handed over."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            if event.opcode is not Opcode.CONT:
                self._fragments_kind = Kind.TEXT if event.opcode is Opcode.TEXT else Kind.BINARY
            self._fragments.append(bytes(event.data))
            if event.fin:
                payload = b"".join(self._fragments)
                self._fragments.clear()
                if self._fragments_kind is Kind.TEXT:  # it may quote the URL, and so the token
                    text = payload.decode("utf-8", "surrogateescape")
                    payload = self._redact(text).encode("utf-8", "surrogateescape")
                self._append(self._fragments_kind, self._channel, self._received_at_ns, payload)
                self._traffic.frames += 1
            return
        opening = self.response is None
        super().process_event(event)
        if opening and self.protocol.handshake_exc is None:
            self._opened(self)
        elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE and self.close_timeout is not None:
            # The peer ends the TCP connection after a close frame. If it does not, we do.
            self.loop.call_later(self.close_timeout, self.transport.abort)

    def eof_received(self) -> None:
        """The peer sends nothing more."""
        self._hand_over(0)  # the library says what was cut short
        super().eof_received()
