"""What `benchmarks.bench_stream` sends, and how little it takes Python to read that: no library, nothing watched."""

import contextlib
import select
import socket
import struct
import threading
import time
from typing import Final, Protocol

import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from benchmarks.load import shake_hands
from ingest.wire import FULL_DTYPE, decode_batch, decode_frames, encode_frames

TOKENS: Final = [256 * (1000 + number) + 1 for number in range(1000)]
STAMP: Final = struct.Struct(">II")
STAMP_AT: Final = 2 + 2 + FULL_DTYPE.fields["oi_day_high"][1]  # type: ignore[index]
"""Where a frame has the time of its sending: microseconds, in two fields of its first packet."""
REST_SECONDS: Final = 0.0035
"""As often as `batches()` hands out a batch when it rests and waits as it does by default."""


class Counts(Protocol):
    """What a reader tells how many packets it has."""

    packets: int


def build_frames(packets: int) -> list[bytes]:
    """Some thousand full packets of all instruments, in frames of so many."""
    random = np.random.default_rng(1)
    rows = np.zeros(4 * len(TOKENS), FULL_DTYPE)
    rows["instrument_token"] = np.tile(TOKENS, 4)
    for name in ("last_price", "average_traded_price", "open", "high", "low", "close"):
        rows[name] = random.integers(10_000, 400_000, len(rows))
    for name in ("last_traded_quantity", "volume_traded", "total_buy_quantity", "total_sell_quantity", "oi"):
        rows[name] = random.integers(0, 1 << 24, len(rows))
    for name in ("last_trade_time", "exchange_timestamp"):
        rows[name] = 1_794_000_000 + np.arange(len(rows)) // 100
    for name in ("quantity", "price", "orders"):
        rows["depth"][name] = random.integers(1, 50_000, (len(rows), 2, 5))
    run = [b"\x00\x01\x00\xb8" + row.tobytes() for row in rows]
    return encode_frames(decode_frames(run), packets)


def serve(packets: int, connections: int, frames_a_second: float) -> None:
    """The sender: prints its port, waits for its clients, sends until one goes."""
    frames = build_frames(packets)
    messages = [bytearray(Frame(Opcode.BINARY, frame).serialize(mask=False)) for frame in frames]
    stamp_at = len(messages[0]) - len(frames[0]) + STAMP_AT
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        clients = [_accept(server) for _ in range(connections)]
        start, sent = time.perf_counter(), 0
        try:
            while True:
                wait = start + sent / frames_a_second - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                round_, number = divmod(sent, len(messages))
                message = messages[number]
                STAMP.pack_into(message, stamp_at, *divmod(time.monotonic_ns() // 1000, 1 << 32))
                clients[(number + round_) % connections].sendall(message)  # so that each gets all instruments
                sent += 1
        except OSError:
            return


def _accept(server: socket.socket) -> socket.socket:
    client, _ = server.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    shake_hands(client)
    threading.Thread(target=_swallow, args=(client,), daemon=True).start()
    return client


def _swallow(client: socket.socket) -> None:
    """Take what the client says, and nothing more."""
    try:
        while client.recv(65_536):
            pass
    except OSError:
        pass


def read_sockets(url: str, packets: int, count: Counts) -> None:
    """Three sockets, as fast as Python gets at what they bring."""
    poll, memory = select.epoll(), bytearray(1 << 18)
    sockets = {client.fileno(): client for client in _clients(url)}
    for number in sockets:
        poll.register(number, select.EPOLLIN)
    size = _message_size(build_frames(packets)[0]) / packets
    received = 0
    while True:
        for ready, _ in poll.poll():
            received += sockets[ready].recv_into(memory)
        count.packets = int(received / size)


def read_decoding(url: str, packets: int, count: Counts) -> None:
    """The same, and each time every field of what they have brought."""
    clients, frame = _clients(url), build_frames(packets)[0]
    size = _message_size(frame)
    head = size - len(frame)
    memories = [bytearray(1 << 20) for _ in clients]
    filled = [0] * len(clients)
    while True:
        time.sleep(REST_SECONDS)
        frames: list[bytes] = []
        connections: list[int] = []
        for number, (client, memory) in enumerate(zip(clients, memories, strict=True)):
            with contextlib.suppress(BlockingIOError):
                filled[number] += client.recv_into(memoryview(memory)[filled[number] :])
            end = filled[number] - filled[number] % size
            some = bytes(memoryview(memory)[:end])
            frames += [some[at + head : at + size] for at in range(0, end, size)]
            connections += [number] * (end // size)
            memory[: filled[number] - end] = memory[end : filled[number]]
            filled[number] -= end
        if frames:
            many = len(frames)
            batch, _ = decode_batch(frames, np.full(many, time.time_ns()), np.array(connections), (("one",), None))
            count.packets += batch.num_rows


def _clients(url: str) -> list[socket.socket]:
    """Three connections that do not block."""
    uri, clients = parse_uri(url), []
    for _ in range(3):
        client = socket.create_connection((uri.host, uri.port))
        protocol = ClientProtocol(uri)
        protocol.send_request(protocol.connect())
        client.sendall(b"".join(protocol.data_to_send()))
        while not protocol.events_received():
            protocol.receive_data(client.recv(1))
        client.setblocking(False)
        clients.append(client)
    return clients


def _message_size(frame: bytes) -> int:
    return len(Frame(Opcode.BINARY, frame).serialize(mask=False))
