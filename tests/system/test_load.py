"""Capture at a rate that no account reaches."""

import time
from pathlib import Path

import pytest

from tests.support.running import committed_rows, running
from tests.support.simulation import simulation

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

LOAD_SECONDS = 60


def test_a_load_that_no_account_reaches(tmp_path: Path) -> None:
    """Some fifty thousand packets a second for a minute: all of them are rows."""
    market = simulation(instruments=6000, rate=400, steps_per_second=10)
    capture = {"instruments_per_connection": 1000}
    with market as simulator, running(tmp_path, simulator, capture=capture, journal={"segment_seconds": 10}) as service:
        simulator.wait_for(lambda stats: stats["packets"] > 10_000, 60)
        began, before = time.monotonic(), simulator.stats()["packets"]
        time.sleep(LOAD_SECONDS)
        rate = (simulator.stats()["packets"] - before) / (time.monotonic() - began)
        simulator.pause()
        stopping = service.stop()
        stats = simulator.stats()
        assert committed_rows(service.data) == stats["packets"]
        assert not stats["unsent"].get("slow"), "the service reads as fast as it is sent to"
    print(f"{rate:,.0f} packets/s; stopped in {stopping:.1f} s")
