"""The manager as a library, against the simulator: what consumers get, accounts that come and go, drops without end."""

import asyncio
import contextlib
import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.accounts.account import Account
from ingest.accounts.rest import KiteRest
from ingest.connection.connection import KiteConnection
from ingest.connection.consumers import ConnectionEvent, Frame, OrderUpdate
from ingest.connection.hub import Gap
from ingest.connection.session import State
from ingest.connection.stats import Status
from ingest.errors import InstrumentError
from ingest.instruments.listing import parse_instruments
from ingest.manager.manager import TickerManager
from ingest.settings import ManagerSettings, Strategy, StreamSettings
from ingest.simulator.simulator import Simulator
from ingest.wire import Mode
from storage.memory import Tick
from tests.support.scaled import scaled
from tests.support.simulation import start_simulation
from tests.support.simulator_client import fault, running, until
from tests.support.waiting import PATIENCE_SECONDS

FAST = ManagerSettings(
    backoff_initial_seconds=0.01,
    settled_seconds=0.0,
    slow_retry_seconds=0.2,
    token_retry_seconds=60,
    answer_seconds=0.5,
    close_timeout_seconds=5,
)


def one() -> Account:
    return Account("one", "key-one", "token-one")


def two() -> Account:
    return Account("two", "key-two", "token-two")


def tokens_of(simulator: Simulator) -> list[int]:
    return [int(token) for token in simulator.market.tokens]


@contextlib.asynccontextmanager
async def managing(simulator: Simulator, *accounts: Account, **changes: Any) -> AsyncIterator[TickerManager]:
    settings = FAST.model_copy(update=changes)
    async with TickerManager(accounts or [one(), two()], settings, ws_url=simulator.urls["ws"]) as manager:
        yield manager


def streamed(simulator: Simulator) -> dict[str, dict[int, Mode]]:
    """What the simulator streams at this moment: account -> token -> mode, over its open connections."""
    found: dict[str, dict[int, Mode]] = {"one": {}, "two": {}}
    for subscriber in simulator._subscribers:
        if subscriber.open:
            for row in subscriber.subscriptions.modes.nonzero()[0].tolist():
                token = int(simulator.market.tokens[row])
                assert token not in found[subscriber.account.label], "streamed twice on one account"
                code = int(subscriber.subscriptions.modes[row])
                found[subscriber.account.label][token] = [Mode.LTP, Mode.QUOTE, Mode.FULL][code - 1]
    return found


def wanted(manager: TickerManager) -> dict[str, dict[int, Mode]]:
    found: dict[str, dict[int, Mode]] = {"one": {}, "two": {}}
    for slot, there in manager.placement().items():
        found[slot.account].update(there)
    return found


@pytest.mark.slow
async def test_every_kind_of_feed_gets_every_packet_that_was_sent() -> None:
    async with running(instruments=300, rate=50, order_seconds=0) as simulator, managing(simulator) as manager:
        readers = manager.batches(), manager.ticks(), manager.frames(), manager.batches(account="two", connection=1)
        await manager.subscribe(tokens_of(simulator)[:200], Mode.FULL)
        await until(lambda: simulator.ledger.totals()["packets"] > 2000)
        await manager.stop()
        batches, ticks, frames, some = [[item async for item in each] for each in readers]
        sent = simulator.ledger.totals()["packets"]
        assert sum(batch.num_rows for batch in batches) == len(ticks) == sent  # type: ignore[union-attr]
        counted = Counter((tick.account, tick.connection) for tick in ticks if isinstance(tick, Tick))
        assert sum(batch.num_rows for batch in some) == counted["two", 1] > 0  # type: ignore[union-attr]
        assert set(counted) == {(slot.account, slot.connection) for slot in manager.placement()}
        stats = manager.stats()
        assert stats.total.packets == sent
        assert stats.total.decode_failures == 0
        assert sum(len(view) for frame in frames if isinstance(frame, Frame) for view in frame.views()) == sent
        assert len(frames) <= stats.total.frames, "texts are frames, too"
        assert stats.total.latency_p50_seconds is not None
        assert {name: total.instruments for name, total in stats.accounts.items()} == {"one": 100, "two": 100}


async def test_an_order_update_comes_once_though_three_sockets_bring_it() -> None:
    async with running(instruments=100, order_seconds=0) as simulator, managing(simulator) as manager:
        updates = manager.order_updates()
        await manager.subscribe(tokens_of(simulator)[:60])
        await until(lambda: manager.stats().total.connected == 6)
        for number in range(5):
            await fault(simulator, "order", account="one", data={"order_id": f"order-{number}"})
        got: list[OrderUpdate | Gap] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(got) < 5:
                got.append(await anext(updates))
        await manager.stop()
        assert [update async for update in updates] == []
        assert [update.data["order_id"] for update in got if isinstance(update, OrderUpdate)] == [
            f"order-{number}" for number in range(5)
        ]


@pytest.mark.slow
async def test_a_slow_consumer_is_told_and_slows_nobody() -> None:
    async with (
        running(instruments=300, rate=50) as simulator,
        managing(simulator, buffer_frames=100) as manager,
    ):
        slow, quick = manager.frames(), manager.frames()
        await manager.subscribe(tokens_of(simulator), Mode.FULL)
        got = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while got < 300:
                assert not isinstance(await anext(quick), Gap)
                got += 1
        gap = await anext(slow)
        assert isinstance(gap, Gap)
        assert gap.frames > 100
        assert gap.packets > gap.frames
        assert quick.lost is None
        assert manager.stats().total.reconnects == 0


async def test_one_connection_alone() -> None:
    async with running(instruments=100, rate=50) as simulator:
        async with KiteConnection(one(), settings=StreamSettings(), ws_url=simulator.urls["ws"]) as connection:
            ticks = connection.ticks()
            await connection.subscribe(tokens_of(simulator)[:3], Mode.FULL)
            tick = await anext(ticks)
            assert isinstance(tick, Tick)
            assert (tick.account, tick.connection, tick.mode in Mode) == ("one", 1, True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert [rest async for rest in ticks if isinstance(rest, Gap)] == []


async def test_a_refused_account_waits_for_a_token_and_its_instruments_are_guests_meanwhile() -> None:
    async with running(instruments=200, rate=20) as simulator, managing(simulator) as manager:
        events = manager.events(account="one")
        tokens = tokens_of(simulator)
        await manager.subscribe(tokens[:120], Mode.FULL)
        await until(lambda: streamed(simulator) == wanted(manager) and manager.stats().total.connected == 6)
        home = manager.placement()
        await fault(simulator, "token", account="one", access_token="of-today")
        await fault(simulator, "drop", account="one")
        await until(lambda: len(streamed(simulator)["two"]) == 120)
        refused = simulator.admission.refused[403]
        assert manager.stats().accounts["one"].connected == 0
        await asyncio.sleep(0.5)
        assert simulator.admission.refused[403] == refused <= 3, "a refused token is not sent again"
        assert manager.stats().accounts["two"].connected == 3
        with pytest.raises(ValueError, match="got account 'three', expected one of one, two"):
            manager.set_access_token("three", "x")
        manager.set_access_token("one", "of-today")
        await until(lambda: manager.placement() == home and streamed(simulator) == wanted(manager))
        await until(lambda: manager.health().status is Status.HEALTHY)
        await manager.stop()
        told = [event async for event in events if isinstance(event, ConnectionEvent)]
        assert any("is the access token of today?" in event.message for event in told)
        assert "token-one" not in str(told)
        assert "of-today" not in str(told)


async def test_a_new_token_in_the_file_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.accounts.credentials.FILE_POLL_SECONDS", 0.02)
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("of-yesterday")
    async with (
        running(instruments=100, rate=20) as simulator,
        managing(simulator, Account("one", "key-one", path), two()) as manager,
    ):
        await manager.subscribe(tokens_of(simulator)[:10], account="one")
        await until(lambda: any(stats.state is State.UNAUTHORIZED for stats in manager.stats().connections))
        path.write_text("token-one")
        await until(lambda: manager.stats().accounts["one"].connected == 3)
        assert [slot.account for slot in manager.placement()] == ["one"] * 3


async def test_a_place_that_another_program_takes_is_released_and_returns() -> None:
    async with running(instruments=200, rate=20) as simulator, managing(simulator, slow_retry_seconds=0.3) as manager:
        await manager.subscribe(tokens_of(simulator)[:90])
        await until(lambda: manager.stats().total.connected == 6)
        home = manager.placement()
        await fault(simulator, "refuse", status=429, account="two", times=1_000)
        await fault(simulator, "drop", account="two", connection=2)
        await until(lambda: manager.placement() != home)
        assert sum(map(len, manager.placement().values())) == 90, "all of them are streamed elsewhere"
        await fault(simulator, "clear")
        await until(lambda: manager.placement() == home)
        await until(lambda: streamed(simulator) == wanted(manager))


async def test_accounts_come_and_go() -> None:
    async with (
        running(instruments=200, rate=20) as simulator,
        managing(simulator, one(), instruments_per_connection=30) as manager,
    ):
        tokens = tokens_of(simulator)
        await manager.add_account(two())
        with pytest.raises(ValueError, match="which is here already"):
            await manager.add_account(two())
        await manager.subscribe(tokens[:120], Mode.FULL)
        home = manager.placement()
        moved = await manager.remove_account("two")
        assert len(moved.moved) == 30
        assert len(moved.waiting) == 30 == len(manager.waiting)
        assert "30 instruments wait for room" in manager.health().reasons[-1]
        await until(lambda: streamed(simulator) == wanted(manager) and len(wanted(manager)["one"]) == 90)
        back = await manager.add_account(two())
        assert len(back.moved) == 60
        assert manager.waiting == ()
        assert manager.placement() == home
        await until(lambda: streamed(simulator) == wanted(manager))
        with pytest.raises(ValueError, match="three"):
            await manager.remove_account("three")


async def test_without_any_account_nothing_comes_and_that_is_critical() -> None:
    async with running(instruments=100, rate=20) as simulator, managing(simulator, one()) as manager:
        await manager.subscribe(tokens_of(simulator)[:20])
        await manager.remove_account("one")
        assert (manager.health().status, manager.health().percent) == (Status.CRITICAL, 0.0)
        await manager.add_account(one())
        await until(lambda: manager.health().status is Status.HEALTHY)


async def test_starting_while_it_stops_starts_it_behind_the_stop() -> None:
    async with running(instruments=100, rate=20) as simulator, managing(simulator, one()) as manager:
        await manager.subscribe(tokens_of(simulator)[:20])
        await until(lambda: manager.stats().total.connected == 3)
        await asyncio.gather(manager.stop(), manager.start())
        await until(lambda: manager.stats().total.connected == 3)
        await anext(manager.frames())


async def test_redundant_instruments_come_on_two_accounts() -> None:
    async with (
        running(instruments=200, rate=20) as simulator,
        managing(simulator, strategy=Strategy.REDUNDANT) as manager,
    ):
        tokens = tokens_of(simulator)[:50]
        await manager.subscribe(tokens, Mode.LTP)
        await until(lambda: streamed(simulator) == {name: dict.fromkeys(tokens, Mode.LTP) for name in ("one", "two")})


async def test_copies_on_named_accounts_come_and_are_given_up() -> None:
    async with running(instruments=200, rate=20) as simulator, managing(simulator) as manager:
        tokens = tokens_of(simulator)[:50]
        everything = dict.fromkeys(tokens, Mode.LTP)
        await manager.subscribe(tokens[:30], Mode.LTP)
        await manager.subscribe(tokens, Mode.LTP, account=["one", "two"], copies=2)
        await until(lambda: streamed(simulator) == {"one": everything, "two": everything})
        await manager.subscribe(tokens, Mode.LTP, account=["two"])
        await until(lambda: streamed(simulator) == {"one": {}, "two": everything})


@pytest.mark.slow
async def test_an_instrument_that_never_ticks_is_noticed_and_asked_for_again() -> None:
    async with running(instruments=200, rate=20) as simulator, managing(simulator, one()) as manager:
        tokens = tokens_of(simulator)[:30]
        await fault(simulator, "ignore", every=3)
        await manager.subscribe(tokens, Mode.FULL)
        await until(lambda: "instruments brought nothing yet" in " ".join(manager.health().reasons))
        health = manager.health()
        assert health.status is Status.DEGRADED
        assert health.percent < 100
        await fault(simulator, "clear")
        await until(lambda: (manager.health().status, manager.health().percent) == (Status.HEALTHY, 100))
        assert manager.stats().total.asked_again > 0


async def test_raw_only_looks_into_nothing() -> None:
    async with running(instruments=100, rate=50) as simulator, managing(simulator, raw_only=True) as manager:
        frames = manager.frames()
        await manager.subscribe(tokens_of(simulator)[:20])
        await anext(frames)
        stats = manager.stats().total
        assert (stats.packets, stats.decode_failures) == (None, None)
        assert stats.frames > 0


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
