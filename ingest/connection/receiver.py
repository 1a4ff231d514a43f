"""From the bytes of a socket to whole frames in the sink, in one call of the event loop.

`Receiver` has the system write into a buffer that is used again and again, cuts the frames there and appends each with
the time of the read: no queue, no task switch, no decoding, and no fresh memory but the frame's own bytes.
So nothing that was read can be lost on the way, whatever ends the connection, and a close loses no frame that the
server sent before its own close frame. The common frame (binary, whole, unmasked) is cut here; everything else
(handshake, texts, pings, fragments, closing, errors) goes through `websockets`.
"""

import asyncio
import time
from collections.abc import Callable
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


class Sink(Protocol):
    """Where frames go. `storage.journal.writer.JournalWriter` is one. Called on the event loop; must not block."""

    def channel(self, account: str, connection: int) -> int:
        """The number under which records of this connection are appended."""
        ...

    def append(self, kind: Kind, channel: int, received_at_ns: int, payload: bytes) -> None:
        """Take one record; `received_at_ns` is wall clock nanoseconds since the epoch."""
        ...


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
        **options: Any,
    ) -> None:
        super().__init__(protocol, **options)
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

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: behind those that are not taken yet."""
        return self._view[self._filled :] if self._filled else self._view

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        self._received_at_ns = time.time_ns()
        traffic = self._traffic
        traffic.last_bytes_at = time.monotonic()
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

        One loop without calls, since it runs for every frame: the common one is appended here, any other is handed to
        the library whole, and the first that is not in order stops the cutting for good.
        """
        append, channel, now_ns = self._append, self._channel, self._received_at_ns
        binary, largest = Kind.BINARY, self._max_frame_bytes
        data, view, end = self._buffer, self._view, self._filled
        needed = frames = 0
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
                append(binary, channel, now_ns, bytes(view[start:stop]))
                frames += 1
            else:
                super().data_received(bytes(view[at:stop]))
                whole_binary = -1 if self._fragments else WHOLE_BINARY
                if self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None:
                    self._handed_over = True
                    at = stop
                    break
            at = stop
        self._traffic.frames += frames
        return at, needed

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
