"""Whole weeks of the service's schedule under a faked clock: what happens when, and what a late start or a sleep does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitelake.config import Config
from tests.schedulekit import Trial, clock_at, run
from tests.simulation import Simulation, simulation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulation]:
    with simulation(instruments=300, rate=5, start="2026-11-07T06:00:00+00:00") as running:
        yield running


EQUITIES = {"name": "equities", "mode": "full", "instruments": ["NSE:INFY", "NSE:RELIANCE"]}
OPTIONS = {
    "name": "options",
    "mode": "quote",
    "select": {"exchange": "NFO", "names": ["NIFTY"], "types": ["CE", "PE"], "strikes": {"around": "spot", "count": 1}},
    "every": "3h",
}
METALS = {"name": "metals", "mode": "ltp", "select": {"exchange": "MCX", "types": ["FUT"]}}


def config(data: Path, simulator: Simulation, *lists: dict[str, Any], **changes: Any) -> Config:
    account = simulator.account("one")
    return Config(
        **{
            "data": data,
            "accounts": [{"name": "one", "api_key": account.api_key, "access_token": account.access_token}],
            "subscriptions": lists,
            "kite": {"ws": simulator.ws, "api": simulator.api},
            "capture": {"backoff_initial_seconds": 0.1, "slow_retry_seconds": 0.5},
            "log": {"level": "warning"},
            **changes,
        }
    )


def test_x(tmp_path: Path, simulator: Simulation) -> None:
    async def scenario(trial: Trial) -> None:
        print(trial.jobs())
        await trial.until("2026-11-09T10:00")
        print(await trial.streamed())
        await trial.until("2026-11-10T09:00")

    with clock_at("2026-11-09T08:00") as clock:
        diary = run(
            config(tmp_path, simulator, EQUITIES, OPTIONS, METALS, calendar={"hours": {"MCX": "09:00-23:55"}}),
            simulator, clock, scenario)
    print(*diary.told, sep="\n")
    print(*diary.ran, sep="\n")
    print(diary.hourly)
    assert 0
