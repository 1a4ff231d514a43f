"""The manager as a library, against the simulator: drops without end, a server that is gone, anything in any order."""

import asyncio
import contextlib
import datetime as dt
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.accounts.rest import KiteRest
from ingest.connection.consumers import ConnectionEvent
from ingest.connection.stats import Status
from ingest.errors import InstrumentError
from ingest.instruments.listing import parse_instruments
from ingest.manager.manager import TickerManager
from ingest.settings import ManagerSettings
from ingest.wire import Mode
from storage.memory import Tick
from tests.support.managing import FAST, managing, one, streamed, tokens_of, two, wanted
from tests.support.scaled import scaled
from tests.support.simulation import start_simulation
from tests.support.simulator_client import fault, running, until
from tests.support.waiting import PATIENCE_SECONDS

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("subscribe"), st.integers(0, 60), st.integers(1, 40), st.sampled_from(list(Mode))),
        st.tuples(st.just("unsubscribe"), st.integers(0, 60), st.integers(1, 40), st.none()),
        st.tuples(st.just("set_mode"), st.integers(0, 60), st.integers(1, 40), st.sampled_from(list(Mode))),
        st.tuples(st.just("drop"), st.sampled_from([0, 1, 2]), st.just(0), st.none()),
        st.tuples(st.just("pause"), st.just(0), st.just(0), st.none()),
    ),
    max_size=14,
)


@pytest.mark.slow
@settings(max_examples=scaled(12, 50), suppress_health_check=[HealthCheck.too_slow])
@given(OPERATIONS)
def test_whatever_happens_the_simulator_streams_what_the_manager_says(operations: list[Any]) -> None:
    async def run() -> None:
        async with (
            running(instruments=100, rate=10, order_seconds=0) as simulator,
            managing(simulator, answer_seconds=5.0) as manager,
        ):
            tokens = tokens_of(simulator)
            for name, first, count, mode in operations:
                some = tokens[first : first + count]
                match name:
                    case "subscribe":
                        await manager.subscribe(some, mode)
                    case "unsubscribe":
                        await manager.unsubscribe(some)
                    case "set_mode":
                        with contextlib.suppress(InstrumentError):
                            await manager.set_mode(some, mode)
                    case "drop":
                        await fault(simulator, "drop", how=["rst", "close", "eof"][first])
                    case _:
                        await asyncio.sleep(0.02)
            await until(lambda: streamed(simulator) == wanted(manager))

    asyncio.run(run())


@pytest.mark.slow
async def test_after_each_of_fifty_drops_everything_is_back_within_one_short_wait() -> None:
    """With the default backoff: of a second at most from a drop to the next attempt, which brings ticks."""
    settings = ManagerSettings(settled_seconds=0.1)  # the drops follow one another quickly, and are no series
    async with (
        running(instruments=200, rate=50) as simulator,
        TickerManager([one(), two()], settings, ws_url=simulator.urls["ws"]) as manager,
    ):
        await manager.subscribe(tokens_of(simulator), Mode.FULL)
        await until(lambda: manager.stats().total.connected == 6)
        events = manager.events()
        for turn in range(9):
            assert await fault(simulator, "drop", how=["rst", "close", "eof"][turn % 3]) == 6
            await until(lambda: manager.stats().total.connected < 6)
            readers = [
                manager.frames(account=name, connection=number) for name in ("one", "two") for number in (1, 2, 3)
            ]
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(*(anext(each) for each in readers))  # a tick of each
            await until(lambda: streamed(simulator) == wanted(manager))
            await asyncio.sleep(settings.settled_seconds)
        await manager.stop()
        lost = [each async for each in events if isinstance(each, ConnectionEvent) and each.data.get("by") == "peer"]
    assert len(lost) == 54
    assert all(each.data["retry_in_seconds"] <= settings.backoff_initial_seconds for each in lost)


@pytest.mark.slow
async def test_a_server_that_is_gone_for_ten_seconds() -> None:
    before = await asyncio.to_thread(start_simulation, instruments=200, rate=50)
    after = None
    try:
        manager = TickerManager([one(), two()], FAST.model_copy(update={"backoff_cap_seconds": 1.0}), ws_url=before.ws)
        async with manager:
            tokens = await _tokens(before.api)
            await manager.subscribe(tokens, Mode.FULL)
            await until(lambda: manager.stats().total.connected == 6)
            before.process.kill()
            before.process.wait()
            await until(lambda: manager.stats().total.connected == 0)
            assert manager.health().status is Status.CRITICAL
            await until(lambda: "is waiting" in " ".join(manager.health().reasons))  # between two attempts
            await asyncio.sleep(10)
            port = int(before.ws.rpartition(":")[2])
            after = await asyncio.to_thread(start_simulation, instruments=200, rate=50, port=port)
            ticks = manager.ticks()
            modes: dict[int, Mode] = {}
            async with asyncio.timeout(60):
                async for tick in ticks:
                    assert isinstance(tick, Tick)
                    modes[tick.instrument_token] = tick.mode
                    if modes == dict.fromkeys(tokens, Mode.FULL):
                        break
            await until(lambda: manager.health().status is Status.HEALTHY)
            assert manager.stats().total.reconnects == 6
        sent = await asyncio.to_thread(after.stats)
        assert sum(one["packets"] for one in sent["connections"]) > 0
    finally:
        before.process.stdin.close()  # type: ignore[union-attr]
        if after is not None:
            await asyncio.to_thread(after.stop)


async def _tokens(api: str) -> list[int]:
    async with KiteRest(api, one()) as rest:
        table = parse_instruments(await rest.instruments(), date=dt.date(2026, 11, 24))
    tokens: list[int] = table["instrument_token"].to_pylist()
    return tokens
