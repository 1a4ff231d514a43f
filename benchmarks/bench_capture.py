"""What receiving a frame costs: from the socket to the sink, against the peers in the same run.

    python -m benchmarks.bench_capture [--rounds 2] [--json FILE]

A sender process writes frames that were built beforehand over loopback as fast as they are taken: 50, 5 and 1 full
packets (184 bytes) each. Each receiver runs in a process of its own, one at a time, and reports its CPU time from the
first to the last frame; the best of the rounds counts. Receivers:

    kitelake          KiteConnection with a sink that counts
    kitelake journal  KiteConnection with the journal: flushed every 10 ms, synced every 100 ms
    websockets        the floor of what we could do with the library: `await ws.recv()` in a loop, nothing else
    official          kiteconnect's KiteTicker, frames counted, not decoded
    official ticks    the same with `on_ticks`, as its users run it: it decodes to dictionaries
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
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from ingest.accounts import Account
from ingest.connection import KiteConnection, Sink
from ingest.settings import StreamSettings
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout

PACKET: Final = b"\x00\xb8" + (408065).to_bytes(4, "big") + bytes(range(180))
FRAMES: Final = {50: 15_000, 5: 60_000, 1: 120_000}  # packets a frame: frames
SLOW_SHARE: Final = {"official": 5, "official ticks": 50}  # these get so many times fewer frames
RECEIVERS: Final = ("kitelake", "kitelake journal", "websockets", "official", "official ticks")


def send(packets: int, frames: int) -> None:
    """The sender: prints its port, serves one client, ends."""
    payload = packets.to_bytes(2, "big") + PACKET * packets
    batch = Frame(Opcode.BINARY, payload).serialize(mask=False) * 100
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
        with client:
            protocol = ServerProtocol()
            while not (events := protocol.events_received()):
                protocol.receive_data(client.recv(65_536))
            assert isinstance(events[0], Request)
            protocol.send_response(protocol.accept(events[0]))
            client.sendall(b"".join(protocol.data_to_send()))
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


def receive_official(url: str, clock: Clock, *, ticks: bool) -> None:
    warnings.simplefilter("ignore")
    from kiteconnect import KiteTicker

    ticker = KiteTicker("key", "token", root=url, reconnect=False)
    reactor: Any = import_module("twisted.internet.reactor")  # as late as the client's own import of it

    def on_message(ws: Any, payload: bytes, is_binary: bool) -> None:
        clock.left -= 1
        if not clock.left:
            clock.end()
            reactor.stop()

    ticker.on_connect = lambda ws, response: clock.begin()
    ticker.on_message = on_message
    if ticks:
        ticker.on_ticks = lambda ws, ticks: None
    ticker.connect()


def receive(kind: str, url: str, frames: int) -> None:
    """The receiver: prints CPU and wall seconds."""
    clock = Clock(frames)
    match kind:
        case "kitelake":
            asyncio.run(receive_kitelake(url, clock))
        case "kitelake journal":
            asyncio.run(receive_journal(url, clock))
        case "websockets":
            asyncio.run(receive_websockets(url, clock))
        case _:
            receive_official(url, clock, ticks=kind == "official ticks")
    assert clock.left == 0 or kind == "websockets"
    print(json.dumps(clock.spent))


def measure(kind: str, packets: int) -> tuple[float, float]:
    """(CPU, wall) microseconds a frame."""
    frames = FRAMES[packets] // SLOW_SHARE.get(kind, 1) // 100 * 100
    me = [sys.executable, "-m", "benchmarks.bench_capture"]
    with subprocess.Popen([*me, "--send", str(packets), str(frames)], stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None
        url = f"ws://127.0.0.1:{int(sender.stdout.readline())}"
        command = [*me, "--receive", kind, url, str(frames)]
        cpu, wall = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return cpu / frames * 1e6, wall / frames * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--send", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--receive", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        return send(*options.send)
    if options.receive:
        kind, url, frames = options.receive
        return receive(kind, url, int(frames))
    print(f"{'packets a frame':>16} {'receiver':<18} {'µs CPU/frame':>13} {'frames/s':>11} {'packets/s':>12}  cost")
    found = {}
    for packets in FRAMES:
        best = {kind: min(measure(kind, packets) for _ in range(options.rounds)) for kind in RECEIVERS}
        for kind, (cpu, wall) in best.items():
            rate = 1e6 / wall
            ratio = cpu / best["kitelake"][0]
            print(f"{packets:>16} {kind:<18} {cpu:>13.2f} {rate:>11,.0f} {rate * packets:>12,.0f}  ×{ratio:.1f}")
        found[packets] = {kind: {"cpu_us": cpu, "wall_us": wall} for kind, (cpu, wall) in best.items()}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return None


if __name__ == "__main__":
    main()
