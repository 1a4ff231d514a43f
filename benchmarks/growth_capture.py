"""How capture grows: with instruments, with accounts, with packets a frame. For `bench_growth`.

A sender process of its own sends full packets of the instruments that were asked for, evenly spread over connections
and time, in frames that were built beforehand. The real manager receives them into the real journal, in a process of
its own; the journal's segments are committed by the real writer afterwards, in that process too.
"""

import asyncio
import contextlib
import datetime as dt
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.turns import cpu_of, cpu_seconds
from ingest.accounts import Account
from ingest.instruments import Instruments, parse_instruments
from ingest.manager import Allocation, TickerManager, Want
from ingest.simulator import build_universe, to_csv
from ingest.wire import FULL_DTYPE, JournalDecoder, Mode
from kitelake.config import Config
from kitelake.plan import plan_of
from storage.commit import SegmentWriter
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout

DAY: Final = dt.date(2026, 11, 24)
PER_ACCOUNT: Final = 9_000
STREAM: Final = "20261124T034500-000001"
PACKET: Final = np.dtype([("length", ">u2"), ("packet", FULL_DTYPE)])


@cache
def listing(count: int) -> Instruments:
    return Instruments(parse_instruments(to_csv(build_universe(count, 1, DAY).instruments).encode(), date=DAY))


@cache
def tokens_of(count: int) -> tuple[int, ...]:
    return tuple(one.instrument_token for one in build_universe(count, 1, DAY).instruments)


def planning_ms(count: int, accounts: int) -> dict[str, float]:
    """Milliseconds of CPU of the day's plan, and of deciding who streams what."""
    tokens, names = tokens_of(count), [f"a{number}" for number in range(accounts)]
    with tempfile.TemporaryDirectory() as folder:
        config = Config.model_validate(
            {
                "data": Path(folder) / "data",
                "accounts": [{"name": name, "api_key": f"key-{name}", "access_token": "t"} for name in names],
                "subscriptions": [{"name": "all", "mode": "full", "instruments": list(tokens)}],
            }
        )
        plan_of(config, DAY, listing(100))  # what is loaded once
        instruments = listing(count)
        plan = cpu_of(lambda: plan_of(config, DAY, instruments))()
    allocation = Allocation(names)
    placed = cpu_of(lambda: allocation.subscribe(tokens, Want(Mode.FULL)))()
    return {"plan": plan * 1000, "allocation": placed * 1000}


def frames_of(tokens: Sequence[int], packets: int) -> list[bytes]:
    """Each instrument once, or some thousand packets of few, in frames of so many."""
    chance = np.random.default_rng(1)
    shuffled = np.resize(chance.permutation(tokens), max(len(tokens), 2_000) // packets * packets)
    rows = np.zeros(len(shuffled), PACKET)
    rows["length"] = FULL_DTYPE.itemsize
    rows["packet"]["instrument_token"] = shuffled
    for name in ("last_price", "average_traded_price", "open", "high", "low", "close"):
        rows["packet"][name] = shuffled % 400_000 + chance.integers(0, 100, len(rows))
    rows["packet"]["last_trade_time"] = rows["packet"]["exchange_timestamp"] = 1_795_405_500
    for name in ("quantity", "price", "orders"):
        rows["packet"]["depth"][name] = chance.integers(1, 50_000, (len(rows), 2, 5))
    head = packets.to_bytes(2, "big")
    return [head + rows[at : at + packets].tobytes() for at in range(0, len(rows), packets)]


async def send(count: int, packets: int, rate: int) -> None:
    """Print the port, wait until all instruments are asked for, send until the clients go."""
    asked: dict[ServerConnection, list[int]] = {}
    everything = asyncio.Event()

    async def client(socket: ServerConnection) -> None:
        asked[socket] = []
        async for message in socket:
            said = json.loads(message)
            if said["a"] == "subscribe":
                asked[socket] += said["v"]
            if said["a"] == "mode" and sum(map(len, asked.values())) >= count:
                everything.set()

    async with serve(client, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await everything.wait()
        await asyncio.sleep(0.5)
        frames = {socket: frames_of(tokens, packets) for socket, tokens in asked.items() if tokens}
        order, start, sent = list(frames), time.perf_counter(), 0
        while True:
            await asyncio.sleep(max(0.0, start + sent * packets / rate - time.perf_counter()))
            for _ in range(max(1, rate // packets // 200)):
                socket = order[sent % len(order)]
                await socket.send(frames[socket][sent // len(order) % len(frames[socket])])
                sent += 1


class _Counting:
    """The journal, and how many packets it was given."""

    def __init__(self, journal: JournalWriter) -> None:
        self._journal = journal
        self.packets = 0
        self.began = asyncio.Event()

    def channel(self, account: str, connection: int) -> int:
        return self._journal.channel(account, connection)

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        self._journal.append(kind, channel, received_at_ns, *payloads)
        if kind is Kind.BINARY and len(payloads[0]) > 1:
            self.packets += sum(payload[0] << 8 | payload[1] for payload in payloads)
            self.began.set()


async def receive(url: str, count: int, accounts: int, seconds: float, layout: DataLayout) -> dict[str, float]:
    journal = JournalWriter(layout, STREAM, segment_seconds=1e9)
    sink = _Counting(journal)
    people = [Account(f"a{number}", "key", "token") for number in range(accounts)]
    async with TickerManager(people, sink=sink, ws_url=url, random=random.Random(1).random) as manager:
        flushing = asyncio.create_task(_flush(journal))
        start = cpu_seconds()
        await manager.subscribe(tokens_of(count), Mode.FULL)
        await sink.began.wait()
        subscribed = cpu_seconds() - start
        await asyncio.sleep(seconds / 4)
        packets, start = sink.packets, cpu_seconds()
        await asyncio.sleep(seconds)
        packets, spent = sink.packets - packets, cpu_seconds() - start
        flushing.cancel()
    journal.close()
    return {"subscribe": subscribed * 1000, "receive": spent / packets * 1e6}


async def _flush(journal: JournalWriter) -> None:
    while True:
        await asyncio.sleep(0.01)
        journal.flush()


def commit_us(layout: DataLayout) -> float:
    """Microseconds of CPU of the writer, a tick."""
    rows = []
    writer = SegmentWriter(layout, JournalDecoder(), on_commit=lambda one: rows.append(one.rows))
    spent = cpu_of(lambda: writer.run(poll_seconds=0.01, stop=threading.Event()))()
    return spent / sum(rows) * 1e6


def figures(count: int, accounts: int, packets: int, rate: int, seconds: float) -> dict[str, float]:
    """Everything of one point: CPU in ms (plan, allocation, subscribe) and µs a tick (receive, commit)."""
    me = [sys.executable, "-m", "benchmarks.growth_capture", json.dumps([count, accounts, packets, rate, seconds])]
    with subprocess.Popen([*me, "send"], stdout=subprocess.PIPE, text=True) as sender:
        try:
            assert sender.stdout is not None
            url = f"ws://127.0.0.1:{int(sender.stdout.readline())}"
            done = subprocess.run([*me, url], check=True, stdout=subprocess.PIPE, text=True)
        finally:
            sender.kill()
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """A process of `figures`: the sender, or who receives."""
    count, accounts, packets, rate, seconds = json.loads(sys.argv[1])
    if sys.argv[2] == "send":
        with contextlib.suppress(ConnectionClosed):
            asyncio.run(send(count, packets, rate))
        return
    found: dict[str, Any] = planning_ms(count, accounts)
    with tempfile.TemporaryDirectory() as folder:
        layout = DataLayout(Path(folder))
        found |= asyncio.run(receive(sys.argv[2], count, accounts, seconds, layout))
        found["commit"] = commit_us(layout)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
