"""A day and a broker on paper as one: what a client is told of the past, of the future, and of the present."""

import asyncio
import datetime as dt
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kiteconnect import KiteConnect

import kitelake
from kitelake.paper import PaperSettings
from kitelake.replay import Replay, ReplaySettings, console
from kitelake.replay.console import line_of
from storage.clock import IST
from tests.support.captured import INFY
from tests.support.feeding import DAYS, three_days
from tests.support.waiting import PATIENCE_SECONDS, until, wait_until

pytestmark = pytest.mark.slow  # days are captured for them

SETTINGS = ReplaySettings(paused=True, speed=1)
TOMORROW = "2026-11-24"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kitelake.Lake]:
    with kitelake.open(three_days(tmp_path_factory.mktemp("days")).root) as lake:
        yield lake


def asked(replay: Replay, ask: Callable[[KiteConnect, Any], Any]) -> Any:
    """What the official client is answered; `ask` gets it, and a function that leads the replay."""

    async def run() -> Any:
        async with replay.server as server:
            loop = asyncio.get_running_loop()

            def lead(command: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
                call = server.control("GET" if command == "status" else "POST", command, values or {})
                return asyncio.run_coroutine_threadsafe(call, loop).result()

            kite = KiteConnect("key", access_token="token", root=server.urls["api"])
            return await asyncio.to_thread(ask, kite, lead)

    return asyncio.run(run())


def seek(lead: Any, to: str) -> None:
    lead("seek", {"to": to})
    wait_until(lambda: lead("status")["seeks"] is None)


def test_no_candle_is_of_the_future(lake: kitelake.Lake) -> None:
    def ask(kite: KiteConnect, lead: Any) -> list[list[str]]:
        found = []
        for to in ("09:15:30", "09:17"):
            seek(lead, to)
            times = [str(candle["date"]) for candle in kite.historical_data(INFY, "2026-11-19", TOMORROW, "minute")]
            found.append([time for time in times if time >= "2026-11-23"])
            assert kite.historical_data(INFY, f"{TOMORROW} 00:00:00", f"{TOMORROW} 23:59:59", "minute") == []
        return found

    early, late = asked(Replay(lake, DAYS[1], settings=SETTINGS, paper=PaperSettings()), ask)
    assert early == ["2026-11-23 09:15:00+05:30"]
    assert late == [*early, "2026-11-23 09:16:00+05:30"]


def test_with_now_everything_is_of_the_present(lake: kitelake.Lake) -> None:
    """Quotes, orders and candles; a day's packets are the same otherwise."""

    def ask(kite: KiteConnect, lead: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        seek(lead, "09:15:30")
        (quote,) = kite.quote(INFY).values()
        now = quote["timestamp"]
        kite.place_order("regular", "NSE", "INFY", "BUY", 1, "MIS", "LIMIT", price=1500)
        candles = kite.historical_data(INFY, now - dt.timedelta(hours=1), now + dt.timedelta(hours=1), "minute")
        return quote, [kite.orders()[0], *candles]

    before = dt.datetime.now(IST).replace(tzinfo=None)
    replay = Replay(lake, DAYS[1], now=True, settings=SETTINGS, paper=PaperSettings())
    quote, (order, *candles) = asked(replay, ask)
    plain, _ = asked(Replay(lake, DAYS[1], settings=SETTINGS, paper=PaperSettings()), ask)
    for moment in (quote["timestamp"], order["order_timestamp"], candles[-1]["date"].replace(tzinfo=None)):
        assert abs(moment - before) < dt.timedelta(minutes=10)
    assert quote["last_price"] == plain["last_price"]


def test_candles_of_days_before_come_from_files(lake: kitelake.Lake, tmp_path: Path) -> None:
    file = tmp_path / "infy.csv"
    file.write_text("time,open,high,low,close,volume\n2026-10-01 09:15,1,4,1,3,10\n2026-10-01 09:16,3,5,2,4,20\n")

    def ask(kite: KiteConnect, _lead: Any) -> Any:
        return kite.historical_data(INFY, "2026-10-01", "2026-10-02", "minute")

    replay = Replay(lake, DAYS[1], settings=SETTINGS, paper=PaperSettings(), candles={"NSE:INFY": [file]})
    assert [candle["close"] for candle in asked(replay, ask)] == [3, 4]


def test_a_line_says_where_it_is(lake: kitelake.Lake) -> None:
    settings = SETTINGS.model_copy(update={"paused": False, "wait_for_clients": 2, "wait_for_instruments": 5})
    waiting = Replay(lake, DAYS[1], settings=settings, paper=PaperSettings())
    assert asked(waiting, lambda _kite, _lead: line_of(waiting.server)) == (
        "2026-11-23 09:15:00 IST  waits for 2 clients and 5 instruments  0 clients  0 packets sent"
    )
    assert waiting.tables()["orders"].num_rows == 0


def test_ctrl_c_that_has_reached_the_strategy_comes_once(
    lake: kitelake.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "ENDING_SECONDS", PATIENCE_SECONDS)
    strategy, pid, caught, counted = (tmp_path / name for name in ("strategy.py", "pid", "caught", "counted"))
    strategy.write_text(
        f"""import os, pathlib, signal, time
got = []
signal.signal(signal.SIGINT, lambda *_: got.append(1))
pathlib.Path({str(pid)!r}).write_text(f"{{os.getpid()}}.")
while not got:
    time.sleep(0.01)
pathlib.Path({str(caught)!r}).touch()
time.sleep(0.5)
pathlib.Path({str(counted)!r}).write_text(str(len(got)))
"""
    )
    replay = Replay(lake, DAYS[1], settings=SETTINGS, paper=PaperSettings())

    async def run() -> int:
        end = asyncio.Event()
        async with replay.server as server:
            playing = asyncio.create_task(console._beside(server, [str(strategy)], end))
            await until(lambda: pid.exists() and pid.read_text().endswith("."))
            os.kill(int(pid.read_text()[:-1]), signal.SIGINT)
            await until(caught.exists)
            end.set()
            return await playing

    assert asyncio.run(run()) == 0
    assert counted.read_text() == "1"
