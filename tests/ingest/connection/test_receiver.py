"""The receiver against its slow twin: whatever the bytes and their cuts, the sink gets what websockets reads."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.uri import parse_uri
from websockets.utils import accept_key

import ingest.connection.receiver
from ingest.connection.receiver import MUCH_BYTES, Pacer, Receiver
from ingest.connection.stats import Traffic
from storage.journal import Kind
from tests.support.waiting import PATIENCE_SECONDS

Outcome = tuple[list[tuple[Kind, bytes]], Close | None, str]
MAX_FRAME_BYTES = 70_000
URI = parse_uri("ws://127.0.0.1:1/?access_token=x")


@pytest.fixture(autouse=True, scope="module", params=[4096, ingest.connection.receiver.READ_BYTES])
def read_bytes(request: pytest.FixtureRequest) -> Iterator[None]:
    """With a small buffer, which has to grow for a large frame and shrinks again, and with the usual one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest.connection.receiver, "READ_BYTES", request.param)
        yield


def wire(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """A frame as a server sends it."""
    return Frame(opcode, data, fin).serialize(mask=False)


def fragmented(opcode: Opcode, parts: list[bytes], between: bytes = b"") -> bytes:
    frames = [wire(opcode if i == 0 else Opcode.CONT, p, fin=i == len(parts) - 1) for i, p in enumerate(parts)]
    return between.join(frames)


SIZES = st.sampled_from([0, 1, 2, 125, 126, 127, 300, 65_535, 65_536])
PAYLOADS = st.binary(max_size=12) | SIZES.map(lambda size: b"\x07" * size)
PINGS = st.binary(max_size=12).map(lambda data: wire(Opcode.PING, data))
FRAMES = st.one_of(
    PAYLOADS.map(lambda data: wire(Opcode.BINARY, data)),
    PAYLOADS.map(lambda data: wire(Opcode.BINARY, data)),
    st.text(max_size=12).map(lambda text: wire(Opcode.TEXT, text.encode())),
    PINGS,
    st.builds(fragmented, st.sampled_from([Opcode.BINARY, Opcode.TEXT]), st.lists(st.just(b"ab"), min_size=1), PINGS),
)
ENDINGS = st.one_of(
    st.just(b""),
    st.sampled_from([1000, 1001, 1011]).map(lambda code: wire(Opcode.CLOSE, Close(code, "bye").serialize())),
    st.binary(max_size=12),
    st.just(wire(Opcode.BINARY, b"x" * (MAX_FRAME_BYTES + 1))),
    st.just(b"\x82\xff" + b"\xff" * 8 + b"abc"),  # masked, and of an absurd length
    st.just(wire(Opcode.BINARY, b"ab", fin=False) + wire(Opcode.BINARY, b"cd")),  # not a continuation
    st.just(wire(Opcode.CONT, b"ab")),  # a continuation of nothing
    st.just(wire(Opcode.BINARY, b"cut short")[:-3]),
    st.just(b"\xf2\x02ab"),  # reserved bits
)


def handshake_answer(protocol: ClientProtocol) -> bytes:
    accept = accept_key(protocol.key)
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    return "\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode()


def cut(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return (data[a:b] for a, b in pairwise(places))


def outcome_of(protocol: ClientProtocol, got: list[tuple[Kind, bytes]]) -> Outcome:
    return got, protocol.close_rcvd, f"{type(protocol.parser_exc).__name__}: {protocol.parser_exc}"


def with_library(stream: bytes) -> Outcome:
    """The slow twin: websockets' own parser, all bytes at once."""
    protocol = ClientProtocol(URI, max_size=MAX_FRAME_BYTES)
    protocol.send_request(protocol.connect())
    protocol.receive_data(handshake_answer(protocol) + stream)
    got: list[tuple[Kind, bytes]] = []
    parts: list[bytes] = []
    kind = Kind.BINARY
    for event in protocol.events_received():
        if isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
            if event.opcode is not Opcode.CONT:
                kind = Kind.TEXT if event.opcode is Opcode.TEXT else Kind.BINARY
            parts.append(bytes(event.data))
            if event.fin:
                got.append((kind, b"".join(parts)))
                parts.clear()
    protocol.receive_eof()
    return outcome_of(protocol, got)


class Sink:
    def __init__(self) -> None:
        self.got: list[tuple[Kind, bytes]] = []
        self.times: list[int] = []

    def channel(self, account: str, connection: int) -> int:
        raise NotImplementedError

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        assert channel == 7
        assert all(type(payload) is bytes for payload in payloads)
        self.got += [(kind, payload) for payload in payloads]
        self.times.append(received_at_ns)


def feed(receiver: Receiver, data: bytes) -> None:
    """As a transport does it: into the receiver's buffer, as much as it offers at a time."""
    while data:
        buffer = receiver.get_buffer(-1)
        assert len(buffer) > 0
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        receiver.buffer_updated(size)
        data = data[size:]


async def with_receiver(stream: bytes, cuts: list[int]) -> Outcome:
    ours, peer = socket.socketpair()
    with peer:
        protocol = ClientProtocol(URI, max_size=MAX_FRAME_BYTES)
        sink, traffic, opened = Sink(), Traffic(), []

        def make() -> Receiver:
            return Receiver(
                protocol,
                sink=sink,
                channel=7,
                traffic=traffic,
                opened=lambda _: opened.append(len(sink.got)),
                max_frame_bytes=MAX_FRAME_BYTES,
                redact=str,
                pacer=Pacer(),
                rest_seconds=0.0,
            )

        transport, receiver = await asyncio.get_running_loop().create_connection(make, sock=ours)
        protocol.send_request(protocol.connect())
        data = handshake_answer(protocol) + stream
        for number, chunk in enumerate(cut(data, cuts)):
            if number % 3 == 2:
                receiver.data_received(chunk)  # as uvloop does it
            else:
                feed(receiver, chunk)
        assert opened == [0], "the opening is reported once, before the first frame"
        assert traffic.bytes == len(data)
        assert traffic.frames == len(sink.got)
        assert traffic.last_bytes_at is not None
        assert sink.times == sorted(sink.times)
        receiver.eof_received()
        transport.abort()
        await receiver.wait_closed()
        return outcome_of(protocol, sink.got)


@given(st.lists(FRAMES, max_size=8), ENDINGS, st.lists(st.integers(0, 200_000), max_size=12))
@example([wire(Opcode.BINARY, bytes([n])) for n in range(40)], b"", list(range(300)))
def test_the_sink_gets_what_the_library_reads(frames: list[bytes], ending: bytes, cuts: list[int]) -> None:
    stream = b"".join(frames) + ending
    assert asyncio.run(with_receiver(stream, cuts)) == with_library(stream)


@given(st.binary(max_size=200), st.lists(st.integers(0, 1000), max_size=5))
def test_any_bytes_are_read_as_the_library_reads_them(stream: bytes, cuts: list[int]) -> None:
    assert asyncio.run(with_receiver(stream, cuts)) == with_library(stream)


@given(st.integers(0, 70), st.integers(2, 40), ENDINGS, st.lists(st.integers(0, 3000), max_size=5))
def test_frames_of_one_size_are_read_as_the_library_reads_them(
    size: int, count: int, ending: bytes, cuts: list[int]
) -> None:
    """They are cut many at once, if nothing else stands among them."""
    stream = b"".join(wire(Opcode.BINARY, bytes([number]) * size) for number in range(count)) + ending
    assert asyncio.run(with_receiver(stream, cuts)) == with_library(stream)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname(), PATIENCE_SECONDS)
        ours.setblocking(False)
        return ours, server.accept()[0]


def untouched_pair() -> tuple[socket.socket, socket.socket]:
    """TCP on a system that does not know how much is much."""

    class Plain(socket.socket):
        def setsockopt(self, level: int, option: int, *value: Any) -> None:
            if option == socket.SO_RCVLOWAT:
                raise OSError(errno.ENOPROTOOPT, "unknown")
            super().setsockopt(level, option, *value)

    ours, peer = tcp_pair()
    return Plain(fileno=ours.detach()), peer


PAIRS = (tcp_pair, untouched_pair, socket.socketpair)
Pair = Callable[[], tuple[socket.socket, socket.socket]]


@contextlib.asynccontextmanager
async def opened_receiver(
    sink: Sink, rest_seconds: float, pair: Pair = socket.socketpair
) -> AsyncIterator[tuple[Receiver, Pacer, socket.socket]]:
    """One that is open, with the peer's socket."""
    ours, peer = pair()
    with peer:
        protocol, pacer = ClientProtocol(URI), Pacer()
        make = lambda: Receiver(  # noqa: E731
            protocol,
            sink=sink,
            channel=7,
            traffic=Traffic(),
            opened=lambda _: None,
            max_frame_bytes=MAX_FRAME_BYTES,
            redact=str,
            pacer=pacer,
            rest_seconds=rest_seconds,
        )
        transport, receiver = await asyncio.get_running_loop().create_connection(make, sock=ours)
        protocol.send_request(protocol.connect())
        peer.sendall(handshake_answer(protocol))
        while receiver.response is None:
            await asyncio.sleep(0.001)
        yield receiver, pacer, peer
        transport.abort()
        await receiver.wait_closed()


async def until_read(sink: Sink, frames: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(sink.got) < frames:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("pair", PAIRS)
async def test_a_busy_socket_rests_until_all_are_read_again_and_nothing_is_lost(pair: Pair) -> None:
    sink = Sink()
    async with opened_receiver(sink, 3600, pair) as (receiver, pacer, peer):
        peer.sendall(wire(Opcode.BINARY, b"0"))  # a moment after the handshake
        await until_read(sink, 1)
        assert receiver.transport.is_reading() is (pair is tcp_pair), "the system waits where it can"
        for number in b"123":
            peer.sendall(wire(Opcode.BINARY, bytes([number])))
            await asyncio.sleep(0.001)
        assert len(sink.got) == 1
        pacer.wake()
        await until_read(sink, 4)
        assert [payload for _, payload in sink.got] == [b"0", b"1", b"2", b"3"]
        assert len(set(sink.times[1:])) == 1, "one read"
        peer.sendall(wire(Opcode.BINARY, b"4"))
        await asyncio.sleep(0.01)
        assert len(sink.got) == 4, "it rests again"
        receiver.transport.abort()
        pacer.wake()


async def test_a_socket_that_rests_is_read_when_much_has_come_or_the_peer_has_ended() -> None:
    much = b"x" * (MUCH_BYTES // 16)
    for ends in (False, True):
        sink = Sink()
        async with opened_receiver(sink, 3600, tcp_pair) as (receiver, _, peer):
            peer.sendall(wire(Opcode.BINARY, b"0"))
            await until_read(sink, 1)
            for _ in range(1 if ends else 40):
                peer.sendall(wire(Opcode.BINARY, much))
                await asyncio.sleep(0)
            if ends:
                peer.shutdown(socket.SHUT_WR)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await receiver.wait_closed()
            await until_read(sink, 2)
            assert {payload for _, payload in sink.got} == {b"0", much}


@pytest.mark.parametrize("pair", PAIRS)
async def test_a_quiet_socket_never_rests_and_a_rest_ends_by_itself(pair: Pair) -> None:
    for rest_seconds in (0.0, 1e-9, 0.001):
        sink = Sink()
        async with opened_receiver(sink, rest_seconds, pair) as (receiver, _, peer):
            for number in range(20):
                peer.sendall(wire(Opcode.BINARY, bytes([number])))
                await until_read(sink, number + 1)
                assert receiver.transport.is_reading() or rest_seconds == 0.001


@pytest.mark.parametrize("code", [1000, 1011])
def test_nothing_is_taken_behind_a_close_frame(code: int) -> None:
    stream = wire(Opcode.BINARY, b"a") + wire(Opcode.CLOSE, Close(code, "").serialize()) + wire(Opcode.BINARY, b"b")
    got, close, _ = asyncio.run(with_receiver(stream, []))
    assert (got, close) == ([(Kind.BINARY, b"a")], Close(code, ""))


def test_an_endless_head_is_given_up() -> None:
    """A server that never ends its headers is not buffered for."""

    async def run() -> None:
        ours, peer = socket.socketpair()
        with peer:
            protocol = ClientProtocol(URI)
            make = lambda: Receiver(  # noqa: E731
                protocol,
                sink=Sink(),
                channel=7,
                traffic=Traffic(),
                opened=print,
                max_frame_bytes=MAX_FRAME_BYTES,
                redact=str,
                pacer=Pacer(),
                rest_seconds=0.0,
            )
            transport, receiver = await asyncio.get_running_loop().create_connection(make, sock=ours)
            protocol.send_request(protocol.connect())
            feed(receiver, b"HTTP/1.1 101 Switching Protocols\r\n")
            for _ in range(200):
                feed(receiver, b"X: " + b"x" * 3000 + b"\r\n")
            assert protocol.handshake_exc is not None
            transport.abort()
            await receiver.wait_closed()

    asyncio.run(run())
