"""The page for Prometheus says what the manager says."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.accounts.account import Account
from ingest.accounts.rest import KiteRest
from ingest.connection.stats import ConnectionStats, Status
from ingest.instruments.listing import parse_instruments
from ingest.manager.manager import TickerManager
from ingest.settings import ManagerSettings
from ingest.wire import Mode
from kitelake.errors import StartError
from kitelake.telemetry.metrics import MetricsServer
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from tests.support.metrics import Key, samples, scrape
from tests.support.simulation import ACCOUNTS, Simulation, simulation
from tests.support.waiting import PATIENCE_SECONDS, until

ACCOUNT_OBJECTS = [Account(one.name, one.api_key, one.access_token) for one in ACCOUNTS]


def expected_of(one: ConnectionStats) -> dict[Key, float | None]:
    """What does not change by itself of a connection to which nothing is sent."""
    values = {
        "connected": one.connected,
        "instruments": one.instruments,
        "frames_total": one.frames,
        "packets_total": one.packets,
        "received_bytes_total": one.bytes,
        "decode_failures_total": one.decode_failures,
        "reconnects_total": one.reconnects,
        "asked_again_total": one.asked_again,
        "silent_instruments": one.silent,
        "wrong_mode_instruments": one.wrong_mode,
    }
    slot = (one.account, str(one.connection))
    found: dict[Key, float | None] = {(f"kitelake_{name}", *slot): value for name, value in values.items()}
    found["kitelake_latency_seconds", *slot, "0.5"] = one.latency_p50_seconds
    found["kitelake_latency_seconds", *slot, "0.99"] = one.latency_p99_seconds
    return found


@pytest.fixture(scope="module")
def market() -> Iterator[Simulation]:
    """Sends nothing but packets, so nothing when it is paused."""
    with simulation(instruments=200, rate=20, heartbeat_seconds=3600) as running:
        yield running


@pytest.mark.slow
async def test_the_page_says_what_the_manager_says(market: Simulation) -> None:
    settings = ManagerSettings(liveness_seconds=600, close_timeout_seconds=5)
    async with KiteRest(market.api, ACCOUNT_OBJECTS[0]) as rest:
        listed = parse_instruments(await rest.instruments(), date=dt.date(2026, 11, 22))
    tokens = listed["instrument_token"].to_pylist()[:50]
    async with (
        TickerManager(ACCOUNT_OBJECTS, settings, ws_url=market.ws) as manager,
        MetricsServer(port=0) as server,
        server.serve(manager) as port,
    ):
        frames = manager.frames()
        await manager.subscribe(tokens, Mode.FULL)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(100):
                await anext(frames)
        await asyncio.to_thread(market.pause)
        sent = market.stats()["packets"]
        await until(lambda: manager.stats().total.packets == sent)
        await until(lambda: manager.health().status is Status.HEALTHY)
        before, page, after = manager.stats(), await asyncio.to_thread(scrape, port), manager.stats()

        found = samples(page)
        for older, newer in zip(before.connections, after.connections, strict=True):
            slot = (older.account, str(older.connection))
            for name, least, most in (
                ("uptime", older.uptime_seconds, newer.uptime_seconds),
                ("last_frame_age", older.last_frame_age_seconds, newer.last_frame_age_seconds),
            ):
                assert least is not None
                assert most is not None
                assert least <= found.pop((f"kitelake_{name}_seconds", *slot)) <= most
            for key, value in expected_of(newer).items():
                assert found.pop(key, None) == value, key
        assert found == {
            ("kitelake_health", "healthy"): 1,
            ("kitelake_health", "degraded"): 0,
            ("kitelake_health", "critical"): 0,
            ("kitelake_health_ratio",): 1,
        }
        assert before.total.packets == sent > 0
        for account in ACCOUNTS:
            assert not any(secret in page for secret in (account.api_key, account.access_token, account.api_secret))

        await manager.stop()
        closed = samples(await asyncio.to_thread(scrape, port))
        assert closed["kitelake_connected", "one", "1"] == 0
        assert ("kitelake_uptime_seconds", "one", "1") not in closed
        assert closed["kitelake_health", "critical"] == 1
    market.resume()


async def test_what_is_not_known_is_left_out() -> None:
    manager = TickerManager(ACCOUNT_OBJECTS, ManagerSettings(raw_only=True))
    await manager.subscribe([1], Mode.LTP)
    async with MetricsServer(port=0) as server, server.serve(manager) as port:
        found = samples(await asyncio.to_thread(scrape, port))
    names = {key[0] for key in found}
    assert found["kitelake_instruments", "one", "1"] == 1
    for name in ("packets_total", "decode_failures_total", "last_frame_age_seconds", "uptime_seconds"):
        assert f"kitelake_{name}" not in names


async def test_the_page_says_how_far_the_journal_has_come(tmp_path: Path) -> None:
    """Received, written and durable, each a state of its own; a page without a journal has none of them."""
    journal = JournalWriter(DataLayout(tmp_path), "20261123T034500-aaaaaa")
    channel = journal.channel("one", 1)
    manager = TickerManager(ACCOUNT_OBJECTS)
    async with MetricsServer(port=0) as server, server.serve(manager, journal=journal) as port:
        counts = []
        for step in (journal.flush, journal.flush, journal.sync):
            step()
            journal.append(Kind.BINARY, channel, 1, b"tick")
            found = samples(await asyncio.to_thread(scrape, port))
            counts.append([found["kitelake_journal_records", state] for state in ("received", "written", "durable")])
    journal.close()
    assert counts == [[1, 0, 0], [2, 1, 0], [3, 1, 1]]
    async with MetricsServer(port=0) as server, server.serve(manager) as port:
        assert "kitelake_journal_records" not in await asyncio.to_thread(scrape, port)


async def test_a_port_in_use_is_said_and_a_closed_one_is_free_again() -> None:
    manager = TickerManager(ACCOUNT_OBJECTS)
    async with MetricsServer(port=0) as server, server.serve(manager) as port:
        with pytest.raises(StartError, match=rf"127\.0\.0\.1, port {port}: Address already in use; config.yaml"):
            async with MetricsServer(port=port):
                pass
    async with MetricsServer(port=port) as server, server.serve(manager) as again:
        assert again == port


async def test_a_host_that_cannot_be_is_said() -> None:
    with pytest.raises(StartError, match=r"at a\.\.b, port 0: no such host"):
        async with MetricsServer(port=0, host="a..b"):
            pass
