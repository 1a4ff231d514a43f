"""A captured day is replayed, and the replay captured: the same packets, which count as today's."""

import contextlib
import datetime as dt
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import kitelake
from storage.clock import IST
from storage.datafolder import replayed_day, source_of
from tests.support.captured import INFY, NIFTY_50, NIFTY_FUT, TINY, Captured, us_of
from tests.support.replayed import differences
from tests.support.running import running
from tests.support.simulation import ROOT, Account, Simulation
from tests.support.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

DAY: Final = "2026-11-17"
TOKENS: Final = (INFY, TINY, NIFTY_50, NIFTY_FUT)
SERVER: Final = """
import asyncio, datetime, json, sys
import kitelake
from kitelake.replay.day import ReplayDay
from kitelake.replay.server import ReplayServer
from kitelake.replay.control import ReplaySettings

async def main(root, day):
    with kitelake.open(root) as lake:
        replayed = await asyncio.to_thread(ReplayDay, lake, datetime.date.fromisoformat(day))
        settings = ReplaySettings.parse({"speed": float("inf"), "paused": True})
        async with ReplayServer(settings, replayed) as server:
            print(json.dumps(server.urls), flush=True)
            await asyncio.to_thread(sys.stdin.read)

asyncio.run(main(*sys.argv[1:]))
"""
QUERY: Final = "select count(*) as n from events where event = 'mode'"


def a_day(root: Path) -> Path:
    """Ten minutes of full packets and quotes, and at the start what the broker had cached of the evening before."""
    with Captured(root, DAY) as captured:
        captured.instruments()
        line = captured.run("09:00").line()
        line.begin("09:10", *TOKENS)
        evening = us_of(dt.date(2026, 11, 16), "15:29:59")
        for token in (INFY, NIFTY_FUT, NIFTY_50):
            line.full("09:10:00.5", token, 1490, volume=900, traded=evening, stamped=evening)
        for second in range(600):
            at = us_of(captured.day, "09:15") + second * 1_000_000
            for place, token in enumerate((INFY, NIFTY_FUT, NIFTY_50)):
                line.full(at + 100 * place, token, 1500 + second % 7, volume=10 * second, oi=second)
            line.quote(at + 500, TINY, 50 + second % 3, volume=second)
        captured.commit()
    return root


@contextlib.contextmanager
def replaying(root: Path) -> Iterator[Simulation]:
    """A replay of the day as a process of its own, paused."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(root), DAY],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as answers:
        urls = json.loads(answers.readline())
    replay = Simulation(process, urls, {"accounts": [Account("any", "any", "any", "any")._asdict()]})
    try:
        yield replay
    finally:
        replay.stop()


def told(replay: Simulation, command: str, **values: Any) -> dict[str, Any]:
    """What the replay answers at its control address."""
    data = json.dumps(values).encode() if command != "status" else None
    with urllib.request.urlopen(
        urllib.request.Request(f"{replay.control}/{command}", data), timeout=PATIENCE_SECONDS
    ) as answer:
        status: dict[str, Any] = json.load(answer)
    return status


def test_the_second_table_equals_the_first(tmp_path: Path) -> None:
    original = a_day(tmp_path / "original")
    with replaying(original) as replay:
        kite = {"ws": replay.ws, "api": replay.api, "replay": DAY}
        lists = [
            {"name": "full", "mode": "full", "instruments": ["NSE:INFY", "NSE:NIFTY 50", "NFO:NIFTY26NOVFUT"]},
            {"name": "quote", "mode": "quote", "instruments": ["NSE:TINY"]},
        ]
        # In the evening, whenever this runs: while the session lasts that is replayed, its bars would be of two halves.
        evening = dt.datetime.now(IST).replace(hour=20).isoformat()
        with running(tmp_path, replay, clock=evening, kite=kite, subscriptions=lists, calendar={}) as service:
            wait_until(lambda: sum(one["subscribed"] for one in told(replay, "status")["clients"]) == len(TOKENS))
            wait_until(lambda: service.rows(QUERY) not in ([], [{"n": 0}]))
            told(replay, "resume")
            wait_until(lambda: told(replay, "status")["ended"])
            packets = told(replay, "status")["packets"]
            wait_until(lambda: service.rows() == [{"n": packets}])
            service.stop()
    assert differences(original, service.data, DAY) == []
    assert (source_of(service.data), replayed_day(service.data)) == ("replay", dt.date.fromisoformat(DAY))
    assert bars_of(service.data) == bars_of(original)
    assert len(bars_of(original)) == 3 * 10


def bars_of(root: Path) -> list[dict[str, Any]]:
    """By the exchange's clock, but for the date."""
    with kitelake.open(root) as lake:
        rows = lake.bars(["NSE:INFY", "NSE:NIFTY 50", "NFO:NIFTY26NOVFUT"], "1m").arrow().to_pylist()
    return [row | {"time": row["time"].time()} for row in rows]
