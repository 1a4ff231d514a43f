"""The health of a running service: what it says, serves and journals when capture is hindered."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.connection.stats import Health, Status
from kitelake.telemetry.status import ServiceStatus, read_status
from storage.layout import DataLayout
from tests.support.metrics import samples, scrape
from tests.support.running import Running, running
from tests.support.schedule import EQUITIES, Trial, clock_at, config_of, run
from tests.support.simulation import ACCOUNTS, simulation
from tests.support.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

HEALTHY: Final = Health(Status.HEALTHY, 100.0, ())
NO_LIST: Final = "there is no instrument list, so nothing can be captured"
NO_TOKEN: Final = "no account has a good access token"


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
        run(config_of(tmp_path, simulator, EQUITIES), simulator, clock, scenario)


def test_a_service_whose_account_is_refused_is_critical_from_its_first_word_on(tmp_path: Path) -> None:
    told: list[ServiceStatus] = []

    async def scenario(trial: Trial) -> None:
        def look() -> bool:
            status = read_status(DataLayout(tmp_path))
            if status is not None and (not told or status.at > told[-1].at):
                told.append(status)
            return len(told) >= 3 and NO_TOKEN in told[-1].health.reasons

        await trial.wait_for(look)

    with simulation(instruments=200) as simulator, clock_at("2026-11-09T10:00") as clock:
        simulator.fault("rest", path="/user/profile", status=403, seconds=600)
        simulator.fault("refuse", status=403, seconds=600)
        run(config_of(tmp_path, simulator, EQUITIES), simulator, clock, scenario, settled=False)
    assert {status.health.status for status in told} == {Status.CRITICAL}
    assert {status.health.percent for status in told} == {0.0}


def test_the_service_serves_the_page_and_journals_its_health(tmp_path: Path) -> None:
    """One account, refused and cut: critical; then let in again: healthy. A second service finds the port in use."""
    with (
        simulation(accounts=[ACCOUNTS[0]._asdict()], instruments=200, rate=20) as simulator,
        running(
            tmp_path,
            simulator,
            metrics={"port": 0},
            capture={"token_retry_seconds": 0.1, "slow_retry_seconds": 0.1, "backoff_initial_seconds": 0.1},
        ) as service,
    ):
        simulator.wait_for(lambda stats: any(one["subscribed"] for one in stats["connections"]), PATIENCE_SECONDS)
        port = int(re.findall(r"metrics are served.*port=(\d+)", service.log)[0])
        # On a busy machine it may be critical before all that it wants has come.
        wait_until(lambda: samples(scrape(port))["kitelake_health", "healthy"] == 1)
        up = len(service.log)
        simulator.fault("refuse", status=403, seconds=600)
        assert simulator.fault("drop") > 0
        (tmp_path / "second").mkdir()
        with running(tmp_path / "second", simulator, metrics={"port": port}) as second:
            assert second.process.wait(PATIENCE_SECONDS) == 2
            assert f"kitelake: the metrics cannot be served at 127.0.0.1, port {port}: Address already" in second.log
        wait_until(lambda: "capture is critical" in service.log[up:])
        page = scrape(port)
        assert samples(page)["kitelake_health", "critical"] == 1
        assert ACCOUNTS[0].access_token not in page
        down = len(service.log)
        simulator.fault("clear")
        wait_until(lambda: "capture is healthy again" in service.log[down:])
        found = samples(scrape(port))
        assert found["kitelake_health_ratio",] > 0.9
        received, written, durable = (
            found["kitelake_journal_records", state] for state in ("received", "written", "durable")
        )
        assert received >= written >= durable > 0
        service.stop()
        events = health_events(service)
    critical = [event["data"] for event in events if event["message"] == "critical"]
    assert {data["percent"] for data in critical} == {0}
    assert "one/1 is " in critical[-1]["reasons"][0]
    assert events[-1]["message"] == "healthy"
    assert events[-1]["data"]["reasons"] == []


def health_events(service: Running) -> list[dict[str, Any]]:
    rows = service.rows("select message, data from events where event = 'health' order by received_at")
    return [{**row, "data": json.loads(row["data"])} for row in rows]
