"""How fast a replay serves, against a bare websockets server that sends the same frames.

    python -m benchmarks.bench_replay [--packets 1000000] [--rounds 3] [--quick] [--json FILE]

Full packets of 3,000 instruments, 20,000 a second of the market's time, 5 and 50 in a frame, captured into a folder of
their own as the service would. The client is a process of its own that reads its socket and counts frames, no more:
what is measured is the server. The replay reads its packets from the folder meanwhile; the bare server has the frames
in memory, and sends each with `await connection.send(frame)`. They take turns; the median of the rounds counts.
"""

import argparse
import asyncio
import base64
import datetime as dt
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import numpy as np
from websockets.asyncio.server import ServerConnection, serve

import kitelake
from benchmarks.live_feed import make_frames
from benchmarks.market_listing import LAST_DAY, Listing
from benchmarks.results import Claim, Findings, arguments, tell
from benchmarks.turns import median_of_each
from ingest.wire import JournalDecoder
from kitelake.replay.control import ReplaySettings
from kitelake.replay.day import ReplayDay
from kitelake.replay.server import ReplayServer
from storage.clock import IST
from storage.commit import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout, stream_name
from storage.tables import write_instruments

PACKETS_A_SECOND: Final = 20_000
FRAME_SIZES: Final = (5, 50)
INSTRUMENTS: Final = 3000
READ_BYTES: Final = 1 << 20
SILENCE_SECONDS: Final = 60.0


def capture(root: Path, per_frame: int, packets: int) -> list[bytes]:
    """A folder of so many packets; returns the frames in their order."""
    layout = DataLayout(root)
    listing = Listing(INSTRUMENTS, LAST_DAY, np.random.default_rng(1))
    write_instruments(layout, LAST_DAY, listing.table)
    some = make_frames(listing, 100_000, per_frame)
    begin = dt.datetime.combine(LAST_DAY, dt.time(9, 15), IST)
    begin_ns, step_ns = int(begin.timestamp()) * 10**9, 10**9 * per_frame // PACKETS_A_SECOND
    journal = JournalWriter(layout, stream_name(begin, "a"), segment_bytes=1 << 30, segment_seconds=1e9)
    channel = journal.channel("asha", 1)
    frames = [some[number % len(some)] for number in range(packets // per_frame)]
    for number, frame in enumerate(frames):
        journal.append(Kind.BINARY, channel, begin_ns + number * step_ns, frame)
    journal.close()
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())
    return frames


# ── the client ───────────────────────────────────────────────────────────────────────────────────────────────────────


def read(url: str, tokens: list[int], packets: int) -> dict[str, float]:
    """Subscribe to everything in full, and count until so many packets are there; from the first of them on."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), SILENCE_SECONDS) as one:
        key = base64.b64encode(os.urandom(16)).decode()
        one.sendall(
            f"GET {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        data = b""
        while b"\r\n\r\n" not in data:
            data += one.recv(READ_BYTES)
        data = data.partition(b"\r\n\r\n")[2]
        for request in ({"a": "subscribe", "v": tokens}, {"a": "mode", "v": ["full", tokens]}):
            one.sendall(_masked(0x81, json.dumps(request).encode()))
        counted = frames = 0
        began = 0.0
        while counted < packets:
            more = one.recv(READ_BYTES)
            if not more:
                raise EOFError(f"the server ended after {counted:,} packets")
            data += more
            at = 0
            while (end := _message_end(data, at)) is not None:
                start, stop = end
                if data[at] & 0x0F == 0x9:
                    one.sendall(_masked(0x8A, data[start:stop]))
                elif data[at] & 0x0F == 0x2 and stop - start > 1:
                    began = began or time.perf_counter()
                    counted += data[start] << 8 | data[start + 1]
                    frames += 1
                at = stop
            data = data[at:]
        return {"packets": counted, "frames": frames, "seconds": time.perf_counter() - began}


def _masked(first: int, payload: bytes) -> bytes:
    """A client's message; with a mask of zeros it goes as it is."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([first]) + length + bytes(4) + payload


def _message_end(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the payload of the message there begins and ends; None if it is not whole."""
    if len(data) < at + 2:
        return None
    size, start = data[at + 1], at + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        size, start = int.from_bytes(data[start : start + width], "big"), start + width
    return (start, start + size) if start + size <= len(data) else None


async def client(url: str, tokens: list[int], packets: int) -> dict[str, float]:
    """In a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bench_replay", "--client", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    given, _ = await process.communicate(json.dumps([url, tokens, packets]).encode())
    found: dict[str, float] = json.loads(given)
    return found


# ── the servers ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def replay(root: Path, packets: int) -> dict[str, float]:
    with kitelake.open(root) as lake:
        day = ReplayDay(lake, LAST_DAY)
        settings = ReplaySettings(speed=math.inf, wait_for_instruments=INSTRUMENTS)
        async with ReplayServer(settings, day) as server:
            began = time.process_time()
            tokens = sorted(day.listed)
            found = await client(f"{server.urls['ws']}/?api_key=any&access_token=any", tokens, packets)
            return found | {"cpu": time.process_time() - began}


async def bare(frames: list[bytes], packets: int) -> dict[str, float]:
    async def handle(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.recv()
        for frame in frames:
            await connection.send(frame)
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        began = time.process_time()
        found = await client(f"ws://127.0.0.1:{port}/?", [1], packets)
        return found | {"cpu": time.process_time() - began}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        json.dump(read(*json.loads(sys.stdin.read())), sys.stdout)
        return
    wanted, rounds = (20_000, 1) if options.quick else (options.packets, options.rounds)
    found = Findings()
    for per_frame in FRAME_SIZES:
        with tempfile.TemporaryDirectory() as folder:
            frames = capture(Path(folder), per_frame, wanted)
            packets = sum(int.from_bytes(frame[:2], "big") for frame in frames)
            records: dict[str, list[dict[str, float]]] = {"replay": [], "websockets": []}
            for _ in range(rounds):
                records["replay"].append(asyncio.run(replay(Path(folder), packets)))
                records["websockets"].append(asyncio.run(bare(frames, packets)))
        ours, theirs = (median_of_each(records[name]) for name in ("replay", "websockets"))
        rates = [one["packets"] / one["seconds"] for one in (ours, theirs)]
        peer, what = "websockets, the same frames from memory", f"replay served, {per_frame} packets a frame"
        found.claims.append(Claim(what, rates[0], "packets/s", peer, rates[1], smaller_is_better=False))
        cpu = [one["cpu"] / packets * 1e6 for one in (ours, theirs)]
        found.claims.append(Claim(f"{what}: CPU of the server a packet", cpu[0], "µs", peer, cpu[1]))
    tell(found, options)


if __name__ == "__main__":
    main()
