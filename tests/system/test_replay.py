"""A strategy as it is, live and on the replay of what was captured then, started by the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.forks import run_forked
from tests.support.running import running
from tests.support.simulation import ROOT, Simulation, simulation
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

STRATEGY = ROOT / "tests" / "support" / "replay_strategy.py"
DECISIONS = 40
Told = dict[int, list[list[Any]]]


def told(path: Path) -> Told:
    """By instrument, each tick and what was decided at it."""
    found: Told = {}
    for line in path.read_text().splitlines():
        if "tick" in (each := json.loads(line)):
            found.setdefault(each["tick"][0], []).append(each["tick"])
    return found


def decisions(path: Path) -> int:
    return sum(tick[-1] is not None for ticks in told(path).values() for tick in ticks) if path.exists() else 0


def lived(folder: Path, simulator: Simulation, tokens: str) -> None:
    """The strategy on the live market, until it has decided often enough."""
    arguments = [str(folder / "live"), tokens, simulator.ws, simulator.api]
    process = subprocess.Popen([sys.executable, str(STRATEGY), *arguments])
    try:
        wait_until(lambda: decisions(folder / "live") > DECISIONS or process.poll() is not None)
        assert process.poll() is None
        simulator.pause()
    finally:
        process.kill()
        process.wait()


def replayed(folder: Path, name: str, tokens: str, *options: str) -> dict[str, list[dict[str, Any]]]:
    """The same strategy on the captured day; what it wrote is in the file of that name. Gives the tables of the end."""
    command = ["replay", "--data", str(folder / "data"), "--port", "0", "--api-port", "0", "--lockstep", *options]
    command += ["--output", str(folder / f"{name}-tables"), "--run", str(STRATEGY), str(folder / name), tokens]
    ended = run_forked("kitelake", *command, folder=folder / f"{name}-printed")
    assert ended.status == 0, ended.err
    assert "token-two" not in ended.out + ended.err
    found = {path.stem: pq.read_table(path).to_pylist() for path in (folder / f"{name}-tables").glob("*.parquet")}
    assert set(found) == {"orders", "trades", "positions", "equity"}
    return found


def test_a_strategy_decides_on_a_replay_as_it_did_live_and_twice_the_same(tmp_path: Path) -> None:
    market = simulation(instruments=100, rate=30, requests_per_second=10_000)
    accounts = [{"name": "one", "api_key": "key-one", "access_token": "token-one"}]  # the strategy is the other one's
    shares = [{"name": "shares", "mode": "full", "select": {"exchange": "NSE"}}]
    with market as simulator, running(tmp_path, simulator, accounts=accounts, subscriptions=shares) as service:
        wait_until(lambda: len(service.rows("select distinct instrument_token from ticks where mode = 'full'")) > 5)
        rows = service.rows(
            "select instrument_token from ticks where mode = 'full' and bid_price_1 is not null "
            "group by instrument_token order by count(*) desc, instrument_token limit 5"
        )
        tokens = ",".join(str(row["instrument_token"]) for row in rows)
        lived(tmp_path, simulator, tokens)
        service.stop()
    tables = replayed(tmp_path, "fast", tokens, "--speed", "max")
    live, fast = told(tmp_path / "live"), told(tmp_path / "fast")
    for token, ticks in live.items():
        # What is cached at the subscription is the live market's own, and a decision needs two more ticks behind it.
        settled = ticks[3:]
        places = [at for at in range(len(fast[token])) if fast[token][at : at + len(settled)] == settled]
        assert len(places) == 1 or not settled, (token, settled[:3], fast[token][:3])
    assert tables["orders"]
    assert tables["trades"]
    assert tables == replayed(tmp_path, "slow", tokens, "--speed", "40")
    assert (tmp_path / "fast").read_text() == (tmp_path / "slow").read_text()
