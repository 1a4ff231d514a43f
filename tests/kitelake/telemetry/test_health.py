"""The health of capture: what is wanted and does not come is critical, for whatever reason, and nothing else is."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.connection.stats import Health, Status
from kitelake.telemetry.health import health_of_capture
from kitelake.telemetry.status import ServiceStatus, read_status
from storage.layout import DataLayout
from tests.kitelake.telemetry.test_metrics import samples, scrape
from tests.support.running import running
from tests.support.schedule import Trial, clock_at, run
from tests.support.simulation import simulation
from tests.system.test_schedule import EQUITIES, config

HEALTHY = Health(Status.HEALTHY, 100.0, ())
HALF = Health(Status.DEGRADED, 50.0, ("one/1 is waiting",))
NONE = Health(Status.CRITICAL, 0.0, ("one/1 is unauthorized",))
NO_LIST = "there is no instrument list, so nothing can be captured"
NO_TOKEN = "no account has a good access token"
NO_ROOM = "there is no room for any instrument on the connections"
A_EMPTY = "list a is in its hours, and no instrument is found for it"


@pytest.mark.parametrize(
    ("connections", "due", "changes", "expected"),
    [
        (HEALTHY, {}, {"listed": False, "tokens": False, "streaming": False}, HEALTHY),
        (HEALTHY, {"a": 5}, {}, HEALTHY),
        (HALF, {"a": 5}, {}, HALF),
        (HEALTHY, {"a": None}, {"listed": False, "streaming": False}, Health(Status.CRITICAL, 0.0, (NO_LIST,))),
        (HEALTHY, {"a": 0}, {"streaming": False}, Health(Status.CRITICAL, 0.0, (A_EMPTY,))),
        (HEALTHY, {"a": 0}, {}, Health(Status.CRITICAL, 0.0, (A_EMPTY,))),
        (HEALTHY, {"a": 0, "b": 3}, {}, Health(Status.DEGRADED, 100.0, (A_EMPTY,))),
        (HALF, {"a": 0, "b": 3}, {}, Health(Status.DEGRADED, 50.0, (A_EMPTY, *HALF.reasons))),
        (NONE, {"b": 3}, {"tokens": False}, Health(Status.CRITICAL, 0.0, (NO_TOKEN, *NONE.reasons))),
        (HEALTHY, {"b": 3}, {"tokens": False}, Health(Status.DEGRADED, 100.0, (NO_TOKEN,))),
        (HEALTHY, {"b": 3}, {"tokens": False, "streaming": False}, Health(Status.CRITICAL, 0.0, (NO_TOKEN,))),
        (HEALTHY, {"b": 3}, {"room": False}, Health(Status.CRITICAL, 0.0, (NO_ROOM,))),
        (
            HEALTHY,
            {"a": None, "b": 3},
            {"streaming": False},
            Health(Status.CRITICAL, 0.0, ("2 lists are in their hours, and nothing is streamed",)),
        ),
    ],
)
def test_what_is_wanted_and_does_not_come_is_amiss(
    connections: Health, due: dict[str, int | None], changes: dict[str, bool], expected: Health
) -> None:
    usual = {"listed": True, "tokens": True, "room": True, "streaming": True}
    assert health_of_capture(connections, due, **(usual | changes)) == expected


@pytest.mark.slow
def test_without_an_instrument_list_it_is_critical_in_the_hours_and_healthy_outside(tmp_path: Path) -> None:
    async def scenario(trial: Trial) -> None:
        def health() -> Health:
            return trial.service.status().health

        assert trial.service.today.instruments is None
        assert health() == HEALTHY
        await trial.until("2026-11-09T09:00")
        assert health() == Health(Status.CRITICAL, 0.0, (NO_LIST,))
        await trial.jump_to("2026-11-09T15:36")
        assert health() == HEALTHY

    with simulation(instruments=200) as simulator, clock_at("2026-11-09T08:59") as clock:
        simulator.fault("rest", path="/instruments", status=503, seconds=600)
        run(config(tmp_path, simulator, EQUITIES), simulator, clock, scenario)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("symbols", "expected", "exit_status"),
    [
        (["NSE:GONE"], Health(Status.CRITICAL, 0.0, (A_EMPTY,)), 1),
        (["NSE:GONE", "NSE:INFY"], Health(Status.DEGRADED, 100.0, (A_EMPTY,)), 0),
    ],
)
def test_a_list_that_means_nothing_in_its_hours(
    tmp_path: Path, symbols: list[str], expected: Health, exit_status: int
) -> None:
    lists = [{"name": name, "instruments": [symbol]} for name, symbol in zip("ab", symbols, strict=False)]
    with (
        simulation(instruments=200, rate=20) as simulator,
        running(tmp_path, simulator, subscriptions=lists, metrics={"port": 0}) as service,
    ):
        until(lambda: (told := read_status(DataLayout(service.data))) and told.health == expected)
        command = [sys.executable, "-m", "kitelake", "status", "--config", str(service.config)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == exit_status
        port = int(re.findall(r"metrics are served.*port=(\d+)", service.log)[0])
        assert samples(scrape(port))["kitelake_health", expected.status.value] == 1
        until(lambda: f"capture is {expected.status}" in service.log)
        service.stop()


@pytest.mark.slow
def test_a_service_whose_account_is_refused_is_critical_from_its_first_word_on(tmp_path: Path) -> None:
    told: list[ServiceStatus] = []

    def look() -> bool:
        status = read_status(DataLayout(service.data))
        if status is not None and (not told or status.at > told[-1].at):
            told.append(status)
        return len(told) >= 3 and NO_TOKEN in told[-1].health.reasons

    with simulation(instruments=200) as simulator:
        simulator.fault("rest", path="/user/profile", status=403, seconds=600)
        simulator.fault("refuse", status=403, seconds=600)
        lists = [{"name": "a", "instruments": ["NSE:INFY"]}]
        with running(tmp_path, simulator, subscriptions=lists) as service:
            until(look)
            service.stop()
    assert {status.health.status for status in told} == {Status.CRITICAL}
    assert {status.health.percent for status in told} == {0.0}


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
