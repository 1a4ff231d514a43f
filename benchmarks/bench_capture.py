"""What receiving a frame costs: from the socket to the sink, against the peers in the same run.

    python -m benchmarks.bench_capture [--rounds 3] [--quick] [--json FILE]

A sender process writes frames that were built beforehand over loopback as fast as they are taken: 50, 5 and 1 full
packets (184 bytes) each. Each receiver runs in a process of its own, one at a time, and reports its CPU time from the
first to the last frame; they take turns, and the median of the rounds counts. Receivers:

    kitelake          KiteConnection with a sink that counts
    kitelake journal  KiteConnection with the journal: flushed every 10 ms, synced every 100 ms
    websockets        the floor of what we could do with the library: `await ws.recv()` in a loop, nothing else
    socket            the floor of any client: what comes is read from the socket, and forgotten
    picows, official, official-ticks: see `benchmarks.peer_clients`

`copy` is the time that memory takes to copy the frames once, and no receiver.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from websockets.asyncio.client import connect
from websockets.frames import Close, Frame, Opcode

from benchmarks.load import shake_hands
from benchmarks.peers import NoPeerError, run_client
from benchmarks.results import Claim, Findings, Table, arguments, tell
from benchmarks.turns import median_of_each
from ingest.accounts import Account
from ingest.connection import KiteConnection, Sink
from ingest.settings import StreamSettings
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout

PACKET: Final = b"\x00\xb8" + (408065).to_bytes(4, "big") + bytes(range(180))
FRAMES: Final = {50: 15_000, 5: 60_000, 1: 120_000}  # packets a frame: frames
SLOW_SHARE: Final = {"official": 5, "official-ticks": 50}  # these get so many times fewer frames
PEERS: Final = ("picows", "official", "official-ticks")
RECEIVERS: Final = ("kitelake", "kitelake journal", "websockets", "socket", *PEERS)
QUICK_SHARE: Final = 50
TOKEN: Final = 408065


def send(packets: int, frames: int) -> None:
    """The sender: prints its port, serves one client, ends."""
    payload = packets.to_bytes(2, "big") + PACKET * packets
    batch = Frame(Opcode.BINARY, payload).serialize(mask=False) * 100
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
        with client:
            shake_hands(client)
            for _ in range(frames // 100):
                client.sendall(batch)
            with contextlib.suppress(OSError):
                client.sendall(Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=False))
                while client.recv(65_536):
                    pass


class Clock:
    """CPU and wall seconds from the first to the last frame."""

    def __init__(self, frames: int) -> None:
        self.left = frames
        self.start = (0.0, 0.0)
        self.spent = (0.0, 0.0)

    def begin(self) -> None:
        self.start = time.process_time(), time.perf_counter()

    def end(self) -> None:
        self.spent = time.process_time() - self.start[0], time.perf_counter() - self.start[1]


class Counting:
    """Hands frames on to `inner`, if any, and tells when the last one has come."""

    def __init__(self, clock: Clock, done: asyncio.Event, inner: Sink | None = None) -> None:
        self._clock = clock
        self._done = done
        self._inner = inner

    def channel(self, account: str, connection: int) -> int:
        return self._inner.channel(account, connection) if self._inner else 1

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        if self._inner is not None:
            self._inner.append(kind, channel, received_at_ns, *payloads)
        if kind is Kind.BINARY:
            self._clock.left -= len(payloads)
            if not self._clock.left:
                self._clock.end()
                self._done.set()
        elif kind is Kind.EVENT and not self._clock.start[0]:
            self._clock.begin()


async def receive_kitelake(url: str, clock: Clock, journal: JournalWriter | None = None) -> None:
    done = asyncio.Event()
    sink = Counting(clock, done, journal)
    connection = KiteConnection(Account("one", "key", "token"), 1, StreamSettings(), sink, ws_url=url)
    connection.start()
    keepers = [asyncio.create_task(keep(journal.flush, 0.01)), asyncio.create_task(sync(journal))] if journal else []
    await done.wait()
    await connection.close()
    for task in keepers:
        task.cancel()
    await asyncio.gather(*keepers, return_exceptions=True)


async def keep(flush: Any, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        flush()


async def sync(journal: JournalWriter) -> None:
    while True:
        await asyncio.sleep(0.1)
        await asyncio.to_thread(journal.sync)


async def receive_journal(url: str, clock: Clock) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = JournalWriter(
            DataLayout(Path(folder)), "20261122T091500-000001", segment_bytes=64 << 20, segment_seconds=10.0
        )
        await receive_kitelake(url, clock, journal)
        journal.close()


async def receive_websockets(url: str, clock: Clock) -> None:
    async with connect(url, compression=None, max_size=None, ping_interval=None) as ws:
        clock.begin()
        for _ in range(clock.left):
            await ws.recv()
        clock.end()


def receive_socket(url: str, clock: Clock, frame_bytes: int) -> None:
    """Of bytes, since it does not look at frames."""
    host, port = url.removeprefix("ws://").split(":")
    buffer = bytearray(1 << 18)
    with socket.create_connection((host, int(port))) as client:
        key = "Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13"
        client.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n{key}\r\n\r\n".encode())
        left = clock.left * frame_bytes
        clock.begin()
        while left > 0:
            left -= client.recv_into(buffer)
        clock.end()
    clock.left = 0


def receive(kind: str, url: str, frames: int, frame_bytes: int) -> None:
    """The receiver: prints CPU and wall seconds."""
    clock = Clock(frames)
    match kind:
        case "kitelake":
            asyncio.run(receive_kitelake(url, clock))
        case "kitelake journal":
            asyncio.run(receive_journal(url, clock))
        case "websockets":
            asyncio.run(receive_websockets(url, clock))
        case "socket":
            receive_socket(url, clock, frame_bytes)
    assert clock.left == 0 or kind == "websockets"
    print(json.dumps(clock.spent))


def measure(kind: str, packets: int, frames: int) -> dict[str, float]:
    """Microseconds a frame, of CPU and of time. Raises NoPeerError."""
    frames = max(frames // SLOW_SHARE.get(kind, 1) // 100, 1) * 100
    me = [sys.executable, "-m", "benchmarks.bench_capture"]
    with subprocess.Popen([*me, "--send", str(packets), str(frames)], stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None
        url = f"ws://127.0.0.1:{int(sender.stdout.readline())}"
        try:
            if kind in PEERS:
                took = run_client(kind, url, [TOKEN], packets * frames, Path())
                cpu, wall = took["cpu"], took["wall"]
            else:
                frame_bytes = 4 + 2 + packets * len(PACKET)
                command = [*me, "--receive", kind, url, str(frames), str(frame_bytes)]
                cpu, wall = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        except NoPeerError:
            sender.kill()
            raise
    return {"cpu": cpu / frames * 1e6, "wall": wall / frames * 1e6}


def copy_us(packets: int, frames: int) -> float:
    """Microseconds to copy a frame."""
    source = np.zeros((frames, 2 + packets * len(PACKET)), np.uint8)
    target = np.zeros_like(source)
    start = time.process_time()
    np.copyto(target, source)
    return (time.process_time() - start) / frames * 1e6


def compare(packets: int, frames: int, rounds: int, found: Findings) -> list[float | str | None]:
    """Claims of frames of so many packets; returns a row of the table."""
    records: dict[str, list[dict[str, float]]] = {kind: [] for kind in RECEIVERS}
    missing: set[str] = set()
    for _ in range(rounds):
        for kind in [kind for kind in RECEIVERS if kind not in missing]:
            try:
                records[kind].append(measure(kind, packets, frames))
            except NoPeerError as error:
                missing.add(kind)
                found.left_out += [error.left_out] * (error.left_out not in found.left_out)
    us = {kind: median_of_each(several) for kind, several in records.items() if several}
    copy = copy_us(packets, min(frames, 20_000))
    for mine, peers in (("kitelake", ("websockets", "picows", "socket")), ("kitelake journal", PEERS)):
        what = f"receive {'and journal ' * ('journal' in mine)}a frame of {packets} full packets: CPU"
        for peer in peers:
            if peer in us:
                found.claims.append(Claim(what, us[mine]["cpu"], "µs", peer, us[peer]["cpu"]))
    found.claims.append(Claim(what, us["kitelake journal"]["cpu"], "µs", "copying it once in memory", copy))
    return [packets, *(us[kind]["cpu"] if kind in us else None for kind in RECEIVERS), copy]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--send", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--receive", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        return send(*options.send)
    if options.receive:
        kind, url, frames, frame_bytes = options.receive
        return receive(kind, url, int(frames), int(frame_bytes))
    found = Findings()
    sizes, rounds = ({5: FRAMES[5] // QUICK_SHARE}, 1) if options.quick else (FRAMES, options.rounds)
    rows = [compare(packets, frames, rounds, found) for packets, frames in sizes.items()]
    titles = ["packets a frame", *RECEIVERS, "copy"]
    found.tables.append(Table("Microseconds of CPU to receive a frame", titles, rows))
    return tell(found, options)


if __name__ == "__main__":
    main()
