"""A day of the service in the past, its simulator with three accounts, and what can be seen of both.

The simulator is shared; what it sent for a test is what its count grew by.
"""

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

import kitelake
from kitelake.telemetry.status import ServiceStatus, read_status
from storage.layout import DataLayout
from tests.support.simulation import Simulation, simulation
from tests.support.waiting import PATIENCE_SECONDS

T = TypeVar("T")

DAY: Final = dt.date(2025, 11, 10)  # in the past by any machine's clock, by which the children go
NAMES: Final = ("one", "two", "three")
INDICES: Final = {"name": "indices", "mode": "full", "instruments": ["NSE:NIFTY 50", "NSE:NIFTY BANK"]}
CANARY: Final = "canary-7f3a9c"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulation]:
    accounts = [{"name": n, "api_key": f"key-{n}", "access_token": f"token-{n}", "api_secret": "s"} for n in NAMES]
    with simulation(accounts=accounts, instruments=3000, rate=20, start="2025-11-08T06:00:00+00:00") as running:
        yield running


@pytest.fixture
def sent(simulator: Simulation) -> Iterator[Callable[[], int]]:
    """How many packets were sent since the test began, once nothing is sent any more."""
    simulator.fault("clear")
    before = simulator.stats()["packets"]
    yield lambda: simulator.stats()["packets"] - before
    simulator.fault("clear")


def until(what: Callable[[], T | None]) -> T:
    """The first answer that is true, or holds something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := what()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return answer


def accounts_of(simulator: Simulation, *names: str, **tokens: Any) -> list[dict[str, Any]]:
    """The section `accounts` with those of the simulator, and other tokens for some of them."""
    accounts = [simulator.account(name) for name in names]
    return [
        {"name": one.name, "api_key": one.api_key, "access_token": tokens.get(one.name, one.access_token)}
        for one in accounts
    ]


def status(data: Path) -> ServiceStatus:
    """What the service told last."""
    return until(lambda: read_status(DataLayout(data)))


def events(data: Path, name: str) -> list[dict[str, Any]]:
    """The service's own events of that name, `data` as values."""
    query = f"select message, data from events where event = '{name}' order by stream, record"
    try:
        with kitelake.open(data) as lake:
            rows = lake.sql(query).arrow().to_pylist()
    except kitelake.KitelakeError:  # before there is a lake
        return []
    return [{"message": row["message"], **json.loads(row["data"] or "{}")} for row in rows]


def open_sockets(simulator: Simulation) -> dict[tuple[str, int], int]:
    """Account and number of each open connection, with how many instruments it is subscribed to."""
    return {
        (one["account"], one["connection"]): one["subscribed"]
        for one in simulator.stats()["connections"]
        if one["open"]
    }


def is_open(simulator: Simulation, account: str) -> bool:
    """Whether a connection of the account is open."""
    return any(name == account for name, _ in open_sockets(simulator))
