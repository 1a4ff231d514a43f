"""The manager as a library, against the simulator: what consumers get, and accounts that come and go."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from ingest.accounts.account import Account
from ingest.connection.connection import KiteConnection
from ingest.connection.consumers import ConnectionEvent, Frame, OrderUpdate
from ingest.connection.hub import Gap
from ingest.connection.session import State
from ingest.connection.stats import Status
from ingest.settings import Strategy, StreamSettings
from ingest.wire import Mode
from storage.memory import Tick
from tests.support.managing import managing, one, streamed, tokens_of, two, wanted
from tests.support.simulator_client import fault, running, until
from tests.support.waiting import PATIENCE_SECONDS


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
