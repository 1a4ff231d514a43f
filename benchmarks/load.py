"""A load generator: the broker's stream as fast as it is taken, or at a rate, each packet with a number of its own.

    python -m benchmarks.load [--connections 6] [--instruments 18000] [--per-frame 5] [--rate 54000] [--seconds 60]

A process that is no simulator: full packets of the simulator's market are made once, in frames as they go over the
wire. Before frames are sent, numpy writes into the packets, in bulk, what tells them apart: `oi_day_high` is the number
of the connection, `volume_traded` counts its packets from 0, `exchange_timestamp` is the second. It answers the REST
calls that a capture makes, takes any key and token, and sends a connection the instruments that it asks for.

Lines of JSON on standard output: where it listens; when all instruments were asked for; and at the end what each
connection was sent. Then it goes on with heartbeats until its standard input ends, so that nobody has to hurry.
"""

import argparse
import contextlib
import datetime as dt
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from ingest.server import StreamMode
from ingest.simulator import Market, to_csv
from ingest.wire import FULL_DTYPE
from storage.clock import IST

CHUNK_BYTES: Final = 1 << 18
"""What is numbered and sent at once where there is no rate."""
PACED_FRAMES: Final = 32
"""What is numbered at once where there is one; each frame is sent by itself …"""
STEP_SECONDS: Final = 0.001
"""… when it is due, but for this: waking up for each would take most of a processor from whom it is to load."""
STEPS: Final = 8
"""So many packets of each instrument there are, before they come again with other numbers."""
LOOK_SECONDS: Final = 0.1
ASKED_SECONDS: Final = 0.002
HEARTBEAT_SECONDS: Final = 1.0
HEARTBEAT: Final = Frame(Opcode.BINARY, b"\x00").serialize(mask=False)
FRAMED: Final = np.dtype([("length", ">u2"), ("packet", FULL_DTYPE)])
PROFILE: Final = {"user_id": "LOAD", "user_name": "Load", "exchanges": ["NSE", "BSE", "NFO"]}


class Packets:
    """The market's listing without indices, and `STEPS` full packets of each of its instruments."""

    def __init__(self, instruments: int) -> None:
        size = instruments + instruments // 10 + 200  # indices are left out
        market = Market(size=size, seed=1, start=dt.datetime.now(IST), rate=400.0)
        rows = np.flatnonzero(~market.index)[:instruments]
        self.listing = to_csv([market.universe.instruments[row] for row in rows.tolist()]).encode()
        self.tokens: list[int] = market.tokens[rows].tolist()
        self._place = {token: place for place, token in enumerate(self.tokens)}
        self._steps = np.empty((STEPS, len(rows)), FRAMED)
        full = np.full(len(rows), StreamMode.FULL, np.uint8)
        for step in self._steps:
            market.step()
            for at in range(0, len(rows), 50_000):  # a frame has a limit
                some = slice(at, at + 50_000)
                step[some] = np.frombuffer(market.images.frame(rows[some], full[some])[2:], FRAMED)

    def of(self, tokens: frozenset[int], connection: int) -> NDArray[np.void]:
        """Packets of these instruments, in an order of the connection's own."""
        places = np.array([self._place[token] for token in sorted(tokens) if token in self._place])
        random = np.random.default_rng(connection)
        return np.concatenate([step[random.permutation(places)] for step in self._steps])


class Ring:
    """Frames of the WebSocket, over and over, with numbers that go on."""

    def __init__(self, packets: NDArray[np.void], per_frame: int, connection: int) -> None:
        packets = np.tile(packets, -(-per_frame // len(packets)))
        size = 2 + per_frame * FRAMED.itemsize
        assert 126 <= size < 1 << 16, "frames have a length of two bytes"
        head = [("first", "u1"), ("length", "u1"), ("size", ">u2"), ("count", ">u2")]
        frames = np.zeros(len(packets) // per_frame, [*head, ("packets", FRAMED, (per_frame,))])
        frames["first"], frames["length"], frames["size"], frames["count"] = 0x82, 126, size, per_frame
        frames["packets"] = packets[: len(frames) * per_frame].reshape(-1, per_frame)
        frames["packets"]["packet"]["oi_day_high"] = connection
        self.frame_bytes = frames.itemsize
        self._per_frame = per_frame
        self._size = len(frames)
        self._bytes = memoryview(frames.view(np.uint8).reshape(-1).data)
        content = frames["packets"]["packet"]
        self._numbers, self._times = content["volume_traded"], content["exchange_timestamp"]
        self._at = 0

    def take(self, frames: int, number: int) -> memoryview:
        """So many frames or fewer, with packets numbered from there; valid until the next call."""
        if self._at == self._size:
            self._at = 0
        stop = min(self._at + frames, self._size)
        numbers = np.arange(number, number + (stop - self._at) * self._per_frame, dtype=np.uint32)
        self._numbers[self._at : stop] = numbers.reshape(-1, self._per_frame)
        self._times[self._at : stop] = int(time.time())
        taken = self._bytes[self._at * self.frame_bytes : stop * self.frame_bytes]
        self._at = stop
        return taken


class Stream:
    """One connection: what it asks for, and how many packets it was sent."""

    def __init__(self, number: int, client: socket.socket, load: "Load") -> None:
        self.number = number
        self.tokens: frozenset[int] = frozenset()
        self.packets = 0
        self.is_open = True
        self._client = client
        self._load = load
        self._one_at_a_time = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in (self._read, self._send)]

    def start(self) -> None:
        """Listen to the client, and send."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends both threads."""
        self.is_open = False
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._client.close()

    def wait(self) -> None:
        """Until everything is sent, or the client has gone."""
        self._threads[1].join()

    def heartbeat(self) -> None:
        """Unless something is being sent at this moment."""
        if self.tokens and self.is_open and self._one_at_a_time.acquire(blocking=False):
            with contextlib.suppress(OSError):
                self._client.sendall(HEARTBEAT)
            self._one_at_a_time.release()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError:  # the client has gone
            self.is_open = False

    def _read(self) -> None:
        protocol = shake_hands(self._client)
        while data := self._client.recv(65_536):
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    self._obey(json.loads(bytes(event.data)))
            for answer in filter(None, protocol.data_to_send()):
                self._say(answer)
            if protocol.close_expected():  # the server is the first to end the connection
                break
        self.is_open = False
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def _obey(self, message: dict[str, Any]) -> None:
        match message:
            case {"a": "subscribe", "v": list(tokens)} | {"a": "mode", "v": ["full", list(tokens)]}:
                self.tokens |= set(tokens)
            case {"a": "unsubscribe", "v": list(tokens)}:
                self.tokens -= set(tokens)
        self._load.look()

    def _say(self, data: bytes | memoryview) -> None:
        with self._one_at_a_time:
            self._client.sendall(data)

    def _send(self) -> None:
        load, per_frame = self._load, self._load.per_frame
        while not (load.began.wait(LOOK_SECONDS) and self.tokens):
            if not self.is_open:
                return
            time.sleep(ASKED_SECONDS)
        ring_of, pause = self.tokens, load.pause_seconds
        ring = Ring(load.packets.of(ring_of, self.number), per_frame, self.number)
        due = time.monotonic() + pause * self.number / load.connections
        at_once = PACED_FRAMES if pause else max(1, CHUNK_BYTES // ring.frame_bytes)
        while self.is_open and (frames := min(at_once, load.frames_left(self))) > 0:
            if self.tokens != ring_of:
                ring_of = self.tokens
                ring = Ring(load.packets.of(ring_of, self.number), per_frame, self.number)
            taken = ring.take(frames, self.packets)
            if not pause:
                self._say(taken)
                self.packets += len(taken) // ring.frame_bytes * per_frame
                continue
            for at in range(0, len(taken), ring.frame_bytes):
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(max(wait, STEP_SECONDS))
                self._say(taken[at : at + ring.frame_bytes])
                self.packets += per_frame
                due += pause


class Load:
    """What is sent, and whether it is time for it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.per_frame: int = options.per_frame
        self.connections: int = options.connections
        self.packets = Packets(options.instruments)
        self.pause_seconds: float = options.per_frame * options.connections / options.rate if options.rate else 0.0
        self.began = threading.Event()
        self.streams: list[Stream] = []
        self._instruments: int = options.instruments
        self._at_once: bool = options.at_once
        self._seconds: float = options.seconds
        self._packets: int | None = options.packets
        self._lock = threading.Lock()
        self._end = 0.0
        self._complete: list[Stream] = []

    def add(self, client: socket.socket) -> None:
        """Somebody has connected."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = Stream(len(self.streams), client, self)
        self.streams.append(stream)
        stream.start()

    def look(self) -> None:
        """Begin if it is time, and say so whenever all instruments are asked for by connections that are new."""
        with self._lock:
            asking = [one for one in self.streams if one.is_open and one.tokens]
            complete = (
                len(asking) >= self.connections
                and len(frozenset().union(*(one.tokens for one in asking))) >= self._instruments
            )
            if (complete or self._at_once) and not self.began.is_set():
                self._end = time.monotonic() + self._seconds
                self.began.set()
            if complete and asking != self._complete:
                self._complete = asking
                say(subscribed=time.time())

    def frames_left(self, stream: Stream) -> int:
        """How many the stream may be sent, as far as that is known."""
        if self._packets:
            return -(-(self._packets // self.connections - stream.packets) // self.per_frame)
        return 1 << 20 if time.monotonic() < self._end else 0

    def wait(self) -> None:
        """Until all is sent that is to be sent."""
        self.began.wait()
        if not self._packets:
            time.sleep(max(self._end - time.monotonic(), 0))
        for stream in self.streams:
            stream.wait()


def shake_hands(client: socket.socket) -> ServerProtocol:
    """The server's part of the opening. Raises ConnectionError if the client goes."""
    protocol = ServerProtocol()
    while not (events := protocol.events_received()):
        if not (data := client.recv(65_536)):
            raise ConnectionResetError
        protocol.receive_data(data)
    request = events[0]
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    client.sendall(b"".join(protocol.data_to_send()))
    return protocol


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def rest_server(listing: bytes) -> ThreadingHTTPServer:
    """The instrument list, and a profile for whoever asks."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            is_list = self.path.startswith("/instruments")
            body = listing if is_list else json.dumps({"status": "success", "data": PROFILE}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/csv" if is_list else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Keep still."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up is no news."""

    return Server(("127.0.0.1", 0), Handler)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=6, help="it begins when there are so many …")
    parser.add_argument("--instruments", type=int, default=18_000, help="… and so many instruments are asked for")
    parser.add_argument("--at-once", action="store_true", help="it begins with the first connection")
    parser.add_argument("--per-frame", type=int, default=5, help="packets a frame, up to 350")
    parser.add_argument("--rate", type=float, help="packets a second, all connections together; as fast as they take")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--packets", type=int, help="so many, in place of a time")
    options = parser.parse_args()
    load = Load(options)
    rest, server = rest_server(load.packets.listing), socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    say(ws=f"ws://127.0.0.1:{server.getsockname()[1]}", api=f"http://127.0.0.1:{rest.server_address[1]}")

    def accept() -> None:
        while True:
            load.add(server.accept()[0])

    def keep_alive() -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            for stream in load.streams:
                stream.heartbeat()

    def tell() -> None:
        load.wait()
        say(ended=time.time(), sent={one.number: one.packets for one in load.streams})

    for work in (accept, keep_alive, tell):
        threading.Thread(target=work, daemon=True).start()
    sys.stdin.read()
    for stream in load.streams:
        stream.close()


if __name__ == "__main__":
    main()
