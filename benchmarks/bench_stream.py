"""What the stream costs as a library: CPU of the consumer's process for each tick that it is handed.

    python -m benchmarks.bench_stream [--rounds 3] [--seconds 1.5] [--only batches,ticks] [--packets 50,5,1] [--quick]

A child process sends frames that were built beforehand over loopback, one at a time and evenly spread over the
connections: 150,000, 60,000 and 15,000 full packets a second in frames of 50, 5 and 1. Every reader runs in a process
of its own, one at a time, and counts its CPU (user and system) over a steady stretch, so start-up is not in it; the
median of the rounds counts. Over three connections:

    batches      `batches()`: every field decoded, every row counted
    ticks        `ticks()`: three fields read of each
    receiving    connections with a sink that counts, and nobody who reads
    journal      the same with the journal as the sink, and six connections: what the service does
    fresh        the same in the first seconds of a subscription, when every frame is looked into
    watch        the same, with the watch over the instruments on and off in short turns, in an order of chance: what
                 it costs is the difference within one process, since two differ by more than that
    websockets   the library alone: `await ws.recv()` in a loop, nothing decoded
    sockets      no library at all: epoll and a read into the same memory, for every wake-up; nothing is parsed
    decoding     the same, but read each REST_SECONDS; frames are cut where they must begin, and decoded together: the
                 least that a batch can cost in Python. What takes a third of it in a loop is dear after every rest

The latency is from the sending of a frame to the batch that has it, p99 in milliseconds; one batch of eight is asked.

Over one connection, at a tenth of the rate, which is about what the official client can do:

    callbacks    `kitelake.compat.KiteTicker` with `on_ticks`
    official     kiteconnect's `KiteTicker` with `on_ticks`
"""

import argparse
import asyncio
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from websockets.asyncio.client import connect

from benchmarks.peers import CRATE, CRATE_US
from benchmarks.results import Claim, Findings, Table, arguments, tell
from benchmarks.stream_frames import TOKENS, read_decoding, read_sockets, serve
from benchmarks.turns import median_of_each
from ingest.accounts import Account
from ingest.connection import Gap, Hub, KiteConnection, Sink
from ingest.settings import StreamSettings
from ingest.wire import Mode
from kitelake.compat import KiteTicker
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout

RATES: Final = {50: 150_000, 5: 60_000, 1: 15_000}  # packets a frame: packets a second
LEAST_TO_CRATE: Final = {50: 1.0, 5: 1.0, 1: 1 / 1.5}
TICKS_GOAL_US: Final = {50: 2.5, 1: 10.0}
P99_GOAL_MS: Final = 5.0
WATCH_GOAL_PERCENT: Final = 10.0
HELD_AGAINST: Final = (
    *((mine, "websockets") for mine in ("batches", "ticks", "receiving", "journal")),
    ("batches", "decoding"),
    ("receiving", "sockets"),
    ("callbacks", "official"),
)
READERS: Final = {
    "batches": 3,
    "ticks": 3,
    "receiving": 3,
    "journal": 6,
    "fresh": 3,
    "watch": 3,
    "websockets": 3,
    "sockets": 3,
    "decoding": 3,
    "callbacks": 1,
    "official": 1,
}
"""How many connections each has."""
SLOWER: Final = 10
"""So many times fewer packets a second come where there is one connection."""
WARM_SECONDS: Final = 1.5
SETTLED_SECONDS: Final = 0.4
"""Instruments that have come for twice so long are not looked at closely any more: before the stretch begins."""
SAMPLED: Final = 8
TURN_SECONDS: Final = 0.05
TURNS_A_SECOND: Final = 80
"""With the watch on and off, for each second that a stretch of the others takes: a difference needs more of them."""


class Count:
    """How many packets were handed over, how many were missed; and the stretch that is measured."""

    def __init__(self, seconds: float) -> None:
        self.packets = 0
        self.missed = 0
        self.ages_us: list[int] = []
        self.watched: Switched | None = None
        self._seconds = seconds

    def result(self) -> dict[str, float]:
        """Sleeps through the stretch, which begins some time after the first packet."""
        while not self.packets:
            time.sleep(0.01)
        time.sleep(WARM_SECONDS)
        self.ages_us.clear()
        found = self._watched() if self.watched is not None else self._stretch(self._seconds)
        p99 = float(np.percentile(self.ages_us, 99)) / 1000 if self.ages_us else math.nan
        return {**found, "missed": self.missed, "p99_ms": p99}

    def _stretch(self, seconds: float) -> dict[str, float]:
        first, cpu, wall = self.packets, time.process_time(), time.perf_counter()
        time.sleep(seconds)
        packets, cpu, wall = self.packets - first, time.process_time() - cpu, time.perf_counter() - wall
        return {"cpu_us": cpu / max(packets, 1) * 1e6, "rate": packets / wall}

    def _watched(self) -> dict[str, float]:
        """The medians of many short stretches, and what they were without the watch."""
        assert self.watched is not None
        turns: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        order = max(1, round(self._seconds * TURNS_A_SECOND / 2)) * [True, False]
        random.shuffle(order)  # else what timers do would always fall into the same turns
        for on in order:
            self.watched.on = on
            turns[on].append(self._stretch(TURN_SECONDS))
        return {**median_of_each(turns[True]), "off_us": median_of_each(turns[False])["cpu_us"]}


class Counting:
    """A sink that counts frames of so many packets, and hands them on to `inner`, if any."""

    def __init__(self, count: Count, packets: int, inner: Sink | None = None) -> None:
        self._count = count
        self._packets = packets
        self._inner = inner

    def channel(self, account: str, connection: int) -> int:
        return self._inner.channel(account, connection) if self._inner else connection

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        if self._inner is not None:
            self._inner.append(kind, channel, received_at_ns, *payloads)
        if kind is Kind.BINARY:
            self._count.packets += len(payloads) * self._packets


class Switched(Hub):
    """A hub whose watch can be switched off."""

    on = True

    def tap(self, channel: int, take: Callable[[Sequence[bytes]], None]) -> None:
        super().tap(channel, lambda frames: take(frames) if self.on else None)


async def read_kitelake(kind: str, url: str, packets: int, count: Count) -> None:
    settings = StreamSettings(answer_seconds=10.0 if kind == "fresh" else SETTLED_SECONDS)
    sink = Counting(count, packets) if kind in ("receiving", "fresh", "watch") else None
    hub = Hub(sink)
    if kind == "watch":
        hub = count.watched = Switched(sink)
    connections = [KiteConnection(Account("one", "key", "t"), n, settings, hub, ws_url=url) for n in (1, 2, 3)]
    for connection in connections:
        connection.start()
        await connection.subscribe(TOKENS, Mode.FULL)
    if kind == "batches":
        number = 0
        async for batch in connections[0].batches():
            if isinstance(batch, Gap):
                count.missed += batch.packets
                continue
            count.packets += batch.num_rows
            number += 1
            if not number % SAMPLED:
                high, low = (batch.column(name).to_numpy()[::packets] for name in ("oi_day_high", "oi_day_low"))
                count.ages_us += (time.monotonic_ns() // 1000 - (high << 32 | low)).tolist()
    elif kind == "ticks":
        async for tick in connections[0].ticks():
            if isinstance(tick, Gap):
                count.missed += tick.packets
            elif tick.instrument_token and tick.last_price and tick.volume_traded is not None:
                count.packets += 1
    else:
        await asyncio.Event().wait()


async def read_journal(url: str, packets: int, count: Count) -> None:
    journal = JournalWriter(DataLayout(Path(tempfile.mkdtemp())), "20261122T091500-000001")
    hub = Hub(Counting(count, packets, journal))
    settings = StreamSettings(answer_seconds=SETTLED_SECONDS)
    for number in range(READERS["journal"]):
        account = Account("one" if number < 3 else "two", "key", "t")
        connection = KiteConnection(account, 1 + number % 3, settings, hub, ws_url=url)
        connection.start()
        await connection.subscribe(TOKENS, Mode.FULL)
    while True:
        for _ in range(10):
            await asyncio.sleep(0.01)
            journal.flush()
        await asyncio.to_thread(journal.sync)


async def read_websockets(url: str, count: Count) -> None:
    async def one() -> None:
        async with connect(url, compression=None, max_size=None, ping_interval=None) as ws:
            while True:
                frame = await ws.recv()
                count.packets += int.from_bytes(frame[:2], "big")  # type: ignore[arg-type]

    await asyncio.gather(one(), one(), one())


def read_callbacks(url: str, count: Count, ticker_class: Any) -> None:
    """With our ticker or the official one."""

    def on_ticks(ws: Any, ticks: list[Any]) -> None:
        count.packets += len(ticks)

    ticker = ticker_class("key", "token", root=url)
    ticker.on_ticks = on_ticks
    ticker.connect(threaded=True)


def read(kind: str, url: str, packets: int, seconds: float) -> None:
    """The reader: prints what it cost, and ends at once, whatever its threads do."""
    count = Count(seconds)
    if kind == "callbacks":
        read_callbacks(url, count, KiteTicker)
    elif kind == "official":
        warnings.simplefilter("ignore")
        read_callbacks(url, count, import_module("kiteconnect").KiteTicker)
    elif kind in ("sockets", "decoding"):
        target = read_sockets if kind == "sockets" else read_decoding
        threading.Thread(target=target, args=(url, packets, count), daemon=True).start()
    elif kind == "journal":
        threading.Thread(target=lambda: asyncio.run(read_journal(url, packets, count)), daemon=True).start()
    elif kind == "websockets":
        threading.Thread(target=lambda: asyncio.run(read_websockets(url, count)), daemon=True).start()
    else:
        threading.Thread(target=lambda: asyncio.run(read_kitelake(kind, url, packets, count)), daemon=True).start()
    print(json.dumps(count.result()), flush=True)
    os._exit(0)


def measure(kind: str, packets: int, seconds: float) -> dict[str, float]:
    """One reader in one run: CPU microseconds a tick, ticks a second, ticks that were missed."""
    me = [sys.executable, "-m", "benchmarks.bench_stream"]
    connections = READERS[kind]
    rate = RATES[packets] / packets / (1 if connections > 1 else SLOWER)
    with (
        tempfile.TemporaryDirectory() as folder,  # the reader ends too abruptly to remove its own
        subprocess.Popen(
            [*me, "--serve", str(packets), str(connections), str(rate)], stdout=subprocess.PIPE, text=True
        ) as server,
    ):
        assert server.stdout is not None
        url = f"ws://127.0.0.1:{int(server.stdout.readline())}"
        command = [*me, "--read", kind, url, str(packets), str(seconds)]
        found: dict[str, float] = json.loads(
            subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": folder}
            ).stdout
        )
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="how long each stretch is")
    parser.add_argument("--only", default=",".join(READERS), help="these readers")
    parser.add_argument("--packets", default=",".join(map(str, RATES)), help="these packets a frame")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(int(options.serve[0]), int(options.serve[1]), float(options.serve[2]))
    if options.read:
        kind, url, packets, seconds = options.read
        return read(kind, url, int(packets), float(seconds))
    readers = options.only.split(",")
    sizes, rounds, seconds = options.packets.split(","), options.rounds, options.seconds
    if options.quick:
        sizes, rounds, seconds = ["5"], 1, 1.0
    found = Findings()
    rows: list[list[float | str | None]] = []
    for packets in map(int, sizes):
        runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in readers}
        for _ in range(rounds):
            for kind in readers:
                runs[kind].append(measure(kind, packets, seconds))
        medians = {kind: median_of_each(several) for kind, several in runs.items()}
        for kind, one in medians.items():
            p99 = None if math.isnan(one["p99_ms"]) else one["p99_ms"]
            rows.append([packets, kind, one["cpu_us"], one["rate"], one["missed"], p99])
        found.claims += claims(packets, medians)
    columns = ["packets a frame", "reader", "µs of CPU a tick", "ticks/s", "missed", "p99 ms"]
    found.tables.append(Table("The stream as a library", columns, rows))
    return tell(found, options)


def claims(packets: int, medians: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    """What is held against peers and goals, of the readers that ran."""

    def what(kind: str, measured: str = "CPU a tick") -> str:
        return f"stream as a library, {kind}, {packets} a frame: {measured}"

    us = {kind: one["cpu_us"] for kind, one in medians.items()}
    found = []
    for mine, peer in HELD_AGAINST:
        if mine in us and peer in us:
            least = 1.0 if peer == "official" else None
            found.append(Claim(what(mine), us[mine], "µs", peer, us[peer], least_ratio=least))
    if "batches" in us:
        least = LEAST_TO_CRATE[packets]
        found.append(
            Claim(what("batches"), us["batches"], "µs", CRATE, CRATE_US[packets], least_ratio=least, fixed=True)
        )
        age = medians["batches"]["p99_ms"]
        found.append(Claim(what("batches", "from sending to consumer, p99"), age, "ms", goal=P99_GOAL_MS))
    if "ticks" in us:
        goal = TICKS_GOAL_US.get(packets)
        found.append(Claim(what("ticks"), us["ticks"], "µs", CRATE, CRATE_US[packets], goal=goal, fixed=True))
    if "watch" in us:
        share = 100 * (1 - medians["watch"]["off_us"] / us["watch"])
        found.append(Claim(what("the watch", "its share of receiving"), share, "%", goal=WATCH_GOAL_PERCENT))
    return found


if __name__ == "__main__":
    main()
