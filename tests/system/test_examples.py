"""The examples run as they are, against a simulator."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from ingest.accounts.account import Account
from ingest.accounts.rest import KiteRest
from storage.layout import DataLayout
from tests.support.captured import INFY, Captured, us_of
from tests.support.compacting import put, tick
from tests.support.forks import find_first, run_forked
from tests.support.simulation import Simulation, simulation
from tests.support.two_days import two_days

__all__ = ["two_days"]  # the fixture

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def market() -> Iterator[Simulation]:
    with simulation(instruments=200, rate=50, steps_per_second=20) as running:
        yield running


def printed(
    folder: Path,
    example: str,
    *arguments: str,
    environment: Mapping[str, str] = os.environ,
    first: Callable[[], object] | None = None,
) -> str:
    """What an example prints."""
    ended = run_forked(
        f"examples.{example}", *arguments, folder=folder / "printed", environment=environment, first=first
    )
    assert ended.status == 0, ended.err
    assert "token-one" not in ended.out + ended.err
    return ended.out


async def run(folder: Path, market: Simulation, example: str) -> str:
    """What it prints, given some instruments that trade."""
    async with KiteRest(market.api, Account("one", "key-one", "token-one")) as rest:
        lines = (await rest.instruments()).decode().splitlines()[1:]
    tokens = [line.split(",")[0] for line in lines if ",NSE,NSE" in line or "NFO-FUT" in line][:40]
    environment = {
        "KITE_API_KEY_1": "key-one",
        "KITE_ACCESS_TOKEN_1": "token-one",
        "KITE_API_KEY_2": "key-two",
        "KITE_ACCESS_TOKEN_2": "token-two",
    }
    whole = os.environ | environment
    return await asyncio.to_thread(printed, folder, example, market.ws, *tokens, environment=whole)


async def test_the_manager(market: Simulation, tmp_path: Path) -> None:
    text = await run(tmp_path, market, "manager")
    assert text.count(" streams ") == 6
    assert "healthy, 100 %" in text


def test_minute_bars(tmp_path: Path) -> None:
    """Prices and ticks. A bar's volume is not the difference of what is cumulative inside of it, and is not told."""
    prices = {0: 100.0, 20: 103.0, 59: 101.0, 60: 102.0, 61: 99.0}
    rows = [tick(seq, symbol="NSE:INFY", last_price=price, volume_traded=1000 + seq) for seq, price in prices.items()]
    put(DataLayout(tmp_path), "bars", rows)
    (tmp_path / "journal").mkdir()
    text = printed(tmp_path, "minute_bars", str(tmp_path), "NSE")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert cells[0] == ["symbol", "minute", "open", "high", "low", "close", "ticks"]
    assert [row[2:] for row in cells[-2:]] == [
        ["100.0", "103.0", "100.0", "101.0", "3"],
        ["102.0", "102.0", "99.0", "99.0", "2"],
    ]


def test_backtest(tmp_path: Path) -> None:
    """It buys at the first tick after a bar that closed above its average, and sells after one below."""
    with Captured(tmp_path) as captured:
        captured.instruments()
        line = captured.run("09:00").line()
        line.begin("09:14", INFY)
        for number, price in enumerate([*range(100, 112), *range(111, 100, -1)]):
            line.full(us_of(captured.day, "09:15:30") + number * 60_000_000, INFY, price, volume=number + 1)
        captured.commit()
    assert printed(tmp_path, "backtest", str(tmp_path), "NSE:INFY").splitlines() == [
        "2026-11-24 09:26:30 buy      111.00",
        "2026-11-24 09:31:30 sell     107.00",
        "earned -4.00",
    ]


def test_a_day_as_plain_python_and_as_a_notebook(two_days: Path, tmp_path: Path) -> None:
    """Its cells are whole, and what they display does so as a notebook has it displayed."""
    script = ROOT / "examples" / "a_day.py"
    cells = re.split(r"^# %%.*\n", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(cells) > 12
    assert all(compile(cell, "cell", "exec") for cell in cells)
    (tmp_path / "IPython").mkdir()
    (tmp_path / "IPython" / "__init__.py").touch()
    (tmp_path / "IPython" / "display.py").write_text(
        "def display(*things):\n"
        "    for thing in things:\n"
        "        html = getattr(thing, '_repr_html_', None)\n"
        "        print(repr(thing) if html is None else html())\n"
    )
    environment = os.environ | {"KITELAKE_DATA": str(two_days)}
    texts = []
    for name, first in (("plain", None), ("notebook", partial(find_first, tmp_path))):
        (folder := tmp_path / name).mkdir()
        texts.append(printed(folder, "a_day", environment=environment, first=first))
    for text in texts:
        assert re.search(r"^N\w+:[\w ]+ on 2026-11-13: [\d,]+ ticks, from [\d.]+ to [\d.]+$", text, re.MULTILINE)
    assert texts[0].startswith(f"Lake({str(two_days)!r})\n2026-11-13 ")
    assert texts[1].count('<table class="dataframe">') == 9
    assert "<td>instruments</td><td>42</td><td>2</td><td>2026-11-12</td><td>2026-11-13</td>" in texts[1]
    assert "<th>spread_bps<br><small>double</small></th>" in texts[1]


async def test_raw_frames(market: Simulation, tmp_path: Path) -> None:
    assert "bid" in await run(tmp_path, market, "raw_frames")


async def test_callbacks(market: Simulation, tmp_path: Path) -> None:
    lines = (await run(tmp_path, market, "callbacks")).splitlines()
    assert len(lines) > 20
    assert " full " in lines[-2]
    assert lines[-1].startswith("closed: 1000")
